"""Dictionaries: the same values as places in lists, where that pays; and frames that cannot have one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recordio.chunks.dictionaries import MIN_VALUES, find_dictionaries
from recordio.chunks.frame_encoding import encode_columns
from recordio.chunks.frames import check_column_chunk, decode_frame, decode_frames
from recordio.columns import Array, ColumnValues, slice_rows
from recordio.errors import ChecksumError, MalformedError
from recordio.format import layout
from recordio.format.checksum import crc_of_frame
from recordio.format.chunk import ColumnChunk
from recordio.format.codec import CODEC_RAW, CODEC_ZSTD
from recordio.schema import Column, Schema, TensorSpec
from tests.laws.data_sets import EXAMPLES

DTYPES = ("int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64", "complex64")


def column_of(dtype: str, shape: Any = (), *, optional: bool = False) -> Column:
    return Schema.from_signature(TensorSpec(shape, dtype, optional=optional)).columns[0]


def encode(column: Column, pieces: list[ColumnValues], frame_size: int = 1 << 17) -> tuple[ColumnChunk, bytes]:
    (encoded,) = encode_columns([column], [pieces], frame_size=frame_size, codec=CODEC_ZSTD, level=1)
    return encoded.entry, b"".join(encoded.payload)


def rows_of(values: Array) -> ColumnValues:
    return ColumnValues(len(values), values)


def bits(values: Array) -> list[int]:
    """NaN and minus zero are values like others."""
    listed: list[int] = values.ravel().view(f"u{values.itemsize}").tolist()
    return listed


@st.composite
def categories(draw: st.DrawFn) -> tuple[Column, Array]:
    """Rows of few distinct values, of any dtype and any bits, or of many."""
    dtype = draw(st.sampled_from(DTYPES))
    size = np.dtype(dtype).itemsize
    shape = draw(st.sampled_from([(), (3,), (2, 5)]))
    num_values = draw(st.integers(1, 300)) * int(np.prod(shape, dtype=np.int64))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    distinct = rng.integers(0, 1 << 8 * draw(st.sampled_from([1, size])), draw(st.integers(1, 400)), np.uint64)
    picked = np.minimum(rng.zipf(1.3, num_values) - 1, len(distinct) - 1)
    values = distinct.astype(f"u{size}")[picked].view(dtype)
    return column_of(dtype, shape), values.reshape(-1, *shape)


@settings(max_examples=200 * EXAMPLES, deadline=None)
@given(filled=categories(), frame_size=st.sampled_from([200, 1000, 1 << 17]), cut=st.integers(0, 300))
def test_any_categories_come_back(filled: tuple[Column, Array], frame_size: int, cut: int) -> None:
    """To the bit, in whatever pieces they arrive; and a dictionary is there just where section 13 says."""
    column, values = filled
    rows = rows_of(values)
    chunk, stored = encode(column, [rows], frame_size)
    check_column_chunk(column, chunk)
    assert chunk.raw_size == values.nbytes
    cut = min(cut, len(values))
    pieces = [slice_rows(column, rows, start, stop) for start, stop in ((0, cut), (cut, len(values))) if start < stop]
    assert encode(column, pieces, frame_size) == (chunk, stored)
    found = decode_frames(column, chunk, memoryview(stored))
    assert found.values.dtype == values.dtype and found.values.shape == values.shape
    assert bits(found.values) == bits(values)
    start = first = entries = 0
    for frame in chunk.frames:
        part = memoryview(stored)[start : start + frame.stored_size]
        own = values[first : first + frame.num_records]
        assert bits(decode_frame(column, chunk, frame, part).values) == bits(own)
        start, first = start + frame.stored_size, first + frame.num_records
        entries += len(set(bits(own)))
    if chunk.encoding >= 16:
        assert values.size >= MIN_VALUES and 4 * entries <= values.size
        narrow = chunk.encoding % 8 or values.itemsize
        assert sum(frame.raw_size for frame in chunk.frames) == values.size * (chunk.encoding // 16) + entries * narrow


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_entries", [1, 2, 256, 257, 3000])
def test_the_most_frequent_value_is_first(dtype: str, num_entries: int) -> None:
    """Then less frequent ones; equally frequent ones by their bits (section 13)."""
    size = np.dtype(dtype).itemsize
    rng = np.random.default_rng(num_entries)
    distinct = rng.permutation(1 << 16)[:num_entries].astype(f"u{size}") * (1 if size == 2 else 65537)
    values = np.concatenate([np.repeat(distinct, 1 + np.arange(num_entries) % 9), np.repeat(distinct[:1], 12_000)])
    rng.shuffle(values)
    other = values[: len(values) // 2]
    (found,) = find_dictionaries([[values.view(dtype), other.view(dtype)]], [1 << 16])
    assert found is not None
    for (places, entries), own in zip(found, (values, other), strict=True):
        counts = Counter(own.tolist())
        assert bits(entries) == sorted(counts, key=lambda value: (-counts[value], value))
        assert entries.dtype == dtype and bits(entries[places]) == own.tolist()


def test_values_that_share_slots_are_told_apart() -> None:
    """More of them than the table has slots, whatever their products are."""
    distinct = np.arange(20_000, dtype=np.uint64) << np.uint64(40)
    values = np.repeat(distinct, 4)
    (found,) = find_dictionaries([[values]], [1 << 16])
    assert found is not None
    ((places, entries),) = found
    assert bits(entries[places]) == values.tolist()


@pytest.mark.parametrize(
    ("values", "encoding"),
    [
        (np.arange(1000) % 250 * 10**12, 16), (np.arange(1000) % 251 * 10**12, 0),
        (np.arange(2000) % 257 * 10**12, 32), (np.arange(1000) % 10 * 1000 + 256, 18), (np.arange(1000) % 10, 1),
        (np.arange(3000) % 300 * 100, 2), (np.arange(511) % 2 * 10**12, 0), (np.arange(512) % 2 * 10**12, 16),
        (np.arange(1000) % 10 * 10**7, 20), (np.arange(1000) % 10 * 2**31 // 11 + 2**31, 28),
        ((np.arange(1000) % 10 / 3).astype("f4"), 16), ((np.arange(2000) % 500).astype("f2"), 0),
    ],
)  # fmt: skip
def test_where_a_dictionary_is_taken(values: Array, encoding: int) -> None:
    """A quarter as many entries as values, and places smaller than what they stand for (section 13)."""
    chunk, _ = encode(column_of(values.dtype.name), [rows_of(values)])
    assert chunk.encoding == encoding


def test_one_frame_without_categories_is_enough_to_do_without() -> None:
    """The encoding is that of a column chunk."""
    values = np.concatenate([np.zeros(1000, np.int64), np.random.default_rng(0).integers(0, 2**60, 1000)])
    chunk, _ = encode(column_of("int64"), [rows_of(values)], 8000)
    assert [frame.num_records for frame in chunk.frames] == [1000, 1000] and chunk.encoding == 0


def entry() -> tuple[Column, ColumnChunk, bytes]:
    """256 values and 3 entries of 8 bytes, stored raw."""
    column = column_of("int64")
    values = np.arange(600) % 3 * 10**12
    chunk, _ = encode(column, [rows_of(values)])
    raw = (values // 10**12).astype("u1").tobytes() + (np.arange(3) * 10**12).tobytes()
    frame = chunk.frames[0]._replace(raw_size=len(raw), stored_size=len(raw), crc=crc_of_frame(raw))
    return column, replace(chunk, codec=CODEC_RAW, stored_size=len(raw), frames=(frame,)), raw


@pytest.mark.parametrize("raw_size", [600, 607, 600 + 7, 600 + 25, 600 + 8 * 257, 600 * 9 + 1, 599])
def test_impossible_sizes(raw_size: int) -> None:
    """No value, a part of a value, or more values than a place counts (section 5)."""
    column, chunk, _ = entry()
    check_column_chunk(column, chunk)
    with pytest.raises(MalformedError) as caught:
        check_column_chunk(column, replace(chunk, frames=(chunk.frames[0]._replace(raw_size=raw_size),)))
    assert caught.value.column == "value"


@pytest.mark.parametrize(
    ("dtype", "shape", "optional", "encoding"),
    [
        ("int64", (None,), False, 16), ("int64", (), True, 16), ("bool", (), False, 16), ("uint8", (), False, 16),
        ("int16", (), False, 32), ("int64", (), False, 17), ("int64", (), False, 34), ("str", (), False, 16),
        ("float32", (), False, 17), ("int32", (), False, 20), ("uint32", (), False, 26),
    ],
)  # fmt: skip
def test_columns_that_cannot_have_one(dtype: str, shape: Any, optional: bool, encoding: int) -> None:
    """Fixed ones without None alone, and only where places are smaller than values."""
    _, chunk, _ = entry()
    width = 1 if None in shape or dtype == "str" else 0
    with pytest.raises(MalformedError, match="encoding"):
        column = column_of(dtype, shape, optional=optional)
        check_column_chunk(column, replace(chunk, encoding=encoding, length_width=width))


def test_a_place_beyond_the_list_is_located() -> None:
    """With the records and the place of its frame."""
    column, chunk, raw = entry()
    wrong = b"\3" + raw[1:]
    frame = chunk.frames[0]
    both = replace(chunk, frames=(frame, frame._replace(crc=crc_of_frame(wrong))), offset=64)
    with pytest.raises(MalformedError, match="place 3 in a dictionary of 3 values") as caught:
        decode_frames(column, both, memoryview(raw + wrong))
    assert caught.value.records == (600, 1200) and caught.value.offset == 64 + len(raw)
    with pytest.raises(ChecksumError) as damaged:
        decode_frames(column, both, memoryview(wrong + wrong))
    assert damaged.value.records == (0, 600) and damaged.value.offset == 64


def test_values_take_no_more_than_a_plain_frame_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of section 10, before anything is allocated."""
    column, chunk, _ = entry()
    monkeypatch.setattr(layout, "MAX_FRAME_RAW_SIZE", 4800)
    check_column_chunk(column, chunk)
    monkeypatch.setattr(layout, "MAX_FRAME_RAW_SIZE", 4799)
    with pytest.raises(MalformedError, match="4800 bytes once its values are widened"):
        check_column_chunk(column, chunk)
