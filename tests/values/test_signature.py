"""What a signature takes and what it refuses: nothing that was written may read back as something else."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import ml_dtypes
import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recordio.columns import ColumnValues
from recordio.errors import SignatureError, SignatureTypeError
from recordio.schema import MsgpackSpec, Schema, TensorSpec
from recordio.values.leaves import record_leaf
from recordio.values.ragged import Ragged
from recordio.values.signature import RecordBuffer, cast_batch

INTS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
FLOATS = [
    "float16", "float32", "float64", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz",
    "float8_e8m0fnu",   # powers of two: no zero, no sign
]  # fmt: skip


def spec(dtype: str, shape: Any = (), **options: Any) -> Any:
    return MsgpackSpec() if dtype == "msgpack" else TensorSpec(shape, dtype, **options)


def write_one(signature: Any, value: Any) -> ColumnValues:
    """The column of one record that is one leaf."""
    buffer = RecordBuffer(Schema.from_signature(signature))
    buffer.append(value, 0)
    (rows,) = buffer.take()
    return rows


def read_one(signature: Any, value: Any) -> Any:
    """What a leaf reads back as, by way of the record buffer; the batch of one must agree to the byte."""
    column = Schema.from_signature(signature).columns[0]
    rows = write_one(signature, value)
    _, (batch_rows,) = cast_batch(Schema.from_signature(signature), [value])
    assert_same_rows(rows, batch_rows)
    return record_leaf(column, rows, 0)


def assert_same_rows(left: ColumnValues, right: ColumnValues) -> None:
    assert left.num_rows == right.num_rows
    for name in ("values", "validity", "ranks", "dims", "lengths"):
        a, b = getattr(left, name), getattr(right, name)
        assert (a is None) == (b is None), name
        if a is not None:
            assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()), name


def exactly(number: Any) -> Fraction | str:
    """A real number as one that compares exactly."""
    value = number if isinstance(number, int) else float(number)
    return Fraction(value) if isinstance(value, int) or math.isfinite(value) else repr(value)


# ---- numbers ----


@pytest.mark.parametrize(("dtype", "value", "expected"), [
    ("float32", 1, 1.0),
    ("int32", 1.0, 1),
    ("int32", np.float32(7), 7),
    ("int64", np.uint8(255), 255),
    ("uint64", 2**64 - 1, 2**64 - 1),
    ("uint64", np.float64(2**63), 2**63),
    ("int64", -(2**63), -(2**63)),
    ("float32", 0.1, np.float32(0.1)),          # a float is rounded
    ("float32", 2**24, 2.0**24),
    ("float64", 2**63, 2.0**63),
    ("float64", 2**100, 2.0**100),
    ("float32", math.inf, math.inf),
    ("bfloat16", 256, 256.0),
    ("float8_e4m3fn", 448.0, 448.0),
    ("float8_e5m2", math.inf, math.inf),
    ("bool", True, True),
    ("bool", np.bool_(False), False),
    ("complex64", 1, 1 + 0j),
    ("complex128", 1.5, 1.5 + 0j),
    ("complex64", 1 + 2j, 1 + 2j),
    ("int32", np.array(3, ">i2"), 3),
    ("int32", np.array(3, object), 3),
    ("int8", ml_dtypes.bfloat16(5), 5),
    ("float32", ml_dtypes.bfloat16(1.5), 1.5),
])
def test_a_number_that_keeps_its_value_is_taken(dtype: str, value: Any, expected: Any) -> None:
    """A cast is made if it preserves the value; a float under a narrower float is rounded."""
    assert read_one(spec(dtype), value) == expected


@pytest.mark.parametrize("dtype", FLOATS)
def test_nan_stays_nan(dtype: str) -> None:
    """NaN is a float like another, in every dtype that has one."""
    assert math.isnan(float(read_one(spec(dtype), math.nan)))


@pytest.mark.parametrize(("dtype", "value", "kind"), [
    ("int32", 1.5, SignatureError),
    ("int32", 2**40, SignatureError),
    ("uint8", -1, SignatureError),
    ("float32", 2**24 + 1, SignatureError),
    ("float64", 2**53 + 1, SignatureError),
    ("float64", 2**63 - 1, SignatureError),     # rounds to 2**63, where a cast back is undefined in C
    ("float64", 2**64 - 1, SignatureError),
    ("float64", 2**64 + 1, SignatureError),
    ("float64", 10**400, SignatureError),
    ("int64", 2**63, SignatureError),
    ("int64", float(2**63), SignatureError),
    ("uint64", float(2**64), SignatureError),
    ("uint64", 2**64, SignatureError),
    ("int64", math.nan, SignatureError),
    ("int64", -math.inf, SignatureError),
    ("float16", 70000, SignatureError),
    ("float16", 70000.0, SignatureError),
    ("float32", 1e39, SignatureError),
    ("bfloat16", 257, SignatureError),
    ("bfloat16", 3.4e38, SignatureError),       # below float32's largest, above bfloat16's
    ("float8_e4m3fn", 500.0, SignatureError),
    ("float8_e4m3fn", math.inf, SignatureError),
    ("float8_e5m2", 1e6, SignatureError),
    ("float8_e8m0fnu", 0.0, SignatureError),    # has no zero
    ("float8_e8m0fnu", -1.0, SignatureError),   # and no sign
    ("complex64", 1e39, SignatureError),
    ("complex64", complex(0, 1e39), SignatureError),
    ("complex128", 2**53 + 1, SignatureError),
    ("float64", 1 + 0j, SignatureTypeError),
    ("int32", True, SignatureTypeError),
    ("float32", np.bool_(True), SignatureTypeError),
    ("bool", 1, SignatureTypeError),
    ("bool", 2**70, SignatureTypeError),
    ("bool", np.uint8(0), SignatureTypeError),
    ("int32", None, SignatureTypeError),
    ("int32", "1", SignatureTypeError),
    ("int32", b"1", SignatureTypeError),
    ("int32", {}, SignatureTypeError),
    ("int32", object(), SignatureTypeError),
    ("int64", np.datetime64(1, "s"), SignatureTypeError),
    ("int32", np.ma.masked, SignatureTypeError),
    ("int32", [1], SignatureError),
    ("int32", np.array([1]), SignatureError),
])
def test_a_number_that_would_change_is_refused(dtype: str, value: Any, kind: type) -> None:
    """The error says record, column, expected and got."""
    with pytest.raises(SignatureError) as caught:
        write_one({"x": spec(dtype)}, {"x": value})
    assert type(caught.value) is kind
    assert (caught.value.record, caught.value.column) == (0, "x")
    assert caught.value.message.startswith(f"expected {dtype}, got ")


@pytest.mark.parametrize(("dtype", "value", "place"), [
    ("int64", [True, 2], "True at [0]"),            # numpy makes int64 of it
    ("float64", [1.5, True], "True at [1]"),
    ("float64", [2**63 + 1, -1], "9223372036854775809 at [0]"),    # numpy makes float64 of it
    ("int64", [-1, 2**63], "9223372036854775808 at [1]"),
    ("float64", [1.5, 2**53 + 1], "9007199254740993 at [1]"),
    ("int32", [1, 2.5], "2.5 at [1]"),
    ("int32", [1, None], "None at [1]"),
    ("int32", [1, "2"], "str '2' at [1]"),
    ("uint8", [np.uint64(2**63), np.int64(-1)], "9223372036854775808 at [0]"),
    ("bool", [True, 1], "1 at [1]"),
    ("int32", [np.array(True), 1], "True at [0]"),
    ("int32", np.array([1, 1.5], object), "1.5 at [1]"),
    ("int32", np.array([1, 2**40]), "1099511627776 at [1]"),
    ("float32", np.array([0, 2**24 + 1]), "16777217 at [1]"),
    ("int32", np.ma.masked_array([1, 2], mask=[False, True]), "a masked element at [1]"),
])
def test_the_first_wrong_element_is_named(dtype: str, value: Any, place: str) -> None:
    """Also where numpy's common dtype would have hidden it."""
    for write in (write_one, lambda signature, leaf: cast_batch(Schema.from_signature(signature), [leaf])):
        with pytest.raises(SignatureError) as caught:
            write(spec(dtype, (2,)), value)
        assert place in caught.value.message
        assert caught.value.record == 0


