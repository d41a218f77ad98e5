"""PyTorch: records as a map-style `Dataset`, batches as an `IterableDataset` of tensors.

    DataLoader(ds.to_torch(), batch_size=256, sampler=...)            records, gathered many at a time
    DataLoader(loader.to_torch(), batch_size=None)                    batches, decoded on threads of ours

Arrays become tensors without a copy. Batches are made in the process that iterates; in workers of a DataLoader each
takes every n-th step, one batch at a time: with none (`num_workers=0`) they are decoded ahead, on threads.

Spec: spec/adapters.md, section 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset as MapDataset
from torch.utils.data import IterableDataset, get_worker_info

from recordio.adapters.leaves import dense, map_leaves
from recordio.batches import Batches
from recordio.dataset import Dataset
from recordio.distributed.dataset import DistributedDataset
from recordio.distributed.values import PerReplica
from recordio.errors import RequestError
from recordio.values.ragged import Ragged


def to_torch(source: Any) -> TorchRecords | TorchBatches:
    """Records of a data set by number, or the batches of a loader or of the part of one that is distributed.

    Raises:
        RequestError: distributed to more than one replica on this pipeline. TypeError: nothing of ours.
    """
    if isinstance(source, Dataset):
        return TorchRecords(source)
    if isinstance(source, DistributedDataset) and source.context.num_local_replicas > 1:
        raise RequestError(
            f"{source.context.num_local_replicas} replicas share this input pipeline, and each torch process is one",
            advice="Make every process a pipeline: InputContext(world_size, rank, world_size)",
        )
    if isinstance(source, Batches | DistributedDataset):
        return TorchBatches(source)
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

    def __init__(self, loader: Batches | DistributedDataset) -> None:
        self.loader = loader
        # Workers are copies of this one, and begin an epoch together: what they count must be in one place.
        self._epoch = torch.full((1,), loader.loader.place.following, dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.loader)

    def set_epoch(self, epoch: int) -> None:
        """Make `epoch` the one that comes next, in all workers."""
        self.loader.set_epoch(epoch)
        self._epoch[0] = epoch

    def state_dict(self) -> dict[str, Any]:
        """Where reading stands, in the process that iterates (num_workers=0); as `Batches.state_dict`."""
        return self.loader.state_dict()

    def load_state_dict(self, states: Any) -> None:
        """Go on from a state, with any number of processes; as `Batches.load_state_dict`."""
        self.loader.load_state_dict(states)
        self._epoch[0] = self.loader.loader.place.following

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        if worker is None:
            for batch in self.loader:
                yield map_leaves(batch, tensor)
            self._epoch[0] = self.loader.loader.place.following
            return
        epoch, steps = int(self._epoch[0]), self.loader.loader.num_steps()
        if steps is None:
            raise RequestError(
                "workers of a DataLoader cannot share a data set that repeats without an end",
                advice="Leave repeat() out, or read it with num_workers=0",
            )
        for step in range(worker.id, steps, worker.num_workers):
            yield map_leaves(self.loader.loader.at(step, epoch), tensor)
        if worker.id == 0:
            self._epoch[0] = epoch + (self.loader.loader.epochs_of_pass or 1)


def tensor(value: Any) -> Any:
    """A leaf as torch has it: a tensor that shares the array's memory, text and objects as a list.

    Raises:
        RequestError: rows differ in size, or some are missing.
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
    return found.tolist() if found.dtype == object else torch.from_numpy(found)
