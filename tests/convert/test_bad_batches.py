"""on_error="skip" with batches: what is stored is what write_batch would take; what is no batch is left out whole."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pytest

import recordio
from recordio import TensorSpec
from tests.convert import given, hostile

MODES: list[dict[str, Any]] = [
    {}, {"workers": 3}, {"workers": 2, "use_multiprocessing": True}, {"num_shards": 1}, {"num_shards": 7},
]  # fmt: skip
INT, TEXT = TensorSpec((), "int64"), TensorSpec((), "str")



NO_BATCHES = {
    "a text": ({"x": [1, 2, 3], "s": "abc"}, {"x": INT, "s": TEXT}),
    "texts only": ({"s": "abc"}, {"s": TEXT}),
    "bytes as numbers": ({"x": b"abc"}, {"x": TensorSpec((), "uint8")}),
    "a bytearray": ({"x": bytearray(b"abc")}, {"x": TensorSpec((), "uint8")}),
    "a memoryview": ({"x": memoryview(b"abc")}, {"x": TensorSpec((), "uint8")}),
    "a dict of rows": ({"x": {0: 1, 1: 2}}, {"x": INT}),
    "a set": ({"x": {1, 2}}, {"x": INT}),
    "a frozenset": ({"x": frozenset({1, 2})}, {"x": INT}),
    "a number": ({"x": 5}, {"x": INT}),
    "an array without axis": ({"x": np.array(5)}, {"x": INT}),
    "None": ({"x": None}, {"x": TensorSpec((), "int64", optional=True)}),
    "leaves of different length": ({"x": [1, 2, 3], "s": ["a", "b"]}, {"x": INT, "s": TEXT}),
    "a missing leaf": ({"x": [1, 2, 3]}, {"x": INT, "s": TEXT}),
    "a list of rows as structure": ([[1, 2], [3, 4], [5, 6]], (INT, INT)),
}


# Worker processes take seconds to start: two kinds are enough for them.
CASES = [(kind, how) for kind in NO_BATCHES for how in MODES if len(how) < 2 or kind in ("a text", "a set")]


@pytest.mark.parametrize(("kind", "how"), CASES, ids=str)
def test_what_is_no_batch_is_left_out_whole(kind, how, tmp_path):
    """Whatever write_batch refuses as a whole: no row of it is guessed, and the other batches are stored."""
    batch, spec = NO_BATCHES[kind]
    report = recordio.convert(
        hostile.Kinds(batch), tmp_path / "set", output_signature=spec, on_error="skip", **how
    )
    assert report.num_records == 0
    assert [(found.label, found.record) for found in report.skipped] == [(f"batch {n}", None) for n in range(3)]
    with pytest.raises((recordio.SignatureError, recordio.SourceError, TypeError)):
        recordio.convert(hostile.Kinds(batch), tmp_path / "stop", output_signature=spec, **how)


class Several:
    """A PyDataset of the batches given."""

    def __init__(self, *batches: Any) -> None:
        self.batches = batches
        self.num_batches = len(batches)

    def __getitem__(self, index: int) -> Any:
        return self.batches[index]

    def on_epoch_end(self) -> None:
        pass


RAGGED = recordio.from_tensor_slices({"r": [[1], [2, 3], [], [4, 5, 6]]}, output_signature={
    "r": TensorSpec((None,), "int64")})[[0, 1, 2, 3]]["r"]

ROWS = {
    "lists": ({"x": [1, 2.5, 3, "4", None, 6], "s": ["a", "b", b"c", "d", "e", "f"]}, {"x": INT, "s": TEXT}, [0, 5]),
    "tuples": ({"x": (1, 2.5, 3)}, {"x": INT}, [0, 2]),
    "arrays": ({"x": np.array([1, 2.5, 3, np.nan])}, {"x": INT}, [0, 2]),
    "objects": ({"x": np.array([1, 2.5, {3}, 4], object)}, {"x": INT}, [0, 3]),
    "masked": ({"x": np.ma.masked_array([1.0, 2.5, 3.0], [True, False, False])},
               {"x": TensorSpec((), "int64", optional=True)}, [0, 2]),
    "masked and not optional": ({"x": np.ma.masked_array([1, 2, 3], [True, False, False])}, {"x": INT}, [1, 2]),
    "ragged": ({"r": RAGGED, "x": [1, 2, 3, "4"]}, {"r": TensorSpec((None,), "int64"), "x": INT}, [0, 1, 2]),
    "arrays of rows": ({"x": np.array([[1, 300], [3, 4], [-1, 5]])}, {"x": TensorSpec((2,), "uint8")}, [1]),
    "no row at all": ({"x": [1.5, 2.5, 3.5]}, {"x": INT}, []),
}  # fmt: skip


@pytest.mark.parametrize("kind", ROWS)
def test_the_good_rows_of_a_batch_are_what_write_batch_would_store(kind, tmp_path):
    """Bit by bit: the same records as when the bad rows had not been in the batch."""
    batch, spec, good = ROWS[kind]
    report = recordio.convert(Several(batch), tmp_path / "set", output_signature=spec, on_error="skip")
    num_rows = len(next(iter(batch.values())))
    assert [found.record for found in report.skipped] == [row for row in range(num_rows) if row not in good]
    assert {found.label for found in report.skipped} == {"batch 0"}
    kept = {key: leaf[np.array(good, int)] if isinstance(leaf, np.ndarray) else [leaf[row] for row in good]
            for key, leaf in batch.items()}  # fmt: skip
    recordio.convert(Several(kept), tmp_path / "kept", output_signature=spec)
    assert given.files(tmp_path / "set") == given.files(tmp_path / "kept")


def test_an_array_whose_rows_have_another_shape_is_one_entry(tmp_path):
    """Not one for each of its rows."""
    report = recordio.convert(
        Several({"x": np.zeros((50, 3))}, {"x": np.zeros((2, 2))}), tmp_path / "set",
        output_signature={"x": TensorSpec((2,), "float64")}, on_error="skip",
    )  # fmt: skip
    assert [(found.label, found.record) for found in report.skipped] == [("batch 0", None)]
    assert report.num_records == 2


def test_many_bad_rows_cost_no_quadratic_time(tmp_path):
    """Every second row of a large batch."""
    values = np.arange(40_000) / 2
    report = recordio.convert(
        Several({"x": values}), tmp_path / "set", output_signature={"x": INT}, on_error="skip"
    )
    assert (report.num_records, len(report.skipped)) == (20_000, 20_000)


def test_rows_that_cannot_be_counted_are_left_out_whole(tmp_path):
    """A container that write_batch reads from its front, with a bad row in it."""
    batches = Several({"x": deque([1, 2])}, {"x": deque([1, 2.5])})
    report = recordio.convert(batches, tmp_path / "set", output_signature={"x": INT}, on_error="skip")
    assert report.num_records == 2
    assert [(found.label, found.record) for found in report.skipped] == [("batch 1", None)]
