"""Splits: who gets what at each step, and how many steps there are (spec/order.md, sections 5 to 7)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordio.errors import RequestError
from recordio.plan.epoch import Span
from recordio.plan.splitting import Split, num_steps
from recordio.plan.stream import Stream


def splits(policy: str, num_pipelines: int, num_replicas: int, batch_size: int) -> list[Split]:
    return [
        Split(
            policy=policy, num_pipelines=num_pipelines, pipeline_id=number, num_replicas=num_replicas,
            batch_size=batch_size,
        )  # type: ignore[arg-type]
        for number in range(num_pipelines)
    ]  # fmt: skip


def stream_of(split: Split, num_records: int | None, num_lanes: int = 1, start: int = 0) -> Stream:
    """One epoch of so many records from `start` on, as a split deals it out."""
    return Stream(
        num_records=num_records or 1, start=start, stop=num_records, batch_size=split.sorted_size, num_lanes=num_lanes
    )


sizes = {
    "num_pipelines": st.integers(1, 9), "local": st.integers(1, 4), "batch_size": st.integers(1, 200),
    "total": st.integers(0, 500),
}  # fmt: skip


@given(policy=st.sampled_from(["AUTO", "DATA"]), lanes=st.sampled_from([1, 2, 16, 128]), **sizes)
def test_a_shared_stream_is_covered_once_over_all_pipelines(
    policy, lanes, num_pipelines, local, batch_size, total
) -> None:
    """In the order of the slots under AUTO, sizes differ by one at most, and all take the same number of steps."""
    everyone = splits(policy, num_pipelines, num_pipelines * local, batch_size)
    steps = num_steps(everyone[:1], [total], "empty")
    assert steps == -(-total // batch_size)
    for step in range(steps):
        parts = [split.slots(step, step + 1, stream_of(split, total, lanes)) for split in everyone]
        places = [
            place
            for starts, stops in parts
            for low, high in zip(starts[0].tolist(), stops[0].tolist(), strict=True)
            for place in range(low, high)
        ]
        expected = list(range(step * batch_size, min(total, (step + 1) * batch_size)))
        assert (places if policy == "AUTO" else sorted(places)) == expected
        if policy == "AUTO":
            counts = [int(size) for starts, stops in parts for size in (stops - starts)[0]]
            assert max(counts) - min(counts) <= 1
            assert lanes > 1 or counts == sorted(counts, reverse=True)


@given(policy=st.sampled_from(["FILE", "OFF"]), seed=st.integers(0, 2**32), **sizes)
def test_an_own_stream_is_covered_once_by_its_pipeline(policy, seed, num_pipelines, local, batch_size, total) -> None:
    """One sub-batch after the other; full steps of all pipelines add up to the global batch."""
    random = np.random.default_rng(seed)
    totals = [total] * num_pipelines if policy == "OFF" else random.integers(0, 500, num_pipelines).tolist()
    everyone = splits(policy, num_pipelines, num_pipelines * local, batch_size)
    steps, full = (num_steps(everyone, totals, how) for how in ("empty", "drop"))
    for split, count in zip(everyone, totals, strict=True):
        starts, stops = split.slots(0, steps, stream_of(split, count))
        places = [
            place
            for low, high in zip(starts.ravel().tolist(), stops.ravel().tolist(), strict=True)
            for place in range(low, high)
        ]
        assert places == list(range(count))
        assert steps == 0 or full <= steps
    for step in range(full):
        taken = [
            split.slots(step, step + 1, stream_of(split, count)) for split, count in zip(everyone, totals, strict=True)
        ]
        assert sum(int((stops - starts).sum()) for starts, stops in taken) == batch_size
    if full < steps and batch_size >= num_pipelines * local:
        taken = [
            split.slots(full, full + 1, stream_of(split, count)) for split, count in zip(everyone, totals, strict=True)
        ]
        assert sum(int((stops - starts).sum()) for starts, stops in taken) < batch_size


def test_the_example_of_tf_distribute() -> None:
    """batch_sizes_for_worker(7, 2, 2, i): [2, 2, 2, 1] and [2, 1, 2, 2]."""
    first, second = splits("FILE", 2, 4, 7)
    assert [(b - a).tolist() for a, b in [first.slots(0, 2, stream_of(first, None))]] == [[[2, 2], [2, 1]]]
    assert [(b - a).tolist() for a, b in [second.slots(0, 2, stream_of(second, None))]] == [[[2, 1], [2, 2]]]


def test_what_does_not_divide_can_be_refused() -> None:
    """remainder="error" names the step; what divides passes."""
    everyone = splits("AUTO", 1, 2, 8)
    assert num_steps(everyone, [16], "error") == 2
    with pytest.raises(RequestError, match="step 3 of 3"):
        num_steps(everyone, [17], "error")


@given(
    num_records=st.integers(1, 200), repeats=st.integers(1, 3), batch_size=st.integers(1, 80),
    lanes=st.sampled_from([1, 2, 8, 64]), start=st.integers(0, 250),
)  # fmt: skip
def test_the_stream_is_every_position_once_batch_by_batch(num_records, repeats, batch_size, lanes, start) -> None:
    """Whatever the first position; places one by one are what they are together (section 5)."""
    total = num_records * repeats
    start = min(start, total)
    stream = Stream(num_records=num_records, start=start, stop=total, batch_size=batch_size, num_lanes=lanes)
    found = stream.positions(np.arange(total - start))
    for first in range(0, total - start, batch_size):
        batch = found[first : first + batch_size]
        assert sorted(batch.tolist()) == list(range(start + first, min(total, start + first + batch_size)))
    some = np.arange(0, total - start, 3)
    assert stream.positions(some).tolist() == found[some].tolist()


@given(
    num_records=st.integers(1, 300), batch_size=st.sampled_from([8, 64, 128, 50]), lanes=st.sampled_from([1, 8, 64]),
    start=st.integers(0, 100), pipelines=st.integers(1, 4), local=st.integers(1, 2),
)  # fmt: skip
def test_the_short_way_to_full_batches_is_the_long_one(num_records, batch_size, lanes, start, pipelines, local) -> None:
    """Steps planned together are the steps planned one place at a time."""
    start = min(start, num_records)
    for split in splits("AUTO", pipelines, pipelines * local, batch_size):
        steps = split.num_steps(num_records - start, "empty")
        span = Span(split=split, num_records=num_records, num_lanes=lanes, start=start, num_steps=steps)
        together = span.steps(0, steps)
        starts, stops = split.slots(0, steps, stream_of(split, num_records, lanes, start))
        places = [
            place
            for low, high in zip(starts.ravel().tolist(), stops.ravel().tolist(), strict=True)
            for place in range(low, high)
        ]
        assert together.positions.tolist() == span.stream.positions(np.array(places, np.int64)).tolist()
        one_by_one = [span.steps(step, step + 1).positions for step in range(steps)]
        assert np.concatenate([np.empty(0, np.int64), *one_by_one]).tolist() == together.positions.tolist()
