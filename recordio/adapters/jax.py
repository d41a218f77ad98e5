"""JAX: batches as global arrays, each process reading the part that its devices hold.

    mesh = jax.make_mesh((8,), ("data",))
    for batch in loader.to_jax(NamedSharding(mesh, PartitionSpec("data"))): ...

Which rows of a batch a process needs follows from the sharding: processes that hold the same rows (a model-parallel
mesh) read the same, others read other parts. Shapes are the same at every step and on every process.

Spec: spec/adapters.md, section 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from recordio.adapters.ahead import MovedPasses, buffer_size_of
from recordio.adapters.leaves import check_batched, dense, map_leaves
from recordio.batches import Batches
from recordio.distributed.context import InputContext
from recordio.distributed.dataset import DistributedDataset, distribute
from recordio.distributed.values import experimental_local_results
from recordio.errors import RequestError


def to_jax(
    loader: Any, sharding: Any = None, *, remainder: str = "pad", buffer_size: int | None = None
) -> JaxBatches:
    """Batches of `jax.Array`.

    Args:
        loader: batched by the size of a global batch, which the sharding divides.
        sharding: of every array; its first axis is that of the batch. Or one device; by default one of this process.
        remainder: "pad": a last batch that is short is filled up, and every step is (batch, mask). "drop": it is left
            out; the default after drop_remainder=True.
        buffer_size: batches whose way to the devices is begun before the one in front of them is handed out; 1 by
            default.

    Raises:
        RequestError: not batched, or a size that the sharding does not divide. Text, and integers that do not fit into
            the 32 bits that JAX has by default, with their batch. TypeError: no sharding.
    """
    if isinstance(loader, DistributedDataset):
        raise RequestError(
            "which part of a batch a process reads follows from the sharding, and this is a part already",
            advice="Give it the whole batches: loader.to_jax(sharding)",
        )
    check_batched(loader, "to_jax", Batches)
    if sharding is None or isinstance(sharding, jax.Device):
        sharding = jax.sharding.SingleDeviceSharding(sharding or jax.local_devices()[0])
    if not isinstance(sharding, jax.sharding.Sharding):
        raise TypeError(
            f"to_jax takes a jax.sharding.Sharding or a device, not {type(sharding).__name__}: "
            "NamedSharding(mesh, PartitionSpec('data')) spreads a batch over that axis of a mesh"
        )
    if remainder not in ("pad", "drop"):
        raise RequestError(
            f"remainder is {remainder!r}: shapes would differ from step to step", advice="Use 'pad' or 'drop'"
        )
    remainder = "drop" if loader.drop_remainder else remainder
    if remainder == "drop" and loader.recipe.on_corrupt == "skip":
        raise RequestError(
            "a batch that lost a damaged record would have another shape",
            advice="Leave drop_remainder and remainder out: every step is (batch, mask) then",
        )
    return JaxBatches(loader, sharding, remainder, buffer_size_of(loader, buffer_size))


class JaxBatches:
    """One pass over the data set for every iteration; made by `to_jax`."""

    def __init__(self, loader: Batches, sharding: Any, remainder: str, buffer_size: int) -> None:
        self._sharding = sharding
        self._batch_size = loader.batch_size
        self._is_padded = remainder == "pad"
        context = part_of_process(sharding, loader.batch_size)
        self.dataset: DistributedDataset = distribute(loader, context, remainder=remainder)  # type: ignore[arg-type]
        self._passes = MovedPasses(self.dataset, self._move, buffer_size)

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._passes)

    def set_epoch(self, epoch: int) -> None:
        """Make `epoch` the one that comes next; on every process."""
        self._passes.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """As `DistributedDataset.state_dict`: the same on every process."""
        return self._passes.state_dict()

    def load_state_dict(self, states: Any) -> None:
        """As `DistributedDataset.load_state_dict`; the number of processes may be another."""
        self._passes.load_state_dict(states)

    def _move(self, step: Any) -> Any:
        (own,) = experimental_local_results(step)  # a pipeline feeds one replica
        batch, mask = own if self._is_padded else (own, None)
        local: list[np.ndarray[Any, Any]] = []
        map_leaves(batch, lambda value: local.append(_numeric(value)))
        if mask is not None:
            local.append(mask)
        arrays = iter(self._on_devices(local))
        moved = map_leaves(batch, lambda _: next(arrays))
        return moved if mask is None else (moved, next(arrays))

    def _on_devices(self, local: list[np.ndarray[Any, Any]]) -> list[jax.Array]:
        if self._sharding.is_fully_addressable:  # all rows are ours; many arrays take little longer than one
            moved: list[jax.Array] = jax.device_put(local, self._sharding)
            return moved
        return [
            jax.make_array_from_process_local_data(self._sharding, one, (self._batch_size, *one.shape[1:]))
            for one in local
        ]


def part_of_process(sharding: Any, batch_size: int) -> InputContext:
    """Which part of every batch this process reads: the rows that its devices hold.

    Raises:
        RequestError: the sharding does not divide a batch, or gives processes parts that are not equal.
    """
    rows: dict[int, set[tuple[int, int]]] = {}
    try:
        places = sharding.devices_indices_map((batch_size,))
    except (ValueError, IndexError) as error:  # JAX's own, for a size and for a rank
        raise RequestError(
            f"the sharding does not fit batches of {batch_size}: {error}",
            advice="It is of the first axis alone, PartitionSpec('data'), and divides the batch size",
        ) from None
    for device, (part,) in places.items():
        start, stop, _ = part.indices(batch_size)
        rows.setdefault(device.process_index, set()).add((start, stop))
    spans = {process: (min(parts)[0], max(stop for _, stop in parts)) for process, parts in rows.items()}
    own = spans.get(jax.process_index())
    if own is None:
        raise RequestError("no device of this process is in the sharding")
    different = sorted(set(spans.values()))
    sizes = {stop - start for start, stop in different}
    if len(sizes) > 1 or sum(stop - start for start, stop in different) != batch_size:
        raise RequestError(
            f"processes hold the rows {different} of a batch, which are no equal parts of it",
            advice="Order the devices of the mesh so that those of a process are neighbours along the batch axis",
        )
    return InputContext(len(different), different.index(own), len(different))


def _numeric(value: Any) -> np.ndarray[Any, Any]:
    found = dense(value)
    if found.dtype == object:
        raise RequestError(
            "text is nothing that a device holds", advice="Leave it out: ds.select_columns(names)"
        )
    narrow = jax.dtypes.canonicalize_dtype(found.dtype)
    if narrow.itemsize < found.itemsize and found.dtype.kind in "iu" and found.size:
        least, most, limits = int(found.min()), int(found.max()), np.iinfo(narrow)
        if least < limits.min or most > limits.max:
            raise RequestError(
                f"{least if least < limits.min else most} is no {narrow}, which JAX makes of {found.dtype}",
                advice='Let it have 64 bits: jax.config.update("jax_enable_x64", True)',
            )
    return found
