"""Leaves: rows of a column -> what users get.

    column                      batch                       one record
    fixed                       array [B, *shape]           numpy scalar, or array
    fixed, optional             numpy.ma [B, *shape]        the same, or None
    known rank, str, bytes      Ragged                      array, str, bytes, or None
    unknown rank                object [B] of arrays        array, str, bytes, or None
    msgpack                     object [B]                  object

Everything returned is writable, and rows never overlap. A batch may be the very memory of the ColumnValues, which the
caller owns. What the rows of a column mean is in `columns`; structures are put together in `schema`.

Spec: spec/format.md, section 6.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from recordio.columns import Array, ColumnValues, element_counts, offsets, slice_rows
from recordio.format.layout import MAX_OBJECT_SIZE
from recordio.format.objects import unpack
from recordio.schema import Column
from recordio.values.ragged import Ragged
from recordio.values.ragged_layout import RaggedArrays, is_suffixed, object_array, split_text


def batch_leaf(column: Column, rows: ColumnValues) -> Array | np.ma.MaskedArray[Any, Any] | Ragged:
    """All rows as one leaf of a batch.

    Returns:
        dtype[B, *shape] of a fixed column, masked by whole rows if it is optional (`filled()` gives 0 there); a Ragged
        where rows vary in length; object[B] for unknown rank and msgpack. It may share memory with `rows`.

    Raises:
        MalformedError: a msgpack value is not one valid object.
    """
    if column.is_fixed:
        values = _writable(rows.values)
        if rows.validity is None:
            return values
        absent = ~rows.validity.reshape(rows.num_rows, *(1,) * (values.ndim - 1))
        # numpy's own default of 999999 has no meaning in most dtypes.
        return np.ma.MaskedArray(values, mask=np.broadcast_to(absent, values.shape).copy(), fill_value=0)
    if column.shape is None or column.dtype == "msgpack":
        return object_array(record_leaves(column, rows))
    return _ragged(column, rows)


def record_leaf(column: Column, rows: ColumnValues, row: int) -> Any:
    """One row as a leaf of a record; an array is a copy, so that it does not keep the other rows in memory.

    Args:
        row: from 0, without negative numbers.

    Raises:
        MalformedError: a msgpack value is not one valid object.
    """
    if not 0 <= row < rows.num_rows:
        raise IndexError(f"row {row} of {rows.num_rows}")
    (leaf,) = record_leaves(column, slice_rows(column, rows, row, row + 1))
    return leaf.copy() if isinstance(leaf, np.ndarray) else leaf


def leaf_getter(column: Column, rows: ColumnValues) -> Callable[[int], Any]:
    """What gives single rows many times, as `record_leaf` does, in less time; rows are from 0 below their number."""
    values: Any = rows.values
    if column.optional or column.dtype == "msgpack" or not (column.is_fixed or column.has_plain_rows):
        return partial(record_leaf, column, rows)
    if column.is_fixed:
        return values.__getitem__ if values.ndim == 1 else lambda row: values[row].copy()  # a numpy scalar, or an array
    if rows.lengths is None:
        assert rows.dims is not None
        bounds = offsets(rows.dims.reshape(-1)).data
        return lambda row: values[bounds[row] : bounds[row + 1]].copy()
    bounds, data = offsets(rows.lengths).data, values.data
    if column.dtype == "str":
        return lambda row: str(data[bounds[row] : bounds[row + 1]], "utf-8")
    return lambda row: bytes(data[bounds[row] : bounds[row + 1]])


def record_leaves(column: Column, rows: ColumnValues) -> list[Any]:
    """All rows as leaves of records, each equal to what `record_leaf` gives.

    Returns:
        One leaf per row; arrays are disjoint views, which may share memory with `rows`.

    Raises:
        MalformedError: a msgpack value is not one valid object.
    """
    if column.is_fixed:
        leaves = list(_writable(rows.values))
    elif column.dtype == "msgpack":
        assert rows.lengths is not None
        packed = split_text(_writable(rows.values), offsets(rows.lengths), "bytes")
        what = f"a value of column {column.name!r}"
        leaves = [unpack(data, max_size=MAX_OBJECT_SIZE, what=what) for data in packed]
    elif column.shape is None:
        leaves = _leaves_of_unknown_rank(column, rows)
    else:
        return _ragged(column, rows).to_list()
    if rows.validity is not None:
        for row in np.flatnonzero(~rows.validity).tolist():
            leaves[row] = None
    return leaves


def _ragged(column: Column, rows: ColumnValues) -> Ragged:
    assert rows.dims is not None and column.shape is not None
    shapes = np.zeros((rows.num_rows, len(column.shape)), np.int64)
    if column.shape:
        shapes[:] = [0 if dim is None else dim for dim in column.shape]
        shapes[:, list(column.unknown_dims)] = rows.dims
    mask = None if rows.validity is None else ~rows.validity
    if mask is not None:
        shapes[mask] = 0
    values, bounds, elements = _writable(rows.values), offsets(element_counts(column, rows)), None
    if rows.lengths is not None:
        elements = offsets(rows.lengths)
        if not column.shape:
            bounds, elements = elements[bounds], None
    elif is_suffixed(column.shape):
        # Counted in rows of the suffix: with a dimension of 0 in it there are no values to count.
        bounds = offsets(shapes[:, 0])
        values = values.reshape(int(bounds[-1]), *column.shape[1:])
    arrays = RaggedArrays(
        dtype=column.dtype, values=values, row_offsets=bounds, shapes=shapes, element_offsets=elements, mask=mask,
        row_shape=column.shape,
    )  # fmt: skip
    return Ragged.of_verified(arrays)


def _leaves_of_unknown_rank(column: Column, rows: ColumnValues) -> list[Any]:
    assert rows.dims is not None and rows.ranks is not None
    elements = _writable(rows.values)
    if rows.lengths is not None:
        elements = object_array(split_text(elements, offsets(rows.lengths), column.dtype))
    bounds = offsets(element_counts(column, rows)).tolist()
    axes = offsets(rows.ranks.astype(np.int64)).tolist()
    dims = rows.dims.tolist()
    present = [True] * rows.num_rows if rows.validity is None else rows.validity.tolist()
    leaves = [
        elements[start:stop].reshape(dims[first:last]) if valid else None
        for (start, stop), (first, last), valid in zip(pairwise(bounds), pairwise(axes), present)
    ]
    if rows.lengths is not None:
        # A scalar string is a str or a bytes, as in a column of known shape.
        leaves = [leaf if leaf is None or leaf.ndim else leaf[()] for leaf in leaves]
    return leaves


def _writable(values: Array) -> Array:
    return values if values.flags.writeable else values.copy()
