"""The flat arrays of a `Ragged`: built of rows, cut into strings, and checked against one another.

    rows           [[1, 2], None, [3]]   numeric          ["né", "", "a"]   scalar strings
    values         1 2 3                                  6e c3 a9 61       (UTF-8)
    row_offsets    0 2 2 3               into values      0 3 3 4           into the bytes
    mask           F T F                                  None              no row can be None

    rows           [["né", "a"], []]                      arrays of strings
    values         6e c3 a9 61
    element_offsets  0 3 4               into the bytes
    row_offsets    0 2 2                 into the elements

What a batch of them offers to its user is in `ragged`; how a column is stored is in `columns`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from recordio.columns import Array, offsets
from recordio.errors import RequestError, SignatureError, SignatureTypeError
from recordio.spec import numpy_dtype
from recordio.values.casting import Refusal, as_array, cast, show_value

RowShape = tuple[int | None, ...]

TEXT_DTYPES = ("str", "bytes")
# Bytes a string, on average, above which cutting one copy of the whole buffer costs more than it saves.
_WHOLE_COPY_SIZE = 4096


@dataclass(slots=True, kw_only=True)
class RaggedArrays:
    """What a `Ragged` consists of; its attributes say what each of them is."""

    dtype: str
    values: Array
    row_offsets: Array
    shapes: Array
    element_offsets: Array | None = None
    mask: Array | None = None
    row_shape: RowShape


def is_suffixed(shape: RowShape) -> bool:
    """Whether only the first dimension of a row is unknown, so that numeric values keep the others: [N, *suffix]."""
    return bool(shape) and shape[0] is None and None not in shape[1:]


def object_array(items: list[Any]) -> Array:
    """object[len(items)] of the very items, arrays of equal shape among them."""
    return np.fromiter(items, np.object_, len(items))


def split_text(values: Array, bounds: Array, dtype: str) -> list[Any]:
    """Cut bytes into `str` or `bytes`.

    Args:
        values: contiguous uint8 array.
        bounds: int64[n + 1], ascending, into values.

    Raises:
        ValueError: a `str` is not valid UTF-8.
    """
    count = len(bounds) - 1
    first, last = int(bounds[0]), int(bounds[-1])
    ends = (bounds - first).tolist()
    view = values[first:last].data
    if dtype == "str":
        try:
            text = str(view, "ascii")  # one pass checks and decodes
        except UnicodeDecodeError:
            whole = view if last - first > _WHOLE_COPY_SIZE * count else view.tobytes()
            return [str(whole[start:stop], "utf-8") for start, stop in pairwise(ends)]
        return [text[start:stop] for start, stop in pairwise(ends)]
    whole = view if last - first > _WHOLE_COPY_SIZE * count else view.tobytes()
    return [bytes(whole[start:stop]) for start, stop in pairwise(ends)]


def arrays_of_rows(rows: Iterable[Any], dtype: str, row_shape: RowShape | None) -> RaggedArrays:
    """Copy rows (arrays, nested lists, strings or None) into flat arrays.

    Args:
        row_shape: by default every dimension of the first row that is not None is unknown.

    Raises:
        SignatureError: a row does not have this dtype or shape, or would change under it.
    """
    is_text = dtype in TEXT_DTYPES
    to_array = _text_array if is_text else _number_array
    arrays = [None if row is None else to_array(row, dtype, number) for number, row in enumerate(rows)]
    present = [(number, array) for number, array in enumerate(arrays) if array is not None]
    if row_shape is None:
        row_shape = (None,) * (present[0][1].ndim if present else int(not is_text))
    shapes = np.zeros((len(arrays), len(row_shape)), np.int64)
    counts = np.zeros(len(arrays), np.int64)
    for number, array in present:
        if len(row_shape) != array.ndim or any(dim not in (None, size) for dim, size in zip(row_shape, array.shape)):
            raise SignatureError(f"row has shape {array.shape}, expected {row_shape}", record=number)
        shapes[number], counts[number] = array.shape, array.size
    mask = None if len(present) == len(arrays) else np.array([array is None for array in arrays], np.bool_)
    flat = [array.ravel() for _, array in present]
    if not is_text:
        values = np.concatenate([np.empty(0, numpy_dtype(dtype)), *flat])
        if is_suffixed(row_shape):
            counts = shapes[:, 0]
            values = values.reshape(int(counts.sum()), *row_shape[1:])
        return RaggedArrays(
            dtype=dtype, values=values, row_offsets=offsets(counts), shapes=shapes, mask=mask, row_shape=row_shape,
        )  # fmt: skip
    values, ends = flat_text([item for array in flat for item in array.tolist()])
    rows_at = offsets(counts)
    return RaggedArrays(
        dtype=dtype, values=values, row_offsets=rows_at if row_shape else ends[rows_at], shapes=shapes,
        element_offsets=ends if row_shape else None, mask=mask, row_shape=row_shape,
    )  # fmt: skip


def flat_text(encoded: list[bytes]) -> tuple[Array, Array]:
    """Put strings back to back: new uint8[bytes], and where each begins and the last ends, int64[E + 1]."""
    values = np.frombuffer(bytearray(b"".join(encoded)), np.uint8)
    return values, offsets(np.fromiter(map(len, encoded), np.int64, len(encoded)))


def check_arrays(batch: RaggedArrays) -> None:
    """Refuse arrays that contradict one another, before a row is cut out of them.

    Raises:
        RequestError: which, and what was expected.
    """
    values, shapes, row_shape = batch.values, batch.shapes, batch.row_shape
    is_text = batch.dtype in TEXT_DTYPES
    if values.dtype.name != ("uint8" if is_text else batch.dtype) or not values.dtype.isnative:
        raise RequestError(f"a Ragged of {batch.dtype} cannot have values of {values.dtype}")
    if values.ndim == 0:
        raise RequestError("values must be an array, got a scalar")
    if batch.element_offsets is not None:
        _check_offsets(batch.element_offsets, len(values), "element_offsets")
        _check_offsets(batch.row_offsets, len(batch.element_offsets) - 1, "row_offsets")
    else:
        _check_offsets(batch.row_offsets, len(values), "row_offsets")
    num_rows = len(batch.row_offsets) - 1
    if shapes.dtype != np.int64 or shapes.shape != (num_rows, len(row_shape)) or bool((shapes < 0).any()):
        expected = f"int64[{num_rows}, {len(row_shape)}] without negative sizes"
        raise RequestError(f"shapes must be {expected}, got {shapes.dtype}{list(shapes.shape)}")
    if is_text and (values.ndim != 1 or (batch.element_offsets is None) != (row_shape == ())):
        raise RequestError("arrays of strings, and nothing else, have element_offsets; the bytes of strings are flat")
    if not is_text and (None not in row_shape or values.shape[1:] != (row_shape[1:] if is_suffixed(row_shape) else ())):
        raise RequestError(f"rows of shape {row_shape} cannot have values of shape {values.shape}")
    counts = np.diff(batch.row_offsets)
    present: Array | slice = slice(None)
    if batch.mask is not None:
        if batch.mask.dtype != np.bool_ or batch.mask.shape != counts.shape:
            raise RequestError(f"mask must be bool[{num_rows}], got {batch.mask.dtype}{list(batch.mask.shape)}")
        if bool(counts[batch.mask].any()) or bool(shapes[batch.mask].any()):
            raise RequestError("a row that is None has values or a shape")
        present = ~batch.mask
    for axis, dim in enumerate(row_shape):
        if dim is not None and bool((shapes[present, axis] != dim).any()):
            raise RequestError(f"dimension {axis} of a row is not {dim}")
    if values.ndim > 1:
        products = shapes[:, 0]
    else:
        # In floating point, where a product too large for int64 cannot wrap around to a small one.
        with np.errstate(all="ignore"):
            products = shapes.prod(axis=1, dtype=np.float64)
    if row_shape and bool((products != counts).any()):
        raise RequestError("row_offsets do not agree with shapes")


def _check_offsets(bounds: Array, stop: int, name: str) -> None:
    right = bounds.dtype == np.int64 and bounds.ndim == 1 and len(bounds) > 0 and bounds[0] == 0 and bounds[-1] == stop
    if not right or bool((bounds[1:] < bounds[:-1]).any()):
        raise RequestError(f"{name} must be int64 and ascend from 0 to {stop}")


def _number_array(row: Any, dtype: str, number: int) -> Array:
    try:
        return cast(as_array(row), numpy_dtype(dtype))
    except Refusal as error:
        kind = SignatureTypeError if error.wrong_type else SignatureError
        why = f": {error.why}" if error.why else ""
        raise kind(f"expected {dtype}, got {error.got}{why}", record=number, advice=error.advice) from None


def _text_array(row: Any, dtype: str, number: int) -> Array:
    """Object array of encoded bytes, in the shape of the row."""
    kind: type = str if dtype == "str" else bytes
    array = np.array(row, np.object_)
    for place, item in enumerate(array.ravel().tolist()):
        if not isinstance(item, kind):
            raise SignatureTypeError(f"expected {dtype}, got {show_value(item)}", record=number)
        try:
            array.flat[place] = item.encode() if isinstance(item, str) else item
        except UnicodeEncodeError:
            raise SignatureError(f"{show_value(item)} has a lone surrogate: no UTF-8", record=number) from None
    return array
