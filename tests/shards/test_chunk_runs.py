"""Many chunks at once give the rows that chunk by chunk gives; the same bytes are written however rows arrive."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio import MsgpackSpec, TensorSpec
from recordio.buffers import Buffers
from recordio.columns import ColumnValues, concat, slice_rows
from recordio.format.codec import CODEC_RAW, CODEC_ZSTD
from recordio.shards.chunk_runs import read_rows

SPEC = {
    "fixed": TensorSpec((3,), "int32"),
    "flag": TensorSpec((), "bool"),
    "noise": TensorSpec((40,), "uint8"),
    "maybe": TensorSpec((2,), "float32", optional=True),
    "text": TensorSpec((), "str"),
    "blob": TensorSpec((), "bytes"),
    "maybe_blob": TensorSpec((), "bytes", optional=True),
    "ragged": TensorSpec((None, 2), "int16"),
    "two": TensorSpec((None, None), "uint8"),
    "words": TensorSpec((None,), "str"),
    "pair": TensorSpec((2,), "str"),
    "any": TensorSpec(None, "int8"),
    "object": MsgpackSpec(),
    "empty": TensorSpec((0,), "int64"),
}
NUM_RECORDS = 3_000


def record(number: int) -> dict[str, Any]:
    rng = np.random.default_rng(number)
    size = int(rng.integers(0, 5))
    return {
        "fixed": np.full(3, number, np.int32),
        "flag": number % 3 == 0,
        "noise": rng.integers(0, 256, 40, np.uint8),
        "maybe": None if number % 4 == 0 else np.full(2, number, np.float32),
        "text": "né " * size,
        "blob": rng.bytes(size * 700),
        "maybe_blob": None if number % 5 == 0 else rng.bytes(size),
        "ragged": rng.integers(0, 9, (size, 2), np.int16),
        "two": rng.integers(0, 256, (size, 3), np.uint8),
        "words": ["a" * place for place in range(size)],
        "pair": ["é" * size, ""],
        "any": np.zeros((1,) * size, np.int8),
        "object": {"n": number},
        "empty": np.zeros(0, np.int64),
    }


@pytest.fixture(scope="module", params=["zstd", "none"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of many chunks, and chunks of several frames."""
    path = tmp_path_factory.mktemp(request.param) / "set"
    options: dict[str, Any] = {"codec": request.param, "chunk_size": 100_000, "frame_size": 3_000}
    with recordio.Writer(path, SPEC, num_shards=2, **options) as writer:
        for number in range(NUM_RECORDS):
            writer.write(record(number))
    return path


def arrays(rows: ColumnValues) -> list[np.ndarray[Any, Any] | None]:
    return [rows.values, rows.validity, rows.ranks, rows.dims, rows.lengths]


def test_any_range_is_as_chunk_by_chunk(path: Path):
    """Whole chunks, parts of chunks, one row; all columns or some."""
    reader: Any = recordio.open(path)._recipe.reader
    shard = reader.shard(1)
    columns = reader.schema.columns
    everything = range(len(columns))
    num_records = int(shard.table.first_records[-1])
    parts = [shard.read_chunk(chunk_id, everything) for chunk_id in range(len(shard.table))]
    expected = [concat(list(column)) for column in zip(*parts, strict=True)]
    bounds = shard.table.first_records.tolist()
    rng = np.random.default_rng(0)
    ranges = [(0, num_records), (bounds[1], bounds[3]), (bounds[2], bounds[2] + 1), (num_records - 1, num_records)]
    ranges += [tuple(sorted(rng.choice(num_records + 1, 2, replace=False).tolist())) for _ in range(20)]
    for start, stop in ranges:
        for ordinals in (list(everything), [0, 5, 8], [len(columns) - 1], [4]):
            found = read_rows(shard, start, stop, ordinals, Buffers(1 << 20))
            for ordinal, rows in zip(ordinals, found, strict=True):
                wanted = slice_rows(columns[ordinal], expected[ordinal], start, stop)
                assert rows.num_rows == stop - start
                for one, other in zip(arrays(rows), arrays(wanted), strict=True):
                    np.testing.assert_array_equal(one, other)
                    assert one is None or other is None or one.dtype == other.dtype


