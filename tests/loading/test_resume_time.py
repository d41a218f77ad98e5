"""Resuming costs the same at the beginning and at the end of an epoch: a position is a count, nothing is replayed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from tests.laws.data_sets import fresh_directory

NUM_RECORDS = 10_000_000
ROUNDS = 15


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    """Ten million records in 16 shards."""
    with fresh_directory() as directory:
        source = recordio.from_tensor_slices({"id": np.arange(NUM_RECORDS)})
        recordio.convert(source, directory / "set", num_shards=16, chunk_size=256 << 10, level=1)
        yield directory / "set"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("arguments", [{"mode": "pooled", "pool": 500_000}, {"mode": "exact"}, None])
def test_the_first_batch_comes_as_soon_wherever_reading_resumes(path: Path, arguments: Any) -> None:
    """At 1 %, 50 % and 99 % of an epoch of 10 million records: within a factor 2 of each other, in the median."""
    state: Any = None
    taken: dict[float, list[float]] = {0.01: [], 0.5: [], 0.99: []}
    for _ in range(ROUNDS):
        for part, times in taken.items():
            dataset = recordio.open(path)
            loader = (dataset if arguments is None else dataset.shuffle(seed=1, **arguments)).batch(256)
            state = {**loader.state_dict(), "consumed": int(part * NUM_RECORDS)}
            loader.load_state_dict(state)
            started = time.perf_counter()
            iterator = iter(loader)
            batch = next(iterator)
            times.append(time.perf_counter() - started)
            assert len(batch["id"]) == 256
            assert iterator.steps_left == -(-(NUM_RECORDS - state["consumed"]) // 256) - 1
            iterator.close()
    medians = [sorted(times)[ROUNDS // 2] for times in taken.values()]
    assert max(medians) < 2 * min(medians), medians
