"""What every leaf must pass whatever its type: shape, size, None; and the errors that say what was expected.

Casts know nothing of columns and raise `Refusal`; here it becomes a `SignatureError` that names the column and what it
holds. The number of the record is added by whoever counts records.

Spec: spec/format.md, section 10.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recordio.errors import SignatureError, SignatureTypeError
from recordio.format.layout import MAX_DIM, MAX_FRAME_ELEMENTS, MAX_FRAME_RAW_SIZE, MAX_RANK
from recordio.schema import Column
from recordio.values.casting import Refusal


def describe_column(column: Column) -> str:
    """Name what a column holds, as in `int32[2,?]`, `str` or `int8[...] or None`."""
    dims = "..." if column.shape is None else ",".join("?" if dim is None else str(dim) for dim in column.shape)
    return f"{column.dtype}{f'[{dims}]' if dims else ''}{' or None' if column.optional else ''}"


def refuse(
    column: Column, refusal: Refusal, shape: Sequence[int] = (), *, record: int | None = None
) -> SignatureError:
    """Make the error of a refusal; `shape` is that of the value in which `refusal.index` counts."""
    kind = SignatureTypeError if refusal.wrong_type else SignatureError
    place = ""
    if refusal.index is not None and shape:
        place = f" at [{','.join(str(int(axis)) for axis in np.unravel_index(refusal.index, tuple(shape)))}]"
    why = f": {refusal.why}" if refusal.why else ""
    message = f"expected {describe_column(column)}, got {refusal.got}{place}{why}"
    return kind(message, column=column.name, record=record, advice=refusal.advice)


def refuse_none(column: Column, got: str = "None") -> SignatureError:
    """Make the error of a missing value in a column that must have one."""
    refusal = Refusal(got, wrong_type=True, advice="To allow None, declare TensorSpec(..., optional=True)")
    return refuse(column, refusal)


def check_shape(column: Column, shape: tuple[int, ...], got: str, *, wrong_type: bool = False) -> None:
    """Raise SignatureError unless a value of this shape may stand in a row; `got` describes the value."""
    declared = column.shape
    if declared is None:
        if len(shape) > MAX_RANK:
            raise refuse(column, Refusal(f"rank {len(shape)}", f"the limit is {MAX_RANK}"))
    elif len(shape) != len(declared) or any(dim not in (None, size) for dim, size in zip(declared, shape)):
        raise refuse(column, Refusal(got, wrong_type=wrong_type))
    if shape and max(shape) > MAX_DIM:
        raise refuse(column, Refusal(got, f"the limit of a dimension is {MAX_DIM}"))


def check_row_size(column: Column, size: int, shape: Sequence[int], lengths: Sequence[int] = ()) -> None:
    """Raise SignatureError if a row is too large for any frame.

    Args:
        size: bytes of all elements.
        lengths: of every element of a string-like column, in bytes.
    """
    if len(lengths) > MAX_FRAME_ELEMENTS:
        why = f"the limit for one record in one column is {MAX_FRAME_ELEMENTS}"
        raise refuse(column, Refusal(f"{len(lengths)} strings", why, advice="Cut it into several records"))
    numbers = len(shape) + len(lengths)
    if size + 8 * numbers + 2 <= MAX_FRAME_RAW_SIZE:
        return
    largest = max(max(shape, default=0), max(lengths, default=0))
    width = next(width for width in (1, 2, 4, 8) if largest < 1 << 8 * width)
    total = size + width * numbers + column.optional + (column.shape is None)
    if total > MAX_FRAME_RAW_SIZE:
        why = f"the limit for one record in one column is {MAX_FRAME_RAW_SIZE}"
        raise refuse(column, Refusal(f"{total} bytes in all", why, advice="Cut it into several records"))


def is_missing(column: Column, leaf: Any) -> bool:
    """Tell whether a leaf is None, or masked as a whole; SignatureError if the column has no None."""
    if leaf is None:
        got = "None"
    elif isinstance(leaf, np.ma.MaskedArray) and leaf.size and np.ma.getmaskarray(leaf).all():
        got = "a masked value"
    else:
        return False
    if not column.optional:
        raise refuse_none(column, got)
    return True
