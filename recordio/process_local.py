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
        self._made: tuple[int, Value] | None = None

    def get(self) -> Value:
        """The value of this process."""
        made = self._made
        pid = os.getpid()
        if made is None or made[0] != pid:
            # Two threads may make it at once; the later one wins, which costs no more than its making.
            made = self._made = (pid, self._make())
        return made[1]

    def __reduce__(self) -> tuple[type[ProcessLocal[Value]], tuple[Callable[[], Value]]]:
        return ProcessLocal, (self._make,)
