"""Pools: threads or processes that run one function over many items, a bounded number at a time.

    items -> [ at most `window` under way ] -> results, in the order of the items or as they finish

What is run is not known here. Any `concurrent.futures.Executor` will do, and anything whose `submit` gives futures with
`result`, `cancel` and (for `as_completed_map`) `add_done_callback`. An exception of the function keeps its type on the
way back from another process, even one that pickle cannot carry.

Source: design.md, section 5.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from typing import Any, Literal, Protocol, TypeVar, overload

from recordio.errors import RequestError, WorkerError

Item = TypeVar("Item")
Result = TypeVar("Result")

DEAD_WORKER_ADVICE = (
    "It was killed (often for want of memory: use fewer workers), or it could not start (a script must make its calls "
    "under `if __name__ == '__main__':`)"
)


class Task(Protocol):
    """What `ordered_map` needs of a future."""

    def result(self) -> Any: ...

    def cancel(self) -> bool: ...


class Submitter(Protocol):
    """What `ordered_map` needs of an executor."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Task:
        """Run a function some time; its last argument is the item."""


class Inline(Executor):
    """Runs a task where it is submitted: the order of work that every pool must equal."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  raised where the result is asked for
            future.set_exception(error)
        return future


class FirstInline:
    """Runs the first task where it is submitted, so that it waits for no thread and for no other task."""

    def __init__(self, executor: Submitter) -> None:
        self._next: Submitter = Inline()
        self._executor = executor

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Task:
        executor, self._next = self._next, self._executor
        return executor.submit(fn, *args)


def default_workers() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def make_executor(
    workers: int,
    use_multiprocessing: bool,
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
) -> Executor:
    """Make a pool of threads, or of fresh (spawned, not forked) processes.

    Processes leave Ctrl-C to their parent, and end when it does, even if it was killed.

    Raises:
        RequestError: workers is below 1.
    """
    if workers < 1:
        raise RequestError(f"workers is {workers}, but at least 1 must do the work")
    if not use_multiprocessing:
        return ThreadPoolExecutor(workers, "recordio", initializer, initargs)
    # Spawn: a fork of a process with threads may deadlock, and JAX and CUDA do not survive it.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, _start_process, (initializer, initargs))


def _start_process(initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The processes of a pool hold both ends of their queue, so that they never notice when the parent is killed.
    threading.Thread(target=_exit_with_parent, name="recordio-parent-watch", daemon=True).start()
    if initializer is not None:
        initializer(*initargs)


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@overload
def ordered_map(
    executor: Submitter,
    fn: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    window: int,
    describe: Callable[[Item], str] | None = None,
    has_room: Callable[[], bool] | None = None,
    return_exceptions: Literal[False] = False,
) -> Generator[Result]: ...


@overload
def ordered_map(
    executor: Submitter,
    fn: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    window: int,
    describe: Callable[[Item], str] | None = None,
    has_room: Callable[[], bool] | None = None,
    return_exceptions: bool,
) -> Generator[Result | Exception]: ...


def ordered_map(
    executor: Submitter,
    fn: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    window: int,
    describe: Callable[[Item], str] | None = None,
    has_room: Callable[[], bool] | None = None,
    return_exceptions: bool = False,
) -> Generator[Result | Exception]:
    """Run a function over items and give the results in the order of the items.

    Nothing is submitted before the first `next`. Closing the iterator cancels what has not begun.

    Args:
        executor: where the function runs; for processes, function, items and results must be picklable.
        fn: called with one item.
        items: taken one at a time as there is room; an exception of theirs comes after the results before it.
        window: items submitted and not yet handed out, at least 1; it bounds the memory.
        describe: names an item in a WorkerError; "item 3" without it.
        has_room: asked before an item is taken while others are under way; where it says no, one of these is handed out
            first. For what bounds the memory better than a number of items.
        return_exceptions: give the exception of an item in place of its result and go on.

    Raises:
        Exception: what the function raised for the earliest item that failed; the rest is cancelled.
        WorkerError: a worker process died, or this is a fork of the process that began: its threads are not here.
        RequestError: window is below 1.
    """
    return _ordered(executor, fn, items, _check_window(window), describe, has_room, return_exceptions)


def _ordered(
    executor: Submitter,
    fn: Callable[[Item], Result],
    items: Iterable[Item],
    window: int,
    describe: Callable[[Item], str] | None,
    has_room: Callable[[], bool] | None,
    return_exceptions: bool,
) -> Generator[Result | Exception]:
    pending: deque[tuple[int, Item, Task]] = deque()
    numbered = enumerate(items)
    stopped: Exception | None = None      # why nothing more is submitted
    exhausted = False
    process_id = os.getpid()
    try:
        while True:
            check_process(process_id)
            while not exhausted and stopped is None and len(pending) < window:
                if pending and has_room is not None and not has_room():
                    break
                try:
                    number, item = next(numbered)
                except StopIteration:
                    exhausted = True
                    break
                except Exception as error:  # noqa: BLE001  raised below, after the results of the items before it
                    stopped = error
                    break
                try:
                    pending.append((number, item, executor.submit(_guarded, fn, item)))
                except BrokenExecutor as error:
                    # An item that is under way is the likelier culprit; it says so itself when its turn comes.
                    stopped = _dead_worker(error, number, item, describe)
            if not pending:
                if stopped is not None:
                    raise stopped
                return
            number, item, future = pending.popleft()
            try:
                result = future.result()
            except BrokenExecutor as error:
                raise _dead_worker(error, number, item, describe) from error
            if isinstance(result, _Failure):
                if not return_exceptions:
                    raise result.error
                result = result.error
            # Nothing but the caller may keep a result alive while this waits at its yield: no name here either.
            handed_out = [result]
            del item, future, result
            yield handed_out.pop()
    finally:
        if os.getpid() == process_id:   # in a fork, a thread that is not there may hold a future's lock
            for _, _, future in pending:
                future.cancel()


def check_process(process_id: int) -> None:
    """Refuse to wait in a fork for threads that only the process has that began.

    Raises:
        WorkerError: this is another process.
    """
    if os.getpid() != process_id:
        raise WorkerError(
            f"this was begun in process {process_id}, and its threads are not in this fork of it",
            advice="Begin a new iteration in each process",
        )


def as_completed_map(
    executor: Executor,
    fn: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    window: int,
    describe: Callable[[Item], str] | None = None,
    as_worker_error: Callable[[Exception, str], WorkerError | None] = lambda _error, _item: None,
) -> Generator[tuple[int, Result]]:
    """Run a function over items and give (place of the item, result) as they finish.

    After a failure no later item is begun, but what is under way is waited for and handed out; then the failure of the
    earliest failed item is raised. Closing the iterator cancels what has not begun.

    Args and Raises: as for `ordered_map`.
        as_worker_error: told an exception of the executor itself, and the name of the item; gives what is raised
            instead where it means that workers died: executors of others have words of their own for that.
    """
    return _as_completed(executor, fn, items, _check_window(window), describe, as_worker_error)


def _as_completed(
    executor: Executor,
    fn: Callable[[Item], Result],
    items: Iterable[Item],
    window: int,
    describe: Callable[[Item], str] | None,
    as_worker_error: Callable[[Exception, str], WorkerError | None],
) -> Generator[tuple[int, Result]]:
    done: queue.SimpleQueue[tuple[int, Future[Any]]] = queue.SimpleQueue()
    pending: dict[int, tuple[Item, Future[Any]]] = {}
    failures: dict[int, Exception] = {}
    numbered = enumerate(items)
    exhausted = False
    try:
        while True:
            while not exhausted and not failures and len(pending) < window:
                try:
                    number, item = next(numbered)
                except StopIteration:
                    exhausted = True
                    break
                except Exception as error:  # noqa: BLE001  raised below, if no item before it failed
                    failures[sys.maxsize] = error
                    break
                try:
                    future = executor.submit(_guarded, fn, item)
                except BrokenExecutor as error:
                    failures[number] = _dead_worker(error, number, item, describe)
                    break
                pending[number] = (item, future)
                future.add_done_callback(partial(_put, done, number))
            if not pending:
                break
            number, future = done.get()
            item, _ = pending.pop(number)
            if future.cancelled():
                if not failures:    # after a failure we do that ourselves
                    failures[number] = WorkerError(
                        f"{_name(number, item, describe)} was cancelled by whoever was to do it",
                        advice="The pool has ended, or the cluster's scheduler, or somebody has cancelled it there",
                    )
                continue
            try:
                result = future.result()
            except BrokenExecutor as error:
                failures[number] = _dead_worker(error, number, item, describe)
                failures[number].__cause__ = error
            except Exception as error:  # noqa: BLE001  what could not be pickled, say; raised below
                translated = as_worker_error(error, _name(number, item, describe))
                failures[number] = error if translated is None else translated
                if translated is not None:
                    translated.__cause__ = error
            else:
                if isinstance(result, _Failure):
                    failures[number] = result.error
                else:
                    del item, future
                    yield number, result
                del result
            if failures:
                # Items before the failed one must run: the failure that is raised may still be theirs.
                for later in [number for number in pending if number > min(failures)]:
                    pending[later][1].cancel()
        if failures:
            raise failures[min(failures)]
    finally:
        for _, future in list(pending.values()):
            future.cancel()


def _put(done: queue.SimpleQueue[tuple[int, Future[Any]]], number: int, future: Future[Any]) -> None:
    done.put((number, future))


def _check_window(window: int) -> int:
    if window < 1:
        raise RequestError(f"window is {window}, but at least 1 item must be under way")
    return window


def _dead_worker(
    error: BrokenExecutor, number: int, item: Item, describe: Callable[[Item], str] | None
) -> WorkerError:
    return WorkerError(
        f"a worker ended before its task was done: {_name(number, item, describe)}, or one that was under way beside "
        f"it ({error})",
        advice=DEAD_WORKER_ADVICE,
    )


def _name(number: int, item: Item, describe: Callable[[Item], str] | None) -> str:
    return f"item {number}" if describe is None else describe(item)


def _guarded(fn: Callable[[Item], Result], item: Item) -> Result | _Failure:
    try:
        return fn(item)
    except Exception as error:  # noqa: BLE001  handed to the caller, who raises it
        return _Failure(error)


class _Failure:
    """An exception on its way back: a value, because pickle loses some exceptions, and others break the pool."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        text = "".join(traceback.format_exception(self.error))
        return _receive_failure, (_portable(self.error), list(getattr(self.error, "__notes__", ())), text)


