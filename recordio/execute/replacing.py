"""A pool of its own for one iteration, whose workers may die: their work is named, or done again.

    ordered_map -> _Replacing.submit -> [ executor, made when it is needed ]
                                          a worker dies -> WorkerError with what was under way, or
                                                           a new executor, and the same work again

Order, window and the exceptions of the function are `ordered_map`'s, in `recordio.execute.pool`, over an executor that
somebody else owns. Here the executor ends with the iteration, also where that is dropped or interrupted, and no process
outlives it. A worker that hangs, or is stopped (SIGSTOP), is not dead: it is waited for, and killed at the end.

Source: design.md, section 5.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import Any

from recordio.errors import WorkerError
from recordio.execute.pool import DEAD_WORKER_ADVICE, Item, Result, ordered_map

_PATIENCE_S = 1.0       # that processes get to end by themselves, and then to obey SIGTERM
_WATCH_S = 0.5          # between two looks for dead processes; one that is seen twice is a death


def replacing_map(
    make: Callable[[], Executor],
    fn: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    window: int,
    describe: Callable[[Item], str] | None = None,
    has_room: Callable[[], bool] | None = None,
    replace_workers: bool = False,
    max_deaths: int = 3,
    on_death: Callable[[], object] | None = None,
    on_end: Callable[[], object] | None = None,
) -> Generator[Result]:
    """Run a function over items on an executor of our own, and give the results in the order of the items.

    Nothing is made or submitted before the first `next`. Closing the iterator, dropping it or an exception cancels what
    has not begun, ends the executor and closes `items`. A process that does not end within about a second is
    terminated, then killed; a thread is waited for.

    Args:
        make: makes the executor.
        fn, items, window, describe, has_room: as for `ordered_map`.
        replace_workers: make a new executor when a worker dies, and submit again what has no result yet.
        max_deaths: an item that is the earliest unfinished one at so many deaths in a row is given up.
        on_death: called once for every executor that a death broke.
        on_end: called before the executor is ended, however it comes to that: results are not wanted any more, and what
            runs in threads may as well stop.

    Raises:
        Exception: what the function raised for the earliest item that failed.
        WorkerError: a worker died, with everything that was under way, the earliest first; or an item was given up; or
            this is a fork of the process that began.
        RequestError: window is below 1.
    """
    pool = _Replacing(make, describe, replace_workers, max_deaths, on_death)
    results = ordered_map(pool, fn, items, window=window, describe=describe, has_room=has_room)
    return _owning(pool, results, items, on_end)


def _owning(
    pool: _Replacing, results: Generator[Result], items: Iterable[Item], on_end: Callable[[], object] | None
) -> Generator[Result]:
    process_id = os.getpid()
    try:
        yield from results
    finally:
        try:
            if os.getpid() == process_id:       # a fork has the objects, but neither the threads nor the children
                if on_end is not None:
                    on_end()
                pool.end()
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()


class _Replacing:
    """Looks like an executor to `ordered_map`, and outlives those that it makes."""

    def __init__(
        self,
        make: Callable[[], Executor],
        describe: Callable[[Any], str] | None,
        replace_workers: bool,
        max_deaths: int,
        on_death: Callable[[], object] | None,
    ) -> None:
        self._make = make
        self._describe = describe
        self._replace_workers = replace_workers
        self._max_deaths = max_deaths
        self._on_death = on_death
        self._executor: Executor | None = None
        self._pending: deque[_Attempt] = deque()    # submitted, and the result not yet taken
        self._num_submitted = 0
        self._suspect = -1      # number of the item that was the earliest unfinished one at the last death
        self._num_deaths = 0    # of the suspect, in a row

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> _Attempt:
        attempt = _Attempt(self, self._num_submitted, fn, args, self._begin(fn, args))
        self._num_submitted += 1
        self._pending.append(attempt)
        return attempt

    def _begin(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> Future[Any]:
        if self._executor is None:
            self._executor = self._make()
        try:
            # From Python 3.12 on, a broken pool holds its lock until its processes have ended: do not even ask.
            if getattr(self._executor, "_broken", False):
                raise BrokenExecutor("a worker ended before this was begun")
            return self._executor.submit(fn, *args)
        except BrokenExecutor as error:
            # Told when its turn comes: an item that is under way is the likelier culprit.
            broken: Future[Any] = Future()
            broken.set_exception(error.with_traceback(None))
            return broken

    def take(self) -> Any:
        """Wait for the result of the earliest attempt, through any number of deaths."""
        while True:
            try:
                result = self._wait(self._pending[0].future)
            except BrokenExecutor as error:
                # Its traceback holds this frame, and with it the result that is taken next.
                self._bury(error.with_traceback(None))
            else:
                self._pending.popleft()
                return result

    def _wait(self, future: Future[Any]) -> Any:
        dead: set[BaseProcess] = set()
        while True:
            try:
                return future.result(_WATCH_S)
            except TimeoutError:
                if future.done():       # just now, or the error is its own
                    return future.result()
            # An executor misses deaths: of a process that it began while it waited for another, and of one that was
            # killed while it sent a result, the rest of which the executor goes on waiting for.
            before, dead = dead, {process for process in _processes(self._executor) if not process.is_alive()}
            if before & dead:
                raise BrokenExecutor("a worker process ended, and its executor did not notice")

    def _bury(self, error: BrokenExecutor) -> None:
        """End the broken executor; then raise, or submit again what has no result."""
        if self._on_death is not None:
            self._on_death()
        left = [attempt for attempt in self._pending if attempt.lacks_result()]
        first = self._pending[0].number
        self._num_deaths = self._num_deaths + 1 if first == self._suspect else 1
        self._suspect = first
        self._end_executor(0.0)     # what its other workers do is of no use any more
        if not self._replace_workers or self._num_deaths >= self._max_deaths:
            raise self._death([self._name(attempt) for attempt in left], error) from error
        for attempt in left:
            attempt.future = self._begin(attempt.fn, attempt.args)

    def _name(self, attempt: _Attempt) -> str:
        return f"item {attempt.number}" if self._describe is None else self._describe(attempt.args[-1])

    def _death(self, names: list[str], error: BrokenExecutor) -> WorkerError:
        if not self._replace_workers:
            return WorkerError(
                f"a worker ended before its task was done; under way: {'; '.join(names)} ({error})",
                advice=f"{DEAD_WORKER_ADVICE}, or let it be replaced: with_options(replace_workers=True)",
            )
        beside = f", or one under way beside it did: {'; '.join(names[1:])}" if names[1:] else ""
        return WorkerError(
            f"{names[0]} killed its worker {self._num_deaths} times{beside} ({error})", advice=DEAD_WORKER_ADVICE
        )

    def _end_executor(self, patience_s: float) -> None:
        executor, self._executor = self._executor, None
        if executor is not None:
            _end(executor, patience_s)

    def end(self) -> None:
        self._pending.clear()
        self._end_executor(_PATIENCE_S)


@dataclass(slots=True, eq=False)
class _Attempt:
    """A future that outlives the executor that it was submitted to."""

    pool: _Replacing
    number: int                 # of the item, from 0
    fn: Callable[..., Any]
    args: tuple[Any, ...]       # the last is the item
    future: Future[Any]         # of the last time that it was submitted

    def result(self) -> Any:
        # `ordered_map` asks in the order in which it submits.
        return self.pool.take()

    def cancel(self) -> bool:
        return self.future.cancel()

    def lacks_result(self) -> bool:
        future = self.future
        return not future.done() or future.cancelled() or isinstance(future.exception(), BrokenExecutor)


def _processes(executor: Executor | None) -> list[BaseProcess]:
    # Nothing public tells them; None once it is shut down, no such attribute for threads.
    return list((getattr(executor, "_processes", None) or {}).values())


def _end(executor: Executor, patience_s: float) -> None:
    """End an executor: its processes soon, its threads when they have done their task."""
    processes = _processes(executor)
    # When the interpreter ends, it has waited for the processes before, and starts no thread any more.
    if not processes or not threading.main_thread().is_alive():
        executor.shutdown(wait=True, cancel_futures=True)
        return
    results: Any = getattr(executor, "_result_queue", None)
    # In a thread, because it waits for the processes, for ever if need be, and may need a lock until they have ended.
    closer = threading.Thread(
        target=executor.shutdown, kwargs={"wait": True, "cancel_futures": True}, name="recordio-end", daemon=True
    )
    closer.start()
    left = processes
    try:
        left = _running(processes, patience_s)
    finally:    # also where the waiting is interrupted
        for process in left:
            process.terminate()
        try:
            left = _running(left, _PATIENCE_S)
        finally:
            for process in left:
                process.kill()
    _running(left, _PATIENCE_S)
    closer.join(_PATIENCE_S)
    if closer.is_alive() and results is not None:
        # A result was cut off in the pipe. With our own end of it closed, nobody waits for the rest.
        results._writer.close()
        closer.join(_PATIENCE_S)


def _running(processes: list[BaseProcess], timeout_s: float) -> list[BaseProcess]:
    """Wait for processes to end, for some time all together, and return those that have not."""
    deadline = time.monotonic() + timeout_s
    left = [process.sentinel for process in processes]
    while left and (ended := connection.wait(left, max(0.0, deadline - time.monotonic()))):
        left = [sentinel for sentinel in left if sentinel not in ended]
    return [process for process in processes if process.is_alive()]
