"""The tape: all rows of a view, shard by shard and chunk by chunk, in an order of its own in every epoch.

    rows       0 ......................... N          ascending record numbers, chunk after chunk
    tape       shards permuted, in each its chunks    cut into lanes of equal length
    segment    what a lane has of a chunk             the smallest thing that is decoded for an order

Spec: spec/order.md, section 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from recordio.plan.mixing import Array, Key, mix, reverse_bits

_MOST_STEPS = 6  # through the segments of a range, one after the other
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True, kw_only=True)
class Tape:
    """The chunks that hold a row of a view; one entry each, in ascending order of rows.

    Attributes:
        shards: int64[k], ordinal of the shard in the data set.
        chunks: int64[k], ordinal of the chunk in its shard.
        starts: int64[k], its first row.
        counts: int64[k], its rows, at least one.
    """

    shards: Array
    chunks: Array
    starts: Array
    counts: Array

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def num_records(self) -> int:
        """N."""
        return int(self.counts.sum())

    def of_shards(self, shards: Array) -> Tape:
        """The part of the tape that lies in some shards (int64, ascending ordinals); its rows keep their numbers."""
        kept = np.isin(self.shards, shards)
        return Tape(
            shards=self.shards[kept], chunks=self.chunks[kept], starts=self.starts[kept], counts=self.counts[kept]
        )

    def rows_at(self, places: Array) -> Array:
        """The rows at places among those of the tape, in ascending order: int64[m]."""
        ends = np.cumsum(self.counts)
        entry = np.searchsorted(ends, places, side="right")
        found: Array = places + (self.starts - (ends - self.counts))[entry]
        return found

    def order(self, keys: Key) -> Array:
        """Places of the chunks in this table, in the order of an epoch: int64[k]."""
        shards = mix(self.shards.astype(np.uint64) ^ np.uint64(keys[0]))
        chunks = mix(self.chunks.astype(np.uint64) ^ np.uint64(keys[1]))
        return np.lexsort((chunks, shards))


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """What the lanes have of the chunks, in the order of the tape; int64[S] each.

    Attributes:
        places: first place on the tape.
        rows: its first row.
        counts: rows, at least one.
        chunks: place of the chunk in the `Tape`.
        ends: the first position from which on none of its rows comes any more.
    """

    places: Array
    rows: Array
    counts: Array
    chunks: Array
    ends: Array

    def search(self, starts: Array, stops: Array, num_places: int) -> Callable[[Array, Array], Array]:
        """How places are found that lie in some ranges.

        Args:
            starts, stops: int64[r], ranges of places.
            num_places: that are looked for, about.

        Returns:
            Gives the segments of places: int64[m] of int64[m], and the ordinals of their ranges, int64[m].
        """
        first = np.searchsorted(self.places, starts, side="right") - 1
        more = np.searchsorted(self.places, stops, side="left") - 1 - first  # segments that begin within the range
        most = int(more.max(initial=0))
        if most > _MOST_STEPS or len(starts) * 4 > num_places:
            return lambda places, _: np.searchsorted(self.places, places, side="right") - 1
        # A few comparisons for all places cost a fraction of a search for each.
        steps = []
        for step in range(1, most + 1):
            bounds = self.places[np.minimum(first + step, len(self.places) - 1)]
            bounds[more < step] = _NEVER
            steps.append(bounds)

        def find(places: Array, which: Array) -> Array:
            found: Array = first[which]
            for bounds in steps:
                found += places >= bounds[which]
            return found

        return find


@dataclass(frozen=True, slots=True, kw_only=True)
class Lanes:
    """The cut of a tape of N rows into lanes, and of the lanes into windows.

    Attributes:
        lengths: int64[L], records of each lane.
        starts: int64[L], first place of each lane on the tape.
        missing: int64[L], records that each lane lacks in front of its first window.
        window: W.
    """

    lengths: Array
    starts: Array
    missing: Array
    window: int

    @staticmethod
    def cut(num_records: int, num_lanes: int, window: int) -> Lanes:
        """Make the lanes of a tape."""
        turn = reverse_bits(num_lanes)
        lengths = num_records // num_lanes + (turn < num_records % num_lanes).astype(np.int64)
        first = np.maximum(1, (turn + 1) * window // num_lanes)
        return Lanes(lengths=lengths, starts=np.cumsum(lengths) - lengths, missing=window - first, window=window)

    def windows(self, lanes: Array, windows: Array) -> tuple[Array, Array, Array]:
        """First record, number of records, and place on the tape of windows: int64[m] each, of int64[m].

        Records count from the first missing one of the lane. Windows that a lane does not have are empty.
        """
        missing = self.missing[lanes]
        firsts = np.maximum(windows * self.window, missing)
        stops = np.minimum((windows + 1) * self.window, missing + self.lengths[lanes])
        return firsts, np.maximum(stops - firsts, 0), self.starts[lanes] + firsts - missing

    def segments(self, tape: Tape, order: Array) -> Segments:
        """Cut the chunks of a tape, in the order of an epoch, where the lanes are cut."""
        counts = tape.counts[order]
        chunk_places = np.cumsum(counts) - counts
        num_records = int(counts.sum())
        places = _merged(chunk_places, self.starts[self.lengths > 0])
        chunk = np.searchsorted(chunk_places, places, side="right") - 1
        ends = np.append(places[1:], num_records)
        # The window of the last row of a segment; when it has passed, nothing of the segment comes any more.
        lane = np.searchsorted(self.starts, places, side="right") - 1
        last = ends - 1 - self.starts[lane] + self.missing[lane]
        rank_end = np.minimum((last // self.window + 1) * self.window - self.missing[lane], self.lengths[lane])
        return Segments(
            places=places, rows=tape.starts[order][chunk] + places - chunk_places[chunk], counts=ends - places,
            chunks=order[chunk], ends=rank_end * len(self.lengths),
        )  # fmt: skip


def _merged(many: Array, few: Array) -> Array:
    """The numbers of both, each once, in ascending order, as both are; sorting all would cost many times more."""
    at = np.searchsorted(many, few)
    is_new = np.ones(len(few), np.bool_)
    inside = at < len(many)
    is_new[inside] = many[at[inside]] != few[inside]
    return np.insert(many, at[is_new], few[is_new])
