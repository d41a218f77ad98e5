"""What one pipeline reads in one span of steps: sizes and positions, by arithmetic.

    steps [first, stop)  ->  records of every slot, and the positions of all of them, in order

A span is an epoch, or several that batches run across. Where it begins, c0, and how many steps it has is decided here
too; what is at a position, in `recordio.plan.order` and `recordio.plan.view`.

Spec: spec/order.md, sections 5 to 8.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from recordio.plan.mixing import Array
from recordio.plan.splitting import Split
from recordio.plan.stream import Stream, pattern


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Consecutive steps of one pipeline.

    Attributes:
        first: number of the first one.
        sizes: int64[steps, slots], records of each slot.
        positions: int64[sum of sizes], in the span.
    """

    first: int
    sizes: Array
    positions: Array


@dataclass(frozen=True, kw_only=True)
class Span:
    """The steps of one pipeline from a first position on.

    Attributes:
        split: how batches are dealt out.
        num_records: N of the pipeline's order, in an epoch.
        repeats: epochs that batches run across, None without an end.
        num_lanes: L of the order, else 1.
        start: c0, the position at which a stream that all share begins.
        first_step: where an own stream begins.
        num_steps: in all, from position c0 on or from step 0 on; None without an end.
        limit: T, where a last batch that is not full is left out of a stream of its own.
    """

    split: Split
    num_records: int
    repeats: int | None = 1
    num_lanes: int = 1
    start: int = 0
    first_step: int = 0
    num_steps: int | None
    limit: int | None = None

    @property
    def total(self) -> int | None:
        """T, positions of the span; None without an end."""
        if self.limit is not None:
            return self.limit
        return None if self.repeats is None else self.num_records * self.repeats

    @cached_property
    def stream(self) -> Stream:
        """The order in which positions are handed out."""
        return Stream(
            num_records=self.num_records, start=self.start, stop=self.total, batch_size=self.split.sorted_size,
            num_lanes=self.num_lanes,
        )  # fmt: skip

    def slots(self, first: int, stop: int) -> tuple[Array, Array]:
        """First and last (half-open) place in the stream of what each slot gets at steps [first, stop)."""
        return self.split.slots(first, stop, self.stream)

    def steps(self, first: int, stop: int) -> Steps:
        """Plan the steps [first, stop)."""
        starts, stops = self.slots(first, stop)
        sizes = stops - starts
        positions = self._of_full_batches(first, starts, stops)
        if positions is not None:
            return Steps(first=first, sizes=sizes, positions=positions)
        flat = sizes.reshape(-1)
        total = int(flat.sum())
        places = np.arange(total, dtype=np.int64)
        places += np.repeat(starts.reshape(-1) - (np.cumsum(flat) - flat), flat)
        return Steps(first=first, sizes=sizes, positions=self.stream.positions(places))

    def _of_full_batches(self, first: int, starts: Array, stops: Array) -> Array | None:
        """Positions of steps that have the same part of full batches of one pattern; None if they are not such."""
        size, lanes = self.split.batch_size, self.num_lanes
        begin = self.start + first * size
        end = begin + len(starts) * size
        if (
            not len(starts)
            or self.split.has_own_stream
            or self.split.policy == "DATA"
            or (lanes > 1 and size % lanes)
            or (self.total is not None and end > self.total)
            or (lanes > 1 and begin // self.num_records != (end - 1) // self.num_records)
        ):
            return None
        low, high = int(starts[0, 0]) - first * size, int(stops[0, -1]) - first * size
        inside = np.arange(low, high, dtype=np.int64)
        if lanes > 1:
            inside = pattern(lanes, begin % self.num_records % lanes, size)[low:high]
        bases = np.arange(begin, end, size, dtype=np.int64)
        return (bases[:, None] + inside).reshape(-1)

    def blocks(self, steps_at_once: int) -> Iterator[Steps]:
        """All steps, some at a time."""
        for first, stop in self.bounds(steps_at_once):
            yield self.steps(first, stop)

    def bounds(self, steps_at_once: int) -> Iterator[tuple[int, int]]:
        """First and last (half-open) of some steps at a time; few at first, so that the first batch comes soon."""
        first = self.first_step
        at_once = max(1, steps_at_once // 4)
        while self.num_steps is None or first < self.num_steps:
            stop = first + at_once if self.num_steps is None else min(first + at_once, self.num_steps)
            yield first, stop
            first, at_once = stop, steps_at_once

    def consumed(self, steps: int) -> int:
        """Positions that all pipelines together have handed out after so many steps, as a state counts them."""
        if self.split.has_own_stream:
            return steps * self.split.batch_size
        consumed = self.start + steps * self.split.batch_size
        return consumed if self.total is None else min(consumed, self.total)


def by_epoch(positions: Array, num_records: int) -> Iterator[tuple[int, slice | Array, Array]]:
    """Positions of a span by the epoch that they lie in.

    Returns:
        Number of the epoch in the span, which of the positions, and these within their epoch.
    """
    if not len(positions):
        return
    low, high = int(positions.min()) // num_records, int(positions.max()) // num_records
    if low == high:
        yield low, slice(None), positions - low * num_records
        return
    epochs = positions // num_records
    for epoch in range(low, high + 1):
        here = np.flatnonzero(epochs == epoch)
        if len(here):
            yield epoch, here, positions[here] - epoch * num_records
