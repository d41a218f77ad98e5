"""The open files of a data set in one process.

A process that was forked makes its own (`recordio.process_local`): open files must not be shared. Where the process may
open no more of them, all data sets let theirs go.
"""

from __future__ import annotations

import errno
import os
import threading
import weakref
from collections import OrderedDict

from recordio.storage import ReadHandle, Storage

_MAX_OPEN_FILES = 256


class OpenFiles:
    """Least recently used first out. Safe from many threads."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._lock = threading.Lock()
        self._handles: OrderedDict[str, ReadHandle] = OrderedDict()
        self._process_id = os.getpid()
        _all.add(self)

    def open(self, path: str) -> ReadHandle:
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
            for files in list(_all):
                files.close()
            handle = self._storage.open(path)
        with self._lock:
            self._handles[path] = handle
            while len(self._handles) > _MAX_OPEN_FILES:
                self._handles.popitem(last=False)
        return handle

    def close(self) -> None:
        """Let all files go; those that are being read close when their read has ended."""
        # The lock of a cache of the process that this is a fork of may be held by a thread that is not here.
        if self._process_id == os.getpid():
            with self._lock:
                self._handles.clear()


_all: weakref.WeakSet[OpenFiles] = weakref.WeakSet()
