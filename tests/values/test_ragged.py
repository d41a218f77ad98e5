"""Ragged: what a batch of variable-length rows gives back, and what it refuses."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordio.errors import RequestError, SignatureError, SignatureTypeError
from recordio.values.ragged import Ragged

NUMBERS = {
    "bool": np.bool_, "int8": np.int8, "uint64": np.uint64, "float16": np.float16, "float64": np.float64,
    "complex64": np.complex64, "bfloat16": ml_dtypes.bfloat16, "float8_e5m2": ml_dtypes.float8_e5m2,
}  # fmt: skip
SHAPES = [(None,), (None, 2), (None, 0), (None, None), (3, None), (None, 2, None), (None, 1, 2)]
TEXT_SHAPES = [(), (None,), (2,), (0,), (None, 2), (None, None)]
TEXT = st.one_of(st.text(st.characters(max_codepoint=127), max_size=6), st.text(max_size=6))


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[Any], str, tuple[int | None, ...]]:
    """Rows with their dtype and shape; some are None."""
    dtype = draw(st.sampled_from([*NUMBERS, "str", "bytes"]))
    shape = draw(st.sampled_from(SHAPES if dtype in NUMBERS else TEXT_SHAPES))
    optional = draw(st.booleans())
    elements = {"str": TEXT, "bytes": st.binary(max_size=6)}.get(dtype, st.integers(0, 1))

    def row() -> Any:
        if optional and draw(st.integers(0, 3)) == 0:
            return None
        dims = [draw(st.integers(0, 3)) if dim is None else dim for dim in shape]
        items = draw(st.lists(elements, min_size=int(np.prod(dims)), max_size=int(np.prod(dims))))
        if dtype in NUMBERS:
            return np.array(items, np.float32).astype(NUMBERS[dtype]).reshape(dims)
        if not shape:
            return items[0]
        array = np.empty(len(items), object)
        array[:] = items
        return array.reshape(dims)

    return [row() for _ in range(draw(st.integers(0, 6)))], dtype, shape


def same(got: Any, expected: Any) -> bool:
    """The very type, shape and values."""
    if isinstance(expected, np.ndarray):
        right = isinstance(got, np.ndarray) and got.dtype == expected.dtype and got.shape == expected.shape
        return right and got.tolist() == expected.tolist()
    return type(got) is type(expected) and got == expected


def all_same(got: Any, expected: list[Any]) -> bool:
    """Row by row."""
    return len(got) == len(expected) and all(same(one, other) for one, other in zip(got, expected))


# ---- rows go in and come out ----


@given(batches())
def test_rows_come_back_by_every_door(batch):
    """Indexing, iteration, to_list, to_object_array and np.asarray give the rows that went in."""
    rows, dtype, shape = batch
    ragged = Ragged.from_rows(rows, dtype, shape=shape)
    assert len(ragged) == len(rows)
    assert all_same(ragged.to_list(), rows)
    assert all_same(list(ragged), rows)
    assert all_same([ragged[i] for i in range(len(rows))], rows)
    assert all_same([ragged[i - len(rows)] for i in range(len(rows))], rows)
    for objects in (ragged.to_object_array(), np.asarray(ragged)):
        assert objects.dtype == object
        assert objects.shape == (len(rows),)
        assert all_same(list(objects), rows)


@given(batches(), st.data())
def test_slices_and_index_arrays_are_the_rows_of_a_list(batch, data):
    """ragged[a:b:c], ragged[[...]] and ragged[mask] hold the rows that a list would give, whatever the layout."""
    rows, dtype, shape = batch
    ragged = Ragged.from_rows(rows, dtype, shape=shape)
    cut = data.draw(st.slices(len(rows)))
    assert all_same(ragged[cut].to_list(), rows[cut])
    numbers = data.draw(st.lists(st.integers(-len(rows), len(rows) - 1), max_size=12)) if rows else []
    chosen = [rows[number] for number in numbers]
    for index in (numbers, np.array(numbers, np.int32)):
        assert all_same(ragged[index].to_list(), chosen)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))), bool)
    assert all_same(ragged[mask].to_list(), [row for row, keep in zip(rows, mask) if keep])
    assert ragged[cut].row_shape == ragged[numbers].row_shape == ragged.row_shape


@pytest.mark.parametrize(("dtype", "shape", "rows"), [
    ("str", (), ["né", None, "", "abc"]),
    ("str", (None,), [["né", "a"], [], None, ["", "bcd"]]),
    ("bytes", (2,), [[b"a", b""], [b"bc", b"d"], None, [b"e", b"f"]]),
    ("int8", (None,), [[1, 2], [], None, [3]]),
    ("int8", (None, 2), [[[1, 2]], [[3, 4], [5, 6]], None, np.zeros((0, 2))]),
    ("int8", (None, None), [[[1, 2]], [[3], [4]], None, [[5]]]),
])  # fmt: skip
@pytest.mark.parametrize("step", [1, 2, -1])
def test_every_slice_of_every_layout(dtype, shape, rows, step):
    """Each pair of start and stop, with values in front of the cut."""
    ragged = Ragged.from_rows(rows, dtype, shape=shape)
    listed = ragged.to_list()
    for start in range(-1, len(rows) + 1):
        for stop in range(-1, len(rows) + 2):
            assert all_same(ragged[start:stop:step].to_list(), listed[start:stop:step])


@given(batches())
def test_padded_rows_stand_in_the_front_corner_of_the_fill(batch):
    """to_padded puts row i at [i, :d0, :d1, ...] of an array that is as large as the longest row."""
    rows, dtype, shape = batch
    ragged = Ragged.from_rows(rows, dtype, shape=shape)
    fill: Any = {"str": "¿", "bytes": b"?", "bool": True}.get(dtype, 1)
    present = [row for row in rows if row is not None]
    longest = [max((np.shape(row)[axis] for row in present), default=0) for axis in range(len(shape))]
    target = [low if dim is None else dim for dim, low in zip(shape, longest)]
    for extra in (0, 2):
        wanted = tuple(size + extra for size in target)
        padded = ragged.to_padded(fill, wanted) if extra else ragged.to_padded(fill)
        expected = np.full((len(rows), *wanted), fill, dtype=object if dtype in ("str", "bytes") else NUMBERS[dtype])
        for i, row in enumerate(rows):
            if row is not None and shape:
                expected[(i, *map(slice, row.shape))] = row
            elif row is not None:
                expected[i] = row
        assert same(padded, expected)


@given(batches())
def test_pickle_and_copies_are_equal_and_writable(batch):
    """A batch passes between processes unchanged; the copy is as writable as the first."""
    rows, dtype, shape = batch
    ragged = Ragged.from_rows(rows, dtype, shape=shape)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        other = pickle.loads(pickle.dumps(ragged, protocol))
        assert other == ragged
        assert other.row_shape == ragged.row_shape
        assert (other.mask is None) == (ragged.mask is None)
        assert other.values.flags.writeable
    assert copy.deepcopy(ragged).equals(ragged)


@given(batches(), batches())
def test_equality_is_that_of_the_rows(first, second):
    """Two batches are equal if and only if dtype and rows are, shapes included."""
    one, other = (Ragged.from_rows(rows, dtype, shape=shape) for rows, dtype, shape in (first, second))
    expected = first[1] == second[1] and len(first[2]) == len(second[2]) and all_same(second[0], first[0])
    assert (one == other) is expected
    assert one.equals(one[:])


# ---- details ----


@pytest.mark.parametrize(("rows", "dtype", "shape", "expected"), [
    (["a", "b"], "str", None, "Ragged(str[2])"),
    ([[1], [2, 3]], "int32", None, "Ragged(int32[2, ?])"),
    ([np.zeros((1, 3)), None], "float32", (None, 3), "Ragged(float32[2, ?, 3], 1 None)"),
    ([], "bfloat16", (2, None), "Ragged(bfloat16[0, 2, ?])"),
    ([], "int8", None, "Ragged(int8[0, ?])"),
    ([], "str", None, "Ragged(str[0])"),
])  # fmt: skip
def test_repr_is_short_and_shows_the_shape(rows, dtype, shape, expected):
    """dtype, number of rows, the known dimensions, and ? for the others."""
    assert repr(Ragged.from_rows(rows, dtype, shape=shape)) == expected


def test_layout_of_numbers():
    """Only the first dimension unknown: values keep the suffix; otherwise they are flat."""
    rows = [np.ones((1, 2), np.int16), np.zeros((3, 2), np.int16)]
    suffixed, flat = Ragged.from_rows(rows, "int16", shape=(None, 2)), Ragged.from_rows(rows, "int16")
    assert suffixed.values.shape == (4, 2)
    assert suffixed.row_offsets.tolist() == [0, 1, 4]
    assert flat.values.shape == (8,)
    assert flat.row_offsets.tolist() == [0, 2, 8]
    assert suffixed.shapes.tolist() == flat.shapes.tolist() == [[1, 2], [3, 2]]
    assert suffixed == flat
    assert suffixed.nbytes == 16 + 24 + 32


def test_layout_of_strings():
    """Scalar strings: offsets into the bytes. Arrays of strings: into the elements, and those into the bytes."""
    scalars = Ragged.from_rows(["né", None, "a"], "str")
    assert bytes(scalars.values) == "néa".encode()
    assert scalars.row_offsets.tolist() == [0, 3, 3, 4]
    assert scalars.shapes.shape == (3, 0)
    assert scalars.element_offsets is None
    assert scalars.mask is not None
    assert scalars.mask.tolist() == [False, True, False]
    arrays = Ragged.from_rows([["né", "a"], []], "str")
    assert arrays.element_offsets is not None
    assert arrays.element_offsets.tolist() == [0, 3, 4]
    assert arrays.row_offsets.tolist() == [0, 2, 2]
    assert arrays.shapes.tolist() == [[2], [0]]


def test_rows_of_numbers_are_views_and_parts_are_copies():
    """Writing into a row writes into its batch; a slice or a selection is another batch."""
    ragged = Ragged.from_rows([[1, 2], [3]], "int64")
    parts = [ragged[:], ragged[[0, 1]], ragged[::-1][::-1], ragged[np.array([True, True])]]
    ragged[0][1] = 7
    ragged.to_list()[1][0] = 8
    assert ragged.values.tolist() == [1, 7, 8]
    for part in parts:
        assert part.values.tolist() == [1, 2, 3]
        for name in ("values", "row_offsets", "shapes"):
            assert not np.shares_memory(getattr(part, name), getattr(ragged, name))


def test_rows_of_equal_shape_are_padded_by_a_copy():
    """Nothing to fill: the result is still memory of its own."""
    ragged = Ragged.from_rows([[1, 2], [3, 4]], "int64")
    padded = ragged.to_padded()
    padded[0, 0] = 9
    assert ragged.values.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(("dtype", "rows", "expected"), [
    ("bool", [[True], []], [[True], [False]]),
    ("float8_e5m2", [[1], []], [[1], [0]]),
    ("complex128", [[1j], None], [[1j], [0]]),
    ("str", ["a", None], ["a", ""]),
    ("bytes", [[b"a"], []], [[b"a"], [b""]]),
])  # fmt: skip
def test_default_fill_is_zero_or_empty(dtype, rows, expected):
    """0, False, "" or b"", by dtype."""
    assert Ragged.from_rows(rows, dtype).to_padded().tolist() == expected


def test_zero_is_a_fill_for_every_number():
    """Code that fills with 0 works for bool too."""
    assert Ragged.from_rows([[True], []], "bool").to_padded(0).tolist() == [[True], [False]]


@pytest.mark.parametrize(("dtype", "rows", "fill", "shape"), [
    ("uint8", [[1], []], 256, None),
    ("uint8", [[1], []], -1, None),
    ("int32", [[1], []], 0.5, None),
    ("float32", [[1], []], "0", None),
    ("bool", [[True], []], 2, None),
    ("float32", [[1], []], [1.0, 2.0], None),
    ("str", ["a"], b"", None),
    ("bytes", [b"a"], "", None),
    ("int32", [[1, 2]], 0, (1,)),
    ("int32", [[1, 2]], 0, (2, 2)),
    ("str", ["a"], "", (1,)),
])  # fmt: skip
def test_padding_that_would_lose_something_is_refused(dtype, rows, fill, shape):
    """A fill that would change, a row that would be cut, or another rank."""
    with pytest.raises(RequestError):
        Ragged.from_rows(rows, dtype).to_padded(fill, shape)


def test_padded_shape_may_leave_dimensions_open():
    """None in the shape is the longest row of this batch."""
    ragged = Ragged.from_rows([np.ones((1, 2)), np.ones((2, 1))], "float32")
    assert ragged.to_padded(shape=(None, 5)).shape == (2, 2, 5)


@pytest.mark.parametrize("index", ["a", None, 1.0, (0, 1), [0.5], [[0]], [None], True, False, np.True_, np.array(True)])
def test_wrong_indices_are_type_errors(index):
    """As for a list."""
    with pytest.raises(TypeError):
        Ragged.from_rows(["a", "b"], "str")[index]


@pytest.mark.parametrize("index", [2, -3, [0, 2], [-3], np.array([True])])
def test_indices_out_of_range_are_index_errors(index):
    """As for a list."""
    with pytest.raises(IndexError):
        Ragged.from_rows(["a", "b"], "str")[index]


@pytest.mark.parametrize(("rows", "dtype", "shape", "error"), [
    ([[1.5]], "int64", None, SignatureError),
    ([[300]], "uint8", None, SignatureError),
    ([["a"]], "int64", None, SignatureTypeError),
    ([[1], [[1]]], "int64", None, SignatureError),
    ([[1]], "int64", (2,), SignatureError),
    ([1], "int64", None, RequestError),          # a scalar of a number has a fixed shape
    ([[1]], "int64", (1,), RequestError),
    (["a"], "bytes", None, SignatureTypeError),
    ([b"a"], "str", None, SignatureTypeError),
    (["\ud800"], "str", None, SignatureError),
    ([["a"], ["b", 1]], "str", None, SignatureTypeError),
])  # fmt: skip
def test_rows_that_would_change_are_refused(rows, dtype, shape, error):
    """The dtype and the shape are a promise; the error is a ValueError too."""
    with pytest.raises(error) as caught:
        Ragged.from_rows(rows, dtype, shape=shape)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("dtype", ["int32", np.int32, np.dtype(">i4"), "i4", np.dtype("int32")])
def test_a_dtype_may_be_said_in_every_way_that_a_spec_takes(dtype):
    """As for TensorSpec; the Ragged has the canonical name."""
    ragged = Ragged.from_rows([[1, 2], [3]], dtype)
    assert (ragged.dtype, ragged.values.dtype) == ("int32", np.int32)
    assert Ragged.from_rows([["a"]], str).dtype == "str"
    assert Ragged.from_rows([[1]], int).dtype == "int64"
    assert Ragged(**parts(dtype=np.int64)).dtype == "int64"


@pytest.mark.parametrize("dtype", ["msgpack", "flaot32", object, None])
def test_a_dtype_without_rows_is_refused(dtype):
    """msgpack is a column of objects, and no array."""
    with pytest.raises(SignatureTypeError):
        Ragged.from_rows([[1]], dtype)


@pytest.mark.parametrize("shape", [4, "4", (4.0,), (True,)])
def test_a_shape_is_a_sequence_of_sizes(shape):
    """A type error that says how to write it."""
    with pytest.raises(TypeError, match=r"not a sequence|an int or None"):
        Ragged.from_rows([[1, 2], [3]], "int64").to_padded(shape=shape)
    with pytest.raises(TypeError, match=r"not a sequence|an int or None"):
        Ragged.from_rows([[1, 2], [3]], "int64", shape=shape)


def test_a_shape_may_be_any_sequence():
    """As for TensorSpec."""
    ragged = Ragged.from_rows([[1, 2], [3]], "int64", shape=[None])
    assert ragged.row_shape == (None,)
    assert ragged.to_padded(shape=np.array([3])).tolist() == [[1, 2, 0], [3, 0, 0]]


def test_a_copy_shares_nothing():
    """As of an array."""
    ragged = Ragged.from_rows([[1, 2], None], "int64")
    other = ragged.copy()
    assert other == ragged
    assert not np.shares_memory(other.values, ragged.values)


def parts(**changed: Any) -> dict[str, Any]:
    """Arrays of two rows of numbers, [[1, 2], [3]], with some of them replaced."""
    values, row_offsets, shapes = np.array([1, 2, 3]), np.array([0, 2, 3]), np.array([[2], [1]])
    return {"dtype": "int64", "values": values, "row_offsets": row_offsets, "shapes": shapes} | changed


@pytest.mark.parametrize("changed", [
    {"dtype": "int32"},
    {"dtype": "str"},
    {"values": np.array(1)},
    {"values": np.array([1, 2])},
    {"values": np.array([1, 2, 3], ">i8")},
    {"values": np.array([[1], [2], [3]])},
    {"row_offsets": np.array([0, 4, 3])},
    {"row_offsets": np.array([1, 2, 3])},
    {"row_offsets": np.array([0, 2, 3], np.int32)},
    {"row_offsets": np.array([], np.int64)},
    {"row_offsets": np.array(3)},
    {"shapes": np.array([[1], [2]])},
    {"shapes": np.array([[-2], [1]])},
    {"shapes": np.array([2, 1])},
    {"shapes": np.zeros((2, 0), np.int64)},
    {"shapes": np.array([[1 << 32, 1 << 32], [3, 1]]), "row_offsets": np.array([0, 0, 3])},    # the product wraps to 0
    {"mask": np.array([True, False])},
    {"mask": np.array([False])},
    {"mask": np.array([0, 1])},
    {"row_shape": (2,)},
    {"row_shape": (None, None)},
    {"element_offsets": np.array([0, 1])},
])  # fmt: skip
def test_arrays_that_contradict_one_another_are_refused(changed):
    """Before a row is cut out of them: RequestError, never a wrong row."""
    assert Ragged(**parts()).to_padded().tolist() == [[1, 2], [3, 0]]
    with pytest.raises(RequestError):
        Ragged(**parts(**changed))


@pytest.mark.parametrize(("data", "bounds"), [
    (b"\xff", [0, 1]),
    ("é".encode(), [0, 1, 2]),      # valid as a whole, but the second string begins inside a character
])  # fmt: skip
def test_invalid_text_is_an_error_and_never_other_text(data, bounds):
    """A Ragged of str from elsewhere may hold anything: decoding it raises ValueError."""
    shapes = np.zeros((len(bounds) - 1, 0), np.int64)
    values = np.frombuffer(data, np.uint8)
    ragged = Ragged(dtype="str", values=values, row_offsets=np.array(bounds), shapes=shapes)
    for read in (ragged.to_list, ragged.to_padded, lambda: ragged[0]):
        with pytest.raises(ValueError):
            read()
    assert ragged.values.flags.writeable    # bytes are read-only: they were copied


def test_nan_equals_nan_in_the_same_place():
    """A batch equals its copy, whatever it holds."""
    for dtype in ("float32", "bfloat16", "complex64"):
        ragged = Ragged.from_rows([[np.nan, 1]], dtype)
        assert ragged == ragged[:]
        assert ragged != Ragged.from_rows([[1, np.nan]], dtype)
    assert (Ragged.from_rows(["a"], "str") == ["a"]) is False
    with pytest.raises(TypeError):
        hash(ragged)


@pytest.mark.filterwarnings("error")
def test_a_signalling_nan_is_compared_without_a_warning():
    """numpy warns of invalid values where ml_dtypes compares them."""
    ragged = Ragged.from_rows([np.array([0x7F81, 0], np.uint16).view(ml_dtypes.bfloat16)], "bfloat16")
    assert ragged == ragged[:]


def test_array_form_is_a_copy():
    """numpy's protocol: copy=False cannot be granted, a dtype is applied to the objects."""
    ragged = Ragged.from_rows(["a", "bc"], "str")
    assert np.asarray(ragged, dtype="U").tolist() == ["a", "bc"]
    with pytest.raises(ValueError):
        np.array(ragged, copy=False)


@pytest.mark.parametrize("size", [3, 50_000])
@pytest.mark.parametrize("letter", ["a", "é", b"a"])
def test_long_and_short_strings_are_cut_alike(letter, size):
    """Which way of cutting is faster depends on the length; the strings do not."""
    rows = [letter * (size + i) for i in range(4)]
    dtype = "bytes" if isinstance(letter, bytes) else "str"
    ragged = Ragged.from_rows(rows, dtype)
    assert ragged.to_list() == rows
    assert ragged[[3, 0]].to_list() == [rows[3], rows[0]]
    assert ragged[1:3].to_list() == rows[1:3]
