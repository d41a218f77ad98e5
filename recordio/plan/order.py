"""Orders: which row of a view stands at which position of an epoch.

    exact     one permutation of all rows                    needs all of them at hand
    pooled    lanes of the tape, permuted window by window   needs lanes x window of them at hand

Each is found by arithmetic, any position as quickly as any other. Which records the rows are is the business of
`recordio.views`; in what sequence positions are handed out, of `recordio.plan.stream`.

Spec: spec/order.md, sections 3 and 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from recordio.errors import RequestError
from recordio.plan.mixing import Array, key, mix, permute, permute_among, reverse_bits
from recordio.plan.tape import Lanes, Segments, Tape

Mode = Literal["auto", "exact", "pooled"]

DEFAULT_POOL_SIZE = 256 << 20  # raw bytes
MAX_EXACT_RECORDS = 1 << 20  # of an order that is exact without being asked to
MAX_LANES = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderParameters:
    """What the arguments of `shuffle` come to for one view."""

    mode: Literal["exact", "pooled"]
    lanes: int | None = None  # L; pooled only
    window: int | None = None  # W, records; pooled only


def resolve(
    num_records: int, num_chunks: int, mode: Mode = "auto", pool: int | None = None, *, default_pool: int
) -> OrderParameters:
    """Find mode, lanes and window.

    Args:
        num_records: N.
        num_chunks: that hold one of them.
        pool: records, or None for the default.
        default_pool: records that `DEFAULT_POOL_SIZE` holds.
    """
    pool = default_pool if pool is None else pool
    if mode == "exact" or (mode == "auto" and num_records <= min(MAX_EXACT_RECORDS, pool)):
        return OrderParameters(mode="exact")
    chunk = -(-num_records // max(1, num_chunks))
    most = max(1, min(MAX_LANES, num_records, pool // max(1, chunk)))
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

    def segments(self, epoch: int) -> Segments:
        """What is decoded in an epoch, in the order of its tape."""
        epoch = epoch if self._reshuffles else 0
        found = self._segments.get(epoch)
        if found is None:
            order = self.tape.order(key(self._seed, epoch, "tape", *self._salt))
            found = self.lanes.segments(self.tape, order)
            for old in list(self._segments)[:-1]:
                self._segments.pop(old, None)
            self._segments[epoch] = found
        return found

    def find(self, epoch: int, positions: Array) -> tuple[Array, Array]:
        """The rows at positions of an epoch, and the segments that they lie in: int64[m] each."""
        lanes, segments = self.lanes, self.segments(epoch)
        if not len(positions):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        lane = self._turn[positions & (self.num_lanes - 1)]
        place = positions >> (self.num_lanes.bit_length() - 1)
        place += lanes.missing[lane]
        cell = place // lanes.window
        # What holds for all of a window is found once: in cells of a table of lanes and windows.
        lowest, highest = int(cell.min()), int(cell.max())
        if (highest - lowest + 1) * self.num_lanes <= len(positions):
            cell -= lowest
            lane *= highest - lowest + 1
            cell += lane
            cell_lanes, cell_windows = np.divmod(
                np.arange((highest - lowest + 1) * self.num_lanes), highest - lowest + 1
            )
            cell_windows += lowest
        else:  # positions from all over: each has a cell of its own
            cell_lanes, cell_windows, cell = lane, cell, np.arange(len(cell))
        firsts, sizes, before = lanes.windows(cell_lanes, cell_windows)
        place -= firsts[cell]
        tweaks = mix((cell_lanes << 40 | cell_windows).view(np.uint64))
        keys = key(self._seed, epoch if self._reshuffles else 0, "window", *self._salt)
        place = permute_among(place, cell, sizes, keys, tweaks)
        place += before[cell]
        segment = segments.find(place, cell, before, before + sizes)
        place += (segments.rows - segments.places)[segment]
        return place, segment

    def rows(self, epoch: int, positions: Array) -> Array:
        """The rows at positions of an epoch: int64[m]."""
        return self.find(epoch, positions)[0]


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
