"""Options of distribution: how batches are split over pipelines, and where they are made ready.

Source: tf.data.experimental.AutoShardPolicy, tf.distribute.InputOptions, tf.distribute.InputReplicationMode.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from recordio.errors import RequestError


class AutoShardPolicy(Enum):
    """How the records of a global batch are dealt out; see `recordio.distribute`. The values are tf.data's."""

    OFF = -1
    AUTO = 0
    FILE = 1
    DATA = 2
    HINT = 3


class InputReplicationMode(Enum):
    """Whether there is an input pipeline for each process, or one for each replica. The values are TensorFlow's."""

    PER_WORKER = "PER_WORKER"
    PER_REPLICA = "PER_REPLICA"


def as_policy(value: Any) -> AutoShardPolicy:
    """Take a policy: ours, its name, or TensorFlow's.

    Raises:
        RequestError: there is no such policy.
    """
    if isinstance(value, AutoShardPolicy):
        return value
    name = value.name if isinstance(value, Enum) else value
    names = AutoShardPolicy.__members__
    if isinstance(name, str) and name.upper() in names:
        return names[name.upper()]
    raise RequestError(f"policy is {value!r}", advice=f"Use one of {', '.join(names)}")


@dataclass(frozen=True, slots=True)
class InputOptions:
    """How batches come to the devices: tf.distribute's options, its defaults and its refusals.

    Batches of numpy are on the host. What speaks of devices is for the adapter that puts them there (`to_torch`).

    Attributes:
        experimental_fetch_to_device: batches are begun to be moved ahead; None means True.
        experimental_replication_mode: PER_WORKER; or PER_REPLICA, an input pipeline on every device, which
            `distribute_from_function` refuses.
        experimental_place_dataset_on_device: the data set itself lives on the device; only with PER_REPLICA, and not
            together with experimental_fetch_to_device.
        experimental_per_replica_buffer_size: batches ready on each device, or on their way there, besides the one in
            use; 0 for none. How many are ready on the host is said by `with_options(max_queue_size=)`.
    """

    experimental_fetch_to_device: bool | None = True
    experimental_replication_mode: InputReplicationMode = InputReplicationMode.PER_WORKER
    experimental_place_dataset_on_device: bool = False
    experimental_per_replica_buffer_size: int = 1

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            RequestError: they contradict one another. TypeError: of the wrong type.
        """
        if self.experimental_fetch_to_device is None:
            object.__setattr__(self, "experimental_fetch_to_device", True)
        for name in ("experimental_fetch_to_device", "experimental_place_dataset_on_device"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} is True or False, not {getattr(self, name)!r}")
        given: Any = self.experimental_replication_mode  # TensorFlow's is another enumeration
        mode = InputReplicationMode.__members__.get(given.name) if isinstance(given, Enum) else None
        if mode is None:
            raise TypeError(f"experimental_replication_mode is an InputReplicationMode, not {given!r}")
        object.__setattr__(self, "experimental_replication_mode", mode)
        size = _buffer_size(self.experimental_per_replica_buffer_size)
        object.__setattr__(self, "experimental_per_replica_buffer_size", size)
        if self.experimental_place_dataset_on_device and mode is not InputReplicationMode.PER_REPLICA:
            raise RequestError(
                "experimental_place_dataset_on_device is for InputReplicationMode.PER_REPLICA only",
                advice="Set the mode too, or leave the data set on the host",
            )
        if self.experimental_place_dataset_on_device and self.experimental_fetch_to_device:
            raise RequestError(
                "experimental_place_dataset_on_device and experimental_fetch_to_device exclude each other",
                advice="What is on the device need not be fetched there: experimental_fetch_to_device=False",
            )

    @classmethod
    def of(cls, value: Any) -> InputOptions:
        """Take options: ours, TensorFlow's, or None for the defaults.

        Raises:
            TypeError: something else.
        """
        if value is None:
            return cls()
        if isinstance(value, InputOptions):
            return value
        names = cls.__slots__
        if not all(hasattr(value, name) for name in names):
            raise TypeError(f"input_options is an InputOptions, not {value!r}")
        return cls(*(getattr(value, name) for name in names))


def _buffer_size(value: Any) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"experimental_per_replica_buffer_size is an int, not {value!r}")
    size = operator.index(value)
    if size < 0:
        raise RequestError(f"experimental_per_replica_buffer_size {size} is below 0")
    return size
