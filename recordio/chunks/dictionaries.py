"""Dictionaries: the values of a frame as places of 1 or 2 bytes in a list of its distinct values.

    int64  907, 31, 907, 907   ->   places 00 01 00 00, list 907, 31

What categories and counters are made of. The most frequent value comes first, which compresses best; equally frequent
ones stand in the order of their bits, so that the same values give the same bytes. Which columns may be stored so:
`recordio.chunks.stored_values`.

Spec: spec/format.md, sections 5, 6 and 13.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recordio.columns import Array
from recordio.errors import MalformedError
from recordio.format.checksum import Buffer
from recordio.format.codec import PLACE_SIZES

# A dictionary is taken where lists have at most a quarter as many entries as there are values: it then halves what zstd
# has to work on, or nearly so. Of fewer values than this it saves too little to be worth its steps.
_VALUES_PER_ENTRY = 4
MIN_VALUES = 512
_SAMPLE_SIZE = 1024  # values that are looked at first: most columns are no categories
_SLOT_BITS = 13  # of the table of a frame
_MULTIPLIER = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio: the top bits of a product are well mixed
_FRAMES_AT_ONCE = 32


def may_pay(pieces: Sequence[Array]) -> bool:
    """Whether the values of a column chunk, flat pieces of one dtype of 2, 4 or 8 bytes, may be categories.

    A sample from all over them, whatever the pieces are, has clearly fewer distinct ones than values.
    """
    num_values = sum(map(len, pieces))
    if num_values < MIN_VALUES:
        return False
    step = max(1, num_values // _SAMPLE_SIZE)
    sampled = []
    before = 0
    for piece in pieces:
        sampled.append(piece[-before % step :: step])
        before += len(piece)
    sample = np.sort(_bits(np.concatenate(sampled)))
    return 4 * int(np.count_nonzero(sample[1:] != sample[:-1])) <= 3 * len(sample)


def find_dictionaries(
    columns: Sequence[Sequence[Array]], most_entries: Sequence[int]
) -> list[list[tuple[Array, Array]] | None]:
    """Places and lists of the frames of column chunks, many frames in one step: a step costs the GIL once.

    Args:
        columns: for each column chunk the values of its frames, flat, of one dtype of 2, 4 or 8 bytes; at least one
            frame, and a value in each.
        most_entries: for each, how many entries a list may have.

    Returns:
        For each None where no dictionary pays; else for each frame its places, uint16[V], and its list, of the dtype.
    """
    frames = [values for column in columns for values in column]
    owners = [number for number, column in enumerate(columns) for _ in column]
    stacks = [_Stack.of(frames, numbers) for numbers in _alike(frames)]
    entries, largest, num_values = ([0] * len(columns) for _ in range(3))
    for stack in stacks:
        for number, count in zip(stack.numbers, stack.counts.tolist(), strict=True):
            owner = owners[number]
            entries[owner] += count
            largest[owner] = max(largest[owner], count)
            num_values[owner] += len(frames[number])
    pays = [
        count * _VALUES_PER_ENTRY <= total and highest <= most
        for count, total, highest, most in zip(entries, num_values, largest, most_entries, strict=True)
    ]
    found: dict[int, tuple[Array, Array]] = {}
    for stack in stacks:
        kept = [row for row, number in enumerate(stack.numbers) if pays[owners[number]]]
        if kept:
            found.update(stack.only(kept).look_up())
    listed: list[list[tuple[Array, Array]] | None] = []
    first = 0
    for column, does_pay in zip(columns, pays, strict=True):
        stop = first + len(column)
        listed.append([found[number] for number in range(first, stop)] if does_pay else None)
        first = stop
    return listed


def _alike(frames: Sequence[Array]) -> list[list[int]]:
    """Ordinals of frames of equal size and width, not too many together."""
    groups: dict[tuple[int, int], list[int]] = {}
    for number, values in enumerate(frames):
        groups.setdefault((len(values), values.itemsize), []).append(number)
    return [
        numbers[start : start + _FRAMES_AT_ONCE]
        for numbers in groups.values()
        for start in range(0, len(numbers), _FRAMES_AT_ONCE)
    ]


def _bits(values: Array) -> Array:
    """Values as unsigned integers of at least 4 bytes: numpy sorts narrower ones much more slowly."""
    bits = values.view(f"<u{values.itemsize}")
    return bits if values.itemsize > 2 else bits.astype(np.uint32)


@dataclass(frozen=True, slots=True)
class _Stack:
    """Frames of equal size and width, F of V values."""

    numbers: list[int]
    dtypes: list[np.dtype[Any]]
    values: Array  # uint[F, V]
    in_order: Array  # uint[F, V], each frame sorted
    is_first: Array  # bool[F, V], of equal ones in order
    counts: Array  # int64[F], distinct values

    @classmethod
    def of(cls, frames: Sequence[Array], numbers: list[int]) -> _Stack:
        values = np.stack([_bits(frames[number]) for number in numbers])
        in_order = np.sort(values, axis=1)
        is_first = np.ones(values.shape, np.bool_)
        np.not_equal(in_order[:, 1:], in_order[:, :-1], out=is_first[:, 1:])
        dtypes = [frames[number].dtype for number in numbers]
        return cls(numbers, dtypes, values, in_order, is_first, np.count_nonzero(is_first, axis=1))

    def only(self, rows: list[int]) -> _Stack:
        if len(rows) == len(self.numbers):
            return self
        return _Stack(
            [self.numbers[row] for row in rows], [self.dtypes[row] for row in rows], self.values[rows],
            self.in_order[rows], self.is_first[rows], self.counts[rows],
        )  # fmt: skip

    def look_up(self) -> dict[int, tuple[Array, Array]]:
        """For each frame by its number the place of each value among the distinct ones, and these, most frequent first.

        A table with a slot for the top bits of a product says the place of a value. Where several share a slot, the
        most frequent one has it, and the others, which do not find themselves there, are looked up in a table of
        another product.
        """
        firsts = np.flatnonzero(self.is_first)
        bounds = np.concatenate([[0], np.cumsum(self.counts)])
        rows = np.repeat(np.arange(len(self.counts)), self.counts)
        order = np.lexsort((-np.diff(firsts, append=self.values.size), rows))
        entries = self.in_order.reshape(-1).take(firsts.take(order))

        flat = self.values.reshape(-1)
        multiplier = _MULTIPLIER
        table, own_slots = self._table(entries, rows, np.arange(len(entries)), multiplier)
        found = table.take(_slots(self.values, np.arange(len(self.counts))[:, None], multiplier).reshape(-1))
        left = waiting = np.flatnonzero(table.take(own_slots) != np.arange(len(entries)))  # entries without a slot
        if len(waiting):
            left = np.flatnonzero(entries.take(found) != flat)  # values whose entry is not known yet
        while len(left):
            multiplier = multiplier * _MULTIPLIER & ((1 << 64) - 1)
            table, own_slots = self._table(entries, rows, waiting, multiplier)
            waiting = waiting[table.take(own_slots) != waiting]
            values = flat.take(left)
            found[left] = table.take(_slots(values, left // self.values.shape[1], multiplier))
            left = left[entries.take(found.take(left)) != values]
        places = (found.reshape(self.values.shape) - bounds[:-1, None]).astype(np.uint16)
        return {
            number: (places[row], entries[start:stop].astype(f"<u{dtype.itemsize}").view(dtype))
            for row, (number, dtype, start, stop) in enumerate(
                zip(self.numbers, self.dtypes, bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
            )
        }

    def _table(self, entries: Array, rows: Array, numbers: Array, multiplier: int) -> tuple[Array, Array]:
        """A table of the entries of these numbers, of which the first has a slot that several share; their slots."""
        slots = _slots(entries.take(numbers), rows.take(numbers), multiplier)
        table = np.zeros(len(self.counts) << _SLOT_BITS, np.intp)
        table[slots[::-1]] = numbers[::-1]  # the last that is written stays
        return table, slots


def _slots(values: Array, rows: Array, multiplier: int) -> Array:
    """A slot for each value among those of its row."""
    width = 8 * values.itemsize
    product = values * values.dtype.type(multiplier & ((1 << width) - 1))
    slots: Array = (product >> values.dtype.type(width - _SLOT_BITS)).astype(np.intp)
    slots += rows << _SLOT_BITS
    return slots


def place_size_of(lists: Sequence[tuple[Array, Array]]) -> int:
    """Bytes of a place in lists of at most 65,536 entries."""
    largest = max([len(entries) for _, entries in lists])
    return next(size for size in PLACE_SIZES if largest <= 1 << 8 * size)


def look_up_into(target: Array, raw: Buffer, place_size: int, dtype: np.dtype[Any]) -> None:
    """The values of a frame, given its raw bytes, whose size is checked.

    Args:
        target: flat, contiguous: of the column's type, a value for each place.
        dtype: of the values in the list, which are cast.

    Raises:
        MalformedError: a place that the list does not have.
    """
    places = np.frombuffer(raw, f"<u{place_size}", len(target))
    entries = np.frombuffer(raw, dtype, offset=places.nbytes).astype(target.dtype)
    if int(places.max()) >= len(entries):
        raise MalformedError(f"place {int(places.max())} in a dictionary of {len(entries)} values")
    entries.take(places, out=target, mode="clip")
