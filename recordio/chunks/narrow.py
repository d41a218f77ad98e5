"""Narrow integers: the values of a column chunk in fewer bytes than their type has.

    int64  3, -1, 100   ->   int8   03 ff 64   ->   int64  3, -1, 100
    int64  3, 200       ->   uint8  03 c8      ->   int64  3, 200

Which width a column chunk takes, which widths and raw sizes its directory entry may have, and the way back. How frames
are cut, compressed and read is the business of `recordio.chunks.frame_encoding` and `recordio.chunks.frames`.

Spec: spec/format.md, sections 5, 6 and 10.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recordio.columns import Array, ColumnValues
from recordio.errors import MalformedError
from recordio.format import layout
from recordio.format.chunk import ColumnChunk
from recordio.format.codec import ENCODING_PLAIN, NARROW_SIZES, WITHOUT_SIGN, narrow_size
from recordio.schema import Column

_SIGNED = frozenset({"int16", "int32", "int64"})
_DTYPES = _SIGNED | {"uint16", "uint32", "uint64"}
_NARROW = tuple(size | sign for size in NARROW_SIZES for sign in (0, WITHOUT_SIGN))  # in the order they are tried


def narrowest(column: Column, pieces: Sequence[ColumnValues]) -> int:
    """The encoding of the fewest bytes that holds every value; plain where none is saved, or there is no value."""
    if column.dtype not in _DTYPES:
        return ENCODING_PLAIN
    filled = [piece.values for piece in pieces if piece.values.size]
    if not filled:
        return ENCODING_PLAIN
    least, largest = min([int(values.min()) for values in filled]), max([int(values.max()) for values in filled])
    for encoding in _NARROW:
        if may_encode(column, encoding):
            limits = np.iinfo(stored_dtype(column, encoding))
            if limits.min <= least and largest <= limits.max:
                return encoding
    return ENCODING_PLAIN


def narrowed(column: Column, pieces: Sequence[ColumnValues], encoding: int) -> Sequence[ColumnValues]:
    """The same rows with values of the type that is stored; the pieces themselves where that is their own."""
    if encoding == ENCODING_PLAIN:
        return pieces
    dtype = stored_dtype(column, encoding)
    return [
        ColumnValues(piece.num_rows, piece.values.astype(dtype), piece.validity, piece.ranks, piece.dims)
        for piece in pieces
    ]


def stored_dtype(column: Column, encoding: int) -> np.dtype[Any]:
    """The type of values as they are stored: the column's, or integers of fewer bytes, with its sign or without one."""
    dtype = column.numpy_dtype
    if encoding == ENCODING_PLAIN:
        return dtype
    return np.dtype(f"<{'u' if encoding & WITHOUT_SIGN else dtype.kind}{narrow_size(encoding)}")


def may_encode(column: Column, encoding: int) -> bool:
    """Whether values of this column may be stored so."""
    if encoding == ENCODING_PLAIN:
        return True
    dtypes = _SIGNED if encoding & WITHOUT_SIGN else _DTYPES
    return column.dtype in dtypes and narrow_size(encoding) < (column.itemsize or 0)


def stored_row_size(column: Column, encoding: int) -> int:
    """Bytes of one row of a fixed column as it is stored, without validity."""
    if encoding == ENCODING_PLAIN:
        return column.row_size
    return column.row_size // (column.itemsize or 1) * narrow_size(encoding)


def growth(column: Column, encoding: int) -> int:
    """How many times as large a frame is when its values are widened, at most."""
    return 1 if encoding == ENCODING_PLAIN else (column.itemsize or 1) // narrow_size(encoding)


def check_narrow(column: Column, chunk: ColumnChunk) -> None:
    """Refuse the directory entry of a narrow column that cannot be one, before anything is allocated for it.

    Raises:
        MalformedError: an encoding or a raw size that the column's type does not allow.
    """
    if not may_encode(column, chunk.encoding):
        raise MalformedError(f"encoding {chunk.encoding} in a column of {column.dtype}", column=column.name)
    largest = max([frame.raw_size for frame in chunk.frames]) * growth(column, chunk.encoding)
    if largest > layout.MAX_FRAME_RAW_SIZE:
        raise MalformedError(
            f"a frame of {largest} bytes once its values are widened; at most {layout.MAX_FRAME_RAW_SIZE} are allowed",
            column=column.name,
        )
    frame_sum = sum([frame.raw_size for frame in chunk.frames])
    num_records = sum([frame.num_records for frame in chunk.frames])
    if not raw_size_fits(
        column, chunk.encoding, raw_size=chunk.raw_size, frame_sum=frame_sum, num_records=num_records
    ):
        raise MalformedError(
            f"a raw size of {chunk.raw_size} over frames of {frame_sum} bytes, with {narrow_size(chunk.encoding)} of "
            f"{column.itemsize} bytes of each value",
            column=column.name,
        )


def raw_size_fits(column: Column, encoding: Any, *, raw_size: Any, frame_sum: Any, num_records: Any) -> Any:
    """Whether the raw size of a narrow column chunk can be that of its frames with values of full width.

    In a fixed column it is known; in a variable one it is larger by what some number of values grows, and the frames
    have place for so many. All numbers are those of one column chunk, or int64[K] of several, and so is the answer.
    """
    if column.is_fixed:
        return raw_size == num_records * (column.row_size + column.optional)
    size = narrow_size(encoding)
    grown, step = raw_size - frame_sum, (column.itemsize or 1) - size
    return (grown % step == 0) & (grown // step * size <= frame_sum)


def widen_into(target: Array, column: Column, stored: Array, encodings: Array, sizes: Array) -> None:
    """Give stored values their full width, with one cast for every run of chunks of equal encoding.

    Args:
        target: flat array of the column's type, as many values as are stored.
        stored: uint8, the values of all frames back to back, aligned or not.
        encodings, sizes: int64[F], of each frame; bytes.
    """
    firsts = [0, *(np.flatnonzero(np.diff(encodings)) + 1).tolist()]
    start = filled = 0
    for encoding, size in zip(encodings[firsts].tolist(), np.add.reduceat(sizes, firsts).tolist()):
        part = stored[start : start + size].view(stored_dtype(column, encoding))
        target[filled : filled + len(part)] = part
        start += size
        filled += len(part)
