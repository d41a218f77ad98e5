"""One leaf of one record -> what is kept of it; what was kept of many -> `ColumnValues`.

    column                  kept of a leaf               in ColumnValues
    int64                   7                            values
    uint8[28,28]            its bytes                    values
    float32[?], int8[...]   (its bytes, its shape)       values, dims, ranks
    str, bytes, msgpack     its bytes                    values, lengths
    str[?]                  ([bytes, ...], its shape)    values, lengths, dims, ranks
    any, optional           None                         validity

What is kept is a copy, or cannot change. The functions are made once for each column, with what happens most in front:
a leaf that is already what the column holds costs a few comparisons and a copy. How numbers are cast is in
`recordio.values.casting`; whole batches, and the place of a record in an error, in `recordio.values.signature`.

Spec: spec/format.md, sections 3, 6 and 10.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from recordio.columns import Array, ColumnValues
from recordio.format.layout import MAX_FRAME_RAW_SIZE
from recordio.schema import Column
from recordio.values.casting import Refusal, as_array, cast, describe_array, number_kind, show_value
from recordio.values.row_checks import check_row_size, check_shape, is_missing, refuse
from recordio.values.strings import bytes_array, encode_each, join_elements, keep_object, read_strings


@dataclass(frozen=True, slots=True)
class RowCaster:
    """The two functions of one column."""

    keep: Callable[[Any], Any]  # raises SignatureError without the record's number
    build: Callable[[list[Any]], ColumnValues]


def row_caster(column: Column) -> RowCaster:
    """Make the functions of a column. RequestError if its dtype needs ml_dtypes and there is none."""
    if column.dtype == "msgpack":
        return RowCaster(lambda leaf: keep_object(column, leaf), lambda kept: _build_strings(column, kept))
    if column.is_string_like:
        if column.shape == ():
            return RowCaster(_string_keeper(column), lambda kept: _build_strings(column, kept))
        return RowCaster(lambda leaf: _keep_string_array(column, leaf), lambda kept: _build_string_arrays(column, kept))
    if column.shape == ():
        return RowCaster(_scalar_keeper(column), lambda kept: _build_scalars(column, kept))
    if column.is_fixed:
        return RowCaster(_fixed_keeper(column), lambda kept: _build_fixed(column, kept))
    return RowCaster(_variable_keeper(column), lambda kept: _build_variable(column, kept))


# ---- numbers ----


def _cast_leaf(column: Column, leaf: Any) -> Array:
    """One row's leaf as an array of the column's dtype and a shape that fits; may be the caller's memory."""
    try:
        array = as_array(leaf)
    except Refusal as refusal:
        raise refuse(column, refusal, getattr(leaf, "shape", ())) from refusal.__cause__
    got = describe_array(array) if array.ndim else show_value(leaf)
    check_shape(column, array.shape, got, wrong_type=not number_kind(array.dtype))
    try:
        return cast(array, column.numpy_dtype)
    except Refusal as refusal:
        raise refuse(column, refusal, array.shape) from None


def _scalar_keeper(column: Column) -> Callable[[Any], Any]:
    dtype = column.numpy_dtype
    same: type = dtype.type
    kind = number_kind(dtype)
    builtin = dtype.isbuiltin == 1

    def keep_any(leaf: Any) -> Any:
        if is_missing(column, leaf):
            return None
        value = _cast_leaf(column, leaf)
        number = value.item() if builtin else float(value)
        # The bits of a NaN would not outlive a Python float; and numpy would warn of a signalling one.
        return number if number == number else value.tobytes()

    if kind in "iu":
        low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)

        def keep_int(leaf: Any) -> Any:
            found = type(leaf)
            if found is int:
                if low <= leaf <= high:
                    return leaf
            elif found is same:
                return leaf.item()
            return keep_any(leaf)

        return keep_int
    if kind == "f" and builtin:
        largest = float(np.finfo(dtype).max)
        exact = 1 << int(np.finfo(dtype).nmant) + 1

        def keep_float(leaf: Any) -> Any:
            found = type(leaf)
            if found is float:
                # NaN is rounded to NaN; infinity goes the long way.
                if -largest <= leaf <= largest or leaf != leaf:
                    return leaf
            elif found is same and leaf == leaf:
                return leaf.item()
            elif found is int and -exact <= leaf <= exact:
                return leaf
            return keep_any(leaf)

        return keep_float
    if kind == "b":
        return lambda leaf: leaf if leaf is True or leaf is False else keep_any(leaf)
    return keep_any


def _build_scalars(column: Column, kept: list[Any]) -> ColumnValues:
    validity = _validity(column, kept)
    as_bits = [row for row, value in enumerate(kept) if type(value) is bytes]
    if not as_bits and (validity is None or validity.all()):
        return ColumnValues(len(kept), np.array(kept, column.numpy_dtype), validity)
    # A None row is zero bytes, which not every dtype has a number for.
    values = np.zeros(len(kept), np.dtype(f"V{column.itemsize}")).view(column.numpy_dtype)
    plain = [row for row, value in enumerate(kept) if value is not None and type(value) is not bytes]
    values[plain] = np.array([kept[row] for row in plain], column.numpy_dtype)
    for row in as_bits:
        values[row : row + 1].view(np.uint8)[:] = np.frombuffer(kept[row], np.uint8)
    return ColumnValues(len(kept), values, validity)


