"""The work directory: what a job may replace, what it removes, and what it goes on from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import recordio
from recordio.errors import IncompleteError, LockedError, RequestError
from recordio.job import Job
from recordio.job_paths import named_by_index
from recordio.storage import LOCAL
from tests.laws.data_sets import files_of

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
