"""Hugging Face shuffles, splits, batches and resumes records by itself (spec/adapters.md, section 7)."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from tests.laws.data_sets import damage_shard, fresh_directory

datasets = pytest.importorskip("datasets")
torch = pytest.importorskip("torch")

from datasets.distributed import split_dataset_by_node  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from recordio.adapters import huggingface  # noqa: E402

NUM_RECORDS = 1003  # no number of nodes divides it
SPEC = {
    "id": recordio.TensorSpec((), "int64"),
    "image": recordio.TensorSpec((4, 5), "uint8"),
    "point": recordio.TensorSpec((3,), "float32"),
    "is_even": recordio.TensorSpec((), "bool"),
    "word": recordio.TensorSpec((), "str"),
    "blob": recordio.TensorSpec((), "bytes"),
    "tokens": recordio.TensorSpec((None,), "int32"),
    "boxes": recordio.TensorSpec((None, 2), "float64"),
    "grid": recordio.TensorSpec((None, None), "int16"),
    "tags": recordio.TensorSpec((None,), "str"),
    "score": recordio.TensorSpec((), "int64", optional=True),
    "note": recordio.TensorSpec((), "str", optional=True),
    "crop": recordio.TensorSpec((2, 2), "int64", optional=True),
    "extra": ({"half": recordio.TensorSpec((), "float16")}, recordio.TensorSpec((2, 0), "int8")),
}


def record(number: int) -> dict[str, Any]:
    """Record `number` of the data set: every column says which it is."""
    is_there = number % 3 > 0
    return {
        "id": number, "image": np.full((4, 5), number % 256, np.uint8), "point": np.full(3, number, np.float32),
        "is_even": number % 2 == 0, "word": "né" * (number % 4), "blob": bytes([number % 256]) * (number % 3),
        "tokens": np.arange(number % 5, dtype=np.int32), "boxes": np.full((number % 3, 2), number, np.float64),
        "grid": np.full((number % 3, number % 2), number, np.int16),
        "tags": np.array(["ü", str(number)][: number % 3], object),
        "score": 2**62 + number if is_there else None, "note": str(number) if is_there else None,
        "crop": np.full((2, 2), 2**62 + number) if is_there else None,
        "extra": ({"half": np.float16(number % 7)}, np.zeros((2, 0), np.int8)),
    }  # fmt: skip


def as_python(number: int) -> dict[str, Any]:
    """The same as Hugging Face hands it out: lists for arrays, dicts for tuples."""
    found = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in record(number).items()}
    return {**found, "extra": {"0": {"half": float(number % 7)}, "1": [[], []]}}


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    with fresh_directory() as directory:
        recordio.convert(
            lambda: map(record, range(NUM_RECORDS)), directory / "set", output_signature=SPEC, num_shards=5,
            chunk_size=4000,
        )  # fmt: skip
        yield directory / "set"


@pytest.fixture
def ids(path: Path) -> Any:
    """Only the numbers of records, where nothing else matters."""
    return recordio.open(path).select_columns(["id"]).to_hf_iterable()


def numbers(records: Iterable[Any]) -> list[int]:
    return [int(number) for record in records for number in np.atleast_1d(record["id"]).tolist()]


def test_records_and_features_are_those_of_the_data_set(path: Path) -> None:
    """Every type of column, in the order of the data set, read many at a time; None stays None, and integers exact."""
    found = recordio.open(path).to_hf_iterable()
    features = found.features
    assert features["image"] == datasets.Array2D((4, 5), "uint8")
    assert features["point"] == datasets.List(datasets.Value("float32"), length=3)
    assert features["word"] == datasets.Value("string") and features["blob"] == datasets.Value("binary")
    assert features["boxes"] == datasets.List(datasets.List(datasets.Value("float64")))
    assert features["extra"]["0"] == {"half": datasets.Value("float16")}
    assert list(found) == [as_python(number) for number in range(NUM_RECORDS)]
    # Again: every iteration begins anew.
    assert len(list(found)) == NUM_RECORDS


def test_tables_are_cut_where_offsets_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow's strings and lists have offsets of 32 bits: a batch with more in it becomes several tables."""
    ds = recordio.open(path).select_columns(["id", "word", "tokens"])
    before = list(ds.to_hf_iterable(num_shards=2))
    monkeypatch.setattr(huggingface, "_MAX_OFFSET", 100)
    sizes = [len(table) for table in ds.to_hf_iterable(num_shards=2).with_format("arrow").iter(batch_size=10**6)]
    found = ds.to_hf_iterable(num_shards=2)
    assert list(found) == before and sum(sizes) == NUM_RECORDS
    tables = list(found._ex_iterable.generate_tables_fn(spans=[(0, 400)]))
    assert len(tables) > 4 and sum(len(table) for _, table in tables) == 400


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
@pytest.mark.parametrize("shuffles", [False, True])
def test_nodes_share_the_records(ids: Any, world_size: int, shuffles: bool) -> None:
    """Every record once over all nodes; evenly where their number divides that of the shards."""
    assert ids.num_shards == 12
    whole = ids.shuffle(seed=3, buffer_size=100) if shuffles else ids
    parts = [numbers(split_dataset_by_node(whole, rank=rank, world_size=world_size)) for rank in range(world_size)]
    assert sorted(number for part in parts for number in part) == list(range(NUM_RECORDS))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    if world_size == 1 and not shuffles:
        assert parts[0] == list(range(NUM_RECORDS))


