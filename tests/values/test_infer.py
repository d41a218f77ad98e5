"""Inference: what samples show becomes a signature; what has no common form is refused by place."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from recordio.errors import SignatureError, SignatureTypeError
from recordio.schema import Schema, TensorSpec
from recordio.values.infer import infer_batch_signature, infer_signature
from recordio.values.ragged import Ragged

T = TensorSpec
INT = T((), "int64")


class Image:
    """Something that numpy can read, without a shape of its own, as PIL images are."""

    __array_interface__ = np.zeros((4, 5, 3), np.uint8).__array_interface__


# ---- one record ----


@pytest.mark.parametrize(("value", "spec"), [
    (1, INT), (1.5, T((), "float64")), (True, T((), "bool")), (1j, T((), "complex128")), ("a", T((), "str")),
    (b"a", T((), "bytes")), (np.float32(1), T((), "float32")), (np.bool_(True), T((), "bool")),
    (np.str_("a"), T((), "str")), (np.zeros((2, 3), ">u2"), T((2, 3), "uint16")), (np.zeros(0), T((0,), "float64")),
    (np.array(["a", "bc"]), T((2,), "str")), (np.array([b"a"]), T((1,), "bytes")),
    (np.array(["a", "b"], object), T((2,), "str")), (np.array(b"a", object), T((), "bytes")),
    (np.zeros(2, ml_dtypes.bfloat16), T((2,), "bfloat16")), (Image(), T((4, 5, 3), "uint8")),
    ([1, 2, 3], T((None,), "int64")), ([1, 2.5], T((None,), "float64")), (["a"], T((None,), "str")),
    ([[1, 2], [3, 4]], T((None, None), "int64")), ([np.int8(1), np.int16(2)], T((None,), "int16")),
    ([np.zeros(2), 5], [T((2,), "float64"), INT]),          # a list of other things is structure
    ([[1, 2], {"a": 1}], [T((None,), "int64"), {"a": INT}]),
    ([(1, 2)], [(INT, INT)]),
    ({"a": (1, {"b": "x"}), "e": ()}, {"a": (INT, {"b": T((), "str")}), "e": ()}),
    (OrderedDict(b=1, a=2), {"b": INT, "a": INT}),
])  # fmt: skip
def test_one_record_shows_its_types(value: Any, spec: Any):
    found = infer_signature([value])
    assert found == spec
    assert type(found) is type(spec)
    Schema.from_signature(found)


@pytest.mark.parametrize(("value", "kind", "column", "words"), [
    ({"a": object()}, TypeError, "a", "type object"), ({"a": [{1, 2}]}, TypeError, "a/0", "type set"),
    ({"a": bytearray(b"x")}, TypeError, "a", "bytearray"), (int, TypeError, "value", "type int"),
    ({"a": {1: 2}}, TypeError, "a", "MsgpackSpec"),
    ((np.datetime64("2024-01-01"),), TypeError, "0", "metadata"),
    (np.zeros(1, "M8[s]"), TypeError, "value", "metadata"),
    (np.array([1, "a"], object), TypeError, "value", "MsgpackSpec"),
    (np.array([], object), TypeError, "value", "object"),
    ({"a": [[1, 2], [3]]}, ValueError, "a", "MsgpackSpec"), ([1, [2]], ValueError, "value", "depth"),
    ([1, "a"], ValueError, "value", "int64 and str"), ([True, 1], ValueError, "value", "bool and int64"),
    (["a", b"a"], ValueError, "value", "str and bytes"), ([np.int64(1), np.uint64(1)], ValueError, "value", "uint64"),
    ({"a": 1 << 63}, ValueError, "a", "uint64"), ([-(1 << 63) - 1], ValueError, "value", "int64"),
    pytest.param(10**5000, ValueError, "value", "16610 bits", id="long int"),
    ({"a": None}, ValueError, "a", "None"), ({"a": []}, ValueError, "a", "empty lists"),
    ([[], []], ValueError, "value", "empty lists"),
])  # fmt: skip
def test_what_shows_no_type_is_refused_by_place(value: Any, kind: type, column: str, words: str):
    with pytest.raises(SignatureError) as caught:
        infer_signature([value])
    assert isinstance(caught.value, kind)
    assert isinstance(caught.value, SignatureTypeError) == (kind is TypeError)
    assert caught.value.column == column
    assert words in str(caught.value)


def test_an_endless_record_is_refused():
    by_list: list[Any] = []
    by_list.append(by_list)
    by_dict: dict[str, Any] = {}
    by_dict["a"] = by_dict
    for record in (by_list, by_dict):
        with pytest.raises(SignatureError, match="deeper than 32"):
            infer_signature([record])


def test_a_depth_that_is_inferred_can_be_declared():
    record: Any = 1
    for _ in range(32):
        record = (record,)
    Schema.from_signature(infer_signature([record]))


def test_no_record_shows_nothing():
    with pytest.raises(SignatureError, match="no record"):
        infer_signature([])


# ---- several records ----


@pytest.mark.parametrize(("values", "spec"), [
    ([1, 2], INT), ([1, 2.5], T((), "float64")), ([np.int8(1), np.float16(1)], T((), "float16")),
    ([np.float32(1), 1], T((), "float64")), ([np.uint8(1), np.int8(1)], T((), "int16")),
    ([np.zeros((2, 3)), np.zeros((2, 4))], T((2, None), "float64")),
    ([np.zeros((2, 3)), np.zeros((5, 3)), np.zeros((2, 4))], T((None, None), "float64")),
    ([np.zeros(2), np.zeros((2, 2)), np.zeros(2)], T(None, "float64")), ([1, np.zeros(2)], T(None, "float64")),
    ([[1], np.zeros(2, np.int64)], T((None,), "int64")), ([[], [1]], T((None,), "int64")),
    ([["a"], []], T((None,), "str")),
    ([None, 1], T((), "int64", optional=True)), ([1, None, 2], T((), "int64", optional=True)),
    ([None, [], ["a"]], T((None,), "str", optional=True)), ([[], None, [1]], T((None,), "int64", optional=True)),
    ([{"a": 1, "b": 2}, {"b": None, "a": 3}], {"a": INT, "b": T((), "int64", optional=True)}),
    ([(np.zeros(2), ["x"]), (np.zeros(3), [])], (T((None,), "float64"), T((None,), "str"))),
])  # fmt: skip
def test_what_differs_becomes_unknown_optional_or_wider(values: list[Any], spec: Any):
    assert infer_signature(values) == spec


@pytest.mark.parametrize(("values", "column", "record", "words"), [
    ([1, "a"], "value", 1, "int64 and str"), ([{"a": True}, {"a": False}, {"a": 1}], "a", 2, "bool and int64"),
    ([("a",), (b"a",)], "0", 1, "str and bytes"), ([np.int64(1), np.uint64(1)], "value", 1, "no common dtype"),
    ([np.float32(1), ml_dtypes.bfloat16(1)], "value", 1, "no common dtype"),
    ([{"a": 1}, {"b": 1}], None, 1, "MsgpackSpec"), ([{"x": {"a": 1}}, {"x": {}}], "x", 1, "the keys ['a']"),
    ([(1, 2), (1, 2, 3)], None, 1, "a tuple of 2"), ([(1, 2), [np.zeros(1), 2]], None, 1, "a tuple"),
    ([(1, 2), 5], None, 1, "a tuple in the records before"),
    ([{"x": {"a": 1}}, {"x": None}], "x", 1, "None"), ([{"x": 5}, {"x": (1,)}], "x", 1, "a value"),
    ([{"x": None}, {"x": None}], "x", None, "all 2 records"), ([1, 2, object()], "value", 2, "object"),
])  # fmt: skip
def test_records_without_a_common_form_are_refused_by_place(values, column, record, words):
    with pytest.raises(SignatureError) as caught:
        infer_signature(values)
    assert (caught.value.column, caught.value.record) == (column, record)
    assert words in str(caught.value)
    assert "output_signature" in caught.value.advice


# ---- a batch ----


@pytest.mark.parametrize(("batch", "spec"), [
    (np.zeros((4, 2, 3), np.float32), T((2, 3), "float32")), (np.zeros(4), T((), "float64")),
    (np.array(["a", "b"]), T((), "str")), (np.zeros((0, 3)), T((3,), "float64")),
    ({"x": np.zeros((4, 2)), "y": (np.zeros(4, bool),)}, {"x": T((2,), "float64"), "y": (T((), "bool"),)}),
    (np.ma.array([1, 2], mask=[True, False]), T((), "int64", optional=True)),
    (np.ma.zeros((2, 3)), T((3,), "float64", optional=True)),
    ([1, 2, 3], INT), (["a", None], T((), "str", optional=True)), ([[1, 2], [3]], T((None,), "int64")),
    ([[1, 2], [], None], T((None,), "int64", optional=True)),
    (np.array(["a", None, "b"], object), T((), "str", optional=True)),
    (np.array([["a", "b"]], object), T((2,), "str")),
    ({"x": [np.zeros(2), np.zeros(3)]}, {"x": T((None,), "float64")}),         # lengths differ: rows
    ({"y": np.zeros(2), "x": [np.zeros(3), np.zeros(3)]}, {"y": T((), "float64"), "x": T((3,), "float64")}),
    ({"y": np.zeros(3), "x": [np.zeros(3), np.zeros(3)]}, {"y": T((), "float64"), "x": [T((), "float64")] * 2}),
    ([np.zeros(3), None], T((3,), "float64", optional=True)),
    ([{"a": np.zeros(2)}, np.zeros(2)], [{"a": T((), "float64")}, T((), "float64")]),
    (Ragged.from_rows([[1, 2], [3]], "int64"), T((None,), "int64")),
    ((Ragged.from_rows(["a", None], "str"), np.zeros(2)), (T((), "str", optional=True), T((), "float64"))),
    (Image(), T((5, 3), "uint8")),
])  # fmt: skip
def test_a_batch_shows_the_types_of_a_record(batch: Any, spec: Any):
    found = infer_batch_signature(batch)
    assert found == spec
    assert type(found) is type(spec)


@pytest.mark.parametrize(("batch", "column", "words"), [
    ({"x": np.zeros(3), "y": np.zeros(4)}, "y", "'x' of the batch has 3 rows, 'y' has 4"),
    ({"x": np.zeros((3, 1)), "y": [1, 2]}, "y", "has 2"),
    ({"y": np.zeros(3), "x": [np.zeros(3), np.zeros(4)]}, "x", "3 rows"),
    ({"x": 5}, "x", "leading axis"), ((None,), "0", "leading axis"), (np.zeros(()), "value", "leading axis"),
    ([{"a": 1}, {"a": 2}], "0/a", "leading axis"), (np.array([{"a": 1}], object), "value", "MsgpackSpec"),
    ({"x": []}, "x", "empty lists"), ({"x": [None, None]}, "x", "None"), ({"x": object()}, "x", "type object"),
    ({"x": [1, "a"]}, "x", "int64 and str"), ({1: np.zeros(2)}, None, "str"),
])  # fmt: skip
def test_what_is_no_batch_is_refused_by_place(batch: Any, column: str, words: str):
    with pytest.raises(SignatureError) as caught:
        infer_batch_signature(batch)
    assert caught.value.column == column
    assert words in str(caught.value)