@pytest.mark.parametrize(("dtype", "value", "expected"), [
    ("int32", [1, 2.0], [1, 2]),
    ("uint64", [2**63, 0], [2**63, 0]),
    ("uint64", [np.uint64(2**63 + 1), 1], [2**63 + 1, 1]),     # numpy's common dtype is float64
    ("float64", [2**63, -1], [2.0**63, -1.0]),
    ("int64", (1, 2), [1, 2]),
    ("int16", range(2), [0, 1]),
    ("float32", [np.array(1.5), 2], [1.5, 2]),
    ("int32", np.arange(4)[::2], [0, 2]),
    ("int32", np.arange(2).astype(">i8"), [0, 1]),
    ("bool", [True, np.False_], [True, False]),
])
def test_lists_are_read_without_numpys_promotions(dtype: str, value: Any, expected: list[Any]) -> None:
    """Each element counts as what it is."""
    assert read_one(spec(dtype, (2,)), value).tolist() == expected


@pytest.mark.parametrize(("shape", "value", "message"), [
    ((2,), np.zeros(3, np.int64), "expected int32[2], got int64[3]"),
    ((2, None), np.zeros((3, 1), np.int32), "expected int32[2,?], got int32[3,1]"),
    ((None,), np.zeros((1, 1), np.int32), "expected int32[?], got int32[1,1]"),
    ((None,), 5, "expected int32[?], got 5"),
    ((2,), [[1], [2, 3]], "expected int32[2], got lists of unequal length or depth"),
    (None, np.zeros((1,) * 33, np.int32), "expected int32[...], got rank 33: the limit is 32"),
    ((None, 0), np.zeros((2**41, 0), np.int32), f"got int32[{2**41},0]: the limit of a dimension is {2**40}"),
])
def test_a_wrong_shape_is_refused(shape: Any, value: Any, message: str) -> None:
    """Shapes are compared with the declared one, None standing for any size."""
    with pytest.raises(SignatureError) as caught:
        write_one(spec("int32", shape), value)
    assert message in caught.value.message


