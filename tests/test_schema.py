"""Specs, signatures, schemas: what may be declared, what is stored, what a hostile schema can do (nothing)."""

from __future__ import annotations

import builtins
import enum
import pickle
import subprocess
import sys
from collections import OrderedDict, defaultdict, namedtuple
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordio.errors import MalformedError, RequestError, SignatureError, SignatureTypeError, TooNewError
from recordio.format.objects import pack, unpack
from recordio.schema import DTYPES, Column, MsgpackSpec, Schema, TensorSpec
from recordio.spec import numpy_dtype

INT = TensorSpec((), "int64")
STR = TensorSpec((), "str")
ML_NAMES = [name for name in DTYPES if name == "bfloat16" or name.startswith("float8")]

NESTED = {
    "image": TensorSpec((28, 28), "uint8"),
    "tokens": TensorSpec((None, 4), "int32", name="tok"),
    "label": (INT, [STR, MsgpackSpec(), TensorSpec(None, "float32", optional=True)]),
    "empty": {},
    "meta": {"when": TensorSpec((), "bytes", optional=True)},
}


# ---- TensorSpec ----


@pytest.mark.parametrize(("dtype", "name"), [
    *[(name, name) for name in DTYPES if name != "msgpack"],
    (str, "str"), (bytes, "bytes"), (bool, "bool"), (int, "int64"), (float, "float64"), (complex, "complex128"),
    (np.float32, "float32"), (np.dtype("uint16"), "uint16"), (np.bool_, "bool"), (np.longlong, "int64"),
    ("<i4", "int32"), (">f8", "float64"), (np.dtype(">c16"), "complex128"), ("double", "float64"), ("?", "bool"),
    ("U", "str"), (np.dtype("U7"), "str"), (np.str_, "str"), (np.dtypes.StringDType(), "str"),
    ("S5", "bytes"), (np.bytes_, "bytes"),
    *[(getattr(ml_dtypes, name), name) for name in ML_NAMES],
    *[(np.dtype(getattr(ml_dtypes, name)), name) for name in ML_NAMES],
])  # fmt: skip
def test_every_way_to_say_a_dtype_gives_its_canonical_name(dtype: Any, name: str):
    """spec/format.md, section 3: types are known by name; byte order and package do not show."""
    assert TensorSpec((), dtype).dtype == name


@pytest.mark.parametrize(("dtype", "advice"), [
    (object, "MsgpackSpec"), ("O", "MsgpackSpec"), (list, "MsgpackSpec"),
    (np.longdouble, "float64"), (np.clongdouble, "complex128"), ("longdouble", "float64"),
    ("M8[s]", "metadata"), (np.timedelta64, "metadata"),
    ("V8", "spec/format.md"), ("i4,f4", "column of its own"), ("(2,)i4", "shape"),
    (ml_dtypes.int4, "spec/format.md"),
    ("flaot32", "float32"), ("string", "'bytes'"), ("", "int64"), (np.floating, "name"),
    (None, "name"), (7, "name"), ((), "name"),
])  # fmt: skip
def test_a_dtype_without_portable_bytes_is_refused_with_advice(dtype: Any, advice: str):
    with pytest.raises(SignatureTypeError) as caught:
        TensorSpec((), dtype)
    assert advice in caught.value.advice
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize(("shape", "expected"), [
    ((), ()), ([], ()), (None, None), ([None, 3], (None, 3)), (np.array([2, 3]), (2, 3)), (range(2), (0, 1)),
    ((np.int64(5),), (5,)), ((0, None), (0, None)), ((1,) * 32, (1,) * 32), ((1 << 30,), (1 << 30,)),
])  # fmt: skip
def test_a_shape_is_any_sequence_of_sizes_or_none(shape: Any, expected: Any):
    assert TensorSpec(shape, "uint8").shape == expected


