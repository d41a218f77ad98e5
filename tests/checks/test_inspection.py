"""inspect: what stands at a path, complete or not, and what its columns are like."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import recordio
from recordio.checks.inspection import inspect
from recordio.errors import NotRecordIOError, RequestError

SPEC = {
    "image": recordio.TensorSpec((4, 4), "uint8"),
    "noise": recordio.TensorSpec((64,), "uint8"),
    "text": recordio.TensorSpec((), "str"),
    "tags": recordio.TensorSpec((None,), "int32"),
    "extra": recordio.MsgpackSpec(),
    "weight": recordio.TensorSpec((), "float32", optional=True),
    "half": recordio.TensorSpec((), "float16"),
}
NUM_RECORDS = 300


def make_records() -> list[dict[str, object]]:
    rng = np.random.default_rng(0)
    return [
        {
            "image": np.full((4, 4), number % 50, np.uint8), "noise": rng.integers(0, 256, 64, dtype=np.uint8),
            "text": f"record {number}", "tags": np.arange(number % 4, dtype=np.int32), "extra": {"n": number},
            "weight": None if number % 3 == 0 else np.float32(number),
            "half": np.float16("nan") if number == 7 else np.float16(number % 5),
        }
        for number in range(NUM_RECORDS)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inspect") / "data"
    metadata = {"source": "made up", "raw": b"\x00\xff", "worst": float("inf")}
    recordio.convert(make_records(), path, output_signature=SPEC, num_shards=3, chunk_size=2000, metadata=metadata)
    return path


@pytest.fixture
def data(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "data"))


def test_complete_data_set(pristine: Path) -> None:
    """Counts and sizes are those of the index and of the files."""
    found = inspect(pristine)
    assert (found.kind, found.state, found.problems, found.notes) == ("data set", "complete", (), ())
    assert (found.num_records, found.num_shards) == (NUM_RECORDS, 3)
    assert found.stored_size == sum(path.stat().st_size for path in pristine.glob("*.rio"))
    assert found.fingerprint == recordio.open(pristine).fingerprint
    assert found.num_chunks == len(list(found.chunks()))
    assert sum(chunk.num_records for chunk in found.chunks()) == NUM_RECORDS


def test_index_and_shard_are_told_apart(pristine: Path) -> None:
    """The same data set through its index; one shard alone."""
    assert inspect(pristine / "index.rix").kind == "index"
    shard = inspect(sorted(pristine.glob("*.rio"))[1])
    assert (shard.kind, shard.state, shard.num_records, shard.num_shards) == ("shard", "complete", 100, 1)


def test_values_of_all_records_with_stats(pristine: Path) -> None:
    """Exact least, largest, mean and deviation; None and NaN are counted; lengths of what varies."""
    found = inspect(pristine, stats=True)
    assert found.exact_values and found.exact_sizes
    records = make_records()
    values = {column.name: column.summary for column in found.columns}
    assert all(summary is not None and summary.num_rows == NUM_RECORDS for summary in values.values())
    image = np.stack([record["image"] for record in records])  # type: ignore[misc]
    assert (values["image"].minimum, values["image"].maximum) == (0, 49)
    assert values["image"].mean == pytest.approx(image.mean()) and values["image"].std == pytest.approx(image.std())
    weights = np.array([record["weight"] for record in records if record["weight"] is not None], np.float64)
    assert values["weight"].num_none == 100 and values["weight"].mean == pytest.approx(weights.mean())
    assert values["weight"].std == pytest.approx(weights.std())
    assert values["half"].num_nan == 1 and values["half"].maximum == 4.0
    assert (values["text"].lengths.minimum, values["text"].lengths.maximum) == (8, 10)
    assert (values["tags"].lengths.minimum, values["tags"].lengths.maximum) == (0, 3)
    assert values["text"].excerpt == "record 0" and values["extra"].excerpt == '{"n": 0}'


def test_codec_and_sizes_of_columns(pristine: Path) -> None:
    """Noise is stored raw, the rest compressed; the columns add up to the data set."""
    found = inspect(pristine, stats=True)
    columns = {column.name: column for column in found.columns}
    assert columns["noise"].codecs == ("none",) and columns["image"].codecs == ("zstd",)
    assert sum(column.raw_size for column in found.columns) == found.raw_size
    assert columns["noise"].ratio == 1.0 and columns["image"].ratio > 4


def test_sizes_of_many_chunks_are_estimated(tmp_path: Path) -> None:
    """Only some directories are read, unless stats are asked for."""
    records = [{"a": np.int64(number), "b": np.zeros(8)} for number in range(2000)]
    recordio.convert(records, tmp_path / "data", chunk_size=200)
    quick, exact = inspect(tmp_path / "data"), inspect(tmp_path / "data", stats=True)
    assert not quick.exact_sizes and exact.exact_sizes
    for about, right in zip(quick.columns, exact.columns, strict=True):
        assert about.raw_size == pytest.approx(right.raw_size, rel=0.05)
    assert sum(column.raw_size for column in exact.columns) == exact.raw_size


def test_columns_can_be_chosen(pristine: Path) -> None:
    """The others are not looked at; a wrong name gets a suggestion."""
    assert [column.name for column in inspect(pristine, columns=["text", "image"]).columns] == ["image", "text"]
    with pytest.raises(RequestError) as raised:
        inspect(pristine, columns=["imgae"])
    assert "image" in (raised.value.advice or "")


def test_missing_shard_is_a_problem(data: Path) -> None:
    """The data set is incomplete, and its other shards are shown all the same."""
    sorted(data.glob("*.rio"))[1].unlink()
    found = inspect(data, stats=True)
    assert found.state == "incomplete" and [shard.state for shard in found.shards] == ["ok", "missing", "ok"]
    (problem,) = found.problems
    assert problem.records == (100, 200)
    assert found.columns[0].summary is not None and found.columns[0].summary.num_rows == 200
    assert not found.exact_values


def test_damage_does_not_end_the_inspection(data: Path) -> None:
    """A damaged frame is a problem with a place; the other columns are there."""
    reader_shard = recordio.open(data)._recipe.reader.shard(0)  # type: ignore[union-attr]
    column = reader_shard.read_directory(0).columns[0]
    path = Path(reader_shard.path)
    content = bytearray(path.read_bytes())
    content[int(reader_shard.table.offsets[0]) + column.offset] ^= 1
    path.write_bytes(content)
    for stats in (False, True):
        found = inspect(data, stats=stats)
        (problem,) = found.problems
        assert (problem.shard, problem.chunk, problem.column) == (0, 0, "image")
        assert found.state == "complete" and not found.exact_values


def test_unfinished_conversion_says_how_far_it_is(tmp_path: Path) -> None:
    """Shards finished of those planned, the signature, and that it can be gone on with."""

    def broken(shard: int, num_shards: int) -> object:
        if shard == 2:
            raise OSError("the disk is on fire")
        yield {"x": 1}

    with pytest.raises(OSError, match="fire"):
        recordio.convert(broken, tmp_path / "data", num_shards=4)
    found = inspect(tmp_path / "data")
    assert (found.state, found.resumable, found.num_finished_shards, found.num_shards) == ("unfinished", True, 2, 4)
    assert found.signature == '{"x": int64}' and found.writer is None
    assert json.loads(json.dumps(found.to_dict()))["state"] == "unfinished"


def test_data_set_that_is_being_written_says_by_whom(tmp_path: Path) -> None:
    """A Writer at work is no resumable job."""
    with recordio.Writer(tmp_path / "data", {"x": recordio.TensorSpec((), "int64")}) as writer:
        writer.write({"x": 1})
        found = inspect(tmp_path / "data")
        assert (found.state, found.resumable) == ("unfinished", False)
        assert str(os.getpid()) in (found.writer or "")


def test_torn_shard_says_what_is_whole(data: Path) -> None:
    """A shard without a trailer: chunks and records in front of the cut."""
    path = sorted(data.glob("*.rio"))[0]
    table = recordio.open(path)._recipe.reader.shard(0).table  # type: ignore[union-attr]
    os.truncate(path, int(table.offsets[2]) + 100)
    found = inspect(path)
    assert (found.kind, found.state, found.num_chunks) == ("shard", "torn", 2)
    assert found.num_records == int(table.first_records[2])
    assert found.problems[0].kind == "IncompleteError" and found.signature == inspect(data).signature
    for size in range(1, 600, 7):
        os.truncate(path, size)
        try:
            assert inspect(path).state == "torn"
        except recordio.DataError:
            assert size < 600


def test_what_is_nothing_of_ours_is_refused(tmp_path: Path) -> None:
    """An empty directory is no data set."""
    with pytest.raises(NotRecordIOError):
        inspect(tmp_path)
    with pytest.raises(FileNotFoundError):
        inspect(tmp_path / "nothing")


def test_keys_of_json_are_stable(pristine: Path) -> None:
    """What programs may rely on: a key may be added, none may go (recordio inspect --help)."""
    found = json.loads(json.dumps(inspect(pristine).to_dict(shards=True, chunks=True), allow_nan=False))
    assert set(found) >= {
        "path", "kind", "state", "resumable", "writer", "format_version", "num_records", "num_shards",
        "num_finished_shards", "num_chunks", "raw_size", "stored_size", "ratio", "fingerprint", "signature", "metadata",
        "options", "exact_sizes", "exact_values", "columns", "problems", "notes", "shards", "chunks",
    }  # fmt: skip
    assert set(found["columns"][0]) >= {
        "name", "type", "dtype", "shape", "optional", "codecs", "raw_size", "stored_size", "ratio", "values",
    }  # fmt: skip
    assert set(found["columns"][0]["values"]) >= {
        "num_rows", "num_none", "num_nan", "min", "max", "mean", "std", "lengths", "excerpt",
    }  # fmt: skip
    assert set(found["shards"][0]) >= {
        "shard", "name", "first_record", "num_records", "num_chunks", "raw_size", "stored_size", "ratio", "digest",
        "state",
    }  # fmt: skip
    assert set(found["chunks"][0]) >= {
        "shard", "chunk", "offset", "first_record", "num_records", "raw_size", "stored_size", "ratio",
    }  # fmt: skip
    assert found["metadata"] == {"source": "made up", "raw": {"$bytes": "00ff"}, "worst": "inf"}


def test_empty_data_set(tmp_path: Path) -> None:
    """No record, no value, no division by zero."""
    recordio.convert(lambda: iter(()), tmp_path / "data", output_signature={"x": recordio.TensorSpec((), "int64")})
    found = inspect(tmp_path / "data", stats=True)
    assert (found.num_records, found.state, found.columns[0].raw_size) == (0, "complete", 0)
    json.dumps(found.to_dict(), allow_nan=False)


def test_raw_sizes_are_those_in_memory(tmp_path: Path) -> None:
    """Integers that are stored narrow count with the width of their type (spec/format.md, section 5)."""
    spec = {"label": recordio.TensorSpec((), "int64"), "tokens": recordio.TensorSpec((None,), "int32")}
    with recordio.Writer(tmp_path / "set", spec) as writer:
        for number in range(1000):
            writer.write({"label": number % 10, "tokens": np.arange(number % 5, dtype=np.int32)})
    found = inspect(tmp_path / "set", stats=True)
    label, tokens = found.columns
    assert (label.raw_size, tokens.raw_size) == (8 * 1000, 1000 + 4 * 2000)
    assert label.stored_size < 1000 and label.ratio > 8
    assert found.raw_size == label.raw_size + tokens.raw_size


def test_values_too_large_for_a_sample_are_told(tmp_path: Path) -> None:
    """A frame of 17 MiB is not decoded for a sample, and what is shown is not shown as if it were of all."""
    large = np.arange(17 << 17)
    signature = {"x": recordio.TensorSpec((None,), "int64"), "y": recordio.TensorSpec((), "int64")}
    records = [{"x": large, "y": 1}, {"x": large[:3], "y": 2}]
    recordio.convert(records, tmp_path / "set", output_signature=signature)
    (note,) = inspect(tmp_path / "set").notes
    assert "'x'" in note and "16 MiB" in note and "--stats" in note
    assert inspect(tmp_path / "set", stats=True).notes == ()
