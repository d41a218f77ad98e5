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

import numpy as np

from recordio.buffers import Buffers
from recordio.chunks.directories import Directories, decode_directories
from recordio.chunks.frame_parts import check_bool, check_elements, check_variable, parse_frames
from recordio.chunks.narrow import may_encode, raw_size_fits, widen_into
from recordio.columns import Array, ColumnValues, concat, slice_rows
from recordio.errors import ChecksumError, MalformedError
from recordio.format import layout
from recordio.format.checksum import Buffer, crc, crc_of_frame
from recordio.format.chunk import CHUNK_HEADER_SIZE, is_chunk_front
from recordio.format.codec import CODEC_RAW, CODEC_ZSTD, MAX_WHOLE_SIZE, decompress_frames, decompress_into
from recordio.schema import Column
from recordio.shards.shard_reader import ShardReader
from recordio.storage import ReadHandle, fill

MAX_CHUNKS = 256  # at once: more of them cost latency and save nothing
# Where chunks are smaller than this share of their raw bytes, they are read whole; else each column to where it
# belongs.
_SPAN_RATIO = 0.75
_DECODED_SIZE = 512 << 10  # raw bytes of frames that are decoded in one step, or a little more
MAX_COLUMNS_AT_ONCE = 256  # of the schema: the directories of wider ones cost more than the steps saved


def read_rows(
    shard: ShardReader, start: int, stop: int, ordinals: Sequence[int], buffers: Buffers
) -> list[ColumnValues]:
    """Read and decode the rows [start, stop) of some columns, ordinals in the shard; the caller's own.

    Args:
        buffers: lends the memory of large arrays.

    Raises:
        RecordIOError: something is wrong in one of the chunks, which is not named.
    """
    table = shard.table
    handle = shard.handle()
    first = int(table.first_records.searchsorted(start, side="right")) - 1
    last = int(table.first_records[:-1].searchsorted(stop, side="left"))
    num_records = np.diff(table.first_records[first : last + 1])
    stored_sizes = np.diff(table.offsets[first : last + 1])
    is_whole = int(table.first_records[first]) == start and int(table.first_records[last]) == stop
    stored_size = int(stored_sizes.sum())
    if (
        is_whole
        and len(ordinals) == len(shard.schema.columns)
        and stored_size < _SPAN_RATIO * int(table.raw_sizes[first:last].sum())
    ):
        offset = int(table.offsets[first])
        handle = _Span(handle.path, offset, handle.read(offset, stored_size))
    data = []
    for chunk_id, offset, directory_size, header_crc, records, first_record, stored_size in zip(
        range(first, last), table.offsets[first:last].tolist(), table.directory_sizes[first:last].tolist(),
        table.header_crcs[first:last].tolist(), num_records.tolist(), table.first_records[first:last].tolist(),
        stored_sizes.tolist(),
    ):  # fmt: skip
        front = handle.read(offset, CHUNK_HEADER_SIZE + directory_size)
        if not is_chunk_front(
            front, shard.file_id, chunk_id, records, first_record, stored_size, directory_size, header_crc, offset
        ):
            raise MalformedError("a chunk is not the one that its table lists")
        data.append(front[CHUNK_HEADER_SIZE:])
    directories = decode_directories(
        data, num_columns=len(shard.schema.columns), num_records=num_records, stored_sizes=stored_sizes,
        raw_sizes=table.raw_sizes[first:last],
    )  # fmt: skip
    found = []
    for ordinal in ordinals:
        column = shard.schema.columns[ordinal]
        frames = _select(
            directories, ordinal, table.offsets[first:last], start - int(table.first_records[first]), stop - start
        )
        if frames.encodings.any():
            _check_narrow(column, directories, ordinal, num_records, frames)
        if column.is_fixed:
            row_sizes = column.row_size // frames.growths(column) + column.optional
            if frames.widths.any() or (frames.raw_sizes != frames.num_records * row_sizes).any():
                raise MalformedError("a frame that is not as large as its rows")
        elif not frames.widths.all():
            raise MalformedError("no length width in a variable column")
        rows = _decoder(column, frames)(handle, column, frames, buffers)
        found.append(slice_rows(column, rows, frames.start, frames.start + stop - start))
    return found


def _check_narrow(
    column: Column, directories: Directories, ordinal: int, num_records: Array, frames: _Frames
) -> None:
    """As `check_narrow`, for all chunks at once."""
    encodings = directories.encodings[:, ordinal]
    if not may_encode(column, int(encodings.max())):
        raise MalformedError("a narrow column of a type that cannot be narrow, or not so wide")
    if int((frames.raw_sizes * frames.growths(column)).max()) > layout.MAX_FRAME_RAW_SIZE:
        raise MalformedError("a frame that is too large once its values are widened")
    narrow = np.flatnonzero(encodings)
    if not raw_size_fits(
        column, encodings[narrow], raw_size=directories.raw_sizes[narrow, ordinal],
        frame_sum=directories.frame_sums[narrow, ordinal], num_records=num_records[narrow],
    ).all():  # fmt: skip
        raise MalformedError("a narrow column whose raw size is not that of its widened values")


class _Span:
    """A part of a file that was read at once; what is read of it are views."""

    def __init__(self, path: str, offset: int, data: memoryview) -> None:
        self.path = path
        self.size = offset + len(data)
        self._offset = offset
        self._data = data

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

    def growths(self, column: Column) -> int | Array:
        """How many times as large values get when they are widened, frame by frame; 1 where all are plain."""
        if not self.encodings.any():
            return 1
        size = column.itemsize or 1
        return size // np.where(self.encodings, self.encodings, size)


