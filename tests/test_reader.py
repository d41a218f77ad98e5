"""Reading: what is read from the files, and how often; the cache."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio.reader import open_data_set
from tests.counting import CountingStorage
from tests.laws.data_sets import fresh_directory

MILLION = 1_000_000
SPEC = {
    "id": recordio.TensorSpec((), "int64"),
    "small": recordio.TensorSpec((4,), "float32"),
    "word": recordio.TensorSpec((), "str"),
}


@pytest.fixture(scope="module")
def million() -> Iterator[Path]:
    """A million records in 4 shards of many chunks."""
    with fresh_directory() as directory:
        with recordio.Writer(
            directory / "set", SPEC, num_shards=4, codec="zstd", level=1, chunk_size=1 << 20
        ) as writer:
            for start in range(0, MILLION, 100_000):
                numbers = np.arange(start, start + 100_000)
                writer.write_batch(
                    {
                        "id": numbers,
                        "small": np.repeat(numbers.astype(np.float32)[:, None], 4, axis=1),
                        "word": [f"w{number % 100}" for number in numbers.tolist()],
                    }
                )
        yield directory / "set"


def extents(path: Path, number: int, names: list[str]) -> tuple[str, list[tuple[int, int]]]:
    """File, and (offset, size) of header and directory, then of the frame of each column, that hold a record."""
    reader: Any = recordio.open(path)._recipe.reader
    shard_id, chunk_id, row = reader.locate(number)
    shard = reader.shard(shard_id)
    base = int(shard.table.offsets[chunk_id])
    found = [(base, 64 + int(shard.table.directory_sizes[chunk_id]))]
    directory = shard.read_directory(chunk_id)
    for column, chunk in zip(reader.schema.columns, directory.columns, strict=True):
        place, first = base + chunk.offset, 0
        for frame in chunk.frames:
            if column.name in names and first <= row < first + frame.num_records:
                found.append((place, frame.stored_size))
            place += frame.stored_size
            first += frame.num_records
    return shard.path, found


def test_opening_a_thousand_shards_reads_one_file_once(tmp_path: Path) -> None:
    """The index and nothing else (design.md, section 3)."""
    with fresh_directory() as directory:
        with recordio.Writer(directory / "set", recordio.TensorSpec((), "uint8"), shard_size=1, workers=1) as writer:
            writer.write_batch(np.arange(1000) % 256)
        storage = CountingStorage()
        ds = recordio.open(directory / "set", _storage=storage)
        assert len(ds) == 1000 and len(ds.shards) == 1000
        assert ds.element_spec == recordio.TensorSpec((), "uint8") and ds.metadata == {} and ds.fingerprint
        ds[10:20].batch(3)
        index = str(directory / "set" / "index.rix")
        assert storage.opened == [index]
        assert [(read.path, read.offset) for read in storage.reads] == [(index, 0)]
        assert ds[999] == 999 % 256
        assert len(storage.opened) == 2


@pytest.mark.parametrize("number", [0, 1, 499_999, 777_777, MILLION - 1])
def test_one_record_of_a_million_reads_one_directory_and_a_frame_a_column(million: Path, number: int) -> None:
    """At most so many reads, and exactly these bytes (issue, item 6); the same again reads nothing."""
    path, expected = extents(million, number, ["id", "small", "word"])
    for cache_size in (0, 64 << 20):
        storage = CountingStorage()
        ds = recordio.open(million, _storage=storage, cache_size=cache_size)
        storage.clear()
        assert ds[number]["id"] == number
        assert [(read.path, read.offset, read.size) for read in storage.reads] == [(path, *place) for place in expected]
    storage.clear()
    assert ds[number]["word"] == f"w{number % 100}"
    assert ds[[number, number]]["id"].tolist() == [number, number]
    assert storage.reads == []


def test_a_projection_reads_no_byte_of_other_columns(million: Path) -> None:
    """By number, as a batch, in order and in batches (design.md, section 2)."""
    storage = CountingStorage()
    ds = recordio.open(million, columns=["id"], _storage=storage)
    reader: Any = ds._recipe.reader
    others: dict[str, list[tuple[int, int]]] = {}
    for shard_id in range(4):
        shard = reader.shard(shard_id)
        for chunk_id in range(len(shard.table)):
            base = int(shard.table.offsets[chunk_id])
            for column in shard.read_directory(chunk_id).columns[1:]:
                others.setdefault(shard.path, []).append(
                    (base + column.offset, base + column.offset + column.stored_size)
                )
    storage.clear()
    assert [ds[number]["id"] for number in (3, 400_000)] == [3, 400_000]
    assert ds[[5, 999_999, 17]]["id"].tolist() == [5, 999_999, 17]
    assert [record["id"] for record in ds[123_000:123_010]] == list(range(123_000, 123_010))
    assert sum(len(batch["id"]) for batch in ds.batch(4096)) == MILLION
    assert len(storage.reads) > 20
    for read in storage.reads:
        for start, stop in others[read.path]:
            assert read.offset + read.size <= start or stop <= read.offset


def test_a_batch_by_numbers_reads_each_frame_once(million: Path) -> None:
    """Grouped by chunk and frame, whatever the order asked (issue, item 6)."""
    random = np.random.default_rng(0)
    near = random.integers(0, 5000, 300)
    numbers = np.concatenate([near, random.integers(0, MILLION, 20), near[:50]])
    random.shuffle(numbers)
    for cache_size in (64 << 20, 0):
        storage = CountingStorage()
        ds = recordio.open(million, _storage=storage, cache_size=cache_size)
        storage.clear()
        batch = ds[numbers]
        assert batch["id"].tolist() == numbers.tolist()
        assert batch["word"].to_list() == [f"w{number % 100}" for number in numbers.tolist()]
        places = [(read.path, read.offset) for read in storage.reads]
        assert len(set(places)) == len(places)
        expected = {
            (path, offset)
            for number in numbers.tolist()
            for path, found in [extents(million, number, ["id", "small", "word"])]
            for offset, _ in found
        }
        assert set(places) == expected


def test_reading_in_order_reads_every_chunk_once(million: Path) -> None:
    """All of them, no byte twice, and with no more reads than there are chunks."""
    storage = CountingStorage()
    ds = recordio.open(million, _storage=storage)
    num_chunks = sum(shard.num_chunks for shard in ds.shards)
    storage.clear()
    total = 0
    for batch in ds.batch(10_000):
        total += int(batch["id"].sum())
    assert total == MILLION * (MILLION - 1) // 2
    assert len(storage.reads) <= num_chunks
    bounds = [read.offset for read in storage.reads], [read.offset + read.size for read in storage.reads]
    by_file = sorted(zip([read.path for read in storage.reads], *bounds, strict=True))
    assert all(one[0] != other[0] or one[2] <= other[1] for one, other in pairwise(by_file))
    reader = open_data_set(str(million))
    offsets = [reader.shard(ordinal).table.offsets for ordinal in range(len(reader.shards))]
    assert sum(read.size for read in storage.reads) == sum(int(ends[-1] - ends[0]) for ends in offsets)
    assert len(set(storage.opened)) == 4


def test_the_cache_is_bounded_in_bytes(million: Path) -> None:
    """What is kept never exceeds cache_size, and all of what is kept is counted."""
    for cache_size in (0, 5000, 1 << 20):
        ds = recordio.open(million, cache_size=cache_size)
        reader: Any = ds._recipe.reader
        for number in np.random.default_rng(0).integers(0, MILLION, 60).tolist():
            assert ds[number]["id"] == number
            cache = reader._cache.get()
            assert cache._filled <= cache_size
            assert cache._filled == sum(size for _, size in cache._entries.values())
        assert bool(reader._cache.get()._entries) == (cache_size > 0)


def test_tiny_frames_are_counted_with_what_they_cost(tmp_path: Path) -> None:
    """A frame of one byte takes several hundred in memory: the bound holds for many of them too."""
    with recordio.Writer(tmp_path / "set", recordio.TensorSpec((), "uint8"), frame_size=1) as writer:
        writer.write_batch(np.zeros(1000, np.uint8))
    ds = recordio.open(tmp_path / "set", cache_size=300_000)
    for number in range(len(ds)):
        ds[number]
    assert len(ds._recipe.reader._cache.get()._entries) < 400  # type: ignore[union-attr]


def test_a_shard_that_vanished_is_named(tmp_path: Path) -> None:
    """The operating system's FileNotFoundError would not say which data set it belongs to."""
    with recordio.Writer(tmp_path / "set", recordio.TensorSpec((), "int32")) as writer:
        writer.write(1)
    ds = recordio.open(tmp_path / "set")
    (tmp_path / "set" / ds.shards[0].name).unlink()
    with pytest.raises(recordio.MismatchError) as caught:
        ds[0]
    assert caught.value.shard == 0 and caught.value.records == (0, 1) and caught.value.advice


