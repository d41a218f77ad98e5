"""TensorFlow: batches as a tf.data.Dataset (spec/adapters.md, section 3)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import recordio

tf = pytest.importorskip("tensorflow")
ROOT = Path(__file__).parents[2]
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
    """MirroredStrategy with two devices: a custom loop gets the global batches, and fit every record once an epoch."""
    done = subprocess.run(
        [sys.executable, "-c", TWO_REPLICAS, str(mixed)], capture_output=True, text=True, check=False, timeout=200,
        env={**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": "tensorflow"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().endswith("done")
