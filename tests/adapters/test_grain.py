"""Grain reads records by number, and shuffles, shards, batches and resumes by itself (spec/adapters.md, section 6)."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from tests.laws.data_sets import damage_shard, fresh_directory, scribble

grain = pytest.importorskip("grain.python")

from absl import flags  # noqa: E402  comes with Grain

NUM_RECORDS = 102  # divided by 1, 2 and 3: see `loader`


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    records = {
        "id": np.arange(NUM_RECORDS),
        "image": np.arange(NUM_RECORDS * 3, dtype=np.uint16).reshape(-1, 3),
    }
    with fresh_directory() as directory:
        recordio.convert(recordio.from_tensor_slices(records), directory / "set", num_shards=2, chunk_size=256)
        yield directory / "set"


@pytest.fixture(autouse=True)
def _parsed_flags() -> None:
    flags.FLAGS.mark_as_parsed()  # Grain's workers ask for flags, which a program of absl has parsed


def ids(batches: Iterable[Any]) -> list[int]:
    return [number for batch in batches for number in batch["id"].tolist()]


def loader(path: Path, num_workers: int, shard: int = 0, num_shards: int = 1) -> Any:
    """One shuffled epoch. Grain's DataLoader leaves records out where shards differ in size: it takes N // shards."""
    source = recordio.open(path).to_grain()
    sampler = grain.IndexSampler(
        len(source), shard_options=grain.ShardOptions(shard, num_shards), shuffle=True, num_epochs=1, seed=3
    )
    return grain.DataLoader(
        data_source=source, sampler=sampler, operations=[grain.Batch(8)], worker_count=num_workers
    )


def prefetched(path: Path, num_workers: int) -> Any:
    """The same by Grain's other interface."""
    dataset = grain.MapDataset.source(recordio.open(path).to_grain()).shuffle(seed=3).batch(8).to_iter_dataset()
    return dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=num_workers)) if num_workers else dataset


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("make", [loader, prefetched])
def test_grain_resumes_in_the_middle_of_an_epoch(path: Path, make: Any, num_workers: int) -> None:
    """Shuffled, batched, in worker processes: what comes after set_state is the rest, in order, and nothing else."""
    iterator = iter(make(path, num_workers))
    seen = ids(next(iterator) for _ in range(5))
    state = iterator.get_state()
    rest = ids(iterator)
    assert sorted(seen + rest) == list(range(NUM_RECORDS)) and seen + rest != sorted(seen + rest)
    again = iter(make(path, num_workers))
    again.set_state(state)
    assert ids(again) == rest


