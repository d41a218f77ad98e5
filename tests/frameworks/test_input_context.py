"""Input contexts, policies, options and creators are those of TensorFlow: same words, values, defaults, refusals."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.keras.utils.dataset_creator import DatasetCreator as KerasDatasetCreator

import recordio
from recordio.distributed.context import InputContext, as_input_context
from recordio.distributed.creator import DatasetCreator
from recordio.distributed.options import AutoShardPolicy, InputOptions, InputReplicationMode, as_policy
from recordio.errors import RequestError

pytestmark = pytest.mark.framework

CONTEXT_NAMES = ("num_input_pipelines", "input_pipeline_id", "num_replicas_in_sync")


def outcome(call: Callable[[], Any]) -> Any:
    """The value, or that it is a ValueError."""
    try:
        return call()
    except ValueError:
        return ValueError


def test_a_batch_is_divided_as_tensorflow_divides_it():
    """The same size per replica, and a ValueError for the same sizes."""
    for replicas, size in itertools.product(range(1, 9), range(40)):
        ours, theirs = InputContext(1, 0, replicas), tf.distribute.InputContext(1, 0, replicas)
        own, other = (outcome(partial(c.get_per_replica_batch_size, size)) for c in (ours, theirs))
        assert own == other, (replicas, size)


def test_contexts_have_tensorflows_arguments_and_defaults():
    ours, theirs = (inspect.signature(kind).parameters for kind in (InputContext, tf.distribute.InputContext))
    assert [(p.name, p.default) for p in ours.values()] == [(p.name, p.default) for p in theirs.values()]


def test_a_tensorflow_context_is_taken():
    """With its numbers; one that TensorFlow lets pass, with fewer replicas than pipelines, is refused."""
    context = as_input_context(tf.distribute.InputContext(4, 2, 8))
    assert tuple(getattr(context, name) for name in CONTEXT_NAMES) == (4, 2, 8)
    with pytest.raises(RequestError, match="no multiple"):
        as_input_context(tf.distribute.InputContext(4, 2))


def test_policies_have_tensorflows_names_and_values():
    """And TensorFlow's members are taken for ours."""
    theirs = tf.data.experimental.AutoShardPolicy
    assert {p.name: p.value for p in AutoShardPolicy} == {p.name: p.value for p in theirs}
    assert [as_policy(policy) for policy in theirs] == [AutoShardPolicy[policy.name] for policy in theirs]


def test_options_have_tensorflows_fields_and_defaults():
    ours, theirs = InputOptions(), tf.distribute.InputOptions()
    assert tuple(field.name for field in dataclasses.fields(ours)) == theirs._fields
    assert InputOptions.of(theirs) == ours
    modes = tf.distribute.InputReplicationMode
    assert {m.name: m.value for m in InputReplicationMode} == {m.name: m.value for m in modes}


@pytest.mark.parametrize("mode", ["PER_WORKER", "PER_REPLICA"])
@pytest.mark.parametrize("fetch", [None, False, True])
@pytest.mark.parametrize("place", [False, True])
def test_options_that_tensorflow_refuses_are_refused(mode, fetch, place):
    """MirroredStrategy, which takes the most, refuses the same combinations when it makes a data set."""
    theirs = tf.distribute.InputOptions(fetch, tf.distribute.InputReplicationMode[mode], place)
    strategy = tf.distribute.MirroredStrategy(["/cpu:0"])

    def distributed() -> bool:
        strategy.distribute_datasets_from_function(lambda _: tf.data.Dataset.range(4).batch(2), theirs)
        return True

    assert outcome(lambda: bool(InputOptions.of(theirs))) == outcome(distributed)


def test_creators_refuse_what_keras_refuses():
    """A TypeError for what cannot be called, for other options, and for a function that gives no data set."""
    options = tf.distribute.InputOptions(experimental_per_replica_buffer_size=2)
    assert DatasetCreator(lambda context: None, options).input_options == InputOptions.of(options)
    for kind in (DatasetCreator, KerasDatasetCreator):
        for arguments in [(2,), (None,), (lambda: None, 3), (lambda: None, "on the device")]:
            with pytest.raises(TypeError):
                kind(*arguments)
        with pytest.raises(TypeError):
            kind(lambda: 3)()


# -- wherever ours are taken --


def parts(dist: Any) -> list[Any]:
    """The records of every replica at every step."""
    return [[part.tolist() for part in recordio.experimental_local_results(step)] for step in dist]


@pytest.mark.parametrize("numbers", [(1, 0, 1), (1, 0, 3), (2, 1, 2), (2, 0, 4), (3, 2, 6)], ids=str)
@pytest.mark.parametrize("policy", ["AUTO", "DATA", "OFF"])
def test_tensorflows_words_distribute_as_ours(numbers: tuple[int, int, int], policy: str):
    """Its context, policies, options and creators, by every function that takes ours: the same parts of every batch."""
    ours, theirs = InputContext(*numbers), tf.distribute.InputContext(*numbers)
    loader = recordio.from_tensor_slices(np.arange(50)).shuffle(seed=1).batch(12)
    their_policy = getattr(tf.data.experimental.AutoShardPolicy, policy)
    expected = parts(recordio.distribute(loader, ours, policy=AutoShardPolicy[policy]))
    assert parts(recordio.distribute(loader, theirs, policy=their_policy)) == expected
    assert parts(recordio.distribute(loader, context=theirs, policy=policy)) == expected

    def dataset_fn(context: Any) -> Any:
        records = recordio.from_tensor_slices(np.arange(50))
        own = records.shard(context.num_input_pipelines, context.input_pipeline_id)
        return own.batch(context.get_per_replica_batch_size(12))

    expected = parts(recordio.distribute_from_function(dataset_fn, ours, InputOptions()))
    options = tf.distribute.InputOptions(experimental_per_replica_buffer_size=3)
    for fn in (dataset_fn, DatasetCreator(dataset_fn, options)):
        assert parts(recordio.distribute_from_function(fn, theirs, options)) == expected
        assert parts(recordio.distribute_from_function(fn, theirs)) == expected


def test_the_context_that_a_strategy_gives_is_taken():
    """By our functions, within the dataset_fn that TensorFlow calls."""
    contexts = []

    def dataset_fn(context: Any) -> Any:
        contexts.append(context)
        found = parts(recordio.distribute(recordio.from_tensor_slices(np.arange(6)).batch(4), context))
        numbers = [number for step in found for part in step for number in part]
        return tf.data.Dataset.from_tensor_slices(numbers).batch(2)

    strategy = tf.distribute.MirroredStrategy(["/cpu:0"])
    found = [batch.numpy().tolist() for batch in strategy.distribute_datasets_from_function(dataset_fn)]
    assert found == [[0, 1], [2, 3], [4, 5]]
    (context,) = contexts
    assert isinstance(context, tf.distribute.InputContext) and as_input_context(context) == InputContext(1, 0, 1)
