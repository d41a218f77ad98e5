"""The state after so many steps is what an iterator says there, whoever takes them (spec/order.md, section 9)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recordio
from recordio import InputContext
from tests.laws.data_sets import EXAMPLES
from tests.laws.laid_out import laid_out
from tests.plan.layouts import shapes

pytestmark = pytest.mark.filterwarnings("ignore:a global batch:UserWarning")

ORDERS: dict[str, dict[str, Any]] = {"none": {}, "exact": {"mode": "exact"}, "pooled": {"mode": "pooled", "pool": 12}}


def states_on_the_way(loader: Any, num_steps: int) -> list[Any]:
    """What iterators say before the first step and after each one, pass after pass."""
    found = [loader.state_dict()]
    while len(found) <= num_steps:
        with iter(loader) as iterator:
            for _ in iterator:
                found.append(iterator.state_dict())
                if len(found) > num_steps:
                    break
    return found


@settings(max_examples=100 * EXAMPLES)
@given(
    shapes(), st.sampled_from(sorted(ORDERS)), st.integers(1, 4), st.integers(1, 2), st.integers(1, 40),
    st.sampled_from(["alone", "AUTO", "DATA", "FILE", "OFF", "function"]), st.sampled_from(["empty", "drop", "pad"]),
    st.sampled_from([1, 2]), st.sampled_from([1, 2, None]), st.integers(0, 2**32),
)  # fmt: skip
def test_a_state_after_steps_is_that_of_who_took_them(
    shards, order, num_pipelines, local, batch_size, policy, remainder, inner, outer, seed
) -> None:
    """In the same pass and in those that follow, from the beginning and from the middle, whatever the policy."""
    random = np.random.default_rng(seed)
    dataset = laid_out(shards)
    dataset = dataset.shuffle(seed=3, **ORDERS[order]) if ORDERS[order] else dataset
    batches = dataset.repeat(inner).batch(batch_size, drop_remainder=remainder == "drop").repeat(outer)
    if policy == "FILE" and len(batches.recipe.shard_ids()) < num_pipelines:
        return
    context = InputContext(num_pipelines, int(random.integers(num_pipelines)), num_pipelines * local)
    loader: Any = batches
    if policy == "function":
        loader = recordio.distribute_from_function(lambda _: batches, context)
    elif policy != "alone":
        loader = recordio.distribute(batches, context, policy=policy, remainder=remainder)
    start, per_span = loader.state_dict(), loader.loader.span_steps()
    if per_span == 0:
        assert loader.state_after(start, 0) == start
        with pytest.raises(recordio.RequestError, match="that has 0"):
            loader.state_after(start, 1)
        return
    num_steps = min(40, 2 * per_span + 3)
    expected = states_on_the_way(loader, num_steps)
    middle = int(random.integers(num_steps))
    for steps, state in enumerate(expected):
        assert loader.state_after(start, steps) == state
        if steps >= middle:
            assert loader.state_after(expected[middle], steps - middle) == state


def test_steps_are_counted_from_any_state(tmp_path: Path) -> None:
    """Far behind the end of an epoch, and from a state that other pipelines with another batch size have saved."""
    recordio.convert(recordio.from_tensor_slices({"id": np.arange(100)}), tmp_path / "set", num_shards=2)
    dataset = recordio.open(tmp_path / "set").shuffle(seed=1)
    state = recordio.distribute(dataset.batch(30), InputContext(3, 1, 3)).state_after(dataset.batch(30).state_dict(), 2)
    assert state["consumed"] == 60
    loader = recordio.distribute(dataset.batch(7), InputContext(2, 0, 4))  # six steps are left, and 15 in an epoch
    for epoch, (first, stop) in enumerate([(0, 7), (7, 22), (22, 37)]):
        for steps in range(first, stop):
            found = loader.state_after(state, steps)
            consumed = min(100, 60 + 7 * steps if epoch == 0 else 7 * (steps - first + 1))
            assert (found["epoch"], found["consumed"]) == (epoch, consumed)
    far = loader.state_after(state, 6 + 15 * 10**9 + 1)
    assert (far["epoch"], far["consumed"]) == (10**9 + 1, 7)
    endless: Any = dataset.repeat().batch(7)  # batches run over the ends of epochs
    for loader in (endless, recordio.distribute(endless, InputContext(2, 0, 4), "FILE")):
        expected = states_on_the_way(loader, 40)
        assert [loader.state_after(expected[3], steps) for steps in range(38)] == expected[3:]


def test_steps_that_cannot_be_are_refused(tmp_path: Path) -> None:
    """A state of something else, a number that is none, and batches that are filled up where damage is skipped."""
    recordio.convert(recordio.from_tensor_slices({"id": np.arange(100)}), tmp_path / "set", num_shards=2)
    loader = recordio.open(tmp_path / "set").batch(30)
    state = loader.state_dict()
    with pytest.raises(recordio.StateError, match="view"):
        recordio.open(tmp_path / "set").take(50).batch(30).state_after(state, 1)
    for steps in (-1, 2**70):
        with pytest.raises(recordio.RequestError):
            loader.state_after(state, steps)
    for steps in ("1", 1.0, True):
        with pytest.raises(TypeError):
            loader.state_after(state, steps)
    skipping = recordio.open(tmp_path / "set", on_corrupt="skip").batch(30)
    with pytest.raises(recordio.RequestError, match=r"skipped.*distribute"):
        skipping.state_after(state, 1)
    assert recordio.distribute(skipping, InputContext(2, 0, 2)).state_after(state, 1)["consumed"] == 30
    shuffled = recordio.open(tmp_path / "set", on_corrupt="skip").shuffle().batch(30)
    assert shuffled.state_after(shuffled.state_dict(), 1)["consumed"] == 30


@pytest.mark.parametrize("is_kept", [False, True])
def test_a_pass_whose_steps_are_all_taken_is_over(tmp_path: Path, is_kept: bool) -> None:
    """Also where a loop counts, and never asks for what is behind the last step; with other pipelines, too."""
    recordio.convert(recordio.from_tensor_slices({"id": np.arange(100)}), tmp_path / "set", num_shards=2)
    dist = recordio.distribute(recordio.open(tmp_path / "set").shuffle().batch(30), InputContext(2, 0, 2))
    kept = []
    for epoch in range(3):
        iterator = iter(dist)
        assert iterator.state_dict()["epoch"] == epoch
        for _ in range(len(dist)):
            next(iterator)
        if is_kept:
            kept.append(iterator)
        del iterator
    iterator = iter(dist)
    for _ in range(len(dist) - 1):
        next(iterator)
    with pytest.raises(recordio.RequestError, match="not read to its end"):
        iter(dist)
