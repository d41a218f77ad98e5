"""Columns: rows of one leaf as flat arrays, against plain lists."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recordio.columns import (
    ColumnValues,
    concat,
    element_counts,
    empty,
    gather,
    memory_size,
    row_sizes,
    slice_rows,
    take_rows,
)
from recordio.schema import Column
from tests.filled import filled_columns, same_rows
from tests.laws.data_sets import EXAMPLES


@settings(max_examples=100 * EXAMPLES)
@given(filled=filled_columns(min_rows=0), data=st.data())
def test_rows_are_cut_taken_and_joined(filled: tuple[Column, list[Any], ColumnValues], data: st.DataObject) -> None:
    """slice_rows, take_rows and concat, against lists."""
    column, values, rows = filled
    start, stop = sorted(data.draw(st.tuples(st.integers(0, len(values)), st.integers(0, len(values)))))
    assert same_rows(column, values[start:stop], slice_rows(column, rows, start, stop))
    parts = [
        slice_rows(column, rows, 0, start),
        slice_rows(column, rows, start, stop),
        slice_rows(column, rows, stop, len(values)),
    ]
    assert same_rows(column, values, concat(parts))
    if values:
        numbers = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=60))
        taken = take_rows(column, rows, np.array(numbers, np.int64))
        assert same_rows(column, [values[number] for number in numbers], taken)
        for name in ("values", "validity", "ranks", "dims", "lengths"):
            array = getattr(taken, name)
            assert array is None or not np.shares_memory(array, getattr(rows, name))


@settings(max_examples=100 * EXAMPLES)
@given(filled=filled_columns())
def test_sizes_do_not_depend_on_the_neighbours(filled: tuple[Column, list[Any], ColumnValues]) -> None:
    """What chunks are closed by: the size of a row alone is its size among others."""
    column, values, rows = filled
    sizes = row_sizes(column, rows).tolist()
    alone = [int(row_sizes(column, slice_rows(column, rows, row, row + 1))[0]) for row in range(len(values))]
    assert sizes == alone and memory_size(rows) >= rows.values.nbytes
    if not column.is_fixed and column.dtype != "msgpack":
        assert element_counts(column, rows).tolist() == [0 if value is None else np.size(value) for value in values]


@settings(max_examples=50 * EXAMPLES)
@given(filled=filled_columns())
def test_no_rows_join_any_rows(filled: tuple[Column, list[Any], ColumnValues]) -> None:
    """`empty` has the arrays that its column needs, of the right types."""
    column, values, rows = filled
    assert same_rows(column, [], empty(column))
    assert same_rows(column, values, concat([empty(column), rows, empty(column)]))


@settings(max_examples=100 * EXAMPLES)
@given(
    runs=st.lists(st.tuples(st.integers(0, 900), st.integers(0, 40)), max_size=20),
    dtype=st.sampled_from(["uint8", "int64", "complex128"]),
)
def test_runs_are_gathered_back_to_back(runs: list[tuple[int, int]], dtype: str) -> None:
    """Short ones by index, long ones by slices: the same."""
    values = np.arange(1000).astype(dtype)
    starts, counts = np.array(runs, np.int64).reshape(-1, 2).T
    expected = [value for start, count in runs for value in values[start : start + count].tolist()]
    found = gather(values, starts, counts)
    assert found.tolist() == expected and found.dtype == values.dtype and not np.shares_memory(found, values)