class _WorkerTraceback(Exception):
    """Cause of an exception that came from another process: its traceback there, as text."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def _receive_failure(payload: bytes, notes: list[str], text: str) -> _Failure:
    error: Exception = pickle.loads(payload)  # noqa: S301  made by `_portable` in our own worker
    for note in notes:
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
    error.__cause__ = _WorkerTraceback(text)
    return _Failure(error)


def _portable(error: Exception) -> bytes:
    """Pickle an exception so that it comes back with its type, whatever its constructor takes."""
    kind = type(error)
    state = {name: value for name, value in vars(error).items() if _travels(value)}
    args = tuple(value if _travels(value) else repr(value) for value in error.args)
    # As it is; else made without its constructor, whose arguments we cannot know; else its text.
    for candidate in (error, _Bare(kind, args, state)):
        payload = _dumps(candidate)
        if payload is not None and _same(pickle.loads(payload), kind, args):  # noqa: S301  bytes of our own
            return payload
    return pickle.dumps(RuntimeError(traceback.format_exception_only(error)[0].strip()))


def _same(copy: Any, kind: type[Exception], args: tuple[Any, ...]) -> bool:
    # A constructor that composes its message composes it once more: "bad bad name".
    return type(copy) is kind and repr(copy.args) == repr(args)


class _Bare:
    """Pickles as an exception that is made anew by `__new__` alone."""

    def __init__(self, kind: type[Exception], args: tuple[Any, ...], state: dict[str, Any]) -> None:
        self.parts = (kind, args, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return _make_bare, self.parts


def _make_bare(kind: type[Exception], args: tuple[Any, ...], state: dict[str, Any]) -> Exception:
    error: Exception = kind.__new__(kind, *args)
    error.args = args
    vars(error).update(state)
    return error


def _travels(value: Any) -> bool:
    return _dumps(value) is not None


def _dumps(value: Any) -> bytes | None:
    try:
        payload = pickle.dumps(value)
        pickle.loads(payload)  # noqa: S301  bytes of our own; many an exception pickles and does not come back
    except Exception:  # noqa: BLE001  whatever a user's __reduce__ raises, the answer is no
        return None
    return payload
