"""A lock on a data set directory, for writers: the second is told who holds it.

One holds it alone, or several together (the tasks of an array job): those exclude whoever wants it alone.

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

# A reader that asks who is writing (`is_locked`) holds the lock for an instant.
PATIENCE_S = 0.05
_PAUSE_S = 0.01


class WriteLock:
    """Holds `path` locked from `acquire` to `release`."""

    def __init__(self, path: str, *, directory: str) -> None:
        self.path = path
        self.directory = directory
        self._fd = -1
        self._shared = False

    def acquire(self, *, shared: bool = False, patience_s: float = PATIENCE_S) -> None:
        """Take the lock, within `patience_s` seconds.

        Args:
            shared: together with others that share it, of whom none is named; on Windows, without a lock.

        Raises:
            LockedError: another writer holds it; says which process, on which machine.
        """
        deadline = time.monotonic() + patience_s
        while True:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
            try:
                if not _try_lock(fd, shared=shared):
                    if time.monotonic() < deadline:
                        os.close(fd)
                        time.sleep(_PAUSE_S)
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
        self._fd, self._shared = fd, shared
        os.ftruncate(fd, 0)
        if not shared:
            os.pwrite(fd, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)

    def release(self) -> None:
        """Drop the lock, and remove the file if nobody else can hold it; does nothing when it is not held."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            if not self._shared:
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
        return None if _try_lock(fd, shared=False) else _holder(fd)
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

    def _try_lock(fd: int, *, shared: bool) -> bool:
        if shared:
            return True
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]  # Windows only
        except OSError:
            return False
        return True
else:
    import fcntl

    def _try_lock(fd: int, *, shared: bool) -> bool:
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
