"""Damaged data sets as sources: what can be read is converted, what is lost is listed, nothing goes in silence."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio import TensorSpec
from tests.convert import given
from tests.convert.interrupting import Failure

NUM_RECORDS = 600
SAME: Any = None
# Optional and ragged columns go record by record; under a signature of fixed columns, batches.
OTHER = {**given.SPEC, "number": TensorSpec((), "int32")}
FIXED = {"number": TensorSpec((), "int64"), "pixels": TensorSpec((4,), "uint8")}
OTHER_FIXED = {"number": TensorSpec((), "int32"), "pixels": TensorSpec((4,), "uint8")}
SIGNATURES = {"same": ("set", SAME), "records": ("set", OTHER), "batches": ("fixed", OTHER_FIXED)}
HOW: list[dict[str, Any]] = [
    {}, {"num_shards": 1}, {"num_shards": 4}, {"shard_size": 5000}, {"num_shards": 4, "workers": 3},
    {"num_shards": 4, "workers": 2, "use_multiprocessing": True}, {"shard_size": 5000, "workers": 3},
    {"on_error": "skip"}, {"on_error": "skip", "num_shards": 4},
]  # fmt: skip


def damage(path: Any, shard_id: int, chunk_id: int, column: int | None, frame: int = 0) -> None:
    """Flip a bit of a frame, or of the header of a chunk."""
    reader = recordio.open(path)._recipe.reader
    shard = reader.shard(shard_id)
    offset = int(shard.table.offsets[chunk_id])
    if column is not None:
        entry = shard.read_directory(chunk_id).columns[column]
        offset += entry.offset + sum(one.stored_size for one in entry.frames[:frame]) + 3
    data = bytearray(Path(shard.path).read_bytes())
    data[offset] ^= 1
    Path(shard.path).write_bytes(data)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """Two data sets with a lost chunk, a lost frame, and two lost frames of different columns that overlap."""
    root = tmp_path_factory.mktemp("damaged")

    def fixed():
        for number in range(NUM_RECORDS):
            yield {"number": number, "pixels": np.full(4, number % 256, "uint8")}

    options = {"num_shards": 3, "chunk_size": 1500, "frame_size": 200, "codec": "none"}
    recordio.convert(lambda: given.plain(NUM_RECORDS), root / "set", output_signature=given.SPEC, **options)
    recordio.convert(fixed, root / "fixed", output_signature=FIXED, **options)
    for name in ("set", "fixed"):
        damage(root / name, 0, 1, None)
        damage(root / name, 1, 0, 1, 1)
        damage(root / name, 1, 0, 0, 1)
        damage(root / name, 2, 0, 0, 0)
    return root


def readable(path: Any) -> tuple[list[Any], set[int]]:
    """The records that iteration gives, and the numbers of those that are lost."""
    ds = recordio.open(path, on_corrupt="skip")
    records = list(ds)
    lost = {number for found in ds.lost for number in range(found.start, found.stop)}
    assert lost and len(records) + len(lost) == NUM_RECORDS
    return records, lost


def listed(report: recordio.ConversionReport) -> list[int]:
    return [number for found in report.skipped for number in range(*found.records)]


@pytest.mark.parametrize("how", HOW, ids=str)
@pytest.mark.parametrize("kind", SIGNATURES)
def test_what_can_be_read_is_converted_and_what_is_lost_is_listed(kind, how, damaged, tmp_path):
    """On every path: exactly the records that iteration gives, and every lost one named once, in order."""
    name, signature = SIGNATURES[kind]
    records, lost = readable(damaged / name)
    ds = recordio.open(damaged / name, on_corrupt="skip")
    report = recordio.convert(ds, tmp_path / "out", output_signature=signature, check=True, **how)
    assert report.num_records == len(records)
    assert listed(report) == sorted(lost)
    assert [given.plainly(r) for r in recordio.open(tmp_path / "out")] == [given.plainly(r) for r in records]
    for found in report.skipped:
        start, stop = found.records
        assert found.label == f"records {start} to {stop}" and found.record is None
        assert ("checksum is" in found.error or "sync word" in found.error) and "[shard " in found.error
    assert report.to_dict()["skipped"][0]["records"] == list(report.skipped[0].records)


@pytest.mark.parametrize("kind", SIGNATURES)
def test_bytes_and_report_do_not_depend_on_who_works(kind, damaged, tmp_path):
    name, signature = SIGNATURES[kind]
    reports = {}
    for how in ({}, {"workers": 3}, {"workers": 2, "use_multiprocessing": True}):
        out = tmp_path / "-".join(["out", *how])
        ds = recordio.open(damaged / name, on_corrupt="skip")
        reports[out] = recordio.convert(ds, out, output_signature=signature, num_shards=5, **how)
    first, *others = reports
    for other in others:
        assert given.files(other) == given.files(first)
        assert reports[other].skipped == reports[first].skipped


@pytest.mark.parametrize("cut", [slice(10, 500), slice(None, None, 3), slice(None, None, -1), slice(500, 20, -7)])
@pytest.mark.parametrize("kind", SIGNATURES)
def test_records_of_a_view_are_counted_in_the_view(kind, cut, damaged, tmp_path):
    """As in every other message about a source."""
    name, signature = SIGNATURES[kind]
    _, lost = readable(damaged / name)
    numbers = range(NUM_RECORDS)[cut]
    report = recordio.convert(
        recordio.open(damaged / name, on_corrupt="skip")[cut], tmp_path / "out", output_signature=signature,
        num_shards=3,
    )
    assert listed(report) == [place for place, number in enumerate(numbers) if number in lost]
    found = [record["number"] for record in recordio.open(tmp_path / "out")]
    assert found == [number for number in numbers if number not in lost]


@pytest.mark.parametrize("how", [{}, {"num_shards": 4}, {"num_shards": 4, "workers": 2}])
@pytest.mark.parametrize("on_corrupt", ["raise", "skip"])
def test_errors_keep_the_numbers_of_the_source_behind_a_loss(on_corrupt, how, damaged, tmp_path):
    """A record that does not match, after records that are lost; and damage that is raised."""
    _, lost = readable(damaged / "set")
    small = {**given.SPEC, "number": TensorSpec((), "uint8")}
    ds = recordio.open(damaged / "set", on_corrupt=on_corrupt)
    expected = recordio.DataError if on_corrupt == "raise" else recordio.SignatureError
    with pytest.raises(expected) as caught:
        recordio.convert(ds, tmp_path / "out", output_signature=small, **how)
    if on_corrupt == "raise":
        assert caught.value.records is not None and caught.value.path is not None
        return
    assert "number" in str(caught.value) and caught.value.column == "number"
    report = recordio.convert(
        ds, tmp_path / "out", output_signature=small, on_error="skip", overwrite=True, **how
    )
    refused = [found.record for found in report.skipped if found.records is None]
    numbers = sorted(number for number in range(256, NUM_RECORDS) if number not in lost)
    labels = [found.label for found in report.skipped if found.records is None]
    assert labels == [f"record {number}" for number in numbers] and refused == numbers


@pytest.mark.parametrize("how", HOW, ids=str)
@pytest.mark.parametrize("kind", SIGNATURES)
def test_damage_is_raised_with_its_place_whatever_on_error_says(kind, how, damaged, tmp_path):
    """on_error is about the user's source; a data set that was not opened with on_corrupt="skip" loses nothing."""
    name, signature = SIGNATURES[kind]
    with pytest.raises(recordio.DataError) as caught:
        recordio.convert(
            recordio.open(damaged / name), tmp_path / "out", output_signature=signature, **{"on_error": "skip"} | how
        )
    assert caught.value.path is not None and caught.value.shard is not None and caught.value.records is not None
    assert not any("the source raised" in note for note in getattr(caught.value, "__notes__", ()))
    assert not (tmp_path / "out" / "index.rix").exists()


