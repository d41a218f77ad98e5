"""Views: which records of a data set are in view, and in which order.

    numbers   record numbers in the order of the view      what an order without a shuffle hands out
    rows      the same, ascending                          what a shuffle permutes

A view is an arithmetic sequence wherever it can be, and an array of numbers where it must be.

Spec: spec/order.md, sections 2, 4 and 9.1.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from recordio.plan.mixing import Array
from recordio.plan.tape import Tape


@dataclass(frozen=True, eq=False)
class View:
    """Record numbers in view, in order."""

    numbers: range | Array  # a range, or int64[N], which nobody may change

    def __len__(self) -> int:
        return len(self.numbers)

    def __reduce__(self) -> tuple[type[View], tuple[range | Array]]:
        return View, (self.numbers,)

    def slice(self, part: slice) -> View:
        """What a slice of the view shows."""
        numbers = self.numbers[part]
        if isinstance(numbers, range):
            # Steps of any size give these: arithmetic on them is in int64.
            numbers = numbers if len(numbers) > 1 else range(numbers[0], numbers[0] + 1) if numbers else range(0)
        return View(numbers)

    def pick(self, places: Array) -> View:
        """What places of the view show, in the order given: int64[m], in range; repeats are allowed."""
        steps = np.diff(places)
        if len(places) < 2 or (steps[0] != 0 and (steps == steps[0]).all()):
            # Kept as what it is: an arithmetic sequence of places.
            first = int(places[0]) if len(places) else 0
            step = int(steps[0]) if len(places) > 1 else 1
            stop = first + step * len(places)
            return self.slice(slice(first, stop if stop >= 0 else None, step)) if len(places) else View(range(0))
        return View(_frozen(self.at(places)))

    def at(self, places: Array) -> Array:
        """Record numbers at places of the view: int64[m]."""
        numbers = self.numbers
        if isinstance(numbers, range):
            found: Array = places * numbers.step
            found += numbers.start
            return found
        picked: Array = numbers[places]
        return picked

    @property
    def is_ascending(self) -> bool:
        """Whether rows and numbers are the same."""
        return isinstance(self.numbers, range) and (self.numbers.step > 0 or len(self.numbers) < 2)

    @property
    def ascending(self) -> View:
        """The rows of the view, as a view."""
        return self if self.is_ascending else self._sorted

    @cached_property
    def _sorted(self) -> View:
        if isinstance(self.numbers, range):
            return View(self.numbers[::-1])
        return View(_frozen(np.sort(self.numbers)))

    def rows_below(self, limits: Array) -> Array:
        """How many rows have numbers below each limit: int64[m] of int64[m]."""
        numbers = self.ascending.numbers
        if isinstance(numbers, range):
            count = -((numbers.start - limits) // numbers.step)
            clipped: Array = np.clip(count, 0, len(numbers))
            return clipped
        below: Array = numbers.searchsorted(limits).astype(np.int64)
        return below

    def tape(self, shards: Array, chunks: Array, ends: Array) -> Tape:
        """The chunks that hold a row.

        Args:
            shards, chunks: ordinals of all chunks of the data set, in order: int64[k].
            ends: the record number after the last one of each chunk: int64[k].
        """
        stops = self.rows_below(ends)
        counts = np.diff(stops, prepend=0)
        kept = np.flatnonzero(counts)
        return Tape(shards=shards[kept], chunks=chunks[kept], starts=(stops - counts)[kept], counts=counts[kept])

    def text(self) -> str:
        """What tells this view from another in a saved state."""
        numbers = self.numbers
        if isinstance(numbers, range):
            return f"{numbers.start}:{numbers.step}:{len(numbers)}"
        return hashlib.blake2b(numbers.astype("<i8").tobytes(), digest_size=16).hexdigest()


def view_digest(rows: View, after: View | None) -> str:
    """16 hexadecimal digits of the rows before and after a shuffle."""
    text = f"{rows.text()}|{'' if after is None else after.text()}"
    return hashlib.blake2b(text.encode("ascii"), digest_size=8).hexdigest()


def _frozen(numbers: Array) -> Array:
    numbers.flags.writeable = False
    return numbers
