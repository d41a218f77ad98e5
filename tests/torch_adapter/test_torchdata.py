"""torchdata's StatefulDataLoader: its own states, in workers too, are exact (spec/adapters.md, section 4)."""

from __future__ import annotations

import copy
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import recordio
from recordio.errors import StateError

pytest.importorskip("torch")
pytest.importorskip("torchdata.stateful_dataloader")

import torch
from torch.utils.data import DataLoader, get_worker_info
from torchdata.stateful_dataloader import StatefulDataLoader

from recordio.adapters.torch_workers import SharedPlace

NUM_RECORDS, BATCH_SIZE = 203, 16  # 13 steps, the last of 11 records


def one_epoch(path: Path) -> Any:
    return recordio.open(path).shuffle(seed=5).batch(BATCH_SIZE)


def two_epochs(path: Path) -> Any:
    return recordio.open(path).shuffle(seed=5).batch(BATCH_SIZE).repeat(2)


def across_epochs(path: Path) -> Any:
    return recordio.open(path).shuffle(seed=5).repeat(2).batch(BATCH_SIZE)


def one_part(path: Path) -> Any:
    """Half of every batch, under a policy by which each pipeline has a stream of its own."""
    context = recordio.InputContext(2, 1, 2)
    return recordio.distribute(one_epoch(path), context, policy=recordio.AutoShardPolicy.FILE)


def stateful(loader: Any, num_workers: int, **options: Any) -> StatefulDataLoader:
    return StatefulDataLoader(loader.to_torch(), batch_size=None, num_workers=num_workers, **options)


def ids(batches: Any) -> list[list[int]]:
    return [batch["id"].tolist() for batch in batches]


def stopped(loader: StatefulDataLoader, num_steps: int) -> tuple[list[list[int]], Any]:
    """Some steps, and the state after them, as it comes out of a file."""
    iterator = iter(loader)
    seen = ids(next(iterator) for _ in range(num_steps))
    return seen, pickle.loads(pickle.dumps(loader.state_dict()))


@pytest.mark.parametrize("num_workers", [0, 1, 2])
@pytest.mark.parametrize("make", [one_epoch, two_epochs, across_epochs, one_part])
def test_a_state_goes_on_with_the_very_next_batch(
    path: Path, make: Callable[[Path], Any], num_workers: int
) -> None:
    """Before the first step, in the middle, before the last step and after it; then comes the next epoch."""
    whole = make(path).to_torch()
    epochs = [ids(whole) for _ in range(2)]
    num_steps = len(epochs[0])
    for stop in (0, 5, num_steps - 1, num_steps):
        seen, state = stopped(stateful(make(path), num_workers), stop)
        assert seen == epochs[0][:stop]
        again = stateful(make(path), num_workers)
        again.load_state_dict(state)
        assert [ids(again), ids(again)] == [epochs[0][stop:], epochs[1]]


def test_a_state_after_the_end_is_that_of_the_next_epoch(path: Path) -> None:
    """Where the loop ended by itself, and was not left."""
    expected = one_epoch(path)
    epochs = [ids(expected) for _ in range(3)]
    for num_workers in (0, 2):
        loader = stateful(one_epoch(path), num_workers)
        assert [ids(loader), ids(loader)] == epochs[:2]
        again = stateful(one_epoch(path), num_workers)
        again.load_state_dict(loader.state_dict())
        assert ids(again) == epochs[2]


@pytest.mark.parametrize("is_kept", [False, True])
def test_a_state_of_a_later_epoch(path: Path, is_kept: bool) -> None:
    """Taken in the third epoch, with workers that stay and with those that do not; every fourth step, too."""
    expected = one_epoch(path)
    epochs = [ids(expected) for _ in range(4)]
    options = {"persistent_workers": is_kept, "multiprocessing_context": "fork", "snapshot_every_n_steps": 4}
    loader = stateful(one_epoch(path), 2, **options)
    assert [ids(loader), ids(loader)] == epochs[:2]
    seen, state = stopped(loader, 7)
    again = stateful(one_epoch(path), 2, **options)
    again.load_state_dict(state)
    assert seen + ids(again) == epochs[2]
    assert ids(again) == epochs[3]