@pytest.mark.parametrize("how", [{"num_shards": 4}, {"shard_size": 5000}])
def test_a_rescue_goes_on_with_the_losses_of_its_finished_shards(how, damaged, tmp_path):
    """And it does not go on with a data set that raises what the first run has left out."""
    first = recordio.convert(recordio.open(damaged / "set", on_corrupt="skip"), tmp_path / "undisturbed", **how)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recordio.job.encode_index", _fail)
        with pytest.raises(Failure):
            recordio.convert(recordio.open(damaged / "set", on_corrupt="skip"), tmp_path / "out", **how)
    with pytest.raises(recordio.SourceError, match="lossy"):
        recordio.convert(recordio.open(damaged / "set"), tmp_path / "out", resume=True, **how)
    report = recordio.convert(recordio.open(damaged / "set", on_corrupt="skip"), tmp_path / "out", resume=True, **how)
    assert report.num_resumed_shards == report.num_shards and report.skipped == first.skipped
    assert given.files(tmp_path / "out") == given.files(tmp_path / "undisturbed")
    again = recordio.convert(recordio.open(damaged / "set", on_corrupt="skip"), tmp_path / "out", resume=True, **how)
    assert again.num_records == first.num_records


def _fail(**_):
    raise Failure


@pytest.mark.parametrize("how", [{}, {"num_shards": 4}, {"shard_size": 5000}])
def test_a_lost_shard_is_one_range_of_each_part_that_needs_it(how, tmp_path):
    """Its file is gone, or its front is; also where nothing at all can be read."""
    recordio.convert(
        lambda: given.plain(NUM_RECORDS), tmp_path / "set", output_signature=given.SPEC, num_shards=3, chunk_size=1500
    )
    shards = sorted((tmp_path / "set").glob("*.rio"))
    shards[1].unlink()
    out = tmp_path / "out"
    report = recordio.convert(recordio.open(tmp_path / "set", on_corrupt="skip"), out, output_signature=OTHER, **how)
    assert listed(report) == list(range(200, 400))
    assert [record["number"] for record in recordio.open(out)] == [*range(200), *range(400, 600)]
    for shard in (shards[0], shards[2]):
        os.truncate(shard, 10)
    report = recordio.convert(
        recordio.open(tmp_path / "set", on_corrupt="skip"), out, output_signature=OTHER, overwrite=True, **how
    )
    assert listed(report) == list(range(NUM_RECORDS)) and report.num_records == 0
    assert len(recordio.open(out)) == 0


def test_losses_of_a_column_that_is_not_selected_cost_nothing(damaged, tmp_path):
    """Frames are lost one by one: of a projection, only its own."""
    path = tmp_path / "set"
    shutil.copytree(damaged / "fixed", path)
    ds = recordio.open(path, on_corrupt="skip").select_columns(["pixels"])
    expected = len(list(ds))
    report = recordio.convert(ds, tmp_path / "out", num_shards=2)
    assert report.num_records == expected == NUM_RECORDS - len(listed(report))
    assert listed(report) < sorted(readable(path)[1])
