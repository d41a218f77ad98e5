"""The only door to files.

Reads go to a place (`pread`), so that one handle serves any number of threads and survives a fork. Writes are made
under a temporary name by their callers; what makes them durable, `sync` and `sync_directory`, is here. Errors of the
operating system pass through untouched. Linux and macOS; Windows as far as it goes.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from recordio.errors import NotRecordIOError, TruncatedError

# Linux writes at most 0x7ffff000 bytes and 1,024 buffers a call.
_MAX_CALL_SIZE = 1 << 30
_MAX_CALL_BUFFERS = 512
_SMALL_SIZE = 16 << 10  # up to here a bytearray is made faster than an array, and read faster by way of bytes


class ReadHandle(Protocol):
    """An open file; read from any thread."""

    path: str
    size: int  # bytes, when it was opened

    def read(self, offset: int, size: int) -> memoryview:
        """Exactly `size` bytes from `offset`, in new writable memory.

        Raises:
            TruncatedError: the file ends before.
        """
        ...

    def read_into(self, offset: int, buffers: Sequence[memoryview]) -> None:
        """Fill buffers one after the other from `offset` on; raises as `read`."""
        ...


class WriteHandle(Protocol):
    """A file that is being written, from its end on."""

    def write(self, buffers: Sequence[bytes | memoryview]) -> None: ...
    def sync(self) -> None: ...
    def close(self) -> None: ...


class Storage(Protocol):
    """What recordio needs of a file system."""

    def anchored(self) -> Storage:
        """The same, for reading, with relative paths from where the process is now, wherever it goes later."""
        ...

    def open(self, path: str) -> ReadHandle: ...
    def create(self, path: str, *, keep: int = 0) -> WriteHandle:
        """Open for writing, after the first `keep` bytes; the rest is cut off."""
        ...

    def read_file(self, path: str) -> memoryview: ...
    def write_file(self, path: str, data: bytes) -> None:
        """Replace a small file as a whole: temporary name, sync, rename, sync of the directory."""
        ...

    def rename(self, old: str, new: str) -> None: ...
    def sync_directory(self, path: str) -> None: ...
    def make_directory(self, path: str) -> None: ...
    def list(self, path: str) -> list[str]: ...
    def exists(self, path: str) -> bool: ...
    def is_directory(self, path: str) -> bool: ...
    def size(self, path: str) -> int: ...
    def remove(self, path: str) -> None: ...
    def remove_empty_directory(self, path: str) -> None:
        """Remove a directory, unless something is in it."""
        ...

    def equal(self, left: str, right: str) -> bool: ...


class _LocalReadHandle:
    def __init__(self, path: str) -> None:
        self.path = path
        # Without O_NONBLOCK, opening a pipe would wait for its writer.
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
        self._fd = os.open(path, flags)
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            raise NotRecordIOError("this is no regular file", path=path)
        self.size = status.st_size

    def read(self, offset: int, size: int) -> memoryview:
        # Length before contents: a damaged size must not become an allocation.
        self._check_end(offset, size)
        if size <= _SMALL_SIZE and len(data := os.pread(self._fd, size, offset)) == size:
            return memoryview(bytearray(data))
        view = memoryview(np.empty(size, np.uint8))
        if os.preadv(self._fd, (view[:_MAX_CALL_SIZE],), offset) != size:
            self.read_into(offset, [view])
        return view

    def read_into(self, offset: int, buffers: Sequence[memoryview]) -> None:
        """Fill buffers one after the other from `offset` on."""
        left = sum(map(len, buffers))
        self._check_end(offset, left)
        if (
            left <= _MAX_CALL_SIZE
            and len(buffers) <= _MAX_CALL_BUFFERS
            and os.preadv(self._fd, buffers, offset) == left
        ):
            return
        pending = [buffer for buffer in buffers if len(buffer)]
        place = 0
        while place < len(pending):
            parts = pending[place : place + _MAX_CALL_BUFFERS]
            count = os.preadv(self._fd, parts if left <= _MAX_CALL_SIZE else [parts[0][:_MAX_CALL_SIZE]], offset)
            if not count:
                raise TruncatedError(
                    f"the file ends {left} bytes too early; it was cut while it was read", path=self.path, offset=offset
                )
            offset, left = offset + count, left - count
            while place < len(pending) and count >= len(pending[place]):
                count -= len(pending[place])
                place += 1
            if count:
                pending[place] = pending[place][count:]

    def _check_end(self, offset: int, size: int) -> None:
        if offset + size > self.size:
            raise TruncatedError(
                f"{size} bytes at {offset} lie beyond the end of the file, which has {self.size}",
                path=self.path,
                offset=offset,
            )

    def __del__(self) -> None:
        # Whoever reads holds a reference, so a handle that a cache drops closes when its last read is done. When the
        # interpreter ends, names of this module may be None already.
        try:
            os.close(self._fd)
        except (OSError, AttributeError):
            pass


def fill(buffers: Sequence[memoryview], data: memoryview) -> None:
    """Copy bytes into buffers, one after the other."""
    place = 0
    for buffer in buffers:
        buffer[:] = data[place : place + len(buffer)]
        place += len(buffer)


class _LocalWriteHandle:
    def __init__(self, path: str, keep: int) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        os.ftruncate(self._fd, keep)
        os.lseek(self._fd, keep, os.SEEK_SET)

    def write(self, buffers: Sequence[bytes | memoryview]) -> None:
        pending = [memoryview(part) for part in buffers if len(part)]
        place = 0
        while place < len(pending):
            count = os.writev(self._fd, pending[place : place + _MAX_CALL_BUFFERS])
            while place < len(pending) and count >= len(pending[place]):
                count -= len(pending[place])
                place += 1
            if count:
                pending[place] = pending[place][count:]

    def sync(self) -> None:
        os.fsync(self._fd)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class LocalStorage:
    """Files of this machine; relative paths count from `directory`, or else from wherever the process is."""

    directory = ""

    def anchored(self) -> Storage:
        if type(self) is not LocalStorage or self.directory:
            return self
        anchored = LocalStorage()
        anchored.directory = os.getcwd()
        return anchored

    def open(self, path: str) -> ReadHandle:
        return _LocalReadHandle(os.path.join(self.directory, path))

    def create(self, path: str, *, keep: int = 0) -> WriteHandle:
        return _LocalWriteHandle(path, keep)

    def read_file(self, path: str) -> memoryview:
        handle = self.open(path)
        return handle.read(0, handle.size)

    def write_file(self, path: str, data: bytes) -> None:
        # Nobody else's: two attempts at one task may write the same file at once.
        temporary = f"{path}.{os.urandom(4).hex()}.tmp"
        handle = self.create(temporary)
        try:
            handle.write([data])
            handle.sync()
        finally:
            handle.close()
        self.rename(temporary, path)
        self.sync_directory(os.path.dirname(path) or ".")

    def rename(self, old: str, new: str) -> None:
        os.replace(old, new)

    def sync_directory(self, path: str) -> None:
        if os.name == "nt":
            return  # directories cannot be synced there
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def make_directory(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)

    def list(self, path: str) -> list[str]:
        return sorted(os.listdir(os.path.join(self.directory, path)))

    def exists(self, path: str) -> bool:
        return os.path.exists(os.path.join(self.directory, path))

    def is_directory(self, path: str) -> bool:
        return os.path.isdir(os.path.join(self.directory, path))

    def size(self, path: str) -> int:
        return os.stat(os.path.join(self.directory, path)).st_size

    def remove(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)

    def remove_empty_directory(self, path: str) -> None:
        with contextlib.suppress(OSError):
            os.rmdir(path)

    def equal(self, left: str, right: str) -> bool:
        if self.size(left) != self.size(right):
            return False
        return all(a == b for a, b in zip(self._blocks(left), self._blocks(right), strict=True))

    def _blocks(self, path: str) -> Iterator[memoryview]:
        handle = self.open(path)
        for offset in range(0, handle.size, 1 << 20):
            yield handle.read(offset, min(1 << 20, handle.size - offset))


LOCAL = LocalStorage()
