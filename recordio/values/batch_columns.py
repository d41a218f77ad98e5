"""One leaf of a batch -> `ColumnValues`, without a loop over records where the leaf is an array.

    array[B, ...], numpy.ma      all rows have one shape; a masked row is None
    Ragged                       rows of different shapes, as flat arrays
    list, object[B]              row by row, as `row_values` has it; strings at once

Each way gives the same bytes, and names the same first record that does not fit. How numbers are cast is in
`recordio.values.casting`; the batch as a whole, in `recordio.values.signature`.

Spec: spec/format.md, sections 3, 6 and 10.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from recordio.columns import Array, ColumnValues, Elements, offsets
from recordio.errors import SignatureError
from recordio.format.layout import MAX_DIM, MAX_FRAME_ELEMENTS, MAX_FRAME_RAW_SIZE, MAX_RANK
from recordio.schema import Column
from recordio.values.casting import Refusal, cast, describe_array, number_kind, show_value
from recordio.values.ragged import Ragged
from recordio.values.ragged_layout import TEXT_DTYPES
from recordio.values.ragged_tensors import as_numpy
from recordio.values.row_checks import check_row_size, check_shape, refuse, refuse_none
from recordio.values.row_values import clean_bool, row_caster
from recordio.values.strings import encode_elements, join_elements

# Bytes of an element, on average, from which a reference to it costs less than a copy.
_LONG_SIZE = 2048


def read_leaf(column: Column, leaf: Any, first_record: int) -> Any:
    """Read a leaf of a batch as an array of at least one axis, a Ragged or a list: its length is the number of rows.

    Raises:
        SignatureError: it is no such thing, or a row of a ragged tensor is ragged inside.
    """
    if isinstance(leaf, (Ragged, list)):
        return leaf
    if isinstance(leaf, tuple):
        return list(leaf)
    try:
        leaf = as_numpy(leaf)
    except SignatureError as error:
        row = error.record or 0
        error.record = first_record + row
        raise error.locate(column=column.name) from error.__cause__
    if isinstance(leaf, Ragged) or (isinstance(leaf, np.ndarray) and leaf.ndim):
        return leaf
    if not isinstance(leaf, (str, bytes, bytearray, memoryview, dict, set, frozenset, np.ndarray)) and (
        hasattr(leaf, "__len__") and hasattr(leaf, "__iter__")
    ):
        return list(leaf)
    advice = "Give an array [B, ...] or a list of rows"
    whole = Refusal(f"{show_value(leaf)} for a whole batch", wrong_type=True, advice=advice)
    raise refuse(column, whole, record=first_record)


def cast_column(column: Column, leaf: Any, first_record: int, keep_bytes: bool) -> ColumnValues:
    """Check all rows of a leaf that `read_leaf` gave.

    Raises:
        SignatureError: with the first record that does not match.
    """
    if isinstance(leaf, Ragged):
        return _cast_ragged(column, leaf, first_record)
    if isinstance(leaf, np.ndarray) and not (leaf.dtype.kind == "O" and leaf.ndim == 1) and column.dtype != "msgpack":
        return _cast_array(column, leaf, first_record)
    return _cast_rows(column, list(leaf), first_record, keep_bytes)


# ---- lists of rows ----


def _cast_rows(column: Column, rows: list[Any], first_record: int, keep_bytes: bool) -> ColumnValues:
    if column.dtype in ("str", "bytes") and column.shape == ():
        try:
            return _cast_strings(column, rows, keep_bytes)
        except Refusal:
            pass  # an array or a tensor among them, or the error that is found below
    caster = row_caster(column)
    keep = caster.keep
    kept: list[Any] = []
    try:
        for row in rows:
            kept.append(keep(row))  # how many there are is the place of the error
    except SignatureError as error:
        error.locate(record=first_record + len(kept))
        raise
    return caster.build(kept)


def _cast_strings(column: Column, rows: list[Any], keep_bytes: bool) -> ColumnValues:
    """All rows at once, if they are strings and nothing else."""
    validity = None
    present = rows
    if column.optional:
        validity = np.fromiter((row is not None for row in rows), np.bool_, len(rows))
        present = [row for row in rows if row is not None]
    if keep_bytes and column.dtype == "bytes" and set(map(type, present)) == {bytes}:
        lengths = np.fromiter(map(len, present), np.int64, len(present))
        is_long = int(lengths.sum()) >= _LONG_SIZE * len(present)
        values: Any = Elements(present) if is_long else join_elements(present)[0]
    else:
        values, lengths = encode_elements(column, present)
    if lengths.size and int(lengths.max()) >= MAX_FRAME_RAW_SIZE >> 1:
        raise Refusal("a long string", "looked at one by one")
    return ColumnValues(len(rows), values, validity, dims=np.zeros((len(rows), 0), np.int64), lengths=lengths)


# ---- arrays ----


@dataclass(frozen=True, slots=True)
class _Places:
    """Where the elements of the rows that are not None belong."""

    records: Array  # int64[m], number of each row's record
    ends: Array     # int64[m + 1], elements before each row, and all

    def record_of(self, element: int) -> int:
        return int(self.records[int(np.searchsorted(self.ends, element, side="right")) - 1])


def _cast_array(column: Column, leaf: Array, first_record: int) -> ColumnValues:
    """An array [B, ...]: every row has the same shape."""
    num_rows, shape = len(leaf), leaf.shape[1:]
    if column.is_fixed and type(leaf) is np.ndarray and shape == column.shape and leaf.dtype == column.numpy_dtype:
        validity = np.ones(num_rows, np.bool_) if column.optional else None
        return ColumnValues(num_rows, clean_bool(np.array(leaf, order="C")), validity)
    wrong_type = not (number_kind(leaf.dtype) or column.is_string_like)
    try:
        check_shape(column, shape, f"{describe_array(leaf)} as a batch", wrong_type=wrong_type)
        valid = _valid_rows(column, leaf, first_record)
    except SignatureError as error:
        error.locate(record=first_record)
        raise
    data: Array = np.asarray(np.ma.getdata(leaf) if isinstance(leaf, np.ma.MaskedArray) else leaf)
    shapes = np.tile(np.array(shape, np.int64), (num_rows, 1))
    records = np.arange(first_record, first_record + num_rows)
    if valid is not None:
        # What stands under a mask is no value and is not judged.
        data, records, shapes = data[valid], records[valid], shapes * valid[:, None]
    elif column.optional:
        valid = np.ones(num_rows, np.bool_)
    places = _Places(records, np.arange(len(records) + 1) * math.prod(shape))
    flat, lengths = _cast_elements(column, data, shape, places)
    return _assemble(column, flat, lengths, valid, shapes, places)


def _valid_rows(column: Column, leaf: Array, first_record: int) -> Array | None:
    """Which rows of a masked array are not None, bool[B]; None if nothing is masked."""
    if not isinstance(leaf, np.ma.MaskedArray) or not leaf.size:
        return None
    mask = np.ma.getmaskarray(leaf).reshape(len(leaf), -1)
    some: Array = np.logical_or.reduce(mask, axis=1)
    whole: Array = np.logical_and.reduce(mask, axis=1)
    wrong = some & ~whole if column.optional else some
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        if whole[row]:
            error = refuse_none(column, "a masked value")
        else:
            advice = "Only a whole row can be None; fill it before writing"
            refusal = Refusal("a masked element", index=int(np.flatnonzero(mask[row])[0]), advice=advice)
            error = refuse(column, refusal, leaf.shape[1:])
        error.locate(record=first_record + row)
        raise error
    return ~whole if some.any() else None


def _cast_elements(
    column: Column, source: Array, shape: tuple[int, ...] | None, places: _Places
) -> tuple[Array, Array | None]:
    """All elements under the column's dtype, flat and in new memory, and the lengths of strings.

    Args:
        source: any shape; its elements in row-major order are those of the rows.
        shape: of every row; None where rows differ.
    """
    try:
        if column.is_string_like:
            return encode_elements(column, source.ravel().tolist())
        flat = np.ravel(cast(source, column.numpy_dtype))
    except Refusal as refusal:
        record = None
        if refusal.index is not None:
            record = places.record_of(refusal.index)
            refusal.index = None if shape is None else refusal.index % math.prod(shape)
        elif len(places.records):
            record = int(places.records[0])
        raise refuse(column, refusal, shape or (), record=record) from None
    return clean_bool(flat.copy() if np.may_share_memory(flat, source) else flat), None


def _assemble(
    column: Column, flat: Array, lengths: Array | None, valid: Array | None, shapes: Array, places: _Places
) -> ColumnValues:
    """Put rows together.

    Args:
        flat, lengths: elements of the rows that are not None.
        valid: bool[n]; None unless the column is optional.
        shapes: int64[n, rank]; zeros where a row is None.
    """
    num_rows = len(shapes)
    if column.is_fixed:
        shape = tuple(dim or 0 for dim in column.shape or ())
        values = flat.reshape(len(places.records), *shape)
        if valid is not None and not valid.all():
            values, present = np.zeros((num_rows, *shape), values.dtype), values
            values[valid] = present
        return ColumnValues(num_rows, values, valid)
    _check_row_sizes(column, lengths, shapes if valid is None else shapes[valid], places)
    rows = ColumnValues(num_rows, flat, valid, lengths=lengths)
    if column.shape is None:
        rank = np.uint8(shapes.shape[1])
        rows.ranks = np.full(num_rows, rank) if valid is None else valid * rank
        rows.dims = (shapes if valid is None else shapes[valid]).reshape(-1)
    else:
        rows.dims = np.ascontiguousarray(shapes[:, column.unknown_dims])
    return rows


def _check_row_sizes(column: Column, lengths: Array | None, shapes: Array, places: _Places) -> None:
    counts = np.diff(places.ends)
    overhead = 8 * shapes.shape[1] + 2
    if lengths is None:
        sizes = counts * (column.itemsize or 1)
    else:
        sizes = np.diff(offsets(lengths)[places.ends]) + 8 * counts
    suspects = sizes + overhead > MAX_FRAME_RAW_SIZE
    if lengths is not None:
        suspects |= counts > MAX_FRAME_ELEMENTS
    if shapes.shape[1]:
        suspects |= shapes.max(axis=1) > MAX_DIM
    for row in np.flatnonzero(suspects).tolist():
        start, stop = places.ends[row : row + 2].tolist()
        inner = [] if lengths is None else lengths[start:stop].tolist()
        size = sum(inner) if lengths is not None else int(sizes[row])
        try:
            dims = shapes[row].tolist()
            check_shape(column, tuple(dims), f"{column.dtype}{dims}")
            check_row_size(column, size, dims, inner)
        except SignatureError as error:
            error.locate(record=int(places.records[row]))
            raise


# ---- Ragged ----


def _cast_ragged(column: Column, leaf: Ragged, first_record: int) -> ColumnValues:
    """A batch whose rows differ in shape, as flat arrays."""
    is_text = leaf.dtype in TEXT_DTYPES
    if is_text != column.is_string_like or (is_text and leaf.dtype != column.dtype):
        refusal = Refusal(f"a Ragged of {leaf.dtype}", wrong_type=True)
        raise refuse(column, refusal, record=first_record)
    shapes = np.asarray(leaf.shapes, np.int64)
    present = np.ones(len(leaf), np.bool_) if leaf.mask is None else ~leaf.mask
    end, error = _first_wrong_row(column, leaf, shapes, present)
    if error is not None:
        error.locate(record=first_record + end)
    elif leaf.mask is not None:
        shapes = shapes * present[:, None]
    kept = present[:end]
    counts = np.multiply.reduce(shapes[:end][kept], axis=1, dtype=np.int64)
    places = _Places(first_record + np.flatnonzero(kept), offsets(counts))
    num_elements = int(places.ends[-1])
    lengths = None
    if is_text:
        if error is not None:
            raise error
        flat, lengths = _ragged_text(leaf, present)
        consistent = len(lengths) == num_elements and int(lengths.sum()) == len(flat)
    else:
        source = leaf.values[int(leaf.row_offsets[0]) : int(leaf.row_offsets[-1])].reshape(-1)
        consistent = len(source) == num_elements or (error is not None and len(source) > num_elements)
    if not consistent:
        raise refuse(column, Refusal("a Ragged whose arrays contradict one another"), record=first_record)
    if lengths is None:
        # Of the rows before a wrong one too: an earlier record may hold a wrong value.
        flat, _ = _cast_elements(column, source[:num_elements], None, places)
    elif column.dtype == "str":
        _check_text(column, flat, lengths, places)
    if error is not None:
        raise error
    return _assemble(column, flat, lengths, present if column.optional else None, shapes, places)


def _first_wrong_row(
    column: Column, leaf: Ragged, shapes: Array, present: Array
) -> tuple[int, SignatureError | None]:
    """The first row that is None or of a shape that the column does not allow, or all rows and no error."""
    wrong = np.zeros(len(leaf), np.bool_) if column.optional else ~present
    if column.shape is None:
        wrong |= present & (shapes.shape[1] > MAX_RANK)
    elif len(column.shape) != shapes.shape[1]:
        wrong |= present
    else:
        for axis, dim in enumerate(column.shape):
            if dim is not None:
                wrong |= present & (shapes[:, axis] != dim)
    if not wrong.any():
        return len(leaf), None
    row = int(np.flatnonzero(wrong)[0])
    if not present[row]:
        return row, refuse_none(column)
    return row, refuse(column, Refusal(f"{leaf.dtype}[{','.join(map(str, shapes[row].tolist()))}]"))


def _ragged_text(leaf: Ragged, present: Array) -> tuple[Array, Array]:
    """Bytes (a copy) and lengths of all elements."""
    bounds = leaf.row_offsets if leaf.element_offsets is None else leaf.element_offsets
    lengths = np.diff(bounds)
    if leaf.element_offsets is None:
        lengths = lengths[present]
    return leaf.values[int(bounds[0]) : int(bounds[-1])].copy(), lengths


def _check_text(column: Column, flat: Array, lengths: Array, places: _Places) -> None:
    """Every element is UTF-8; whoever filled the Ragged may have written other bytes."""
    bounds = offsets(lengths)
    try:
        if len(str(flat.data, "utf-8")) == len(flat):
            return
        starts = bounds[:-1][lengths > 0]
        if not ((flat[starts] & 0xC0) == 0x80).any():
            return
    except UnicodeDecodeError:
        pass  # found again below, with its place
    for element, (start, stop) in enumerate(zip(bounds[:-1].tolist(), bounds[1:].tolist())):
        try:
            str(flat[start:stop].data, "utf-8")
        except UnicodeDecodeError as error:
            refusal = Refusal("bytes that are not UTF-8", error.reason)
            raise refuse(column, refusal, record=places.record_of(element)) from None
