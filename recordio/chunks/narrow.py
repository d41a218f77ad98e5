"""Narrow integers: the values of a column chunk in fewer bytes than their type has.

    int64  3, -1, 100   ->   int8   03 ff 64
    int64  3, 200       ->   uint8  03 c8

Which width a column chunk takes. Which columns may be narrow, and the way back: `recordio.chunks.stored_values`.

Spec: spec/format.md, sections 5, 6 and 13.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from recordio.chunks.stored_values import INTEGERS, may_encode, stored_dtype
from recordio.columns import ColumnValues
from recordio.format.codec import ENCODING_PLAIN, NARROW_SIZES, WITHOUT_SIGN
from recordio.schema import Column, Schema, TensorSpec

_NARROW = tuple(size | sign for size in NARROW_SIZES for sign in (0, WITHOUT_SIGN))  # in the order they are tried


def narrowest(column: Column, pieces: Sequence[ColumnValues]) -> int:
    """The encoding of the fewest bytes that holds every value; plain where none is saved, or there is no value."""
    if column.dtype not in INTEGERS:
        return ENCODING_PLAIN
    filled = [piece.values for piece in pieces if piece.values.size]
    if not filled:
        return ENCODING_PLAIN
    least, largest = min([int(values.min()) for values in filled]), max([int(values.max()) for values in filled])
    for encoding, low, high in _limits(column.dtype):
        if low <= least and largest <= high:
            return encoding
    return ENCODING_PLAIN


@cache
def _limits(dtype: str) -> list[tuple[int, int, int]]:
    """Encodings that integers of this type may have, with the least and the largest that they hold."""
    column = Schema.from_signature(TensorSpec((), dtype)).columns[0]
    found = []
    for encoding in _NARROW:
        if may_encode(column, encoding):
            limits = np.iinfo(stored_dtype(column, encoding))
            found.append((encoding, int(limits.min), int(limits.max)))
    return found


def narrowed(column: Column, pieces: Sequence[ColumnValues], encoding: int) -> Sequence[ColumnValues]:
    """The same rows with values of the type that is stored; the pieces themselves where that is their own."""
    if encoding == ENCODING_PLAIN:
        return pieces
    dtype = stored_dtype(column, encoding)
    return [
        ColumnValues(piece.num_rows, piece.values.astype(dtype), piece.validity, piece.ranks, piece.dims)
        for piece in pieces
    ]