def test_the_limit_of_a_row_is_one_gibibyte() -> None:
    """spec/format.md, section 10; a broadcast array has the size without the memory."""
    large = np.broadcast_to(np.uint8(0), ((1 << 30) + 1,))
    for leaf, write in ((large, write_one), (large[None], lambda s, b: cast_batch(Schema.from_signature(s), b))):
        with pytest.raises(SignatureError, match="the limit for one record in one column") as caught:
            write(spec("uint8", (None,)), leaf)
        assert caught.value.record == 0


def strings(count: int) -> Any:
    """So many empty strings, in the memory of one."""
    return np.broadcast_to(np.array("", object), (count,))


@pytest.mark.parametrize(("shape", "value"), [
    ((None,), strings), (None, strings), ((2, None), lambda count: strings(count).reshape(2, -1)),
])  # fmt: skip
def test_the_limit_of_strings_counts_strings_and_not_dimensions(shape: Any, value: Any) -> None:
    """Exactly 2**22 of them are one record (spec/format.md, section 10)."""
    signature = spec("str", shape)
    rows = write_one(signature, value(1 << 22))
    assert rows.lengths is not None
    assert len(rows.lengths) == 1 << 22


def test_more_strings_than_a_frame_may_hold_are_refused_by_record() -> None:
    """One by one, as a list, as an array and as a Ragged; never as damaged bytes, when the frame is made."""
    count = (1 << 22) + 1
    schema = Schema.from_signature(spec("str", (None,)))
    ragged = Ragged(
        dtype="str", values=np.zeros(0, np.uint8), row_offsets=np.array([0, 0, count]),
        element_offsets=np.zeros(count + 1, np.int64), shapes=np.array([[0], [count]]),
    )  # fmt: skip
    buffer = RecordBuffer(schema)
    with pytest.raises(SignatureError, match=f"got {count} strings: the limit") as caught:
        buffer.append(strings(count), 1)
    assert (caught.value.record, caught.value.column) == (1, "value")
    for batch in ([[], strings(count)], ragged):
        with pytest.raises(SignatureError, match=f"got {count} strings: the limit") as caught:
            cast_batch(schema, batch)
        assert caught.value.record == 1
    with pytest.raises(SignatureError, match=f"got {count} strings: the limit") as caught:
        cast_batch(schema, strings(count)[None])
    assert caught.value.record == 0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize("target", ["bfloat16", "float16", "float32", "float64", "float8_e5m2", "complex64"])
def test_a_signalling_nan_is_a_value_like_another(dtype: str, target: str) -> None:
    """Whatever its bits, without a warning; under its own dtype the bits stay."""
    bits = {1: 0x7D, 2: 0x7C01 if dtype == "float16" else 0x7F81, 4: 0x7F800001}[dtype_of(dtype).itemsize]
    bits = 0x7F if dtype == "float8_e4m3fn" else bits
    value = np.array([bits], f"u{dtype_of(dtype).itemsize}").view(dtype_of(dtype))
    schema = Schema.from_signature(spec(target))
    from_array, from_list = (cast_batch(schema, batch)[1][0] for batch in (value, [value[0]]))
    for rows in (write_one(spec(target), value[0]), from_array, from_list):
        assert rows.values[0] != rows.values[0] if target == "complex64" else math.isnan(float(rows.values[0]))
        assert dtype != target or rows.values.tobytes() == value.tobytes()
    for shape in ((1,), (None,), None):
        assert dtype != target or write_one(spec(target, shape), value).values.tobytes() == value.tobytes()
        write_one(spec(target, shape), value)
        cast_batch(Schema.from_signature(spec(target, shape)), value[None])