@pytest.mark.parametrize(("shape", "kind", "words"), [
    (5, TypeError, "(5,)"), ("ab", TypeError, "sequence"), (object(), TypeError, "sequence"),
    ({1: 2}, TypeError, "sequence"),
    ((1.0,), TypeError, "1.0"), ((True,), TypeError, "True"), (("3",), TypeError, "'3'"),
    ((-1,), ValueError, "Write None"), ((1,) * 33, ValueError, "rank 33"),
    (((1 << 40) + 1,), ValueError, "dimension"), (((1 << 30) + 1,), ValueError, "bytes"),
    ((1 << 40, 1 << 40, 0), ValueError, "bytes"),     # numpy can make no such empty array
    ((1 << 40, None), ValueError, "bytes"),
])  # fmt: skip
def test_a_shape_that_no_row_can_have_is_refused(shape: Any, kind: type, words: str):
    """spec/format.md, section 10."""
    with pytest.raises(SignatureError) as caught:
        TensorSpec(shape, "uint8")
    assert isinstance(caught.value, kind)
    assert words in str(caught.value)


def test_the_size_limit_counts_bytes_and_not_elements():
    TensorSpec((1 << 27,), "float64")
    with pytest.raises(SignatureError):
        TensorSpec(((1 << 27) + 1,), "float64")


def test_the_validity_of_an_optional_row_counts():
    """A row of a fixed optional column takes a byte more, which the limit of section 10 includes."""
    TensorSpec(((1 << 30) - 1,), "uint8", optional=True)
    TensorSpec((1 << 30, None), "uint8", optional=True)     # its rows are measured when they are written
    with pytest.raises(SignatureError, match="1073741825 bytes"):
        TensorSpec((1 << 30,), "uint8", optional=True)
    column = {**COLUMN, "dtype": "uint8", "shape": [1 << 30], "optional": True}
    with pytest.raises(MalformedError, match="1073741825 bytes"):
        Schema.decode(pack({"structure": 0, "columns": [column]}))


def test_a_spec_is_a_value():
    spec = TensorSpec([2], float, name="x", optional=True)
    assert spec == TensorSpec((2,), "float64", "x", True)
    assert hash(spec) == hash(pickle.loads(pickle.dumps(spec)))
    assert eval(repr(spec)) == spec
    assert repr(INT) == "TensorSpec((), 'int64')"
    assert repr(MsgpackSpec("m")) == "MsgpackSpec(name='m')"
    assert (MsgpackSpec().shape, MsgpackSpec().dtype, MsgpackSpec().optional) == ((), "msgpack", False)
    with pytest.raises(AttributeError):
        spec.dtype = "int8"  # type: ignore[misc]


@pytest.mark.parametrize("arguments", [
    {"dtype": "msgpack"}, {"dtype": "int8", "name": 3}, {"dtype": "int8", "name": "\ud800"},
    {"dtype": "int8", "optional": "yes"},
])  # fmt: skip
def test_a_wrong_name_or_flag_is_refused(arguments: dict[str, Any]):
    with pytest.raises(SignatureError):
        TensorSpec((), **arguments)


def test_ml_dtypes_is_needed_for_arrays_only(monkeypatch: pytest.MonkeyPatch):
    real_import = builtins.__import__

    def no_ml_dtypes(name: str, *rest: Any, **more: Any) -> Any:
        if name == "ml_dtypes":
            raise ImportError(name)
        return real_import(name, *rest, **more)

    numpy_dtype.cache_clear()
    monkeypatch.setattr(builtins, "__import__", no_ml_dtypes)
    column = Schema.from_signature(TensorSpec((3,), "bfloat16")).columns[0]
    assert column.row_size == 6
    with pytest.raises(RequestError, match="pip install ml_dtypes"):
        _ = column.numpy_dtype
    monkeypatch.undo()
    assert column.numpy_dtype == ml_dtypes.bfloat16


def test_importing_the_schema_imports_no_package_of_types():
    code = "import sys, recordio.schema; print([m for m in ('ml_dtypes', 'torch', 'jax') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("name", [name for name in DTYPES if DTYPES[name] is not None])
