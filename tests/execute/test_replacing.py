"""Pools of their own: a worker that dies is named or replaced, and nothing outlives the iteration.

Source: design.md, section 5.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from recordio.errors import RequestError, WorkerError
from recordio.execute.pool import make_executor
from recordio.execute.replacing import replacing_map
from tests.laws.processes import children

NUM_ITEMS = 8
EXPECTED = [number * number for number in range(NUM_ITEMS)]


class Kept:
    """A result that can be watched."""


def square(item: int) -> int:
    return item * item


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_once(item: tuple[int, str]) -> int:
    """Kill the worker the first time that the marked item comes; a file tells that it has come."""
    number, marker = item
    if marker and not os.path.exists(marker):
        Path(marker).touch()
        die()
    return number * number


def keep_or_kill_once(item: tuple[int, str]) -> Kept:
    kill_once(item)
    return Kept()


def always_kill(item: int) -> int:
    if item == 3:
        die()
    return item


def hang_or_kill(item: int) -> None:
    if item:
        die()
    time.sleep(60)


def die_while_sending(item: int) -> bytes:
    """Half of the length of the result is all that ever comes."""

    def send(self: Connection, payload: bytes, write: object = None) -> None:
        os.write(self.fileno(), bytes(payload)[:2])
        die()

    Connection._send = send
    return bytes(1 << 20)


def fail(item: int) -> int:
    if item == 2:
        raise KeyError(item)
    return item


def hang(item: int) -> int:
    time.sleep(60 if item else 0)
    return item


def hang_and_ignore_sigterm(item: int) -> int:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return hang(item)


def processes(workers: int) -> Callable[[], Executor]:
    return lambda: make_executor(workers, True)


def semaphores() -> set[str]:
    """Files of shared memory that this process has open, as the system tells."""
    maps = Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if maps.exists() else []
    return {line.split(maxsplit=5)[5] for line in lines if "/dev/shm/" in line}


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No process, thread or semaphore, and at once: an iteration that is over has waited for them."""
    threads, shared = set(threading.enumerate()), semaphores()
    others = children()  # of tests before this one: the server that a conversion forks from
    yield
    gc.collect()
    assert [child for child in children() if child not in others] == []
    assert [thread for thread in threading.enumerate() if thread not in threads] == []
    assert semaphores() - shared == set()


