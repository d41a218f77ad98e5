"""Budgets: bytes of what is under way at once, where the results weigh more than the number of items says.

    begun: items and results that are expected -> finished: results that wait -> handed out: nothing any more

What is counted is not known here.

Source: design.md, section 5.
"""

from __future__ import annotations

import threading

# A result that is put together takes twice its bytes: its parts, and itself. By then the item has been let go.
_PARTS = 2


class Budget:
    """Counts bytes under way; safe from many threads.

    Args:
        limit: bytes.
        row_size: bytes of a row of a result; None: as much as was seen at most.
        first: items that may be under way until a result was seen, where it is not known what they weigh.
    """

    def __init__(self, limit: int, row_size: float | None, first: int) -> None:
        self._limit, self._first = limit, first
        self._is_known = row_size is not None
        self._row_size = row_size or 0.0
        self._lock = threading.Lock()
        self._num_begun = 0
        self._rows = 0          # of items that are not finished
        self._item_size = 0     # bytes of these
        self._result_size = 0   # bytes of results that wait
        self._last = 0, 0       # rows and bytes of the item begun last: the next will be like it

    def begin(self, num_rows: int, item_size: int) -> None:
        """An item is under way."""
        with self._lock:
            self._num_begun += 1
            self._rows += num_rows
            self._item_size += item_size
            self._last = num_rows, item_size

    def finish(self, num_rows: int, item_size: int, result_size: int) -> None:
        """There is a result, and the item is not held any more."""
        with self._lock:
            self._rows -= num_rows
            self._item_size -= item_size
            self._result_size += result_size
            if not self._is_known or result_size > self._row_size * num_rows:
                self._row_size = max(self._row_size, result_size / max(1, num_rows))
                self._is_known = True

    def hand_out(self, result_size: int) -> None:
        """A result is the caller's."""
        with self._lock:
            self._result_size -= result_size

    def has_room(self) -> bool:
        """Whether one more item fits."""
        with self._lock:
            if not self._is_known and self._num_begun >= self._first:
                return False
            rows, item_size = self._last
            made = self._row_size * (self._rows + rows)
            return self._result_size + max(self._item_size + item_size + made, _PARTS * made) <= self._limit