def test_the_table_of_sizes_is_that_of_the_packages(name: str):
    assert numpy_dtype(name).itemsize == DTYPES[name]
    assert numpy_dtype(name).name == name


# ---- Column ----


def test_a_column_says_how_it_is_stored():
    fixed = Column(0, "a", False, "int32", (2, 3), False)
    assert (fixed.is_fixed, fixed.is_string_like, fixed.row_size) == (True, False, 24)
    ragged = Column(1, "b", False, "float64", (None, 3, None), True)
    assert (ragged.is_fixed, ragged.unknown_dims, ragged.itemsize) == (False, (0, 2), 8)
    unknown = Column(2, "c", False, "float64", None, True)
    assert (unknown.is_fixed, unknown.unknown_dims) == (False, ())
    text = Column(3, "d", False, "str", (2,), False)
    assert (text.is_fixed, text.is_string_like, text.itemsize, text.numpy_dtype) == (False, True, None, np.uint8)
    with pytest.raises(ValueError, match="variable"):
        _ = text.row_size


# ---- signatures ----


@pytest.mark.parametrize("signature", [
    INT, MsgpackSpec(), (INT,), [INT, STR], NESTED, {"a": {"b": (INT, [STR])}}, (TensorSpec((), "int8", name="x"),),
])  # fmt: skip
def test_element_spec_is_the_signature_before_and_after_storage(signature: Any):
    schema = Schema.from_signature(signature)
    again = Schema.decode(schema.encode())
    assert schema.element_spec == again.element_spec == signature
    assert again == schema
    assert again.encode() == schema.encode()
    assert hash(again) == hash(schema)
    assert pickle.loads(pickle.dumps(again)) == schema


def test_a_column_takes_its_own_name_or_the_path_of_its_leaf():
    schema = Schema.from_signature(NESTED)
    names = ["image", "tok", "label/0", "label/1/0", "label/1/1", "label/1/2", "meta/when"]
    assert [column.name for column in schema.columns] == names
    assert [column.named for column in schema.columns] == [name == "tok" for name in names]
    assert [column.id for column in schema.columns] == list(range(7))
    assert Schema.from_signature(INT).columns[0].name == "value"


def test_arrays_and_named_tuples_and_text_subclasses_become_plain():
    class Key(str, enum.Enum):  # noqa: UP042  (its str() is not its text, unlike a StrEnum's)
        IMAGE = "image"

    point = namedtuple("point", "x y")
    signature = {Key.IMAGE: point(np.zeros((2, 3), ">f4"), np.array(["a"])), np.str_("s"): np.float16(1)}
    spec = Schema.from_signature(signature).element_spec
    assert spec == {"image": (TensorSpec((2, 3), "float32"), TensorSpec((1,), "str")), "s": TensorSpec((), "float16")}
    assert [type(key) for key in spec] == [str, str]
    assert type(spec["image"]) is tuple


@pytest.mark.parametrize(("signature", "kind", "words"), [
    ({}, ValueError, "no leaf"), ((), ValueError, "no leaf"), ([{}, ()], ValueError, "no leaf"),
    ({1: INT}, TypeError, "not str"), ({"a": {None: INT}}, TypeError, "'a'"),
    ({"\ud800": INT}, ValueError, "surrogate"),
    (None, TypeError, "TensorSpec"), ({"x": "int64"}, TypeError, "'x'"), ((int,), TypeError, "'0'"),
    ({"a/b": INT, "a": {"b": INT}}, ValueError, "record['a/b'] and record['a']['b']"),
    ((TensorSpec((), "int8", name="1"), INT), ValueError, "record[0] and record[1]"),
    ({"x": np.array([{}, 1], object)}, TypeError, "'x'"),
])  # fmt: skip
def test_a_wrong_signature_is_refused_by_place(signature: Any, kind: type, words: str):
    with pytest.raises(SignatureError) as caught:
        Schema.from_signature(signature)
    assert isinstance(caught.value, kind)
    assert words in str(caught.value)


