"""Data sets in memory whose records lie in shards and chunks of any sizes, 0 and 1 among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recordio.columns import Array, ColumnValues
from recordio.dataset import Dataset
from recordio.loading.recipe import Recipe
from recordio.memory import MemoryReader
from recordio.plan.view import View
from recordio.schema import Schema
from recordio.spec import TensorSpec

SCHEMA = Schema.from_signature({"id": TensorSpec((), "int64")})


@dataclass(frozen=True)
class LaidOutReader(MemoryReader):
    """Memory that says of itself that it lies in files."""

    layout: tuple[tuple[int, ...], ...] = ()

    def chunk_table(self) -> tuple[Array, Array, Array]:
        """The layout; empty chunks are there, as empty shards are on disk."""
        places = [(shard, chunk, size) for shard, chunks in enumerate(self.layout) for chunk, size in enumerate(chunks)]
        shards, chunks, sizes = np.array(places, np.int64).reshape(-1, 3).T
        return shards, chunks, np.cumsum(sizes)


def laid_out(shards: Sequence[Sequence[int]]) -> Dataset:
    """Records numbered through in their column "id"."""
    total = sum(map(sum, shards))
    columns = [ColumnValues(total, np.arange(total))]
    reader = LaidOutReader(SCHEMA, columns, total, layout=tuple(map(tuple, shards)))
    return Dataset(Recipe(reader=reader, view=View(range(total)), schema=SCHEMA, ordinals=(0,)))