NARROW_SPEC = {
    "label": TensorSpec((), "int64"),
    "pair": TensorSpec((2,), "uint32"),
    "maybe": TensorSpec((3,), "int16", optional=True),
    "ragged": TensorSpec((None,), "int64"),
    "any": TensorSpec(None, "uint64"),
    "maybe_ragged": TensorSpec((None, 2), "int32", optional=True),
}
CHUNK_RECORDS = 50


def narrow_columns(num_chunks: int) -> dict[str, Any]:
    """Widths change from chunk to chunk, in each column in its own rhythm; some chunks compress, some do not."""
    rng = np.random.default_rng(5)
    count = num_chunks * CHUNK_RECORDS
    chunk = np.arange(count) // CHUNK_RECORDS

    def values(dtype: str, step: int) -> np.ndarray[Any, Any]:
        limits = np.iinfo(dtype)
        bits = 8 * np.array([1, 1, 2, 4, 8])[chunk // step % 5]
        found = rng.integers(limits.min, limits.max, count, np.dtype(dtype), endpoint=True)
        shift = np.maximum(8 * limits.dtype.itemsize - bits, 0).astype(dtype)
        is_mostly_zero = (chunk % 3 == 0) & (np.arange(count) % CHUNK_RECORDS > 0)
        return np.where(is_mostly_zero, 0, found >> shift).astype(dtype)

    label, pair, maybe, ragged, grid = (
        values(*one) for one in (("int64", 1), ("uint32", 2), ("int16", 3), ("int64", 4), ("uint64", 1))
    )
    sizes = rng.integers(0, 3, count).tolist()
    return {
        "label": label,
        "pair": np.stack([pair, pair // 2], axis=1),
        "maybe": [None if n % 7 == 0 else np.full(3, one) for n, one in enumerate(maybe)],
        "ragged": [np.full(size, one) for size, one in zip(sizes, ragged, strict=True)],
        "any": [np.full((1,) * size, one) for size, one in zip(sizes, grid, strict=True)],
        "maybe_ragged": [
            None if n % 5 == 0 else np.full((size, 2), one, np.int32)
            for n, (size, one) in enumerate(zip(sizes, pair.astype(np.int32) >> 7, strict=True))
        ],
    }


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard of 40 chunks."""
    path = tmp_path_factory.mktemp("narrow") / "set"
    with recordio.Writer(path, NARROW_SPEC, num_shards=1, chunk_size=5_000, frame_size=300) as writer:
        writer.write_batch(narrow_columns(40))
    return path


def directories_of(shard: Any) -> list[Any]:
    return [shard.read_directory(chunk_id) for chunk_id in range(len(shard.table))]


def test_chunks_of_any_widths_are_as_chunk_by_chunk(narrow: Path):
    """Integers of different widths, narrow and plain, compressed and raw, in one run."""
    reader: Any = recordio.open(narrow)._recipe.reader
    shard = reader.shard(0)
    columns = reader.schema.columns
    directories = directories_of(shard)
    assert len(directories) > 20
    for ordinal, column in enumerate(columns):
        encodings = {directory.columns[ordinal].encoding for directory in directories}
        assert len(encodings) >= 2 and 1 in encodings, column.name
    kinds = {(entry.codec, entry.encoding) for directory in directories for entry in directory.columns}
    assert kinds >= {(codec, encoding) for codec in (CODEC_RAW, CODEC_ZSTD) for encoding in (0, 1, 2, 4)}
    everything = range(len(columns))
    expected = [
        concat(list(parts))
        for parts in zip(*(shard.read_chunk(chunk_id, everything) for chunk_id in range(len(shard.table))), strict=True)
    ]
    written = narrow_columns(40)
    np.testing.assert_array_equal(expected[0].values, written["label"])
    num_records = len(written["label"])
    rng = np.random.default_rng(1)
    ranges = [(0, num_records)]
    ranges += [tuple(sorted(rng.choice(num_records + 1, 2, replace=False).tolist())) for _ in range(30)]
    for start, stop in ranges:
        for ordinals in (list(everything), [0], [3], [4, 1]):
            for ordinal, rows in zip(ordinals, read_rows(shard, start, stop, ordinals, Buffers(1 << 20)), strict=True):
                wanted = slice_rows(columns[ordinal], expected[ordinal], start, stop)
                for one, other in zip(arrays(rows), arrays(wanted), strict=True):
                    np.testing.assert_array_equal(one, other)
                    assert one is None or other is None or (one.dtype == other.dtype and one.flags.writeable)


def test_damage_in_a_narrow_column_is_located(narrow: Path, tmp_path: Path):
    """By chunk, column and records, and no other record is lost."""
    reader: Any = recordio.open(narrow)._recipe.reader
    shard = reader.shard(0)
    chunk_id, ordinal = 7, 3
    entry = directories_of(shard)[chunk_id].columns[ordinal]
    assert entry.encoding and len(entry.frames) > 1
    damaged = tmp_path / "set"
    shutil.copytree(narrow, damaged)
    (path,) = damaged.glob("*.rio")
    data = bytearray(path.read_bytes())
    data[int(shard.table.offsets[chunk_id]) + entry.offset + entry.frames[0].stored_size] ^= 1
    path.write_bytes(data)
    first = int(shard.table.first_records[chunk_id]) + entry.frames[0].num_records
    lost = (first, first + entry.frames[1].num_records)
    ds = recordio.open(damaged)
    with pytest.raises(recordio.ChecksumError) as caught:
        list(ds.select_columns(["ragged"]).batch(64))
    assert (caught.value.chunk, caught.value.column, caught.value.records) == (chunk_id, "ragged", lost)
    labels = recordio.open(damaged).select_columns(["label"]).batch(10_000)
    np.testing.assert_array_equal(next(iter(labels))["label"], narrow_columns(40)["label"])
    whole = [(0, reader.num_records)]
    skipped: Any = recordio.open(damaged)._recipe.reader.stream(whole, [ordinal], workers=1, on_corrupt="skip")
    assert [(one.start, one.stop) for rows in skipped for one in rows.lost] == [lost]


HOSTILE = sorted((Path(__file__).parents[2] / "spec" / "vectors" / "hostile").glob("narrow_*.rio"))


@pytest.mark.parametrize("path", HOSTILE, ids=lambda path: path.stem)
def test_hostile_widths_are_refused_by_both_paths(path: Path):
    """A run of chunks is not more trusting than one chunk."""
    reader: Any = recordio.open(path)._recipe.reader
    shard = reader.shard(0)
    run = partial(read_rows, shard, 0, reader.num_records, [0], Buffers(1 << 20))
    for read in (run, lambda: shard.read_chunk(0, [0])):
        with pytest.raises(recordio.MalformedError):
            read()


@pytest.mark.parametrize("batch_size", [1, 7, 256, 1000, 5000])
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_do_not_depend_on_how_they_are_cut(path: Path, batch_size: int, workers: int):
    """The batches of any size are the records in order, and writable."""
    ds = recordio.open(path)
    number = 0
    for batch in ds.select_columns(["fixed", "blob", "any"]).batch(batch_size).with_options(workers=workers):
        size = len(batch["fixed"])
        assert size == min(batch_size, NUM_RECORDS - number)
        np.testing.assert_array_equal(batch["fixed"][:, 0], np.arange(number, number + size))
        assert batch["blob"][0] == record(number)["blob"]
        assert batch["any"][-1].ndim == record(number + size - 1)["any"].ndim
        batch["fixed"][:] = -1
        batch["blob"].values[:] = 0
        number += size
    assert number == NUM_RECORDS


def test_bytes_written_do_not_depend_on_how_rows_arrive(tmp_path: Path):
    """Records, lists, arrays, long bytes that are kept and short ones that are copied: one fingerprint."""
    spec = {"image": TensorSpec((20,), "uint8"), "blob": TensorSpec((), "bytes", optional=True)}
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (500, 20), np.uint8)
    sizes = rng.integers(0, 9000, 500).tolist()
    blobs = [None if number % 7 == 0 else rng.bytes(size) for number, size in enumerate(sizes)]
    fingerprints = set()
    for name, step in (("records", 0), ("one", 500), ("some", 37), ("few", 1)):
        options: dict[str, Any] = {"chunk_size": 100_000, "frame_size": 10_000, "workers": 1 + step % 3}
        with recordio.Writer(tmp_path / name, spec, **options) as writer:
            for start in range(0, 500, step or 500):
                part = slice(start, start + (step or 500))
                if step:
                    writer.write_batch({"image": images[part], "blob": blobs[part]})
                else:
                    for image, blob in zip(images, blobs, strict=True):
                        writer.write({"image": image, "blob": None if blob is None else bytearray(blob)})
        fingerprints.add(recordio.open(tmp_path / name).fingerprint)
    assert len(fingerprints) == 1
