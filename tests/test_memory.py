"""Data sets in memory: the same operators, and copies everywhere."""

from __future__ import annotations

import pickle

import numpy as np

import recordio
from tests.laws.data_sets import scribble


def test_a_pickled_view_carries_only_its_rows() -> None:
    """A part of a data set in memory goes to every worker: the rest stays."""
    numbers = np.arange(1_000_000, dtype=np.int64)
    ds = recordio.from_tensor_slices({"a": numbers, "b": numbers.astype(np.float32)})
    view = ds[500_000:500_010].select_columns("a")
    sent = pickle.dumps(view)
    assert len(sent) < 5000
    found = pickle.loads(sent)
    assert [record["a"] for record in found] == list(range(500_000, 500_010))
    assert found.element_spec == view.element_spec and found.fingerprint == ds.fingerprint == view.fingerprint
    again = pickle.loads(pickle.dumps(found[::-3]))
    assert [record["a"] for record in again] == [500_009, 500_006, 500_003, 500_000]
    assert again.fingerprint == ds.fingerprint


def test_nothing_is_shared_with_the_arrays_that_were_given() -> None:
    """Neither on the way in nor on the way out."""
    given = {"a": np.arange(6).reshape(3, 2), "b": ["x", "né", ""]}
    ds = recordio.from_tensor_slices(given)
    given["a"][:] = -1  # type: ignore[index]
    for _ in range(2):
        assert [record["a"].tolist() for record in ds] == [[0, 1], [2, 3], [4, 5]]
        for got in (list(ds), ds[1], ds[[2, 2, 0]], ds.batch(2)[0], *ds.batch(2)):
            scribble(got)
    assert ds[[2, 0]]["b"].to_list() == ["", "x"]


def test_from_tensors_is_one_record() -> None:
    """The structure itself, as in tf.data."""
    ds = recordio.from_tensors({"a": np.arange(3), "b": ("x", 1.5)})
    assert len(ds) == 1
    assert ds[0]["a"].tolist() == [0, 1, 2] and ds[0]["b"][0] == "x" and ds[0]["b"][1] == 1.5
    assert ds.shards == () and ds.metadata == {} and ds.lost == ()


def test_equal_values_have_an_equal_fingerprint() -> None:
    """And others another."""
    prints = [
        recordio.from_tensor_slices(np.array(values)).fingerprint for values in ([1, 2], [1, 2], [1, 3], [1, 2, 3])
    ]
    assert prints[0] == prints[1] and len(set(prints)) == 3
