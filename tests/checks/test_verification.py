"""verify: nothing damaged goes unnoticed, and every damaged place is named, not only the first."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import recordio
from recordio.checks.verification import verify
from recordio.errors import ChecksumError, IncompleteError, NotRecordIOError, TruncatedError
from recordio.progress import Progress

SPEC = {
    "image": recordio.TensorSpec((4, 4), "uint8"),
    "text": recordio.TensorSpec((), "str"),
    "tags": recordio.TensorSpec((None,), "int32"),
    "extra": recordio.MsgpackSpec(),
    "weight": recordio.TensorSpec((), "float32", optional=True),
}
RECORDS_PER_SHARD = 20


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards of 20 records, several chunks and frames each."""
    path = tmp_path_factory.mktemp("verify") / "data"
    rng = np.random.default_rng(0)
    records = [
        {
            "image": rng.integers(0, 9, (4, 4)).astype(np.uint8), "text": f"record {number}",
            "tags": np.arange(number % 4, dtype=np.int32), "extra": {"n": number},
            "weight": None if number % 3 == 0 else np.float32(number),
        }
        for number in range(60)
    ]  # fmt: skip
    recordio.convert(records, path, output_signature=SPEC, num_shards=3, chunk_size=400, frame_size=100)
    return path


@pytest.fixture
def data(pristine: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(pristine, tmp_path / "data"))


def shard(data: Path, shard_id: int) -> Path:
    return sorted(data.glob("*.rio"))[shard_id]


