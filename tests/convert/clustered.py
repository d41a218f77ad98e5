"""Sources for the workers of a cluster: at the top level of a module, and stopped, failed or killed by files."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.convert import given


def stopping(place: str, shard: int, num_shards: int) -> Iterator[Any]:
    """Shard 2 waits for the file "go" when chunks of it are written, and says in "ready" which process waits."""
    ready, go = Path(place, "ready"), Path(place, "go")
    for number, record in enumerate(given.shardable(shard, num_shards, 12_000)):
        if shard == 2 and number == 1500 and not go.exists():
            ready.with_suffix(".new").write_text(str(os.getpid()))
            ready.with_suffix(".new").rename(ready)
            end = time.monotonic() + 60
            while not go.exists() and time.monotonic() < end:
                time.sleep(0.01)
        yield record


def failing(place: str, shard: int, num_shards: int) -> Iterator[Any]:
    """Fails in shard 1 while the file "broken" is there."""
    if shard == 1 and Path(place, "broken").exists():
        raise LookupError("no such image")
    yield from given.shardable(shard, num_shards)


def deadly(shard: int, num_shards: int) -> Iterator[Any]:
    """Kills whoever reads shard 1."""
    if shard == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    yield from given.shardable(shard, num_shards)


def noted_process(path: str) -> int:
    """The process that this runs in; noted in a file as well."""
    with open(path, "a") as file:
        file.write(f"{os.getpid()}\n")
    return os.getpid()


def who(shard: int, num_shards: int) -> Iterator[Any]:
    """The process that reads each shard."""
    yield {"shard": shard, "process": os.getpid()}