def _select(directories: Directories, ordinal: int, offsets: Array, start: int, count: int) -> _Frames:
    """The frames of a column that hold `count` rows from row `start` of the run on."""
    counts = directories.num_frames[:, ordinal]
    before = np.cumsum(counts) - counts
    chunks = np.repeat(np.arange(len(counts)), counts)
    entries = directories.frames[np.arange(len(chunks)) + (directories.first_frames[:, ordinal] - before)[chunks]]
    stored_starts = np.cumsum(entries[:, 2]) - entries[:, 2]
    places = (offsets + directories.offsets[:, ordinal] - stored_starts[before])[chunks] + stored_starts
    row_ends = np.cumsum(entries[:, 0])
    first = int(row_ends.searchsorted(start, side="right"))
    stop = int(row_ends.searchsorted(start + count, side="left")) + 1
    part = slice(first, stop)
    chunks, entries = chunks[part], entries[part]
    return _Frames(
        start - int(row_ends[first]) + int(entries[0, 0]), chunks, places[part], directories.codecs[:, ordinal][chunks],
        directories.encodings[:, ordinal][chunks], directories.widths[:, ordinal][chunks],
        entries[:, 0], entries[:, 1], entries[:, 2], entries[:, 3],
    )  # fmt: skip


def _decoder(column: Column, frames: _Frames) -> Callable[[ReadHandle, Column, _Frames, Buffers], ColumnValues]:
    if column.is_fixed and not column.optional:
        return _decode_fixed
    # Of rows of known rank, none of them None, the directory tells how many numbers stand in front of the values.
    is_told = column.shape is not None and not column.optional and not (column.is_string_like and column.unknown_dims)
    same_width = bool((frames.widths == frames.widths[0]).all())
    is_small = int(frames.raw_sizes.max()) <= MAX_WHOLE_SIZE
    return _decode_numbered if is_told and same_width and is_small else _decode_parts


def _decode_fixed(handle: ReadHandle, column: Column, frames: _Frames, buffers: Buffers) -> ColumnValues:
    """All frames straight into one array; by way of another if some are narrow."""
    num_rows = int(frames.num_records.sum())
    values = buffers.empty((num_rows, *(dim or 0 for dim in column.shape or ())), column.numpy_dtype)
    is_narrow = bool(frames.encodings.any())
    raw = buffers.take(int(frames.raw_sizes.sum())) if is_narrow else values.reshape(-1).view(np.uint8)
    target = memoryview(raw)
    codecs, entries = (
        frames.codecs.tolist(),
        np.stack([frames.raw_sizes, frames.stored_sizes, frames.crcs], axis=1).tolist(),
    )
    filled = 0
    waiting = _Waiting()
    for first, stop, place, size in frames.reads():
        is_raw = codecs[first] == CODEC_RAW
        if is_raw:
            stored = target[filled : filled + size]
            handle.read_into(place, [stored])
        else:
            stored = handle.read(place, size)
        start = 0
        for raw_size, stored_size, stored_crc in entries[first:stop]:
            frame = _verified(stored, start, stored_size, stored_crc)
            if not is_raw:
                waiting.add(frame, raw_size, filled)
            filled += raw_size
            start += stored_size
        if waiting.raw_size >= _DECODED_SIZE:
            waiting.decode_into(target)
    waiting.decode_into(target)
    if is_narrow:
        widen_into(values.reshape(-1), column, raw, frames.encodings, frames.raw_sizes)
    rows = ColumnValues(num_rows, values)
    if column.dtype == "bool":
        check_bool(rows)
    return rows


class _Waiting:
    """Frames that are read and verified, to be decoded together."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.raw_size = 0
        self._frames: list[memoryview] = []
        self._raw_sizes: list[int] = []
        self._places: list[int] = []

    def add(self, frame: memoryview, raw_size: int, place: int) -> None:
        self.raw_size += raw_size
        self._frames.append(frame)
        self._raw_sizes.append(raw_size)
        self._places.append(place)

    def decode_into(self, target: memoryview) -> None:
        if max(self._raw_sizes, default=0) > MAX_WHOLE_SIZE:
            for frame, raw_size, place in zip(self._frames, self._raw_sizes, self._places):
                decompress_into(frame, target[place : place + raw_size], CODEC_ZSTD)
        elif self._frames:
            for raw, place in zip(decompress_frames(self._frames, self._raw_sizes), self._places):
                target[place : place + len(raw)] = raw
        self._clear()


def _decode_numbered(handle: ReadHandle, column: Column, frames: _Frames, buffers: Buffers) -> ColumnValues:
    """Frames of one array of numbers and the values, each put to where it belongs; what is stored raw is read there."""
    width = int(frames.widths[0])
    # Strings of unknown dimensions do not come here.
    num_numbers = len(column.unknown_dims) if not column.is_string_like else math.prod(column.shape or ())  # type: ignore[arg-type]
    if column.is_string_like:
        check_elements(int(frames.num_records.max()) * num_numbers)
    number_sizes = frames.num_records * (num_numbers * width)
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
            for (number_part, value_part), stored_crc in zip(parts, crcs[first:stop]):
                if crc_of_frame(value_part, crc(number_part)) != stored_crc:
                    raise ChecksumError("a frame has another checksum than its directory says")
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
    found = numbers.view(f"<u{width}").astype(np.int64)
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
    frame = stored[start : start + size]
    if crc_of_frame(frame) != stored_crc:
        raise ChecksumError("a frame has another checksum than its directory says")
    return frame
