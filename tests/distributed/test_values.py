"""PerReplica, PerReplicaSpec, Optional and experimental_local_results."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import recordio
from recordio.distributed.values import Optional, PerReplica, PerReplicaSpec, experimental_local_results
from recordio.spec import MsgpackSpec, TensorSpec


def test_per_replica_is_a_sequence_of_values_in_replica_order() -> None:
    """`values` is a tuple, as in tf.distribute; len, iteration, places from both ends, slices."""
    first, second = np.arange(2), np.arange(3)
    both = PerReplica(iter([first, second]))
    assert type(both.values) is tuple and both.values[0] is first and both.values[1] is second
    assert len(both) == 2 and [*both][1] is second
    assert both[0] is first and both[-1] is second and both[:1] == (first,)
    with pytest.raises(IndexError):
        both[2]


def test_per_replica_shows_each_value_under_its_number() -> None:
    """As TensorFlow shows it."""
    assert repr(PerReplica([1, "a"])) == "PerReplica:{\n  0: 1\n  1: 'a'\n}"


def test_per_replica_survives_pickling() -> None:
    """It goes between processes as batches do."""
    found = pickle.loads(pickle.dumps(PerReplica([np.arange(3), np.arange(0)])))
    assert [value.tolist() for value in found] == [[0, 1, 2], []]


def test_per_replica_cannot_be_changed() -> None:
    both = PerReplica([1, 2])
    with pytest.raises(AttributeError):
        both.values = (3,)  # type: ignore[misc]
    with pytest.raises(AttributeError):
        both.more = 3  # type: ignore[attr-defined]


def test_per_replica_spec_is_a_value() -> None:
    """Equal if the specs are, in the same order; hashable, shown as TensorFlow shows it, picklable."""
    floats, ints = TensorSpec((None, 1), "float32"), TensorSpec((None, 1), "int32")
    spec = PerReplicaSpec(floats, ints)
    assert spec.value_specs == (floats, ints)
    assert spec == PerReplicaSpec(floats, ints) and hash(spec) == hash(PerReplicaSpec(floats, ints))
    assert spec != PerReplicaSpec(ints, floats) and spec != PerReplicaSpec(floats)
    assert repr(spec) == f"PerReplicaSpec({floats!r}, {ints!r})"
    assert pickle.loads(pickle.dumps(spec)) == spec
    with pytest.raises(AttributeError):
        spec.value_specs = ()  # type: ignore[misc]
    assert PerReplicaSpec(MsgpackSpec()).value_specs == (MsgpackSpec(),)


@pytest.mark.parametrize("value", [0, None, False, (), PerReplica([1, 2])])
def test_an_optional_with_a_value_has_it(value: Any) -> None:
    """Also where it is false."""
    optional = Optional(value)
    assert optional.has_value() is True and optional.get_value() is value


def test_an_optional_without_a_value_has_none() -> None:
    """get_value is an error, not None."""
    optional = Optional()
    assert optional.has_value() is False
    with pytest.raises(ValueError, match="there is no value"):
        optional.get_value()


def test_local_results_of_a_per_replica_are_its_values() -> None:
    first, second = np.arange(2), np.arange(3)
    found = experimental_local_results(PerReplica([first, second]))
    assert type(found) is tuple and len(found) == 2 and found[0] is first and found[1] is second


def test_local_results_of_a_structure_are_structures() -> None:
    """One for each replica; lists, tuples and dicts keep kind, order and keys."""
    given = {"b": (PerReplica([1, 2]), [PerReplica([3, 4])]), "a": {"x": PerReplica([5, 6])}}
    found = experimental_local_results(given)
    assert found == ({"b": (1, [3]), "a": {"x": 5}}, {"b": (2, [4]), "a": {"x": 6}})
    assert [list(one) for one in found] == [["b", "a"]] * 2


def test_local_results_of_the_batch_and_its_mask() -> None:
    """remainder="pad" gives (batch, mask)."""
    found = experimental_local_results(({"id": PerReplica([1, 2])}, PerReplica([True, False])))
    assert found == (({"id": 1}, True), ({"id": 2}, False))


def test_what_every_replica_has_is_given_to_each() -> None:
    """A leaf that is no PerReplica, beside one that is; empty structures stay."""
    assert experimental_local_results((7, PerReplica([1, 2]), [], {})) == ((7, 1, [], {}), (7, 2, [], {}))


@pytest.mark.parametrize("value", [3, None, "ab", [], {}, (1, [2]), {"a": {"b": 1}}])
def test_without_a_per_replica_there_is_one_replica(value: Any) -> None:
    """tf.distribute gives `(value,)`, too; the very same object."""
    found = experimental_local_results(value)
    assert len(found) == 1 and found[0] is value


def test_an_array_is_one_value() -> None:
    """Neither arrays nor object arrays are looked into."""
    value = np.array([PerReplica([1, 2])], dtype=object)
    assert experimental_local_results(value)[0] is value


def test_a_single_local_replica() -> None:
    """Wrapped or not, there is one value."""
    assert experimental_local_results(PerReplica([5])) == (5,)
    assert experimental_local_results({"a": PerReplica([5])}) == ({"a": 5},)


@pytest.mark.parametrize(("pipelines", "replicas", "num_parts"), [(1, 1, 1), (2, 2, 1), (1, 2, 2), (2, 6, 3)])
def test_local_results_of_what_is_handed_out(pipelines: int, replicas: int, num_parts: int) -> None:
    """The same code runs with one replica and with many."""
    ds = recordio.from_tensor_slices({"id": np.arange(12), "pair": (np.arange(12) * 2, np.arange(12) * 3)})
    found: list[int] = []
    for pipeline in range(pipelines):
        dist = recordio.distribute(ds.batch(12), recordio.InputContext(pipelines, pipeline, replicas))
        (batch,) = dist
        parts = recordio.experimental_local_results(batch)
        assert len(parts) == num_parts
        for part in parts:
            assert (part["pair"][0] == 2 * part["id"]).all() and (part["pair"][1] == 3 * part["id"]).all()
            found += part["id"].tolist()
    assert found == list(range(12))
