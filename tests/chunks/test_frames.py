"""Frames of one column: what is decoded is what was encoded, whole or in part; and hostile frames are refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recordio.chunks.frame_encoding import close_at, encode_columns
from recordio.chunks.frames import check_column_chunk, decode_frames
from recordio.columns import ColumnValues, slice_rows
from recordio.errors import ChecksumError, MalformedError, RecordIOError, TruncatedError
from recordio.format.checksum import crc
from recordio.format.chunk import ColumnChunk
from recordio.format.codec import CODEC_RAW, CODEC_ZSTD
from recordio.schema import Column, Schema, TensorSpec
from tests.filled import filled_columns, same_rows
from tests.laws.data_sets import EXAMPLES


def encode(column: Column, rows: ColumnValues, frame_size: int, codec: int) -> tuple[ColumnChunk, bytes]:
    """The column as a directory lists it, at offset 64, and its stored bytes."""
    pieces = [rows] if isinstance(rows, ColumnValues) else rows
    (encoded,) = encode_columns([column], [pieces], frame_size=frame_size, codec=codec, level=3)
    stored = b"".join(encoded.payload)
    assert encoded.entry.stored_size == len(stored)
    return replace(encoded.entry, offset=64), stored


FRAME_SIZES = st.sampled_from([1, 10, 40, 200, 1 << 16])


@settings(max_examples=200 * EXAMPLES)
@given(filled=filled_columns(), frame_size=FRAME_SIZES, codec=st.sampled_from([CODEC_RAW, CODEC_ZSTD]), data=st.data())
def test_frames_come_back_whole_or_in_part(
    filled: tuple[Column, list[Any], ColumnValues], frame_size: int, codec: int, data: st.DataObject
) -> None:
    """Any run of frames, from memory that is given away or lent, aligned or not (spec/format.md, section 6)."""
    column, values, rows = filled
    chunk, stored = encode(column, rows, frame_size, codec)
    check_column_chunk(column, chunk)
    first = data.draw(st.integers(0, len(chunk.frames) - 1))
    stop = data.draw(st.integers(first + 1, len(chunk.frames)))
    start, end = (sum(frame.stored_size for frame in chunk.frames[:place]) for place in (first, stop))
    low, high = (sum(frame.num_records for frame in chunk.frames[:place]) for place in (first, stop))
    for lent in (False, True):
        shift = data.draw(st.integers(0, 17))
        memory = bytearray(shift) + stored[start:end]
        before = bytes(memory)
        found = decode_frames(column, chunk, memoryview(memory)[shift:], first=first, stop=stop, owned=not lent)
        assert same_rows(column, values[low:high], found)
        for array in (found.values, found.validity, found.ranks, found.dims, found.lengths):
            assert array is None or array.flags.writeable
            if lent and array is not None and array.size:
                array[...] = array.flat[0]
        if lent:
            assert bytes(memory) == before


@settings(max_examples=200 * EXAMPLES)
@given(filled=filled_columns(), frame_size=FRAME_SIZES, data=st.data())
def test_a_changed_frame_with_a_right_checksum(
    filled: tuple[Column, list[Any], ColumnValues], frame_size: int, data: st.DataObject
) -> None:
    """Malformed, with column and records; or rows that are written as these very bytes."""
    column, _, rows = filled
    chunk, stored = encode(column, rows, frame_size, CODEC_RAW)
    changed = bytearray(stored)
    for _ in range(data.draw(st.integers(1, 4))):
        if changed:
            changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(
                st.sampled_from([0, 1, 2, 3, 5, 127, 128, 255])
            )
    frames, place = [], 0
    for frame in chunk.frames:
        frames.append(frame._replace(crc=crc(changed[place : place + frame.stored_size])))
        place += frame.stored_size
    chunk = replace(chunk, frames=tuple(frames))
    try:
        found = decode_frames(column, chunk, memoryview(bytes(changed)))
    except MalformedError as error:
        assert (
            error.column == column.name
            and error.records is not None
            and error.offset is not None
            and error.offset >= 64
        )
        assert 0 <= error.records[0] < error.records[1] <= rows.num_rows
        return
    assert found.num_rows == rows.num_rows
    if column.dtype == "msgpack" or (column.is_fixed and column.optional):
        return  # one object has several forms; what a None row holds is ignored
    # Written with the same frames and the same width of lengths, these rows are these bytes.
    again, bounds = [], np.cumsum([0, *(frame.num_records for frame in chunk.frames)]).tolist()
    for start, stop in pairwise(bounds):
        part, data_of_part = encode(column, slice_rows(column, found, start, stop), 1 << 30, CODEC_RAW)
        if part.length_width != chunk.length_width:
            return
        again.append(data_of_part)
    assert b"".join(again) == bytes(changed)


def test_a_damaged_frame_is_located() -> None:
    """Column, records in the chunk, and the offset in the chunk."""
    spec_column = Schema.from_signature(TensorSpec((), "int32")).columns[0]
    rows = ColumnValues(10, np.arange(10, dtype=np.int32))
    chunk, stored = encode(spec_column, rows, 16, CODEC_RAW)
    assert [frame.num_records for frame in chunk.frames] == [4, 4, 2]
    damaged = stored[:20] + b"\xff" + stored[21:]
    with pytest.raises(ChecksumError) as caught:
        decode_frames(spec_column, chunk, memoryview(damaged))
    assert (caught.value.column, caught.value.records, caught.value.offset) == ("value", (4, 8), 64 + 16)
    assert caught.value.advice is not None
    with pytest.raises(TruncatedError) as cut:
        decode_frames(spec_column, chunk, memoryview(stored[:-1]))
    assert cut.value.records == (8, 10)
    for wrong in (
        replace(chunk, length_width=1),
        replace(chunk, frames=(chunk.frames[0]._replace(num_records=5), *chunk.frames[1:])),
    ):
        with pytest.raises(RecordIOError):
            check_column_chunk(spec_column, wrong)


@settings(max_examples=100 * EXAMPLES)
@given(sizes=st.lists(st.integers(0, 50), max_size=40), limit=st.integers(1, 100))
def test_runs_are_closed_at_the_last_row_that_fits(sizes: list[int], limit: int) -> None:
    """As long as they fit, and at least one row (design.md, section 3)."""
    bounds = close_at(np.array(sizes, np.int64), limit)
    assert bounds[0] == 0 and bounds[-1] == len(sizes) and bounds == sorted(set(bounds))
    for start, stop in pairwise(bounds):
        assert sum(sizes[start:stop]) <= limit or stop == start + 1
        assert stop == len(sizes) or sum(sizes[start : stop + 1]) > limit
