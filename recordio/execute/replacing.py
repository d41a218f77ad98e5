"""Pools of their own for one iteration, whose workers may die: their work is named, or done again.

    items -> [ executor, made when it is needed ] -> results, in the order of the items
                a worker dies -> WorkerError with what was under way, or a new executor and the same work again

`recordio.execute.pool` maps over an executor that somebody else owns. Here the executor ends with the iteration, also
where that is dropped or interrupted, and no process outlives it.

Source: design.md, section 5.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from recordio.errors import WorkerError
from recordio.execute.pool import Item, Result, check_window, guarded, unwrapped

_PATIENCE_S = 1.0  # that processes get to end by themselves
_SHOWN = 8  # items that an error lists
_ADVICE = (
    "It was killed (often for want of memory: use fewer workers), or it could not start (a script must make its calls "
    "under `if __name__ == '__main__':`); with_options(replace_workers=True) replaces it and does its work again"
)

Value = TypeVar("Value")


@dataclass(slots=True)
class _Pending(Generic[Value]):
    number: int
    item: Value
    future: Future[Any]


def replacing_map(
    make: Callable[[], Executor],
    fn: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    window: int,
    describe: Callable[[Item], str] | None = None,
    replace_workers: bool = False,
    max_deaths: int = 3,
    on_death: Callable[[], object] | None = None,
) -> Generator[Result]:
    """Run a function over items on an executor of our own, and give the results in the order of the items.

    Nothing is made or submitted before the first `next`. Closing the iterator, dropping it or an exception cancels what
    has not begun and ends the executor; a process that does not end within a second is killed, a thread is waited for.

    Args:
        make: makes the executor.
        fn, items, window, describe: as for `ordered_map`.
        replace_workers: make a new executor when a worker dies, and submit again what has no result yet.
        max_deaths: times in a row that an item may be the first unfinished one when a worker dies.
        on_death: called each time.

    Raises:
        Exception: what the function raised for the earliest item that failed.
        WorkerError: a worker died; with everything that was under way. Or this is a fork of the process that began.
        RequestError: window is below 1.
    """
    return _replacing(make, fn, items, check_window(window), describe, replace_workers, max_deaths, on_death)


def _replacing(
    make: Callable[[], Executor],
    fn: Callable[[Item], Result],
    items: Iterable[Item],
    window: int,
    describe: Callable[[Item], str] | None,
    replace_workers: bool,
    max_deaths: int,
    on_death: Callable[[], object] | None,
) -> Generator[Result]:
    pending: deque[_Pending[Item]] = deque()
    numbered = enumerate(items)
    stopped: Exception | None = None  # why nothing more is submitted
    exhausted = False
    executor: Executor | None = None
    suspect, deaths = -1, 0
    process_id = os.getpid()
    try:
        while True:
            if os.getpid() != process_id:
                raise WorkerError(
                    f"this was begun in process {process_id}, and its workers are not in this fork of it",
                    advice="Begin a new iteration in each process",
                )
            while not exhausted and stopped is None and len(pending) < window:
                try:
                    number, item = next(numbered)
                except StopIteration:
                    exhausted = True
                    break
                except Exception as error:  # noqa: BLE001  raised below, after the results of the items before it
                    stopped = error
                    break
                executor = make() if executor is None else executor
                pending.append(_Pending(number, item, _submit(executor, fn, item)))
                del item
            if not pending:
                if stopped is not None:
                    raise stopped
                return
            first = pending[0]
            try:
                result = first.future.result()
            except BrokenExecutor as error:
                if on_death is not None:
                    on_death()
                suspect, deaths = first.number, deaths + 1 if first.number == suspect else 1
                if not replace_workers or deaths >= max_deaths:
                    raise _death(pending, describe, deaths if replace_workers else None, error) from error
                assert executor is not None
                _end(executor)
                executor = make()
                for entry in pending:
                    if not entry.future.done() or entry.future.cancelled() or entry.future.exception() is not None:
                        entry.future = _submit(executor, fn, entry.item)
                continue
            # Nothing but the caller may keep a result alive while it waits at this yield.
            pending.popleft()
            del first
            value = unwrapped(result)
            del result
            yield value
            del value
    finally:
        for entry in pending:
            entry.future.cancel()
        if executor is not None and os.getpid() == process_id:
            _end(executor)
        close = getattr(items, "close", None)
        if close is not None:
            close()


def _submit(executor: Executor, fn: Callable[[Item], Result], item: Item) -> Future[Any]:
    try:
        return executor.submit(guarded, fn, item)
    except BrokenExecutor as error:
        # Told when its turn comes: an item that is under way is the likelier culprit.
        broken: Future[Any] = Future()
        broken.set_exception(error)
        return broken


def _death(
    pending: Iterable[_Pending[Item]], describe: Callable[[Item], str] | None, deaths: int | None, error: BrokenExecutor
) -> WorkerError:
    names = [
        f"item {entry.number}" if describe is None else describe(entry.item)
        for entry in pending
        if not entry.future.done() or entry.future.cancelled() or entry.future.exception() is not None
    ]
    if deaths is not None:
        return WorkerError(f"{names[0]} killed its worker {deaths} times ({error})", advice=_ADVICE.partition(";")[0])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    under_way = "; ".join(names[:_SHOWN]) + more
    return WorkerError(f"a worker ended before its task was done; under way: {under_way} ({error})", advice=_ADVICE)


def _end(executor: Executor) -> None:
    """End an executor: its processes within about a second, its threads when they have done their task."""
    processes = list((getattr(executor, "_processes", None) or {}).values())
    executor.shutdown(wait=not processes, cancel_futures=True)
    deadline = time.monotonic() + _PATIENCE_S
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    for end in ("terminate", "kill"):
        left = [process for process in processes if process.is_alive()]
        for process in left:
            getattr(process, end)()
        for process in left:
            process.join(_PATIENCE_S)
    if processes:
        executor.shutdown(wait=True)  # the thread that looks after them
