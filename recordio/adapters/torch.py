"""PyTorch: records as a map-style `Dataset`, batches as an `IterableDataset` of tensors.

    for batch in loader.to_torch(device="cuda"): ...                  batches, decoded on threads, copied ahead
    DataLoader(loader.to_torch(), batch_size=None)                    the same through a DataLoader
    DataLoader(ds.to_torch(), batch_size=256, shuffle=True)           records, gathered many at a time
    sampler = BatchSampler(loader)                                    records in our order, read by torch's workers
    DataLoader(sampler.records, batch_sampler=sampler, collate_fn=TorchRecords.collate, num_workers=2)

Arrays become tensors without a copy. Batches are made in the process that iterates; in workers of a DataLoader each
takes every n-th step, one batch at a time: with none (`num_workers=0`) they are decoded ahead, on threads.

Spec: spec/adapters.md, section 4.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset as MapDataset
from torch.utils.data import IterableDataset, Sampler, get_worker_info

from recordio.adapters.ahead import MovedPasses, buffer_size_of
from recordio.adapters.leaves import check_batched, check_epochless, dense, map_leaves
from recordio.adapters.torch_workers import SharedPlace, WorkerSteps, pass_key
from recordio.arguments import whole_number
from recordio.batches import Batches
from recordio.dataset import Dataset
from recordio.distributed.dataset import DistributedDataset
from recordio.distributed.values import PerReplica
from recordio.errors import RequestError
from recordio.loading.loader import abandoned
from recordio.plan.view import View
from recordio.spec import ML_DTYPES
from recordio.values.ragged import Ragged


def to_torch(
    source: Any, *, device: Any = None, pin_memory: bool = False, buffer_size: int | None = None
) -> TorchRecords | TorchBatches:
    """Records of a data set by number, or the batches of a loader or of the part of one that is distributed.

    Args:
        device: where the tensors of batches are put, a torch.device or its name ("cuda": the current one); on the host
            by default. The copy is
            begun and not waited for. In workers of a DataLoader tensors stay on the host.
        pin_memory: tensors are in page-locked memory, from which a copy to a GPU runs beside the training; always so
            where device is one.
        buffer_size: batches whose copy is begun before the one in front of them is handed out; 1 by default, or as the
            InputOptions of what is distributed say.

    Raises:
        RequestError: distributed to more than one replica on this pipeline; device or pin_memory of single records,
            which a DataLoader moves itself; or single records that follow the epoch. TypeError: nothing of ours.
    """
    if isinstance(source, Dataset):
        if device is not None or pin_memory or buffer_size is not None:
            raise RequestError(
                "single records are not moved ahead", advice="Batch first: ds.batch(n).to_torch(device=...)"
            )
        check_epochless(source.recipe, "a DataLoader", "DataLoader(ds.to_torch(), shuffle=True)")
        return TorchRecords(source)
    if isinstance(source, DistributedDataset) and source.context.num_local_replicas > 1:
        raise RequestError(
            f"{source.context.num_local_replicas} replicas share this input pipeline, and each torch process is one",
            advice="Make every process a pipeline: InputContext(world_size, rank, world_size)",
        )
    if isinstance(source, Batches | DistributedDataset):
        chosen = None if device is None else torch.device(device)
        if chosen is not None and chosen.type == "cuda" and chosen.index is None:
            chosen = torch.device("cuda", torch.cuda.current_device())  # whatever becomes the current one later
        return TorchBatches(
            source, device=chosen, pins=pin_memory,
            buffer_size=buffer_size_of(source, buffer_size),
        )  # fmt: skip
    raise TypeError(f"to_torch takes a recordio data set, not {type(source).__name__}")


class TorchRecords(MapDataset[Any]):  # type: ignore[misc]
    """Records by number, as tensors."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return map_leaves(self.dataset[index], tensor)

    def __getitems__(self, indices: Sequence[int]) -> GatheredRecords:
        """Records that were read together: a sequence of them for any collate function, and whole for `collate`."""
        return GatheredRecords(map_leaves(self.dataset[list(indices)], tensor), len(indices))

    @staticmethod
    def collate(records: GatheredRecords) -> Any:
        """The batch as it was read, for `DataLoader(collate_fn=)`: no record is taken apart and put together again."""
        return records.batch


