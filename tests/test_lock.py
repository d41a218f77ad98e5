"""The lock of a data set directory: one writer, and everybody can ask who it is."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from recordio.errors import LockedError
from recordio.lock import WriteLock, is_locked


def make(tmp_path: Path) -> WriteLock:
    return WriteLock(str(tmp_path / "lock"), directory=str(tmp_path))


def test_one_holds_it_at_a_time(tmp_path: Path) -> None:
    """The second is told process and host, and where; after the release it is free."""
    first, second = make(tmp_path), make(tmp_path)
    first.acquire()
    with pytest.raises(LockedError, match=f"process {os.getpid()} on {socket.gethostname()}") as caught:
        second.acquire()
    assert caught.value.path == str(tmp_path)
    assert is_locked(first.path) == f"process {os.getpid()} on {socket.gethostname()}"
    first.release()
    assert not (tmp_path / "lock").exists() and is_locked(first.path) is None
    second.acquire()
    first.release()  # holds nothing, and takes nothing away
    assert is_locked(second.path) is not None
    second.release()


@pytest.mark.parametrize("left", [b"", b"{", b'{"pid": "x"}', b"[]", b"\xff" * 2000])
def test_what_a_killed_holder_left_does_not_matter(tmp_path: Path, left: bytes) -> None:
    """The operating system has dropped its lock; whatever the file says."""
    (tmp_path / "lock").write_bytes(left)
    assert is_locked(str(tmp_path / "lock")) is None
    lock = make(tmp_path)
    lock.acquire()
    with pytest.raises(LockedError, match=f"process {os.getpid()}"):
        make(tmp_path).acquire()
    lock.release()


def test_asking_changes_nothing(tmp_path: Path) -> None:
    """Neither a file that is not there nor one that is."""
    assert is_locked(str(tmp_path / "lock")) is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "lock").write_bytes(b"x")
    is_locked(str(tmp_path / "lock"))
    assert (tmp_path / "lock").read_bytes() == b"x"


def test_several_share_it_and_exclude_whoever_wants_it_alone(tmp_path: Path) -> None:
    """Until the last of them has let go; none of them is named, and none takes the file from the others."""
    first, second, alone = make(tmp_path), make(tmp_path), make(tmp_path)
    first.acquire(shared=True)
    second.acquire(shared=True)
    for left in (first, second):
        with pytest.raises(LockedError, match="another process is writing here"):
            alone.acquire()
        assert is_locked(alone.path) == "another process"
        left.release()
    alone.acquire()
    with pytest.raises(LockedError, match=f"process {os.getpid()}"):
        first.acquire(shared=True)
    alone.release()
    assert not (tmp_path / "lock").exists()


def test_a_patient_writer_gets_it_when_it_is_free(tmp_path: Path) -> None:
    """And not before."""
    first, second = make(tmp_path), make(tmp_path)
    first.acquire()
    thread = threading.Thread(target=second.acquire, kwargs={"shared": True, "patience_s": 60.0})
    thread.start()
    thread.join(0.1)
    assert thread.is_alive()
    first.release()
    thread.join(30)
    assert not thread.is_alive() and is_locked(second.path) is not None
    second.release()
