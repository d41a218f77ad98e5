"""A real Dask cluster for tests: a scheduler and workers, each a process of its own, over TCP on free ports.

Nothing here hangs: whoever waits has a deadline, and leaving the block kills what still runs.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
_START_S = 60.0
_QUIET = ("--no-dashboard", "--dashboard-address", "127.0.0.1:0")


@dataclass
class Cluster:
    """What runs, and where it can be spoken to."""

    address: str
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def worker_ids(self) -> set[int]:
        """Process ids of the workers."""
        return {worker.pid for worker in self.workers}


@contextmanager
def started_cluster(directory: Path, *, num_workers: int = 2, allowed_failures: int | None = None) -> Iterator[Cluster]:
    """Start a scheduler, and workers of one thread each without anybody who would restart them.

    Args:
        directory: where they work and what they print is kept; not where the tests run.
        allowed_failures: workers that may die of a task before it is given up; Dask's default is 3.
    """
    directory.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "10s"}
    if allowed_failures is not None:
        environment["DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES"] = str(allowed_failures)
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str, *args: str) -> subprocess.Popen[bytes]:
        with open(directory / f"{name}.log", "wb") as log:
            command = [sys.executable, "-m", *args]
            started.append(subprocess.Popen(
                command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            ))  # fmt: skip
        return started[-1]

    found = directory / "scheduler.json"
    found.unlink(missing_ok=True)
    try:
        scheduler = start(
            "scheduler", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", *_QUIET,
            "--scheduler-file", str(found),
        )  # fmt: skip
        wait_until(lambda: address_in(found) is not None, scheduler)
        cluster = Cluster(address_in(found) or "", scheduler)
        for number in range(num_workers):
            cluster.workers.append(start(
                f"worker-{number}", "distributed.cli.dask_worker", cluster.address, "--host", "127.0.0.1", "--no-nanny",
                "--nthreads", "1", "--memory-limit", "0", *_QUIET, "--local-directory", str(directory / "scratch"),
            ))  # fmt: skip
        wait_until(lambda: num_connected(cluster.address) == num_workers, scheduler)
        yield cluster
    finally:
        for process in reversed(started):
            process.kill()
            process.wait(30)


def address_in(path: Path) -> str | None:
    """The address in the file that a scheduler writes about itself, once it is complete."""
    try:
        return str(json.loads(path.read_bytes())["address"])
    except (OSError, ValueError, KeyError):
        return None


def address_answers(host: str, port: int) -> bool:
    """Whether somebody listens there."""
    try:
        with socket.create_connection((host, port), timeout=5):
            return True
    except OSError:
        return False


def num_connected(address: str) -> int:
    """How many workers a scheduler has."""
    from distributed import Client

    with Client(address, timeout=30, set_as_default=False) as client:
        return len(client.nthreads())


def wait_until(there: Callable[[], bool], process: subprocess.Popen[bytes] | None = None) -> None:
    """Poll until something is there; a process that ends before is a failure, and so is a minute without it."""
    deadline = time.monotonic() + _START_S
    while not there():
        assert process is None or process.poll() is None, "the process has ended"
        assert time.monotonic() < deadline, "it did not get there"
        time.sleep(0.02)