class GatheredRecords(Sequence[Any]):
    """Records that lie in one batch, taken out of it one by one."""

    def __init__(self, batch: Any, num_records: int) -> None:
        self.batch, self._num_records = batch, num_records

    def __len__(self) -> int:
        return self._num_records

    def __getitem__(self, index: Any) -> Any:
        if not -self._num_records <= index < self._num_records:
            raise IndexError(index)
        return map_leaves(self.batch, lambda values: values[index])


class TorchBatches(IterableDataset[Any]):  # type: ignore[misc]
    """Batches as tensors; every iteration is the next epoch, in workers of a DataLoader, too."""

    def __init__(
        self, loader: Batches | DistributedDataset, *, device: Any = None, pins: bool = False, buffer_size: int = 1
    ) -> None:
        self.loader = loader
        self._device = device
        self._pins = (pins or (device is not None and device.type != "cpu")) and _can_pin(warn=pins)
        self._copies: _Copies | None = None  # made where the first batch is moved: a copy in a worker has none
        is_moved = device is not None or self._pins
        self._moved = MovedPasses(loader, self._move, buffer_size, self._arrive) if is_moved else None
        # Workers are copies of this one, and begin an epoch together: what they count must be in one place.
        place = loader.loader.place
        if isinstance(place.shared, SharedPlace):  # another adapter of this loader
            self._shared = place.shared
            if place.following > self._shared.epoch(loader.loader.epochs_of_pass or 1):
                self._shared.begin(place.following, None)
        else:
            self._shared = place.shared = SharedPlace.at(place.following, place.resumed)
        self._steps: WorkerSteps | None = None  # in a worker: of the pass that it has begun
        self._resumed: WorkerSteps | None = None  # in a worker: of the pass that comes next
        self._count = 0  # in a worker: passes that it has begun

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_copies": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.loader.loader.place.shared = self._shared

    def __len__(self) -> int:
        return len(self.loader)

    def set_epoch(self, epoch: int) -> None:
        """Make `epoch` the one that comes next, in all workers."""
        self._passes.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where reading stands, in the process that iterates.

        With num_workers=0 as `Batches.state_dict`. In a worker of a `StatefulDataLoader`: of this worker, for it alone.

        Raises:
            RequestError: workers of a DataLoader have read since the epoch or the state was set: they are ahead of the
                loop.
        """
        if self._steps is not None:
            return self._steps.state_dict()
        if get_worker_info() is None and self._shared.is_read_by_workers:
            raise RequestError(
                "workers of a DataLoader read ahead of the loop that trains, so that what they have read is no state "
                "of training",
                advice="Count the steps of the loop, and ask loader.state_after(state, steps): the state that is so "
                "many steps behind one that was taken before it; or use a StatefulDataLoader, or num_workers=0",
            )
        return self._passes.state_dict()

    def load_state_dict(self, states: Any) -> None:
        """Go on from a state, with any number of processes; as `Batches.load_state_dict`.

        In a worker of a `StatefulDataLoader`: from the state of the same worker of as many.
        """
        loader, worker = self.loader.loader, get_worker_info()
        if worker is not None:
            loader.place.shared = None  # it is this worker's state, not where all of them begin
            key = pass_key(self._count)
            self._resumed = WorkerSteps.resume(loader, self._shared, key, states, worker.id, worker.num_workers)
            return
        self._passes.load_state_dict(states)

    def __iter__(self) -> Iterator[Any]:
        loader, worker = self.loader.loader, get_worker_info()
        if worker is None:
            return self._in_this_process()
        if loader.num_steps() is None:
            raise RequestError(
                "workers of a DataLoader cannot share a data set that repeats without an end",
                advice="Leave repeat() out, or read it with num_workers=0",
            )
        if not self._count and loader.has_peers and loader.place.is_open:  # of the process that started this one
            raise abandoned()
        steps, self._resumed = self._resumed, None
        if steps is None:
            steps = WorkerSteps.begin(
                loader, self._shared, pass_key(self._count), worker.id, worker.num_workers, is_first=not self._count
            )
        self._count += 1
        self._steps = steps
        return (map_leaves(batch, tensor) for batch in steps)

    def _in_this_process(self) -> Iterator[Any]:
        place = self.loader.loader.place
        self._follow_workers()
        number = place.number + 1  # of the pass: set_epoch and load_state_dict end its say
        if self._moved is not None:
            try:
                yield from self._moved
            finally:
                if place.number == number and self._moved.is_over:
                    self._shared.begin(place.following, None)
            return
        steps = iter(self.loader)
        try:
            for batch in steps:
                yield map_leaves(batch, tensor)
        finally:
            # Who counts the steps leaves after the last one, and asks for no other: the pass is over all the same.
            if place.number == number and steps.steps_left == 0:
                next(steps, None)
                self._shared.begin(place.following, None)

    def _follow_workers(self) -> None:
        """Passes that workers have read are over, and one that they have not read to its end is begun again.

        Raises:
            RequestError: it was not, and other pipelines may be in another epoch.
        """
        place, shared = self.loader.loader.place, self._shared
        if not shared.is_read_by_workers:
            return
        epoch = shared.epoch(self.loader.loader.epochs_of_pass or 1)
        if epoch > place.following:
            self.set_epoch(epoch)
        elif self.loader.loader.has_peers:
            raise abandoned()
        else:
            shared.begin(place.following, place.resumed)

    @property
    def _passes(self) -> MovedPasses | Batches | DistributedDataset:
        return self.loader if self._moved is None else self._moved

    def _move(self, batch: Any) -> Any:
        if self._device is None or self._device.type != "cuda":
            return map_leaves(batch, self._move_leaf)
        if self._copies is None:
            self._copies = _Copies(self._device)
        return self._copies.begin(lambda: map_leaves(batch, self._move_leaf))

    def _arrive(self, moved: Any) -> Any:
        return moved if self._copies is None else self._copies.end(*moved)

    def _move_leaf(self, value: Any) -> Any:
        found = tensor(value)
        if not isinstance(found, torch.Tensor):
            return found
        if self._pins:
            found = found.pin_memory()
        return found if self._device is None else found.to(self._device, non_blocking=True)


class _Copies:
    """Copies to a CUDA device beside what it computes: on a stream of their own, which computing waits for.

    Source: https://docs.pytorch.org/docs/stable/notes/cuda.html, "CUDA streams".
    """

    def __init__(self, device: Any) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)

    def begin(self, copy: Callable[[], Any]) -> tuple[Any, Any]:
        """Begin a copy: what will be there, and the event that it is."""
        with torch.cuda.stream(self._stream):
            found = copy()
            done = torch.cuda.Event()
            done.record(self._stream)
        return found, done

    def end(self, found: Any, done: Any) -> Any:
        """What was copied, for what the current stream computes from now on."""
        current = torch.cuda.current_stream(self._device)
        current.wait_event(done)

        def noted(value: Any) -> Any:
            if isinstance(value, torch.Tensor):
                value.record_stream(current)  # its memory belongs to the other stream, and is not lent again before
            return value

        return map_leaves(found, noted)


class BatchSampler(Sampler[list[int]]):  # type: ignore[misc]
    """The record numbers of every batch, for the `batch_sampler` of a DataLoader: our order and our split, its workers.

    It goes on from a state that was loaded into the loader, if that stands between two batches.

    Args:
        loader: batched, and shuffled as it may be; or the part of one that is distributed.

    Raises:
        RequestError: distributed to more than one replica on this pipeline, endless, or with a map that is given a
            generator: a record that is read by its number does not know at which position of which epoch it is; or a
            state within a batch.
    """

    def __init__(self, loader: Batches | DistributedDataset) -> None:
        check_batched(
            loader, "BatchSampler", Batches, DistributedDataset, call="BatchSampler(ds.batch(batch_size))"
        )
        self._loader = loader.loader
        recipe = self._loader.recipe
        if self._loader.split.num_slots > 1:
            raise RequestError("several replicas share this input pipeline, and a DataLoader feeds one")
        if self._loader.num_steps() is None:
            raise RequestError("a DataLoader takes epochs, not a data set that repeats without an end")
        if any(stage.rng for stage in recipe.maps):
            raise RequestError("a map with rng=True of single records", advice="Map in a data set of your own")
        self._first_step = self._resumed_step()
        everything = View(range(recipe.reader.num_records))
        self._records = TorchRecords(Dataset(replace(recipe, view=everything, shuffle=None, after=None, repeats=1)))

    @property
    def records(self) -> TorchRecords:
        """What the numbers are of: every record of the data set."""
        return self._records

    def __len__(self) -> int:
        return (self._loader.num_steps() or 0) - self._first_step

    def set_epoch(self, epoch: int, first_step: int = 0) -> None:
        """Make `epoch` the one that comes next; the first steps of it are left out, where they were trained on before.

        Without it, every iteration is the next epoch.

        Raises:
            RequestError: there are less steps.
        """
        steps = self._loader.num_steps() or 0
        if whole_number("first_step", first_step, least=0) > steps:
            raise RequestError(f"first_step is {first_step}, of {steps} steps")
        self._loader.set_epoch(epoch)
        self._first_step = first_step

    def __iter__(self) -> Iterator[list[int]]:
        first, self._first_step = self._first_step, 0
        epoch = self._loader.place.following
        self._loader.set_epoch(epoch + (self._loader.epochs_of_pass or 1))
        for step in range(first, self._loader.num_steps() or 0):
            yield self._loader.numbers_at(step, epoch).tolist()

    def _resumed_step(self) -> int:
        """The step of a pass at which the loader stands; it begins there no more."""
        state, loader = self._loader.place.resumed, self._loader
        if state is None:
            return 0
        step, rest = (state.step, 0) if state.step is not None else divmod(state.consumed, loader.split.batch_size)
        if rest:
            raise RequestError(
                f"the state stands {rest} records behind a batch of {loader.split.batch_size}",
                advice="Sample batches of the size that they had when it was saved",
            )
        spans = (state.epoch - state.first_epoch) // (loader.recipe.repeats or 1)
        loader.set_epoch(state.first_epoch)
        return spans * (loader.span_steps() or 0) + step


def _can_pin(*, warn: bool) -> bool:
    if getattr(torch, "accelerator", torch.cuda).is_available():  # older ones know of CUDA alone
        return True
    if warn:
        warnings.warn("pin_memory without an accelerator: tensors stay where they are", UserWarning, stacklevel=4)
    return False


def tensor(value: Any) -> Any:
    """A leaf as torch has it: a tensor that shares the array's memory, text and objects as a list.

    Raises:
        RequestError: rows differ in size, or some are missing; or torch has no such type.
    """
    if isinstance(value, PerReplica):
        return tensor(value.values[0])
    if isinstance(value, Ragged) and value.dtype in ("str", "bytes"):
        return value.to_list()
    if isinstance(value, np.generic):
        value = np.array(value)
    if not isinstance(value, Ragged | np.ndarray):
        return value  # of a single record: text, an object, or nothing
    found = dense(value)
    if found.dtype == object:
        return found.tolist()
    name = found.dtype.name
    if name not in ML_DTYPES:
        return torch.from_numpy(found)
    own = getattr(torch, name, None)  # torch gives the names of ml_dtypes to what numpy lacks
    if own is None:
        raise RequestError(
            f"torch has no {name}", advice="Leave the column out: ds.select_columns(names); or cast it: ds.map(fn)"
        )
    return torch.from_numpy(found.view(np.dtype(f"int{8 * found.itemsize}"))).view(own)