numbers = st.one_of(
    st.integers(), st.integers(-300, 300),
    st.sampled_from([2**k + d for k in (7, 8, 11, 24, 31, 53, 63, 64) for d in (-1, 0, 1)]),
    st.floats(), st.floats(width=16), st.integers(-(2**70), 2**70).map(float),
    st.sampled_from(INTS).flatmap(lambda name: hnp.from_dtype(np.dtype(name))),
    st.sampled_from(["float16", "float32", "float64"]).flatmap(lambda name: hnp.from_dtype(np.dtype(name))),
)  # fmt: skip


def may_be_taken(value: Any, dtype: str) -> bool:
    """The rule for a real number, in exact arithmetic."""
    number = exactly(value.item() if isinstance(value, np.generic) else value)
    if dtype in INTS:
        limits = np.iinfo(dtype)
        return isinstance(number, Fraction) and number.denominator == 1 and limits.min <= number <= limits.max
    if isinstance(value, (int, np.integer)):
        try:
            close = float(int(value))
        except OverflowError:
            return False
        with np.errstate(all="ignore"):
            return exactly(float(np.float64(close).astype(dtype_of(dtype)))) == exactly(int(value))
    with np.errstate(all="ignore"):
        rounded = float(np.float64(float(value)).astype(dtype_of(dtype)))
    return (math.isfinite(rounded), math.isnan(rounded)) == (math.isfinite(float(value)), math.isnan(float(value)))


def dtype_of(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, name, name))


@given(st.sampled_from(INTS + FLOATS), numbers)
def test_what_is_taken_reads_back_and_what_is_refused_would_have_changed(dtype: str, value: Any) -> None:
    """The two halves of the promise: no wrong value in, no right value out."""
    try:
        found = read_one(spec(dtype), value)
    except SignatureError:
        assert not may_be_taken(value, dtype)
        return
    assert may_be_taken(value, dtype)
    if dtype in INTS or isinstance(value, (int, np.integer)):
        assert exactly(int(found) if dtype in INTS else float(found)) == exactly(
            value.item() if isinstance(value, np.generic) else value
        )
    else:
        rounded = np.float64(float(value)).astype(dtype_of(dtype))
        assert exactly(float(found)) == exactly(float(rounded))


@given(st.sampled_from([*INTS, *FLOATS]), st.lists(numbers, min_size=1, max_size=4))
def test_a_list_is_taken_exactly_if_each_of_its_elements_is(dtype: str, values: list[Any]) -> None:
    """Lists, arrays of objects and single records give the same bytes or the same first refusal."""
    expected = next((index for index, value in enumerate(values) if not may_be_taken(value, dtype)), None)
    schema = Schema.from_signature(spec(dtype))
    objects = np.empty(len(values), object)
    objects[:] = values
    for batch in (values, objects):
        if expected is not None:
            with pytest.raises(SignatureError) as caught:
                cast_batch(schema, batch, first_record=10)
            assert caught.value.record == 10 + expected
            continue
        _, (rows,) = cast_batch(schema, batch)
        whole = write_one(spec(dtype, (len(values),)), values)
        assert rows.values.tobytes() == whole.values.tobytes()


@given(
    st.sampled_from(INTS + FLOATS + ["complex64", "bool"]),
    hnp.arrays(st.sampled_from([*INTS, "float16", "float32", "float64", "complex128", "bool", ">i4", ">f8"]), (3, 2)),
)
def test_a_batch_array_is_taken_exactly_if_each_of_its_rows_is(dtype: str, array: Any) -> None:
    """Vectorised and row by row: the same bytes, or the same record in the error."""
    schema = Schema.from_signature(spec(dtype, (2,)))
    buffer = RecordBuffer(schema)
    refused = None
    for row in range(3):
        try:
            buffer.append(array[row], row)
        except SignatureError as error:
            refused = error
            break
    if refused is None:
        assert_same_rows(cast_batch(schema, np.asfortranarray(array))[1][0], buffer.take()[0])
        return
    with pytest.raises(SignatureError) as caught:
        cast_batch(schema, array)
    assert (caught.value.record, caught.value.message, type(caught.value)) == (
        refused.record, refused.message, type(refused)
    )  # fmt: skip


def test_a_bool_of_another_byte_is_stored_as_one() -> None:
    """A view may hold any byte as bool, a file only 0 and 1 (spec/format.md, section 3)."""
    strange = np.array([0, 2, 255], np.uint8).view(np.bool_)
    assert write_one(spec("bool", (3,)), strange).values.view(np.uint8).tolist() == [[0, 1, 1]]
    assert write_one(spec("bool", (None,)), strange).values.view(np.uint8).tolist() == [0, 1, 1]
    _, (rows,) = cast_batch(Schema.from_signature(spec("bool")), strange)
    assert rows.values.view(np.uint8).tolist() == [0, 1, 1]


# ---- str, bytes, objects ----