def test_each_epoch_of_its_shuffle_is_another(ids: Any) -> None:
    """`set_epoch` is Hugging Face's own."""
    shuffled, epochs = ids.shuffle(seed=3, buffer_size=100), []
    for epoch in (0, 1, 0):
        shuffled.set_epoch(epoch)
        epochs.append(numbers(shuffled))
    assert epochs[0] == epochs[2] != epochs[1] and sorted(epochs[0]) == sorted(epochs[1]) == list(range(NUM_RECORDS))


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_a_dataloader_batches_tensors(path: Path, num_workers: int, world_size: int) -> None:
    """In this process and in workers, on every node; Hugging Face itself makes int64 of all integers."""
    seen = []
    for rank in range(world_size):
        found = recordio.open(path).select_columns(["id", "image", "point"]).to_hf_iterable().with_format("torch")
        node = split_dataset_by_node(found, rank=rank, world_size=world_size)
        for batch in DataLoader(node, batch_size=50, num_workers=num_workers):
            assert batch["image"].shape[1:] == (4, 5) and batch["point"].dtype == torch.float32
            assert batch["image"][:, 0, 0].tolist() == [number % 256 for number in batch["id"].tolist()]
            seen += batch["id"].tolist()
    assert sorted(seen) == list(range(NUM_RECORDS))


@pytest.mark.parametrize("how", ["python", "torch", "numpy", "batches", "node"])
@pytest.mark.parametrize("stop", [0, 1, 90, 500, 1002])
def test_a_state_of_its_own_resumes(ids: Any, how: str, stop: int) -> None:
    """Exactly with the next record, wherever it was taken, in another object."""
    def reader(found: Any) -> Any:
        if how == "node":
            return split_dataset_by_node(found, rank=1, world_size=2)
        return found.with_format(how if how in ("torch", "numpy") else None)

    size = 8 if how == "batches" else 1
    iterate = (lambda found: found.iter(batch_size=size)) if how == "batches" else iter
    whole = numbers(iterate(reader(ids)))
    first, again = reader(ids), reader(pickle.loads(pickle.dumps(ids)))
    iterator = iterate(first)
    taken = min(stop, len(whole)) // size
    seen = numbers(next(iterator) for _ in range(taken))
    again.load_state_dict(first.state_dict())
    rest = numbers(iterate(again))
    assert seen + rest == whole and len(seen) == taken * size


