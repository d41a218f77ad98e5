"""Grain: records, or batches, as a `RandomAccessDataSource`, to be shuffled, sharded and resumed by Grain itself.

    grain.MapDataset.source(ds.to_grain()).shuffle(seed=0).batch(256)             records, which Grain batches
    grain.MapDataset.source(ds.shuffle(seed=0).batch(256).to_grain())             batches, each read at once:
        .to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=16))     they need no 16 threads

Spec: spec/adapters.md, section 6.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, SupportsIndex

from recordio.adapters.leaves import check_epochless, map_leaves
from recordio.batches import Batches
from recordio.dataset import Dataset
from recordio.errors import RequestError
from recordio.loading.recipe import Recipe
from recordio.plan.view import view_digest


def to_grain(source: Any) -> GrainSource | GrainBatches:
    """Records by number, or batches; safe from many threads, and in workers.

    Raises:
        RequestError: batches without an end, or behind a state; records that follow the epoch. TypeError: nothing of
            ours.
    """
    if isinstance(source, Dataset):
        check_epochless(source.recipe, "Grain", "grain.MapDataset.source(ds.to_grain()).shuffle(seed=0)")
        return GrainSource(source)
    if isinstance(source, Batches):
        return GrainBatches(source)
    raise TypeError(f"to_grain takes a recordio data set, or batches of one, not {type(source).__name__}")


class GrainSource:
    """`__len__`, `__getitem__`, `__getitems__`, and a repr that names the data, as Grain's checkpoints compare it.

    Safe from many threads, and picklable: a worker opens the files anew.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        # Made once: a copy in a worker has the same.
        self._name = f"recordio.Dataset({', '.join([f'{len(dataset)} records', *_name(dataset.recipe)])})"

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


class GrainBatches:
    """The batches of one pass, which begins at the epoch that the loader was at; with repeat(n), those of n epochs."""

    def __init__(self, loader: Batches) -> None:
        own, num_batches = loader.loader, loader.loader.num_steps()
        if num_batches is None:
            raise RequestError(
                "Grain takes data that ends, not batches that repeat without an end",
                advice="Say how many epochs: ds.shuffle(seed=0).batch(n).repeat(epochs).to_grain()",
            )
        if own.place.resumed is not None:
            raise RequestError(
                "the loader goes on from a state, and Grain keeps its own", advice="set_epoch(epoch) first"
            )
        self._loader, self._epoch, self._num_batches = own.copied(), own.place.following, num_batches
        parts = [
            f"{num_batches} batches of {loader.batch_size}", f"from epoch {self._epoch} on", *_name(loader.recipe),
            *([f"repeated {loader.passes} times"] if loader.passes != 1 else []),
        ]  # fmt: skip
        self._name = f"recordio.Batches({', '.join(parts)})"

    def __len__(self) -> int:
        return self._num_batches

    def __getitem__(self, index: SupportsIndex) -> Any:
        number = operator.index(index)
        number += len(self) if number < 0 else 0
        if not 0 <= number < len(self):
            raise IndexError(f"batch {operator.index(index)} of {len(self)} batches")
        return self._loader.at(number, self._epoch, holds=True)

    def __repr__(self) -> str:
        return self._name


def _name(recipe: Recipe) -> list[str]:
    """What tells these records, in this order, from others."""
    numbers = recipe.view.numbers
    parts = [recipe.reader.fingerprint.hex()]
    is_whole = isinstance(numbers, range) and numbers == range(recipe.reader.num_records)
    if recipe.after is not None or not is_whole:
        parts.append(f"view {view_digest(recipe.view, recipe.after)}")
    if len(recipe.ordinals) < len(recipe.reader.schema.columns):
        parts.append(f"columns {', '.join(recipe.reader.schema.columns[ordinal].name for ordinal in recipe.ordinals)}")
    if recipe.shuffle is not None:
        changes = ", again each epoch" if recipe.shuffle.reshuffles else ""
        parts.append(f"shuffled by {recipe.shuffle.seed}, {recipe.shuffle.mode}, {recipe.shuffle.pool}{changes}")
    if recipe.repeats != 1:
        parts.append(f"{recipe.repeats} epochs in one")
    if recipe.maps:
        parts.append(f"mapped by {', '.join(getattr(stage.fn, '__qualname__', 'a function') for stage in recipe.maps)}")
    return parts
