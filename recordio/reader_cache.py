"""What one process keeps of a data set that it reads: open files, checked chunk tables, decoded frames, memory to lend.

A process that was forked makes its own (`recordio.process_local`): open files must not be shared. Where the process may
open no more files, the caches of all data sets let theirs go.
"""

from __future__ import annotations

import errno
import os
import threading
import weakref
from collections import OrderedDict
from typing import Any

from recordio.buffers import Buffers
from recordio.shards.shard_reader import ShardReader
from recordio.storage import ReadHandle, Storage

_MAX_OPEN_FILES = 256
_ENTRY_SIZE = 700  # bytes of an entry besides the data: key, links, array objects; an estimate

Key = tuple[int, int, int, int]  # shard, chunk, column and frame; -1 for a directory


class ReaderCache:
    """Least recently used first out: files by number, frames by bytes. Safe from many threads."""

    def __init__(self, storage: Storage, size: int) -> None:
        self.shards: dict[int, ShardReader] = {}
        self.buffers = Buffers()  # from epoch to epoch
        self._storage = storage
        self._size = size  # bytes of decoded frames
        self._lock = threading.Lock()
        self._handles: OrderedDict[str, ReadHandle] = OrderedDict()
        self._entries: OrderedDict[Key, tuple[Any, int]] = OrderedDict()
        self._filled = 0
        self._process_id = os.getpid()
        _caches.add(self)

    def open_file(self, path: str) -> ReadHandle:
        """The open file; it is closed when it was dropped here and its last read has ended."""
        with self._lock:
            handle = self._handles.get(path)
            if handle is not None:
                self._handles.move_to_end(path)
                return handle
        try:
            handle = self._storage.open(path)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            for cache in list(_caches):
                cache.close_files()
            handle = self._storage.open(path)
        with self._lock:
            self._handles[path] = handle
            while len(self._handles) > _MAX_OPEN_FILES:
                self._handles.popitem(last=False)
        return handle

    def close_files(self) -> None:
        """Let all files go; those that are being read close when their read has ended."""
        # The lock of a cache of the process that this is a fork of may be held by a thread that is not here.
        if self._process_id == os.getpid():
            with self._lock:
                self._handles.clear()

    def get(self, key: Key) -> Any:
        """What is kept under the key, or None."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
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


_caches: weakref.WeakSet[ReaderCache] = weakref.WeakSet()