def test_reading_is_by_batches(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No record is read by itself."""
    from recordio.dataset import Dataset

    asked: list[Any] = []
    original = Dataset.__getitem__

    def spy(self: Dataset, key: Any) -> Any:
        asked.append(key)
        return original(self, key)

    monkeypatch.setattr(Dataset, "__getitem__", spy)
    assert len(list(recordio.open(path).to_hf_iterable())) == NUM_RECORDS
    assert len(asked) == 12 and all(isinstance(key, slice) for key in asked)


def test_views_maps_and_a_fixed_order_are_read_as_they_are(path: Path) -> None:
    """What Hugging Face cannot do itself, or need not do again."""
    ds = recordio.open(path).select_columns(["id"])
    assert numbers(ds[100:200:2].to_hf_iterable()) == list(range(100, 200, 2))
    mapped = ds.map(lambda record: {"id": record["id"] + 1, "double": record["id"] * 2.0})
    assert next(iter(mapped.to_hf_iterable())) == {"id": 1, "double": 0.0}
    fixed = ds.shuffle(seed=1, reshuffle_each_iteration=False)
    whole, cut = fixed.to_hf_iterable(), fixed.to_hf_iterable(num_shards=4)
    assert numbers(whole) == numbers(cut) == [int(one["id"]) for one in fixed]
    assert (whole.num_shards, cut.num_shards) == (1, 4)


def test_records_that_are_no_dicts_get_names(tmp_path: Path) -> None:
    """Places of a tuple, "value" for a single leaf; an empty data set is empty."""
    pairs = recordio.from_tensor_slices((np.arange(3), np.arange(3.0)))
    assert list(pairs.to_hf_iterable())[2] == {"0": 2, "1": 2.0}
    assert list(recordio.from_tensor_slices(np.arange(3)).to_hf_iterable()) == [{"value": n} for n in range(3)]
    with recordio.Writer(tmp_path / "empty", {"id": recordio.TensorSpec((), "int64")}):
        pass
    assert list(recordio.open(tmp_path / "empty").to_hf_iterable()) == []


def test_damage_is_raised_where_it_is_met(path: Path, tmp_path: Path) -> None:
    """A located error of ours, and no record less; under on_corrupt="skip" the others."""
    import shutil

    shutil.copytree(path, tmp_path / "set")
    shard = damage_shard(tmp_path / "set", 2)
    with pytest.raises(recordio.DataError, match=shard.name):
        list(recordio.open(tmp_path / "set").to_hf_iterable())
    ds = recordio.open(tmp_path / "set", on_corrupt="skip")
    found = numbers(ds.to_hf_iterable())
    lost = {number for one in ds.lost for number in range(one.start, one.stop)}
    assert lost and sorted({*found, *lost}) == list(range(NUM_RECORDS)) and len(found) == NUM_RECORDS - len(lost)


def test_what_cannot_be_handed_over_is_refused(path: Path) -> None:
    """With what to do instead."""
    ds = recordio.open(path)
    with pytest.raises(recordio.RequestError, match="Leave batch out"):
        ds.batch(8).to_hf_iterable()
    with pytest.raises(recordio.RequestError, match="buffer_size"):
        ds.shuffle(seed=1).to_hf_iterable()
    with pytest.raises(recordio.RequestError, match="repeat"):
        ds.repeat(2).to_hf_iterable()
    with pytest.raises(recordio.RequestError, match="rng=True"):
        ds.map(lambda record, rng: record, rng=True).to_hf_iterable()
    with pytest.raises(recordio.RequestError, match="num_shards is 2000"):
        ds.to_hf_iterable(num_shards=2000)
    objects = recordio.from_tensors({"id": 1, "json": {}}, output_signature={
        "id": recordio.TensorSpec((), "int64"), "json": recordio.MsgpackSpec(),
    })  # fmt: skip
    with pytest.raises(recordio.RequestError, match="select_columns"):
        objects.to_hf_iterable()
    assert list(objects.select_columns(["id"]).to_hf_iterable()) == [{"id": 1}]
    with pytest.raises(TypeError, match="recordio data set"):
        huggingface.to_hf_iterable([1, 2])