def test_another_number_of_workers_is_refused(path: Path) -> None:
    """By the data set, which says what to do; without workers by StatefulDataLoader's own assertion."""
    _, state = stopped(stateful(one_epoch(path), 2), 5)
    loader = stateful(one_epoch(path), 1)
    loader.load_state_dict(state)
    with pytest.raises(StateError, match="that of worker 0 of 2"):
        iter(loader)
    loader = stateful(one_epoch(path), 0)
    loader.load_state_dict(state)
    with pytest.raises(AssertionError, match="_num_yielded"):
        iter(loader)


def test_another_data_set_is_refused(path: Path) -> None:
    """In a worker as elsewhere, with the name of the field."""
    _, state = stopped(stateful(one_epoch(path), 1), 5)
    loader = stateful(recordio.open(path).shuffle(seed=6).batch(BATCH_SIZE), 1)
    loader.load_state_dict(state)
    with pytest.raises(StateError, match="seed is 5 in the state"):
        iter(loader)


@pytest.mark.parametrize("world_size", [1, 3])
def test_our_own_state_takes_another_number_of_processes(path: Path, world_size: int) -> None:
    """Saved by two processes without workers; one or three go on, also in workers, with another batch size."""
    def parts(num_processes: int, batch_size: int) -> list[Any]:
        loader = recordio.open(path).shuffle(seed=5).batch(batch_size)
        contexts = [recordio.InputContext(num_processes, rank, num_processes) for rank in range(num_processes)]
        return [recordio.distribute(loader, context).to_torch() for context in contexts]

    before = parts(2, BATCH_SIZE)
    iterators = [iter(part) for part in before]
    seen = [number for _ in range(5) for iterator in iterators for number in next(iterator)["id"].tolist()]
    states = [part.state_dict() for part in before]
    for num_workers in (0, 2):
        rest, following = [], []
        for part in parts(world_size, 12):
            part.load_state_dict(states)
            loader = DataLoader(part, batch_size=None, num_workers=num_workers)
            rest += [number for batch in ids(loader) for number in batch]
            following += [number for batch in ids(loader) for number in batch]
        assert sorted(seen + rest) == sorted(following) == list(range(NUM_RECORDS))


def late(worker_id: int) -> None:
    """Worker 1 begins when worker 0 has nothing left to do: it has told the others so in the memory that they share."""
    if worker_id == 1:
        shared = get_worker_info().dataset._shared
        while not shared.has_ended(0):
            time.sleep(0.01)


def test_a_pass_that_was_broken_off_is_begun_again_by_all(path: Path) -> None:
    """Though the second of five steps' workers had come to its end ahead of the loop, and is late this time."""
    def make() -> Any:
        return recordio.open(path).shuffle(seed=5).batch(41).to_torch()

    expected = make()
    epochs = [ids(expected) for _ in range(2)]
    shared = make()
    broken = iter(DataLoader(shared, batch_size=None, num_workers=2))
    while not shared._shared.has_ended(1):
        time.sleep(0.01)
    del broken
    late_again = DataLoader(shared, batch_size=None, num_workers=2, worker_init_fn=late_by_time)
    assert [ids(late_again) for _ in range(2)] == epochs
    assert ids(shared) == ids(expected)


def late_by_time(worker_id: int) -> None:
    """The second worker begins when the first one is long over."""
    time.sleep(0.7 * worker_id)


class Overtaken(SharedPlace):
    """What a worker sees that reads the note, and only goes on when a faster one has begun, or come to its end."""

    def __init__(self, other: SharedPlace, then: Callable[[], None]) -> None:
        super().__init__(other._memory)
        self._then = [then]

    def _note(self) -> Any:
        found = super()._note()
        if self._then:
            self._then.pop()()
        return found


