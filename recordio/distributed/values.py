"""What a distributed data set hands out: one value for each replica of this pipeline, and the specs of these.

    {"image": PerReplica(array[2, ...], array[1, ...])}      leaves are PerReplica, the structure is that of a record

Source: tf.distribute.DistributedValues, tf.distribute.Strategy.experimental_local_results.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from recordio.structure import CONTAINERS, children, rebuild


class PerReplica:
    """One value for each local replica, in replica order."""

    __slots__ = ("_values",)

    def __init__(self, values: Any) -> None:
        self._values = tuple(values)

    @property
    def values(self) -> tuple[Any, ...]:
        """The values; one for each replica that this pipeline feeds."""
        return self._values

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __getitem__(self, replica: int) -> Any:
        return self._values[replica]

    def __repr__(self) -> str:
        lines = "".join(f"\n  {replica}: {value!r}" for replica, value in enumerate(self._values))
        return f"PerReplica:{{{lines}\n}}"


@dataclass(frozen=True, init=False)
class PerReplicaSpec:
    """The specs of a `PerReplica`, one for each local replica."""

    value_specs: tuple[Any, ...]

    def __init__(self, *value_specs: Any) -> None:
        object.__setattr__(self, "value_specs", value_specs)

    def __repr__(self) -> str:
        return f"PerReplicaSpec({', '.join(map(repr, self.value_specs))})"


class Optional:
    """A value, or none; what `get_next_as_optional` gives."""

    __slots__ = ("_values",)

    def __init__(self, *values: Any) -> None:
        self._values = values

    def has_value(self) -> bool:
        """Whether there is one."""
        return bool(self._values)

    def get_value(self) -> Any:
        """The value; ValueError if there is none."""
        if not self._values:
            raise ValueError("there is no value: the epoch is over")
        return self._values[0]


def experimental_local_results(value: Any) -> tuple[Any, ...]:
    """The values of this pipeline's replicas.

    Args:
        value: a `PerReplica`, a structure with these at its leaves, or anything else, which is the value of the only
            replica.

    Returns:
        One value, or one structure, for each local replica.
    """
    num_replicas = _num_replicas(value)
    if num_replicas is None:
        return (value,)
    return tuple(_of_replica(value, replica) for replica in range(num_replicas))


def _num_replicas(value: Any) -> int | None:
    if isinstance(value, PerReplica):
        return len(value)
    if isinstance(value, CONTAINERS):
        for _, child in children(value):
            found = _num_replicas(child)
            if found is not None:
                return found
    return None


def _of_replica(value: Any, replica: int) -> Any:
    if isinstance(value, PerReplica):
        return value[replica]
    if isinstance(value, CONTAINERS):
        return rebuild(value, [_of_replica(child, replica) for _, child in children(value)])
    return value
