"""Metering: how long a thread has been reading, verifying and so on; what `stats()` adds up.

    with measured() as spent: ...        spent.read_s, spent.verify_s, spent.total_s of this thread, inside the block

Each thread counts for itself and never resets, so that nothing has to be passed down to where bytes are read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

clock: Callable[[], float] = time.perf_counter
# Of what never waits but for the GIL, which others hold: that is their time.
processor_clock: Callable[[], float] = time.thread_time


class _Thread(threading.local):
    read_s = 0.0
    verify_s = 0.0


_thread = _Thread()


def add_read(started: float) -> None:
    """Count the time since `started` (of `clock`) as reading."""
    _thread.read_s += clock() - started


def add_verify(started: float) -> None:
    """Count the time since `started` (of `clock`) as verifying."""
    _thread.verify_s += clock() - started


@dataclass(slots=True)
class Spent:
    """What a block took, in seconds of one thread."""

    read_s: float = 0.0
    verify_s: float = 0.0
    total_s: float = 0.0


@contextmanager
def measured() -> Iterator[Spent]:
    """Measure a block; the figures are there when it has ended, also by an exception."""
    spent = Spent()
    read_s, verify_s, started = _thread.read_s, _thread.verify_s, clock()
    try:
        yield spent
    finally:
        spent.read_s, spent.verify_s = _thread.read_s - read_s, _thread.verify_s - verify_s
        spent.total_s = clock() - started


class Totals:
    """What an iterator, its threads and its processes took so far; safe from many threads.

    Attributes:
        records, num_batches: handed out.
        nbytes: of the arrays handed out.
        waited_s: the consumer, for its next batch.
        read_s, verify_s, decode_s: of decoding threads: files, checksums, and the rest.
        plan_s: which records come next; processor time.
        gather_s: putting shuffled records together.
        map_s: in the user's `map` functions and the checks of what they return.
        assemble_s: cutting batches, and building the structures handed out; processor time.
        num_deaths: worker processes that died and were replaced.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.records = self.num_batches = self.nbytes = self.num_deaths = 0
        self.waited_s = self.read_s = self.verify_s = self.decode_s = 0.0
        self.plan_s = self.gather_s = self.map_s = self.assemble_s = 0.0
        self.started = clock()

    def add_decoded(self, spent: Spent) -> None:
        """What a task of reading took."""
        with self._lock:
            self.read_s += spent.read_s
            self.verify_s += spent.verify_s
            self.decode_s += spent.total_s - spent.read_s - spent.verify_s

    def add(self, name: str, amount: float) -> None:
        """Add to one of the figures."""
        with self._lock:
            setattr(self, name, getattr(self, name) + amount)

    @contextmanager
    def timed(self, name: str, clock: Callable[[], float] = clock) -> Iterator[None]:
        """Add the time of a block."""
        started = clock()
        try:
            yield
        finally:
            self.add(name, clock() - started)
