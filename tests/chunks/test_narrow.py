"""Narrow integers: the same values in fewer bytes, and entries that cannot be narrow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recordio.chunks.frame_encoding import encode_columns
from recordio.chunks.frame_parts import parse_frames
from recordio.chunks.frames import check_column_chunk, decode_frames
from recordio.columns import Array, ColumnValues, concat, slice_rows
from recordio.errors import MalformedError
from recordio.format import layout
from recordio.format.chunk import ColumnChunk
from recordio.format.codec import CODEC_RAW, CODEC_ZSTD
from recordio.schema import Column, Schema, TensorSpec
from tests.laws.data_sets import EXAMPLES

DTYPES = ("int16", "int32", "int64", "uint16", "uint32", "uint64")
BYTES = 8  # bits


def column_of(dtype: str, shape: Any = (), *, optional: bool = False) -> Column:
    return Schema.from_signature(TensorSpec(shape, dtype, optional=optional)).columns[0]


def encode(
    column: Column, rows: ColumnValues | list[ColumnValues], frame_size: int = 1 << 16, codec: int = CODEC_ZSTD
) -> tuple[ColumnChunk, bytes]:
    pieces = [rows] if isinstance(rows, ColumnValues) else rows
    (encoded,) = encode_columns([column], [pieces], frame_size=frame_size, codec=codec, level=3)
    return encoded.entry, b"".join(encoded.payload)


def smallest(dtype: str, values: list[int]) -> int:
    """Of the encodings of section 5, computed from the powers of two; a sign where it costs nothing."""
    for size in (1, 2, 4):
        is_signed = dtype[0] != "u"
        low, high = (-1 << BYTES * size - 1, 1 << BYTES * size - 1) if is_signed else (0, 1 << BYTES * size)
        if size < np.dtype(dtype).itemsize and all(low <= value < high for value in values):
            return size
        if is_signed and size < np.dtype(dtype).itemsize and all(0 <= value < 1 << BYTES * size for value in values):
            return 8 + size
    return 0


@st.composite
def integers(draw: st.DrawFn) -> tuple[Column, ColumnValues]:
    """Rows of a column of integers, of any size up to that of the type, in any shape."""
    dtype = draw(st.sampled_from(DTYPES))
    limits = np.iinfo(dtype)
    size = draw(st.sampled_from([1, 2, 4, 8]))
    high = min(limits.max, (1 << BYTES * size) - 1)
    value = st.integers(max(limits.min, -high - 1), high) | st.sampled_from([0, min(127, high), min(128, high)])
    num_rows = draw(st.integers(1, 30))
    shape = draw(st.sampled_from([(), (3,), (0,), (None,), (2, None), None]))
    optional = draw(st.booleans())
    column = column_of(dtype, shape, optional=optional)
    dims = [[3 if dim is None and draw(st.booleans()) else dim or 0 for dim in shape or ()] for _ in range(num_rows)]
    validity = np.array([draw(st.booleans()) for _ in range(num_rows)]) if optional else np.ones(num_rows, np.bool_)
    counts = [int(np.prod(row, dtype=np.int64)) for row in dims]
    if not column.is_fixed:
        counts = [count if ok else 0 for count, ok in zip(counts, validity, strict=True)]
    values = np.array(draw(st.lists(value, min_size=sum(counts), max_size=sum(counts))), dtype)
    kept = validity if optional else None
    if column.is_fixed:
        return column, ColumnValues(num_rows, values.reshape(num_rows, *(shape or ())), kept)
    if shape is None:
        return column, ColumnValues(num_rows, values, kept, np.zeros(num_rows, np.uint8), np.empty(0, np.int64))
    unknown = [
        [dim if ok else 0 for dim, known in zip(row, shape, strict=True) if known is None]
        for row, ok in zip(dims, validity, strict=True)
    ]
    return column, ColumnValues(num_rows, values, kept, dims=np.array(unknown, np.int64).reshape(num_rows, -1))


def same(one: Array | None, other: Array | None) -> bool:
    return one is other or (one is not None and other is not None and one.dtype == other.dtype and (one == other).all())


@settings(max_examples=300 * EXAMPLES, deadline=None)
@given(
    filled=integers(), frame_size=st.sampled_from([1, 10, 60, 1 << 16]), owned=st.booleans(), cut=st.integers(0, 30),
    shift=st.integers(0, 9),
)  # fmt: skip
def test_any_integers_come_back(
    filled: tuple[Column, ColumnValues], frame_size: int, owned: bool, cut: int, shift: int
) -> None:
    """In the smallest width that holds all of them, in whatever pieces they arrive; sizes as section 5 says."""
    column, rows = filled
    chunk, stored = encode(column, rows, frame_size)
    check_column_chunk(column, chunk)
    values = rows.values.ravel().tolist()
    assert chunk.encoding == (smallest(column.dtype, values) if values else 0)
    plain, _ = encode(column, rows, frame_size, CODEC_RAW)
    assert plain.encoding == 0
    assert chunk.raw_size == plain.raw_size == sum(frame.raw_size for frame in plain.frames)
    assert [frame.num_records for frame in chunk.frames] == [frame.num_records for frame in plain.frames]
    narrow = chunk.encoding % 8 or rows.values.itemsize
    saved = len(values) * (rows.values.itemsize - narrow)
    assert chunk.raw_size - sum(frame.raw_size for frame in chunk.frames) == saved
    cut = min(cut, rows.num_rows)
    pieces = [slice_rows(column, rows, start, stop) for start, stop in ((0, cut), (cut, rows.num_rows)) if start < stop]
    assert encode(column, pieces, frame_size) == (chunk, stored)

    memory = bytearray(shift) + stored
    found = decode_frames(column, chunk, memoryview(memory)[shift:], owned=owned)
    expected = rows
    if column.is_fixed and rows.validity is not None:
        expected = replace(rows, values=rows.values.copy())
        expected.values[~rows.validity] = 0
    for name in ("values", "validity", "ranks", "dims"):
        assert same(getattr(found, name), getattr(expected, name)), name
    assert found.values.flags.writeable
    before = bytes(memory)
    if chunk.encoding:
        found.values[...] = 0
        assert bytes(memory) == before, "narrow values have memory of their own"
    each, start = [], 0
    for place, frame in enumerate(chunk.frames):
        part = memoryview(stored)[start : start + frame.stored_size]
        each.append(decode_frames(column, chunk, part, first=place, stop=place + 1))
        start += frame.stored_size
    assert same(concat(each).values, expected.values)


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        ("int64", [-128, 127], 1), ("int64", [-129], 2), ("int64", [128], 9), ("int64", [256], 2),
        ("int64", [128, -1], 2), ("int64", [-(2**15), 2**15 - 1], 2), ("int64", [2**15], 10), ("int64", [2**16], 4),
        ("int64", [-(2**15) - 1], 4), ("int64", [-(2**31), 2**31 - 1], 4), ("int64", [2**31], 12),
        ("int64", [2**32], 0), ("int64", [-(2**31) - 1], 0), ("uint64", [255], 1), ("uint64", [256], 2),
        ("uint64", [2**16 - 1], 2), ("uint64", [2**16], 4), ("uint64", [2**32 - 1], 4), ("uint64", [2**32], 0),
        ("uint64", [2**64 - 1], 0), ("int16", [-128], 1), ("int16", [128], 9), ("int16", [256], 0),
        ("uint16", [255], 1), ("uint16", [256], 0), ("int32", [2**15], 10), ("int32", [2**15, -1], 0),
        ("int8", [1], 0), ("uint8", [1], 0), ("bool", [1], 0), ("float64", [1], 0),
    ],
)  # fmt: skip
def test_the_smallest_width_that_holds_all(dtype: str, values: list[int], expected: int) -> None:
    """Of 1, 2 and 4 bytes, less than the type has; one value decides for all (spec/format.md, section 13)."""
    for rest in ([], [0] * 100):
        chunk, _ = encode(column_of(dtype), ColumnValues(len(values + rest), np.array(values + rest, dtype)))
        assert chunk.encoding == expected


def test_noise_is_stored_raw_and_narrow() -> None:
    """zstd gains nothing over the narrow bytes, which are an eighth of the whole."""
    values = np.random.default_rng(0).integers(0, 256, 10_000, np.int64)
    values -= 128
    chunk, stored = encode(column_of("int64"), ColumnValues(10_000, values), 1 << 12)
    assert (chunk.codec, chunk.encoding, chunk.stored_size, chunk.raw_size) == (CODEC_RAW, 1, 10_000, 80_000)
    memory = memoryview(bytearray(stored))
    np.testing.assert_array_equal(decode_frames(column_of("int64"), chunk, memory, owned=True).values, values)


def ragged() -> tuple[Column, ColumnChunk]:
    column = column_of("int64", (None,))
    chunk, _ = encode(column, ColumnValues(2, np.array([1, 2, 3]), dims=np.array([[1], [2]])))
    assert (chunk.encoding, chunk.raw_size, chunk.frames[0].raw_size) == (1, 26, 5)
    return column, chunk


@pytest.mark.parametrize(
    "change",
    [
        {"raw_size": 25}, {"raw_size": 27}, {"raw_size": 5 + 6 * 7}, {"raw_size": 4},
        {"encoding": 2}, {"encoding": 4, "raw_size": 5 + 2 * 4},
    ],
)  # fmt: skip
def test_impossible_sizes_of_a_variable_column(change: dict[str, int]) -> None:
    """What the directory alone can tell (spec/format.md, section 5)."""
    column, chunk = ragged()
    check_column_chunk(column, chunk)
    with pytest.raises(MalformedError) as caught:
        check_column_chunk(column, replace(chunk, **change))  # type: ignore[arg-type]
    assert caught.value.column == "value"


@pytest.mark.parametrize("optional", [False, True])
@pytest.mark.parametrize("wrong", [-8, -7, -1, 1, 7, 8])
def test_impossible_sizes_of_a_fixed_column(optional: bool, wrong: int) -> None:
    """The raw size is known to the byte."""
    column = column_of("int64", (2,), optional=optional)
    validity = np.ones(3, np.bool_) if optional else None
    chunk, _ = encode(column, ColumnValues(3, np.arange(6).reshape(3, 2), validity))
    check_column_chunk(column, chunk)
    assert chunk.raw_size == 48 + 3 * optional
    with pytest.raises(MalformedError):
        check_column_chunk(column, replace(chunk, raw_size=chunk.raw_size + wrong))


@pytest.mark.parametrize(
    ("dtype", "encoding"),
    [("int8", 1), ("int16", 2), ("int16", 4), ("uint32", 4), ("bool", 1), ("float32", 1), ("complex64", 4), ("str", 1)],
)
def test_types_that_cannot_be_narrow(dtype: str, encoding: int) -> None:
    """Integers alone, and in fewer bytes than they have."""
    column = column_of(dtype)
    values: Any = np.frombuffer(b"ab", np.uint8) if dtype == "str" else np.ones(2, dtype)
    rows = ColumnValues(2, values)
    if dtype == "str":
        rows.dims, rows.lengths = np.empty((2, 0), np.int64), np.ones(2, np.int64)
    chunk, _ = encode(column, rows, codec=CODEC_RAW)
    with pytest.raises(MalformedError):
        check_column_chunk(column, replace(chunk, encoding=encoding))


def test_widening_takes_no_more_than_a_plain_frame_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of section 10: the reader refuses beyond it, the writer stores plain there."""
    column = column_of("int64", (None,))
    rows = ColumnValues(1, np.arange(100), dims=np.array([[100]]))
    monkeypatch.setattr(layout, "MAX_FRAME_RAW_SIZE", 808)
    chunk, stored = encode(column, rows)
    assert (chunk.encoding, chunk.frames[0].raw_size) == (1, 101)
    check_column_chunk(column, chunk)
    monkeypatch.setattr(layout, "MAX_FRAME_RAW_SIZE", 807)
    with pytest.raises(MalformedError, match="808 bytes once its values are widened"):
        check_column_chunk(column, chunk)
    plain, stored = encode(column, rows)
    assert (plain.encoding, plain.raw_size) == (0, 801)
    np.testing.assert_array_equal(decode_frames(column, plain, memoryview(stored)).values, rows.values)
    monkeypatch.setattr(layout, "MAX_FRAME_RAW_SIZE", 800)
    with pytest.raises(MalformedError, match="1 GiB"):
        encode(column, rows)


def test_more_elements_than_narrow_frames_hold_are_refused_early() -> None:
    """Dimensions are held against the bytes as they are stored, before anything is allocated for them."""
    raw = np.array([100, 200, 1, 2, 3], np.uint8)
    with pytest.raises(MalformedError, match="more elements than they can hold"):
        parse_frames(column_of("int64", (None,)), [raw], [2], 1, 1)
