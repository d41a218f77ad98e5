"""Laws of distributed reading, over any sizes of shards and chunks, both shuffles and none, any P, R and G.

Everything here goes through the public doors: `shuffle`, `batch`, `distribute`, iteration, states.
"""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recordio
from recordio.distributed.context import InputContext
from tests.laws.data_sets import EXAMPLES
from tests.laws.laid_out import laid_out
from tests.plan.layouts import shapes

pytestmark = pytest.mark.filterwarnings("ignore:a global batch:UserWarning")

ORDERS: dict[str, dict[str, Any]] = {
    "none": {},
    "exact": {"seed": 5, "mode": "exact"},
    "pooled": {"seed": 5, "mode": "pooled", "pool": 12},
    "wide": {"seed": 5, "mode": "pooled", "pool": 60},
}
orders = st.sampled_from(sorted(ORDERS))
pipelines, local_replicas, batch_sizes = st.integers(1, 9), st.integers(1, 4), st.integers(1, 200)


def ordered(dataset: Any, order: str) -> Any:
    return dataset.shuffle(**ORDERS[order]) if ORDERS[order] else dataset


def parts(dataset: Any, context: InputContext, policy: str, **arguments: Any) -> list[list[list[int]]]:
    """The records of every slot at every step of one pipeline; its number of steps is checked on the way."""
    dist = recordio.distribute(dataset, context, policy=policy, **arguments)
    steps = [[slot["id"].tolist() for slot in recordio.experimental_local_results(step)] for step in dist]
    assert len(steps) == len(dist)
    return steps


def of_all(dataset: Any, num_pipelines: int, local: int, policy: str, **arguments: Any) -> list[Any]:
    return [
        parts(dataset, InputContext(num_pipelines, number, num_pipelines * local), policy, **arguments)
        for number in range(num_pipelines)
    ]


def joined(slots: Any) -> list[int]:
    return [number for slot in slots for number in slot]


@settings(max_examples=60 * EXAMPLES)
@given(shapes(), orders, pipelines, local_replicas, batch_sizes, st.sampled_from(["AUTO", "FILE", "DATA", "OFF"]))
def test_every_record_comes_once_and_steps_are_equal(shards, order, num_pipelines, local, batch_size, policy) -> None:
    """Over all pipelines; under OFF on each (spec/order.md, sections 6 and 7)."""
    dataset = laid_out(shards)
    loader = ordered(dataset, order).batch(batch_size)
    if policy == "FILE" and len(loader.recipe.shard_ids()) < num_pipelines:
        found = []
        for number in range(num_pipelines):
            with pytest.raises(recordio.RequestError) as caught:
                recordio.distribute(loader, InputContext(num_pipelines, number, num_pipelines), policy="FILE")
            found.append(str(caught.value))
        assert len(set(found)) == 1 and f"{len(loader.recipe.shard_ids())} shard" in found[0]
        return
    everyone = of_all(loader, num_pipelines, local, policy)
    assert len({len(steps) for steps in everyone}) == 1
    records = [joined(joined(steps)) for steps in everyone]
    expected = list(range(len(dataset)))
    for numbers in records if policy == "OFF" else [joined(records)]:
        assert sorted(numbers) == expected


@settings(max_examples=60 * EXAMPLES)
@given(shapes(), orders, pipelines, local_replicas, batch_sizes, st.integers(0, 3))
def test_global_batches_do_not_depend_on_who_reads_them(shards, order, num_pipelines, local, batch_size, epoch) -> None:
    """Under AUTO the slots of a step, one after the other, are the batch that one process alone gets."""
    dataset = laid_out(shards)
    loader = ordered(dataset, order).batch(batch_size)
    loader.set_epoch(epoch)
    alone = [batch["id"].tolist() for batch in loader]
    loader.set_epoch(epoch)
    everyone = of_all(loader, num_pipelines, local, "AUTO")
    assert [joined(map(joined, step)) for step in zip(*everyone, strict=True)] == alone
    loader.set_epoch(epoch)
    assert [loader[place]["id"].tolist() for place in range(len(loader))] == alone


