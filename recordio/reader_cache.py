"""What one process keeps of a data set that it reads: checked chunk tables, decoded frames, memory to lend.

Open files are kept apart (`recordio.open_files`): the readers of shards, which are kept here, know those and not this,
so that a data set that nobody holds any more is gone at once, with all its memory, and not when garbage is collected.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from recordio.buffers import Buffers
from recordio.columns import ColumnValues, offsets
from recordio.format.chunk import Directory
from recordio.shards.shard_reader import ShardReader

_ENTRY_SIZE = 700  # bytes of an entry besides the data: key, links, array objects; an estimate

Key = tuple[int, int, int, int]  # shard, chunk, column and frame; -1 for a directory


class Frame:
    """Decoded rows of a frame: to be copied from, never handed out.

    Attributes:
        leaf: gives a single row as users get it; made when it is first wanted.
    """

    __slots__ = ("_bounds", "leaf", "rows")

    def __init__(self, rows: ColumnValues) -> None:
        self.rows = rows
        self.leaf: Callable[[int], Any] | None = None
        self._bounds: memoryview | None = None

    @property
    def bounds(self) -> memoryview:
        """int64[rows + 1]: where rows of one dimension, or strings, begin in the values."""
        if self._bounds is None:
            sizes: Any = self.rows.dims if self.rows.lengths is None else self.rows.lengths
            self._bounds = offsets(sizes.reshape(-1)).data
        return self._bounds


class Chunk:
    """A directory, and of each column what is first made when it is wanted.

    Attributes:
        ends: row after the last one of each frame.
        starts: bytes from the start of the file at which frames begin, once the column's entry was checked.
    """

    __slots__ = ("directory", "ends", "starts")

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        self.ends: list[list[int] | None] = [None] * len(directory.columns)
        self.starts: list[list[int] | None] = [None] * len(directory.columns)


class ReaderCache:
    """Frames by bytes, least recently used first out. Safe from many threads."""

    def __init__(self, size: int) -> None:
        self.shards: dict[int, ShardReader] = {}
        self.chunk_starts: dict[int, list[int]] = {}  # of shards: record numbers at which chunks begin
        self.buffers = Buffers()  # from epoch to epoch
        self._size = size  # bytes of decoded frames
        self._lock = threading.Lock()
        self._entries: OrderedDict[Key, tuple[Any, int]] = OrderedDict()
        self._filled = 0

    def get(self, key: Key) -> Any:
        """What is kept under the key, or None."""
        entries = self._entries
        entry = entries.get(key)
        if entry is None:
            return None
        # Without the lock, which takes as long as all the rest: another thread may have let it go meanwhile.
        try:
            entries.move_to_end(key)
        except KeyError:
            pass
        return entry[0]

    def keep(self, key: Key, value: Any, size: int) -> None:
        """Keep a value of `size` bytes, if it fits, in the place of those not used for longest."""
        size += _ENTRY_SIZE
        if size > self._size:
            return
        with self._lock:
            earlier = self._entries.pop(key, None)
            self._filled += size - (earlier[1] if earlier else 0)
            self._entries[key] = (value, size)
            while self._filled > self._size:
                self._filled -= self._entries.popitem(last=False)[1][1]