@pytest.mark.parametrize(("dtype", "shape", "value", "expected"), [
    ("str", (), "né", "né"),
    ("str", (), np.str_("a"), "a"),
    ("str", (), np.array("a"), "a"),
    ("bytes", (), b"a\0", b"a\0"),
    ("bytes", (), bytearray(b"ab"), b"ab"),
    ("bytes", (), memoryview(b"abcd")[::2], b"ac"),
    ("bytes", (), np.bytes_(b"a"), b"a"),
    ("bytes", (), np.array(b"a\0", object), b"a\0"),
    ("str", (2,), ["a", "né"], ["a", "né"]),
    ("str", (None,), np.array(["a", "bc"]), ["a", "bc"]),
    ("str", (None,), np.array(["a\0", "bc"], object), ["a\0", "bc"]),
    ("str", (None, 2), [["a", "b"], ["c", "d"]], [["a", "b"], ["c", "d"]]),
    ("str", (None, 2), np.empty((0, 2), object), []),
    ("bytes", (None,), [b"a\0", bytearray(b"b")], [b"a\0", b"b"]),
    ("bytes", None, [[b"x"]], [[b"x"]]),
    ("bytes", None, b"x", b"x"),
    ("str", (None,), [], []),
])
def test_strings_read_back(dtype: str, shape: Any, value: Any, expected: Any) -> None:
    """Zeros at the end included, which numpy's own string arrays drop."""
    found = read_one(spec(dtype, shape), value)
    assert (found.tolist() if isinstance(found, np.ndarray) else found) == expected


@pytest.mark.parametrize(("dtype", "shape", "value", "kind", "message"), [
    ("str", (), b"a", SignatureTypeError, "expected str, got bytes b'a'"),
    ("bytes", (), "a", SignatureTypeError, "expected bytes, got str 'a'"),
    ("str", (), 1, SignatureTypeError, "got 1"),
    ("str", (), None, SignatureTypeError, "got None"),
    ("str", (), "a\ud800", SignatureError, "lone surrogate, here at character 1"),
    ("bytes", (), np.zeros(2, np.uint8), SignatureError, "got int[2]"),
    ("bytes", (), memoryview(np.zeros(2)), SignatureTypeError, "got memoryview"),
    ("str", (2,), ["a"], SignatureError, "expected str[2], got str[1]"),
    ("str", (2,), ["a", b"b"], SignatureTypeError, "bytes b'b' at [1]"),
    ("str", (None,), "ab", SignatureError, "expected str[?], got str 'ab'"),
    ("str", (None, None), [["a"], []], SignatureError, "lists of unequal length"),
])
def test_what_is_no_such_string_is_refused(dtype: str, shape: Any, value: Any, kind: type, message: str) -> None:
    """str for bytes, bytes for str, and text that UTF-8 cannot hold."""
    with pytest.raises(SignatureError) as caught:
        write_one(spec(dtype, shape), value)
    assert type(caught.value) is kind
    assert message in caught.value.message


@given(st.lists(st.one_of(st.none(), st.text(alphabet=st.characters(exclude_categories=["Cs"])))))
def test_a_list_of_str_is_the_same_as_str_by_str(texts: list[str | None]) -> None:
    """The fast way of a whole batch, ASCII or not, gives the bytes of the slow one."""
    schema = Schema.from_signature(spec("str", optional=True))
    buffer = RecordBuffer(schema)
    for number, text in enumerate(texts):
        buffer.append(text, number)
    expected = buffer.take()[0]
    for batch in (texts, np.array([*texts, None], object)[:-1]):
        assert_same_rows(cast_batch(schema, batch)[1][0], expected)


@pytest.mark.parametrize("batch", [
    ["a", "b\ud800"], ["né", "b\ud800"], ["a", b"b"], ["a", 1], ["a", None], np.array(["a", b"b"], object),
])
def test_the_record_of_a_wrong_string_in_a_batch_is_named(batch: Any) -> None:
    """first_record plus the row."""
    with pytest.raises(SignatureError) as caught:
        cast_batch(Schema.from_signature(spec("str")), batch, first_record=100)
    assert caught.value.record == 101


json_like = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(
        alphabet=st.characters(exclude_categories=["Cs"])) | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet="ab"), inner), max_leaves=8,
)  # fmt: skip


@given(json_like)
def test_an_object_reads_back_equal(value: Any) -> None:
    """And of the same types: 1, 1.0 and True are three values."""
    assert repr(read_one(spec("msgpack"), value)) == repr(value)


def nested(depth: int, wrap: Any) -> Any:
    value: Any = wrap(0)
    for _ in range(depth - 1):
        value = wrap(value)
    return value


