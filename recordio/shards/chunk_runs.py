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

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from recordio.buffers import Buffers
from recordio.chunks.directories import Directories, decode_directories
from recordio.chunks.frame_parts import check_bool, check_elements, check_variable, parse_frames
from recordio.chunks.stored_values import fixed_frames_fit, may_encode, raw_size_fits, values_into, widen_into
from recordio.columns import Array, ColumnValues, concat, slice_rows
from recordio.errors import ChecksumError, MalformedError
from recordio.format import layout
from recordio.format.checksum import Buffer, crc, crc_of_frame
from recordio.format.chunk import CHUNK_HEADER_SIZE, is_chunk_front
from recordio.format.codec import (
    CODEC_RAW,
    ENCODING_PLAIN,
    MAX_WHOLE_SIZE,
    decompress_frames,
    narrow_size,
    place_size,
)
from recordio.metering import add_read, add_verify, clock
from recordio.schema import Column
from recordio.shards import many_columns
from recordio.shards.shard_reader import ShardReader
from recordio.shards.waiting import Waiting
from recordio.storage import ReadHandle, fill

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
    handle: ReadHandle = _Metered(shard.handle())
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
        handle = _Span.of(handle, offset, stored_size, buffers)
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
    if is_whole and into is None and isinstance(handle, _Span):
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
        frames = _select(
            directories, ordinal, table.offsets[first:last], start - int(table.first_records[first]), stop - start
        )
        _check_frames(column, directories, ordinal, num_records, frames)
        target = None if into is None else into[place]
        if target is not None:
            found.append(_decode_into(handle, column, frames, buffers, target))
            continue
        rows = _decoder(column, frames)(handle, column, frames, buffers)
        found.append(slice_rows(column, rows, frames.start, frames.start + stop - start))
    return found


def _decode_into(
    handle: ReadHandle, column: Column, frames: _Frames, buffers: Buffers, target: Array
) -> ColumnValues:
    """As `_decode_fixed`, to where the caller wants the rows; by way of new memory if the frames hold more of them."""
    num_rows = int(frames.num_records.sum())
    if num_rows == len(target):
        return _decode_fixed(handle, column, frames, buffers, target)
    rows = _decode_fixed(handle, column, frames, buffers)
    target[:] = rows.values[frames.start : frames.start + len(target)]
    return ColumnValues(len(target), target)


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
        handle: ReadHandle = _Metered(shard.handle())
        part = (segment.stop - segment.start) / (last - first)
        if len(ordinals) == len(schema.columns) and end - offset < _SPAN_RATIO * part * raw_size:
            handle = _Span.of(handle, offset, end - offset, buffers)
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
        frames, skips = _select_each(directories, ordinal, offsets_, starts, stops)
        _check_frames(column, directories, ordinal, num_records, frames)
        targets = [arrays[place] for arrays in into]
        bounds = np.searchsorted(frames.chunks, np.arange(len(segments) + 1))
        if column.is_fixed and not column.optional:
            counts = np.add.reduceat(frames.num_records, bounds[:-1])
            values = _decode_fixed_each(handles, column, frames, buffers, targets, counts)
        else:
            values = []
            for number, (low, high) in enumerate(pairwise(bounds.tolist())):
                own = frames.part(low, high)
                values.append(_decoder(column, own)(handles[number], column, own, buffers))
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


def _decode_fixed_each(
    handles: Sequence[ReadHandle], column: Column, frames: _Frames, buffers: Buffers,
    targets: Sequence[Array | None], counts: Array,
) -> list[ColumnValues]:  # fmt: skip
    """Frames of a fixed column, chunk by chunk: into the targets that have room for all of their rows."""
    shape = tuple(dim or 0 for dim in column.shape or ())
    found = [
        ColumnValues(
            count,
            buffers.empty((count, *shape), column.numpy_dtype)
            if target is None or len(target) < count
            else target[:count],
        )
        for target, count in zip(targets, counts.tolist(), strict=True)
    ]
    waiting = Waiting()
    reads = _FixedReads(column, frames)
    filled, chunk = 0, -1
    for first, stop, place, size in frames.reads():
        if reads.chunks[first] != chunk:
            filled, chunk = 0, reads.chunks[first]
        filled = reads.fill(handles[chunk], found[chunk].values.reshape(-1), filled, first, stop, place, size, waiting)
    waiting.decode()
    if column.dtype == "bool":
        for rows in found:
            check_bool(rows)
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


