"""Grain: records as a `RandomAccessDataSource`, to be shuffled, sharded, batched and resumed by Grain itself.

Spec: spec/adapters.md, section 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, SupportsIndex

from recordio.adapters.leaves import map_leaves
from recordio.dataset import Dataset
from recordio.errors import RequestError
from recordio.plan.view import view_digest


def to_grain(dataset: Any) -> GrainSource:
    """Records by number; safe from many threads, and in workers.

    Raises:
        RequestError: batched, which Grain does itself. TypeError: nothing of ours.
    """
    if not isinstance(dataset, Dataset):
        if hasattr(dataset, "batch_size"):
            raise RequestError("Grain takes records, and batches them itself", advice="Leave batch out: ds.to_grain()")
        raise TypeError(f"to_grain takes a recordio data set, not {type(dataset).__name__}")
    return GrainSource(dataset)


class GrainSource:
    """`__len__`, `__getitem__`, `__getitems__`, and a repr that names the data, as Grain's checkpoints compare it.

    Safe from many threads, and picklable: a worker opens the files anew.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._name = _name(dataset)  # made once: a copy in a worker has the same

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: SupportsIndex) -> Any:
        return self._dataset[index]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Records that are read together."""
        if not len(indices):
            return []
        batch = self._dataset[list(indices)]
        return [map_leaves(batch, itemgetter(row)) for row in range(len(indices))]

    # Grain's own name for it: SupportsBatchedReadRandomAccessDataSource.
    _getitems = __getitems__

    def __repr__(self) -> str:
        return self._name


def _name(dataset: Dataset) -> str:
    """What tells these records, in this order, from others."""
    recipe, numbers = dataset.recipe, dataset.record_numbers
    parts = [dataset.fingerprint, f"{len(dataset)} records"]
    is_whole = isinstance(numbers, range) and numbers == range(recipe.reader.num_records)
    if recipe.after is not None or not is_whole:
        parts.append(f"view {view_digest(recipe.view, recipe.after)}")
    if recipe.shuffle is not None:
        parts.append(f"shuffled by {recipe.shuffle.seed}, {recipe.shuffle.mode}, {recipe.shuffle.pool}")
    return f"recordio.Dataset({', '.join(parts)})"