def nest(node: Any, depth: int) -> Any:
    for _ in range(depth):
        node = (node,)
    return node


def test_the_limits_of_a_structure_hold():
    """spec/format.md, section 10."""
    deepest = Schema.from_signature(nest(INT, 32))
    assert Schema.decode(deepest.encode()) == deepest
    assert deepest.unflatten(deepest.flatten(nest(5, 32))) == nest(5, 32)
    with pytest.raises(SignatureError, match="deeper than 32"):
        Schema.from_signature(nest(INT, 33))
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(SignatureError, match="deeper"):
        Schema.from_signature(endless)
    with pytest.raises(SignatureError, match="65536"):
        Schema.from_signature([INT] * 65_537)


def test_the_order_of_keys_is_part_of_a_schema():
    one, other = Schema.from_signature({"a": INT, "e": ()}), Schema.from_signature({"e": (), "a": INT})
    assert one != other
    assert one.encode() != other.encode()
    assert list(Schema.decode(other.encode()).element_spec) == ["e", "a"]
    assert one != "schema"


# ---- flatten, unflatten ----


@pytest.mark.parametrize(("signature", "record", "leaves"), [
    (INT, [1, 2], [[1, 2]]),      # a leaf is whatever stands there
    ({"a": INT, "b": STR}, {"b": "x", "a": 1}, [1, "x"]),
    ({"a": INT}, {"a": (1, 2)}, [(1, 2)]),
    ((INT, STR), (1, "x"), [1, "x"]),
    ([INT, STR], [1, "x"], [1, "x"]),
    ({"a": (INT, {"b": STR}), "e": {}}, {"e": {}, "a": (1, {"b": None})}, [1, None]),
    ({"a": (), "b": INT}, {"a": (), "b": 1}, [1]),
])  # fmt: skip
def test_a_record_comes_apart_and_together_again(signature: Any, record: Any, leaves: list[Any]):
    schema = Schema.from_signature(signature)
    assert schema.flatten(record) == leaves
    again = schema.unflatten(leaves)
    assert again == record
    assert type(again) is type(record)
    assert schema.unflatten(tuple(leaves)) == record


def test_containers_of_a_record_may_be_subclasses():
    pair = namedtuple("pair", "x y")
    schema = Schema.from_signature({"a": (INT, INT), "b": INT})
    assert schema.flatten(OrderedDict(b=3, a=pair(1, 2))) == [1, 2, 3]
    assert schema.flatten(defaultdict(int, b=3, a=(1, 2))) == [1, 2, 3]


def test_a_missing_key_is_not_made_up_by_a_defaultdict():
    record = defaultdict(int, a=1, c=2)
    with pytest.raises(SignatureError, match="missing 'b', unexpected 'c'"):
        Schema.from_signature({"a": INT, "b": INT}).flatten(record)
    assert set(record) == {"a", "c"}


def test_unflatten_makes_fresh_containers_in_the_order_of_the_signature():
    schema = Schema.from_signature({"b": [INT], "a": {"c": INT}})
    one, other = schema.unflatten([1, 2]), schema.unflatten([1, 2])
    assert list(one) == ["b", "a"]
    assert one is not other
    assert one["b"] is not other["b"]
    with pytest.raises(ValueError, match="3 leaves for 2"):
        schema.unflatten([1, 2, 3])