@pytest.mark.parametrize(("value", "kind"), [
    ((1, 2), SignatureTypeError),
    ({"a": (1,)}, SignatureTypeError),
    ({1, 2}, SignatureTypeError),
    (np.float64(1), SignatureTypeError),
    ([np.int64(1)], SignatureTypeError),
    (np.zeros(2), SignatureTypeError),
    (2**64, SignatureError),
    ("\ud800", SignatureError),
    (msgpack.ExtType(1, b"x"), SignatureTypeError),
    ([{"t": msgpack.Timestamp(1)}], SignatureTypeError),
    ([memoryview(np.zeros(2))], SignatureTypeError),
    (nested(1025, lambda inner: [inner]), SignatureError),
    (nested(1025, lambda inner: {"k": inner}), SignatureError),
])
def test_an_object_that_would_not_come_back_equal_is_refused(value: Any, kind: type) -> None:
    """Tuples, numpy values, extension types, integers over 64 bits, nesting over 1,024."""
    with pytest.raises(kind) as caught:
        write_one({"o": spec("msgpack")}, {"o": value})
    assert (caught.value.column, caught.value.record) == ("o", 0)


def test_nesting_up_to_the_limit_is_taken() -> None:
    """spec/format.md, section 10."""
    found, depth = read_one(spec("msgpack"), nested(1024, lambda inner: [inner])), 0
    while type(found) is list:  # Python compares and prints fewer levels
        (found,), depth = found, depth + 1
    assert (found, depth) == (0, 1024)


# ---- None and masks ----


@pytest.mark.parametrize(("dtype", "shape", "value"), [
    ("int64", (), 3), ("float32", (), 1.5), ("bool", (), True), ("uint8", (2,), [1, 2]), ("int32", (None,), [1]),
    ("int32", None, [[1]]), ("str", (), "a"), ("bytes", (None,), [b"a"]), ("str", None, "a"),
])
def test_none_is_a_value_of_an_optional_column_only(dtype: str, shape: Any, value: Any) -> None:
    """A None row is not valid and holds nothing (spec/format.md, section 6)."""
    schema = Schema.from_signature(spec(dtype, shape, optional=True))
    buffer = RecordBuffer(schema)
    for number, leaf in enumerate([None, value, np.ma.masked]):
        buffer.append(leaf, number)
    (rows,) = buffer.take()
    assert rows.validity is not None
    assert rows.validity.tolist() == [False, True, False]
    assert_same_rows(rows, cast_batch(schema, [None, value, None])[1][0])
    assert record_leaf(schema.columns[0], rows, 0) is None
    with pytest.raises(SignatureTypeError, match="got None") as caught:
        cast_batch(Schema.from_signature(spec(dtype, shape)), [value, None])
    assert caught.value.record == 1


@pytest.mark.parametrize("shape", [(2,), (None,), None])
def test_masked_rows_are_none_and_what_is_under_the_mask_is_not_judged(shape: Any) -> None:
    """numpy.ma, a whole row masked; a masked element elsewhere is refused."""
    schema = Schema.from_signature(spec("uint8", shape, optional=True))
    batch = np.ma.masked_array([[1, 2], [999, -1], [3, 4]], mask=[[0, 0], [1, 1], [0, 0]])
    _, (rows,) = cast_batch(schema, batch)
    assert_same_rows(rows, cast_batch(schema, [[1, 2], None, [3, 4]])[1][0])
    with pytest.raises(SignatureTypeError, match="masked") as caught:
        cast_batch(Schema.from_signature(spec("uint8", shape)), batch)
    assert caught.value.record == 1
    batch.mask[2, 1] = True
    with pytest.raises(SignatureError, match=r"a masked element at \[1\]") as caught:
        cast_batch(schema, batch)
    assert caught.value.record == 2
    batch = np.ma.masked_array([[1, 2], [999, -1], [3, 400]], mask=[[0, 0], [1, 1], [0, 0]])
    with pytest.raises(SignatureError, match=r"400 at \[1\]") as caught:
        cast_batch(schema, batch, first_record=10)
    assert caught.value.record == 12


# ---- batches ----


@pytest.mark.parametrize(("dtype", "shape", "rows"), [
    ("int32", (None,), [[1, 2], [], [3]]),
    ("float32", (None, 2), [[[1, 2]], np.zeros((0, 2)), [[3, 4], [5, 6]]]),
    ("int64", (None, None), [[[1, 2]], [[3], [4]]]),
    ("str", (), ["a", "", "né"]),
    ("bytes", (None,), [[b"a", b""], [], [b"xyz"]]),
])
def test_a_ragged_batch_is_the_same_as_its_rows(dtype: str, shape: Any, rows: list[Any]) -> None:
    """Vectorised, whatever the dtype; unknown rank takes it too."""
    for declared in (shape, None):
        schema = Schema.from_signature(spec(dtype, declared))
        ragged = Ragged.from_rows(rows, dtype, shape=shape)
        buffer = RecordBuffer(schema)
        for number, row in enumerate(ragged.to_list()):
            buffer.append(row, number)
        assert_same_rows(cast_batch(schema, ragged)[1][0], buffer.take()[0])
        optional = Schema.from_signature(spec(dtype, declared, optional=True))
        with_none = [rows[0], None, *rows[1:]]
        ragged = Ragged.from_rows(with_none, dtype, shape=shape)
        assert_same_rows(cast_batch(optional, ragged)[1][0], cast_batch(optional, ragged.to_list())[1][0])
        with pytest.raises(SignatureTypeError, match="got None") as caught:
            cast_batch(schema, ragged)
        assert caught.value.record == 1


