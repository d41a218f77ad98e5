"""A list in a batch: rows of one leaf, or several leaves; no coincidence of sizes ever decides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import recordio
from recordio.errors import SignatureError
from recordio.schema import Schema, TensorSpec
from recordio.values.infer import infer_batch_signature
from recordio.values.leaves import record_leaves
from recordio.values.ragged import Ragged
from recordio.values.signature import cast_batch, count_rows

T = TensorSpec
LABELS = T((), "int64")


class Image:
    """Something that numpy can read, without a shape of its own, as PIL images are."""

    def __init__(self, height: int) -> None:
        self.__array_interface__ = np.zeros((height, 5), np.uint8).__array_interface__


def images(count: int, *shape: int) -> list[Any]:
    """Arrays that hold their own number."""
    return [np.full(shape, number, np.uint8) for number in range(count)]


def records(signature: Any, batch: Any) -> list[Any]:
    """What a batch stands for under a signature, record by record."""
    schema = Schema.from_signature(signature)
    num_rows, columns = cast_batch(schema, batch)
    leaves = [record_leaves(column, rows) for column, rows in zip(schema.columns, columns)]
    return [schema.unflatten([leaf[row] for leaf in leaves]) for row in range(num_rows)]


# ---- one batch ----


@pytest.mark.parametrize(("batch", "spec"), [
    ((images(16, 32, 32, 3), np.arange(16)), (T((32, 32, 3), "uint8"), LABELS)),
    ((images(16, 32), list(range(16))), (T((32,), "uint8"), LABELS)),          # a list of numbers says how many, too
    ((images(2, 32, 3), np.arange(32)), ([T((3,), "uint8")] * 2, LABELS)),     # several inputs of a Keras model
    ((images(2, 32, 3), list(range(32))), ([T((3,), "uint8")] * 2, LABELS)),
    (([np.zeros((4, 2)), np.zeros(4)], np.arange(4)), ([T((2,), "float64"), T((), "float64")], LABELS)),
    ((images(3, 4), images(1, 4)), ([T((), "uint8")] * 3, [T((), "uint8")])),   # 3 rows beside 1 cannot be
    (([Image(7)] * 3, np.arange(3)), (T((7, 5), "uint8"), LABELS)),
    (([np.zeros(()), np.zeros(())], np.arange(2)), (T((), "float64"), LABELS)),
    (([np.zeros(2), np.zeros(3)], np.arange(2)), (T((None,), "float64"), LABELS)),
    (([np.zeros(3), None], np.arange(2)), (T((3,), "float64", optional=True), LABELS)),
    (([np.zeros(3), [1.0, 2.0, 3.0]], np.arange(2)), (T((None,), "float64"), LABELS)),
    # No array can be a dict, a tuple or a Ragged: such a list is structure, whatever its length.
    (([{"a": np.zeros(2)}, np.zeros(2)], np.arange(2)), ([{"a": T((), "float64")}, T((), "float64")], LABELS)),
    ([Ragged.from_rows([[1], [2, 3]], "int8")] * 2, [T((None,), "int8")] * 2),
    ([([1, 2], [3, 4])] * 2, [(LABELS, LABELS)] * 2),
])  # fmt: skip
def test_a_list_is_read_the_way_that_fits_the_other_leaves(batch: Any, spec: Any):
    for lone_lists in ("rows", "refuse"):
        assert infer_batch_signature(batch, lone_lists=lone_lists) == spec


@pytest.mark.parametrize("batch", [
    (images(32, 32, 32, 3), np.arange(32)), {"y": list(range(2)), "x": images(2, 2)},
    (images(2, 5), images(2, 2, 3), np.arange(2)), {"x": images(1, 1), "y": Ragged.from_rows([[1]], "int8")},
    ([Image(2)] * 2, np.arange(2)), (images(2, 2, 2), images(1, 2)),
])  # fmt: skip
def test_a_list_that_can_be_read_in_two_ways_is_refused(batch: Any):
    """The error names both, and how to say which is meant."""
    with pytest.raises(SignatureError) as caught:
        infer_batch_signature(batch)
    assert " rows of " in caught.value.message
    assert " leaves of " in caught.value.message
    for way in ("tuple", "numpy.stack", "output_signature"):
        assert way in caught.value.advice
    assert caught.value.column in ("0", "1", "x")


def test_both_readings_are_named_with_their_types():
    with pytest.raises(SignatureError) as caught:
        infer_batch_signature({"x": images(32, 32, 32, 3), "y": np.arange(32)})
    assert "32 rows of uint8[32,32,3]" in caught.value.message
    assert "32 leaves of uint8[32,3]" in caught.value.message


@pytest.mark.parametrize(("batch", "spec"), [
    (images(28, 28, 28), T((28, 28), "uint8")), (images(100, 28, 28), T((28, 28), "uint8")),
    ({"x": images(100, 28, 28)}, {"x": T((28, 28), "uint8")}), ([Image(3)] * 3, T((3, 5), "uint8")),
    ((images(3, 3), images(3, 2)), (T((3,), "uint8"), T((2,), "uint8"))),
])  # fmt: skip
def test_a_list_beside_nothing_else_is_rows(batch: Any, spec: Any):
    """As tf.data.Dataset.from_tensor_slices stacks lists; where several inputs may be meant too, it can be refused."""
    assert infer_batch_signature(batch) == spec
    with pytest.raises(SignatureError, match=r"numpy\.stack"):
        infer_batch_signature(batch, lone_lists="refuse")


def test_from_tensor_slices_gives_as_many_records_as_a_list_has_arrays():
    ds = recordio.from_tensor_slices(images(100, 28, 28))
    assert len(ds) == 100
    assert ds[57].tolist() == np.full((28, 28), 57).tolist()


@pytest.mark.parametrize(("batch", "column", "words"), [
    ([np.zeros((4, 2)), np.zeros(4)], "value", "rank"),                     # [x, y] is no list of rows
    ({"x": images(3, 4), "y": np.zeros(5)}, "x", "5 rows"),                 # neither 3 rows nor leaves of 4
    ({"x": [np.zeros(2), np.zeros(3)], "y": np.zeros(3)}, "x", "3 rows"),
    ((images(3, 4), images(2, 5)), "0", "no number of rows"),
    ([[np.zeros(2), np.zeros(2)]] * 2, "value", "lists of arrays inside a list"),
])  # fmt: skip
def test_a_list_that_can_be_read_in_no_way_is_refused(batch: Any, column: str, words: str):
    with pytest.raises(SignatureError) as caught:
        infer_batch_signature(batch)
    assert caught.value.column == column
    assert words in str(caught.value)


# ---- one source, many batches ----


def take(
    rows: bool, size: int, first: int, inner: tuple[int, ...], num_inputs: int, labels: str
) -> tuple[Any, list[Any]]:
    """A batch of one source, and the records it stands for; all values are record numbers."""
    numbers = np.arange(first, first + size)
    if rows:
        x: Any = [np.full(inner, number) for number in numbers]
        records: list[Any] = list(x)
    else:
        x = [np.zeros((size, *inner), np.int64) + numbers.reshape(-1, *(1,) * len(inner)) for _ in range(num_inputs)]
        records = [[one[row] for one in x] for row in range(size)]
    kinds = {
        "array": numbers, "list": numbers.tolist(), "masked": np.ma.masked_array(numbers),
        "ragged": Ragged.from_rows(numbers[:, None], "int64"),
    }  # fmt: skip
    return ((x,) if labels == "none" else (x, kinds[labels])), records


@given(st.booleans(), st.lists(st.integers(1, 5), min_size=1, max_size=4),
       st.lists(st.integers(1, 5), min_size=1, max_size=2).map(tuple), st.integers(1, 5),
       st.sampled_from(["array", "list", "masked", "ragged", "none"]))  # fmt: skip
def test_no_batch_size_changes_what_a_list_means(rows, sizes, inner, num_inputs, labels):
    """The records that the source meant come back, or there is an error: never others.

    One signature, that of the first batch, reads them all. An error is due only where the lengths coincide, or where
    there is nothing else to tell by.
    """
    first, _ = take(rows, sizes[0], 0, inner, num_inputs, labels)
    coincide = sizes[0] == (inner[0] if rows else num_inputs)
    try:
        signature = infer_batch_signature(first, lone_lists="refuse")
    except SignatureError as error:
        assert coincide or labels == "none", error
        return
    assert not coincide or labels == "none"
    start = 0
    for size in sizes:
        batch, expected = take(rows, size, start, inner, num_inputs, labels)
        found = [record[0] for record in records(signature, batch)]
        assert len(found) == count_rows(Schema.from_signature(signature), batch) == size
        for one, other in zip(found, expected, strict=True):
            assert isinstance(one, list) == (not rows)
            assert np.array_equal(one, other)
        start += size


def test_an_explicit_signature_decides_alone():
    """Also where both readings fit."""
    batch = (images(2, 2, 3), np.arange(2))
    leaf = TensorSpec((2, 3), "uint8")
    assert [x.tolist() for x, _ in records((leaf, LABELS), batch)] == [[[0] * 3] * 2, [[1] * 3] * 2]
    leaves = [TensorSpec((3,), "uint8")] * 2
    assert [x[1].tolist() for x, _ in records((leaves, LABELS), batch)] == [[1] * 3, [1] * 3]


def test_a_batch_that_does_not_fit_the_first_one_is_an_error():
    """Two inputs stay two inputs: a list of three arrays is refused, not read as rows."""
    signature = infer_batch_signature((images(2, 3), np.arange(3)))
    for wrong in ((images(3, 3), np.arange(3)), (np.zeros((3, 3)), np.arange(3))):
        with pytest.raises(SignatureError):
            records(signature, wrong)
    signature = infer_batch_signature((images(4, 3), np.arange(4)))
    with pytest.raises(SignatureError):
        records(signature, (images(2, 4), np.arange(4)))    # would be two inputs