@pytest.mark.parametrize(("signature", "record", "kind", "column", "words"), [
    ({"a": INT, "b": INT}, {"a": 1}, ValueError, None, "missing 'b': expected the keys 'a', 'b', got 'a'"),
    ({"a": INT}, {"a": 1, "x": 2}, ValueError, None, "unexpected 'x'"),
    ({"a": INT}, {}, ValueError, None, "missing 'a'"),
    ({"a": INT}, [1], TypeError, None, "expected a dict with the keys 'a', got a list of 1"),
    ({"a": INT}, None, TypeError, None, "got None"),
    pytest.param({"a": INT}, b"x" * 10**6, TypeError, None, "a value of type bytes", id="long bytes"),
    pytest.param({"a": INT}, 10**5000, TypeError, None, "an int of 16610 bits", id="long int"),
    ((INT, INT), (1, 2, 3), ValueError, None, "expected a tuple of 2, got a tuple of 3"),
    ((INT, INT), [1, 2], TypeError, None, "expected a tuple of 2, got a list of 2"),
    ([INT], (1,), TypeError, None, "expected a list of 1, got a tuple of 1"),
    ({"a": {"b": (INT, [INT])}}, {"a": {"b": (1, 2)}}, TypeError, "a/b/1", "expected a list of 1, got 2"),
    ({"a": {"b": INT}}, {"a": {"c": 1}}, ValueError, "a", "missing 'b', unexpected 'c'"),
    ({"a": {"b": INT, "e": ()}}, {"a": {"b": 1, "e": (1,)}}, ValueError, "a/e", "tuple of 0"),
    ((INT,), np.zeros(1), TypeError, None, "ndarray"),
])  # fmt: skip
def test_a_record_of_another_structure_is_refused_by_place(signature, record, kind, column, words):
    with pytest.raises(SignatureError) as caught:
        Schema.from_signature(signature).flatten(record, 17)
    assert isinstance(caught.value, kind)
    assert (caught.value.column, caught.value.record) == (column, 17)
    assert words in caught.value.message
    assert len(str(caught.value)) < 1000


def test_an_error_of_the_whole_record_names_no_column():
    """There is none called 'value' unless the record is one leaf."""
    with pytest.raises(SignatureError) as caught:
        Schema.from_signature({"a": INT}).flatten({}, 17)
    assert "[record 17]" in str(caught.value)
    with pytest.raises(SignatureError) as caught:
        Schema.from_signature({1: INT})
    assert caught.value.column is None


def structures() -> st.SearchStrategy[Any]:
    keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/"), max_size=3)
    spec = st.sampled_from([INT, STR, MsgpackSpec(), TensorSpec((None,), "bool")])
    return st.recursive(spec, lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple), st.dictionaries(keys, inner, max_size=3),
    ), max_leaves=12)  # fmt: skip


@given(structures())
def test_any_structure_survives_storage_and_a_round_trip_of_leaves(signature: Any):
    try:
        schema = Schema.from_signature(signature)
    except SignatureError as error:   # no leaf, or {"": {"": x}} beside {"/": y} and the like
        assert "no leaf" in error.message or "two columns" in error.message
        return
    assert Schema.decode(schema.encode()).element_spec == schema.element_spec == signature
    leaves = list(range(len(schema.columns)))
    assert schema.flatten(schema.unflatten(leaves)) == leaves
    assert Schema.decode(schema.encode()).unflatten(leaves) == schema.unflatten(leaves)


def test_what_a_schema_shows_cannot_be_used_to_change_it():
    """element_spec is the caller's own, and so is what was given."""
    given: Any = {"a": [INT], "b": (STR,)}
    schema = Schema.from_signature(given)
    given.clear()
    schema.element_spec["a"].append(7)
    schema.element_spec.clear()
    assert schema.element_spec == {"a": [INT], "b": (STR,)}
    assert schema.flatten({"a": [1], "b": ("x",)}) == [1, "x"]
    assert schema.unflatten([1, "x"]) == {"a": [1], "b": ("x",)}
    assert schema.select(["b/0"])[0].unflatten([0]) == {"b": (0,)}


# ---- select ----


