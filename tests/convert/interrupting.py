"""Sources that count what is asked of them, and stop on request: for resuming within one process."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np

from tests.convert import given


class Failure(LookupError):
    """Of the user's own kind."""


class StoppingBatches(given.Batches):
    """Fails once, at one batch."""

    def __init__(self, stop_at: int | None, **sizes: int) -> None:
        super().__init__(**sizes)
        self.stop_at = stop_at

    def __getitem__(self, index: int):
        if index == self.stop_at:
            raise Failure("no such image")
        return super().__getitem__(index)


class StoppingRecords:
    """A numbered sequence of records that fails at one of them."""

    def __init__(self, stop_at: int | None, length: int = 1500) -> None:
        self.stop_at = stop_at
        self.length = length
        self.asked: list[int] = []

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> Any:
        if number == self.stop_at:
            raise Failure("no such record")
        self.asked.append(number)
        return given.record(number)


class Calls:
    """Generator functions that note which shards and lists they were called for."""

    def __init__(self, stop_at: int | None) -> None:
        self.stop_at = stop_at
        self.calls: list[Any] = []

    def shardable(self, shard: int, num_shards: int):
        self.calls.append(shard)
        for record in given.shardable(shard, num_shards):
            self._check(record["number"])
            yield record

    def from_lists(self, starts: list[int], step: int):
        self.calls.append(list(starts))
        for record in given.from_lists(starts, step):
            self._check(record["number"])
            yield record

    def plain(self):
        self.calls.append("plain")
        for record in given.plain():
            self._check(record["number"])
            yield record

    def _check(self, number: int) -> None:
        if number == self.stop_at:
            raise Failure("no such file")


class LoggedBatches(given.Batches):
    """Notes in a file what is asked of it, and in which process: what workers are asked for counts too."""

    def __init__(self, log: Path, **sizes: int) -> None:
        super().__init__(**sizes)
        self.log = str(log)

    def __getitem__(self, index: int):
        self._note(str(index))
        return super().__getitem__(index)

    def on_epoch_end(self) -> None:
        self._note("end")

    def _note(self, what: str) -> None:
        # O_APPEND and one write: lines of several processes do not mix.
        fd = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(fd, f"{what} {os.getpid()}\n".encode())
        os.close(fd)


class WhoAsks:
    """A PyDataset with wishes of its own; its records say who asked for them."""

    num_batches = 6
    max_queue_size = 6

    def __init__(self, workers: int, use_multiprocessing: bool) -> None:
        self.workers, self.use_multiprocessing = workers, use_multiprocessing

    def __getitem__(self, index: int):
        return {"process": np.full(2, os.getpid()), "thread": [threading.current_thread().name] * 2}

    def on_epoch_end(self) -> None:
        pass
