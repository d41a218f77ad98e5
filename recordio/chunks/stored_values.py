"""How values are stored: which encodings a column may have, how many bytes these take, and the way back.

    plain         as in memory
    narrow        integers in fewer bytes than their type has (`recordio.chunks.narrow`)
    dictionary    places in a list of the values of a frame, plain or narrow (`recordio.chunks.dictionaries`)

Nothing here trusts a number of a file. How frames are cut, compressed and read is the business of
`recordio.chunks.frame_encoding` and `recordio.chunks.frames`.

Spec: spec/format.md, sections 5, 6 and 10.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recordio.chunks.dictionaries import look_up_into
from recordio.columns import Array
from recordio.errors import MalformedError
from recordio.format import layout
from recordio.format.checksum import Buffer
from recordio.format.chunk import ColumnChunk
from recordio.format.codec import ENCODING_PLAIN, WITHOUT_SIGN, narrow_size, place_size
from recordio.schema import Column

_SIGNED = frozenset({"int16", "int32", "int64"})
INTEGERS = _SIGNED | {"uint16", "uint32", "uint64"}  # dtypes that may be narrow


def may_encode(column: Column, encoding: int) -> bool:
    """Whether values of this column may be stored so."""
    if encoding == ENCODING_PLAIN:
        return True
    size = column.itemsize or 0
    if narrow_size(encoding):
        dtypes = _SIGNED if encoding & WITHOUT_SIGN else INTEGERS
        if column.dtype not in dtypes or narrow_size(encoding) >= size:
            return False
        size = narrow_size(encoding)
    return not place_size(encoding) or (column.is_fixed and not column.optional and place_size(encoding) < size)


def stored_dtype(column: Column, encoding: int) -> np.dtype[Any]:
    """The type of values as they are stored, or listed in a dictionary: the column's, or integers of fewer bytes."""
    dtype = column.numpy_dtype
    if not narrow_size(encoding):
        return dtype
    return np.dtype(f"<{'u' if encoding & WITHOUT_SIGN else dtype.kind}{narrow_size(encoding)}")


def stored_row_size(column: Column, encoding: int) -> int:
    """Bytes of one row of a fixed column as it is stored without a dictionary, and without validity."""
    if not narrow_size(encoding):
        return column.row_size
    return column.row_size // (column.itemsize or 1) * narrow_size(encoding)


def growth(column: Column, encoding: int) -> int:
    """How many times as large a frame is when its values are given their full width, at most."""
    if encoding == ENCODING_PLAIN:
        return 1
    return (column.itemsize or 1) // (place_size(encoding) or narrow_size(encoding))


def check_encoding(column: Column, chunk: ColumnChunk) -> None:
    """Refuse the directory entry of a column that cannot be stored so, before anything is allocated for it.

    Raises:
        MalformedError: an encoding or a raw size that the column's type does not allow.
    """
    encoding = chunk.encoding
    if not may_encode(column, encoding):
        raise MalformedError(f"encoding {encoding} in a column of {column.dtype}", column=column.name)
    if place_size(encoding):
        largest = max([frame.num_records for frame in chunk.frames]) * column.row_size
    else:
        largest = max([frame.raw_size for frame in chunk.frames]) * growth(column, encoding)
    if largest > layout.MAX_FRAME_RAW_SIZE:
        raise MalformedError(
            f"a frame of {largest} bytes once its values are widened; at most {layout.MAX_FRAME_RAW_SIZE} are allowed",
            column=column.name,
        )
    frame_sum = sum([frame.raw_size for frame in chunk.frames])
    num_records = sum([frame.num_records for frame in chunk.frames])
    if not raw_size_fits(column, encoding, raw_size=chunk.raw_size, frame_sum=frame_sum, num_records=num_records):
        raise MalformedError(
            f"a raw size of {chunk.raw_size} over {num_records} records in frames of {frame_sum} bytes, under encoding "
            f"{encoding} of values of {column.itemsize} bytes",
            column=column.name,
        )


def raw_size_fits(column: Column, encoding: Any, *, raw_size: Any, frame_sum: Any, num_records: Any) -> Any:
    """Whether the raw size of a column chunk that is not plain can be that of its frames with values of full width.

    In a fixed column it is known; in a variable one it is larger by what some number of values grows, and the frames
    have place for so many. All numbers are those of one column chunk, or int64[K] of several, and so is the answer.
    """
    if column.is_fixed:
        return raw_size == num_records * (column.row_size + column.optional)
    size = narrow_size(encoding)
    grown, step = raw_size - frame_sum, (column.itemsize or 1) - size
    return (grown % step == 0) & (grown // step * size <= frame_sum)


def fixed_frames_fit(
    *, num_values: Any, num_flags: Any, stored_size: Any, place_size: Any, raw_size: Any
) -> Any:  # fmt: skip
    """Whether frames of fixed columns have the raw sizes that their rows ask for; of one frame, or int64[F] of several.

    Args:
        num_values: of the frame.
        num_flags: bytes of validity.
        stored_size: bytes of a value as it is stored, or listed.
        place_size: bytes of a place in a dictionary; 0: there is none.
        raw_size: of the frame.
    """
    entries = raw_size - num_values * place_size
    fits_dictionary = (
        (entries % stored_size == 0)
        & (entries >= stored_size)
        & (entries <= num_values * stored_size)
        & (entries <= (stored_size << 8 * place_size))
    )
    return (fits_dictionary & (place_size > 0)) | (
        (raw_size == num_values * stored_size + num_flags) & (place_size == 0)
    )


def values_into(target: Array, column: Column, encoding: int, raw: Buffer) -> None:
    """Give the values of a frame of a fixed column without None their type.

    Args:
        target: flat, contiguous, of the column's type: all values of the frame.
        raw: the raw bytes of the frame, whose size is checked; aligned or not.

    Raises:
        MalformedError: a place that a dictionary does not have.
    """
    if place_size(encoding):
        look_up_into(target, raw, place_size(encoding), stored_dtype(column, encoding))
    elif encoding == ENCODING_PLAIN:
        target.view(np.uint8)[:] = np.frombuffer(raw, np.uint8)  # values that are not aligned are copied one by one
    else:
        target[:] = np.frombuffer(raw, stored_dtype(column, encoding))


def widen_into(target: Array, column: Column, stored: Array, encodings: Array, sizes: Array) -> None:
    """Give the values of a variable column their type, with one cast for every run of frames of equal encoding.

    Args:
        target: flat array of the column's type, as many values as are stored.
        stored: uint8, the values of all frames back to back, aligned or not.
        encodings, sizes: int64[F], of each frame; bytes. Variable columns have no dictionaries.
    """
    firsts = [0, *(np.flatnonzero(np.diff(encodings)) + 1).tolist()]
    start = filled = 0
    for encoding, size in zip(encodings[firsts].tolist(), np.add.reduceat(sizes, firsts).tolist()):
        part = stored[start : start + size].view(stored_dtype(column, encoding))
        target[filled : filled + len(part)] = part
        start += size
        filled += len(part)
