"""A storage that counts what is read, and one that fails when it is told to."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recordio.storage import LocalStorage


@dataclass(frozen=True)
class Read:
    """One read of a file."""

    path: str
    offset: int
    size: int


class CountingStorage(LocalStorage):
    """Local files, with a list of every read."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.reads: list[Read] = []

    def open(self, path: str) -> Any:
        handle = super().open(path)
        self.opened.append(path)
        return _CountingHandle(handle, self.reads)

    def clear(self) -> None:
        self.opened.clear()
        self.reads.clear()


class _CountingHandle:
    def __init__(self, handle: Any, reads: list[Read]) -> None:
        self._handle = handle
        self._reads = reads
        self.path = handle.path
        self.size = handle.size

    def read(self, offset: int, size: int) -> memoryview:
        self._reads.append(Read(self.path, offset, size))
        return self._handle.read(offset, size)  # type: ignore[no-any-return]

    def read_into(self, offset: int, buffers: Sequence[memoryview]) -> None:
        self._reads.append(Read(self.path, offset, sum(map(len, buffers))))
        self._handle.read_into(offset, buffers)


class FailingStorage(LocalStorage):
    """Local files, on a disk that is full after so many bytes, or whose operations fail from the n-th on."""

    def __init__(self, *, space: int | None = None, fail: str = "", after: int = 0) -> None:
        self.space = space
        self.fail = fail
        self.after = after

    def create(self, path: str, *, keep: int = 0) -> Any:
        self._count("create", path)
        return _FullHandle(super().create(path, keep=keep), self)

    def rename(self, old: str, new: str) -> None:
        self._count("rename", new)
        super().rename(old, new)

    def make_directory(self, path: str) -> None:
        self._count("make_directory", path)
        super().make_directory(path)

    def sync_directory(self, path: str) -> None:
        self._count("sync_directory", path)
        super().sync_directory(path)

    def take(self, size: int) -> None:
        if self.space is not None:
            self.space -= size
            if self.space < 0:
                raise OSError(errno.ENOSPC, "No space left on device")

    def _count(self, operation: str, path: str) -> None:
        if operation == self.fail:
            self.after -= 1
            if self.after < 0:
                raise PermissionError(errno.EACCES, "Permission denied", path)


class _FullHandle:
    def __init__(self, handle: Any, storage: FailingStorage) -> None:
        self._handle = handle
        self._storage = storage

    def write(self, buffers: Sequence[bytes | memoryview]) -> None:
        for part in buffers:
            self._storage.take(len(part))
            self._handle.write([part])

    def sync(self) -> None:
        self._handle.sync()

    def close(self) -> None:
        self._handle.close()
