"""Sources that misbehave, at the top level of a module for worker processes; and scripts that are run from outside."""

from __future__ import annotations

import os
import signal
from typing import Any

import numpy as np

from recordio import TensorSpec
from tests.convert import given


class CpuBound:
    """A PyDataset whose every batch takes pure Python work, so that only processes help."""

    def __init__(self, num_batches: int, work: int) -> None:
        self.num_batches = num_batches
        self.work = work

    def __getitem__(self, index: int) -> Any:
        total = 0
        for number in range(self.work):
            total = (total * 31 + number) % 1_000_003
        return np.full((8, 4), total + index, "int64")

    def on_epoch_end(self) -> None:
        pass


class Kinds:
    """A PyDataset that gives one kind of batch."""

    def __init__(self, batch: Any, num_batches: int = 3) -> None:
        self.batch = batch
        self.num_batches = num_batches

    def __getitem__(self, index: int) -> Any:
        return self.batch

    def on_epoch_end(self) -> None:
        pass


def dies(shard: int, num_shards: int):
    """The worker that has shard 2 is killed from outside, as for want of memory."""
    for record in given.shardable(shard, num_shards):
        if shard == 2 and record["number"] % 100 == 50:
            os.kill(os.getpid(), signal.SIGKILL)
        yield record


class DyingBatches(given.Batches):
    def __getitem__(self, index: int) -> Any:
        if index == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


class Odd(Exception):
    """Whose constructor pickle does not know how to call."""

    def __init__(self, code: int, *, path: str) -> None:
        super().__init__(f"{path}: {code}")
        self.code = code


def raises_odd(shard: int, num_shards: int):
    for record in given.shardable(shard, num_shards):
        if shard == 3:
            raise Odd(17, path="a.jpg")
        yield record


def raises_exit(shard: int, num_shards: int):
    yield given.record(shard)
    if shard == 1:
        raise SystemExit(3)


SPEC = {"number": TensorSpec((), "int64")}

# Endless without an interrupt; worker processes find `endless` in this module.
INTERRUPTED = """
import sys
import recordio
from tests.convert import hostile

if __name__ == "__main__":
    workers, processes, path = int(sys.argv[1]), sys.argv[2] == "processes", sys.argv[3]
    recordio.convert(
        hostile.endless_after_two, path, output_signature=hostile.SPEC, num_shards=8, workers=workers,
        use_multiprocessing=processes,
    )
"""


def endless_after_two(shard: int, num_shards: int):
    """Shards 0 and 1 come to an end, then a file appears beside nothing: who waits for it interrupts."""
    number = 0
    while shard >= 2 or number < 10:
        yield {"number": number % 10}
        number += 1
