"""DatasetCreator: the checks of tf.keras.utils.experimental.DatasetCreator, for data sets of recordio."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import recordio
from recordio.distributed.context import InputContext
from recordio.distributed.creator import DatasetCreator
from recordio.distributed.options import InputOptions, InputReplicationMode
from recordio.errors import RequestError

RECORDS = {"id": np.arange(12)}


def records() -> Any:
    return recordio.from_tensor_slices(RECORDS)


def make(context: InputContext) -> Any:
    """A dataset_fn as in Keras' own example."""
    own = records().shard(context.num_input_pipelines, context.input_pipeline_id)
    return own.batch(context.get_per_replica_batch_size(4))


def test_a_creator_makes_what_its_function_makes():
    """The context goes to the function, and its data set comes back, untouched."""
    batches = list(DatasetCreator(make)(InputContext(2, 1, 2)))
    assert [batch["id"].tolist() for batch in batches] == [[1, 3], [5, 7], [9, 11]]


def test_all_arguments_are_passed_on():
    """As Keras does it."""
    loader = records().batch(3)
    given = []

    def dataset_fn(*args: Any, **kwargs: Any) -> Any:
        given.append((args, kwargs))
        return loader

    creator = DatasetCreator(dataset_fn)
    assert creator.dataset_fn is dataset_fn
    assert creator(1, 2, three=3) is loader and creator() is loader
    assert given == [((1, 2), {"three": 3}), ((), {})]


def test_nothing_is_called_before_its_time():
    """The function may open files that only the input pipeline's own host has."""
    DatasetCreator(lambda context: pytest.fail("called"))


@pytest.mark.parametrize("dataset_fn", [None, 2, "make", {}])
def test_what_cannot_be_called_is_no_dataset_fn(dataset_fn):
    with pytest.raises(TypeError, match="dataset_fn for DatasetCreator must be a callable, not "):
        DatasetCreator(dataset_fn)


def test_a_data_set_is_no_dataset_fn():
    """The mistake of whoever forgets the lambda."""
    with pytest.raises(TypeError, match="must be a callable"):
        DatasetCreator(records().batch(4))  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [None, InputOptions(False), InputOptions(experimental_per_replica_buffer_size=3)])
def test_options_are_kept(given):
    """None stays None: whoever distributes the data set may have options of his own."""
    assert DatasetCreator(make, given).input_options is given
    assert DatasetCreator(make, input_options=given).input_options is given


def foreign_options(**changes: Any) -> SimpleNamespace:
    fields: dict[str, Any] = {
        "experimental_fetch_to_device": True,
        "experimental_replication_mode": InputReplicationMode.PER_WORKER,
        "experimental_place_dataset_on_device": False,
        "experimental_per_replica_buffer_size": 2,
    }
    return SimpleNamespace(**(fields | changes))


def test_foreign_options_become_ours():
    """A tf.distribute.InputOptions has the four fields; what it cannot mean is refused at once."""
    creator = DatasetCreator(make, foreign_options())
    assert creator.input_options == InputOptions(experimental_per_replica_buffer_size=2)
    with pytest.raises(RequestError, match="PER_REPLICA only"):
        DatasetCreator(make, foreign_options(experimental_place_dataset_on_device=True))


@pytest.mark.parametrize("given", [0, False, "", {}, (), True, SimpleNamespace(experimental_fetch_to_device=True)])
def test_other_options_are_a_type_error(given):
    """Even those that Keras overlooks because they are false."""
    with pytest.raises(TypeError, match=r"^input_options is an InputOptions, not "):
        DatasetCreator(make, given)


@pytest.mark.parametrize(("made", "what"), [
    (None, "NoneType"), (3, "int"), ([{"id": 1}], "list"), (iter(()), "tuple_iterator"),
    (SimpleNamespace(batch_size=4), "SimpleNamespace"),         # torch's DataLoader has this one
    (SimpleNamespace(element_spec=None), "SimpleNamespace"),    # tf.data's Dataset has that one
])  # fmt: skip
def test_what_is_no_data_set_is_a_type_error_with_advice(made, what):
    """The type found, and how to make the one wanted."""
    with pytest.raises(TypeError) as caught:
        DatasetCreator(lambda context: made)(InputContext())
    assert str(caught.value) == (
        f"dataset_fn of a DatasetCreator must give a batched recordio data set, not {what}. "
        "Batch it: ds.batch(context.get_per_replica_batch_size(global_batch_size))"
    )


def test_a_data_set_that_is_not_batched_gets_its_own_advice():
    with pytest.raises(TypeError) as caught:
        DatasetCreator(lambda context: records())(InputContext())
    assert str(caught.value).startswith("dataset_fn of a DatasetCreator gave a Dataset that is not batched. Batch it: ")


def test_what_stands_in_for_a_batched_data_set_is_taken():
    """It is known by what it has: a batch size and the spec of a batch."""
    stand_in = SimpleNamespace(batch_size=4, element_spec={"id": None})
    assert DatasetCreator(lambda: stand_in)() is stand_in  # type: ignore[arg-type, return-value]


def test_errors_of_the_function_pass_through():
    """What the user's own code raises keeps its type."""
    error = KeyError("no such split")

    def dataset_fn(context: InputContext) -> Any:
        raise error

    with pytest.raises(KeyError) as caught:
        DatasetCreator(dataset_fn)(InputContext())
    assert caught.value is error
