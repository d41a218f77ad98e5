"""The examples of tf.distribute's documentation, ported line by line, with the numbers that it shows.

`PORTED` says how a line is ported; every right-hand side is run as it stands there, and used in an example.

Source: the docstrings of tf.distribute.DistributedDataset, DistributedIterator, DistributedValues, InputContext,
Strategy.experimental_distribute_dataset, Strategy.distribute_datasets_from_function,
tf.keras.utils.experimental.DatasetCreator (TensorFlow 2.21), and the tutorial on distributed input.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import recordio

TWO = recordio.InputContext(1, 0, 2)  # tf.distribute.MirroredStrategy(["GPU:0", "GPU:1"])

PORTED = [
    ('tf.distribute.MirroredStrategy(["GPU:0", "GPU:1"])', "recordio.InputContext(1, 0, 2)"),
    ("tf.distribute.MultiWorkerMirroredStrategy()", "recordio.InputContext.detect()"),
    ("strategy.num_replicas_in_sync", "context.num_replicas_in_sync"),
    ("input_context.get_per_replica_batch_size(n)", "context.get_per_replica_batch_size(n)"),
    # A list of Python is a row of any length here, of float64 or int64: an array says both.
    ("tf.data.Dataset.from_tensors(([1.], [1.]))", "recordio.from_tensors((np.float32([1.]), np.float32([1.])))"),
    ("tf.data.Dataset.from_tensor_slices([5., 6.])", "recordio.from_tensor_slices(np.float32([5., 6.]))"),
    ("tf.data.Dataset.range(n)", "recordio.from_tensor_slices(np.arange(n))"),
    # Rows are taken before repeat, and nothing is batched twice.
    ("ds.repeat().shard(1, 0).batch(n)", "ds.shard(1, 0).repeat().batch(n)"),
    ("ds.batch(n).prefetch(2)", "ds.batch(n).prefetch(2)"),
    ("strategy.experimental_distribute_dataset(ds)", "recordio.distribute(loader, context)"),
    ("strategy.distribute_datasets_from_function(fn)", "recordio.distribute_from_function(fn, context)"),
    (
        "strategy.distribute_datasets_from_function(fn, options)",
        "recordio.distribute_from_function(fn, context, options)",
    ),
    ("tf.keras.utils.experimental.DatasetCreator(fn, options)", "recordio.DatasetCreator(fn, options)"),
    (
        "tf.distribute.InputOptions(experimental_fetch_to_device=True)",
        "recordio.InputOptions(experimental_fetch_to_device=True)",
    ),
    ("for batch in dist: ...", "[... for batch in dist]"),
    ("dist.element_spec", "dist.element_spec"),
    ("tf.TensorSpec(shape=(None, 1), dtype=tf.float32)", "recordio.TensorSpec((None, 1), 'float32')"),
    ("PerReplicaSpec(spec, spec)", "recordio.PerReplicaSpec(spec, spec)"),
    ("iter(dist)", "iter(dist)"),
    ("next(iterator)", "next(iterator)"),
    ("iterator.get_next()", "iterator.get_next()"),
    ("iterator.element_spec", "iterator.element_spec"),
    ("iterator.get_next_as_optional().has_value()", "iterator.get_next_as_optional().has_value()"),
    ("iterator.get_next_as_optional().get_value()", "iterator.get_next_as_optional().get_value()"),
    ("strategy.experimental_local_results(batch)", "recordio.experimental_local_results(batch)"),
    ("batch.values", "batch.values"),
    ("strategy.run(step, args=(batch,))", "[step(part) for part in recordio.experimental_local_results(batch)]"),
    ('strategy.reduce("SUM", values, axis=None)', "sum(values)"),
    ('strategy.reduce("SUM", values, axis=0)', "sum(value.sum(axis=0) for value in values)"),
]


@pytest.mark.parametrize("line", [line for _, line in PORTED])
def test_every_line_of_the_table_runs(line: str) -> None:
    """Each right-hand side, as it stands."""
    ds = recordio.from_tensor_slices(np.float32([5, 6, 7, 8]))

    def fn(context: Any) -> Any:
        return ds.batch(context.get_per_replica_batch_size(2))

    loader, n = ds.batch(2), 4
    dist = recordio.distribute(loader, TWO)
    names = {
        "np": np, "recordio": recordio, "ds": ds, "n": n, "loader": loader, "context": TWO, "dist": dist, "fn": fn,
        "options": recordio.InputOptions(), "iterator": iter(dist), "batch": next(iter(dist)), "step": np.square,
        "values": [np.float32([5]), np.float32([6])], "spec": recordio.TensorSpec((None, 1), "float32"),
    }  # fmt: skip
    assert eval(line, names) is not None


def run(step: Callable[[Any], Any], batch: Any) -> list[Any]:
    """strategy.run(step, args=(batch,)): one result for each replica."""
    return [step(part) for part in recordio.experimental_local_results(batch)]


def lists(values: Any) -> list[Any]:
    """What the replicas have, as plain numbers."""
    return [value.tolist() for value in recordio.experimental_local_results(values)]


def pairs() -> Any:
    """tf.data.Dataset.from_tensors(([1.], [1.]))"""
    return recordio.from_tensors((np.float32([1.0]), np.float32([1.0])))


def numbers(count: int) -> Any:
    """tf.data.Dataset.range(count)"""
    return recordio.from_tensor_slices(np.arange(count))


def test_distributed_dataset_in_a_loop() -> None:
    """DistributedDataset, "use a pythonic for-loop construct"."""
    global_batch_size = 4
    dataset = pairs().repeat(4).batch(global_batch_size)
    dist_dataset = recordio.distribute(dataset, TWO)

    def train_step(given: Any) -> Any:
        features, labels = given
        return labels - np.float32(0.3) * features

    losses = [run(train_step, x) for x in dist_dataset]
    assert len(losses) == 1
    for loss in losses[0]:
        assert loss.dtype == np.float32 and loss.shape == (2, 1)
        np.testing.assert_array_equal(loss, np.float32([[0.7], [0.7]]))


def test_distributed_dataset_with_an_iterator() -> None:
    """DistributedDataset, "use `__iter__` to create an explicit iterator": Epoch 1, Loss: 0.2000."""
    train_dataset = pairs().repeat(50).batch(4)
    train_dist_dataset = recordio.distribute(train_dataset, TWO)

    def distributed_train_step(dataset_inputs: Any) -> float:
        per_replica_losses = run(lambda _: 0.1, dataset_inputs)
        return sum(per_replica_losses)

    shown = []
    for epoch in range(2):
        total_loss, num_batches = 0.0, 0
        dist_dataset_iterator = iter(train_dist_dataset)
        assert isinstance(dist_dataset_iterator, recordio.DistributedIterator)
        for _ in range(3):
            total_loss += distributed_train_step(next(dist_dataset_iterator))
            num_batches += 1
        shown.append(f"Epoch {epoch + 1}, Loss: {total_loss / num_batches:.4f}")
    assert shown == ["Epoch 1, Loss: 0.2000", "Epoch 2, Loss: 0.2000"]


def test_distributed_dataset_with_an_input_signature() -> None:
    """DistributedDataset, "Inspect the `tf.TypeSpec`": what a step function is declared with is what it gets."""
    dataset = recordio.from_tensors(np.float32([2.0])).repeat(100).batch(4)
    dist_dataset = recordio.distribute(dataset, TWO)
    signature = dist_dataset.element_spec
    output = run(np.square, next(iter(dist_dataset)))
    assert [value.tolist() for value in output] == [[[4.0], [4.0]], [[4.0], [4.0]]]
    for value, spec in zip(output, signature.value_specs, strict=True):
        assert spec == recordio.TensorSpec((None, 1), "float32")
        assert value.dtype == np.float32 and value.shape == (2, 1)


def spec_of_the_example() -> Any:
    """PerReplicaSpec(TensorSpec(shape=(None, 1), dtype=tf.float32, name=None), ... tf.int32 ...)"""
    floats, ints = (recordio.TensorSpec((None, 1), dtype) for dtype in ("float32", "int32"))
    return recordio.PerReplicaSpec(floats, floats), recordio.PerReplicaSpec(ints, ints)


def test_element_spec_of_a_data_set() -> None:
    """DistributedDataset.element_spec."""
    dataset = recordio.from_tensors((np.float32([1.0]), np.int32([2]))).repeat(100).batch(16)
    assert recordio.distribute(dataset, TWO).element_spec == spec_of_the_example()


def test_element_spec_of_an_iterator() -> None:
    """DistributedIterator.element_spec."""
    dataset = recordio.from_tensors((np.float32([1.0]), np.int32([2]))).repeat(100).batch(16)
    distributed_iterator = iter(recordio.distribute(dataset, TWO))
    assert hasattr(distributed_iterator, "element_spec")
    assert distributed_iterator.element_spec == spec_of_the_example()


def test_iter() -> None:
    """DistributedDataset.__iter__: a data set without an end."""
    dataset = recordio.from_tensor_slices(np.int32([1, 2, 3, 4])).repeat().batch(4)
    distributed_iterator = iter(recordio.distribute(dataset, TWO))
    first = next(distributed_iterator)
    assert repr(first) == "PerReplica:{\n  0: array([1, 2], dtype=int32)\n  1: array([3, 4], dtype=int32)\n}"
    assert lists(next(distributed_iterator)) == [[1, 2], [3, 4]]


def test_get_next() -> None:
    """DistributedIterator.get_next."""
    dist_dataset_iterator = iter(recordio.distribute(numbers(100).batch(2), TWO))
    for _ in range(5):
        run(lambda given: given, dist_dataset_iterator.get_next())
    found = recordio.experimental_local_results(dist_dataset_iterator.get_next())
    assert [(value.tolist(), value.shape, value.dtype) for value in found] == [
        ([10], (1,), np.int64), ([11], (1,), np.int64)
    ]  # fmt: skip


def test_get_next_after_the_last_one() -> None:
    """tf.errors.OutOfRangeError there, StopIteration here."""
    iterator = iter(recordio.distribute(numbers(2).batch(2), TWO))
    iterator.get_next()
    for _ in range(2):
        with pytest.raises(StopIteration):
            iterator.get_next()


@pytest.mark.parametrize(("count", "global_batch_size", "shown"), [
    (10, 2, [[[0], [1]], [[2], [3]]]),      # as the example is written
    (5, 4, [[[0, 1], [2, 3]], [[4], []]]),  # what its comment shows
    (2, 2, [[[0], [1]]]),                   # the break
])  # fmt: skip
def test_get_next_as_optional(count: int, global_batch_size: int, shown: list[Any]) -> None:
    """DistributedIterator.get_next_as_optional."""
    steps_per_loop = 2
    distributed_iterator = iter(recordio.distribute(numbers(count).batch(global_batch_size), TWO))
    found = []
    for _ in range(steps_per_loop):
        optional_data = distributed_iterator.get_next_as_optional()
        if not optional_data.has_value():
            with pytest.raises(ValueError):
                optional_data.get_value()
            break
        per_replica_results = run(lambda x: x, optional_data.get_value())
        found.append([result.tolist() for result in per_replica_results])
    assert found == shown


def test_experimental_distribute_dataset() -> None:
    """Strategy.experimental_distribute_dataset."""
    global_batch_size = 2
    dataset = numbers(4).batch(global_batch_size)
    dist_dataset = recordio.distribute(dataset, TWO)
    result = [run(lambda given: given * 2, x) for x in dist_dataset]
    assert [[value.tolist() for value in step] for step in result] == [[[0], [2]], [[4], [6]]]


def five_to_eight() -> Any:
    dataset = recordio.from_tensor_slices(np.float32([5.0, 6.0, 7.0, 8.0])).batch(2)
    return next(iter(recordio.distribute(dataset, TWO)))


def test_distributed_values_from_a_data_set() -> None:
    """DistributedValues, example 1, and `values`."""
    values = five_to_eight()
    assert repr(values) == "PerReplica:{\n  0: array([5.], dtype=float32)\n  1: array([6.], dtype=float32)\n}"
    assert [value.tolist() for value in values.values] == [[5.0], [6.0]]


def test_distributed_values_as_input_into_run() -> None:
    """DistributedValues, example 3."""
    assert [value.tolist() for value in run(lambda given: given + 1.0, five_to_eight())] == [[6.0], [7.0]]


def test_distributed_values_as_input_into_reduce() -> None:
    """DistributedValues, example 4: axis=0 sums the rows, too."""
    values = five_to_eight()
    assert sum(value.sum(axis=0) for value in values) == 11.0
    assert sum(values).tolist() == [11.0]


def test_local_results() -> None:
    """DistributedValues, example 5."""
    values = recordio.experimental_local_results(five_to_eight())
    assert isinstance(values, tuple)
    assert [(value.tolist(), value.dtype) for value in values] == [([5.0], np.float32), ([6.0], np.float32)]


@pytest.mark.parametrize(("pipelines", "replicas", "num_steps", "first"), [
    (1, 2, 4, [range(8), range(8, 16)]),
    (2, 4, 4, [range(0, 8, 2), range(8, 16, 2)]),
])  # fmt: skip
def test_datasets_from_a_function(pipelines: int, replicas: int, num_steps: int, first: list[range]) -> None:
    """The tutorial's dataset_fn, with 64 records that differ: every replica has its own batch of a pipeline's records.

    Input pipeline 0 has the even records, 1 the odd ones; together they are all of them.
    """
    global_batch_size = 16

    def dataset_fn(input_context: Any) -> Any:
        batch_size = input_context.get_per_replica_batch_size(global_batch_size)
        dataset = numbers(64).shard(input_context.num_input_pipelines, input_context.input_pipeline_id)
        return dataset.batch(batch_size).prefetch(2)

    found = []
    for pipeline in range(pipelines):
        context = recordio.InputContext(pipelines, pipeline, replicas)
        assert context.num_replicas_in_sync == replicas
        dist_dataset = recordio.distribute_from_function(dataset_fn, context)
        assert len(dist_dataset) == num_steps
        steps = [lists(batch) for batch in dist_dataset]
        assert steps[0] == [[place + pipeline for place in part] for part in first]
        found += itertools.chain.from_iterable(itertools.chain.from_iterable(steps))
    assert sorted(found) == list(range(64))


@pytest.mark.parametrize(("pipelines", "replicas"), [(1, 1), (1, 2), (2, 4), (4, 4)])
def test_dataset_creator(pipelines: int, replicas: int) -> None:
    """tf.keras.utils.experimental.DatasetCreator, fit(epochs=10, steps_per_epoch=10): one iterator for all epochs.

    As many records as there are input pipelines, because sharding goes before repeat.
    """

    def dataset_fn(input_context: Any) -> Any:
        global_batch_size = 64
        batch_size = input_context.get_per_replica_batch_size(global_batch_size)
        ones = np.ones((input_context.num_input_pipelines, 1), np.float32)
        dataset = recordio.from_tensor_slices((ones, ones))
        dataset = dataset.shard(input_context.num_input_pipelines, input_context.input_pipeline_id).repeat()
        dataset = dataset.batch(batch_size)
        return dataset.prefetch(2)

    input_options = recordio.InputOptions(experimental_fetch_to_device=True, experimental_per_replica_buffer_size=2)
    creator = recordio.DatasetCreator(dataset_fn, input_options=input_options)
    for pipeline in range(pipelines):
        dist = recordio.distribute_from_function(creator, recordio.InputContext(pipelines, pipeline, replicas))
        with pytest.raises(TypeError, match="no len"):
            len(dist)
        with iter(dist) as iterator:
            for _epoch, _step in itertools.product(range(10), range(10)):
                parts = recordio.experimental_local_results(next(iterator))
                assert len(parts) == replicas // pipelines
                for features, labels in parts:
                    assert features.shape == labels.shape == (64 // replicas, 1)
                    assert (features == 1).all() and (labels == 1).all()


def test_shard_after_repeat_says_what_to_write() -> None:
    """Where a line cannot be ported as it stands, the error says how."""
    with pytest.raises(recordio.RequestError, match="rows are taken after repeat") as caught:
        pairs().repeat().shard(2, 0)
    assert "repeat" in caught.value.advice
    with pytest.raises(recordio.RequestError, match="batched already"):
        numbers(64).batch(16).batch(4)
