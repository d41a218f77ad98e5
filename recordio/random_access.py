"""Rows by number: what `ds[i]` and `ds[[...]]` do.

    record numbers -> (shard, chunk, row) -> frames, from the cache or the file -> rows, in the order asked

Each frame is decoded once for a call. Where frames have but a few of the rows asked for, these are copied one by one,
which takes less time than to set up anything for all of them.

Spec: spec/format.md, sections 5 and 12.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

import numpy as np

from recordio.columns import Array, ColumnValues, concat, empty, memory_size, take_rows
from recordio.errors import RecordIOError
from recordio.reader_cache import Chunk, Frame, Key, ReaderCache
from recordio.schema import Column, Schema
from recordio.shards.shard_reader import ShardReader
from recordio.values.leaves import leaf_getter

_FRAME_ENTRY_SIZE = 120  # bytes that one frame of a cached directory takes in memory, about
_FEW_ROWS = 4  # of a frame, on average


class Source(Protocol):
    """A data set whose shards can be read."""

    @property
    def schema(self) -> Schema: ...
    @property
    def cache(self) -> ReaderCache: ...
    @property
    def shard_starts(self) -> list[int]:
        """Record numbers at which shards begin, and the end."""
        ...

    def shard(self, shard_id: int) -> ShardReader: ...


@dataclass(frozen=True, slots=True)
class _Part:
    """Numbers [low, high) of those asked for, in ascending order, that lie in one chunk."""

    shard_id: int
    chunk_id: int
    chunk: Chunk
    first: int  # record number of its first row
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class _Group:
    """Numbers [low, high) that lie in one frame."""

    chunk: Chunk
    key: Key
    first: int  # record number of its first row
    low: int
    high: int


def record(source: Source, number: int, ordinals: Sequence[int]) -> list[Any]:
    """The leaves of one record, in range; the caller's own."""
    cache = source.cache
    shard_id, chunk_id, first, _ = locate(source, cache, number)
    row = number - first
    chunk: Chunk = cache.get((shard_id, chunk_id, -1, -1)) or _chunk(source, cache, shard_id, chunk_id)
    leaves = []
    for ordinal in ordinals:
        ends = chunk.ends[ordinal] or _ends(chunk, ordinal)
        place = bisect_right(ends, row) if len(ends) > 1 else 0
        key = shard_id, chunk_id, ordinal, place
        frame: Frame = cache.get(key) or _frame(source, cache, chunk, key)
        leaf = frame.leaf
        if leaf is None:
            leaf = frame.leaf = leaf_getter(source.schema.columns[ordinal], frame.rows)
        leaves.append(leaf(row - ends[place - 1] if place else row))
    return leaves


def rows(source: Source, numbers: Array, ordinals: Sequence[int]) -> list[ColumnValues]:
    """Rows in the order asked, in new memory: int64[m], in range, repeats allowed."""
    if not len(numbers):
        return [empty(source.schema.columns[ordinal]) for ordinal in ordinals]
    order = np.argsort(numbers, kind="stable")
    wanted = numbers[order]
    ascending: list[int] = wanted.tolist()
    parts = list(_parts(source, ascending))
    found = []
    for ordinal in ordinals:
        column = source.schema.columns[ordinal]
        groups = [group for part in parts for group in _groups(part, ordinal, ascending)]
        if len(ascending) <= _FEW_ROWS * len(groups) and _can_be_copied(column):
            found.append(_copied(source, column, groups, ascending, order.tolist()))
        else:
            found.append(_taken(source, column, groups, wanted, order))
    return found


def _parts(source: Source, ascending: list[int]) -> Iterator[_Part]:
    cache = source.cache
    low = 0
    while low < len(ascending):
        shard_id, chunk_id, first, end = locate(source, cache, ascending[low])
        high = bisect_left(ascending, end, low)
        chunk = cache.get((shard_id, chunk_id, -1, -1)) or _chunk(source, cache, shard_id, chunk_id)
        yield _Part(shard_id, chunk_id, chunk, first, low, high)
        low = high


def _groups(part: _Part, ordinal: int, ascending: list[int]) -> Iterator[_Group]:
    ends = part.chunk.ends[ordinal] or _ends(part.chunk, ordinal)
    low = part.low
    while low < part.high:
        place = bisect_right(ends, ascending[low] - part.first) if len(ends) > 1 else 0
        high = bisect_left(ascending, part.first + ends[place], low, part.high)
        first = part.first + ends[place - 1] if place else part.first
        yield _Group(part.chunk, (part.shard_id, part.chunk_id, ordinal, place), first, low, high)
        low = high