def _fixed_keeper(column: Column) -> Callable[[Any], bytes | None]:
    dtype, shape, array_type = column.numpy_dtype, column.shape, np.ndarray

    def keep_fixed(leaf: Any) -> bytes | None:
        if type(leaf) is array_type and leaf.shape == shape and leaf.dtype == dtype:
            return leaf.tobytes()
        return None if is_missing(column, leaf) else _cast_leaf(column, leaf).tobytes()

    return keep_fixed


def _build_fixed(column: Column, kept: list[bytes | None]) -> ColumnValues:
    validity = _validity(column, kept)
    zero = bytes(column.row_size) if validity is not None else b""
    present = [zero if data is None else data for data in kept] if validity is not None else kept
    values = _joined(present, column.numpy_dtype).reshape(len(kept), *(column.shape or ()))
    return ColumnValues(len(kept), clean_bool(values), validity)


def _variable_keeper(column: Column) -> Callable[[Any], tuple[bytes, tuple[int, ...]] | None]:
    dtype, array_type = column.numpy_dtype, np.ndarray
    is_vector = column.shape == (None,)

    def keep_variable(leaf: Any) -> tuple[bytes, tuple[int, ...]] | None:
        if is_vector and type(leaf) is array_type and leaf.ndim == 1 and leaf.dtype == dtype:
            array = leaf
        elif is_missing(column, leaf):
            return None
        else:
            array = _cast_leaf(column, leaf)
        shape = array.shape
        check_row_size(column, array.nbytes, shape)
        return array.tobytes(), shape

    return keep_variable


def _build_variable(column: Column, kept: list[tuple[bytes, tuple[int, ...]] | None]) -> ColumnValues:
    values = clean_bool(_joined([row[0] for row in kept if row is not None], column.numpy_dtype))
    return _with_shapes(column, kept, ColumnValues(len(kept), values, _validity(column, kept)))


def clean_bool(values: Array) -> Array:
    """Make every true bool the byte 1, in place: a view of other bytes may hold others, and files may not."""
    if values.dtype == np.bool_ and values.size:
        stored = values.view(np.uint8)
        if stored.max() > 1:
            np.minimum(stored, 1, out=stored)
    return values


# ---- str, bytes ----


def _string_keeper(column: Column) -> Callable[[Any], bytes | None]:
    def keep_any(leaf: Any) -> bytes | None:
        if is_missing(column, leaf):
            return None
        return _string_elements(column, leaf)[0][0]

    if column.dtype == "bytes":

        def keep_bytes(leaf: Any) -> bytes | None:
            if type(leaf) is bytes and len(leaf) < MAX_FRAME_RAW_SIZE >> 1:
                return leaf
            return keep_any(leaf)

        return keep_bytes

    def keep_str(leaf: Any) -> bytes | None:
        if type(leaf) is str:
            try:
                data = leaf.encode()
                if len(data) < MAX_FRAME_RAW_SIZE >> 1:
                    return data
            except UnicodeEncodeError:
                pass  # found again below, with its place
        return keep_any(leaf)

    return keep_str


def _keep_string_array(column: Column, leaf: Any) -> tuple[list[bytes], tuple[int, ...]] | None:
    return None if is_missing(column, leaf) else _string_elements(column, leaf)


def _string_elements(column: Column, leaf: Any) -> tuple[list[bytes], tuple[int, ...]]:
    try:
        flat, shape = read_strings(leaf)
    except Refusal as refusal:
        raise refuse(column, refusal, getattr(leaf, "shape", ())) from None
    if shape:
        kinds = {type(value).__name__ for value in flat}
        got = f"{kinds.pop() if len(kinds) == 1 else 'object'}[{','.join(map(str, shape))}]"
        check_shape(column, shape, got)
    else:
        check_shape(column, shape, show_value(leaf))
    try:
        encoded = encode_each(column, flat)
    except Refusal as refusal:
        raise refuse(column, refusal, shape) from None
    lengths = list(map(len, encoded))
    check_row_size(column, sum(lengths), shape, lengths)
    return encoded, shape


def _build_strings(column: Column, kept: list[bytes | None]) -> ColumnValues:
    validity = _validity(column, kept)
    values, lengths = join_elements([data for data in kept if data is not None])
    return ColumnValues(len(kept), values, validity, dims=np.zeros((len(kept), 0), np.int64), lengths=lengths)


def _build_string_arrays(column: Column, kept: list[tuple[list[bytes], tuple[int, ...]] | None]) -> ColumnValues:
    values, lengths = join_elements(list(chain.from_iterable(row[0] for row in kept if row is not None)))
    rows = ColumnValues(len(kept), values, _validity(column, kept), lengths=lengths)
    return _with_shapes(column, kept, rows)


# ---- arrays of what was kept ----


def _validity(column: Column, kept: list[Any]) -> Array | None:
    if not column.optional:
        return None
    return np.fromiter((value is not None for value in kept), np.bool_, len(kept))


def _with_shapes(column: Column, kept: list[tuple[Any, tuple[int, ...]] | None], rows: ColumnValues) -> ColumnValues:
    """Set dims and ranks of the rows."""
    num_rows = len(kept)
    if column.shape is None:
        shapes = [() if row is None else row[1] for row in kept]
        rows.ranks = np.fromiter(map(len, shapes), np.uint8, num_rows)
        rows.dims = np.fromiter(chain.from_iterable(shapes), np.int64)
        return rows
    none = (0,) * len(column.shape)
    whole = np.array([none if row is None else row[1] for row in kept], np.int64).reshape(num_rows, len(none))
    rows.dims = np.ascontiguousarray(whole[:, column.unknown_dims])
    return rows


def _joined(parts: Sequence[Any], dtype: np.dtype[Any]) -> Array:
    return bytes_array(bytearray().join(parts)).view(dtype)
