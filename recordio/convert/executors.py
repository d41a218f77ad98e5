"""Executors of others: how much to hand them at once, and which of their errors mean that a worker died.

Any `concurrent.futures.Executor` will do. Dask's (`client.get_executor()`) is one, and is known here without being
imported: its tasks are sent by `recordio.convert.cluster` instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

from recordio.convert.cluster import ClusterExecutor
from recordio.errors import WorkerError

# Tasks handed out at once, where an executor does not say how many workers it has, or may get more of them.
_WINDOW = 64


@contextmanager
def adapted(executor: Executor) -> Iterator[Executor]:
    """Give the executor to use for a given one: itself, or its cluster's."""
    client = getattr(executor, "_client", None)
    if client is None or not _is_dasks(type(executor)):
        yield executor
        return
    with ClusterExecutor(client, options=getattr(executor, "_kwargs", None)) as cluster:
        yield cluster


def window_of(executor: Executor) -> int:
    """How many tasks to have under way on an executor: enough for all its workers, and few enough to be held."""
    if isinstance(executor, ClusterExecutor):
        return max(_WINDOW, 2 * executor.num_threads())
    workers = getattr(executor, "_max_workers", None)
    return 2 * workers if isinstance(workers, int) else _WINDOW


def as_worker_error(error: Exception, task: str) -> WorkerError | None:
    """An executor's own error as a WorkerError, if it says that the workers which tried a task have died."""
    # Dask's scheduler gives a task up when so many workers have died of it (distributed.scheduler.allowed-failures).
    if type(error).__name__ == "KilledWorker" and _is_dasks(type(error)):
        return WorkerError(
            f"every worker that tried {task} has died: {error}",
            advice="Look into the logs of the workers; often they lack memory: give them more, or run fewer at once",
        )
    return None


def _is_dasks(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "distributed"
