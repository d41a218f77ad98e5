"""Pools: order, bounds, errors and dead workers (design.md, section 5)."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from recordio.errors import RequestError, SourceError, WorkerError
from recordio.execute.pool import as_completed_map, make_executor, ordered_map


class PickyError(Exception):
    """Pickles, but cannot be made from its args alone: the kind that breaks a process pool."""

    def __init__(self, number: int, *, reason: str) -> None:
        super().__init__(f"{number}: {reason}")
        self.number = number


def square(n: int) -> int:
    return n * n


def fail_at_three(n: int) -> int:
    if n == 3:
        error = PickyError(n, reason="three")
        error.add_note("a note")
        raise error
    return n


class ComposingError(Exception):
    def __init__(self, name: str) -> None:
        super().__init__(f"bad {name}")


def raise_composing(name: str) -> None:
    raise ComposingError(name)


def raise_local(n: int) -> int:
    class LocalError(Exception):
        pass

    raise LocalError(f"local {n}")


def raise_source_error_with_a_note(n: int) -> int:
    error = SourceError("changed", record=n)
    error.add_note("a note")
    raise error


def die_at_two(n: int) -> int:
    if n == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return n


_initialized = 0


def initialize(value: int) -> None:
    global _initialized
    _initialized = value


def read_initialized(_: int) -> int:
    return _initialized


@pytest.fixture(scope="module")
def processes():
    with make_executor(2, True, initialize, (5,)) as executor:
        yield executor


class LazyExecutor(Executor):
    """Runs an item only when it is told to: what is under way can be counted."""

    def __init__(self) -> None:
        self.futures: list[Future] = []
        self.calls: list = []

    def submit(self, fn, /, *args, **kwargs):
        future: Future = Future()
        self.futures.append(future)
        self.calls.append((fn, args))
        return future

    def run(self, number: int) -> None:
        future = self.futures[number]
        if future.set_running_or_notify_cancel():
            fn, args = self.calls[number]
            future.set_result(fn(*args))


def test_executors_are_threads_or_spawned_processes(processes):
    with make_executor(3, False) as executor:
        assert isinstance(executor, ThreadPoolExecutor)
    assert isinstance(processes, ProcessPoolExecutor)
    assert processes._mp_context.get_start_method() == "spawn"
    assert set(ordered_map(processes, read_initialized, range(3), window=2)) == {5}
    with pytest.raises(RequestError, match="workers is 0"):
        make_executor(0, False)


@pytest.mark.parametrize("window", [1, 2, 50])
def test_results_come_in_the_order_of_the_items(window, processes):
    expected = [n * n for n in range(20)]
    with make_executor(4, False) as threads:
        assert list(ordered_map(threads, square, range(20), window=window)) == expected
    assert list(ordered_map(processes, square, range(20), window=window)) == expected
    assert list(ordered_map(processes, square, [], window=window)) == []


def test_order_holds_when_later_items_finish_first():
    executor = LazyExecutor()
    results = ordered_map(executor, square, iter([1, 2, 3]), window=3)
    got: list[int] = []
    consumer = threading.Thread(target=lambda: got.extend(results))
    consumer.start()
    while len(executor.futures) < 3:
        time.sleep(0.001)
    for number in (2, 0, 1):
        executor.run(number)
    consumer.join(10)
    assert got == [1, 4, 9]


def test_no_more_than_window_items_are_taken():
    """Results that wait count as under way: memory is bounded, whatever the consumer does."""
    taken = []

    def items():
        for n in range(100):
            taken.append(n)
            yield n

    with make_executor(4, False) as executor:
        for count, _ in enumerate(ordered_map(executor, square, items(), window=3), start=1):
            assert len(taken) <= count + 2
    taken.clear()
    with make_executor(4, False) as executor:
        for count, _ in enumerate(as_completed_map(executor, square, items(), window=3), start=1):
            assert len(taken) <= count + 2


def test_window_must_be_at_least_one():
    with make_executor(1, False) as executor:
        for function in (ordered_map, as_completed_map):
            with pytest.raises(RequestError, match="window is 0"):
                function(executor, square, [1], window=0)


@pytest.mark.parametrize("use_multiprocessing", [False, True])
def test_the_earliest_failure_keeps_its_type_and_comes_in_order(use_multiprocessing, processes):
    executor = processes if use_multiprocessing else make_executor(2, False)
    results = ordered_map(executor, fail_at_three, range(1000), window=4)
    got = []
    with pytest.raises(PickyError, match="3: three") as caught:
        for result in results:
            got.append(result)
    assert got == [0, 1, 2]
    assert caught.value.number == 3
    assert caught.value.__notes__ == ["a note"]
    if use_multiprocessing:
        assert "fail_at_three" in str(caught.value.__cause__)
        assert list(ordered_map(processes, square, [2], window=1)) == [4]      # the pool lives on
    else:
        executor.shutdown()


def test_an_exception_comes_back_with_its_message_as_it_was(processes):
    with pytest.raises(ComposingError) as caught:
        list(ordered_map(processes, raise_composing, ["name"], window=1))
    assert str(caught.value) == "bad name"


def test_an_exception_that_no_other_process_can_know_comes_as_text(processes):
    with pytest.raises(RuntimeError, match="LocalError: local 7"):
        list(ordered_map(processes, raise_local, [7], window=1))


def test_notes_of_our_own_errors_survive_the_way_back(processes):
    with pytest.raises(SourceError) as caught:
        list(ordered_map(processes, raise_source_error_with_a_note, [7], window=1))
    assert caught.value.record == 7
    assert caught.value.__notes__ == ["a note"]


def test_exceptions_can_be_had_as_results(processes):
    results = list(ordered_map(processes, fail_at_three, range(6), window=2, return_exceptions=True))
    assert [n for n in results if isinstance(n, int)] == [0, 1, 2, 4, 5]
    assert isinstance(results[3], PickyError)


def test_a_failing_item_source_comes_after_the_results_before_it():
    def items():
        yield from (1, 2)
        raise KeyError("items")

    got = []
    with make_executor(2, False) as executor:
        with pytest.raises(KeyError, match="items"):
            for result in ordered_map(executor, square, items(), window=10):
                got.append(result)
    assert got == [1, 4]
    got = []
    with make_executor(2, False) as executor:
        with pytest.raises(KeyError, match="items"):
            for pair in as_completed_map(executor, square, items(), window=10):
                got.append(pair)
    assert sorted(got) == [(0, 1), (1, 4)]


def test_failure_cancels_the_rest():
    executor = LazyExecutor()
    results = ordered_map(executor, fail_at_three, [3, 4, 5], window=3)
    threading.Timer(0.05, lambda: executor.run(0)).start()
    with pytest.raises(PickyError):
        next(results)
    assert [future.cancelled() for future in executor.futures] == [False, True, True]


def test_closing_cancels_what_is_pending():
    executor = LazyExecutor()
    results = ordered_map(executor, square, range(10), window=3)
    threading.Timer(0.05, lambda: executor.run(0)).start()
    assert next(results) == 0
    results.close()
    assert [future.cancelled() for future in executor.futures] == [False, True, True]


@pytest.mark.parametrize("function", [ordered_map, as_completed_map])
def test_a_dead_worker_process_is_named_within_seconds(function):
    with make_executor(1, True) as executor:
        started = time.monotonic()
        with pytest.raises(WorkerError, match="shard 2") as caught:
            list(function(executor, die_at_two, range(10), window=2, describe=lambda n: f"shard {n}"))
        assert time.monotonic() - started < 30
        assert caught.value.__cause__ is not None
        assert pickle.loads(pickle.dumps(caught.value)).message == caught.value.message
        # A pool that is broken from the start says the same.
        with pytest.raises(WorkerError, match="item 0"):
            list(function(executor, square, range(3), window=2))


def test_as_completed_gives_every_item_once(processes):
    results = list(as_completed_map(processes, square, range(20), window=5))
    assert sorted(results) == [(n, n * n) for n in range(20)]


def test_as_completed_hands_out_what_was_under_way_before_it_raises():
    """The earliest failed item is raised; results of finished work are never lost."""
    may_end = threading.Event()

    def work(n: int) -> int:
        if n == 0:
            may_end.wait(10)
            return 0
        if n == 1:
            may_end.wait(10)
            raise KeyError("first")
        if n == 2:
            may_end.set()
            raise ValueError("second")
        return n

    got = []
    with make_executor(3, False) as executor:
        with pytest.raises(KeyError, match="first"):
            for pair in as_completed_map(executor, work, range(100), window=3):
                got.append(pair)
    assert (0, 0) in got
    assert len(got) < 5


def test_as_completed_does_not_lose_what_somebody_else_cancelled():
    """A scheduler that ends cancels what it was given; that is no result, and no end of the items."""
    executor = LazyExecutor()
    results = as_completed_map(executor, square, range(10), window=3, describe=lambda n: f"shard {n}")
    threading.Timer(0.05, lambda: (executor.run(0), executor.futures[1].cancel(), executor.run(2))).start()
    assert next(results) == (0, 0)
    with pytest.raises(WorkerError, match="shard 1 was cancelled"):
        list(results)
    assert executor.futures[3].cancelled()


def test_as_completed_asks_whether_an_error_of_the_executor_means_a_dead_worker():
    """Executors of others have words of their own for it; the item is named, and the words are the cause."""

    class Killed(Exception):
        pass

    def as_worker_error(error: Exception, item: str) -> WorkerError | None:
        return WorkerError(f"{item} has no worker left") if isinstance(error, Killed) else None

    for error, kind, words in ((Killed("k"), WorkerError, "item 0 has no worker left"), (KeyError("k"), KeyError, "k")):
        executor = LazyExecutor()
        results = as_completed_map(executor, square, [1], window=1, as_worker_error=as_worker_error)
        threading.Timer(0.05, lambda e=executor, error=error: e.futures[0].set_exception(error)).start()
        with pytest.raises(kind, match=words) as caught:
            next(results)
        assert kind is KeyError or caught.value.__cause__ is error


def test_processes_end_when_their_parent_is_killed(tmp_path: Path):
    """No orphan is left, whatever it was doing."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, signal, time\n"
        "from recordio.execute.pool import make_executor, ordered_map\n"
        "def work(n):\n"
        "    print(os.getpid(), flush=True)\n"
        "    time.sleep(60)\n"
        "if __name__ == '__main__':\n"
        "    list(ordered_map(make_executor(1, True), work, [0], window=1))\n"
    )
    root = str(Path(__file__).parents[2])
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root}
    )
    try:
        worker = int(parent.stdout.readline())
    finally:
        parent.kill()
    # The pipe closes when the last process that holds it has ended: the worker too.
    parent.communicate(timeout=20)
    with pytest.raises(ProcessLookupError):
        for _ in range(200):
            os.kill(worker, 0)
            time.sleep(0.05)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_fork_cannot_go_on_with_what_its_parent_began():
    """The threads are not there: waiting for them would never end."""
    with ThreadPoolExecutor(2) as executor:
        results = ordered_map(executor, abs, range(100), window=4)
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
        assert [*results] == [*range(1, 100)]
