"""Policies and input options: the names, values, defaults and refusals of TensorFlow (spec/order.md, section 6)."""

from __future__ import annotations

import dataclasses
import enum
import pickle
from pathlib import PurePath
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from recordio.distributed.options import AutoShardPolicy, InputOptions, InputReplicationMode, as_policy
from recordio.errors import RequestError

PER_WORKER, PER_REPLICA = InputReplicationMode.PER_WORKER, InputReplicationMode.PER_REPLICA


class ForeignPolicy(enum.IntEnum):
    """As tf.data has it, and with a member that it has not."""

    AUTO = 0
    DATA = 2
    ROUND_ROBIN = 9


class ForeignMode(enum.Enum):
    """As tf.distribute has it."""

    PER_WORKER = "PER_WORKER"
    PER_REPLICA = "PER_REPLICA"


@pytest.mark.parametrize(("value", "expected"), [
    (AutoShardPolicy.FILE, AutoShardPolicy.FILE),
    ("AUTO", AutoShardPolicy.AUTO),
    ("off", AutoShardPolicy.OFF),
    ("Hint", AutoShardPolicy.HINT),
    (ForeignPolicy.DATA, AutoShardPolicy.DATA),
])  # fmt: skip
def test_a_policy_is_known_by_its_name(value, expected):
    """Ours, a name in any case, or TensorFlow's member."""
    assert as_policy(value) is expected


@pytest.mark.parametrize("value", [None, 0, True, "", "FILES", b"AUTO", ForeignPolicy.ROUND_ROBIN, PER_WORKER,
                                   PurePath("AUTO"), AutoShardPolicy])  # fmt: skip
def test_an_unknown_policy_is_refused_with_the_names_there_are(value):
    """What only happens to have a name is none."""
    with pytest.raises(RequestError) as caught:
        as_policy(value)
    assert caught.value.message == f"policy is {value!r}"
    assert caught.value.advice == "Use one of OFF, AUTO, FILE, DATA, HINT"


def test_options_have_defaults():
    """Those of tf.distribute; a fetch_to_device of None is True there, too."""
    assert dataclasses.astuple(InputOptions()) == (True, PER_WORKER, False, 1)
    assert InputOptions(None) == InputOptions() == InputOptions.of(None)


@pytest.mark.parametrize("arguments", [
    (False, PER_WORKER, False, 0),
    (True, PER_REPLICA, False, 3),
    (False, PER_REPLICA, True, 1),
])  # fmt: skip
def test_options_are_kept_as_given(arguments):
    options = InputOptions(*arguments)
    assert dataclasses.astuple(options) == arguments
    assert pickle.loads(pickle.dumps(options)) == options
    assert hash(InputOptions(*arguments)) == hash(options)
    assert InputOptions.of(options) is options
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.experimental_per_replica_buffer_size = 2  # type: ignore[misc]


def test_foreign_values_become_ours():
    """TensorFlow's replication mode and a numpy int are taken, and are not kept."""
    options = InputOptions(experimental_replication_mode=ForeignMode.PER_REPLICA,  # type: ignore[arg-type]
                           experimental_per_replica_buffer_size=np.int64(2))  # fmt: skip
    assert options.experimental_replication_mode is PER_REPLICA
    assert type(options.experimental_per_replica_buffer_size) is int


@pytest.mark.parametrize(("arguments", "message"), [
    ({"experimental_place_dataset_on_device": True},
     "experimental_place_dataset_on_device is for InputReplicationMode.PER_REPLICA only"),
    ({"experimental_place_dataset_on_device": True, "experimental_fetch_to_device": False},
     "experimental_place_dataset_on_device is for InputReplicationMode.PER_REPLICA only"),
    ({"experimental_place_dataset_on_device": True, "experimental_replication_mode": PER_REPLICA},
     "experimental_place_dataset_on_device and experimental_fetch_to_device exclude each other"),
    ({"experimental_per_replica_buffer_size": -1}, "experimental_per_replica_buffer_size -1 is below 0"),
])  # fmt: skip
def test_options_that_contradict_one_another_are_refused(arguments, message):
    """When they are made, and not when the first batch is asked for."""
    with pytest.raises(RequestError) as caught:
        InputOptions(**arguments)
    assert caught.value.message == message


@pytest.mark.parametrize(("name", "value"), [
    ("experimental_fetch_to_device", 1),
    ("experimental_fetch_to_device", "yes"),
    ("experimental_place_dataset_on_device", None),
    ("experimental_place_dataset_on_device", 0),
    ("experimental_replication_mode", "PER_REPLICA"),
    ("experimental_replication_mode", None),
    ("experimental_replication_mode", AutoShardPolicy.AUTO),
    ("experimental_replication_mode", PurePath("PER_REPLICA")),
    ("experimental_per_replica_buffer_size", True),
    ("experimental_per_replica_buffer_size", 1.0),
    ("experimental_per_replica_buffer_size", "1"),
    ("experimental_per_replica_buffer_size", None),
])  # fmt: skip
def test_an_option_of_another_type_is_a_type_error_that_names_it(name, value):
    with pytest.raises(TypeError) as caught:
        InputOptions(**{name: value})
    assert str(caught.value).startswith(f"{name} is ") and str(caught.value).endswith(f", not {value!r}")


def foreign(**changes: Any) -> SimpleNamespace:
    """What has the four fields: a tf.distribute.InputOptions."""
    fields: dict[str, Any] = {
        "experimental_fetch_to_device": False,
        "experimental_replication_mode": ForeignMode.PER_REPLICA,
        "experimental_place_dataset_on_device": True,
        "experimental_per_replica_buffer_size": 0,
    }
    return SimpleNamespace(**(fields | changes))


def test_foreign_options_are_converted_and_checked():
    """TensorFlow checks its options late; here they are checked when they are taken."""
    assert InputOptions.of(foreign()) == InputOptions(False, PER_REPLICA, True, 0)
    with pytest.raises(RequestError, match="PER_REPLICA only"):
        InputOptions.of(foreign(experimental_replication_mode=ForeignMode.PER_WORKER))


@pytest.mark.parametrize("value", [0, "", {}, SimpleNamespace(experimental_fetch_to_device=True), InputOptions])
def test_what_lacks_a_field_is_no_input_options(value):
    """Only None stands for the defaults; the class is not one of its instances."""
    with pytest.raises(TypeError):
        InputOptions.of(value)
