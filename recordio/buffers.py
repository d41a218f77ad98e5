"""Memory that is used again once nobody holds it.

    take -> uint8[size], a view of a kept buffer -> views of the view, as many as users like -> all dropped -> take

Fresh memory costs a page fault every 4 KiB, which takes longer than many columns take to decode. A buffer is free when
no array, memoryview or tensor refers to it any more: they all hold a reference to the array that owns the memory, and
CPython counts these.
"""

from __future__ import annotations

import math
import sys
import threading

import numpy as np

from recordio.columns import Array

# Below this, malloc serves from memory that it has anyway.
_MIN_SIZE = 128 << 10
_STEPS = 8  # sizes between a power of two and the next, so that a buffer fits what is a little smaller


class Buffers:
    """Lends buffers; safe from many threads.

    Args:
        limit: bytes kept in all. Beyond it, free buffers are let go, the longest kept first; then others, which live as
            long as they are held.
    """

    def __init__(self, limit: int = 1 << 30) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._kept: list[Array] = []
        self._size = 0
        # How many references a free buffer has, counted as `take` counts them: it differs between Pythons.
        self._free_count = _num_references([np.empty(0, np.uint8)], 0) if _has_counts() else 0

    @property
    def size(self) -> int:
        """Bytes that are kept, lent or free."""
        return self._size

    def take(self, size: int) -> Array:
        """uint8[size], of any contents; nobody else has a view of it as long as the caller, or a view of it, lives."""
        if size < _MIN_SIZE or size > self._limit or not self._free_count:
            return np.empty(size, np.uint8)
        step = 1 << max(0, (size - 1).bit_length() - 1 - _STEPS.bit_length() + 1)
        capacity = -(-size // step) * step
        with self._lock:
            kept = self._kept
            # The one used last is the likeliest to be in a cache.
            for place in reversed(range(len(kept))):
                if capacity <= len(kept[place]) <= 2 * capacity and _num_references(kept, place) == self._free_count:
                    kept.append(kept.pop(place))
                    return kept[-1][:size]
            while kept and self._size + capacity > self._limit:
                free = (place for place in range(len(kept)) if _num_references(kept, place) == self._free_count)
                self._size -= len(kept.pop(next(free, 0)))
            kept.append(np.empty(capacity, np.uint8))
            self._size += capacity
            return kept[-1][:size]

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> Array:
        """An array of any contents, as `numpy.empty` makes it."""
        size = math.prod(shape) * dtype.itemsize
        return self.take(size).view(dtype).reshape(shape) if size else np.empty(shape, dtype)


def _num_references(kept: list[Array], place: int) -> int:
    return sys.getrefcount(kept[place])


def _has_counts() -> bool:
    """Whether references are counted exactly: in CPython, with the GIL."""
    return sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()
