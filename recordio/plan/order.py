"""Orders: which row of a view stands at which position of an epoch.

    exact     one permutation of all rows                    needs all of them at hand
    pooled    lanes of the tape, permuted window by window   needs lanes x window of them at hand

Each is found by arithmetic, any position as quickly as any other. Which records the rows are is the business of
`recordio.views`; in what sequence positions are handed out, of `recordio.plan.stream`.

Spec: spec/order.md, sections 3 and 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from recordio.errors import RequestError
from recordio.plan.mixing import Array, Domains, Key, key, mix, permute, reverse_bits
from recordio.plan.tape import Lanes, Segments, Tape

Mode = Literal["auto", "exact", "pooled"]

DEFAULT_POOL_SIZE = 32 << 20  # raw bytes
MAX_EXACT_RECORDS = 1 << 20  # of an order that is exact without being asked to
MAX_EXACT_SIZE = 256 << 20  # raw bytes of one, where no pool is given
MAX_LANES = 128
_DEFAULT_LANES_OF_CHUNK = 4  # for each chunk that the default pool holds: windows are a quarter of one
_MAX_ENTRIES = 1 << 16  # of tables for all windows of an epoch, made once: 2 MiB; larger ones are made block by block
_STRIDE = 1 << 14  # positions at a time: their intermediate arrays stay in a processor's own cache


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderParameters:
    """What the arguments of `shuffle` come to for one view."""

    mode: Literal["exact", "pooled"]
    lanes: int | None = None  # L; pooled only
    window: int | None = None  # W, records; pooled only


def resolve(
    num_records: int, num_chunks: int, mode: Mode = "auto", pool: int | None = None, *, record_size: float
) -> OrderParameters:
    """Find mode, lanes and window.

    Args:
        num_records: N.
        num_chunks: that hold one of them.
        pool: records, or None for the default.
        record_size: raw bytes of a record on average.
    """
    most_exact = int(MAX_EXACT_SIZE / record_size) if pool is None else pool
    if mode == "exact" or (mode == "auto" and num_records <= min(MAX_EXACT_RECORDS, most_exact)):
        return OrderParameters(mode="exact")
    chunk = max(1, -(-num_records // max(1, num_chunks)))
    if pool is None:
        pool = max(1, int(DEFAULT_POOL_SIZE / record_size))
        most = _DEFAULT_LANES_OF_CHUNK * pool // chunk
    else:
        most = pool // chunk
    most = max(1, min(MAX_LANES, num_records, most))
    lanes = 1 << (most.bit_length() - 1)
    return OrderParameters(mode="pooled", lanes=lanes, window=max(1, pool // lanes))


class ExactOrder:
    """One keyed permutation of all rows.

    Args:
        num_records: N.
        salt: a and b of the keys.
        reshuffles: every epoch has an order of its own; else all have that of epoch 0.
    """

    num_lanes = 1

    def __init__(
        self, num_records: int, seed: int, salt: tuple[int, int] = (0, 0), *, reshuffles: bool = True
    ) -> None:
        self.num_records = num_records
        self._seed, self._salt, self._reshuffles = seed, salt, reshuffles

    def rows(self, epoch: int, positions: Array) -> Array:
        """The rows at positions of an epoch: int64[m]."""
        keys = key(self._seed, epoch if self._reshuffles else 0, "exact", *self._salt)
        return permute(positions, self.num_records, keys)


class PooledOrder:
    """Lanes of the tape, permuted window by window.

    Args:
        tape: the view's chunks.
        parameters: as `resolve` gives them.
        salt: a and b of the keys.
        reshuffles: every epoch has an order of its own; else all have that of epoch 0.
    """

    def __init__(
        self, tape: Tape, parameters: OrderParameters, seed: int, salt: tuple[int, int] = (0, 0), *,
        reshuffles: bool = True,
    ) -> None:  # fmt: skip
        assert parameters.lanes is not None and parameters.window is not None
        self.tape = tape
        self.num_records = tape.num_records
        self.num_lanes = parameters.lanes
        self.lanes = Lanes.cut(self.num_records, parameters.lanes, parameters.window)
        self._seed, self._salt, self._reshuffles = seed, salt, reshuffles
        self._turn = reverse_bits(parameters.lanes)
        # Of the epochs used last; two, where a batch runs over the end of one.
        self._segments: dict[int, Segments] = {}
        self._tables: dict[int, _Windows] = {}

    def segments(self, epoch: int) -> Segments:
        """What is decoded in an epoch, in the order of its tape."""
        epoch = epoch if self._reshuffles else 0
        found = self._segments.get(epoch)
        if found is None:
            order = self.tape.order(key(self._seed, epoch, "tape", *self._salt))
            found = self.lanes.segments(self.tape, order)
            _keep(self._segments, epoch, found)
        return found

    def find(self, epoch: int, positions: Array) -> tuple[Array, Array]:
        """The rows at positions of an epoch, and the segments that they lie in: int64[m] each."""
        rows, segments = np.empty(len(positions), np.int64), np.empty(len(positions), np.int64)
        if not len(positions):
            return rows, segments
        shift, which_lane = self.num_lanes.bit_length() - 1, self.num_lanes - 1
        table = self._table(epoch, int(positions.min()) >> shift, int(positions.max()) >> shift, len(positions))
        for start in range(0, len(positions), _STRIDE):
            part = slice(start, start + _STRIDE)
            lane = self._turn[positions[part] & which_lane]
            place = positions[part] >> shift
            place += self.lanes.missing[lane]
            window = place // self.lanes.window
            if table is not None:
                window += table.first_cells[lane]
                rows[part], segments[part] = table.find(place, window)
            else:
                windows = self._windows(epoch, lane, window)
                rows[part], segments[part] = windows.find(place, np.arange(len(place)))
        return rows, segments

    def _table(self, epoch: int, first: int, last: int, num_numbers: int) -> _Windows | None:
        """All windows of records [first, last] of all lanes; None if they are more than the records asked for."""
        num_records = self.num_records
        num_windows = num_records // self.lanes.window + 2 * self.num_lanes
        is_whole = num_windows * (math.isqrt(self.lanes.window) + 1) <= _MAX_ENTRIES
        if is_whole:
            epoch = epoch if self._reshuffles else 0
            if epoch in self._tables:
                return self._tables[epoch]
            first, last, num_numbers = 0, int(self.lanes.lengths.max()) - 1, num_records
        first_windows = (first + self.lanes.missing) // self.lanes.window
        counts = (last + self.lanes.missing) // self.lanes.window - first_windows + 1
        if not is_whole and int(counts.sum()) > num_numbers:
            return None
        lanes = np.repeat(np.arange(self.num_lanes), counts)
        first_cells = np.cumsum(counts) - counts - first_windows
        table = self._windows(epoch, lanes, np.arange(len(lanes)) - first_cells[lanes], num_numbers)
        table.first_cells = first_cells
        if is_whole:
            _keep(self._tables, epoch, table)
        return table

    def _windows(self, epoch: int, lanes: Array, windows: Array, num_numbers: int = 0) -> _Windows:
        keys = key(self._seed, epoch if self._reshuffles else 0, "window", *self._salt)
        return _Windows(self.lanes, self.segments(epoch), keys, lanes, windows, num_numbers)

    def rows(self, epoch: int, positions: Array) -> Array:
        """The rows at positions of an epoch: int64[m]."""
        return self.find(epoch, positions)[0]


class _Windows:
    """Some windows of some lanes, int64[d] each: what holds for all of a window is found once.

    Args:
        num_numbers: places that are asked for, about.

    Attributes:
        first_cells: int64[L], where they are a table: the cell of the window 0 of each lane, had it one.
    """

    first_cells: Array

    def __init__(
        self, lanes: Lanes, segments: Segments, keys: Key, which: Array, windows: Array, num_numbers: int = 0
    ) -> None:
        self._firsts, sizes, self._starts = lanes.windows(which, windows)
        tweaks = mix((which << 40 | windows).view(np.uint64))
        self._domains = Domains(sizes, keys, tweaks, num_numbers)
        self._search = segments.search(self._starts, self._starts + sizes, num_numbers)
        self._shifts = segments.rows - segments.places

    def find(self, places: Array, which: Array) -> tuple[Array, Array]:
        """Rows and segments of places that count from the first missing record of a lane; changes `places`."""
        places -= self._firsts[which]
        found = self._domains.permute(places, which)
        found += self._starts[which]
        segment = self._search(found, which)
        found += self._shifts[segment]
        return found, segment


def _keep(kept: dict[int, Any], epoch: int, value: Any) -> None:
    """Keep what belongs to an epoch, besides that of the one before."""
    for old in list(kept)[:-1]:
        kept.pop(old, None)
    kept[epoch] = value


Order = ExactOrder | PooledOrder


def check_shuffle(seed: object, mode: object, pool: object) -> None:
    """Refuse arguments of `shuffle` that mean nothing.

    Raises:
        RequestError: which one, and what it may be. TypeError: no int.
    """
    for name, value, least, most in (("seed", seed, 0, (1 << 64) - 1), ("pool", pool, 1, 1 << 62)):
        if name == "pool" and value is None:
            continue
        if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
            raise TypeError(f"{name} is an int, not {value!r}")
        if not least <= int(value) <= most:
            raise RequestError(f"{name} is {value}, but it must be between {least} and {most}")
    if mode not in ("auto", "exact", "pooled"):
        raise RequestError(f"mode is {mode!r}", advice="Use 'auto', 'exact' or 'pooled'")
