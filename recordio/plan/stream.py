"""The stream: positions in the order in which batches hold them.

    positions   0 1 2 ... | ... | ... T          cut into batches of G, from any first position on
    stream      each batch sorted by lane        neighbours of a batch lie near each other on the tape

Spec: spec/order.md, section 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from recordio.plan.mixing import Array, reverse_bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Batches over a span of positions.

    Attributes:
        num_records: N, of an epoch.
        start: the first position, c0.
        stop: T, the first position that is not in the span; None if the epochs go on for ever.
        batch_size: G.
        num_lanes: L of a pooled order, else 1.
    """

    num_records: int
    start: int = 0
    stop: int | None
    batch_size: int
    num_lanes: int = 1

    @property
    def length(self) -> int | None:
        """Positions in all; None without an end."""
        return None if self.stop is None else self.stop - self.start

    def positions(self, places: Array) -> Array:
        """The positions at places of the stream: int64[m] of int64[m], which is counted from `start` on."""
        if self.num_lanes == 1:
            return places + self.start
        batch_size = self.batch_size
        batch = places // batch_size
        inside = places - batch * batch_size
        found = np.empty(len(places), np.int64)
        numbers = np.unique(batch) if len(batch) and (batch[1:] < batch[:-1]).any() else batch[_firsts(batch)]
        firsts = self.start + numbers * batch_size
        # Full batches of one epoch have one of L patterns; the others are looked at one by one.
        in_epoch = firsts % self.num_records
        plain = in_epoch + batch_size <= self.num_records
        if self.stop is not None:
            plain &= firsts + batch_size <= self.stop
        phases = in_epoch % self.num_lanes
        which = np.searchsorted(numbers, batch)
        if plain.any():
            used, of_number = np.unique(phases[plain], return_inverse=True)
            patterns = np.stack([pattern(self.num_lanes, int(phase), batch_size) for phase in used])
            pattern_of = np.zeros(len(numbers), np.int64)
            pattern_of[plain] = of_number
            found = firsts[which] + patterns[pattern_of[which], inside]
        for number in np.flatnonzero(~plain).tolist():
            here = which == number
            found[here] = int(firsts[number]) + self._order_of(int(firsts[number]))[inside[here]]
        return found

    def parts(self, first: int, stop: int, num_parts: int) -> Array:
        """Where the batches [first, stop) are cut into parts whose sizes differ by one at most.

        In a pooled order the larger parts are where the lanes ask for them (section 6), else they are the first ones.

        Returns:
            int64[batches, num_parts + 1], places from the beginning of the stream on.
        """
        firsts = np.arange(first, stop, dtype=np.int64) * self.batch_size
        counts = np.full_like(firsts, self.batch_size)
        if self.stop is not None:
            counts = np.clip(self.stop - self.start - firsts, 0, self.batch_size)
        part = np.arange(num_parts + 1, dtype=np.int64)
        smaller, larger = np.divmod(counts[:, None], num_parts)
        ends: Array = smaller * part + np.minimum(part, larger)
        if self.num_lanes > 1:
            in_epoch = (self.start + firsts) % self.num_records
            phases = in_epoch % self.num_lanes
            follow = np.flatnonzero((counts % num_parts > 0) & (in_epoch + counts <= self.num_records))
            kinds, of_batch = np.unique(counts[follow] * self.num_lanes + phases[follow], return_inverse=True)
            for number, kind in enumerate(kinds.tolist()):
                count, phase = divmod(kind, self.num_lanes)
                ends[follow[of_batch == number]] = cut(self.num_lanes, phase, count, num_parts)
        return firsts[:, None] + ends

    def _order_of(self, first: int) -> Array:
        """The order of one batch that is cut short, or that runs over the end of an epoch."""
        size = self.batch_size if self.stop is None else min(self.batch_size, self.stop - first)
        positions = first + np.arange(size)
        epoch = positions // self.num_records
        lane = reverse_bits(self.num_lanes)[positions % self.num_records % self.num_lanes]
        return np.lexsort((positions, lane, epoch))


def _firsts(batch: Array) -> Array:
    """Places at which another batch begins in ascending batch numbers."""
    return np.flatnonzero(np.diff(batch, prepend=-1))


@lru_cache(maxsize=512)
def pattern(num_lanes: int, phase: int, batch_size: int) -> Array:
    """The order by lane of consecutive positions, the first of which is `phase` modulo L; not to be changed."""
    lane = reverse_bits(num_lanes)[(phase + np.arange(batch_size)) & (num_lanes - 1)]
    order = np.argsort(lane, kind="stable")
    order.flags.writeable = False
    return order


@lru_cache(maxsize=512)
def cut(num_lanes: int, phase: int, count: int, num_parts: int) -> Array:
    """Where consecutive positions, sorted by lane, are cut into parts; not to be changed.

    A part gets about the same lanes of every batch, so that who reads it decodes little of its neighbours'.

    Args:
        phase: the first position modulo L.
        count: positions.

    Returns:
        int64[num_parts + 1].
    """
    lanes = np.sort(reverse_bits(num_lanes)[(phase + np.arange(count)) & (num_lanes - 1)])
    own_ends = np.searchsorted(lanes * num_parts, np.arange(1, num_parts + 1) * num_lanes).tolist()
    smaller, larger_left = divmod(count, num_parts)
    ends = [0]
    for number, own_end in enumerate(own_ends):
        end = ends[-1] + smaller
        is_larger = larger_left > 0 and (own_end > end or larger_left == num_parts - number)
        larger_left -= is_larger
        ends.append(end + is_larger)
    found = np.array(ends, np.int64)
    found.flags.writeable = False
    return found
