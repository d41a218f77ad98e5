"""Views without files: tapes from the sizes of their chunks, and hypothesis strategies for them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from recordio.plan.tape import Tape


def tape_of(shards: Sequence[Sequence[int]]) -> Tape:
    """The tape of shards, each a list of the rows that its chunks hold; chunks without a row are left out."""
    entries = []
    row = 0
    for shard, chunks in enumerate(shards):
        for chunk, count in enumerate(chunks):
            if count:
                entries.append((shard, chunk, row, count))
                row += count
    columns = np.array(entries, np.int64).reshape(-1, 4).T
    return Tape(shards=columns[0], chunks=columns[1], starts=columns[2], counts=columns[3])


def shapes(max_shards: int = 8, max_chunks: int = 5, max_rows: int = 9) -> st.SearchStrategy[list[list[int]]]:
    """Shards of any sizes, 0 and 1 among them."""
    return st.lists(
        st.lists(st.integers(0, max_rows), max_size=max_chunks), min_size=1, max_size=max_shards
    ).filter(lambda shards: any(map(sum, shards)))
