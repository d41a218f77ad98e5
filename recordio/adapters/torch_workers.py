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

from recordio.errors import StateError
from recordio.loading.loader import Loader
from recordio.plan.mixing import Array
from recordio.plan.state import State, check_size

# Workers whose end is waited for before the next epoch begins; of more of them, those beyond are not waited for.
_NUM_SLOTS = 256
_OWN_KEYS = ("worker", "num_workers", "next_step")


class SharedPlace:
    """The epoch of the pass that comes next, and where in it that begins; the same for all copies of a data set.

    Every worker moves its own slots on, so that none needs a lock, and none that is late begins an epoch too far.
    """

    def __init__(self, epoch: int, state: State | None) -> None:
        self._memory = torch.zeros(5 + _NUM_SLOTS, dtype=torch.int64).share_memory_()
        self.begin(epoch, state)

    @property
    def _values(self) -> Array:
        found: Array = self._memory.numpy().view(np.uint64)
        return found

    @property
    def epoch(self) -> int:
        """First epoch of the pass that comes next."""
        return int(self._values[5:].min())

    def begin(self, epoch: int, state: State | None) -> None:
        """Begin with an epoch, or go on from a state of it."""
        if state is not None:
            epoch = state.first_epoch
            self._values[1:5] = epoch, state.epoch, state.consumed, state.step or 0
        self._values[0] = state is not None
        self._values[5:] = epoch

    def start(self, loader: Loader) -> State:
        """The state at which the next pass begins."""
        epoch = self.epoch
        is_resumed, first_epoch, *place = self._values[:5].tolist()
        here, consumed, step = place if is_resumed and first_epoch == epoch else (epoch, 0, 0)
        return loader.own_state(first_epoch=epoch, epoch=here, consumed=consumed, step=step)

    def move(self, worker_id: int, num_workers: int, epoch: int) -> None:
        """Note the epoch that a worker begins next."""
        # All slots are somebody's, so that the number of workers may be another one in the next pass.
        self._values[5 + worker_id :: num_workers] = epoch


class WorkerSteps(Iterator[Any]):
    """What one worker hands out in one pass: batches as the loader has them.

    Args:
        start: the state at which the pass begins, for all workers.
        next_step: the step that this worker hands out next, counted from there.
    """

    def __init__(
        self, loader: Loader, shared: SharedPlace, start: State, *, worker_id: int, num_workers: int, next_step: int
    ) -> None:
        self._loader, self._shared, self._start = loader, shared, start
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
    def begin(cls, loader: Loader, shared: SharedPlace, worker_id: int, num_workers: int) -> WorkerSteps:
        """The next pass."""
        return cls(
            loader, shared, shared.start(loader), worker_id=worker_id, num_workers=num_workers, next_step=worker_id
        )

    @classmethod
    def resume(
        cls, loader: Loader, shared: SharedPlace, state: Any, worker_id: int, num_workers: int
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
        return cls(loader, shared, start, worker_id=worker_id, num_workers=num_workers, next_step=own[2])

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
        """Tell the others which epoch this worker begins next: the one after this pass, once it has nothing left."""
        epoch = self._start.first_epoch
        if self._next_step >= self._num_steps:
            epoch += self._loader.epochs_of_pass or 1
        self._shared.move(self._worker_id, self._num_workers, epoch)

