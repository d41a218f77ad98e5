"""TensorFlow: batches as a tf.data.Dataset (spec/adapters.md, section 3)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio.spec import numpy_dtype
from tests.laws.data_sets import damage_shard

tf = pytest.importorskip("tensorflow")

from recordio.adapters.tensorflow import dataset_fn  # noqa: E402  after the check that it is there

ROOT = Path(__file__).parents[2]
NUM_RECORDS = 53
TWO_REPLICAS = """
import sys
import tensorflow as tf
import recordio
from recordio.adapters.tensorflow import dataset_fn

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
loader = recordio.open(sys.argv[1]).select_columns(["id"]).shuffle(seed=1).batch(8)
expected = [batch["id"].tolist() for batch in loader]
loader.set_epoch(0)
steps = []
for step in strategy.distribute_datasets_from_function(dataset_fn(loader)):
    parts = strategy.experimental_local_results(strategy.run(lambda batch: batch["id"] + 0, args=(step,)))
    assert len(parts) == 2
    steps.append([number for part in parts for number in part.numpy().tolist()])
assert steps == expected, (steps, expected)

with strategy.scope():
    model = tf.keras.Sequential([tf.keras.layers.Embedding(53, 1, embeddings_initializer="zeros")])
    model.compile(tf.keras.optimizers.SGD(8.0), loss=lambda y, p: tf.reduce_sum(p))
pairs = recordio.open(sys.argv[1]).select_columns(["id"]).map(lambda batch: (batch["id"], batch["id"]), batched=True)
model.fit(strategy.distribute_datasets_from_function(dataset_fn(pairs.batch(8))), epochs=2, verbose=0)
counts = -model.get_weights()[0][:, 0]
assert counts.min() > 0 and counts.std() < 1e-3 * counts.mean(), counts

# Keras 3 begins iterations under a strategy, and throws them away: they must all begin where the state is.
loader = pairs.batch(8)
loader.load_state_dict(loader.state_after(loader.state_dict(), 5))
model.set_weights([model.get_weights()[0] * 0])
rest = strategy.distribute_datasets_from_function(dataset_fn(loader.repeat(), restarts=True))
model.fit(rest, epochs=3, steps_per_epoch=3, verbose=0)  # two steps that are left of an epoch, and seven of the next
counts = model.get_weights()[0][:, 0]
assert (counts / counts[0]).round(3).tolist() == [1] * 40 + [2] * 13, counts
print("done")
"""


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Fixed, text and ragged columns."""
    spec = {
        "id": recordio.TensorSpec((), "int64"), "image": recordio.TensorSpec((2, 2), "uint8"),
        "word": recordio.TensorSpec((), "str"), "tokens": recordio.TensorSpec((None,), "int32"),
        "pairs": recordio.TensorSpec((None, 2), "float32"),
    }  # fmt: skip

    def records():
        for number in range(53):
            yield {
                "id": number, "image": np.full((2, 2), number, np.uint8), "word": "né" * (number % 4),
                "tokens": np.arange(number % 5, dtype=np.int32), "pairs": np.full((number % 3, 2), number, np.float32),
            }  # fmt: skip

    recordio.convert(records, tmp_path / "set", output_signature=spec, num_shards=2, chunk_size=512)
    return tmp_path / "set"


@pytest.fixture
def numbered(tmp_path: Path) -> Path:
    """Numbers, in three shards of many chunks."""
    numbers = recordio.from_tensor_slices({"id": np.arange(NUM_RECORDS)})
    recordio.convert(numbers, tmp_path / "numbered", num_shards=3, chunk_size=40)
    return tmp_path / "numbered"


def test_batches_are_tensors_with_the_right_spec(mixed: Path) -> None:
    """Values, types, ragged and string columns, and as many as it says."""
    loader = recordio.open(mixed).batch(8)
    dataset = loader.to_tf()
    assert int(dataset.cardinality()) == len(loader) == 7
    assert dataset.element_spec["image"] == tf.TensorSpec((None, 2, 2), tf.uint8)
    assert dataset.element_spec["word"] == tf.TensorSpec((None,), tf.string)
    assert dataset.element_spec["tokens"] == tf.RaggedTensorSpec((None, None), tf.int32, 1, tf.int64)
    auto_shard = dataset.options().experimental_distribute.auto_shard_policy
    assert auto_shard == tf.data.experimental.AutoShardPolicy.OFF
    number = 0
    for batch in dataset:
        for row in range(batch["id"].shape[0]):
            assert int(batch["id"][row]) == number
            assert batch["word"][row].numpy().decode() == "né" * (number % 4)
            assert batch["tokens"][row].numpy().tolist() == list(range(number % 5))
            assert batch["pairs"][row].numpy().tolist() == [[number, number]] * (number % 3)
            number += 1
    assert number == 53


