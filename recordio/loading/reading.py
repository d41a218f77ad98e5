"""Reading: the steps of one span, made of rows that come in order or from all over, mapped where the user asked for it.

    ordered    runs of a stream, cut at the ends of steps, put together where a step ends in another run
    gathered   blocks of steps, planned ahead; what they need is decoded, then taken at once
        -> pieces: rows of whole steps -> mapped, slot by slot -> finished: lists of what users get

Both give the same. Plans are made in the caller's thread, everything else in tasks; what is under way is bounded, in
steps and in bytes. No name here keeps what was handed on: a step may be most of a budget.

Spec: spec/order.md, sections 5 to 8; design.md, section 5.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Executor, Future
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from recordio.columns import Array, ColumnValues, empty, take_rows
from recordio.execute.pool import Inline, check_process, make_executor
from recordio.loading.finishing import Finisher, num_bytes, stops_of
from recordio.loading.mapped import MappedSteps
from recordio.loading.mapping import Mapper
from recordio.loading.options import Options
from recordio.loading.pieces import Piece, Ready, Run, join_runs
from recordio.loading.recipe import Share
from recordio.loading.rows import Gathered, Store, Wanted
from recordio.metering import Totals, processor_clock
from recordio.plan.epoch import Span, Steps
from recordio.rows import Rows

_MAX_BLOCK_RECORDS = 1 << 16
_BLOCKS_AHEAD = 2
_SCATTERED = 3  # rows that are picked one by one take so many times their bytes: picked, put together, put in order


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One span, as one pipeline reads it.

    Attributes:
        first_epoch: of the span.
        by_record: steps are single records, not batches.
        is_dense: where damage is skipped, batches are filled up from what follows; only where nobody waits for this
            pipeline's steps.
    """

    share: Share
    span: Span
    finisher: Finisher
    mapper: Mapper | None
    options: Options
    stats: Totals
    first_epoch: int
    by_record: bool = False
    is_dense: bool = False
    drops: bool = False  # a last batch that is not full is left out
    has_peers: bool = False  # other pipelines wait for our steps

    def ready(self) -> Generator[Ready]:
        """The steps, in order."""
        span = self.span
        if span.num_steps is not None and span.first_step >= span.num_steps:
            return
        if span.num_steps is None and not span.num_records:
            # Without an end here is without an end everywhere: where others wait for our steps, they are empty.
            nothing = [empty(column) for column in self.finisher.schema.columns]
            while self.has_peers:
                step = self.finisher.step([nothing] * self._num_slots)
                yield Ready(steps=[step], ends=[0], nbytes=0)
            return
        with closing(self.pieces()) as pieces:
            maps = self.maps
            yield from map(self._finished, pieces) if maps is None else maps.ready(pieces)

    def pieces(self) -> Generator[Piece]:
        """The rows of the steps, in order, before any map."""
        return self._ordered() if self._is_ordered else self._gathered()

    @property
    def maps(self) -> MappedSteps | None:
        """How the rows are mapped; None if they are not."""
        if self.mapper is None:
            return None
        return MappedSteps(
            mapper=self.mapper, options=self.options, stats=self.stats, finisher=self.finisher,
            schema=self.share.recipe.schema, num_slots=self._num_slots, by_record=self.by_record, room=self._rooms[1],
        )  # fmt: skip

    @property
    def _is_ordered(self) -> bool:
        split, recipe = self.span.split, self.share.recipe
        if split.num_pipelines > 1 and not split.has_own_stream:
            return False
        if recipe.on_corrupt == "skip" and not self.is_dense:
            return False
        return self.share.num_records > 0 and self.share.ranges(0) is not None

    @property
    def _num_slots(self) -> int:
        return self.span.split.num_slots

    @cached_property
    def _rooms(self) -> tuple[int | None, int]:
        return self.options.rooms(self.share.held_size(), maps=self.mapper is not None)

    # -- in order --

    def _ordered(self) -> Generator[Piece]:
        span, columns = self.span, self.share.recipe.schema.columns
        buffers = self.share.recipe.reader.buffers  # for steps that are put together from several runs
        step = span.first_step
        held: list[Run] = []  # of the step that is not full yet
        num_held = 0
        with closing(self._runs()) as runs:
            for run in runs:
                sizes = self._whole_steps(step, num_held + run.num_rows)
                if not len(sizes):
                    held.append(run)
                    num_held += run.num_rows
                    continue
                size = int(sizes[0].sum()) - num_held if num_held else 0
                rows = int(sizes.sum()) - num_held
                first, whole, run = run.split(columns, size, rows)
                pieces: deque[Piece] = deque()
                if num_held:
                    pieces.append(self._piece(join_runs([*held, first], buffers.empty), sizes[:1]))
                if len(sizes) > bool(num_held):
                    pieces.append(self._piece(whole, sizes[bool(num_held) :]))
                step += len(sizes)
                held, num_held = ([run], run.num_rows) if run.num_rows else ([], 0)
                del run, first, whole
                while pieces:
                    yield pieces.popleft()
                if span.num_steps is not None and step >= span.num_steps:
                    return
        if self.is_dense:
            if num_held and not self.drops:
                yield self._piece(join_runs(held, buffers.empty), np.array([[num_held]]))
            return
        if span.num_steps is not None and step < span.num_steps:
            starts, stops = span.slots(step, span.num_steps)
            rest = join_runs(held, buffers.empty) if held else Run([empty(column) for column in columns], span.start)
            yield self._piece(rest, stops - starts)

    def _whole_steps(self, step: int, available: int) -> Array:
        """Sizes of the steps that so many rows hold: int64[steps, slots]."""
        split, span = self.span.split, self.span
        if not split.has_own_stream:
            count = available // split.batch_size
        else:
            count = available * split.num_pipelines // split.batch_size + split.num_pipelines + 1
        if span.num_steps is not None:
            count = min(count, span.num_steps - step)
        if split.num_replicas == 1 and not split.has_own_stream:
            return np.full((max(0, count), 1), split.batch_size)
        starts, stops = span.slots(step, step + max(0, count))
        sizes: Array = stops - starts
        if split.has_own_stream:
            ends = np.cumsum(sizes.sum(axis=1))
            sizes = sizes[: int(np.searchsorted(ends, available, side="right"))]
        return sizes

    def _piece(self, run: Run, sizes: Array) -> Piece:
        stops: Sequence[int] = range(1, len(sizes) + 1) if self.by_record else stops_of(sizes)
        return Piece(
            columns=run.columns, stops=stops, where=lambda: self.share.want(self.first_epoch, run.all_positions()),
            consumed=None if run.positions is None else [int(run.positions[stop - 1]) + 1 for stop in stops],
        )  # fmt: skip

    def _runs(self) -> Generator[Run]:
        """All rows from the beginning of the span on, in runs."""
        recipe, span, options = self.share.recipe, self.span, self.options
        num_records = self.share.num_records
        numbers: Any = recipe.view.numbers
        position = span.start
        if span.split.has_own_stream:
            starts, _ = span.slots(span.first_step, span.first_step + 1)
            position = int(starts[0, 0])
        while span.total is None or position < span.total:
            epoch_start = position // num_records * num_records
            ranges = self.share.ranges(position - epoch_start) or []
            stream = recipe.reader.stream(
                ranges, recipe.ordinals, workers=options.num_threads, on_corrupt=recipe.on_corrupt,
                align=span.split.batch_size, memory=self._rooms[0], stats=self.stats,
            )  # fmt: skip
            for rows in stream:
                recipe.note_lost(rows.lost)
                run = self._thinned(rows, numbers, position)
                if run.num_rows:
                    if run.positions is not None:
                        run.positions += epoch_start
                    position += run.num_rows
                    yield run
                del run, rows
            position = epoch_start + num_records

    def _thinned(self, rows: Rows, numbers: range, position: int) -> Run:
        """The rows that are in view."""
        columns = rows.columns
        if self.is_dense and self.share.recipe.on_corrupt == "skip":
            there = np.arange(rows.start, rows.stop) if rows.numbers is None else rows.numbers
            kept = np.flatnonzero((there - numbers.start) % numbers.step == 0)
            if len(kept) < len(there):
                columns = self._taken(columns, kept)
            return Run(columns, 0, (there[kept] - numbers.start) // numbers.step)
        if numbers.step != 1:
            first = (numbers.start - rows.start) % numbers.step
            columns = self._taken(columns, np.arange(first, rows.stop - rows.start, numbers.step))
        return Run(columns, position)

    def _taken(self, columns: list[ColumnValues], places: Array) -> list[ColumnValues]:
        schema = self.share.recipe.schema
        return [take_rows(c, v, places) for c, v in zip(schema.columns, columns, strict=True)]

    # -- from all over --

    def _gathered(self) -> Generator[Piece]:
        span, share = self.span, self.share
        local = max(1, span.split.batch_size * span.split.num_slots // span.split.num_replicas)
        records = min(_MAX_BLOCK_RECORDS, int(self.options.block_size / share.recipe.row_size))
        steps_at_once = max(1, records // local)
        threads = self.options.num_threads
        num_rows = steps_at_once * local
        ahead = self._blocks_ahead(steps_at_once, num_rows)
        # Behind those comes the one that is decoded, and windows that end within it.
        store = share.store(self.stats, (ahead + 1) * num_rows + num_rows // 2)
        executor = make_executor(threads, False) if threads else Inline()
        planned: deque[tuple[Steps, Wanted, list[Future[Any]]]] = deque()
        under_way: deque[tuple[Steps, Wanted, Future[Gathered]]] = deque()
        # Where several threads work, planning is one of their tasks: besides them it would take turns for the GIL.
        planner = executor if threads > 1 else Inline()
        plans: deque[Future[tuple[Steps, Wanted]]] = deque()
        bounds = span.bounds(steps_at_once)
        process_id = os.getpid()
        try:
            while True:
                if threads:
                    check_process(process_id)
                while len(plans) < 2 and (block := next(bounds, None)) is not None:
                    plans.append(planner.submit(self._plan, *block))
                while plans and len(planned) + len(under_way) <= (ahead if threads else 0):
                    steps, wanted = plans.popleft().result()
                    if (block := next(bounds, None)) is not None:
                        plans.append(planner.submit(self._plan, *block))
                    planned.append((steps, wanted, store.begin(wanted, executor)))
                    # Behind what the next block decodes, so that a thread that gathers seldom waits for another.
                    if len(planned) > 1:
                        under_way.append(self._submit(store, executor, *planned.popleft()))
                if planned and (not under_way or (not plans and len(under_way) < ahead)):
                    under_way.append(self._submit(store, executor, *planned.popleft()))
                if not under_way:
                    return
                steps, wanted, future = under_way.popleft()
                gathered = future.result()
                self._release(store, steps)
                pieces = [self._block(steps, wanted, gathered)]
                del future, gathered
                yield pieces.pop()
        finally:
            # In a fork, a thread that is not there may hold a lock, and what is loading is the other process's.
            if not threads or os.getpid() == process_id:
                waiting: list[Future[Any]] = [*plans, *(entry[2] for entry in under_way)]
                for future in waiting:
                    future.cancel()
                executor.shutdown(wait=True, cancel_futures=True)
                store.close()

    def _blocks_ahead(self, num_steps: int, num_rows: int) -> int:
        """Blocks of so many steps and rows that are gathered ahead: as far as steps and bytes are wanted."""
        ahead, queue_size, room = _BLOCKS_AHEAD, self.options.max_queue_size, self._rooms[0]
        if queue_size is not None:
            ahead = min(ahead, max(1, -(-queue_size // num_steps)))
        if room is not None:
            recipe = self.share.recipe
            is_taken = not self.share.is_numbered and all(c.is_fixed for c in recipe.schema.columns)
            size = num_rows * recipe.row_size * (1 if is_taken else _SCATTERED)
            ahead = min(ahead, max(1, int(room / size)))
        return ahead

    def _plan(self, first: int, stop: int) -> tuple[Steps, Wanted]:
        with self.stats.timed("plan_s", processor_clock):
            steps = self.span.steps(first, stop)
            return steps, self.share.want(self.first_epoch, steps.positions)

    def _submit(
        self, store: Store, executor: Executor, steps: Steps, wanted: Wanted, needed: list[Future[Any]]
    ) -> tuple[Steps, Wanted, Future[Gathered]]:
        return steps, wanted, executor.submit(self._gather, store, wanted, needed)

    def _gather(self, store: Store, wanted: Wanted, needed: list[Future[Any]]) -> Gathered:
        for future in needed:  # they stand before this task in the queue
            future.result()
        if not len(wanted.rows):
            return Gathered([empty(column) for column in self.share.recipe.schema.columns])
        with self.stats.timed("gather_s"):
            return store.gather(wanted)

    def _release(self, store: Store, steps: Steps) -> None:
        """Let go of what no later step needs."""
        span, num_records = self.span, max(1, self.share.num_records)
        if span.split.has_own_stream:
            last = steps.first + len(steps.sizes)
            starts, _ = span.slots(last, last + 1)
            place = int(starts[0, 0]) // span.split.sorted_size * span.split.sorted_size
        else:
            place = span.start + (steps.first + len(steps.sizes)) * span.split.batch_size
        epoch, inside = divmod(place, num_records)
        store.release(self.first_epoch + epoch, self.share.reached(inside))

    def _block(self, steps: Steps, wanted: Wanted, gathered: Gathered) -> Piece:
        kept = gathered.kept
        stops: Sequence[int] = (
            range(1, len(wanted.rows) + 1) if self.by_record and kept is None else stops_of(steps.sizes)
        )
        if kept is not None:
            stops = np.searchsorted(kept, stops).tolist()
        return Piece(
            columns=gathered.columns, stops=stops, where=lambda: wanted if kept is None else wanted.pick(kept)
        )

    # -- finished --

    def _finished(self, piece: Piece) -> Ready:
        with self.stats.timed("assemble_s", processor_clock):
            if self.by_record:
                steps: Iterable[Any] = self.finisher.records(piece.columns)
            else:
                steps = self.finisher.steps(piece.columns, piece.stops, self._num_slots)
        ends = piece.stops[self._num_slots - 1 :: self._num_slots]
        return Ready(steps=steps, ends=ends, nbytes=num_bytes(piece.columns), consumed=piece.consumed)