@settings(max_examples=60 * EXAMPLES)
@given(
    shapes(), orders, pipelines, local_replicas, st.integers(1, 40), st.sampled_from(["AUTO", "DATA"]),
    st.sampled_from(["empty", "drop", "pad", "error"]),
)  # fmt: skip
def test_ends_are_as_asked(shards, order, num_pipelines, local, batch_size, policy, remainder) -> None:
    """Zero rows, full steps only, filled up with a mask, or an error (spec/order.md, section 7)."""
    dataset = laid_out(shards)
    total, replicas = len(dataset), num_pipelines * local
    loader = ordered(dataset, order).batch(batch_size)
    if remainder == "error" and total % batch_size:
        with pytest.raises(recordio.RequestError, match="divide"):
            of_all(loader, num_pipelines, local, policy, remainder=remainder)
        return
    if remainder == "pad":
        seen = []
        for number in range(num_pipelines):
            dist = recordio.distribute(
                loader, InputContext(num_pipelines, number, replicas), policy=policy, remainder="pad"
            )
            for step in dist:
                for batch, mask in recordio.experimental_local_results(step):
                    assert mask.dtype == bool and mask.shape == batch["id"].shape == (-(-batch_size // replicas),)
                    assert not batch["id"][~mask].any()
                    seen.extend(batch["id"][mask].tolist())
        assert sorted(seen) == list(range(total))
        return
    everyone = of_all(loader, num_pipelines, local, policy, remainder=remainder)
    steps = total // batch_size if remainder in ("drop", "error") else -(-total // batch_size)
    assert {len(found) for found in everyone} == {steps}
    sizes = [sum(len(joined(step)) for step in together) for together in zip(*everyone, strict=True)]
    assert sizes[: total // batch_size] == [batch_size] * (total // batch_size)


@settings(max_examples=50 * EXAMPLES)
@given(shapes(), orders, st.integers(0, 2**32), st.integers(0, 2), st.sampled_from(["AUTO", "DATA"]))
def test_an_epoch_interrupted_three_times_has_every_record_once(shards, order, seed, epoch, policy) -> None:
    """With other P, R and G each time: nothing lost, nothing repeated, and the same state on every pipeline."""
    random = np.random.default_rng(seed)
    dataset = laid_out(shards)
    total = len(dataset)
    state: Any = None
    seen: list[int] = []
    for leg in range(4):
        num_pipelines, local = int(random.integers(1, 6)), int(random.integers(1, 4))
        batch_size = int(random.integers(1, 40))
        loader = ordered(dataset, order).batch(batch_size)
        taken, states = None, []
        for number in range(num_pipelines):
            context = InputContext(num_pipelines, number, num_pipelines * local)
            dist = recordio.distribute(loader, context, policy=policy)
            dist.set_epoch(epoch)
            if state is not None:
                dist.load_state_dict(state)
            iterator = iter(dist)
            left = iterator.steps_left
            if taken is None:
                taken = int(left if leg == 3 else random.integers(0, left + 1))
            for _ in range(taken):
                for slot in recordio.experimental_local_results(next(iterator)):
                    seen.extend(slot["id"].tolist())
            assert iterator.steps_left == left - taken
            states.append(iterator.state_dict())
            iterator.close()
        assert all(one == states[0] for one in states)
        state = json.loads(json.dumps(states if leg % 2 else states[0]))
    assert sorted(seen) == list(range(total))


@settings(max_examples=40 * EXAMPLES)
@given(shapes(), orders, st.integers(1, 4), st.integers(1, 3), st.integers(1, 20), st.sampled_from(["FILE", "OFF"]))
def test_own_streams_resume_at_every_step(shards, order, num_pipelines, local, batch_size, policy) -> None:
    """With the same P, R and G, and only with these (spec/order.md, section 9)."""
    loader = ordered(laid_out(shards), order).batch(batch_size)
    if policy == "FILE" and len(loader.recipe.shard_ids()) < num_pipelines:
        return
    for number in range(num_pipelines):
        context = InputContext(num_pipelines, number, num_pipelines * local)
        whole = parts(loader, context, policy)
        for step in range(0, len(whole) + 1, 3):
            dist = recordio.distribute(loader, context, policy=policy)
            iterator = iter(dist)
            for _ in range(step):
                next(iterator)
            state = iterator.state_dict()
            iterator.close()
            again = recordio.distribute(loader, context, policy=policy)
            again.load_state_dict(state)
            rest = [
                [slot["id"].tolist() for slot in recordio.experimental_local_results(found)] for found in again
            ]
            assert rest == whole[step:]
        with warnings.catch_warnings(), pytest.raises(recordio.StateError, match="batch_size"):
            warnings.simplefilter("ignore")
            other = ordered(laid_out(shards), order).batch(batch_size + 1)
            recordio.distribute(other, context, policy=policy).load_state_dict(state)


@settings(max_examples=40 * EXAMPLES)
@given(shapes(), orders, st.integers(1, 3), st.integers(1, 3), st.integers(1, 30), st.integers(1, 3), st.integers(1, 9))
def test_repeat_takes_the_following_epochs(shards, order, inner, outer, batch_size, num_pipelines, stop) -> None:
    """In front of batch, batches run over the ends of epochs; behind it each epoch ends by itself; resumed, too."""
    dataset = ordered(laid_out(shards), order)
    total = len(dataset)
    epochs = []
    for epoch in range(inner * outer):
        dataset.set_epoch(epoch)
        epochs.append([record["id"] for record in dataset])
    loader = dataset.repeat(inner).batch(batch_size).repeat(outer)
    loader.set_epoch(0)
    found = [batch["id"].tolist() for batch in loader]
    assert len(found) == len(loader) == outer * -(-total * inner // batch_size)
    per_span = len(found) // outer
    for span in range(outer):
        numbers = joined(found[span * per_span : (span + 1) * per_span])
        assert sorted(numbers) == sorted(joined(epochs[span * inner : (span + 1) * inner]))
    assert loader.state_dict()["epoch"] == inner * outer
    loader.set_epoch(0)
    iterator = iter(loader)
    done = [next(iterator)["id"].tolist() for _ in range(min(stop, len(loader)))]
    rest = dataset.repeat(inner).batch(batch_size).repeat(outer)
    rest.load_state_dict(iterator.state_dict())
    assert done + [batch["id"].tolist() for batch in rest] == found
    context = InputContext(num_pipelines, 0, num_pipelines)
    loader.set_epoch(0)
    assert len(list(recordio.distribute(loader, context))) == len(loader)
