"""Frames of a column, read, verified and decoded to where their rows belong.

    fixed       straight into one array
    numbered    variable, no None: the numbers in front to one array, the values to another
    parts       all others: cut apart, then joined

What is compressed and small waits until there is enough to decode together.

Spec: spec/format.md, section 6.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from recordio.buffers import Buffers
from recordio.chunks.frame_parts import check_bool, check_elements, check_variable, parse_frames
from recordio.chunks.stored_values import values_into, widen_into
from recordio.columns import Array, ColumnValues, concat
from recordio.errors import ChecksumError, MalformedError
from recordio.format.checksum import Buffer, crc, crc_of_frame
from recordio.format.codec import CODEC_RAW, ENCODING_PLAIN, MAX_WHOLE_SIZE, decompress_frames
from recordio.metering import add_verify, clock
from recordio.schema import Column
from recordio.shards.run_frames import Frames
from recordio.shards.waiting import Waiting
from recordio.storage import ReadHandle


def decoder(column: Column, frames: Frames) -> Callable[[ReadHandle, Column, Frames, Buffers], ColumnValues]:
    """How the frames of a column are decoded: the rows of all of them, which are the caller's own.

    Raises, when it is called:
        RecordIOError: a frame is damaged, or not what its directory says.
    """
    if column.is_fixed and not column.optional:
        return decode_fixed
    # Of rows of known rank, none of them None, the directory tells how many numbers stand in front of the values.
    is_told = column.shape is not None and not column.optional and not (column.is_string_like and column.unknown_dims)
    is_small = int(frames.raw_sizes.max()) <= MAX_WHOLE_SIZE
    return _decode_numbered if is_told and is_small else _decode_parts


def decode_fixed(
    handle: ReadHandle, column: Column, frames: Frames, buffers: Buffers, target: Array | None = None
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

    def __init__(self, column: Column, frames: Frames) -> None:
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


def _decode_numbered(handle: ReadHandle, column: Column, frames: Frames, buffers: Buffers) -> ColumnValues:
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


def _decode_parts(handle: ReadHandle, column: Column, frames: Frames, _buffers: Buffers) -> ColumnValues:
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


def decode_into(
    handle: ReadHandle, column: Column, frames: Frames, buffers: Buffers, target: Array
) -> ColumnValues:
    """As `decode_fixed`, to where the caller wants the rows; by way of new memory if the frames hold more of them."""
    num_rows = int(frames.num_records.sum())
    if num_rows == len(target):
        return decode_fixed(handle, column, frames, buffers, target)
    rows = decode_fixed(handle, column, frames, buffers)
    target[:] = rows.values[frames.start : frames.start + len(target)]
    return ColumnValues(len(target), target)


def decode_fixed_each(
    handles: Sequence[ReadHandle], column: Column, frames: Frames, buffers: Buffers,
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
