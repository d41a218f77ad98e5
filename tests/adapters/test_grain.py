"""Grain reads records by number, and shuffles, shards and batches them itself (spec/adapters.md, section 6)."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

import recordio

grain = pytest.importorskip("grain.python")

from absl import flags  # noqa: E402  comes with Grain


@pytest.fixture
def path(tmp_path: Path) -> Path:
    records = {"id": np.arange(101), "image": np.ones((101, 3), np.uint8)}
    recordio.convert(recordio.from_tensor_slices(records), tmp_path / "set", num_shards=2, chunk_size=256)
    return tmp_path / "set"


@pytest.mark.parametrize("num_workers", [0, 2])
def test_grain_reads_every_record_once(path: Path, num_workers: int) -> None:
    """Shuffled, batched and in workers."""
    flags.FLAGS.mark_as_parsed()  # Grain's workers ask for flags, which a program of absl has parsed
    source = recordio.open(path).to_grain()
    loader = grain.DataLoader(
        data_source=source, worker_count=num_workers, operations=[grain.Batch(8)],
        sampler=grain.IndexSampler(len(source), shard_options=grain.NoSharding(), shuffle=True, num_epochs=1, seed=3),
    )  # fmt: skip
    seen = [number for batch in loader for number in batch["id"].tolist()]
    assert sorted(seen) == list(range(101))


def test_a_map_dataset_batches_by_the_batched_call(path: Path) -> None:
    """`MapDataset.source` takes it, too."""
    dataset = grain.MapDataset.source(recordio.open(path).to_grain()).shuffle(seed=1).batch(10)
    assert sorted(number for batch in dataset for number in batch["id"].tolist()) == list(range(101))


def test_a_source_is_a_value(path: Path) -> None:
    """Picklable, with a repr that says which data; records that are read together are those read one by one."""
    source = recordio.open(path).to_grain()
    again = pickle.loads(pickle.dumps(source))
    assert repr(again) == repr(source) and recordio.open(path).fingerprint in repr(source)
    assert [one["id"] for one in again.__getitems__([5, 3, 5])] == [5, 3, 5] == [source[n]["id"] for n in (5, 3, 5)]
    assert again.__getitems__([]) == []