@pytest.mark.parametrize(("signature", "rows", "record", "message"), [
    (("uint8", (None,)), [[1], [], [2, 300]], 2, "got 300"),
    (("int64", (None, 2)), [[[1, 2]], [[1, 2, 3]]], 1, "expected int64[?,2], got int64[1,3]"),
    (("uint8", (None, 2)), [[[1, 300]], [[1, 2, 3]]], 0, "got 300"),    # the earlier record, not the earlier check
    (("float32", (None,)), [[1], [2**24 + 1]], 1, "got 16777217"),
    (("str", (None,)), [[1]], 0, "a Ragged of int64"),
    (("int64", (2,)), [[1, 2], [3]], 1, "expected int64[2], got int64[1]"),
])
def test_the_first_wrong_row_of_a_ragged_batch_is_named(signature: Any, rows: Any, record: int, message: str) -> None:
    """By value or by shape, whichever comes first."""
    ragged = Ragged.from_rows(rows, "int64", shape=(None,) * np.ndim(rows[0]))
    with pytest.raises(SignatureError) as caught:
        cast_batch(Schema.from_signature(spec(*signature)), ragged)
    assert message in caught.value.message
    assert caught.value.record == record


def test_a_ragged_whose_rows_are_equal_fills_a_fixed_column() -> None:
    """A None row is a row of zeros there."""
    schema = Schema.from_signature(spec("int32", (2,), optional=True))
    _, (rows,) = cast_batch(schema, Ragged.from_rows([[1, 2], None, [3, 4]], "int64", shape=(None,)))
    assert rows.values.tolist() == [[1, 2], [0, 0], [3, 4]]
    assert rows.validity is not None
    assert rows.validity.tolist() == [True, False, True]


def test_a_ragged_of_text_that_is_no_utf8_is_refused() -> None:
    """Its bytes are writable, and a file may not hold such text (spec/format.md, section 3)."""
    ragged = Ragged.from_rows(["a", "né"], "str")
    ragged.values[2] = 0xFF
    with pytest.raises(SignatureError, match="not UTF-8") as caught:
        cast_batch(Schema.from_signature(spec("str")), ragged)
    assert caught.value.record == 1
    split = Ragged(
        dtype="str", values=np.frombuffer(bytearray("né".encode()), np.uint8), row_offsets=np.array([0, 2, 3]),
        shapes=np.zeros((2, 0), np.int64),
    )  # fmt: skip
    with pytest.raises(SignatureError, match="not UTF-8"):
        cast_batch(Schema.from_signature(spec("str")), split)


@pytest.mark.parametrize("leaf", [1, None, "ab", b"ab", {"a": 1}, np.array(1), {1, 2}, np.float32(1)])
def test_a_scalar_is_no_batch(leaf: Any) -> None:
    """A leaf of a batch has a leading axis."""
    with pytest.raises(SignatureTypeError, match="for a whole batch"):
        cast_batch(Schema.from_signature((spec("int32"),)), (leaf,))


def test_all_leaves_of_a_batch_have_the_same_number_of_rows() -> None:
    """Else the error names both."""
    schema = Schema.from_signature({"a": spec("int32"), "b": spec("str")})
    with pytest.raises(SignatureError, match="column 'a' has 3 rows, column 'b' has 2"):
        cast_batch(schema, {"a": [1, 2, 3], "b": ["x", "y"]})


def test_the_first_record_of_all_columns_is_named() -> None:
    """A later column may be wrong in an earlier record."""
    schema = Schema.from_signature({"a": spec("uint8"), "b": spec("uint8")})
    with pytest.raises(SignatureError) as caught:
        cast_batch(schema, {"a": np.array([1, 2, 300]), "b": np.array([1, -5, 3])}, first_record=7)
    assert (caught.value.record, caught.value.column) == (8, "b")


@pytest.mark.parametrize("dtype", ["int32", "bfloat16", "str"])
@pytest.mark.parametrize("shape", [(), (2,), (None,), None])
@pytest.mark.parametrize("optional", [False, True])
def test_an_empty_batch_is_a_batch(dtype: str, shape: Any, optional: bool) -> None:
    """No rows, and the arrays that a column has all the same."""
    schema = Schema.from_signature(spec(dtype, shape, optional=optional))
    count, (rows,) = cast_batch(schema, [])
    assert (count, rows.num_rows) == (0, 0)
    assert_same_rows(rows, RecordBuffer(schema).take()[0])


