"""Many chunks at once give the rows that chunk by chunk gives; the same bytes are written however rows arrive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio import MsgpackSpec, TensorSpec
from recordio.columns import ColumnValues, concat, slice_rows
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
    reader: Any = recordio.open(path)._reader
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
            found = read_rows(shard, start, stop, ordinals)
            for ordinal, rows in zip(ordinals, found, strict=True):
                wanted = slice_rows(columns[ordinal], expected[ordinal], start, stop)
                assert rows.num_rows == stop - start
                for one, other in zip(arrays(rows), arrays(wanted), strict=True):
                    np.testing.assert_array_equal(one, other)
                    assert one is None or other is None or one.dtype == other.dtype


@pytest.mark.parametrize("batch_size", [1, 7, 256, 1000, 5000])
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_do_not_depend_on_how_they_are_cut(path: Path, batch_size: int, workers: int):
    """The batches of any size are the records in order, and writable."""
    ds = recordio.open(path)
    number = 0
    for batch in ds.select_columns(["fixed", "blob", "any"]).batch(batch_size, workers=workers):
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