@pytest.mark.parametrize(("world_size", "num_workers"), [(1, 0), (2, 0), (3, 0), (2, 2)])
def test_shards_are_together_all_records(path: Path, world_size: int, num_workers: int) -> None:
    """Every record once, each shard its own."""
    parts = [ids(loader(path, num_workers, shard, world_size)) for shard in range(world_size)]
    assert sorted(number for part in parts for number in part) == list(range(NUM_RECORDS))
    assert {len(part) for part in parts} == {NUM_RECORDS // world_size}


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_slices_of_a_map_dataset_are_together_all_records(path: Path, world_size: int) -> None:
    """Also where world_size does not divide their number."""
    source = recordio.open(path)[1:].to_grain()
    parts = [
        ids(grain.MapDataset.source(source).shuffle(seed=1)[rank::world_size].batch(10)) for rank in range(world_size)
    ]
    assert sorted(number for part in parts for number in part) == list(range(1, NUM_RECORDS))


def test_another_data_set_is_refused_by_grain(path: Path, tmp_path: Path) -> None:
    """A state of Grain's names the source by its repr: other records, another view, another order."""
    state = iter(loader(path, 0)).get_state()
    recordio.convert(recordio.from_tensor_slices({"id": np.arange(NUM_RECORDS) + 1}), tmp_path / "other")
    with pytest.raises(ValueError, match="data source in checkpoint"):
        iter(loader(tmp_path / "other", 0)).set_state(state)
    ds = recordio.open(path)

    def shown() -> list[Any]:
        fixed = (ds.shuffle(seed=seed, reshuffle_each_iteration=False) for seed in (1, 2))
        batched = [ds.take(96).batch(10).repeat(2), ds.take(96).repeat(2).batch(10), ds.shuffle(seed=1).batch(10)]
        return [
            ds, ds[:50], ds[50:100], ds.subset([3, 1, 4]), *fixed, ds.select_columns("id"), ds.repeat(2), ds.map(twice),
            *batched,
        ]  # fmt: skip

    names = [repr(one.to_grain()) for one in shown()]
    assert len(set(names)) == len(names) and all(ds.fingerprint in name for name in names)
    assert [repr(one.to_grain()) for one in shown()] == names


def twice(record: Any) -> Any:
    return {name: value * 2 for name, value in record.items()}


def test_records_that_follow_the_epoch_are_refused(path: Path) -> None:
    """Grain asks for numbers, of no epoch."""
    ds = recordio.open(path)
    with pytest.raises(recordio.RequestError, match="Grain does not say which"):
        ds.shuffle(seed=1).to_grain()
    with pytest.raises(recordio.RequestError, match="map with rng=True"):
        ds.map(lambda record, rng: record, rng=True).to_grain()


def test_a_source_is_a_value(path: Path) -> None:
    """Picklable, with the same repr; records that are read together are those read one by one."""
    source = recordio.open(path).to_grain()
    again = pickle.loads(pickle.dumps(source))
    assert repr(again) == repr(source) == repr(recordio.open(path).to_grain())
    assert [one["id"] for one in again.__getitems__([5, 3, 5])] == [5, 3, 5] == [source[n]["id"] for n in (5, 3, 5)]
    assert again.__getitems__([]) == []


def test_grain_reads_many_records_at_a_time(path: Path) -> None:
    """By the name that Grain has for it: its own reading of many goes through one call of ours."""
    source = recordio.open(path).to_grain()
    calls: list[list[int]] = []

    class Spy(type(source)):  # type: ignore[misc]
        def _getitems(self, indices: Any) -> Any:
            calls.append(list(indices))
            return super()._getitems(indices)

    spy = Spy(recordio.open(path))
    found = grain.MapDataset.source(spy)._getitems([4, 2, 103])
    assert [one["id"] for one in found] == [4, 2, 1] and calls == [[4, 2, 1]]


def test_many_threads_read_the_same_source(path: Path) -> None:
    """Single records and many at a time, all right; what one scribbles over, no other sees, nor a later read."""
    source = recordio.open(path).to_grain()
    expected = [source[number]["image"].tolist() for number in range(NUM_RECORDS)]

    def read(thread: int) -> list[int]:
        wrong = []
        for turn in range(60):
            number = (thread * 7 + turn * 13) % NUM_RECORDS
            numbers = [number, (number + 50) % NUM_RECORDS, number]
            records = [source[number], *source.__getitems__(numbers)]
            for wanted, record in zip([number, *numbers], records, strict=True):
                if record["id"] != wanted or record["image"].tolist() != expected[wanted]:
                    wrong.append(wanted)
                record["image"][...] = 9
        return wrong

    with ThreadPoolExecutor(16) as pool:
        assert [wrong for wrong in pool.map(read, range(16)) if wrong] == []
    record = source[5]
    scribble(record)
    assert source[5]["image"].tolist() == expected[5]


def pipeline(path: Path, num_workers: int, shard: int = 0, num_shards: int = 1) -> Any:
    """Batches of two of our epochs, in our order, dealt out and prefetched by Grain."""
    source = recordio.open(path).shuffle(seed=5).batch(10).repeat(2).to_grain()
    found = grain.MapDataset.source(source)[shard::num_shards].to_iter_dataset()
    return found.mp_prefetch(grain.MultiprocessingOptions(num_workers=num_workers)) if num_workers else found


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_are_those_of_the_loader(path: Path, num_workers: int) -> None:
    """Epoch by epoch, and from a state of Grain's on."""
    own = recordio.open(path).shuffle(seed=5).batch(10)
    expected = [batch["id"].tolist() for _ in range(2) for batch in own]
    iterator = iter(pipeline(path, num_workers))
    seen = [next(iterator)["id"].tolist() for _ in range(13)]  # in the second epoch
    state = iterator.get_state()
    assert seen + [batch["id"].tolist() for batch in iterator] == expected
    again = iter(pipeline(path, num_workers))
    again.set_state(state)
    assert [batch["id"].tolist() for batch in again] == expected[13:]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_batches_are_dealt_out_by_grain(path: Path, world_size: int) -> None:
    parts = [ids(pipeline(path, 0, rank, world_size)) for rank in range(world_size)]
    assert sorted(number for part in parts for number in part) == sorted(2 * list(range(NUM_RECORDS)))


def test_batches_are_values(path: Path) -> None:
    """Whatever becomes of the loader that they were made of, and of what was handed out."""
    own = recordio.open(path).shuffle(seed=5).batch(10)
    own.set_epoch(3)
    source = own.to_grain()
    expected = [batch["id"].tolist() for batch in own]
    assert own.state_dict()["epoch"] == 4 and len(source) == len(expected) == 11
    again = pickle.loads(pickle.dumps(source))
    scribble(source[2])
    assert repr(pickle.loads(pickle.dumps(source))) == repr(source)
    assert [source[number]["id"].tolist() for number in range(11)] == expected
    assert again[-1]["id"].tolist() == expected[-1] and repr(again) == repr(source)
    with pytest.raises(IndexError, match="batch 11 of 11"):
        source[11]
    names = {repr(one.to_grain()) for one in (own, recordio.open(path).batch(10), recordio.open(path).batch(5))}
    assert len(names) == 3 and repr(source) not in names
    with pytest.raises(recordio.RequestError, match="Say how many epochs"):
        own.repeat().to_grain()
    own.load_state_dict(own.state_dict())
    with pytest.raises(recordio.RequestError, match="goes on from a state"):
        own.to_grain()
    with pytest.raises(TypeError, match="not DistributedDataset"):
        recordio.distribute(own).to_grain()


@pytest.mark.parametrize("on_corrupt", ["raise", "skip"])
def test_damage_is_raised_with_the_batch_that_it_is_in(path: Path, tmp_path: Path, on_corrupt: Any) -> None:
    """Located; the other batches are read, whatever is decoded at once for them."""
    shutil.copytree(path, tmp_path / "set")
    damage_shard(tmp_path / "set", 1, place=0.2)
    expected = [batch["id"].tolist() for batch in recordio.open(path).shuffle(seed=5).batch(1)]
    source = recordio.open(tmp_path / "set", on_corrupt=on_corrupt).shuffle(seed=5).batch(1).to_grain()
    num_lost = 0
    for number, ids_of_batch in enumerate(expected):
        try:
            assert source[number]["id"].tolist() == ids_of_batch
        except recordio.DataError as error:
            assert error.shard == 1
            num_lost += 1
    assert 0 < num_lost < NUM_RECORDS