@pytest.mark.parametrize("kind", ["directory", "index", "shard"])
def test_a_directory_an_index_and_a_shard_open(tmp_path: Path, kind: str) -> None:
    """By any of the three paths; a str as well as a Path."""
    with recordio.Writer(tmp_path / "set", recordio.TensorSpec((), "int32"), metadata={"a": [1]}) as writer:
        writer.write(7)
    (shard,) = (tmp_path / "set").glob("*.rio")
    path = {"directory": tmp_path / "set", "index": tmp_path / "set" / "index.rix", "shard": shard}[kind]
    for spelled in (path, str(path)):
        ds = recordio.open(spelled)
        assert list(ds) == [7] and ds.metadata == {"a": [1]}


def test_what_is_no_data_set_says_so(tmp_path: Path) -> None:
    """Nothing there, an empty directory, shards without their index."""
    with pytest.raises(FileNotFoundError):
        recordio.open(tmp_path / "nothing")
    with pytest.raises(recordio.NotRecordIOError):
        recordio.open(tmp_path)
    with recordio.Writer(tmp_path / "set", recordio.TensorSpec((), "int32")) as writer:
        writer.write(7)
    (tmp_path / "set" / "index.rix").unlink()
    with pytest.raises(recordio.IncompleteError) as caught:
        recordio.open(tmp_path / "set")
    assert caught.value.path == str(tmp_path / "set")


