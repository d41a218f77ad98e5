"""Consecutive rows of a shard, over many chunks at once: what a task of reading in order does.

    fronts of the chunks -> their directories, checked together -> the frames of each column -> arrays of all rows

The work for a chunk and for a frame, not for a byte, decides how fast a projection is, or a column that is stored raw;
so it is done once for many chunks wherever numpy can. What is stored raw is read straight into the arrays that users
get.
Every byte is verified as in `ShardReader.read_chunk`. What is wrong where is not said here: whoever asks finds it by
reading chunk by chunk.

Spec: spec/format.md, sections 4 to 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from recordio.buffers import Buffers
from recordio.chunks.directories import decode_directories
from recordio.columns import Array, ColumnValues, slice_rows
from recordio.errors import MalformedError
from recordio.format.checksum import Buffer
from recordio.format.chunk import CHUNK_HEADER_SIZE, is_chunk_front
from recordio.format.codec import MAX_WHOLE_SIZE
from recordio.shards import many_columns
from recordio.shards.file_spans import Metered, Span
from recordio.shards.run_decoding import decode_fixed_each, decode_into, decoder
from recordio.shards.run_frames import check_frames, select, select_each
from recordio.shards.shard_reader import ShardReader
from recordio.storage import ReadHandle

MAX_CHUNKS = 256  # at once: more of them cost latency and save nothing
# Where chunks are smaller than this share of their raw bytes, or their columns have hardly so many bytes, they are read
# whole; else each column to where it belongs.
_SPAN_RATIO = 0.75
_SMALL_PART_SIZE = 256 << 10
MAX_COLUMNS_AT_ONCE = 256  # of the schema: the directories of wider ones cost more than the steps saved


def read_rows(
    shard: ShardReader,
    start: int,
    stop: int,
    ordinals: Sequence[int],
    buffers: Buffers,
    into: Sequence[Array | None] | None = None,
) -> list[ColumnValues]:
    """Read and decode the rows [start, stop) of some columns, ordinals in the shard; the caller's own.

    Args:
        buffers: lends the memory of large arrays.
        into: for each column, where the values of its rows go: dtype[stop - start, *shape] of a fixed column without
            None, or None for new memory.

    Raises:
        RecordIOError: something is wrong in one of the chunks, which is not named.
    """
    table = shard.table
    handle: ReadHandle = Metered(shard.handle())
    first = int(table.first_records.searchsorted(start, side="right")) - 1
    last = int(table.first_records[:-1].searchsorted(stop, side="left"))
    num_records = np.diff(table.first_records[first : last + 1])
    stored_sizes = np.diff(table.offsets[first : last + 1])
    is_whole = int(table.first_records[first]) == start and int(table.first_records[last]) == stop
    stored_size = int(stored_sizes.sum())
    if (
        is_whole
        and len(ordinals) == len(shard.schema.columns)
        and (
            stored_size < _SPAN_RATIO * int(table.raw_sizes[first:last].sum())
            or stored_size < _SMALL_PART_SIZE * len(ordinals) * (last - first)
        )
    ):
        offset = int(table.offsets[first])
        handle = Span.of(handle, offset, stored_size, buffers)
    fronts = [
        _front(shard, handle, *fields)
        for fields in zip(
            range(first, last), table.offsets[first:last].tolist(), table.directory_sizes[first:last].tolist(),
            table.header_crcs[first:last].tolist(), num_records.tolist(), table.first_records[first:last].tolist(),
            stored_sizes.tolist(),
        )
    ]  # fmt: skip
    directories = decode_directories(
        fronts, num_columns=len(shard.schema.columns), num_records=num_records, stored_sizes=stored_sizes,
        raw_sizes=table.raw_sizes[first:last],
    )  # fmt: skip
    found: list[ColumnValues] = []
    together: dict[int, ColumnValues] = {}
    if is_whole and into is None and isinstance(handle, Span):
        fixed = [o for o in ordinals if shard.schema.columns[o].is_fixed and not shard.schema.columns[o].optional]
        # Larger frames are streamed to where they belong, so that a large record is never there twice.
        is_small = int(directories.frames[:, 1].max()) <= MAX_WHOLE_SIZE
        if len(fixed) >= many_columns.MIN_COLUMNS and is_small:
            decoded = many_columns.decode_columns(
                handle, shard.schema, fixed, directories, offsets=table.offsets[first:last], num_records=num_records,
                buffers=buffers,
            )  # fmt: skip
            together.update(zip(fixed, decoded))
    for place, ordinal in enumerate(ordinals):
        if ordinal in together:
            found.append(together.pop(ordinal))
            continue
        column = shard.schema.columns[ordinal]
        frames = select(
            directories, ordinal, table.offsets[first:last], start - int(table.first_records[first]), stop - start
        )
        check_frames(column, directories, ordinal, num_records, frames)
        target = None if into is None else into[place]
        if target is not None:
            found.append(decode_into(handle, column, frames, buffers, target))
            continue
        rows = decoder(column, frames)(handle, column, frames, buffers)
        found.append(slice_rows(column, rows, frames.start, frames.start + stop - start))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Rows of one chunk: [start, stop) in the shard."""

    shard: ShardReader
    chunk_id: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class SegmentRows:
    """The rows of a segment, and where they begin in the arrays that were given for them.

    Attributes:
        columns: the caller's own.
        skips: for each column, rows in its array before those of the segment.
    """

    columns: list[ColumnValues]
    skips: list[int]