def _check_frames(
    column: Column, directories: Directories, ordinal: int, num_records: Array, frames: _Frames
) -> None:
    """Refuse frames that cannot belong to this column, before anything is allocated for them."""
    if frames.encodings.any():
        _check_encodings(column, directories, ordinal, num_records, frames)
    if column.is_fixed:
        fits = fixed_frames_fit(
            num_values=frames.num_records * (column.row_size // (column.itemsize or 1)),
            num_flags=frames.num_records * column.optional, stored_size=frames.stored_value_sizes(column),
            place_size=place_size(frames.encodings), raw_size=frames.raw_sizes,
        )  # fmt: skip
        if frames.widths.any() or not fits.all():
            raise MalformedError("a frame that is not as large as its rows")
    elif not frames.widths.all():
        raise MalformedError("no length width in a variable column")


def _check_encodings(
    column: Column, directories: Directories, ordinal: int, num_records: Array, frames: _Frames
) -> None:
    """As `check_encoding`, for all chunks at once."""
    encodings = directories.encodings[:, ordinal]
    if not all(may_encode(column, encoding) for encoding in np.unique(encodings).tolist()):
        raise MalformedError("an encoding that the type of its column does not allow")
    widened = frames.raw_sizes * frames.growths(column)
    if column.is_fixed:
        widened = np.where(place_size(frames.encodings) > 0, frames.num_records * column.row_size, widened)
    if int(widened.max()) > layout.MAX_FRAME_RAW_SIZE:
        raise MalformedError("a frame that is too large once its values are widened")
    encoded = np.flatnonzero(encodings)
    if not raw_size_fits(
        column, encodings[encoded], raw_size=directories.raw_sizes[encoded, ordinal],
        frame_sum=directories.frame_sums[encoded, ordinal], num_records=num_records[encoded],
    ).all():  # fmt: skip
        raise MalformedError("a column whose raw size is not that of its values at full width")


class _Metered:
    """An open file that counts the time of its reads."""

    def __init__(self, handle: ReadHandle) -> None:
        self.path, self.size = handle.path, handle.size
        self._handle = handle

    def read(self, offset: int, size: int) -> memoryview:
        started = clock()
        data = self._handle.read(offset, size)
        add_read(started)
        return data

    def read_into(self, offset: int, buffers: Sequence[memoryview]) -> None:
        started = clock()
        self._handle.read_into(offset, buffers)
        add_read(started)


class _Span:
    """A part of a file that was read at once; what is read of it are views."""

    def __init__(self, path: str, offset: int, data: memoryview) -> None:
        self.path = path
        self.size = offset + len(data)
        self._offset = offset
        self._data = data

    @classmethod
    def of(cls, handle: ReadHandle, offset: int, size: int, buffers: Buffers) -> _Span:
        """Read the part, to memory that is lent."""
        # Length before contents: a damaged size must not become an allocation.
        if offset + size > handle.size:
            return cls(handle.path, offset, handle.read(offset, size))
        data = memoryview(buffers.take(size))
        handle.read_into(offset, [data])
        return cls(handle.path, offset, data)

    def read(self, offset: int, size: int) -> memoryview:
        start = offset - self._offset
        if start < 0 or start + size > len(self._data):
            raise MalformedError("a chunk that reaches beyond its end")
        return self._data[start : start + size]

    def read_into(self, offset: int, buffers: Sequence[memoryview]) -> None:
        fill(buffers, self.read(offset, sum(map(len, buffers))))


@dataclass(frozen=True, slots=True)
class _Frames:
    """Frames of one column, one after the other, over chunks; arrays of int64[F]."""

    start: int  # rows before the one asked for first
    chunks: Array  # ordinals in the run
    places: Array  # bytes from the start of the file
    codecs: Array
    encodings: Array
    widths: Array
    num_records: Array
    raw_sizes: Array
    stored_sizes: Array
    crcs: Array

    def reads(self) -> Iterator[tuple[int, int, int, int]]:
        """Runs of frames that lie back to back: first and last ordinal (half-open), place and size."""
        bounds = [0, *(np.flatnonzero(np.diff(self.chunks)) + 1).tolist(), len(self.chunks)]
        sizes = np.add.reduceat(self.stored_sizes, bounds[:-1]).tolist()
        return zip(bounds[:-1], bounds[1:], self.places[bounds[:-1]].tolist(), sizes)

    def part(self, first: int, stop: int) -> _Frames:
        """Some of the frames."""
        arrays = (
            self.chunks, self.places, self.codecs, self.encodings, self.widths, self.num_records, self.raw_sizes,
            self.stored_sizes, self.crcs,
        )  # fmt: skip
        return _Frames(self.start, *(array[first:stop] for array in arrays))

    def stored_value_sizes(self, column: Column) -> int | Array:
        """Bytes of a value as it is stored, or listed in a dictionary, frame by frame."""
        size = column.itemsize or 1
        if not self.encodings.any():
            return size
        narrow = narrow_size(self.encodings)
        return np.where(narrow, narrow, size)

    def growths(self, column: Column) -> int | Array:
        """How many times as large narrow values get when they are widened, frame by frame; 1 where all are plain."""
        return (column.itemsize or 1) // self.stored_value_sizes(column)


def _select_each(
    directories: Directories, ordinal: int, offsets: Array, starts: Array, stops: Array
) -> tuple[_Frames, Array]:
    """The frames of a column that hold the rows [start, stop) of each chunk, and rows in them before `start`."""
    chunks, entries, places = _frames_of(directories, ordinal, offsets)
    ends = np.cumsum(entries[:, 0])
    counts = directories.num_frames[:, ordinal]
    before = (ends - entries[:, 0])[np.cumsum(counts) - counts]
    ends = ends - before[chunks]  # in the chunk
    part = np.flatnonzero((ends > starts[chunks]) & (ends - entries[:, 0] < stops[chunks]))
    chunks, entries = chunks[part], entries[part]
    firsts = np.searchsorted(chunks, np.arange(len(starts)))
    skips = starts - (ends[part] - entries[:, 0])[firsts]
    return _frames(directories, ordinal, 0, chunks, places[part], entries), skips


def _frames_of(directories: Directories, ordinal: int, offsets: Array) -> tuple[Array, Array, Array]:
    """All frames of a column: chunk, entry and place in the file of each."""
    counts = directories.num_frames[:, ordinal]
    before = np.cumsum(counts) - counts
    chunks = np.repeat(np.arange(len(counts)), counts)
    entries = directories.frames[np.arange(len(chunks)) + (directories.first_frames[:, ordinal] - before)[chunks]]
    stored_starts = np.cumsum(entries[:, 2]) - entries[:, 2]
    places = (offsets + directories.offsets[:, ordinal] - stored_starts[before])[chunks] + stored_starts
    return chunks, entries, places


def _frames(
    directories: Directories, ordinal: int, start: int, chunks: Array, places: Array, entries: Array
) -> _Frames:
    return _Frames(
        start, chunks, places, directories.codecs[:, ordinal][chunks], directories.encodings[:, ordinal][chunks],
        directories.widths[:, ordinal][chunks], entries[:, 0], entries[:, 1], entries[:, 2], entries[:, 3],
    )  # fmt: skip


def _select(directories: Directories, ordinal: int, offsets: Array, start: int, count: int) -> _Frames:
    """The frames of a column that hold `count` rows from row `start` of the run on."""
    chunks, entries, places = _frames_of(directories, ordinal, offsets)
    row_ends = np.cumsum(entries[:, 0])
    first = int(row_ends.searchsorted(start, side="right"))
    stop = int(row_ends.searchsorted(start + count, side="left")) + 1
    part = slice(first, stop)
    chunks, entries = chunks[part], entries[part]
    skip = start - int(row_ends[first]) + int(entries[0, 0])
    return _frames(directories, ordinal, skip, chunks, places[part], entries)


def _decoder(column: Column, frames: _Frames) -> Callable[[ReadHandle, Column, _Frames, Buffers], ColumnValues]:
    if column.is_fixed and not column.optional:
        return _decode_fixed
    # Of rows of known rank, none of them None, the directory tells how many numbers stand in front of the values.
    is_told = column.shape is not None and not column.optional and not (column.is_string_like and column.unknown_dims)
    is_small = int(frames.raw_sizes.max()) <= MAX_WHOLE_SIZE
    return _decode_numbered if is_told and is_small else _decode_parts


def _decode_fixed(
    handle: ReadHandle, column: Column, frames: _Frames, buffers: Buffers, target: Array | None = None
) -> ColumnValues:
    """All frames straight into one array.

    Args:
        target: contiguous dtype[rows of all frames, *shape], or None for new memory.
    """
    num_rows = int(frames.num_records.sum())
    if target is None:
        target = buffers.empty((num_rows, *(dim or 0 for dim in column.shape or ())), column.numpy_dtype)
    waiting = Waiting()
    reads = _FixedReads(column, frames)
    filled = 0
    for first, stop, place, size in frames.reads():
        filled = reads.fill(handle, target.reshape(-1), filled, first, stop, place, size, waiting)
    waiting.decode()
    rows = ColumnValues(num_rows, target)
    if column.dtype == "bool":
        check_bool(rows)
    return rows


class _FixedReads:
    """Frames of a fixed column without None, to be read run by run."""

    def __init__(self, column: Column, frames: _Frames) -> None:
        self.chunks: list[int] = frames.chunks.tolist()
        self._column = column
        self._kinds: list[tuple[int, int]] = [*zip(frames.codecs.tolist(), frames.encodings.tolist())]
        num_values = frames.num_records * (column.row_size // (column.itemsize or 1))
        self._entries: list[list[int]] = np.stack(
            [num_values, frames.raw_sizes, frames.stored_sizes, frames.crcs], axis=1
        ).tolist()

    def fill(
        self, handle: ReadHandle, target: Array, filled: int, first: int, stop: int, place: int, size: int,
        waiting: Waiting,
    ) -> int:  # fmt: skip
        """Read and verify the frames [first, stop), which lie back to back; what is compressed may wait.

        Args:
            target: flat, of the column's type.
            filled: values in it so far.
            place, size: of the frames in the file.

        Returns:
            Values in it now.
        """
        codec, encoding = self._kinds[first]
        entries = self._entries[first:stop]
        is_plain = encoding == ENCODING_PLAIN
        # Of plain values their bytes, so that a frame costs no array of its own.
        where: Any = memoryview(target.view(np.uint8)) if is_plain else target
        unit = target.itemsize if is_plain else 1
        if codec == CODEC_RAW and is_plain:
            end = filled + sum([entry[0] for entry in entries])
            stored = where[filled * unit : end * unit]
            handle.read_into(place, [stored])
        else:
            stored = handle.read(place, size)
        start = 0
        for num_values, raw_size, stored_size, stored_crc in entries:
            frame = _verified(stored, start, stored_size, stored_crc)
            stop_at = filled + num_values
            if codec != CODEC_RAW:
                waiting.add(frame, raw_size, where[filled * unit : stop_at * unit], self._column, encoding)
            elif not is_plain:
                values_into(target[filled:stop_at], self._column, encoding, frame)
            filled = stop_at
            start += stored_size
        return filled


def _decode_numbered(handle: ReadHandle, column: Column, frames: _Frames, buffers: Buffers) -> ColumnValues:
    """Frames of one array of numbers and the values, each put to where it belongs; what is stored raw is read there."""
    # Strings of unknown dimensions do not come here.
    num_numbers = len(column.unknown_dims) if not column.is_string_like else math.prod(column.shape or ())  # type: ignore[arg-type]
    if column.is_string_like:
        check_elements(int(frames.num_records.max()) * num_numbers)
    number_sizes = frames.num_records * num_numbers * frames.widths
    value_sizes = frames.raw_sizes - number_sizes
    growths = frames.growths(column)
    if int(value_sizes.min()) < 0 or (value_sizes * growths % column.numpy_dtype.itemsize).any():
        raise MalformedError("a frame whose values are no whole number of values")
    numbers = buffers.take(int(number_sizes.sum()))
    values = buffers.take(int(value_sizes.sum()))
    into_numbers, into_values = memoryview(numbers), memoryview(values)
    number_ends, value_ends = np.cumsum(number_sizes).tolist(), np.cumsum(value_sizes).tolist()
    number_parts = [into_numbers[start:stop] for start, stop in pairwise([0, *number_ends])]
    value_parts = [into_values[start:stop] for start, stop in pairwise([0, *value_ends])]
    codecs, crcs = frames.codecs.tolist(), frames.crcs.tolist()
    raw_sizes, stored_sizes = frames.raw_sizes.tolist(), frames.stored_sizes.tolist()
    for first, stop, place, size in frames.reads():
        parts = [*zip(number_parts[first:stop], value_parts[first:stop])]
        if codecs[first] == CODEC_RAW:
            handle.read_into(place, [part for pair in parts for part in pair])
            started = clock()
            for (number_part, value_part), stored_crc in zip(parts, crcs[first:stop]):
                if crc_of_frame(value_part, crc(number_part)) != stored_crc:
                    raise ChecksumError("a frame has another checksum than its directory says")
            add_verify(started)
            continue
        stored = handle.read(place, size)
        verified = []
        start = 0
        for stored_size, stored_crc in zip(stored_sizes[first:stop], crcs[first:stop]):
            verified.append(_verified(stored, start, stored_size, stored_crc))
            start += stored_size
        for (number_part, value_part), raw in zip(parts, decompress_frames(verified, raw_sizes[first:stop])):
            number_part[:] = raw[: len(number_part)]
            value_part[:] = raw[len(number_part) :]
    counts: list[int] = frames.num_records.tolist()
    found = _numbers(numbers, number_sizes, frames.widths)
    if frames.encodings.any():
        narrow, narrow_sizes = values, value_sizes
        value_sizes = narrow_sizes * growths
        values = buffers.take(int(value_sizes.sum()))
        widen_into(values.view(column.numpy_dtype), column, narrow, frames.encodings, narrow_sizes)
    if column.is_string_like:
        rows = ColumnValues(sum(counts), values, dims=np.zeros((sum(counts), 0), np.int64), lengths=found)
    else:
        rows = ColumnValues(sum(counts), values.view(column.numpy_dtype), dims=found.reshape(-1, num_numbers))
    check_variable(column, rows, counts, value_sizes)
    return rows


def _numbers(stored: Array, sizes: Array, widths: Array) -> Array:
    """Numbers of several widths, back to back: int64, of uint8; sizes and widths are those of each frame, in bytes."""
    firsts = [0, *(np.flatnonzero(np.diff(widths)) + 1).tolist()]
    found = np.empty(int((sizes // widths).sum()), np.int64)
    start = filled = 0
    for width, size in zip(widths[firsts].tolist(), np.add.reduceat(sizes, firsts).tolist()):
        part = stored[start : start + size].view(f"<u{width}")
        found[filled : filled + len(part)] = part
        start += size
        filled += len(part)
    return found


def _decode_parts(handle: ReadHandle, column: Column, frames: _Frames, _buffers: Buffers) -> ColumnValues:
    """Frames of several parts: cut together as far as their numbers and values have the same width."""
    codecs, kinds = frames.codecs.tolist(), [*zip(frames.widths.tolist(), frames.encodings.tolist())]
    entries = np.stack([frames.num_records, frames.raw_sizes, frames.stored_sizes, frames.crcs], axis=1).tolist()
    groups: list[tuple[tuple[int, int], list[Array], list[int]]] = []
    for first, stop, place, size in frames.reads():
        codec, kind = codecs[first], kinds[first]
        if not groups or groups[-1][0] != kind:
            groups.append((kind, [], []))
        _, parts, counts = groups[-1]
        stored = handle.read(place, size)
        start = 0
        verified = []
        for _, _, stored_size, stored_crc in entries[first:stop]:
            verified.append(_verified(stored, start, stored_size, stored_crc))
            start += stored_size
        raw: Sequence[Buffer] = verified
        if codec != CODEC_RAW:
            raw = decompress_frames(verified, [raw_size for _, raw_size, _, _ in entries[first:stop]])
        parts += [np.frombuffer(part, np.uint8) for part in raw]
        counts += [num_records for num_records, _, _, _ in entries[first:stop]]
    return concat([parse_frames(column, parts, counts, *kind) for kind, parts, counts in groups])


def _verified(stored: memoryview, start: int, size: int, stored_crc: int) -> memoryview:
    started = clock()
    frame = stored[start : start + size]
    if crc_of_frame(frame) != stored_crc:
        raise ChecksumError("a frame has another checksum than its directory says")
    add_verify(started)
    return frame