def test_a_worker_that_comes_after_the_next_epoch_was_set_disturbs_nobody() -> None:
    """Of a DataLoader that was left: what it would read, nobody takes."""
    shared = SharedPlace.at(0, None)
    late = pickle.loads(pickle.dumps(shared))  # as a worker has it that is started now
    late._memory = shared._memory
    shared.begin(4, None)
    epoch, mark = late.join(7, 1, 2, 1, has_peers=True, is_first=True)
    late.end(1, mark)
    assert (epoch, mark) == (4, 0) and not shared.is_read_by_workers
    kept, _ = late.join(8, 1, 2, 1, has_peers=True)
    assert kept == 4 and shared.is_read_by_workers


def test_of_very_many_workers_the_first_ones_say_when_a_pass_is_over() -> None:
    shared = SharedPlace.at(0, None)
    for expected in (0, 1, 2):
        for worker_id in range(300):
            epoch, mark = shared.join(100 + expected, worker_id, 300, 1)
            assert epoch == expected
            shared.end(worker_id, mark)


@pytest.mark.parametrize("is_over", [False, True], ids=["begun", "over"])
@pytest.mark.parametrize("is_set", [False, True], ids=["following", "set_epoch"])
@pytest.mark.parametrize("key", [7, 8], ids=["same seed", "another seed"])
def test_workers_agree_on_the_epoch_though_one_overtakes_the_other(is_set: bool, is_over: bool, key: int) -> None:
    shared = SharedPlace.at(0, None)
    for worker_id in range(2):
        epoch, mark = shared.join(7, worker_id, 2, 1)
        assert epoch == 0
        shared.end(worker_id, mark)
    if is_set:
        shared.begin(0, None)
    expected = 0 if is_set else 1

    def overtake() -> None:
        epoch, mark = shared.join(key, 0, 2, 1)
        assert epoch == expected
        if is_over:
            shared.end(0, mark)

    epoch, mark = Overtaken(shared, overtake).join(key, 1, 2, 1)
    assert epoch == shared.epoch(1) == expected
    shared.end(1, mark)
    assert shared.epoch(1) == expected + is_over


def epochs_of(path: Path, count: int) -> list[list[list[int]]]:
    alone = recordio.open(path).shuffle(seed=5).batch(16)
    return [[batch["id"].tolist() for batch in alone] for _ in range(count)]


def in_workers(batches: Any, **options: Any) -> Any:
    return DataLoader(batches, batch_size=None, num_workers=2, multiprocessing_context="fork", **options)


def test_what_workers_read_is_no_state_of_the_loop(path: Path) -> None:
    """They are ahead of it; the state is found by counting."""
    loader = recordio.open(path).shuffle(seed=5).batch(16)
    shared, start = loader.to_torch(), loader.state_dict()
    steps = iter(in_workers(shared))
    seen = [next(steps)["id"].tolist() for _ in range(5)]
    with pytest.raises(recordio.RequestError, match="ahead of the loop"):
        shared.state_dict()
    state = loader.state_after(start, 5)
    loader.load_state_dict(state)
    assert shared.state_dict() == state
    assert seen + ids(in_workers(shared)) == epochs_of(path, 1)[0]


def test_what_is_set_on_the_loader_holds_for_workers(path: Path) -> None:
    """As it does without them; and one adapter of a loader goes on where another one ended."""
    epochs = epochs_of(path, 5)
    loader = recordio.open(path).shuffle(seed=5).batch(16)
    shared = loader.to_torch()
    loader.set_epoch(2)
    assert ids(in_workers(shared)) == epochs[2]
    assert [ids(in_workers(loader.to_torch())) for _ in range(2)] == epochs[3:]
    assert ids(in_workers(shared)) == ids(recordio_epoch(path, 5))