def read_segments(
    segments: Sequence[Segment], ordinals: Sequence[int], buffers: Buffers, into: Sequence[Sequence[Array | None]]
) -> list[SegmentRows]:
    """Read and decode rows of chunks that lie anywhere in a data set; as `read_rows`, in as few steps.

    Args:
        segments: of shards of one schema; at least one.
        into: for each segment and column, where the values of a fixed column without None go: dtype[rows, *shape] with
            room for the segment at least; frames that hold more are decoded there as a whole, if there is room.
            None: new memory.

    Raises:
        RecordIOError: something is wrong in one of the chunks, which is not named.
    """
    schema = segments[0].shard.schema
    fronts, handles, kept = [], [], []
    for segment in segments:
        shard, chunk_id, table = segment.shard, segment.chunk_id, segment.shard.table
        offset, end = table.offsets[chunk_id : chunk_id + 2].tolist()
        first, last = table.first_records[chunk_id : chunk_id + 2].tolist()
        raw_size = int(table.raw_sizes[chunk_id])
        handle: ReadHandle = Metered(shard.handle())
        part = (segment.stop - segment.start) / (last - first)
        if len(ordinals) == len(schema.columns) and end - offset < _SPAN_RATIO * part * raw_size:
            handle = Span.of(handle, offset, end - offset, buffers)
        fronts.append(
            _front(
                shard, handle, chunk_id, offset, int(table.directory_sizes[chunk_id]), int(table.header_crcs[chunk_id]),
                last - first, first, end - offset,
            )
        )  # fmt: skip
        handles.append(handle)
        kept.append((offset, end - offset, last - first, raw_size, segment.start - first, segment.stop - first))
    offsets_, stored_sizes, num_records, raw_sizes, starts, stops = np.array(kept, np.int64).T
    directories = decode_directories(
        fronts, num_columns=len(schema.columns), num_records=num_records, stored_sizes=stored_sizes,
        raw_sizes=raw_sizes,
    )  # fmt: skip
    found = [SegmentRows([], []) for _ in segments]
    for place, ordinal in enumerate(ordinals):
        column = schema.columns[ordinal]
        frames, skips = select_each(directories, ordinal, offsets_, starts, stops)
        check_frames(column, directories, ordinal, num_records, frames)
        targets = [arrays[place] for arrays in into]
        bounds = np.searchsorted(frames.chunks, np.arange(len(segments) + 1))
        if column.is_fixed and not column.optional:
            counts = np.add.reduceat(frames.num_records, bounds[:-1])
            values = decode_fixed_each(handles, column, frames, buffers, targets, counts)
        else:
            values = []
            for number, (low, high) in enumerate(pairwise(bounds.tolist())):
                own = frames.part(low, high)
                values.append(decoder(column, own)(handles[number], column, own, buffers))
        sizes = (stops - starts).tolist()
        for rows, value, target, skip, size in zip(found, values, targets, skips.tolist(), sizes, strict=True):
            if target is None or len(target) >= value.num_rows:
                rows.columns.append(slice_rows(column, value, skip, skip + size))
                rows.skips.append(0 if target is None else skip)
            else:
                target[:size] = value.values[skip : skip + size]
                rows.columns.append(ColumnValues(size, target[:size]))
                rows.skips.append(0)
    return found


def _front(
    shard: ShardReader, handle: ReadHandle, chunk_id: int, offset: int, directory_size: int, header_crc: int,
    records: int, first_record: int, stored_size: int,
) -> Buffer:  # fmt: skip
    """The directory of a chunk that is the one its table lists."""
    front = handle.read(offset, CHUNK_HEADER_SIZE + directory_size)
    if not is_chunk_front(
        front, shard.file_id, chunk_id, records, first_record, stored_size, directory_size, header_crc, offset
    ):
        raise MalformedError("a chunk is not the one that its table lists")
    return front[CHUNK_HEADER_SIZE:]
