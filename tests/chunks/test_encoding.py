"""Chunks in the making: where they end, and that neither arrival nor threads show in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recordio.chunks.encoding import ChunkAssembler, ChunkEncoder, ChunkRows, WriteOptions, encode_chunk
from recordio.columns import ColumnValues, slice_rows
from recordio.format.layout import MAX_CHUNK_RECORDS
from recordio.schema import Column, Schema, TensorSpec
from tests.filled import filled_columns
from tests.laws.data_sets import EXAMPLES


@settings(max_examples=100 * EXAMPLES)
@given(
    filled=filled_columns(), chunk_size=st.integers(1, 120), shard_size=st.none() | st.integers(1, 200),
    cuts=st.lists(st.integers(1, 9)),
)  # fmt: skip
def test_chunks_do_not_depend_on_how_rows_arrive(
    filled: tuple[Column, list[Any], ColumnValues], chunk_size: int, shard_size: int | None, cuts: list[int]
) -> None:
    """One at a time, all at once, or in any pieces; a chunk ends at the last record that fits."""
    column, values, rows = filled
    schema = Schema(0, (column,))

    def chunks(sizes: list[int]) -> list[tuple[int, int, int]]:
        assembler = ChunkAssembler(schema, chunk_size=chunk_size, shard_size=shard_size)
        found, start = [], 0
        for size in [*sizes, len(values)]:
            stop = min(len(values), start + size)
            if stop > start:
                found += list(assembler.push([slice_rows(column, rows, start, stop)]))
            start = stop
        found += list(assembler.flush())
        return [(one.shard_id, sum(part[0].num_rows for part in one.parts), one.size) for one in found]

    whole = chunks([])
    assert chunks([1] * len(values)) == whole == chunks(cuts)
    assert sum(num_rows for _, num_rows, _ in whole) == len(values)
    assert all(size <= chunk_size or num_rows == 1 for _, num_rows, size in whole)
    if shard_size is not None:
        for shard_id in {shard_id for shard_id, _, _ in whole}:
            mine = [(num_rows, size) for found, num_rows, size in whole if found == shard_id]
            assert sum(size for _, size in mine) <= shard_size or sum(num_rows for num_rows, size in mine if size) == 1


def test_a_chunk_has_a_bounded_number_of_records() -> None:
    """Records of no bytes never fill a chunk (spec/format.md, section 10)."""
    schema = Schema.from_signature(TensorSpec((0,), "uint8"))
    assembler = ChunkAssembler(schema, chunk_size=100, shard_size=None)
    rows = [ColumnValues(10_000_000, np.empty((10_000_000, 0), np.uint8))]
    found = [*assembler.push(rows), *assembler.push(rows), *assembler.flush()]
    assert [sum(part[0].num_rows for part in one.parts) for one in found] == [
        MAX_CHUNK_RECORDS,
        20_000_000 - MAX_CHUNK_RECORDS,
    ]


@pytest.mark.parametrize("workers", [1, 4])
def test_chunks_come_back_in_order(workers: int) -> None:
    """Whatever thread is done first; and what was not asked for is dropped by `close`."""
    schema = Schema.from_signature(TensorSpec((), "int64"))
    options = WriteOptions().resolve(schema)
    encoder = ChunkEncoder(schema, options, workers=workers)
    sizes = [50_000, 10, 30_000, 1, 2, 3, 20_000] * 5
    pieces = [ChunkRows(number, [[ColumnValues(size, np.arange(size))]], 8 * size) for number, size in enumerate(sizes)]
    found = [one for piece in pieces for one in encoder.push(piece)]
    found += encoder.drain()
    assert [(shard_id, chunk.num_records) for shard_id, chunk in found] == list(enumerate(sizes))
    assert [chunk.directory for _, chunk in found] == [
        encode_chunk(schema, piece.parts, options).directory for piece in pieces
    ]
    list(encoder.push(pieces[0]))
    encoder.close()
    assert list(encoder.drain()) == []