@pytest.mark.parametrize("shape", [(3,), (None,), None])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_nothing_shares_memory_with_what_was_given(shape: Any, dtype: str) -> None:
    """The caller may use the array again at once."""
    signature = spec(dtype, shape)
    array = np.arange(6, dtype=np.int32).reshape(2, 3)
    ragged = Ragged.from_rows([row.tolist() for row in array], "int32")
    buffer = RecordBuffer(Schema.from_signature(signature))
    for number, row in enumerate(array):
        buffer.append(row, number)
    from_array = cast_batch(Schema.from_signature(signature), array)[1][0]
    from_ragged = cast_batch(Schema.from_signature(signature), ragged)[1][0]
    array[:] = -1
    ragged.values[:] = -1
    for rows in (buffer.take()[0], from_array, from_ragged):
        assert rows.values.ravel().tolist() == [0, 1, 2, 3, 4, 5]


class Tensor:
    """What a framework's tensor is to numpy."""

    def __init__(self, array: Any) -> None:
        self.array = np.asarray(array)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.array


@pytest.mark.parametrize("value", [
    Tensor(np.arange(2)), [Tensor(0), Tensor(1)], [np.int8(0), Tensor(np.float32(1))], np.array([Tensor(0), 1], object),
])
def test_objects_with_an_array_inside_are_read(value: Any) -> None:
    """Tensors of every framework, alone or in lists."""
    assert read_one(spec("int32", (2,)), value).tolist() == [0, 1]


def test_an_object_that_numpy_cannot_read_is_refused_with_the_reason() -> None:
    """Whatever the object says."""

    class Unreadable:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            raise RuntimeError("call detach() first")

    with pytest.raises(SignatureTypeError, match=r"call detach\(\) first"):
        write_one(spec("int32"), Unreadable())


# ---- the buffer ----


def test_a_refused_record_leaves_the_buffer_as_it_was() -> None:
    """In every column, also in those that came before the wrong one."""
    schema = Schema.from_signature({"a": spec("int32"), "b": spec("str"), "c": spec("uint8", (None,))})
    buffer = RecordBuffer(schema)
    buffer.append({"a": 1, "b": "x", "c": [1]}, 0)
    for wrong in ({"a": 2, "b": "y", "c": [300]}, {"a": 2, "b": "y"}, {"a": 2, "b": b"y", "c": [1]}, None):
        with pytest.raises(SignatureError) as caught:
            buffer.append(wrong, 5)
        assert caught.value.record == 5
    assert len(buffer) == 1
    buffer.append({"c": [2, 3], "b": "z", "a": 2}, 1)
    a, b, c = buffer.take()
    assert (a.values.tolist(), b.values.tobytes(), c.values.tolist()) == ([1, 2], b"xz", [1, 2, 3])
    assert len(buffer) == 0
    assert [rows.num_rows for rows in buffer.take()] == [0, 0, 0]


@given(st.data())
def test_records_one_by_one_and_as_a_batch_give_the_same_columns(data: st.DataObject) -> None:
    """For every kind of column."""
    dtype = data.draw(st.sampled_from(["bool", "uint8", "int64", "float32", "bfloat16", "complex64"]))
    shape = data.draw(st.sampled_from([(), (2,), (None,), (None, 2), (2, None, None), None]))
    optional = data.draw(st.booleans())
    column = Schema.from_signature(spec(dtype, shape, optional=optional)).columns[0]
    count = data.draw(st.integers(0, 4))
    rows = []
    for _ in range(count):
        if shape is None:
            row_shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
        else:
            row_shape = tuple(data.draw(st.integers(0, 3)) if dim is None else dim for dim in shape)
        row = data.draw(hnp.arrays(np.uint8, row_shape, elements=st.integers(0, 1))).astype(column.numpy_dtype)
        rows.append(None if optional and data.draw(st.booleans()) else row)
    schema = Schema.from_signature(spec(dtype, shape, optional=optional))
    buffer = RecordBuffer(schema)
    for number, row in enumerate(rows):
        buffer.append(row, number)
    (taken,) = buffer.take()
    assert_same_rows(taken, cast_batch(schema, rows)[1][0])
    for number, row in enumerate(rows):
        found = record_leaf(column, taken, number)
        assert (found is None) == (row is None)
        if row is not None:
            assert np.shape(found) == row.shape
            assert np.asarray(found).tobytes() == row.tobytes()
    if count and all(row is not None and row.shape == rows[0].shape for row in rows):
        assert_same_rows(taken, cast_batch(schema, np.stack(rows))[1][0])