def test_a_data_set_that_was_written_anew_does_not_unpickle(tmp_path: Path) -> None:
    """A worker never reads another data set than its parent opened."""
    import pickle

    for value in (1, 2):
        with recordio.Writer(tmp_path / "set", recordio.TensorSpec((), "int32"), overwrite=True) as writer:
            writer.write(value)
        if value == 1:
            sent = pickle.dumps(recordio.open(tmp_path / "set"))
    with pytest.raises(recordio.MismatchError):
        pickle.loads(sent)


@pytest.mark.parametrize("how", ["in order", "exact", "pooled", "one record"])
def test_what_nobody_holds_is_gone_at_once(tmp_path: Path, how: Any) -> None:
    """Files, lent memory and held rows, without a run of the garbage collector; hundreds of MB may be among them."""
    recordio.convert(recordio.from_tensor_slices({"x": np.arange(5000)}), tmp_path / "set")
    gc.collect()
    gc.disable()
    try:
        dataset = recordio.open(tmp_path / "set")
        reader = dataset._recipe.reader
        kept = [weakref.ref(thing) for thing in (reader, reader.cache, reader.buffers)]
        reader.shard(0)
        if how == "one record":
            assert dataset[4999]["x"] == 4999
        else:
            rows = dataset if how == "in order" else dataset.shuffle(seed=1, mode=how)
            for stop in (1, None):
                iterator = iter(rows.batch(64))
                assert sum(1 for _ in itertools.islice(iterator, stop)) > 0
                iterator.close()
            del rows, iterator
        del dataset, reader
        assert [ref() for ref in kept] == [None] * 3
    finally:
        gc.enable()
