"""Steps that are mapped: pieces are cut into tasks, a worker's each, and put together again in order.

A budget holds back new tasks while what is under way, and what waits to be taken, has more bytes than it should.

Spec: spec/order.md, section 8; design.md, section 5.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from recordio.columns import ColumnValues, memory_size, owned, slice_rows
from recordio.execute.budget import Budget
from recordio.execute.pool import make_executor
from recordio.execute.replacing import replacing_map
from recordio.loading.finishing import Finisher, num_bytes
from recordio.loading.mapping import Mapper, MapTask, check_picklable
from recordio.loading.options import Options
from recordio.loading.pieces import Piece, Ready
from recordio.loading.rows import Wanted
from recordio.metering import Totals, processor_clock
from recordio.schema import Schema

_RECORDS_A_TASK = 64  # that are mapped at once where there are no batches


@dataclass(frozen=True, kw_only=True)
class MappedSteps:
    """How the pieces of one span are mapped.

    Attributes:
        schema: of the rows, before any map.
        num_slots: parts of a step, which are mapped one by one.
        by_record: steps are single records, not batches.
        room: bytes for what is under way.
    """

    mapper: Mapper
    options: Options
    stats: Totals
    finisher: Finisher
    schema: Schema
    num_slots: int
    by_record: bool
    room: int

    def ready(self, pieces: Iterator[Piece]) -> Iterator[Ready]:
        """The steps of the pieces, in order."""
        options, workers = self.options, self.options.num_workers
        begun: deque[_Begun] = deque()
        # Until something is known of the results, a budget that was asked for is risked for one only.
        budget = Budget(self.room, self.mapper.row_size, workers if options.memory is None else 1)
        in_process = options.use_multiprocessing and workers > 0

        def tasks() -> Iterator[MapTask]:
            for piece in pieces:
                found = self._tasks(piece)
                del piece
                for num_steps, consumed, task in found:
                    size = sum(map(memory_size, task.columns))
                    begun.append(_Begun(num_steps, consumed, len(task.numbers), size))
                    budget.begin(len(task.numbers), size)
                    handed_on = [task]
                    del task
                    yield handed_on.pop()

        if workers == 0:
            results: Iterator[Any] = self._one_by_one(tasks(), budget)
        else:
            stop = threading.Event()
            run: Callable[[MapTask], Any] = _map_in_process
            if not in_process:
                run = partial(self._run_mapper, budget=budget, is_stopped=stop.is_set)
            results = replacing_map(
                self._make_executor, run, tasks(),
                window=max(1, options.queue_size) * self.num_slots, describe=_describe, has_room=budget.has_room,
                replace_workers=options.replace_workers, on_death=lambda: self.stats.add("num_deaths", 1),
                on_end=stop.set,
            )  # fmt: skip
        parts: list[list[ColumnValues]] = []
        try:
            for columns in results:
                task = begun.popleft()
                if in_process:
                    columns = self._received(columns)
                    budget.finish(task.num_rows, task.size, 0)
                else:
                    budget.hand_out(sum(map(memory_size, columns)))
                parts.append(columns)
                if not task.num_steps:
                    continue
                with self.stats.timed("assemble_s", processor_clock):
                    if self.by_record:
                        steps: Iterable[Any] = self.finisher.records(columns)
                    else:
                        steps = [self.finisher.step(parts)]
                num_rows = sum(part[0].num_rows for part in parts)
                ends = range(1, num_rows + 1) if self.by_record else [num_rows]
                yield Ready(steps=steps, ends=ends, nbytes=sum(map(num_bytes, parts)), consumed=task.consumed)
                parts = []
                del columns, steps
        finally:
            if workers:
                results.close()  # type: ignore[attr-defined]

    def _one_by_one(self, tasks: Iterator[MapTask], budget: Budget) -> Iterator[list[ColumnValues]]:
        for task in tasks:
            mapped = [self._run_mapper(task, budget, None)]
            del task
            yield mapped.pop()

    def _tasks(self, piece: Piece) -> Iterator[tuple[int, Sequence[int] | None, MapTask]]:
        """Tasks of a piece: how many steps each ends, what these consume, and the task."""
        consumed = piece.consumed
        if self.by_record:
            num_rows = piece.columns[0].num_rows
            stops: Sequence[int] = [*range(_RECORDS_A_TASK, num_rows, _RECORDS_A_TASK), num_rows]
        else:
            stops = piece.stops
        tasks = self.tasks(piece.columns, stops, piece.where())
        del piece
        start = 0
        for place, stop in enumerate(stops):
            if self.by_record:
                done, num_steps = stop, stop - start
            else:
                done, num_steps = (place + 1) // self.num_slots, int((place + 1) % self.num_slots == 0)
            yield num_steps, None if consumed is None else consumed[done - num_steps : done], next(tasks)
            start = stop

    def tasks(self, columns: Sequence[ColumnValues], stops: Sequence[int], where: Wanted) -> Iterator[MapTask]:
        """The rows before each stop, to be mapped."""
        epochs = np.full(len(where.numbers), where.epochs) if isinstance(where.epochs, int) else where.epochs
        start = 0
        for place, stop in enumerate(stops):
            part = slice(start, stop)
            task = MapTask(
                columns=[
                    slice_rows(c, v, start, stop)
                    for c, v in zip(self.schema.columns, columns, strict=True)
                ],
                numbers=where.numbers[part], epochs=epochs[part], positions=where.positions[part],
            )  # fmt: skip
            if place == len(stops) - 1:
                columns = ()
            handed_on = [task]
            del task
            yield handed_on.pop()
            start = stop

    def _run_mapper(
        self, task: MapTask, budget: Budget, is_stopped: Callable[[], bool] | None
    ) -> list[ColumnValues]:
        size = sum(map(memory_size, task.columns))
        with self.stats.timed("map_s"):
            mapped = self.mapper(task, is_stopped)
        budget.finish(len(task.numbers), size, sum(map(memory_size, mapped)))
        return mapped

    def _make_executor(self) -> Executor:
        options = self.options
        if not options.use_multiprocessing:
            return make_executor(options.num_workers, False)
        check_picklable(self.mapper)
        return make_executor(options.num_workers, True, _install_mapper, (self.mapper,))

    def _received(self, answer: Any) -> list[ColumnValues]:
        columns, map_s = answer
        self.stats.add("map_s", map_s)
        # What pickle gives may be read-only.
        return [values if values.values.flags.writeable else owned(values) for values in columns]


@dataclass(frozen=True, slots=True)
class _Begun:
    """What is remembered of a task: how many steps it ends, positions that these consume, its rows and bytes."""

    num_steps: int
    consumed: Sequence[int] | None
    num_rows: int
    size: int


def _describe(task: MapTask) -> str:
    if not len(task.numbers):
        return "no record"
    where = f"position {int(task.positions[0])} of epoch {int(task.epochs[0])}"
    return f"map of {len(task.numbers)} records, the first of them record {int(task.numbers[0])} ({where})"


_installed: list[Mapper] = []  # in a worker process: the mapper that it was started with


def _install_mapper(mapper: Mapper) -> None:
    _installed[:] = [mapper]


def _map_in_process(task: MapTask) -> tuple[list[ColumnValues], float]:
    stats = Totals()
    with stats.timed("map_s"):
        columns = _installed[0](task)
    return columns, stats.map_s