@pytest.mark.parametrize("use_multiprocessing", [False, True])
def test_results_come_in_the_order_of_the_items(use_multiprocessing):
    """From threads and from processes; the executor is made at the first `next`, and there is one."""
    num_made = 0

    def make() -> Executor:
        nonlocal num_made
        num_made += 1
        return make_executor(2, use_multiprocessing)

    results = replacing_map(make, square, range(NUM_ITEMS), window=5)
    assert num_made == 0
    assert list(results) == EXPECTED
    assert num_made == 1


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_semaphores_go_with_the_iteration():
    """They are files until then: the check that every test here ends with can see them."""
    before = semaphores()
    results = replacing_map(processes(1), square, range(NUM_ITEMS), window=2)
    next(results)
    made = semaphores() - before
    assert made
    results.close()
    del results
    gc.collect()
    assert [name for name in made if Path(name).exists()] == []


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("where", [0, NUM_ITEMS // 2, NUM_ITEMS - 1])
def test_a_worker_that_dies_is_replaced_and_its_work_done_again(workers, where, tmp_path):
    """In the first, a middle or the last item: as if nothing had happened, but for the count."""
    items = [(number, str(tmp_path / "killed") if number == where else "") for number in range(NUM_ITEMS)]
    deaths: list[int] = []
    results = replacing_map(
        processes(workers), kill_once, items, window=4, replace_workers=True, on_death=lambda: deaths.append(1)
    )
    assert list(results) == EXPECTED
    assert len(deaths) == 1


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("replace_workers", [False, True])
@pytest.mark.parametrize("after", [1, NUM_ITEMS // 2, NUM_ITEMS])
def test_a_worker_killed_from_outside_is_replaced_or_an_error(workers, replace_workers, after):
    """As the system does it when memory runs out. After the last result nothing is lost, and nothing said."""
    results = replacing_map(processes(workers), square, range(NUM_ITEMS), window=1, replace_workers=replace_workers)
    got = [next(results) for _ in range(after)]
    for worker in children():
        worker.kill()
    if replace_workers or after == NUM_ITEMS:
        assert got + list(results) == EXPECTED
        return
    started = time.monotonic()
    with pytest.raises(WorkerError, match=f"item {after}"):
        list(results)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("workers", [1, 2])
def test_a_death_surfaces_within_five_seconds_with_all_that_was_under_way(workers):
    """The earliest first, without what was done; and what to do."""
    results = replacing_map(processes(workers), always_kill, range(20), window=12, describe=lambda item: f"<{item}>")
    got = []
    started = time.monotonic()
    with pytest.raises(WorkerError) as caught:
        for result in results:
            got.append(result)
            started = time.monotonic()
    assert time.monotonic() - started < 5
    assert got == list(range(len(got))) and len(got) <= 3
    named = [int(part.partition(">")[0]) for part in caught.value.message.split("<")[1:]]
    assert named == sorted(named) and named[0] == len(got) and 3 in named
    if workers == 1:
        assert named == list(range(len(got), len(got) + 12))
    assert str(caught.value).endswith("or let it be replaced: with_options(replace_workers=True)")
    assert caught.value.__cause__ is not None


def test_a_death_beside_a_worker_that_hangs_surfaces_within_five_seconds():
    """The executor of the standard library sees only the deaths of processes that it knew when it began to wait."""
    started = time.monotonic()
    with pytest.raises(WorkerError, match="item 0; item 1"):
        list(replacing_map(processes(2), hang_or_kill, range(2), window=2))
    assert time.monotonic() - started < 5


def test_a_death_in_the_middle_of_a_result_surfaces_within_five_seconds():
    """The executor of the standard library waits for the rest of it for ever."""
    results = replacing_map(processes(1), die_while_sending, [0], window=1)
    started = time.monotonic()
    with pytest.raises(WorkerError, match="item 0"):
        list(results)
    assert time.monotonic() - started < 5


def test_an_item_that_always_kills_its_worker_is_given_up():
    """After `max_deaths` deaths, by name; the results before it were handed out."""
    deaths: list[int] = []
    results = replacing_map(
        processes(1), always_kill, range(6), window=1, replace_workers=True, on_death=lambda: deaths.append(1)
    )
    got = []
    with pytest.raises(WorkerError, match=r"^item 3 killed its worker 3 times \("):
        for result in results:
            got.append(result)
    assert got == [0, 1, 2]
    assert len(deaths) == 3


def test_who_is_given_up_is_not_certain_beside_others():
    """The earliest unfinished item is the suspect, and the error names what was under way beside it."""
    results = replacing_map(processes(2), hang_or_kill, range(2), window=2, replace_workers=True, max_deaths=1)
    with pytest.raises(WorkerError, match="item 0 killed its worker 1 times, or one under way beside it did: item 1"):
        list(results)


def test_an_exception_keeps_its_type_and_ends_the_pool():
    """It is no death, and comes after the results before it."""
    deaths: list[int] = []
    results = replacing_map(
        processes(2), fail, range(6), window=3, replace_workers=True, on_death=lambda: deaths.append(1)
    )
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(KeyError):
        next(results)
    assert deaths == []


@pytest.mark.parametrize("how", ["close", "drop", "interrupt", "never begun"])
def test_nothing_outlives_an_iteration_that_is_left(how):
    """Also where workers are in the middle of something long."""
    results = replacing_map(processes(2), hang, range(6), window=3)
    started = time.monotonic()
    if how == "interrupt":
        with pytest.raises(KeyboardInterrupt):
            for _ in results:
                raise KeyboardInterrupt
    elif how != "never begun":
        assert next(results) == 0
    if how == "close":
        results.close()
    del results
    gc.collect()
    assert time.monotonic() - started < 10


def test_ctrl_c_while_it_waits_ends_the_pool():
    """The consumer is in `next`, and the worker will not answer."""
    results = replacing_map(processes(1), hang, range(2), window=2)
    assert next(results) == 0
    timer = threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        next(results)
    timer.join()


@pytest.mark.parametrize("stopped", [False, True])
def test_workers_that_do_not_obey_are_killed_all_at_once(stopped):
    """Ignoring SIGTERM, or stopped by SIGSTOP: two seconds for any number of them, not for each."""
    results = replacing_map(processes(3), hang if stopped else hang_and_ignore_sigterm, range(6), window=6)
    assert next(results) == 0
    workers = children()
    assert len(workers) == 3
    if stopped:
        for worker in workers:
            worker.suspend()
    started = time.monotonic()
    results.close()
    assert time.monotonic() - started < 4


def test_threads_are_waited_for():
    """They cannot be killed; what has not begun is not run."""
    begun, may_end, ended = threading.Event(), threading.Event(), []

    def work(item: int) -> int:
        if item:
            begun.set()
            may_end.wait(30)
            ended.append(item)
        return item

    results = replacing_map(lambda: make_executor(1, False), work, range(6), window=4)
    assert next(results) == 0
    assert begun.wait(30)
    timer = threading.Timer(0.2, may_end.set)
    timer.start()
    results.close()
    assert ended == [1]
    timer.join()


@pytest.mark.parametrize("killed", [False, True])
def test_only_the_caller_keeps_a_result_alive(killed, tmp_path):
    """While the iterator waits at its yield, and after a death too; without the help of the garbage collector."""
    items = [(number, str(tmp_path / "killed") if killed and number == 1 else "") for number in range(4)]
    results = replacing_map(processes(1), keep_or_kill_once, items, window=3, replace_workers=True)
    gc.disable()
    try:
        for _ in items:
            result = weakref.ref(next(results))
            deadline = time.monotonic() + 5
            while result() is not None and time.monotonic() < deadline:     # the pool's thread may be at its end
                time.sleep(0.001)
            assert result() is None
    finally:
        gc.enable()
        results.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_fork_cannot_go_on_and_does_no_harm():
    """Its parent goes on with workers that are still there."""
    results = replacing_map(processes(1), square, range(NUM_ITEMS), window=2, replace_workers=True)
    assert next(results) == 0
    pid = os.fork()
    if not pid:
        status = 1
        try:
            next(results)
        except WorkerError as error:
            status = 0 if "fork" in str(error) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert [*results] == EXPECTED[1:]


def test_a_window_of_nothing_is_refused():
    """Before anything is made."""
    with pytest.raises(RequestError, match="window is 0"):
        replacing_map(processes(1), square, [1], window=0)


def test_items_are_closed_with_the_iteration():
    """Their source may hold threads and files of its own."""
    closed: list[Any] = []

    def items() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed.append(True)

    source = items()
    results = replacing_map(lambda: make_executor(1, False), square, source, window=2)
    assert next(results) == 0
    results.close()
    assert closed == [True]
