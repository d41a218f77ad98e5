"""A value per process: what a fork must not share, and pickle must not carry."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class ProcessLocal(Generic[Value]):
    """Makes its value when it is first asked for in a process; a forked or unpickled copy makes its own."""

    def __init__(self, make: Callable[[], Value]) -> None:
        self._make = make
        self._made: dict[int, Value] = {}

    def get(self) -> Value:
        """The value of this process."""
        pid = os.getpid()
        made = self._made.get(pid)
        if made is None:
            # Two threads may make it at once; both get the one that was first.
            made = self._made.setdefault(pid, self._make())
            for other in [one for one in list(self._made) if one != pid]:
                self._made.pop(other, None)
        return made

    def __reduce__(self) -> tuple[type[ProcessLocal[Value]], tuple[Callable[[], Value]]]:
        return ProcessLocal, (self._make,)
