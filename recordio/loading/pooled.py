"""The segments of a pooled order, as long as something of them is still to come.

    segments of the windows that are open -> slots of one array -> one `take` for a block
                                             pieces, for columns whose rows differ in size

A segment is decoded once, when the first block needs it, and its slot is used again when the last window that it lies
in has passed.

Spec: spec/order.md, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from recordio.buffers import Buffers
from recordio.columns import Array, ColumnValues, concat, empty, take_rows
from recordio.loading.decoding import Decoded, Decoder
from recordio.loading.rows import Gathered, Wanted
from recordio.plan.order import PooledOrder
from recordio.plan.tape import Segments
from recordio.schema import Column

# Rows of a slot are those of the largest segment: where segments differ by more, they are kept apart.
_MOST_SLOT_WASTE = 1.5
_MOST_AT_ONCE = 16  # segments of a task: what is read for them is there at the same time


@dataclass(slots=True)
class _Epoch:
    """What is there of the segments of an epoch.

    Attributes:
        slots: int64[S], -1 where nothing is.
        skips: int64[columns, S], rows in the slot before the segment's own.
    """

    segments: Segments
    slots: Array
    skips: Array
    pieces: dict[int, Decoded] = field(default_factory=dict)
    loading: dict[int, Future[Any]] = field(default_factory=dict)
    resident: Array = field(default_factory=lambda: np.empty(0, np.int64))


class PooledRows:
    """The segments of the windows that are open: columns of fixed size in slots of one array, the others apart.

    Used by one iteration; `begin`, `release` and `close` in its own thread, `gather` in any.
    """

    def __init__(
        self, decoder: Decoder, order: PooledOrder, columns: Sequence[Column], *, ahead: int, groups: int
    ) -> None:
        self._decoder, self._order, self._columns = decoder, order, columns
        self._groups = max(1, groups)
        counts = order.tape.counts
        mean = float(counts.mean()) if len(counts) else 1.0
        largest = int(counts.max(initial=1))
        has_slots = largest <= _MOST_SLOT_WASTE * mean + 1
        # Where there are fewer chunks than lanes, a segment is a part of a chunk, decoded with what shares its frames.
        self._slot_rows = min(largest, 2 * int(order.lanes.lengths.max(initial=1)))
        self._in_slots = [has_slots and column.is_fixed and not column.optional for column in columns]
        self._has_pieces = not all(self._in_slots)
        # What the windows hold, parts of chunks at the ends of them, and what is decoded ahead: in one bank, from which
        # a single `take` gathers. What is not used of it is not touched.
        held = order.num_lanes * (order.lanes.window + mean) + ahead
        self._bank_slots = min(len(counts) + order.num_lanes, int(held / mean)) + 1
        self._banks: list[list[Array | None]] = []
        self._free: list[int] = []
        self._epochs: dict[int, _Epoch] = {}

    def begin(self, wanted: Wanted, executor: Executor) -> list[Future[Any]]:
        assert wanted.segments is not None
        needed: dict[int, Future[Any]] = {}
        for epoch, here in _epochs_of(wanted):
            state = self._epochs.get(epoch)
            if state is None:
                segments = self._order.segments(epoch)
                count = len(segments.rows)
                state = self._epochs[epoch] = _Epoch(
                    segments, np.full(count, -1, np.int64), np.zeros((len(self._columns), count), np.int64)
                )
            marks = np.zeros(len(state.slots), np.bool_)
            marks[wanted.segments[here]] = True
            used = np.flatnonzero(marks)
            new = used[state.slots[used] < 0]
            if len(new):
                # Neighbours on the tape lie in the same file, perhaps.
                num_groups = min(len(new), max(self._groups, -(-len(new) // _MOST_AT_ONCE)))
                for group in np.array_split(new, num_groups):
                    names = group.tolist()
                    slots = [self._take_slot() for _ in names]
                    state.slots[group] = slots
                    task = executor.submit(self._load, state, names, slots)
                    state.loading.update(dict.fromkeys(names, task))
                state.resident = np.concatenate([state.resident, new])
            for segment, task in list(state.loading.items()):
                if task.done() and task.exception() is None:
                    del state.loading[segment]
                elif marks[segment]:
                    needed[id(task)] = task
        return list(needed.values())

    def gather(self, wanted: Wanted) -> Gathered:
        assert wanted.segments is not None
        parts = []
        for epoch, here in _epochs_of(wanted):
            state = self._epochs[epoch]
            segments = wanted.segments[here]
            parts.append((here, self._gather(state, segments, wanted.rows[here] - state.segments.rows[segments])))
        if len(parts) == 1:
            return parts[0][1]
        # A batch over the end of an epoch: back to the order asked, whatever the epochs.
        places = np.concatenate([here if found.kept is None else here[found.kept] for here, found in parts])
        order = np.argsort(places)
        columns = [
            take_rows(column, concat([found.columns[place] for _, found in parts]), order)
            for place, column in enumerate(self._columns)
        ]
        return Gathered(columns, None if len(places) == len(wanted.rows) else places[order])

    def release(self, epoch: int, position: int) -> None:
        for number in [number for number in self._epochs if number < epoch]:
            gone = self._epochs.pop(number)
            self._free.extend(gone.slots[gone.resident].tolist())
        state = self._epochs.get(epoch)
        if state is None or not len(state.resident):
            return
        over = state.segments.ends[state.resident] <= position
        for segment in state.resident[over].tolist():
            self._free.append(int(state.slots[segment]))
            state.slots[segment] = -1
            state.pieces.pop(segment, None)
            state.loading.pop(segment, None)
        state.resident = state.resident[~over]

    def close(self) -> None:
        """Let go of the memory, which the next pass will be lent; no task is at work any more."""
        self._banks, self._free, self._epochs = [], [], {}

    def _take_slot(self) -> int:
        if not self._free:
            first = len(self._banks) * self._bank_slots
            rows, buffers = self._bank_slots * self._slot_rows, self._decoder.reader.buffers
            self._banks.append([
                buffers.empty((rows, *(dim or 0 for dim in column.shape or ())), column.numpy_dtype)
                if in_slots
                else None
                for column, in_slots in zip(self._columns, self._in_slots, strict=True)
            ])
            self._free.extend(range(first + self._bank_slots - 1, first - 1, -1))
        return self._free.pop()

    def _load(self, state: _Epoch, segments: list[int], slots: list[int]) -> None:
        into = []
        for slot in slots:
            bank, place = divmod(slot, self._bank_slots)
            part = slice(place * self._slot_rows, (place + 1) * self._slot_rows)
            into.append([None if array is None else array[part] for array in self._banks[bank]])
        rows, counts = state.segments.rows[segments].tolist(), state.segments.counts[segments].tolist()
        found = self._decoder.decode_segments(list(zip(rows, counts, strict=True)), into)
        for segment, (decoded, skips) in zip(segments, found, strict=True):
            state.skips[:, segment] = skips
            if self._has_pieces or decoded.kept is not None:
                state.pieces[segment] = decoded

    def _gather(self, state: _Epoch, segments: Array, rows: Array) -> Gathered:
        kept = self._kept(state, segments, rows)
        if kept is not None:
            segments, rows = segments[kept], rows[kept]
        columns: list[ColumnValues | None] = [None] * len(self._columns)
        buffers = self._decoder.reader.buffers
        if any(self._in_slots):
            firsts = state.slots * self._slot_rows + state.skips
            for place in range(len(self._columns)):
                if self._in_slots[place]:
                    columns[place] = self._from_banks(place, firsts[place][segments] + rows, buffers)
        if self._has_pieces:
            self._from_pieces(state, segments, rows, columns)
        return Gathered(columns, kept)  # type: ignore[arg-type]  # every place is filled

    def _kept(self, state: _Epoch, segments: Array, rows: Array) -> Array | None:
        """Which of the rows could be read; None: all."""
        lossy = [segment for segment, piece in list(state.pieces.items()) if piece.kept is not None]
        if not lossy:
            return None
        there = np.ones(len(segments), np.bool_)
        for segment in lossy:
            here = np.flatnonzero(segments == segment)
            kept: Any = state.pieces[segment].kept
            there[here] = np.isin(rows[here], kept)
        return None if there.all() else np.flatnonzero(there)

    def _from_banks(self, place: int, index: Array, buffers: Buffers) -> ColumnValues:
        bank_rows = self._bank_slots * self._slot_rows
        first: Any = self._banks[0][place]
        values = buffers.empty((len(index), *first.shape[1:]), first.dtype)
        if len(self._banks) == 1 or not len(index) or int(index.max()) < bank_rows:
            np.take(first, index, axis=0, out=values, mode="clip")  # in range: "raise" would copy once more
            return ColumnValues(len(index), values)
        banks = index // bank_rows
        for bank in np.unique(banks).tolist():
            here = np.flatnonzero(banks == bank)
            array: Any = self._banks[bank][place]
            values[here] = array[index[here] - bank * bank_rows]
        return ColumnValues(len(index), values)

    def _from_pieces(
        self, state: _Epoch, segments: Array, rows: Array, columns: list[ColumnValues | None]
    ) -> None:
        """Columns that are not in slots: taken segment by segment, then put into the order asked."""
        order = np.argsort(segments, kind="stable")
        ordered = segments[order]
        bounds = [0, *(np.flatnonzero(np.diff(ordered)) + 1).tolist(), len(ordered)]
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        for place, column in enumerate(self._columns):
            if self._in_slots[place]:
                continue
            parts = []
            for start, stop in pairwise(bounds):
                if start == stop:
                    continue
                piece = state.pieces[int(ordered[start])]
                wanted = rows[order[start:stop]]
                if piece.kept is not None:
                    wanted = np.searchsorted(piece.kept, wanted)
                parts.append(take_rows(column, piece.columns[place], wanted))
            columns[place] = take_rows(column, concat(parts), back) if parts else empty(column)


def _epochs_of(wanted: Wanted) -> list[tuple[int, Any]]:
    """Epochs of a block, and which of its rows they are."""
    if isinstance(wanted.epochs, int):
        return [(wanted.epochs, slice(None))]
    return [(epoch, np.flatnonzero(wanted.epochs == epoch)) for epoch in np.unique(wanted.epochs).tolist()]
