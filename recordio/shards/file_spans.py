"""What a run of chunks is read from: an open file, or a part of one that was read at once."""

from __future__ import annotations

from collections.abc import Sequence

from recordio.buffers import Buffers
from recordio.errors import MalformedError
from recordio.metering import add_read, clock
from recordio.storage import ReadHandle, fill


class Metered:
    """An open file that counts the time of its reads."""

    def __init__(self, handle: ReadHandle) -> None:
        self.path, self.size = handle.path, handle.size
        self._handle = handle

    def read(self, offset: int, size: int) -> memoryview:
        """As `ReadHandle.read`."""
        started = clock()
        data = self._handle.read(offset, size)
        add_read(started)
        return data

    def read_into(self, offset: int, buffers: Sequence[memoryview]) -> None:
        """As `ReadHandle.read_into`."""
        started = clock()
        self._handle.read_into(offset, buffers)
        add_read(started)


class Span:
    """A part of a file that was read at once; what is read of it are views."""

    def __init__(self, path: str, offset: int, data: memoryview) -> None:
        self.path = path
        self.size = offset + len(data)
        self._offset = offset
        self._data = data

    @classmethod
    def of(cls, handle: ReadHandle, offset: int, size: int, buffers: Buffers) -> Span:
        """Read the part, to memory that is lent."""
        # Length before contents: a damaged size must not become an allocation.
        if offset + size > handle.size:
            return cls(handle.path, offset, handle.read(offset, size))
        data = memoryview(buffers.take(size))
        handle.read_into(offset, [data])
        return cls(handle.path, offset, data)

    def read(self, offset: int, size: int) -> memoryview:
        """A view of the part; MalformedError if it reaches out of the span."""
        start = offset - self._offset
        if start < 0 or start + size > len(self._data):
            raise MalformedError("a chunk that reaches beyond its end")
        return self._data[start : start + size]

    def read_into(self, offset: int, buffers: Sequence[memoryview]) -> None:
        """Copies of the part."""
        fill(buffers, self.read(offset, sum(map(len, buffers))))
