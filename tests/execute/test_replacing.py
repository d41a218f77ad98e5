"""Pools of their own: a worker that dies is named or replaced, and nothing outlives the iteration."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from recordio.errors import RequestError, WorkerError
from recordio.execute.pool import make_executor
from recordio.execute.replacing import replacing_map


def square(item: int) -> int:
    return item * item


def kill_once(item: tuple[int, str]) -> int:
    """Kill the worker the first time that the marked item comes; a file tells that it has come."""
    number, path = item
    if path and not os.path.exists(path):
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def always_kill(item: int) -> int:
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def fail(item: int) -> int:
    if item == 2:
        raise KeyError(item)
    return item


def slow(item: int) -> int:
    time.sleep(60 if item else 0)
    return item


def processes(workers: int = 2) -> Any:
    return lambda: make_executor(workers, True)


def assert_nothing_left() -> None:
    gc.collect()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        # The tracker of multiprocessing belongs to the interpreter, and stays.
        children = [c for c in psutil.Process().children() if "resource_tracker" not in " ".join(c.cmdline())]
        if not children and not [t for t in threading.enumerate() if t.name.startswith(("recordio", "QueueManager"))]:
            return
        time.sleep(0.05)
    pytest.fail(f"left: {children}, {threading.enumerate()}")


@pytest.mark.parametrize("multiprocessing", [False, True])
def test_results_come_in_order(multiprocessing: bool) -> None:
    """From threads and from processes, whatever the window; and the pool ends with them."""
    results = replacing_map(lambda: make_executor(2, multiprocessing), square, range(20), window=5)
    assert list(results) == [number * number for number in range(20)]
    assert_nothing_left()


@pytest.mark.parametrize(("workers", "where"), [(1, 0), (2, 5), (2, 11)])
def test_a_dead_worker_is_replaced_and_its_work_done_again(workers: int, where: int, tmp_path: Path) -> None:
    """The first, a middle or the last item: as if nothing had happened, but for the count."""
    items = [(number, str(tmp_path / "killed") if number == where else "") for number in range(12)]
    deaths: list[int] = []
    results = replacing_map(
        processes(workers), kill_once, items, window=4, replace_workers=True, on_death=lambda: deaths.append(1)
    )
    assert list(results) == [number * number for number in range(12)]
    assert len(deaths) == 1
    assert_nothing_left()


def test_a_dead_worker_surfaces_within_five_seconds_with_what_it_did() -> None:
    """Everything that was under way is named, and what to do."""
    results = replacing_map(processes(), always_kill, range(10), window=4, describe=lambda item: f"job {item}")
    got = []
    started = time.monotonic()
    with pytest.raises(WorkerError, match="job 3") as caught:
        for result in results:
            got.append(result)
            started = time.monotonic()
    assert time.monotonic() - started < 5
    assert got == list(range(len(got))) and len(got) <= 3
    assert "replace_workers" in str(caught.value)
    assert_nothing_left()


def test_a_worker_killed_from_outside_is_replaced() -> None:
    """As the system does it when memory runs out."""
    results = replacing_map(processes(1), square, range(30), window=2, replace_workers=True)
    got = [next(results)]
    (worker,) = [c for c in psutil.Process().children() if "resource_tracker" not in " ".join(c.cmdline())]
    worker.kill()
    assert got + list(results) == [number * number for number in range(30)]


def test_an_item_that_always_kills_is_given_up() -> None:
    """After three deaths, by name; the results before it were handed out."""
    results = replacing_map(processes(1), always_kill, range(6), window=1, replace_workers=True)
    got = []
    with pytest.raises(WorkerError, match="item 3 killed its worker 3 times"):
        got.extend(results)
    assert_nothing_left()


def test_an_exception_keeps_its_type_and_ends_the_pool() -> None:
    """After the results before it."""
    results = replacing_map(processes(), fail, range(6), window=3)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(KeyError):
        next(results)
    assert_nothing_left()


@pytest.mark.parametrize("how", ["close", "drop", "interrupt"])
def test_nothing_outlives_an_iteration_that_is_left(how: str) -> None:
    """Also where workers are in the middle of something long: they are ended within about a second."""
    results = replacing_map(processes(), slow, range(6), window=3)
    assert next(results) == 0
    started = time.monotonic()
    if how == "close":
        results.close()
    elif how == "interrupt":
        with pytest.raises(KeyboardInterrupt):
            results.throw(KeyboardInterrupt())
    del results
    assert_nothing_left()
    assert time.monotonic() - started < 10


def test_a_window_of_nothing_is_refused() -> None:
    """Before anything is made."""
    with pytest.raises(RequestError, match="window"):
        replacing_map(processes(), square, [1], window=0)