@pytest.mark.parametrize(("names", "structure", "ordinals"), [
    (["label/0", "image"], {"image": 0, "label": (1,)}, (0, 2)),
    (["tok", "tok"], {"tokens": 0}, (1,)),
    (["label/1/1", "meta/when"], {"label": ([0],), "meta": {"when": 1}}, (4, 6)),
])  # fmt: skip
def test_a_projection_keeps_the_chosen_leaves_in_their_places(names, structure, ordinals):
    schema = Schema.from_signature(NESTED)
    projected, found = schema.select(names)
    assert (projected.unflatten(range(len(found))), found) == (structure, ordinals)
    assert [column.name for column in projected.columns] == [schema.columns[ordinal].name for ordinal in ordinals]
    assert [column.id for column in projected.columns] == list(ordinals)   # stable identities
    assert Schema.decode(projected.encode()) == projected


def test_a_moved_column_keeps_its_name_as_its_own():
    projected, _ = Schema.from_signature((INT, STR)).select(["1"])
    assert projected.element_spec == (TensorSpec((), "str", name="1"),)
    assert projected.select(["1"])[0] is projected


def test_choosing_all_columns_changes_nothing():
    schema = Schema.from_signature(NESTED)
    assert schema.select(column.name for column in reversed(schema.columns)) == (schema, tuple(range(7)))


@pytest.mark.parametrize(("names", "words"), [
    (["imgae"], "Did you mean 'image'?"), (["meta"], "meta/when"), (["zzz"], "Columns: image"), ([], "Columns: image"),
    ("image", "['image']"), ([3], "no column 3"), ([["image"]], "no column ['image']"),
])  # fmt: skip
def test_an_unknown_column_is_refused_with_a_suggestion(names: Any, words: str):
    with pytest.raises(RequestError) as caught:
        Schema.from_signature(NESTED).select(names)
    assert words in str(caught.value)


# ---- decode: untrusted bytes ----

COLUMN = {"id": 0, "name": "value", "named": False, "dtype": "int8", "shape": [], "optional": False}
COLUMNS2 = [{**COLUMN, "name": "a"}, {**COLUMN, "name": "b", "id": 1}]
DICT2 = ["dict", [["a", 0], ["b", 1]]]
MISSING = object()


