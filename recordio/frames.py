"""Frames: rows of one column <-> stored bytes.

    ColumnValues -> frame boundaries -> raw bytes -> zstd or raw -> CRC        and back, verified

Boundaries and codec depend on the values and the options alone, so the same rows always give the same bytes. Layout
inside a frame: spec/format.md, section 6; the directory that lists frames: `recordio.format.chunk`.

Spec: spec/format.md, sections 5, 6 and 10.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from recordio.columns import Array, ColumnValues, concat, element_counts, empty, offsets, row_sizes, slice_rows
from recordio.errors import ChecksumError, MalformedError, RecordIOError, TruncatedError
from recordio.format import layout
from recordio.format.checksum import crc
from recordio.format.chunk import ColumnChunk, Frame
from recordio.format.codec import CODEC_RAW, CODEC_ZSTD, compress, decompress_into
from recordio.schema import Column

# Stored raw where compression gains less than this share: decoding then costs a copy less (JPEG, noise).
_MIN_GAIN = 0.1
# Frames compressed before a column chunk is given up as incompressible.
_PROBE_FRAMES = 2
_PROBE_RATIO = 0.97


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedColumn:
    """One column of one chunk, ready to be placed."""

    codec: int
    length_width: int
    frames: tuple[Frame, ...]
    payload: tuple[bytes | memoryview, ...]  # stored bytes of the frames, in order; may be views of the values


def frame_bounds(column: Column, rows: ColumnValues, frame_size: int) -> list[int]:
    """Row numbers at which frames begin, and the end: a frame is closed at the last row that fits `frame_size` bytes."""
    if column.is_fixed:
        size = column.row_size + column.optional
        step = max(1, frame_size // size) if size else rows.num_rows
        return [*range(0, rows.num_rows, step), rows.num_rows]
    return close_at(row_sizes(column, rows), frame_size)


def close_at(sizes: Array, limit: int) -> list[int]:
    """Cut consecutive rows into runs of at most `limit` bytes, at least one row each; gives the bounds, from 0 to n."""
    ends = np.cumsum(sizes)
    bounds = [0]
    while bounds[-1] < len(ends):
        start = bounds[-1]
        before = int(ends[start - 1]) if start else 0
        bounds.append(max(start + 1, int(np.searchsorted(ends, before + limit, side="right"))))
    return bounds


def encode_column(column: Column, rows: ColumnValues, *, frame_size: int, codec: int, level: int) -> EncodedColumn:
    """Encode the rows of one column of one chunk.

    Args:
        rows: at least one row; its arrays must stay unchanged until the payload is written.
        frame_size: raw bytes of a frame.
        codec: CODEC_ZSTD compresses where it gains at least 10 %.

    Raises:
        MalformedError: one row takes more than a frame may hold (1 GiB).
    """
    width = 0 if column.is_fixed else _length_width(rows)
    bounds = frame_bounds(column, rows, frame_size)
    raw = [
        _frame_bytes(column, slice_rows(column, rows, start, stop), width)
        for start, stop in zip(bounds[:-1], bounds[1:], strict=True)
    ]
    if any(len(part) > layout.MAX_FRAME_RAW_SIZE for part in raw):
        raise MalformedError("one record takes more than 1 GiB in this column", column=column.name)
    stored = _compress_frames(raw, level) if codec == CODEC_ZSTD else None
    payload = raw if stored is None else stored
    frames = tuple(
        Frame(stop - start, len(whole), len(part), crc(part))
        for start, stop, whole, part in zip(bounds[:-1], bounds[1:], raw, payload, strict=True)
    )
    return EncodedColumn(
        codec=CODEC_RAW if stored is None else CODEC_ZSTD, length_width=width, frames=frames, payload=tuple(payload)
    )


def decode_frames(
    column: Column, chunk: ColumnChunk, stored: memoryview, *, first: int = 0, stop: int | None = None, owned: bool = False
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
    row = sum(frame.num_records for frame in chunk.frames[:first])
    start = 0
    parts: list[ColumnValues] = []
    whole = _fixed_buffer(column, chunk, frames, stored, owned=owned) if column.is_fixed and not column.optional else None
    filled = 0
    for frame in frames:
        try:
            data = stored[start : start + frame.stored_size]
            verify_frame(frame, data)
            if whole is None:
                parts.append(_decode_frame(column, chunk, frame, data))
            elif not whole.aliases:
                decompress_into(data, whole.target[filled : filled + frame.raw_size], chunk.codec)
            filled += frame.raw_size
        except RecordIOError as error:
            raise error.locate(
                column=column.name, records=(row, row + frame.num_records), offset=place + start,
                advice="Restore the file, or open with on_corrupt='skip' to lose these records only",
            ) from None  # fmt: skip
        start += frame.stored_size
        row += frame.num_records
    if whole is not None:
        num_rows = sum(frame.num_records for frame in frames)
        values = whole.values.view(column.numpy_dtype).reshape(num_rows, *(column.shape or ()))  # type: ignore[arg-type]
        rows = ColumnValues(num_rows, values)
        if column.dtype == "bool":
            _check_bool(column, rows)
        return rows
    return concat(parts) if parts else empty(column)


def verify_frame(frame: Frame, stored: memoryview) -> None:
    """Check the stored bytes of one frame against its directory entry."""
    if len(stored) != frame.stored_size:
        raise TruncatedError(f"the file ends inside a frame, after {len(stored)} of {frame.stored_size} bytes")
    computed = crc(stored)
    if computed != frame.crc:
        raise ChecksumError(f"frame checksum is {computed:#010x}, the directory says {frame.crc:#010x}")


def check_column_chunk(column: Column, chunk: ColumnChunk) -> None:
    """Refuse a directory entry that cannot belong to this column, before anything is allocated for it.

    Raises:
        MalformedError: a length width or a raw size that the column's type does not allow.
    """
    if bool(chunk.length_width) == column.is_fixed:
        raise MalformedError(f"length width {chunk.length_width} in a column {column.dtype}{column.shape}", column=column.name)
    if column.is_fixed:
        size = column.row_size + column.optional
        for frame in chunk.frames:
            if frame.raw_size != size * frame.num_records:
                raise MalformedError(
                    f"{frame.num_records} rows of {size} bytes in a frame of {frame.raw_size} bytes", column=column.name
                )


@dataclass(slots=True)
class _FixedBuffer:
    values: Array  # uint8, all rows of the frames
    target: memoryview  # the same bytes
    aliases: bool  # values are the stored bytes themselves


def _fixed_buffer(
    column: Column, chunk: ColumnChunk, frames: tuple[Frame, ...], stored: memoryview, *, owned: bool
) -> _FixedBuffer:
    size = sum(frame.raw_size for frame in frames)
    if owned and chunk.codec == CODEC_RAW and not stored.readonly and len(stored) == size:
        values = np.frombuffer(stored, np.uint8)
        if values.ctypes.data % 16 == 0:
            return _FixedBuffer(values, stored, True)
    values = np.empty(size, np.uint8)
    return _FixedBuffer(values, memoryview(values), False)


def _decode_frame(column: Column, chunk: ColumnChunk, frame: Frame, stored: memoryview) -> ColumnValues:
    raw = np.empty(frame.raw_size, np.uint8)
    decompress_into(stored, memoryview(raw), chunk.codec)
    rows = _parse_fixed(column, raw, frame.num_records) if column.is_fixed else _parse(column, raw, frame.num_records, chunk.length_width)
    if column.dtype == "bool":
        _check_bool(column, rows)
    return rows


def _parse_fixed(column: Column, raw: Array, num_rows: int) -> ColumnValues:
    validity = _validity(raw[:num_rows])
    values = raw[num_rows:].copy() if num_rows % 16 else raw[num_rows:]  # aligned
    shaped = values.view(column.numpy_dtype).reshape(num_rows, *(column.shape or ()))  # type: ignore[arg-type]
    return ColumnValues(num_rows, shaped, validity)


def _parse(column: Column, raw: Array, num_rows: int, width: int) -> ColumnValues:
    """Cut the raw bytes of a variable frame into its parts, trusting no number in them."""
    cutter = _Cutter(raw)
    rows = ColumnValues(num_rows, raw[:0])
    if column.optional:
        rows.validity = _validity(cutter.cut(num_rows))
    if column.shape is None:
        rows.ranks = cutter.cut(num_rows)
        if rows.ranks.size and int(rows.ranks.max()) > layout.MAX_RANK:
            raise MalformedError(f"a row of rank {int(rows.ranks.max())}; at most {layout.MAX_RANK} is allowed")
        rows.dims = cutter.cut_numbers(int(rows.ranks.sum(dtype=np.int64)), width, layout.MAX_DIM)
    else:
        unknown = len(column.unknown_dims)
        rows.dims = cutter.cut_numbers(num_rows * unknown, width, layout.MAX_DIM).reshape(num_rows, unknown)
    _check_products(column, rows, len(raw))
    counts = element_counts(column, rows)
    if rows.validity is not None:
        _check_none_rows(rows)
    num_elements = int(counts.sum())
    if column.is_string_like:
        rows.lengths = cutter.cut_numbers(num_elements, width, len(raw))
        rows.values = cutter.cut(int(rows.lengths.sum()))
        if column.dtype == "str":
            _check_text(rows)
    else:
        values = cutter.cut(num_elements * (column.itemsize or 1))
        rows.values = values.copy().view(column.numpy_dtype)
    if cutter.place != len(raw):
        raise MalformedError(f"the rows of a frame fill {cutter.place} of its {len(raw)} bytes")
    return rows


class _Cutter:
    """Cuts consecutive parts from a frame; refuses to go past its end."""

    def __init__(self, raw: Array) -> None:
        self.raw = raw
        self.place = 0

    def cut(self, size: int) -> Array:
        start, self.place = self.place, self.place + size
        if self.place > len(self.raw):
            raise MalformedError(f"a frame of {len(self.raw)} bytes holds parts of {self.place} bytes and more")
        return self.raw[start : self.place]

    def cut_numbers(self, count: int, width: int, limit: int) -> Array:
        found = self.cut(count * width).copy().view(f"<u{width}")
        if found.size and int(found.max()) > limit:
            raise MalformedError(f"a dimension or length of {int(found.max())}; at most {limit} is possible here")
        return found.astype(np.int64)


def _check_products(column: Column, rows: ColumnValues, raw_size: int) -> None:
    """No row may have more elements than the frame can hold, nor a shape that numpy cannot make.

    In float64, where products cannot wrap around, over the dimensions that are not zero.
    """
    assert rows.dims is not None
    known = math.prod(float(dim) for dim in column.shape or () if dim)
    item = 1 if column.is_string_like else column.itemsize or 1
    if rows.ranks is not None:
        row_of = np.repeat(np.arange(rows.num_rows), rows.ranks)
        products = np.exp2(np.bincount(row_of, np.log2(np.maximum(rows.dims, 1)), minlength=rows.num_rows))
        zero = np.bincount(row_of, rows.dims == 0, minlength=rows.num_rows) > 0
    else:
        products = np.multiply.reduce(np.maximum(rows.dims, 1).astype(np.float64), axis=1, initial=known)
        zero = (rows.dims == 0).any(axis=1) | (0 in (column.shape or ()))
    if products.size and float(products.max()) * item >= 2.0**63:
        raise MalformedError("the dimensions of a row make a shape beyond 2**63 bytes")
    products[zero] = 0
    if rows.validity is not None:
        products = products[rows.validity]
    # Each element takes at least a byte: its value, or its length. Twice: float64 products are rounded.
    if products.size and float(products.sum()) * item > 2.0 * raw_size + 64:
        raise MalformedError(f"the dimensions in a frame of {raw_size} bytes ask for more elements than it can hold")


def _check_none_rows(rows: ColumnValues) -> None:
    assert rows.validity is not None and rows.dims is not None
    none = ~rows.validity
    if rows.ranks is not None:
        wrong = bool(rows.ranks[none].any())
    else:
        wrong = bool(rows.dims[none].any())
    if wrong:
        raise MalformedError("a row that is None has dimensions")


def _check_text(rows: ColumnValues) -> None:
    """Every element is UTF-8: all bytes together are, and no element begins inside a character."""
    assert rows.lengths is not None
    try:
        whole = str(rows.values.data, "utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError(f"text that is not UTF-8: {error.reason} at byte {error.start} of the frame's values") from None
    if len(whole) == len(rows.values):
        return  # ASCII
    starts = offsets(rows.lengths)[:-1][rows.lengths > 0]
    if bool(((rows.values[starts] & 0xC0) == 0x80).any()):
        raise MalformedError("text that is not UTF-8: an element begins inside a character")


def _check_bool(column: Column, rows: ColumnValues) -> None:
    stored = rows.values.view(np.uint8)
    if stored.size and int(stored.max()) > 1:
        raise MalformedError(f"a bool stored as {int(stored.max())}", column=column.name)


def _validity(stored: Array) -> Array:
    if stored.size and int(stored.max()) > 1:
        raise MalformedError(f"validity {int(stored.max())} is neither 0 nor 1")
    return stored.copy().view(np.bool_)


def _length_width(rows: ColumnValues) -> int:
    largest = 0
    for numbers in (rows.dims, rows.lengths):
        if numbers is not None and numbers.size:
            largest = max(largest, int(numbers.max()))
    return next(width for width in (1, 2, 4, 8) if largest < 1 << 8 * width)


def _frame_bytes(column: Column, rows: ColumnValues, width: int) -> bytes | memoryview:
    values = _bytes_of(rows.values)
    if column.is_fixed and rows.validity is None:
        return values
    return b"".join([*_prefix(rows, width), values])


def _prefix(rows: ColumnValues, width: int) -> Iterator[memoryview]:
    for flags in (rows.validity, rows.ranks):
        if flags is not None:
            yield _bytes_of(flags)
    for numbers in (rows.dims, rows.lengths):
        if numbers is not None:
            yield _bytes_of(numbers.astype(f"<u{width}"))


def _bytes_of(array: Array) -> memoryview:
    """The bytes of an array, row-major and little-endian; a view where they are so already."""
    if array.dtype.byteorder == ">" or (array.dtype.byteorder == "=" and not np.little_endian):
        array = array.astype(array.dtype.newbyteorder("<"))
    return memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def _compress_frames(raw: list[bytes | memoryview], level: int) -> list[bytes | memoryview] | None:
    """The compressed frames, or None where compression is not worth it."""
    stored: list[bytes | memoryview] = []
    raw_size = stored_size = 0
    for part in raw:
        stored.append(compress(part, level))
        raw_size += len(part)
        stored_size += len(stored[-1])
        if len(stored) == _PROBE_FRAMES and stored_size > _PROBE_RATIO * raw_size:
            return None
    return stored if stored_size <= (1 - _MIN_GAIN) * raw_size and raw_size else None
