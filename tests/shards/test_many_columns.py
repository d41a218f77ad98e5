"""Many columns of fixed size at once: the same rows as one column after the other, and the same errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio.shards import many_columns
from tests.laws.data_sets import fresh_directory

NUM_RECORDS = 5000
DTYPES = ["int64", "int32", "int16", "uint64", "uint32", "uint8", "float32", "float64", "float16", "bool"]
SPEC: dict[str, Any] = {
    **{dtype: recordio.TensorSpec((), dtype) for dtype in DTYPES},
    "matrix": recordio.TensorSpec((3, 2), "int64"),
    "nothing": recordio.TensorSpec((0,), "int32"),
    "noise": recordio.TensorSpec((4,), "uint8"),
    "category": recordio.TensorSpec((), "int64"),
    "counter": recordio.TensorSpec((3,), "float32"),
    "perhaps": recordio.TensorSpec((), "int64", optional=True),
    "text": recordio.TensorSpec((), "str"),
}


def make_batch(start: int, stop: int) -> dict[str, Any]:
    """Integers that are narrow in one chunk and not in another."""
    numbers = np.arange(start, stop)
    batch: dict[str, Any] = {dtype: (numbers % 100).astype(dtype) for dtype in DTYPES if dtype != "bool"}
    batch["int64"] = numbers * (10**12 if start >= 3000 else 1) * (-1) ** (numbers % 2)
    batch["bool"] = numbers % 3 == 0
    batch["matrix"] = np.repeat(numbers, 6).reshape(-1, 3, 2) % 1000
    batch["nothing"] = np.zeros((len(numbers), 0), np.int32)
    batch["noise"] = np.random.default_rng(start).integers(0, 256, (len(numbers), 4), np.uint8)
    batch["category"] = numbers**2 % (7 if start < 3000 else 100_000) * 10**12
    batch["counter"] = (np.repeat(numbers, 3).reshape(-1, 3) % [3, 5, 7]).astype(np.float32) / 3
    batch["perhaps"] = np.ma.MaskedArray(numbers, mask=numbers % 5 == 0)
    batch["text"] = [f"text {number}" for number in numbers.tolist()]
    return batch


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    """Two shards of chunks of several frames a column."""
    with fresh_directory() as directory:
        with recordio.Writer(directory / "set", SPEC, num_shards=2, chunk_size=100_000, frame_size=1500) as writer:
            for start in range(0, NUM_RECORDS, 500):
                writer.write_batch(make_batch(start, start + 500))
        yield directory / "set"


def read(path: Path, **options: Any) -> dict[str, Any]:
    """All columns of fixed size, in order."""
    batches = list(recordio.open(path, **options).batch(700))
    fixed = [name for name in SPEC if name != "text"]
    return {name: np.ma.concatenate([batch[name] for batch in batches]) for name in fixed}


def test_rows_are_those_that_were_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every dtype, narrow or not, and the same as without this way."""
    calls = []
    real = many_columns.decode_columns

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return real(*args, **kwargs)

    monkeypatch.setattr(many_columns, "decode_columns", counted)
    found = read(path)
    assert calls
    for start in range(0, NUM_RECORDS, 500):
        for name, wanted in make_batch(start, start + 500).items():
            if name != "text":
                here = found[name][start : start + 500]
                assert here.dtype == wanted.dtype and here.shape == wanted.shape
                assert (np.ma.getmaskarray(here) == np.ma.getmaskarray(wanted)).all()
                assert (np.ma.getdata(here) == np.ma.getdata(wanted)).all() or name == "perhaps"
                assert here.tolist() == wanted.tolist()
    monkeypatch.setattr(many_columns, "MIN_COLUMNS", 1000)
    for name, values in read(path).items():
        assert values.tolist() == found[name].tolist()


def test_a_batch_is_the_callers_own(path: Path) -> None:
    """Scribbling over one changes no other."""
    for _ in range(2):
        batch = next(iter(recordio.open(path).batch(500)))
        assert batch["int32"].tolist() == make_batch(0, 500)["int32"].tolist()
        batch["int32"][:] = -1


@pytest.mark.parametrize("part", range(8))
def test_a_wrong_byte_is_found_with_its_place(path: Path, tmp_path: Path, part: int) -> None:
    """The error names the column and the records, as it does elsewhere."""
    shard = sorted(path.glob("*.rio"))[0]
    data = bytearray(shard.read_bytes())
    reader: Any = recordio.open(path)._recipe.reader
    table = reader.shard(0).table
    directory = reader.shard(0).read_directory(1)
    column = directory.columns[part]
    place = int(table.offsets[1]) + column.offset + column.stored_size // 2
    data[place] ^= 1
    for file in path.iterdir():
        (tmp_path / file.name).write_bytes(data if file.name == shard.name else file.read_bytes())
    with pytest.raises(recordio.ChecksumError) as caught:
        read(tmp_path)
    assert caught.value.column == list(SPEC)[part] and caught.value.chunk == 1
    lossy = recordio.open(tmp_path, on_corrupt="skip")
    kept = [record["int32"] for record in lossy]
    assert 0 < len(kept) < NUM_RECORDS and len(kept) + sum(lost.stop - lost.start for lost in lossy.lost) == NUM_RECORDS


@pytest.mark.parametrize("mode", ["exact", "pooled"])
@pytest.mark.parametrize("columns", [None, ["category", "text"]])
def test_shuffled_rows_are_whole_rows(path: Path, mode: Any, columns: list[str] | None) -> None:
    """Narrow, listed and plain values of a record stay together; and so do those of one record, and of some."""
    wanted = [make_batch(start, start + 500) for start in range(0, NUM_RECORDS, 500)]
    ds = recordio.open(path)
    ds = ds if columns is None else ds.select_columns(columns)
    chosen = [4999, 0, 2500, 3000, 3001, 7]
    seen = []
    for batch in [*ds.shuffle(seed=1, mode=mode).batch(700), ds[chosen]]:
        numbers = [int(text.split()[1]) for text in batch["text"]]
        seen += numbers
        for name, values in batch.items():
            if name not in ("text", "perhaps"):
                expected = np.array([wanted[number // 500][name][number % 500] for number in numbers])
                assert np.asarray(values).tolist() == expected.tolist(), name
    assert sorted(seen[:NUM_RECORDS]) == list(range(NUM_RECORDS)) and seen[NUM_RECORDS:] == chosen
    assert ds[4321]["category"] == wanted[8]["category"][321]