def changed(column: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {key: value for key, value in {**column, **changes}.items() if value is not MISSING}


def deep(depth: int, leaf: Any) -> Any:
    for _ in range(depth):
        leaf = ["tuple", [leaf]]
    return leaf


def test_unknown_keys_are_ignored():
    """spec/format.md, sections 1 and 11."""
    schema = {"structure": 0, "columns": [{**COLUMN, "new": {"x": 1}}], "newer": [1]}
    assert Schema.decode(pack(schema)).element_spec == TensorSpec((), "int8")


@pytest.mark.parametrize("field", list(COLUMN))
@pytest.mark.parametrize("value", [
    MISSING, None, True, 7, -1, 1 << 31, 1 << 63, 1.0, float("nan"), "x", b"int8", [1], [[]], {}, {"a": 1},
    [True], [-1], [1.0], ["1"], [(1 << 40) + 1], [1 << 40, 1 << 40, 0], [1 << 31], [0] * 33, deep(200, 0),
    pytest.param("y" * 100_000, id="long str"),
])  # fmt: skip
def test_a_wrong_field_of_a_column_is_malformed(field: str, value: Any):
    """Never another error, and never a column of it; spec/format.md, section 3."""
    right = {
        "id": value is not True and isinstance(value, int) and 0 <= value < 1 << 31,
        "named": value is True, "optional": value is True,
        "shape": value is None or (value == [1] and type(value[0]) is int),
        "name": False, "dtype": False,   # of an unnamed column at the root only "value" is right
    }[field] and type(value) is not float  # fmt: skip
    encoded = pack({"structure": 0, "columns": [changed(COLUMN, **{field: value})]})
    if right:
        assert len(Schema.decode(encoded).columns) == 1
        return
    with pytest.raises(TooNewError if field == "dtype" and isinstance(value, str) else MalformedError) as caught:
        Schema.decode(encoded)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("structure", [
    None, True, False, -1, 1, 0.0, "0", [], [0], ["tuple"], ["tuple", 0], ["tuple", [0], 1], ["set", [0]], [0, [0]],
    [["tuple"], [0]], [deep(200, 0), [0]], ["tuple", []], ["tuple", [0, 0]], ["tuple", [0, 1]], ["tuple", [False]],
    ["dict", [0]], ["dict", [["a"]]], ["dict", [[1, 0]]], ["dict", [[["a"], 0]]], ["dict", {"a": 0}], {"a": 0},
    ["dict", [["value", 0], ["value", 0]]], ["dict", [["value", 0, 0]]], deep(33, 0), deep(200, 0), deep(1, 0),
])  # fmt: skip
def test_a_wrong_structure_is_malformed(structure: Any):
    """Every column is the leaf of one node, in order; spec/format.md, section 3."""
    with pytest.raises(MalformedError):
        Schema.decode(pack({"structure": structure, "columns": [COLUMN]}))


@pytest.mark.parametrize(("structure", "columns"), [
    (["tuple", [1, 0]], COLUMNS2), (["tuple", [0]], COLUMNS2), (["tuple", [0, 0]], COLUMNS2),
    (["dict", [["b", 0], ["a", 1]]], COLUMNS2),      # a name that is another leaf's path
    (["dict", [["a", 0], ["a", 1]]], COLUMNS2),
    (DICT2, [COLUMNS2[0], {**COLUMNS2[1], "id": 0}]),
    (DICT2, [COLUMNS2[0], {**COLUMNS2[1], "name": "a", "named": True}]),
    (DICT2, []), (DICT2, None), (DICT2, {}), (DICT2, [None, None]), (DICT2, [[], []]), (["tuple", []], []),
    (0, [{**COLUMN, "dtype": "msgpack", "shape": [1]}]), (0, [{**COLUMN, "dtype": "msgpack", "optional": True}]),
    (0, [{**COLUMN, "dtype": "msgpack", "shape": None}]),
])  # fmt: skip
def test_columns_that_contradict_the_structure_or_each_other_are_malformed(structure: Any, columns: Any):
    with pytest.raises(MalformedError):
        Schema.decode(pack({"structure": structure, "columns": columns}))


@pytest.mark.parametrize("encoded", [
    b"", b"\xc1", b"\x00", pack([]), pack({}), pack({"structure": 0}), pack({"columns": [COLUMN]}),
    pack({"structure": 0, "columns": [COLUMN]}) + b"\x00", b"\x81\x91\x01\x02", b"\xdf\xff\xff\xff\xff",
    pytest.param(b"\x91" * 5000, id="deep"),
    pytest.param(b"\x00" * ((16 << 20) + 1), id="too long"),
])  # fmt: skip
def test_what_is_no_schema_is_malformed(encoded: bytes):
    with pytest.raises(MalformedError):
        Schema.decode(encoded)


@given(st.data())
def test_a_damaged_schema_is_malformed_or_a_schema(data: st.DataObject):
    """No third outcome, whichever bytes are changed; what is accepted is canonical."""
    encoded = bytearray(Schema.from_signature(NESTED).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        schema = Schema.decode(bytes(encoded))
    except (MalformedError, TooNewError):
        return
    assert Schema.decode(schema.encode()) == schema
    assert schema.unflatten(schema.columns) is not None
    _ = schema.element_spec


def test_the_stored_form_is_that_of_the_specification():
    """spec/format.md, section 3."""
    schema = Schema.from_signature({"x": (INT, TensorSpec((None, 2), "str", name="t", optional=True))})
    assert unpack(schema.encode(), max_size=1000, what="schema") == {
        "structure": ["dict", [["x", ["tuple", [0, 1]]]]],
        "columns": [
            {"id": 0, "name": "x/0", "named": False, "dtype": "int64", "shape": [], "optional": False},
            {"id": 1, "name": "t", "named": True, "dtype": "str", "shape": [None, 2], "optional": True},
        ],
    }
