"""A column of any type with rows in it, as values and as arrays."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from recordio.columns import ColumnValues
from recordio.schema import Column, Schema
from recordio.values.leaves import record_leaves
from recordio.values.signature import RecordBuffer
from tests.laws.data_sets import leaf_specs, make_records, same_leaf


@st.composite
def filled_columns(draw: st.DrawFn, min_rows: int = 1) -> tuple[Column, list[Any], ColumnValues]:
    """A column of any type, values for it, and the same as arrays."""
    spec = draw(leaf_specs())
    schema = Schema.from_signature(spec)
    values = make_records(spec, draw(st.integers(min_rows, 30)), draw(st.integers(0, 2**32 - 1)))
    buffer = RecordBuffer(schema)
    for number, value in enumerate(values):
        buffer.append(value, number)
    return schema.columns[0], values, buffer.take()[0]


def same_rows(column: Column, expected: list[Any], rows: ColumnValues) -> bool:
    found = record_leaves(column, rows)
    return len(found) == len(expected) and all(same_leaf(column, a, b) for a, b in zip(expected, found, strict=True))
