"""Where shuffled rows come from: decoded a segment at a time, held as long as something of them is still to come.

    exact      all rows, decoded once and kept from epoch to epoch       HeldRows
    pooled     the segments of the windows that are open                 PooledRows
    anything   rows by number, frame by frame                            NumberedRows

    plan of a block -> begin(): tasks that decode what is not there yet -> gather(): rows in the order asked

A gathered block is new memory and nobody else's. Every byte was verified when it was decoded. Under
on_corrupt="skip" what cannot be read is left out, and said.

Spec: spec/order.md, sections 3 and 4.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from recordio.buffers import Buffers
from recordio.columns import Array, ColumnValues, concat, empty, take_rows
from recordio.errors import DataError
from recordio.metering import Totals, measured
from recordio.plan.order import PooledOrder
from recordio.plan.tape import Segments, Tape
from recordio.plan.view import View
from recordio.rows import LostRange, OnCorrupt, Rows
from recordio.schema import Column, Schema
from recordio.shards.chunk_runs import SegmentRows

# Rows of a slot are those of the largest segment: where segments differ by more, they are kept apart.
_MOST_SLOT_WASTE = 1.5
_SPARSE = 8  # a segment of which every eighth record is in view, or fewer, is read frame by frame
_HELD_PART_SIZE = 16 << 20  # raw bytes that are decoded at once for an exact order, about


class RowReader(Protocol):
    """What is needed of a reader, of files or of memory."""

    @property
    def schema(self) -> Schema: ...
    @property
    def buffers(self) -> Buffers: ...
    def rows(self, numbers: Array, ordinals: Sequence[int]) -> list[ColumnValues]: ...


class RangeReader(RowReader, Protocol):
    """A reader of files."""

    def read_range(
        self, start: int, stop: int, ordinals: Sequence[int], on_corrupt: OnCorrupt, buffers: Buffers,
        into: Sequence[Array | None] | None = None,
    ) -> Iterator[Rows]: ...  # fmt: skip

    def read_segments(
        self, ranges: Sequence[tuple[int, int]], ordinals: Sequence[int], into: Sequence[Sequence[Array | None]]
    ) -> list[SegmentRows] | None: ...


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


@dataclass(frozen=True, slots=True)
class _Decoded:
    columns: list[ColumnValues]
    kept: Array | None  # which of the rows wanted these are, ascending; None: all


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """Reads and decodes consecutive rows of a view; safe from many threads."""

    reader: RangeReader
    view: View  # ascending
    ordinals: tuple[int, ...]
    on_corrupt: OnCorrupt
    note_lost: Callable[[Sequence[LostRange]], None]
    stats: Totals

    def decode(self, row: int, count: int, into: Sequence[Array | None] | None = None) -> _Decoded:
        """Rows [row, row + count), which lie in one chunk; values go into the arrays given, where there are any.

        Raises:
            RecordIOError: they are damaged, and damage is not to be skipped.
        """
        with measured() as spent:
            found = self._decode(row, count, into)
        self.stats.add_decoded(spent)
        return found

    def decode_segments(
        self, rows: Sequence[tuple[int, int]], into: Sequence[Sequence[Array | None]]
    ) -> list[tuple[_Decoded, Sequence[int]]]:
        """Rows [row, row + count) of several chunks, with the places of the first ones in the arrays given.

        Raises:
            RecordIOError: as `decode`.
        """
        with measured() as spent:
            found: list[tuple[_Decoded, Sequence[int]]] | None = None
            numbers: Any = self.view.numbers
            if isinstance(numbers, range) and numbers.step == 1:
                ranges = [(numbers.start + row, numbers.start + row + count) for row, count in rows]
                segments = self.reader.read_segments(ranges, self.ordinals, into)
                if segments is not None:
                    found = [(_Decoded(one.columns, None), one.skips) for one in segments]
            if found is None:
                at_front = [
                    [None if array is None else array[:count] for array in arrays]
                    for (_, count), arrays in zip(rows, into, strict=True)
                ]
                found = [
                    (self._decode(row, count, arrays), [0] * len(arrays))
                    for (row, count), arrays in zip(rows, at_front, strict=True)
                ]
        self.stats.add_decoded(spent)
        return found

    def _decode(self, row: int, count: int, into: Sequence[Array | None] | None) -> _Decoded:
        numbers = self.view.at(np.arange(row, row + count, dtype=np.int64))
        low, high = int(numbers[0]), int(numbers[-1]) + 1
        buffers = self.reader.buffers
        if high - low == count and len(numbers) == count and (count < 2 or int(np.diff(numbers).max()) == 1):
            pieces = list(self.reader.read_range(low, high, self.ordinals, self.on_corrupt, buffers, into))
            return self._joined(pieces, numbers, into)
        if high - low > _SPARSE * count and self.on_corrupt == "raise":
            return self._placed(_Decoded(self.reader.rows(numbers, self.ordinals), None), count, into)
        pieces = list(self.reader.read_range(low, high, self.ordinals, self.on_corrupt, buffers))
        return self._joined(pieces, numbers, into)

    def _joined(self, pieces: list[Rows], numbers: Array, into: Sequence[Array | None] | None) -> _Decoded:
        """The rows of consecutive pieces whose numbers are wanted."""
        if len(pieces) == 1 and pieces[0].numbers is None and pieces[0].stop - pieces[0].start == len(numbers):
            return self._placed(_Decoded(pieces[0].columns, None), len(numbers), into)
        for piece in pieces:
            self.note_lost(piece.lost)
        there = np.concatenate(
            [np.arange(piece.start, piece.stop) if piece.numbers is None else piece.numbers for piece in pieces]
        )
        place = np.minimum(np.searchsorted(there, numbers), max(0, len(there) - 1))
        kept = np.flatnonzero(there[place] == numbers) if len(there) else np.empty(0, np.int64)
        columns = [concat(parts) for parts in zip(*(piece.columns for piece in pieces), strict=True)]
        if len(kept) < len(there) or len(kept) < len(numbers) or (place != np.arange(len(place))).any():
            schema = self.reader.schema
            columns = [
                take_rows(schema.columns[o], values, place[kept])
                for o, values in zip(self.ordinals, columns, strict=True)
            ]
        return self._placed(_Decoded(columns, None if len(kept) == len(numbers) else kept), len(numbers), into)

    def _placed(self, decoded: _Decoded, count: int, into: Sequence[Array | None] | None) -> _Decoded:
        """Values where they were wanted, if they are not there yet."""
        for values, target in zip(decoded.columns, into or (), strict=into is not None):
            if target is None or not count:
                continue
            if decoded.kept is not None:
                target[decoded.kept] = values.values
            elif values.values.ctypes.data != target.ctypes.data:
                target[:] = values.values
        return decoded


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """All rows of an exact order, decoded."""

    columns: list[ColumnValues]
    places: Array | None  # int64[N], where each row is among those that could be read, -1 where it could not


class HeldRows:
    """All rows of a view at hand; decoded when they are first needed, and kept for the next epoch.

    Args:
        tape: the rows.
        record_size: raw bytes of a record, about.
    """

    def __init__(self, tape: Tape, columns: Sequence[Column], record_size: float) -> None:
        self._tape = tape
        self._columns = columns
        self._record_size = record_size
        self._lock = threading.Lock()
        self._held: _Held | None = None

    def on(self, decoder: Decoder) -> _HeldStore:
        """The store of one iteration."""
        return _HeldStore(self, decoder)

    def load(self, decoder: Decoder, executor: Executor) -> Future[_Held]:
        """Decode all rows, in parts on the executor; the future is done when all are."""
        done: Future[_Held] = Future()
        if self._held is not None:
            done.set_result(self._held)
            return done
        total = self._tape.num_records
        targets: list[Array | None] = [
            np.empty((total, *(dim or 0 for dim in column.shape or ())), column.numpy_dtype)
            if column.is_fixed and not column.optional
            else None
            for column in self._columns
        ]
        parts = self._parts()
        decoded: list[_Decoded | None] = [None] * len(parts)
        left = len(parts)

        def finish(number: int, task: Future[_Decoded]) -> None:
            nonlocal left
            with self._lock:
                error = task.exception() if not task.cancelled() else None
                if task.cancelled() or error is not None:
                    if not done.done():
                        done.set_exception(error or RuntimeError("the iteration was closed"))
                    return
                decoded[number] = task.result()
                left -= 1
                if left or done.done():
                    return
            held = self._assemble(parts, decoded, targets)
            self._held = held
            done.set_result(held)

        if not parts:
            done.set_result(_Held(columns=[empty(column) for column in self._columns], places=None))
        for number, (row, count, place) in enumerate(parts):
            into = [None if target is None else target[place : place + count] for target in targets]
            task = executor.submit(decoder.decode, row, count, into)
            task.add_done_callback(lambda task, number=number: finish(number, task))  # type: ignore[misc]
        return done

    def _parts(self) -> list[tuple[int, int, int]]:
        """Runs of neighbouring chunks: first row, rows, place among the held ones."""
        tape = self._tape
        most = max(1, int(_HELD_PART_SIZE / max(self._record_size, 1e-9)))
        parts: list[tuple[int, int, int]] = []
        place, last = 0, -1
        for shard, start, count in zip(tape.shards.tolist(), tape.starts.tolist(), tape.counts.tolist(), strict=True):
            if parts and parts[-1][0] + parts[-1][1] == start and parts[-1][1] + count <= most and shard == last:
                parts[-1] = (parts[-1][0], parts[-1][1] + count, parts[-1][2])
            else:
                parts.append((start, count, place))
            place, last = place + count, shard
        return parts

    def _assemble(
        self, parts: list[tuple[int, int, int]], decoded: list[_Decoded | None], targets: list[Array | None]
    ) -> _Held:
        found = [one for one in decoded if one is not None]
        total = self._tape.num_records
        places = None
        if any(one.kept is not None for one in found):
            there = np.zeros(total, np.bool_)
            for (_, count, place), one in zip(parts, found, strict=True):
                there[place : place + count] = one.kept is None
                if one.kept is not None:
                    there[place + one.kept] = True
            places = np.where(there, np.cumsum(there) - 1, -1)
        columns = []
        for ordinal, target in enumerate(targets):
            if target is not None:
                values = target if places is None else target[places >= 0]
                columns.append(ColumnValues(len(values), values))
            else:
                columns.append(concat([one.columns[ordinal] for one in found]))
        return _Held(columns=columns, places=places)


class _HeldStore:
    def __init__(self, rows: HeldRows, decoder: Decoder) -> None:
        self._rows = rows
        self._decoder = decoder
        self._loading: Future[_Held] | None = None

    def begin(self, wanted: Wanted, executor: Executor) -> list[Future[Any]]:
        del wanted
        if self._loading is None:
            self._loading = self._rows.load(self._decoder, executor)
        return [self._loading]

    def gather(self, wanted: Wanted) -> Gathered:
        assert self._loading is not None
        held = self._loading.result()
        buffers = self._decoder.reader.buffers
        places, kept = wanted.rows, None
        if held.places is not None:
            places = held.places[places]
            kept = np.flatnonzero(places >= 0)
            places = places[kept]
        return Gathered(
            [
                gather_rows(column, values, places, buffers)
                for column, values in zip(self._rows._columns, held.columns, strict=True)
            ],
            kept,
        )

    def release(self, epoch: int, position: int) -> None:
        del epoch, position

    def close(self) -> None:
        pass


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
    pieces: dict[int, _Decoded] = field(default_factory=dict)
    loading: dict[int, Future[Any]] = field(default_factory=dict)
    resident: Array = field(default_factory=lambda: np.empty(0, np.int64))


class Banks:
    """Arrays of slots that passes use one after the other: fresh memory costs a page fault every 4 KiB."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: list[tuple[Any, list[Array | None]]] = []

    def take(self, kind: Any) -> list[Array | None] | None:
        """The arrays of a kind that nobody uses, or None."""
        with self._lock:
            for place, (kept, arrays) in enumerate(self._kept):
                if kept == kind:
                    del self._kept[place]
                    return arrays
        return None

    def give_back(self, kind: Any, arrays: list[Array | None]) -> None:
        """Nobody uses them any more."""
        with self._lock:
            self._kept.append((kind, arrays))


