"""The work directory: what a job may replace, what it removes, and what it goes on from."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import recordio
from recordio.errors import IncompleteError, LockedError, RequestError
from recordio.job import Job
from recordio.job_paths import named_by_index
from recordio.storage import LOCAL
from tests.laws.data_sets import files_of

RECORDS = [{"number": number} for number in range(300)]
REQUEST = {"resumable": True, "num_shards": 2}
SPEC = recordio.TensorSpec((), "int32")


def data_set(path: Path) -> Path:
    with recordio.Writer(path, SPEC, shard_size=8) as writer:
        writer.write_batch([1, 2, 3, 4])
    return path


def test_a_job_that_is_left_can_be_gone_on_with(tmp_path: Path) -> None:
    """With an equal request, and only by one at a time."""
    first = Job(LOCAL, str(tmp_path / "set"))
    assert first.begin(REQUEST, overwrite=False, resume=True) is False
    second = Job(LOCAL, str(tmp_path / "set"))
    with pytest.raises(LockedError):
        second.begin(REQUEST, overwrite=False, resume=True)
    first.leave()
    with pytest.raises(RequestError, match="resume=True"):
        second.begin(REQUEST, overwrite=False, resume=False)
    with pytest.raises(RequestError, match="num_shards = 2, not 3"):
        second.begin({**REQUEST, "num_shards": 3}, overwrite=False, resume=True)
    assert second.begin(REQUEST, overwrite=False, resume=True) is True
    second.discard()
    assert list((tmp_path / "set").iterdir()) == []  # the first one made the directory


@pytest.mark.parametrize("left", [b"", b"{", b"[]", b'{"version": 99}', b"\xff"])
def test_a_request_that_cannot_be_read_is_none(tmp_path: Path, left: bytes) -> None:
    """What a killed job left half-written is begun again."""
    (tmp_path / "set" / ".unfinished").mkdir(parents=True)
    (tmp_path / "set" / ".unfinished" / "job.json").write_bytes(left)
    job = Job(LOCAL, str(tmp_path / "set"))
    assert job.begin(REQUEST, overwrite=False, resume=True) is False
    job.leave()


def test_an_index_that_cannot_be_read_is_not_replaced(tmp_path: Path) -> None:
    """Its shards may be all that is left: nothing is removed on the word of a damaged index."""
    path = data_set(tmp_path / "set")
    index = path / "index.rix"
    index.write_bytes(b"damaged")
    before = files_of(path)
    with pytest.raises(IncompleteError) as caught:
        with recordio.Writer(path, SPEC, overwrite=True) as writer:
            writer.write(1)
    assert caught.value.path == str(index)
    assert files_of(path) == before


def test_files_that_no_index_names_are_removed_by_the_next_job(tmp_path: Path) -> None:
    """Shards only; whatever else is there stays."""
    path = data_set(tmp_path / "set")
    named = named_by_index(LOCAL, str(path))
    (path / "shard-00007-0123abcd.rio").write_bytes(b"left over")
    (path / "README").write_bytes(b"mine")
    with recordio.Writer(path, SPEC, shard_size=8, overwrite=True) as writer:
        writer.write_batch([1, 2, 3, 4])
    assert set(files_of(path)) == named | {"index.rix", "README"}


@pytest.mark.parametrize(
    "note", [b"", b"{}", b"[]", b'{"name": "../../etc/passwd"}', b'{"name": "shard-00000-00000000.rio"}']
)
def test_a_note_that_is_not_right_means_write_again(tmp_path: Path, note: bytes) -> None:
    """A shard counts as finished only if the note is right and the shard is the one it names."""
    job = Job(LOCAL, str(tmp_path / "set"))
    job.begin(REQUEST, overwrite=False, resume=False)
    (tmp_path / "set" / ".unfinished" / "shard-00000.done").write_bytes(note)
    assert job.paths.finished(0) is None
    job.discard()


def test_a_finished_shard_is_verified_before_it_counts(tmp_path: Path) -> None:
    """Digest, ordinal, and being the last one or not."""
    path = data_set(tmp_path / "set")
    shard = recordio.open(path).shards[0].name
    from recordio.shards.shard_reader import read_shard_front

    front = read_shard_front(LOCAL, str(path / shard))
    job = Job(LOCAL, str(path))
    (path / ".unfinished").mkdir()
    good = {"name": shard, "digest": front.footer.digest.hex(), "last": False, "details": {}}
    for changed, expected in (
        ({}, True),
        ({"last": True}, False),
        ({"digest": "00" * 32}, False),
        ({"digest": "x"}, False),
    ):
        (path / ".unfinished" / "shard-00000.done").write_text(json.dumps(good | changed))
        assert (job.paths.finished(0) is not None) == expected
    (path / ".unfinished" / "shard-00001.done").write_text(json.dumps(good))
    assert job.paths.finished(1) is None


# -- the order in which things become durable --


@dataclass(frozen=True)
class Thing:
    """One thing done to the disk; files and directories are known by their inodes, which a rename does not change."""

    what: str
    inode: int
    thread: int
    directory: int = 0
    name: str = ""


def things_done(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> list[Thing]:
    """Everything that work asks of the operating system, in order: write, sync, rename, remove."""
    done: list[Thing] = []
    writev, fsync, replace, remove = os.writev, os.fsync, os.replace, os.remove

    def note(what: str, inode: int, **where: Any) -> None:
        done.append(Thing(what, inode, threading.get_ident(), **where))

    def noted_writev(fd: int, buffers: Any) -> int:
        note("write", os.fstat(fd).st_ino)
        return writev(fd, buffers)

    def noted_fsync(fd: int) -> None:
        fsync(fd)
        note("sync", os.fstat(fd).st_ino)

    def noted_replace(old: str, new: str) -> None:
        place = os.stat(os.path.dirname(new)).st_ino
        note("rename", os.stat(old).st_ino, directory=place, name=os.path.basename(new))
        replace(old, new)

    def noted_remove(path: str) -> None:
        note("remove", os.stat(path).st_ino if os.path.exists(path) else 0, name=os.path.basename(path))
        remove(path)

    with monkeypatch.context() as patch:
        for name, noted in (
            ("writev", noted_writev), ("fsync", noted_fsync), ("replace", noted_replace), ("remove", noted_remove)
        ):  # fmt: skip
            patch.setattr(os, name, noted)
        work()
    return done


def write_records(path: Path, **options: Any) -> None:
    with recordio.Writer(path, {"number": SPEC}, overwrite=True, **options) as writer:
        for record in RECORDS:
            writer.write(record)


def convert_records(path: Path, **options: Any) -> None:
    recordio.convert(lambda: iter(RECORDS), path, output_signature={"number": SPEC}, overwrite=True, **options)


def convert_parts(path: Path, **options: Any) -> None:
    recordio.convert(RECORDS, path, output_signature={"number": SPEC}, overwrite=True, **options)


@pytest.mark.parametrize("options", [{"shard_size": 400}, {"num_shards": 3}], ids=["by size", "by number"])
@pytest.mark.parametrize("work", [write_records, convert_records, convert_parts])
def test_data_is_durable_before_what_names_it(
    work: Callable[..., None], options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is synced before its rename, its directory right after; the index is renamed last, and only then does
    anything of the old data set go (spec/format.md, section 9)."""
    path = data_set(tmp_path / "set")
    done = things_done(monkeypatch, lambda: work(path, chunk_size=100, **options))
    renamed = [place for place, thing in enumerate(done) if thing.what == "rename"]
    for place in renamed:
        before = [thing.what for thing in done[:place] if thing.inode == done[place].inode]
        assert before[-2:] == ["write", "sync"], done[place].name
        after = next(thing for thing in done[place + 1 :] if thing.thread == done[place].thread)
        assert (after.what, after.inode) == ("sync", done[place].directory), done[place].name
    names = [done[place].name for place in renamed]
    assert names[-1] == "index.rix" and names.count("index.rix") == 1
    shards = [shard.name for shard in recordio.open(path).shards]
    assert sorted(name for name in names if name.endswith(".rio")) == shards and len(shards) == 3
    removed = [place for place, thing in enumerate(done) if thing.what == "remove" and "spool" not in thing.name]
    assert any(done[place].name.endswith(".rio") for place in removed)
    assert all(place > renamed[-1] + 1 for place in removed if done[place].name.endswith(".rio"))
    assert "write" not in [thing.what for thing in done[renamed[-1] :]]
