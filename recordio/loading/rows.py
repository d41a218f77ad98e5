"""Where rows come from that do not come in order: what every way of it has in common.

    exact      all rows, decoded once and kept from epoch to epoch       recordio.loading.held
    pooled     the segments of the windows that are open                 recordio.loading.pooled
    anything   rows by number, frame by frame                            NumberedRows

    plan of a block -> begin(): tasks that decode what is not there yet -> gather(): rows in the order asked

A gathered block is new memory and nobody else's. Every byte was verified when it was decoded. Under
on_corrupt="skip" what cannot be read is left out, and said.

Spec: spec/order.md, sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from recordio.buffers import Buffers
from recordio.columns import Array, ColumnValues
from recordio.errors import DataError
from recordio.metering import Totals, measured
from recordio.rows import LostRange, OnCorrupt
from recordio.schema import Schema


class RowReader(Protocol):
    """What is needed of a reader, of files or of memory."""

    @property
    def schema(self) -> Schema: ...
    @property
    def buffers(self) -> Buffers: ...
    def rows(self, numbers: Array, ordinals: Sequence[int]) -> list[ColumnValues]: ...


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Rows of a block, in the order in which they are handed out; int64[m] each.

    Attributes:
        epochs: number of the epoch of each, or one for all.
        positions: within the epoch.
        segments: of a pooled order.
        rows: rows, or places among the held ones.
        find_numbers: gives the record numbers, which only some ways of reading need.
    """

    epochs: Array | int
    positions: Array
    segments: Array | None = None
    rows: Array
    find_numbers: Callable[[], Array]

    @cached_property
    def numbers(self) -> Array:
        """Record numbers."""
        return self.find_numbers()

    def pick(self, places: Array) -> Wanted:
        """Some of the rows."""
        return Wanted(
            epochs=self.epochs if isinstance(self.epochs, int) else self.epochs[places],
            positions=self.positions[places],
            segments=None if self.segments is None else self.segments[places],
            rows=self.rows[places],
            find_numbers=lambda: self.numbers[places],
        )


@dataclass(frozen=True, slots=True)
class Gathered:
    """Rows of a block that could be read: all of those wanted, or the ones at `kept` (int64, ascending)."""

    columns: list[ColumnValues]
    kept: Array | None = None


class Store(Protocol):
    """Rows of an order, as long as they are needed."""

    def begin(self, wanted: Wanted, executor: Executor) -> list[Future[Any]]:
        """Submit what must be decoded for a block that is not there yet; gives all that the block waits for."""
        ...

    def gather(self, wanted: Wanted) -> Gathered:
        """The rows of a block, in new memory; everything that `begin` gave is done."""
        ...

    def release(self, epoch: int, position: int) -> None:
        """Positions before this one do not come any more, and no block that holds them is at work."""
        ...

    def close(self) -> None:
        """Nothing is asked for any more, and no task is at work."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberedRows:
    """Rows by number, as the reader has them: of memory, or of orders that come back to a chunk at any time."""

    reader: RowReader
    ordinals: tuple[int, ...]
    on_corrupt: OnCorrupt
    note_lost: Callable[[Sequence[LostRange]], None]
    stats: Totals

    def begin(self, wanted: Wanted, executor: Executor) -> list[Future[Any]]:
        del wanted, executor
        return []

    def gather(self, wanted: Wanted) -> Gathered:
        with measured() as spent:
            try:
                found = Gathered(self.reader.rows(wanted.numbers, self.ordinals))
            except DataError:
                if self.on_corrupt == "raise":
                    raise
                found = self._survivors(wanted.numbers)
        self.stats.add_decoded(spent)
        return found

    def release(self, epoch: int, position: int) -> None:
        del epoch, position

    def close(self) -> None:
        pass

    def _survivors(self, numbers: Array) -> Gathered:
        """What can be read: what is lost around each number is found by reading in order."""
        reader: Any = self.reader
        _, _, ends = reader.chunk_table()
        lost: list[LostRange] = []
        for chunk in np.unique(np.searchsorted(ends, numbers, side="right")).tolist():
            start, stop = int(ends[chunk - 1]) if chunk else 0, int(ends[chunk])
            for piece in reader.read_range(start, stop, self.ordinals, "skip", Buffers(0)):
                lost.extend(piece.lost)
        self.note_lost(lost)
        is_lost = np.zeros(len(numbers), np.bool_)
        for found in lost:
            is_lost |= (numbers >= found.start) & (numbers < found.stop)
        kept = np.flatnonzero(~is_lost)
        return Gathered(self.reader.rows(numbers[kept], self.ordinals), kept)
