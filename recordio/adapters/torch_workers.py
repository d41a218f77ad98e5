"""Workers of a DataLoader: which steps each of them hands out, and where it stands.

    steps 0, 2, 4, ...   worker 0      every n-th step of a pass; the pass is over when all have handed out their last
    steps 1, 3, 5, ...   worker 1

Workers are copies of one data set in processes of their own: what they must agree on, the epoch of the pass that comes
next, lies in memory that all of them share. Each has a state of its own, as `torchdata.stateful_dataloader` asks for.

Spec: spec/adapters.md, section 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

from recordio.errors import StateError
from recordio.loading.loader import Loader, abandoned
from recordio.plan.mixing import Array
from recordio.plan.state import State, check_size

_NUM_WORKERS = 256  # whose end can be noted; of more of them, the others are taken to end with these
_OWN_KEYS = ("worker", "num_workers", "next_step")
_ODD = 0x9E3779B97F4A7C15
_HEAD = 7  # is_resumed, first_epoch, epoch, consumed, step; which of the two notes holds; how often it was set
_NOTE = 5  # key, its first epoch, workers, whether it was begun, how many were begun before it
_Note = tuple[int, int, int, int, int]


def pass_key(count: int) -> int:
    """What the workers of one pass have in common; never 0. Another pass has it only where torch was seeded the same.

    Args:
        count: passes that this worker process has begun.
    """
    worker = get_worker_info()
    return (worker.seed - worker.id + count * _ODD) % (1 << 64) or 1


class SharedPlace:
    """The epoch of the pass that comes next, and where in it that begins; the same for all copies of a data set.

    The worker that comes first to a pass notes which epoch it is, and the others find it there: the one behind the last
    pass if all of its workers had come to their end, else the same again. There are two notes, and a number that says
    which holds, so that none is read half-written. Nothing is locked, so that a worker that is killed holds up no
    other: of two that come at once, both read the note of the last pass and both find the same; what a faster one has
    noted meanwhile counts.

    A worker has ended when its last step is made, not when the loop has taken it: nobody here knows of that.
    """

    def __init__(self, memory: torch.Tensor, num_begun: int = 0) -> None:
        self._num_begun = num_begun  # in a worker: when the worker was started
        # A copy by pickle or deepcopy is a place of its own, which its workers share; workers are not given copies.
        self._memory = memory.share_memory_()

    @classmethod
    def at(cls, epoch: int, state: State | None) -> SharedPlace:
        """A new one."""
        found = cls(torch.zeros(_HEAD + 2 * _NOTE + 2 * _NUM_WORKERS, dtype=torch.int64))
        found.begin(epoch, state)
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return SharedPlace, (self._memory, self._num_begun)

    @property
    def _values(self) -> Array:
        found: Array = self._memory.numpy().view(np.uint64)
        return found

    def epoch(self, per_pass: int) -> int:
        """First epoch of the pass that comes next."""
        return self._following(self._note(), per_pass)

    def begin(self, epoch: int, state: State | None) -> None:
        """Begin with an epoch, or go on from a state of it, whatever workers of an earlier pass still do."""
        if state is not None:
            epoch = state.first_epoch
            self._values[1:5] = epoch, state.epoch, state.consumed, state.step or 0
        self._values[0] = state is not None
        self._num_begun += 1
        self._values[6] = self._num_begun
        self._write((0, epoch, 0, 0, self._note()[-1] + 1))

    @property
    def is_read_by_workers(self) -> bool:
        """Whether workers have begun the last pass."""
        return bool(self._note()[3])

    def join(
        self, key: int, worker_id: int, num_workers: int, per_pass: int, *, epoch: int | None = None,
        has_peers: bool = False, is_first: bool = False,
    ) -> tuple[int, int]:  # fmt: skip
        """Begin a pass in a worker: its first epoch, and the mark that is to be noted at its end, 0 for none.

        Args:
            epoch: what it is, where a state says so.
            has_peers: others count on it that the pass before was read to its end.
            is_first: the first pass of this worker: if an epoch was set since it was started, it comes too late.

        Raises:
            RequestError: it was not.
        """
        before = self._note()
        found = self._following(before, per_pass) if epoch is None else epoch
        noted = self._note()  # after the ends: a faster worker notes its pass before its end
        if noted[0] == key and self._joined(worker_id) != _mark(noted):
            return noted[1], self._note_joined(worker_id, noted)
        if is_first and int(self._values[6]) != self._num_begun:
            return found, 0
        if has_peers and epoch is None and before[3] and found == before[1]:
            raise abandoned()
        own = key, found, num_workers, 1, before[-1] + 1
        self._write(own)
        return found, self._note_joined(worker_id, own)

    def start(self, loader: Loader, epoch: int) -> State:
        """The state at which a pass begins."""
        is_resumed, first_epoch, *place = self._values[:5].tolist()
        here, consumed, step = place if is_resumed and first_epoch == epoch else (epoch, 0, 0)
        return loader.own_state(first_epoch=epoch, epoch=here, consumed=consumed, step=step)

    def end(self, worker_id: int, mark: int) -> None:
        """Note that a worker has nothing left to hand out of a pass."""
        if mark and worker_id < _NUM_WORKERS:
            self._values[_HEAD + 2 * _NOTE + worker_id] = mark

    def has_ended(self, worker_id: int) -> bool:
        """Whether a worker has nothing left to hand out of the pass that was begun last."""
        note = self._note()
        return bool(note[3] and self._end_of(worker_id) == _mark(note))

    def _following(self, note: _Note, per_pass: int) -> int:
        """First epoch of the pass behind the one of a note."""
        _, epoch, num_workers, is_begun, _ = note
        ends = self._values[_HEAD + 2 * _NOTE :][: min(num_workers, _NUM_WORKERS)]
        return epoch + per_pass if is_begun and bool((ends == _mark(note)).all()) else epoch

    def _end_of(self, worker_id: int) -> int | None:
        return int(self._values[_HEAD + 2 * _NOTE + worker_id]) if worker_id < _NUM_WORKERS else None

    def _joined(self, worker_id: int) -> int | None:
        """The mark of the pass that a worker with this number began last."""
        return int(self._values[_HEAD + 2 * _NOTE + _NUM_WORKERS + worker_id]) if worker_id < _NUM_WORKERS else None

    def _note_joined(self, worker_id: int, note: _Note) -> int:
        mark = _mark(note)
        if worker_id < _NUM_WORKERS:
            self._values[_HEAD + 2 * _NOTE + _NUM_WORKERS + worker_id] = mark
        return mark

    def _note(self) -> _Note:
        place = _HEAD + _NOTE * int(self._values[5])
        key, epoch, num_workers, is_begun, number = self._values[place : place + _NOTE].tolist()
        return key, epoch, num_workers, is_begun, number

    def _write(self, note: _Note) -> None:
        other = 1 - int(self._values[5])
        place = _HEAD + _NOTE * other
        self._values[place : place + _NOTE] = note
        self._values[5] = other


def _mark(note: _Note) -> int:
    """What stands for a pass, and for no other, where a worker notes its end."""
    return (note[0] + note[-1] * _ODD) % (1 << 64) or 1


class WorkerSteps(Iterator[Any]):
    """What one worker hands out in one pass: batches as the loader has them.

    Args:
        start: the state at which the pass begins, for all workers.
        next_step: the step that this worker hands out next, counted from there.
    """

    def __init__(
        self,
        loader: Loader,
        shared: SharedPlace,
        mark: int,
        start: State,
        *,
        worker_id: int,
        num_workers: int,
        next_step: int,
    ) -> None:
        self._loader, self._shared, self._mark, self._start = loader, shared, mark, start
        self._worker_id, self._num_workers, self._next_step = worker_id, num_workers, next_step
        repeats, passes = loader.recipe.repeats, loader.passes
        assert repeats is not None and passes is not None  # `TorchBatches` refuses what has no end
        span = loader.span(consumed=start.consumed, first_step=start.step or 0)
        assert span.num_steps is not None
        self._num_first = span.num_steps - span.first_step  # steps of the epochs that the start lies in
        later = passes - 1 - (start.epoch - start.first_epoch) // max(1, repeats)
        self._num_steps = self._num_first + max(0, later) * (loader.span_steps() or 0)
        self._note()

    @classmethod
    def begin(
        cls, loader: Loader, shared: SharedPlace, key: int, worker_id: int, num_workers: int, *, is_first: bool
    ) -> WorkerSteps:
        """The next pass, of all workers that have a key in common."""
        epoch, mark = shared.join(
            key, worker_id, num_workers, loader.epochs_of_pass or 1, has_peers=loader.has_peers, is_first=is_first
        )  # fmt: skip
        start = shared.start(loader, epoch)
        return cls(loader, shared, mark, start, worker_id=worker_id, num_workers=num_workers, next_step=worker_id)

    @classmethod
    def resume(
        cls, loader: Loader, shared: SharedPlace, key: int, state: Any, worker_id: int, num_workers: int
    ) -> WorkerSteps:
        """The rest of a pass, from what `state_dict` gave in the same worker of as many.

        Raises:
            StateError: it is the state of something else, or of another worker.
        """
        if not isinstance(state, Mapping) or any(type(state.get(name)) is not int for name in _OWN_KEYS):
            raise StateError(
                f"worker {worker_id} is given a state that is none of a worker",
                advice="Load what StatefulDataLoader.state_dict() gave, with as many workers",
            )
        own = [state[name] for name in _OWN_KEYS]
        if own[:2] != [worker_id, num_workers] or own[2] < 0 or own[2] % num_workers != worker_id:
            raise StateError(
                f"the state is that of worker {own[0]} of {own[1]}, before step {own[2]}; this is worker {worker_id} "
                f"of {num_workers}",
                advice="Load it with as many workers; or keep the state of loader.to_torch() read with num_workers=0, "
                "which any number of processes takes",
            )
        loader.load_state_dict({name: value for name, value in state.items() if name not in _OWN_KEYS})
        start = loader.place.resumed
        assert start is not None
        _, mark = shared.join(key, worker_id, num_workers, loader.epochs_of_pass or 1, epoch=start.first_epoch)
        return cls(loader, shared, mark, start, worker_id=worker_id, num_workers=num_workers, next_step=own[2])

    def __next__(self) -> Any:
        step = self._next_step
        if step >= self._num_steps:
            raise StopIteration
        loader, start = self._loader, self._start
        if step < self._num_first:
            batch = loader.at(step + (start.step or 0), start.epoch, start.consumed)
        else:
            batch = loader.at(step - self._num_first, start.epoch + (loader.recipe.repeats or 1))
        self._next_step += self._num_workers
        self._note()
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Where this worker stands; JSON."""
        own = zip(_OWN_KEYS, (self._worker_id, self._num_workers, self._next_step), strict=True)
        return {**check_size(self._start), **dict(own)}

    def _note(self) -> None:
        """Tell the others once this worker has nothing left."""
        if self._next_step >= self._num_steps:
            self._shared.end(self._worker_id, self._mark)