def recordio_epoch(path: Path, epoch: int) -> Any:
    loader = recordio.open(path).shuffle(seed=5).batch(16)
    loader.set_epoch(epoch)
    return loader.to_torch()


@pytest.mark.parametrize("ended", [0, 1])
def test_a_pass_that_was_broken_off_under_the_same_seed(ended: int) -> None:
    """One worker had come to its end, the other had not: both begin it again, whoever is first, and go on from it."""
    for order in ((0, 1), (1, 0)):
        shared = SharedPlace.at(0, None)
        marks = [shared.join(7, worker_id, 2, 1)[1] for worker_id in range(2)]
        shared.end(ended, marks[ended])
        for epoch in (0, 1, 2):
            found = {worker_id: shared.join(7, worker_id, 2, 1) for worker_id in order}
            assert {one for one, _ in found.values()} == {epoch}
            for worker_id, (_, mark) in found.items():
                shared.end(worker_id, mark)


def test_epochs_go_on_though_torch_is_seeded_the_same(path: Path) -> None:
    shared, epochs = recordio_epoch(path, 0), []
    for _ in range(3):
        torch.manual_seed(0)
        epochs.append(ids(in_workers(shared)))
    assert epochs == epochs_of(path, 3)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_counts_epochs_of_its_own(path: Path, copied: Callable[[Any], Any]) -> None:
    shared = recordio_epoch(path, 0)
    other = copied(shared)
    assert [ids(in_workers(other)) for _ in range(2)] == epochs_of(path, 2)
    other.loader.set_epoch(0)
    assert ids(in_workers(other)) == epochs_of(path, 1)[0] == ids(in_workers(shared))


def test_a_part_that_was_broken_off_says_so_in_workers_too(path: Path) -> None:
    """Other pipelines may be in another epoch: the next one has to be set."""
    part = recordio.distribute(one_epoch(path), recordio.InputContext(2, 0, 2)).to_torch()
    broken = iter(in_workers(part, prefetch_factor=1))
    next(broken)
    del broken
    with pytest.raises(recordio.RequestError, match="not read to its end"):
        next(iter(in_workers(part)))
    with pytest.raises(recordio.RequestError, match="not read to its end"):
        next(iter(part))
    part.set_epoch(0)
    assert len(ids(in_workers(part))) == 13
    left = iter(part)
    next(left)
    with pytest.raises(recordio.RequestError, match="not read to its end"):
        next(iter(in_workers(part)))


@pytest.mark.parametrize("is_kept", [False, True])
def test_what_is_set_while_workers_read_ahead_holds(path: Path, is_kept: bool) -> None:
    """Whatever a pass that was broken off still does."""
    def slow(batch: Any) -> Any:
        time.sleep(0.05)
        return batch

    shared = recordio.open(path).shuffle(seed=5).map(slow, batched=True).batch(16).to_torch()
    loader = DataLoader(
        shared, batch_size=None, num_workers=2, persistent_workers=is_kept, multiprocessing_context="fork"
    )
    alone = recordio.open(path).shuffle(seed=5).batch(16)
    held = iter(loader)
    next(held)
    shared.set_epoch(5)
    alone.set_epoch(5)
    assert ids(loader) == [batch["id"].tolist() for batch in alone]
    assert ids(shared) == [batch["id"].tolist() for batch in alone]
    assert shared.state_dict()["epoch"] == 7


def test_a_worker_that_is_late_begins_no_epoch_too_far(path: Path) -> None:
    """Two steps, two workers: the first is through with the epoch before the second has begun it."""
    def make() -> Any:
        return recordio.open(path).shuffle(seed=5).batch(120)

    expected = make()
    epochs = [ids(expected) for _ in range(2)]
    loader = DataLoader(make().to_torch(), batch_size=None, num_workers=2, worker_init_fn=late)
    assert ids(loader) == epochs[0]
    shared = make().to_torch()
    assert [ids(DataLoader(shared, batch_size=None, num_workers=count)) for count in (1, 3)] == epochs