def flip(path: Path, offset: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1 << bit
    path.write_bytes(content)


def test_whole_data_set_is_ok(pristine: Path) -> None:
    """No damage, no note; everything is counted."""
    report = verify(pristine)
    assert report.ok and report.damages == () and report.notes == () and report.lost_records == 0
    assert (report.num_shards, report.num_records) == (3, 60)
    assert report.stored_size == sum(file.stat().st_size for file in pristine.iterdir())
    report.raise_for_damage()


@pytest.mark.parametrize("what", ["directory", "index", "shard"])
def test_every_way_in_is_checked(pristine: Path, what: str) -> None:
    """A directory, its index and a shard alone can be named."""
    path = {"directory": pristine, "index": pristine / "index.rix", "shard": shard(pristine, 1)}[what]
    assert verify(path).num_records == (RECORDS_PER_SHARD if what == "shard" else 60)


def test_no_flipped_bit_of_a_data_set_goes_unnoticed(pristine: Path, tmp_path: Path) -> None:
    """Every byte of a shard, under its index, is covered: values, structures and padding alike (format.md, 12)."""
    data = Path(shutil.copytree(pristine, tmp_path / "data"))
    target = shard(data, 2)
    content = target.read_bytes()
    silent = []
    for offset in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[offset] ^= 1 << offset % 8
        target.write_bytes(damaged)
        report = verify(data, workers=1)
        if report.ok or any(damage.shard != 2 for damage in report.damages):
            silent.append(offset)
    assert silent == []


def test_no_flipped_bit_of_an_index_goes_unnoticed(pristine: Path, tmp_path: Path) -> None:
    """The index is judged by itself, and the shards all the same."""
    data = Path(shutil.copytree(pristine, tmp_path / "data"))
    target = data / "index.rix"
    content = target.read_bytes()
    for offset in range(0, len(content), 3):
        damaged = bytearray(content)
        damaged[offset] ^= 1 << offset % 8
        target.write_bytes(damaged)
        report = verify(data, workers=1)
        assert not report.ok, offset
        assert {damage.path for damage in report.damages} == {str(target)}, offset
        assert report.num_records == 60


def test_every_cut_of_a_shard_alone_is_found(pristine: Path, tmp_path: Path) -> None:
    """A shard that was cut anywhere is damaged, never right."""
    content = shard(pristine, 0).read_bytes()
    path = tmp_path / "cut.rio"
    for size in range(0, len(content), 13):
        path.write_bytes(content[:size])
        assert not verify(path).ok, size


def test_all_damaged_places_are_named(data: Path) -> None:
    """Two frames of one chunk, another chunk's directory, a footer: four findings, each with its place."""
    found = recordio.verify(data)
    assert found.ok
    reader_shard = recordio.open(data)._recipe.reader.shard(1)  # type: ignore[union-attr]
    table = reader_shard.table
    directory = reader_shard.read_directory(0)
    path = Path(reader_shard.path)
    first, last = directory.columns[0], directory.columns[1]
    flip(path, int(table.offsets[0]) + first.offset + 3)
    flip(path, int(table.offsets[0]) + last.offset)
    flip(path, int(table.offsets[1]) + 64 + 5)  # in the directory
    flip(path, int(table.offsets[-1]) + 70)  # in the footer's chunk table
    report = verify(data)
    rows = (20, 20 + first.frames[0].num_records)
    assert [(damage.kind, damage.chunk, damage.column, damage.records) for damage in report.damages] == [
        ("ChecksumError", 0, "image", rows),
        ("ChecksumError", 0, "text", (20, 20 + last.frames[0].num_records)),
        ("ChecksumError", 1, None, (20 + int(table.first_records[1]), 20 + int(table.first_records[2]))),
        ("ChecksumError", None, None, None),
    ]
    assert report.damages[0].offset == int(table.offsets[0]) + first.offset
    assert {(damage.path, damage.shard) for damage in report.damages} == {(str(path), 1)}
    with pytest.raises(ChecksumError, match="and 3 more damaged places") as raised:
        report.raise_for_damage()
    assert raised.value.column == "image" and raised.value.records == rows


def test_padding_is_reported_and_costs_nothing(data: Path) -> None:
    """Padding that is not zero is a damage without records (format.md, section 12)."""
    reader_shard = recordio.open(data)._recipe.reader.shard(0)  # type: ignore[union-attr]
    column = reader_shard.read_directory(0).columns[0]
    flip(Path(reader_shard.path), int(reader_shard.table.offsets[0]) + column.offset + column.stored_size)
    (damage,) = verify(data).damages
    assert "padding" in damage.message and damage.records is None
    assert verify(data).lost_records == 0
    assert len(list(recordio.open(data))) == 60


def test_cut_shard_is_one_finding(data: Path) -> None:
    """A shard that was cut loses the chunks behind the cut; those in front are checked all the same."""
    table = recordio.open(data)._recipe.reader.shard(1).table  # type: ignore[union-attr]
    os.truncate(shard(data, 1), int(table.offsets[1]) + 10)
    report = verify(data)
    (damage,) = report.damages
    assert damage.kind == "TruncatedError" and damage.records == (20 + int(table.first_records[1]), 40)
    assert report.lost_records == 20 - int(table.first_records[1])
    with pytest.raises(TruncatedError):
        report.raise_for_damage()


def test_missing_and_foreign_shards_are_told_apart(data: Path) -> None:
    """A missing shard, and one with the bytes of another data set, are findings of their own."""
    shard(data, 0).rename(data / "elsewhere")
    shutil.copy(shard(data, 1), shard(data, 0))
    report = verify(data)
    kinds = [(damage.kind, damage.shard) for damage in report.damages]
    assert ("MismatchError", 0) in kinds and report.lost_records >= 20


def test_a_shard_that_is_no_file_does_not_hide_the_others(data: Path) -> None:
    """Its records are lost, and the damage in the next shard is named all the same."""
    strange, damaged = shard(data, 0), shard(data, 1)
    strange.unlink()
    strange.mkdir()
    flip(damaged, damaged.stat().st_size // 2)
    found = verify(data)
    assert [damage.shard for damage in found.damages] == [0, 1]
    assert found.damages[0].records == (0, RECORDS_PER_SHARD) and "no regular file" in found.damages[0].message


def test_files_that_the_index_does_not_name_are_noted(data: Path) -> None:
    """They are no damage: an interrupted overwrite leaves them (format.md, section 9)."""
    stranger = data / "shard-00007-00000000.rio"
    shutil.copy(shard(data, 0), stranger)
    report = verify(data)
    assert report.ok and any(stranger.name in note for note in report.notes)


def test_shards_are_checked_without_their_index(data: Path) -> None:
    """A damaged index is one finding; a damaged shard beside it is another."""
    flip(data / "index.rix", 70)
    target = shard(data, 2)
    flip(target, target.stat().st_size // 2)
    report = verify(data)
    assert {damage.path for damage in report.damages} == {str(data / "index.rix"), str(target)}
    assert report.num_records == 60


def test_torn_shard_is_checked_as_far_as_it_goes(data: Path) -> None:
    """Without a trailer, chunks are found by their headers; a damaged one between them is named."""
    reader_shard = recordio.open(data)._recipe.reader.shard(0)  # type: ignore[union-attr]
    path, table = Path(reader_shard.path), reader_shard.table
    os.truncate(path, int(table.offsets[-1]))
    flip(path, int(table.offsets[1]) + 30)  # in a chunk header
    report = verify(path)
    assert [damage.kind for damage in report.damages] == ["MalformedError", "IncompleteError"]
    assert report.damages[0].offset == int(table.offsets[1]) and report.damages[0].chunk == 1
    assert report.damages[0].records == (int(table.first_records[1]), int(table.first_records[2]))
    assert report.num_chunks == len(table) - 1


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    """Nothing there, nothing of ours, nothing finished: three errors."""
    with pytest.raises(FileNotFoundError):
        verify(tmp_path / "nothing")
    with pytest.raises(NotRecordIOError):
        verify(tmp_path)
    (tmp_path / "text.rio").write_text("hello, this is no record file at all" * 9)
    with pytest.raises(NotRecordIOError):
        verify(tmp_path / "text.rio")
    (tmp_path / ".unfinished").mkdir()
    with pytest.raises(IncompleteError):
        verify(tmp_path)


def test_threads_find_what_one_finds(data: Path) -> None:
    """The report does not depend on the workers, and its order is that of the records."""
    for shard_id in range(3):
        target = shard(data, shard_id)
        for offset in range(400, target.stat().st_size - 400, 300):
            flip(target, offset)
    one, many = verify(data, workers=1), verify(data, workers=4)
    assert one.damages == many.damages and len(one.damages) > 10
    assert [damage.shard for damage in one.damages] == sorted(damage.shard for damage in one.damages)


def test_progress_ends_at_everything(pristine: Path) -> None:
    """The last report has all records and shards."""
    seen: list[Progress] = []
    verify(pristine, progress=seen.append)
    assert (seen[-1].done_records, seen[-1].done_shards, seen[-1].total_records) == (60, 3, 60)
    assert [one.done_records for one in seen] == sorted(one.done_records for one in seen)


def test_report_is_json(data: Path) -> None:
    """Keys are those of the report and of its damages, always all of them."""
    import json

    flip(shard(data, 0), 500)
    found = json.loads(json.dumps(verify(data).to_dict()))
    assert set(found) == {
        "path", "ok", "num_shards", "num_chunks", "num_frames", "num_records", "lost_records", "raw_size",
        "stored_size", "duration_s", "damages", "notes",
    }  # fmt: skip
    assert set(found["damages"][0]) == {
        "kind", "message", "path", "shard", "chunk", "column", "offset", "records", "advice",
    }  # fmt: skip
