"""Frames of one column of one chunk -> rows: verified, decoded, and located where one is wrong.

Many chunks at a time are read in `recordio.shards.chunk_runs`; the way there is in `recordio.chunks.frame_encoding`;
the directory that lists frames: `recordio.format.chunk`.

Spec: spec/format.md, sections 5, 6 and 10.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recordio.chunks.frame_parts import check_bool, parse_frames
from recordio.chunks.stored_values import (
    check_encoding,
    fixed_frames_fit,
    stored_dtype,
    values_into,
)
from recordio.columns import (
    Array,
    ColumnValues,
    concat,
    empty,
)
from recordio.errors import ChecksumError, MalformedError, RecordIOError, TruncatedError
from recordio.format.checksum import crc_of_frame
from recordio.format.chunk import ColumnChunk, Frame
from recordio.format.codec import (
    CODEC_RAW,
    CODEC_ZSTD,
    ENCODING_PLAIN,
    MAX_WHOLE_SIZE,
    decompress,
    decompress_into,
    place_size,
)
from recordio.schema import Column


def decode_frames(
    column: Column,
    chunk: ColumnChunk,
    stored: memoryview,
    *,
    first: int = 0,
    stop: int | None = None,
    owned: bool = False,
) -> ColumnValues:
    """Verify and decode consecutive frames of one column of one chunk.

    Args:
        chunk: the column's entry in the directory.
        stored: stored bytes of frames `first` to `stop`, which lie back to back.
        owned: the caller gives `stored` away: values stored raw may be returned as views of it, if it is writable.

    Returns:
        The rows of these frames; new memory, or views of `stored` where `owned`.

    Raises:
        ChecksumError, MalformedError, TruncatedError: with column and records (ordinals in the chunk); `offset` counts
            from the start of the chunk.
    """
    frames = chunk.frames[first:stop]
    place = chunk.offset + sum(frame.stored_size for frame in chunk.frames[:first])
    row = first_row = sum(frame.num_records for frame in chunk.frames[:first])
    if place_size(chunk.encoding):
        return _decode_each(column, chunk, frames, stored, row=row, place=place)
    start = 0
    parts: list[Array] = []
    whole = _fixed_buffer(chunk, frames, stored, owned=owned) if column.is_fixed and not column.optional else None
    filled = 0
    for frame in frames:
        try:
            data = stored[start : start + frame.stored_size]
            verify_frame(frame, data)
            if whole is None:
                parts.append(_raw_bytes(chunk, frame, data))
            elif not whole.aliases:
                decompress_into(data, whole.target[filled : filled + frame.raw_size], chunk.codec)
            filled += frame.raw_size
        except RecordIOError as error:
            if parts:
                # What an earlier frame holds is wrong before this one is.
                _parse_located(column, chunk, frames[: len(parts)], parts, first_row=first_row, place=place)
            raise _in_frame(error, column, (row, row + frame.num_records), place + start) from None
        start += frame.stored_size
        row += frame.num_records
    if whole is not None:
        num_rows = sum(frame.num_records for frame in frames)
        values = whole.values.view(stored_dtype(column, chunk.encoding)).astype(column.numpy_dtype, copy=False)
        rows = ColumnValues(num_rows, values.reshape(num_rows, *(column.shape or ())))
        if column.dtype == "bool":
            _check_bools(column, frames, rows, first_row=first_row, place=place)
        return rows
    if not owned and chunk.codec == CODEC_RAW:
        for part in parts:
            part.flags.writeable = False  # not ours: to be copied
    return _parse_located(column, chunk, frames, parts, first_row=first_row, place=place)


def _decode_each(
    column: Column, chunk: ColumnChunk, frames: tuple[Frame, ...], stored: memoryview, *, row: int, place: int
) -> ColumnValues:
    """Frames one by one: those with dictionaries."""
    found = []
    for frame in frames:
        try:
            found.append(decode_frame(column, chunk, frame, stored[: frame.stored_size]))
        except RecordIOError as error:
            raise _in_frame(error, column, (row, row + frame.num_records), place) from None
        stored = stored[frame.stored_size :]
        row += frame.num_records
        place += frame.stored_size
    return concat(found) if found else empty(column)


def decode_frame(column: Column, chunk: ColumnChunk, frame: Frame, stored: memoryview) -> ColumnValues:
    """As `decode_frames`, one frame; an error does not say where, and the rows may be read-only.

    Raises:
        ChecksumError, MalformedError, TruncatedError.
    """
    verify_frame(frame, stored)
    raw = _raw_bytes(chunk, frame, stored)
    if not column.is_fixed or column.optional:
        return parse_frames(column, [raw], [frame.num_records], chunk.length_width, chunk.encoding)
    if place_size(chunk.encoding):
        values = np.empty(frame.num_records * (column.row_size // (column.itemsize or 1)), column.numpy_dtype)
        values_into(values, column, chunk.encoding, raw.data)
    else:
        values = raw.view(stored_dtype(column, chunk.encoding)).astype(column.numpy_dtype, copy=False)
    rows = ColumnValues(frame.num_records, values.reshape(frame.num_records, *(column.shape or ())))
    if column.dtype == "bool":
        check_bool(rows)
    return rows


def _parse_located(
    column: Column, chunk: ColumnChunk, frames: tuple[Frame, ...], parts: list[Array], *, first_row: int, place: int
) -> ColumnValues:
    """All frames at once, which is far less work than one by one; one by one only to find the one that is wrong."""
    counts = [frame.num_records for frame in frames]
    try:
        return parse_frames(column, parts, counts, chunk.length_width, chunk.encoding) if parts else empty(column)
    except RecordIOError as error:
        found = error
    row = first_row
    for frame, part in zip(frames, parts, strict=True):
        try:
            parse_frames(column, [part], [frame.num_records], chunk.length_width, chunk.encoding)
        except RecordIOError as error:
            raise _in_frame(error, column, (row, row + frame.num_records), place) from None
        row += frame.num_records
        place += frame.stored_size
    raise found.locate(column=column.name)


def _check_bools(column: Column, frames: tuple[Frame, ...], rows: ColumnValues, *, first_row: int, place: int) -> None:
    try:
        check_bool(rows)
    except MalformedError as error:
        wrong = int(np.flatnonzero(rows.values.reshape(-1).view(np.uint8) > 1)[0])
        for frame in frames:
            if wrong < frame.raw_size:
                raise _in_frame(error, column, (first_row, first_row + frame.num_records), place) from None
            wrong -= frame.raw_size
            first_row += frame.num_records
            place += frame.stored_size
        raise


def _in_frame(error: RecordIOError, column: Column, records: tuple[int, int], offset: int) -> RecordIOError:
    return error.locate(
        column=column.name, records=records, offset=offset,
        advice="Restore the file, or open with on_corrupt='skip' to lose these records only",
    )  # fmt: skip


def verify_frame(frame: Frame, stored: memoryview) -> None:
    """Check the stored bytes of one frame against its directory entry."""
    if len(stored) != frame.stored_size:
        raise TruncatedError(f"the file ends inside a frame, after {len(stored)} of {frame.stored_size} bytes")
    computed = crc_of_frame(stored)
    if computed != frame.crc:
        raise ChecksumError(f"frame checksum is {computed:#010x}, the directory says {frame.crc:#010x}")


def check_column_chunk(column: Column, chunk: ColumnChunk) -> None:
    """Refuse a directory entry that cannot belong to this column, before anything is allocated for it.

    Raises:
        MalformedError: an encoding, a length width or a raw size that the column's type does not allow.
    """
    if chunk.encoding != ENCODING_PLAIN:
        check_encoding(column, chunk)
    if bool(chunk.length_width) == column.is_fixed:
        raise MalformedError(
            f"length width {chunk.length_width} in a column {column.dtype}{column.shape}", column=column.name
        )
    if column.is_fixed:
        row_values = column.row_size // (column.itemsize or 1)
        stored_size = stored_dtype(column, chunk.encoding).itemsize
        for frame in chunk.frames:
            if not fixed_frames_fit(
                num_values=frame.num_records * row_values, num_flags=frame.num_records * column.optional,
                stored_size=stored_size, place_size=place_size(chunk.encoding), raw_size=frame.raw_size,
            ):  # fmt: skip
                raise MalformedError(
                    f"{frame.num_records} rows under encoding {chunk.encoding} in a frame of {frame.raw_size} bytes",
                    column=column.name,
                )


@dataclass(slots=True)
class _FixedBuffer:
    values: Array  # uint8, all rows of the frames
    target: memoryview  # the same bytes
    aliases: bool  # values are the stored bytes themselves


def _fixed_buffer(
    chunk: ColumnChunk, frames: tuple[Frame, ...], stored: memoryview, *, owned: bool
) -> _FixedBuffer:
    size = sum(frame.raw_size for frame in frames)
    is_as_in_memory = chunk.codec == CODEC_RAW and chunk.encoding == ENCODING_PLAIN
    if owned and is_as_in_memory and not stored.readonly and len(stored) == size:
        values = np.frombuffer(stored, np.uint8)
        if values.ctypes.data % 16 == 0:
            return _FixedBuffer(values, stored, True)
    values = np.empty(size, np.uint8)
    return _FixedBuffer(values, memoryview(values), False)


def _raw_bytes(chunk: ColumnChunk, frame: Frame, stored: memoryview) -> Array:
    """The raw bytes of a frame: uint8, writable only if nobody else holds them; those stored raw are where they are."""
    if chunk.codec == CODEC_ZSTD and frame.raw_size > MAX_WHOLE_SIZE:
        raw = np.empty(frame.raw_size, np.uint8)
        decompress_into(stored, memoryview(raw), chunk.codec)
        return raw
    return np.frombuffer(decompress(stored, frame.raw_size, chunk.codec), np.uint8)
