"""Leaves: what a user gets for each kind of column, against a reference that lays out one row at a time."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordio.columns import ColumnValues, empty, slice_rows
from recordio.errors import MalformedError
from recordio.schema import Column
from recordio.values.leaves import batch_leaf, record_leaf, record_leaves
from recordio.values.ragged import Ragged

NUMBERS = {
    "bool": np.bool_, "int32": np.int32, "uint8": np.uint8, "float64": np.float64, "complex128": np.complex128,
    "bfloat16": ml_dtypes.bfloat16, "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
}  # fmt: skip
SHAPES = [(), (2,), (0,), (2, 3), (None,), (None, 2), (None, 0), (None, None), (2, None), None]
OBJECTS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)


def column_of(dtype: str, shape: Any, optional: bool = False) -> Column:
    """A column with a name nobody cares about."""
    return Column(id=0, name="x", named=True, dtype=dtype, shape=shape, optional=optional)


def lay_out(column: Column, rows: list[Any]) -> ColumnValues:
    """The flat arrays of these rows, one row at a time (spec/format.md, section 6)."""
    values, lengths, dims, ranks = bytearray(), [], [], []
    for row in rows:
        shape = np.shape(row) if row is not None and column.dtype != "msgpack" else ()
        ranks.append(len(shape))
        if column.shape is None:
            dims.extend(shape)
        else:
            dims.append([0 if row is None else shape[axis] for axis in column.unknown_dims])
        if row is None and column.dtype != "msgpack":
            values += bytes(column.row_size) if column.is_fixed else b""
        elif column.is_string_like:
            elements = row.ravel().tolist() if isinstance(row, np.ndarray) else [row]
            packed = [
                item.encode() if column.dtype == "str" else item if column.dtype == "bytes" else msgpack.packb(item)
                for item in elements
            ]
            lengths.extend(map(len, packed))
            values += b"".join(packed)
        else:
            values += row.tobytes()
    flat = np.frombuffer(bytearray(values), column.numpy_dtype) if values else np.empty(0, column.numpy_dtype)
    dims_shape = (-1,) if column.shape is None else (len(rows), len(column.unknown_dims))
    return ColumnValues(
        num_rows=len(rows),
        values=flat.reshape(len(rows), *column.shape) if column.is_fixed else flat,
        validity=np.array([row is not None for row in rows], np.bool_) if column.optional else None,
        ranks=np.array(ranks, np.uint8) if column.shape is None else None,
        dims=None if column.is_fixed else np.array(dims, np.int64).reshape(dims_shape),
        lengths=np.array(lengths, np.int64) if column.is_string_like else None,
    )


@st.composite
def columns(draw: st.DrawFn) -> tuple[Column, list[Any]]:
    """A column of any kind, and rows as a user should get them."""
    dtype = draw(st.sampled_from([*NUMBERS, "str", "bytes", "msgpack"]))
    num_rows = draw(st.integers(0, 5))
    if dtype == "msgpack":
        return column_of(dtype, ()), [draw(OBJECTS) for _ in range(num_rows)]
    column = column_of(dtype, draw(st.sampled_from(SHAPES)), draw(st.booleans()))
    elements = {"str": st.text(max_size=4), "bytes": st.binary(max_size=4)}.get(dtype, st.integers(0, 1))

    def row() -> Any:
        if column.optional and draw(st.integers(0, 3)) == 0:
            return None
        shape = column.shape if column.shape is not None else (None,) * draw(st.integers(0, 3))
        dims = [draw(st.integers(0, 3)) if dim is None else dim for dim in shape]
        items = draw(st.lists(elements, min_size=int(np.prod(dims)), max_size=int(np.prod(dims))))
        if dtype in NUMBERS:
            array = np.array(items, np.float32).astype(NUMBERS[dtype]).reshape(dims)
            return array[()] if column.shape == () else array
        array = np.empty(len(items), object)
        array[:] = items
        return array.reshape(dims) if dims else items[0]

    return column, [row() for _ in range(num_rows)]


def same(got: Any, expected: Any) -> bool:
    """The very type, dtype, shape and values."""
    if isinstance(expected, np.ndarray):
        right = type(got) is np.ndarray and got.dtype == expected.dtype and got.shape == expected.shape
        return right and got.tolist() == expected.tolist()
    return type(got) is type(expected) and got == expected


@given(columns())
def test_every_row_comes_back(case):
    """record_leaf and record_leaves give the row that went in: numpy scalar, array, str, bytes, object or None."""
    column, rows = case
    stored = lay_out(column, rows)
    leaves = record_leaves(column, stored)
    assert len(leaves) == len(rows)
    for row, leaf in enumerate(leaves):
        assert same(leaf, rows[row])
        assert same(record_leaf(column, stored, row), rows[row])


@given(columns())
def test_batch_holds_every_row(case):
    """array, masked array, Ragged or object array, by kind of column; its rows are those of record_leaves."""
    column, rows = case
    batch = batch_leaf(column, lay_out(column, rows))
    assert len(batch) == len(rows)
    if column.is_fixed:
        assert type(batch) is (np.ma.MaskedArray if column.optional else np.ndarray)
        assert batch.dtype == column.numpy_dtype
        assert batch.shape == (len(rows), *column.shape)
        plain = np.asarray(batch)
        for i, row in enumerate(rows):
            assert same(plain[i], np.zeros(column.shape, column.numpy_dtype)[()] if row is None else row)
        if column.optional:
            absent = np.array([row is None for row in rows], bool).reshape(-1, *(1,) * len(column.shape))
            assert np.array_equal(batch.mask, np.broadcast_to(absent, batch.shape))
        return
    if column.shape is None or column.dtype == "msgpack":
        assert type(batch) is np.ndarray
        assert batch.dtype == object
        assert batch.shape == (len(rows),)
    else:
        assert type(batch) is Ragged
        assert batch.row_shape == column.shape
        assert (batch.mask is not None) == column.optional
    for i, row in enumerate(rows):
        assert same(batch[i], row)


@given(columns(), st.data())
def test_part_of_a_column_gives_that_part_of_its_rows(case, data):
    """What is cut with slice_rows has the leaves of these rows."""
    column, rows = case
    start = data.draw(st.integers(0, len(rows)))
    stop = data.draw(st.integers(start, len(rows)))
    part = slice_rows(column, lay_out(column, rows), start, stop)
    leaves = record_leaves(column, part)
    assert len(leaves) == stop - start
    assert all(same(leaf, row) for leaf, row in zip(leaves, rows[start:stop]))


@pytest.mark.parametrize("shape", [(), (2,), (None,), (None, 2), (None, 0), (2, None), None])
@pytest.mark.parametrize("dtype", ["bool", "bfloat16", "float64", "str"])
@pytest.mark.parametrize("optional", [False, True])
def test_no_rows_are_a_batch_too(dtype, shape, optional):
    """A zero-row batch has the type and dtype of any other."""
    column = column_of(dtype, shape, optional)
    batch = batch_leaf(column, empty(column))
    assert len(batch) == 0
    assert record_leaves(column, empty(column)) == []
    if isinstance(batch, Ragged):
        assert batch.to_padded().shape == (0, *(0 if dim is None else dim for dim in shape))
    else:
        assert batch.shape == (0, *(shape or ()))


@pytest.mark.parametrize(("shape", "optional"), [
    ((2,), False),
    ((2,), True),
    ((None,), False),
    ((None, 1), True),
    (None, False),
])  # fmt: skip
def test_leaves_are_writable_and_disjoint(shape, optional):
    """Writing into one row reaches no other row; one record shares memory with nothing."""
    column = column_of("int32", shape, optional)
    dims = (2, 1) if shape == (None, 1) else (2,)
    rows = [np.full(dims, i, np.int32) for i in range(3)]
    stored = lay_out(column, rows)
    one = record_leaf(column, stored, 1)
    assert one.base is None
    assert not np.shares_memory(one, stored.values)
    one[:] = 9
    leaves = record_leaves(column, stored)
    leaves[1][:] = 7
    assert leaves[0].tolist() == rows[0].tolist()
    assert leaves[2].tolist() == rows[2].tolist()
    batch = batch_leaf(column, lay_out(column, rows))
    batch[1][:] = 7
    assert same(np.asarray(batch[0]), rows[0])
    assert same(np.asarray(batch[2]), rows[2])


@pytest.mark.parametrize("shape", [(), (1,), (None,), None])
def test_read_only_memory_is_copied(shape):
    """Values decoded from immutable bytes do not make a batch that cannot be written."""
    column = column_of("int32", shape)
    stored = lay_out(column, [np.ones((1,) if shape != () else (), np.int32)] * 2)
    stored.values.flags.writeable = False
    batch = batch_leaf(column, stored)
    values = batch[0] if batch.dtype == object else batch.values if isinstance(batch, Ragged) else batch
    assert values.flags.writeable
    for leaf in record_leaves(column, stored):
        assert shape == () or leaf.flags.writeable


def test_masked_rows_are_filled_with_zero():
    """filled() of an optional column gives 0, in every dtype."""
    for dtype in ("uint8", "bool", "bfloat16", "complex128"):
        column = column_of(dtype, (2,), optional=True)
        batch = batch_leaf(column, lay_out(column, [np.ones(2, NUMBERS[dtype]), None]))
        assert batch.filled().tolist() == [[1, 1], [0, 0]]
        assert batch.filled().dtype == column.numpy_dtype


@pytest.mark.parametrize("damage", [b"", b"\xc1", b"\x01\x01", b"\xd4\x00\x00"])
def test_msgpack_that_is_no_single_object_is_refused(damage):
    """Nothing, an invalid byte, two objects, an extension type: an error that names the column."""
    column = column_of("msgpack", ())
    values, lengths = np.frombuffer(damage, np.uint8), np.array([len(damage)])
    stored = ColumnValues(num_rows=1, values=values, dims=np.zeros((1, 0), np.int64), lengths=lengths)
    for read in (record_leaves, batch_leaf, lambda *where: record_leaf(*where, 0)):
        with pytest.raises(MalformedError, match="'x'"):
            read(column, stored)


@pytest.mark.parametrize("row", [-1, 2])
def test_row_outside_the_column_is_an_index_error(row):
    """There is no row counted from the end, and none behind it."""
    column = column_of("int32", ())
    with pytest.raises(IndexError):
        record_leaf(column, lay_out(column, [np.int32(1), np.int32(2)]), row)