class PooledRows:
    """The segments of the windows that are open: columns of fixed size in slots of one array, the others apart.

    Used by one iteration; `begin`, `release` and `close` in its own thread, `gather` in any.
    """

    def __init__(
        self, decoder: Decoder, order: PooledOrder, columns: Sequence[Column], banks: Banks, *, ahead: int, groups: int
    ) -> None:
        self._decoder, self._order, self._columns = decoder, order, columns
        self._kept_banks, self._groups = banks, max(1, groups)
        counts = order.tape.counts
        mean = float(counts.mean()) if len(counts) else 1.0
        self._slot_rows = int(counts.max(initial=1))
        has_slots = self._slot_rows <= _MOST_SLOT_WASTE * mean + 1
        self._in_slots = [has_slots and column.is_fixed and not column.optional for column in columns]
        self._has_pieces = not all(self._in_slots)
        # What the windows hold, parts of chunks at the ends of them, and what is decoded ahead.
        per_window = order.lanes.window / mean + 1.5
        self._bank_slots = min(len(counts) + order.num_lanes, int(order.num_lanes * per_window) + ahead) + 1
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
                for group in np.array_split(new, min(len(new), self._groups)):
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
        """Give the memory to the next pass; no task is at work any more."""
        for arrays in self._banks:
            self._kept_banks.give_back(self._kind, arrays)
        self._banks, self._free, self._epochs = [], [], {}

    @property
    def _kind(self) -> Any:
        return self._bank_slots, self._slot_rows, tuple(self._in_slots)

    def _take_slot(self) -> int:
        if not self._free:
            first = len(self._banks) * self._bank_slots
            arrays = self._kept_banks.take(self._kind)
            if arrays is None:
                rows = self._bank_slots * self._slot_rows
                arrays = [
                    np.empty((rows, *(dim or 0 for dim in column.shape or ())), column.numpy_dtype)
                    if in_slots
                    else None
                    for column, in_slots in zip(self._columns, self._in_slots, strict=True)
                ]
            self._banks.append(arrays)
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


def gather_rows(column: Column, rows: ColumnValues, places: Array, buffers: Buffers) -> ColumnValues:
    """The rows at places (int64[m], in range), in memory that is lent."""
    if column.is_fixed and not column.optional:
        values = buffers.empty((len(places), *rows.values.shape[1:]), rows.values.dtype)
        np.take(rows.values, places, axis=0, out=values, mode="clip")
        return ColumnValues(len(places), values)
    return take_rows(column, rows, places)

