"""TensorFlow: batches as a `tf.data.Dataset`, also for every replica of a strategy.

    loader.to_tf()                                                              in one process
    strategy.distribute_datasets_from_function(dataset_fn(loader))              a custom loop, or fit
    tf.keras.utils.experimental.DatasetCreator(dataset_fn(loader.repeat()))     fit of legacy Keras

Every iteration is one pass over the data set, so the next epoch. Columns of fixed shape are dense tensors, text and
bytes `tf.string`, ragged columns `tf.RaggedTensor`. tf.data reads ahead of the loop: a state is made of the number of
steps that the loop has taken, by `state_after`.

Spec: spec/adapters.md, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import tensorflow as tf

from recordio.adapters.leaves import check_batched, dense, map_leaves
from recordio.batches import Batches
from recordio.distributed.dataset import DistributedDataset, distribute
from recordio.distributed.values import PerReplicaSpec, experimental_local_results
from recordio.errors import RequestError
from recordio.loading.loader import Loader
from recordio.loading.passes import LoaderIterator
from recordio.spec import MsgpackSpec
from recordio.values.ragged import Ragged


def to_tf(loader: Any, *, restarts: bool = False) -> tf.data.Dataset:
    """A `tf.data.Dataset` of the batches; of the part of a pipeline, those of its replicas in turn.

    Its element_spec is that of the batches, its cardinality their number (unknown, if a state was loaded before: the
    pass that goes on from it is shorter), and auto-sharding is off: who reads what is decided here.

    Args:
        restarts: every iteration begins where the loader stands now, not with the next epoch, and the loader stays
            there. For frameworks that begin iterations and throw them away, together with `loader.repeat()`.

    Raises:
        RequestError: not batched; a column that TensorFlow has no type for.
    """
    check_batched(loader, "to_tf", Batches, DistributedDataset)
    signature = map_leaves(_tupled(loader.element_spec), _tensor_spec)
    own: Loader = loader.loader
    steps = own.num_steps()
    is_counted = steps is None or (own.is_regular and own.place.resumed is None)
    place = own.place.standing()

    def batches() -> Iterator[Any]:
        begun = replace(own, place=place.standing()) if restarts else own
        iterator = begun.begin(LoaderIterator)
        begun.place.ahead = "tf.data"
        if is_counted and iterator.steps_left != steps:
            raise RequestError(
                f"a pass that goes on from a state has {iterator.steps_left} steps, this tf.data.Dataset has {steps}",
                advice="Load the state before to_tf()",
            )
        for step in iterator:
            for batch in experimental_local_results(step):
                yield _tupled(map_leaves(batch, _tensor))

    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    if is_counted:
        num_replicas = loader.context.num_local_replicas if isinstance(loader, DistributedDataset) else 1
        count = tf.data.INFINITE_CARDINALITY if steps is None else steps * num_replicas
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.with_options(options)


def dataset_fn(loader: Any, *, restarts: bool = False, **options: Any) -> Callable[[Any], tf.data.Dataset]:
    """What `strategy.distribute_datasets_from_function` takes: a function of a `tf.distribute.InputContext`.

    The loader stays where it is: its `state_dict` is where the first pass begins, and `state_after` counts from there.

    Args:
        loader: batched by the size of a global batch.
        restarts: as `to_tf` has it.
        options: policy and remainder, as `recordio.distribute` has them.
    """

    def make(input_context: Any) -> tf.data.Dataset:
        return to_tf(distribute(loader, input_context, **options), restarts=restarts)

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
    try:
        dtype = tf.string if is_text else tf.as_dtype(spec.dtype)
    except TypeError:
        raise RequestError(
            f"TensorFlow has no {spec.dtype}",
            advice="Leave the column out: ds.select_columns(names); or cast it: ds.map(fn)",
        ) from None
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

