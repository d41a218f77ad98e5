"""A lock on a data set directory, for writers: the second is told who holds it.

The operating system drops the lock when its holder ends, however it ends, so a killed writer never blocks the next;
unless it had forked: what it forked holds the lock with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from typing import Any

from recordio.errors import LockedError

_TRIES = 5
_PAUSE_S = 0.01


class WriteLock:
    """Holds `path` locked from `acquire` to `release`."""

    def __init__(self, path: str, *, directory: str) -> None:
        self.path = path
        self.directory = directory
        self._fd = -1

    def acquire(self) -> None:
        """Take the lock at once.

        Raises:
            LockedError: another writer holds it; says which process, on which machine.
        """
        tries = _TRIES
        while True:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
            try:
                if not _try_lock(fd):
                    tries -= 1
                    if tries:
                        # A reader that asks who is writing (`is_locked`) holds the lock for an instant.
                        time.sleep(_PAUSE_S)
                        os.close(fd)
                        continue
                    holder = _holder(fd)
                    raise LockedError(
                        f"{holder} is writing here",
                        path=self.directory,
                        advice="Wait for it to end, or write to another path",
                    )
                # The holder removes the file when it is done: what was locked may be a removed one.
                if _same_file(fd, self.path):
                    break
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)
        self._fd = fd
        text = json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode()
        os.ftruncate(fd, 0)
        os.pwrite(fd, text, 0)

    def release(self) -> None:
        """Remove the file and drop the lock; does nothing when it is not held."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(FileNotFoundError):
                os.remove(self.path)
            os.close(fd)


def is_locked(path: str) -> str | None:
    """Who holds the lock, in words; None if nobody does."""
    try:
        fd = os.open(path, os.O_RDWR)
    except OSError:
        return None
    try:
        return None if _try_lock(fd) else _holder(fd)
    finally:
        os.close(fd)


def _holder(fd: int) -> str:
    try:
        holder: dict[str, Any] = json.loads(os.pread(fd, 1000, 0))
        return f"process {int(holder['pid'])} on {str(holder['host'])[:100]}"
    except (ValueError, KeyError, TypeError, OSError):
        return "another process"


def _same_file(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


if os.name == "nt":  # pragma: no cover
    import msvcrt

    def _try_lock(fd: int) -> bool:
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]  # Windows only
        except OSError:
            return False
        return True
else:
    import fcntl

    def _try_lock(fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
