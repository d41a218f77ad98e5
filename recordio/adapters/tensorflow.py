"""TensorFlow: batches as a `tf.data.Dataset`.

Every iteration of it is one pass over the data set, so the next epoch. Columns of fixed shape are dense tensors, text
and bytes `tf.string`, ragged columns `tf.RaggedTensor`.

Spec: spec/adapters.md, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from recordio.adapters.leaves import check_batched, dense, map_leaves
from recordio.batches import Batches
from recordio.distributed.dataset import DistributedDataset, distribute
from recordio.distributed.values import PerReplicaSpec, experimental_local_results
from recordio.errors import RequestError
from recordio.spec import MsgpackSpec
from recordio.values.ragged import Ragged


def to_tf(loader: Any) -> tf.data.Dataset:
    """A `tf.data.Dataset` of the batches; of the part of a pipeline, those of its replicas in turn.

    Its element_spec is that of the batches, its cardinality their number, and auto-sharding is off: who reads what is
    decided here.

    Raises:
        RequestError: not batched; a column that TensorFlow has no type for.
    """
    check_batched(loader, "to_tf", Batches, DistributedDataset)
    signature = map_leaves(_tupled(loader.element_spec), _tensor_spec)

    def batches() -> Iterator[Any]:
        for step in loader:
            for batch in experimental_local_results(step):
                yield _tupled(map_leaves(batch, _tensor))

    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    steps = loader.loader.num_steps()
    num_replicas = loader.context.num_local_replicas if isinstance(loader, DistributedDataset) else 1
    count = tf.data.INFINITE_CARDINALITY if steps is None else steps * num_replicas
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.with_options(options)


def dataset_fn(loader: Any, **options: Any) -> Callable[[Any], tf.data.Dataset]:
    """What `strategy.distribute_datasets_from_function` takes: a function of a `tf.distribute.InputContext`.

    Args:
        loader: batched by the size of a global batch.
        options: policy and remainder, as `recordio.distribute` has them.
    """

    def make(input_context: Any) -> tf.data.Dataset:
        return to_tf(distribute(loader, input_context, **options))

    return make


def _tupled(structure: Any) -> Any:
    """Lists as tuples: TensorFlow makes one tensor of a list."""
    if isinstance(structure, list | tuple):
        return tuple(_tupled(child) for child in structure)
    if isinstance(structure, dict):
        return {name: _tupled(child) for name, child in structure.items()}
    return structure


def _tensor_spec(spec: Any) -> Any:
    if isinstance(spec, PerReplicaSpec):
        spec = spec.value_specs[0]
    if isinstance(spec, MsgpackSpec) or spec.shape is None or spec.optional:
        raise RequestError(
            f"TensorFlow has no type for a column of {spec}", advice="Leave it out: ds.select_columns(names)"
        )
    is_text = spec.dtype in ("str", "bytes")
    dtype = tf.string if is_text else tf.as_dtype(spec.dtype)
    inner = spec.shape[1:]
    if None not in inner:
        return tf.TensorSpec(spec.shape, dtype)
    if is_text or inner[0] is not None or None in inner[1:]:
        raise RequestError(
            f"rows of {spec} differ in more than their first dimension",
            advice="Pad them: ds.padded_batch(n) instead of ds.batch(n)",
        )
    return tf.RaggedTensorSpec((spec.shape[0], *inner), dtype, ragged_rank=1, row_splits_dtype=tf.int64)


def _tensor(value: Any) -> Any:
    if isinstance(value, Ragged) and value.dtype not in ("str", "bytes"):
        return tf.RaggedTensor.from_row_splits(value.values, value.row_offsets, validate=False)
    found = dense(value)
    if found.dtype == object:
        # Of Unicode text TensorFlow makes UTF-8 by itself, and keeps the bytes of bytes.
        return tf.constant(found.tolist(), tf.string, shape=found.shape)
    return found

