"""Where a loader stands: states that travel with operators, epochs of passes without an end, places that are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio import InputContext, RequestError, StateError, distribute


def numbers(loader: Any) -> list[int]:
    return [int(number) for batch in loader for number in np.atleast_1d(batch["x"])]


def test_a_loaded_state_goes_with_operators_that_change_no_record(thousand: Path):
    """And is refused by name where it does not fit any more, when the pass begins."""
    loader = recordio.open(thousand).shuffle(seed=1).batch(100)
    iterator = iter(loader)
    seen = [number for _ in range(4) for number in next(iterator)["x"].tolist()]
    state = iterator.state_dict()

    def loaded() -> Any:
        made = recordio.open(thousand).shuffle(seed=1).batch(100)
        made.load_state_dict(state)
        return made

    records = recordio.open(thousand).shuffle(seed=1)
    records.load_state_dict(state)
    for again in (
        loaded(), loaded().prefetch(2), loaded().with_options(workers=1), loaded().map(lambda record: record),
        distribute(loaded(), InputContext(1, 0, 1)), records.batch(7), records,
    ):  # fmt: skip
        assert sorted(seen + numbers(again)) == list(range(1000))
    plain = recordio.open(thousand).batch(100)
    plain.load_state_dict({**plain.state_dict(), "consumed": 300})
    with pytest.raises(StateError, match="view"):
        iter(plain.take(5))
    with pytest.raises(StateError, match="mode"):  # of FILE there are as many as pipelines
        iter(distribute(loaded(), InputContext(2, 0, 2), "FILE"))
    fresh = loaded()
    fresh.set_epoch(3)
    assert len(numbers(fresh.prefetch(2))) == 1000


def test_the_pass_after_one_without_an_end_begins_behind_it(thousand: Path):
    """Whether epochs end or batches run across them; and a pass of before set_epoch has no say any more."""
    shuffled = recordio.open(thousand).shuffle()
    for loader in (shuffled.repeat().batch(100), shuffled.batch(100).repeat()):
        iterator = iter(loader)
        for _ in range(55):
            next(iterator)
        assert iter(loader).state_dict()["epoch"] == 6
        iterator.close()
        assert iter(loader).state_dict()["epoch"] == 7
        older = iter(loader)
        for _ in range(5):
            next(older)
        loader.set_epoch(0)
        for _ in range(12):
            next(older)
        older.close()
        assert iter(loader).state_dict()["epoch"] == 0
    dropped = recordio.open(thousand).batch(300).repeat()
    for number, _ in enumerate(dropped):
        if number == 4:
            break
    assert iter(dropped).state_dict()["epoch"] == 2


def test_no_epoch_is_no_epoch(thousand: Path):
    dataset = recordio.open(thousand)
    none = dataset.repeat(0).batch(2)
    assert (len(none), list(none), len(dataset.repeat(0))) == (0, [], 0)
    assert list(distribute(none, InputContext(2, 0, 2))) == []
    assert len(distribute(dataset.repeat(0).batch(2), InputContext(2, 0, 2), "FILE")) == 0
    empty = dataset.skip(500).take(0)
    for index in (lambda: empty.repeat()[0], lambda: empty.repeat().batch(2)[3], lambda: empty.batch(2).repeat()[0],
                  lambda: distribute(empty.repeat().batch(2), InputContext(1, 0, 1))[0]):  # fmt: skip
        with pytest.raises(IndexError):
            index()


def test_the_last_epoch_is_the_last(thousand: Path):
    loader = recordio.open(thousand).shuffle().batch(500)
    loader.set_epoch((1 << 64) - 1)
    assert sorted(numbers(loader)) == list(range(1000))
    with pytest.raises(RequestError, match="set_epoch"):
        iter(loader)


@pytest.mark.parametrize("policy", ["FILE", "OFF"])
@pytest.mark.parametrize("change", [{"step": 10**6}, {"step": None}, {"step": 3}, {"consumed": 999}])
def test_places_that_no_pass_has_are_refused(thousand: Path, policy: str, change: dict[str, Any]):
    dist = distribute(recordio.open(thousand).batch(100), InputContext(2, 0, 2), policy)
    iterator = iter(dist)
    next(iterator)
    state = iterator.state_dict()
    with pytest.raises(StateError, match=r"step|consumed"):
        dist.load_state_dict({**state, **change})
    dist.load_state_dict(state)
    assert len(list(dist)) == len(dist) - 1


def test_an_iterator_that_failed_does_not_look_like_one_that_ended(thousand: Path):
    """Every next raises again what ended it."""

    def fail(record: Any) -> Any:
        if record["x"] == 150:
            raise ValueError("no more")
        return record

    dataset = recordio.open(thousand)
    iterator = iter(dataset.map(fail, output_signature=dataset.element_spec).batch(100).with_options(workers=0))
    next(iterator)
    for _ in range(2):
        with pytest.raises(ValueError, match="no more"):
            next(iterator)
    assert iterator.steps_left == 9


def test_records_are_counted_as_they_are_handed_out(thousand: Path):
    """At every step, batched, mapped, shuffled, split over replicas, and one by one."""
    dataset = recordio.open(thousand)
    plain, mapped = dataset.batch(64), dataset.map(lambda record: record).batch(64)
    loaders = (
        plain, mapped, dataset.shuffle().batch(64), dataset[::3].batch(7), dataset,
        distribute(plain, InputContext(2, 1, 2)), distribute(plain, InputContext(2, 0, 2), "FILE"),
    )  # fmt: skip
    for loader in loaders:
        iterator = iter(loader)
        count = 0
        for number, step in enumerate(iterator):
            (value,) = recordio.experimental_local_results(step["x"])
            count += np.size(value)
            stats = iterator.stats()
            assert (stats["records"], stats["batches"], stats["bytes"]) == (count, number + 1, 8 * count)