def _taken(source: Source, column: Column, groups: list[_Group], wanted: Array, order: Array) -> ColumnValues:
    """The rows, frame by frame, then put into the order asked."""
    cache = source.cache
    parts = []
    for group in groups:
        frame: Frame = cache.get(group.key) or _frame(source, cache, group.chunk, group.key)
        parts.append(take_rows(column, frame.rows, wanted[group.low : group.high] - group.first))
    joined = concat(parts)
    if bool((order[1:] > order[:-1]).all()):
        return joined
    back = np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    return take_rows(column, joined, back)


def _can_be_copied(column: Column) -> bool:
    """Whether a row is one run of values, and its size tells its shape."""
    return not column.optional and (column.is_fixed or column.has_plain_rows)


def _copied(
    source: Source, column: Column, groups: list[_Group], ascending: list[int], order: list[int]
) -> ColumnValues:
    """The rows, one by one, each to where it was asked for."""
    cache = source.cache
    count = len(order)
    if column.is_fixed:
        values = np.empty((count, *(dim or 0 for dim in column.shape or ())), column.numpy_dtype)
        for group in groups:
            frame: Frame = cache.get(group.key) or _frame(source, cache, group.chunk, group.key)
            from_values = frame.rows.values
            for place in range(group.low, group.high):
                values[order[place]] = from_values[ascending[place] - group.first]
        return ColumnValues(count, values)
    runs: list[Any] = [None] * count
    for group in groups:
        frame = cache.get(group.key) or _frame(source, cache, group.chunk, group.key)
        from_values, bounds = frame.rows.values, frame.bounds
        for place in range(group.low, group.high):
            row = ascending[place] - group.first
            runs[order[place]] = from_values[bounds[row] : bounds[row + 1]]
    sizes = np.fromiter(map(len, runs), np.int64, count)
    values = np.concatenate(runs)
    if column.is_string_like:
        return ColumnValues(count, values, dims=np.empty((count, 0), np.int64), lengths=sizes)
    return ColumnValues(count, values, dims=sizes.reshape(-1, 1))


def locate(source: Source, cache: ReaderCache, number: int) -> tuple[int, int, int, int]:
    """Shard, chunk, and the record numbers of its first row and after its last one."""
    shard_id = bisect_right(source.shard_starts, number) - 1
    starts = cache.chunk_starts.get(shard_id)
    if starts is None:
        first_records = source.shard(shard_id).table.first_records
        starts = cache.chunk_starts[shard_id] = (source.shard_starts[shard_id] + first_records).tolist()
    chunk_id = bisect_right(starts, number) - 1
    return shard_id, chunk_id, starts[chunk_id], starts[chunk_id + 1]


def _ends(chunk: Chunk, ordinal: int) -> list[int]:
    """Row after the last one of each frame."""
    ends = chunk.ends[ordinal] = [*accumulate(frame.num_records for frame in chunk.directory.columns[ordinal].frames)]
    return ends


def _chunk(source: Source, cache: ReaderCache, shard_id: int, chunk_id: int) -> Chunk:
    """Read the directory of a chunk."""
    directory = source.shard(shard_id).read_directory(chunk_id)
    chunk = Chunk(directory)
    num_entries = sum(2 + len(column.frames) for column in directory.columns)
    cache.keep((shard_id, chunk_id, -1, -1), chunk, _FRAME_ENTRY_SIZE * num_entries)
    return chunk


def _frame(source: Source, cache: ReaderCache, chunk: Chunk, key: Key) -> Frame:
    """Read and decode a frame."""
    shard_id, chunk_id, ordinal, place = key
    shard = source.shard(shard_id)
    try:
        starts = chunk.starts[ordinal]
        if starts is None:
            starts = chunk.starts[ordinal] = shard.frame_starts(chunk_id, chunk.directory, ordinal)
        found = shard.read_frame(chunk.directory, ordinal, place, starts[place])
    except RecordIOError:
        # Found again, with its place.
        found = shard.read_frames(chunk_id, chunk.directory, ordinal, place, place + 1)
    frame = Frame(found)
    cache.keep(key, frame, memory_size(found))
    return frame