def test_every_iteration_is_the_next_epoch(mixed: Path) -> None:
    """As for a loader itself."""
    make = lambda: recordio.open(mixed).select_columns(["id"]).shuffle(seed=2).batch(8)  # noqa: E731
    dataset, loader = make().to_tf(), make()
    for _ in range(3):
        expected = [batch["id"].tolist() for batch in loader]
        assert [batch["id"].numpy().tolist() for batch in dataset] == expected


def test_full_batches_have_a_known_size(mixed: Path) -> None:
    """drop_remainder says how many rows there are."""
    dataset = recordio.open(mixed).select_columns(["image"]).batch(8, drop_remainder=True).to_tf()
    assert dataset.element_spec["image"].shape == (8, 2, 2)
    assert len(list(dataset)) == 6


def test_two_replicas_take_the_parts_of_every_batch(mixed: Path) -> None:
    """MirroredStrategy with two devices: a custom loop gets the global batches, fit every record once an epoch.

    And after a state, what is left.
    """
    done = subprocess.run(
        [sys.executable, "-c", TWO_REPLICAS, str(mixed)], capture_output=True, text=True, check=False, timeout=200,
        env={**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": "tensorflow"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().endswith("done")


# -- parts of pipelines --


def part_of(loader: Any, num_pipelines: int, number: int, local: int, **options: Any) -> tf.data.Dataset:
    """What `dataset_fn` makes for one pipeline, with TensorFlow's own context."""
    return dataset_fn(loader, **options)(tf.distribute.InputContext(num_pipelines, number, num_pipelines * local))


@pytest.mark.parametrize("num_pipelines", [1, 2, 3])
@pytest.mark.parametrize(("policy", "local"), [("AUTO", 1), ("AUTO", 2), ("DATA", 2), ("FILE", 1), ("OFF", 1)])
@pytest.mark.parametrize("shuffle", [{}, {"seed": 1, "mode": "pooled", "pool": 16}], ids=str)
def test_pipelines_take_the_same_steps_and_together_every_record_once(
    numbered: Path, num_pipelines: int, policy: str, local: int, shuffle: dict[str, Any]
) -> None:
    """World sizes 1, 2 and 3, two epochs each; under OFF every pipeline has every record."""
    dataset = recordio.open(numbered)
    loader = (dataset.shuffle(**shuffle) if shuffle else dataset).batch(8)
    parts = [part_of(loader, num_pipelines, number, local, policy=policy) for number in range(num_pipelines)]
    for _ in range(2):
        found = [[batch["id"].numpy().tolist() for batch in part] for part in parts]
        (count,) = {len(batches) for batches in found}
        assert {int(part.cardinality()) for part in parts} == {count} and count % local == 0
        records = [[number for batch in batches for number in batch] for batches in found]
        for numbers in records if policy == "OFF" else [[number for part in records for number in part]]:
            assert sorted(numbers) == list(range(NUM_RECORDS))
        if policy == "AUTO":
            steps = [
                [number for batches in found for part in batches[step * local : (step + 1) * local] for number in part]
                for step in range(len(found[0]) // local)
            ]
            assert steps == [batch["id"].tolist() for batch in loader]


@pytest.mark.parametrize("remainder", ["empty", "pad", "drop"])
def test_the_last_step_is_as_asked(mixed: Path, remainder: str) -> None:
    """Zero rows of the right type and shape in every column; a mask; or no such step."""
    loader = recordio.open(mixed).take(49)  # six batches of 8, and one of 1
    if remainder == "pad":
        loader = loader.select_columns(["id", "image"])
    parts = [part_of(loader.batch(8), 2, number, 1, remainder=remainder) for number in range(2)]
    last = [list(part)[-1] for part in parts]
    assert {int(part.cardinality()) for part in parts} == {6 if remainder == "drop" else 7}
    if remainder == "empty":
        assert [batch["id"].numpy().tolist() for batch in last] == [[48], []]
        empty = last[1]
        assert {name: (tuple(value.shape), value.dtype) for name, value in empty.items()} == {
            "id": ((0,), tf.int64), "image": ((0, 2, 2), tf.uint8), "word": ((0,), tf.string),
            "tokens": ((0, None), tf.int32), "pairs": ((0, None, 2), tf.float32),
        }  # fmt: skip
    elif remainder == "pad":
        assert [mask.numpy().tolist() for _, mask in last] == [[True, False, False, False], [False] * 4]
        assert parts[0].element_spec[0]["image"] == tf.TensorSpec((4, 2, 2), tf.uint8)
        assert parts[0].element_spec[1] == tf.TensorSpec((4,), tf.bool)
    else:
        assert [len(batch["id"]) for batch in last] == [4, 4]
        assert parts[0].element_spec["image"] == tf.TensorSpec((4, 2, 2), tf.uint8)


# -- states --


@pytest.mark.parametrize("ahead", [0, 1, 5])
def test_a_state_counts_the_steps_of_the_loop(numbered: Path, ahead: int) -> None:
    """Whatever tf.data has read: what the loop has seen, and what comes after the state, are every record once."""
    def make() -> Any:
        return recordio.open(numbered).shuffle(seed=4).batch(8)

    def ids(batches: Any) -> list[list[int]]:
        return [batch["id"].numpy().tolist() for batch in batches]

    alone = make()
    expected = [batch["id"].tolist() for _ in range(2) for batch in alone]
    for taken in (0, 1, 3, len(alone), len(alone) + 2):
        loader = make()
        start = loader.state_dict()
        dataset = loader.to_tf().repeat(2).prefetch(ahead)
        seen = ids(batch for _, batch in zip(range(taken), dataset, strict=False))
        if taken:
            with pytest.raises(recordio.RequestError, match=r"tf\.data reads ahead.*state_after"):
                loader.state_dict()
        again = make()
        again.load_state_dict(loader.state_after(start, taken))
        rest = again.to_tf()
        assert int(rest.cardinality()) == tf.data.UNKNOWN_CARDINALITY
        seen += ids(rest)  # what is left of the epoch
        seen += ids(rest)
        assert seen[: len(expected)] == expected


@pytest.mark.parametrize("policy", ["FILE", "OFF"])
def test_pipelines_with_streams_of_their_own_go_on_from_their_state(numbered: Path, policy: str) -> None:
    """Which the distributed data set has, and not the loader."""
    def make() -> recordio.DistributedDataset:
        loader = recordio.open(numbered).shuffle(seed=4).batch(8)
        return recordio.distribute(loader, tf.distribute.InputContext(2, 1, 4), policy=policy)

    def ids(batches: Any) -> list[list[int]]:
        return [batch["id"].numpy().tolist() for batch in batches]

    expected = ids(make().to_tf())
    part = make()
    start = part.state_dict()
    seen = ids(part.to_tf().take(2 * 3))  # three steps of two replicas
    again = make()
    again.load_state_dict(part.state_after(start, 3))
    assert seen + ids(again.to_tf()) == expected
    loader = recordio.open(numbered).shuffle(seed=4).batch(8)
    loader.load_state_dict(loader.state_after(loader.state_dict(), 3))
    with pytest.raises(tf.errors.OpError, match=r"split|mode"):
        list(dataset_fn(loader, policy=policy)(tf.distribute.InputContext(2, 1, 4)))


def test_states_of_before_and_after_tf_data_are_those_of_the_loader(numbered: Path) -> None:
    """Whoever says where the loader begins may ask it again."""
    loader = recordio.open(numbered).batch(8)
    assert loader.state_dict()["consumed"] == 0
    dataset = loader.to_tf()
    assert loader.state_dict()["consumed"] == 0  # nothing is read by that
    assert len(list(dataset)) == len(loader)
    with pytest.raises(recordio.RequestError, match="reads ahead"):
        loader.state_dict()
    loader.set_epoch(3)
    assert loader.state_dict()["epoch"] == 3
    next(iter(loader))
    assert loader.state_dict()["epoch"] == 3


def test_a_state_that_is_loaded_too_late_is_refused(numbered: Path) -> None:
    """A tf.data.Dataset that has said how many steps it has cannot have fewer."""
    loader = recordio.open(numbered).batch(8)
    dataset = loader.to_tf()
    loader.load_state_dict(loader.state_after(loader.state_dict(), 2))
    with pytest.raises(tf.errors.OpError, match=r"has 5 steps.*has 7.*Load the state before to_tf"):
        list(dataset)


def test_a_loop_that_is_left_must_say_where_all_pipelines_go_on(numbered: Path) -> None:
    """Where others wait; a data set that restarts begins at the same place again, whoever threw its iterators away."""
    loader = recordio.open(numbered).shuffle(seed=2).batch(8)
    part = part_of(loader, 2, 1, 1)
    next(iter(part))
    with pytest.raises(tf.errors.OpError, match=r"not read to its end.*set_epoch"):
        next(iter(part))
    loader.load_state_dict(loader.state_after(loader.state_dict(), 3))
    again = part_of(loader.repeat(2), 2, 1, 1, restarts=True)
    first = next(iter(again))["id"].numpy().tolist()
    found = [[batch["id"].numpy().tolist() for batch in again] for _ in range(2)]
    alone = recordio.distribute(loader, recordio.InputContext(2, 1, 2))
    rest = [step["id"].values[0].tolist() for _ in range(2) for step in alone]
    assert found == [rest, rest] and first == rest[0] and len(rest) == 4 + 7
    assert loader.state_dict()["consumed"] == 24


# -- what is handed out --


@pytest.mark.parametrize("name", ["id", "word", "tokens"])
def test_nobody_can_change_what_is_read_later(mixed: Path, name: str) -> None:
    """Tensors cannot be changed, arrays made of them are read-only or copies; and tensors that are kept stay."""
    loader = recordio.open(mixed).select_columns([name]).batch(8)
    dataset = loader.to_tf()

    def values(batch: Any) -> Any:
        return batch[name].values if name == "tokens" else batch[name]

    kept = [values(batch) for batch in dataset]
    expected = [tensor.numpy().tolist() for tensor in kept]
    for tensor in [values(batch) for batch in dataset]:
        with pytest.raises(TypeError):
            tensor[0] = tensor[0]
        for array in (tensor.numpy(), np.asarray(tensor), np.array(memoryview(tensor)) if name != "word" else None):
            if array is not None and array.flags.writeable:
                array[...] = array[::-1].copy() if name == "word" else 7
    for batch in dataset.as_numpy_iterator():
        array = batch[name]
        if name != "tokens":
            with pytest.raises(ValueError, match="read-only"):
                array[...] = array[::-1].copy()
    for _ in range(2):
        assert [values(batch).numpy().tolist() for batch in dataset] == expected
    assert [tensor.numpy().tolist() for tensor in kept] == expected


def test_damage_is_located_or_skipped_through_tf_data(numbered: Path) -> None:
    """The words of our error are in TensorFlow's: which file, which chunk; what is skipped makes the pass shorter."""
    shard = damage_shard(numbered, 1)
    with pytest.raises(tf.errors.OpError) as caught:
        list(recordio.open(numbered).batch(8).to_tf())
    assert shard.name in str(caught.value) and "chunk" in str(caught.value)
    skipping = recordio.open(numbered, on_corrupt="skip")
    for dataset in (skipping, skipping.shuffle(seed=1)):
        found = dataset.batch(2).to_tf()
        records = [number for batch in found for number in batch["id"].numpy().tolist()]
        (lost,) = skipping.lost
        assert sorted(records) == [*range(lost.start), *range(lost.stop, NUM_RECORDS)]


def test_what_tensorflow_has_no_type_for_is_said(tmp_path: Path) -> None:
    """By the name of its column, before anything is read."""
    values = np.zeros((4, 2), numpy_dtype("float8_e3m4"))
    recordio.convert(recordio.from_tensor_slices({"small": values}), tmp_path / "set")
    with pytest.raises(recordio.RequestError, match=r"no float8_e3m4.*column 'small'"):
        recordio.open(tmp_path / "set").batch(2).to_tf()
