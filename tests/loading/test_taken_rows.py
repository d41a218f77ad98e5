"""Rows that were taken: in front of a shuffle, behind one, twice, and through a map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import recordio
from recordio import InputContext, distribute

SHUFFLES: list[dict[str, Any]] = [
    {"mode": "exact"}, {"mode": "pooled", "pool": 1}, {"mode": "pooled", "pool": 5}, {"mode": "pooled", "pool": 50},
]  # fmt: skip


@given(
    picked=st.lists(st.integers(0, 30), min_size=1, max_size=12), shuffle=st.sampled_from(SHUFFLES),
    batch_size=st.integers(1, 5),
)  # fmt: skip
def test_what_was_picked_twice_comes_twice_and_nothing_else(thousand, picked, shuffle, batch_size):
    loader = recordio.open(thousand).subset(picked).shuffle(seed=1, **shuffle).batch(batch_size)
    assert sorted(number for batch in loader for number in batch["x"].tolist()) == sorted(picked)


@pytest.mark.parametrize("policy", ["AUTO", "DATA", "OFF", "FILE"])
def test_a_split_of_a_fixed_order_stays_one_under_every_policy(thousand: Path, policy: str):
    """No record that was left for validation is trained with."""
    fixed = recordio.open(thousand).shuffle(seed=0, reshuffle_each_iteration=False)
    train, valid = fixed.take(800), fixed.skip(800)

    def seen(dataset: Any) -> list[int]:
        found = []
        for number in range(2):
            for step in distribute(dataset.batch(10), InputContext(2, number, 2), policy):
                found += [int(x) for value in step["x"].values for x in value]
        return sorted(found)

    times = 2 if policy == "OFF" else 1
    wanted = {name: sorted(int(record["x"]) for record in one) for name, one in (("train", train), ("valid", valid))}
    assert seen(train) == sorted(wanted["train"] * times)
    assert seen(valid) == sorted(wanted["valid"] * times)
    plan = recordio.plan_reading(train.batch(10), 2, policy=policy)
    assert sum(one.records for one in plan.pipelines) == 800 * times


def test_a_mapped_record_by_number_is_a_record(thousand: Path):
    dataset = recordio.open(thousand)
    for mapped in (
        dataset.map(lambda record: {"x": record["x"]}), dataset.shuffle(seed=1).map(lambda record: record),
        dataset.map(lambda record: {"x": str(record["x"])}).repeat(2),
    ):  # fmt: skip
        first = next(iter(mapped))
        mapped.set_epoch(0)
        assert type(mapped[0]["x"]) is type(first["x"]) and mapped[0] == first
