"""Decoding for shuffled reading: consecutive rows of a view, into arrays that somebody keeps.

Many chunks from all over a data set are decoded in one step where nothing is wrong; where something is, it is found
again chunk by chunk, raised with its place, or left out and noted.

Spec: spec/order.md, section 4; spec/format.md, section 12.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from recordio.buffers import Buffers
from recordio.columns import Array, ColumnValues, concat, take_rows
from recordio.loading.rows import RowReader
from recordio.metering import Totals, measured
from recordio.plan.view import View
from recordio.rows import LostRange, OnCorrupt, Rows
from recordio.shards.chunk_runs import SegmentRows

_SPARSE = 8  # a segment of which every eighth record is in view, or fewer, is read frame by frame


class RangeReader(RowReader, Protocol):
    """A reader of files."""

    def read_range(
        self, start: int, stop: int, ordinals: Sequence[int], on_corrupt: OnCorrupt, buffers: Buffers,
        into: Sequence[Array | None] | None = None,
    ) -> Iterator[Rows]: ...  # fmt: skip

    def read_segments(
        self, ranges: Sequence[tuple[int, int]], ordinals: Sequence[int], into: Sequence[Sequence[Array | None]]
    ) -> list[SegmentRows] | None: ...


@dataclass(frozen=True, slots=True)
class Decoded:
    """Rows that could be read: all of those wanted, or the ones at `kept` (int64, ascending)."""

    columns: list[ColumnValues]
    kept: Array | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """Reads and decodes consecutive rows of a view; safe from many threads."""

    reader: RangeReader
    view: View  # ascending
    ordinals: tuple[int, ...]
    on_corrupt: OnCorrupt
    note_lost: Callable[[Sequence[LostRange]], None]
    stats: Totals

    def decode(self, row: int, count: int, into: Sequence[Array | None] | None = None) -> Decoded:
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
    ) -> list[tuple[Decoded, Sequence[int]]]:
        """Rows [row, row + count) of several chunks, with the places of the first ones in the arrays given.

        Raises:
            RecordIOError: as `decode`.
        """
        with measured() as spent:
            found: list[tuple[Decoded, Sequence[int]]] | None = None
            numbers: Any = self.view.numbers
            if isinstance(numbers, range) and numbers.step == 1:
                ranges = [(numbers.start + row, numbers.start + row + count) for row, count in rows]
                segments = self.reader.read_segments(ranges, self.ordinals, into)
                if segments is not None:
                    found = [(Decoded(one.columns, None), one.skips) for one in segments]
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

    def _decode(self, row: int, count: int, into: Sequence[Array | None] | None) -> Decoded:
        numbers = self.view.at(np.arange(row, row + count, dtype=np.int64))
        low, high = int(numbers[0]), int(numbers[-1]) + 1
        buffers = self.reader.buffers
        if high - low == count and len(numbers) == count and (count < 2 or int(np.diff(numbers).max()) == 1):
            pieces = list(self.reader.read_range(low, high, self.ordinals, self.on_corrupt, buffers, into))
            return self._joined(pieces, numbers, into)
        if high - low > _SPARSE * count and self.on_corrupt == "raise":
            return self._placed(Decoded(self.reader.rows(numbers, self.ordinals), None), count, into)
        pieces = list(self.reader.read_range(low, high, self.ordinals, self.on_corrupt, buffers))
        return self._joined(pieces, numbers, into)

    def _joined(self, pieces: list[Rows], numbers: Array, into: Sequence[Array | None] | None) -> Decoded:
        """The rows of consecutive pieces whose numbers are wanted."""
        # As many as wanted may still be others: a record that is in view twice takes the place of one that is not.
        if (
            len(pieces) == 1
            and pieces[0].numbers is None
            and np.array_equal(numbers, np.arange(pieces[0].start, pieces[0].stop))
        ):
            return self._placed(Decoded(pieces[0].columns, None), len(numbers), into)
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
        return self._placed(Decoded(columns, None if len(kept) == len(numbers) else kept), len(numbers), into)

    def _placed(self, decoded: Decoded, count: int, into: Sequence[Array | None] | None) -> Decoded:
        """Values where they were wanted, if they are not there yet."""
        for values, target in zip(decoded.columns, into or (), strict=into is not None):
            if target is None or not count:
                continue
            if decoded.kept is not None:
                target[decoded.kept] = values.values
            elif values.values.ctypes.data != target.ctypes.data:
                target[:] = values.values
        return decoded
