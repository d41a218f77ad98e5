"""Writing: the shards of one conversion, by whoever works.

    write_parts       one task for each part, here, on threads, on processes or on somebody's executor
    write_in_order    one part, read from the front: shards by size, one after the other
    write_by_spool    one part, and a number of shards: its chunks are spooled, then cut

A task of an array job writes its share of the parts. What an earlier run has finished is taken over, every byte of it
checked. The request around it, and the commit, are in `recordio.convert.run`; what becomes of one part is in
`recordio.convert.tasks`.

Spec: spec/format.md, section 9.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from recordio.chunks.encoding import EncodedChunk
from recordio.convert.executors import adapted, as_worker_error, window_of
from recordio.convert.pieces import OnError, Part, Source
from recordio.convert.report import SkippedRecord
from recordio.convert.tasks import PartTask, Tracker, feed, run_part, skipped_in
from recordio.errors import DataError
from recordio.execute.pool import as_completed_map, default_workers, make_executor, ordered_map
from recordio.job_paths import FinishedShard
from recordio.stream import RecordStream, ShardSequence, Spool, Target, cut_spool, sound_shard


@dataclass
class ShardRun:
    """Writes the shards of one conversion, and knows what was resumed and skipped."""

    target: Target
    tracker: Tracker
    executor: Executor | None
    on_error: OnError
    resumed: bool
    workers: int
    use_multiprocessing: bool
    max_queue_size: int  # batches under way at once

    def __post_init__(self) -> None:
        self.num_resumed = 0
        self.skipped: list[SkippedRecord] = []

    def write_parts(
        self, parts: list[Part], source: Source, shard_ids: Sequence[int] | None = None
    ) -> list[FinishedShard]:
        """Write one shard for each part; those that an earlier run finished are left as they are.

        Args:
            shard_ids: which of them, in order; all by default.
        """
        shard_ids = range(len(parts)) if shard_ids is None else shard_ids
        finished: dict[int, FinishedShard] = {}
        for shard_id, shard in self._resumed_shards(shard_ids):
            finished[shard_id] = shard
            self.tracker.add_shard(shard, counted=False)
        self.num_resumed = len(finished)
        tasks = [
            PartTask(
                target=self.target,
                part=parts[shard_id],
                shard_id=shard_id,
                last=shard_id == len(parts) - 1,
                on_error=self.on_error,
                window=self.max_queue_size,
            )
            for shard_id in shard_ids
            if shard_id not in finished
        ]
        for shard in self._run_tasks(tasks, source):
            finished[int(shard.entry.name.split("-")[1])] = shard
        shards = [finished[shard_id] for shard_id in shard_ids]
        self.skipped = [found for shard in shards for found in skipped_in(shard)]
        return shards

    def _run_tasks(self, tasks: list[PartTask], source: Source) -> list[FinishedShard]:
        if self.executor is not None:
            return self._on_given_executor(self.executor, tasks, source)
        if not tasks or (self.workers == 1 and not self.use_multiprocessing):
            return [run_part(task, tracker=self.tracker) for task in tasks]
        with self._pool(source) as pool:
            if len(tasks) < self.workers and all(task.part.parallel for task in tasks):
                # Too few shards to go round: their batches do.
                return [run_part(task, executor=pool, tracker=self.tracker) for task in tasks]
            return self._on_pool(pool, tasks, window=2 * self.workers, remote=self.use_multiprocessing)

    @contextmanager
    def _pool(self, source: Source) -> Iterator[Executor]:
        """Workers of our own, as they were asked for."""
        setup: tuple[Callable[..., object] | None, tuple[Any, ...]] = (None, ())
        if self.use_multiprocessing:
            source.check_picklable()
            setup = source.worker_setup() or setup
        pool = make_executor(self.workers, self.use_multiprocessing, *setup)
        try:
            yield pool
        except BaseException as error:
            self.tracker.stopped = True
            if isinstance(pool, ProcessPoolExecutor) and not isinstance(error, Exception):
                _end_processes(pool)
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _on_given_executor(self, executor: Executor, tasks: list[PartTask], source: Source) -> list[FinishedShard]:
        if isinstance(executor, ProcessPoolExecutor):
            source.check_picklable()
        remote = not isinstance(executor, ThreadPoolExecutor)
        try:
            with adapted(executor) as pool:
                return self._on_pool(pool, tasks, window=window_of(pool), remote=remote)
        except BaseException:
            # Not ours to shut down. Its threads end what they do for us before the lock is given up.
            self.tracker.stopped = True
            self.tracker.wait_until_idle()
            raise

    def _on_pool(self, pool: Executor, tasks: list[PartTask], *, window: int, remote: bool) -> list[FinishedShard]:
        run = run_part if remote else partial(run_part, tracker=self.tracker)
        done = []
        results = as_completed_map(
            pool, run, tasks, window=window, describe=_describe, as_worker_error=as_worker_error
        )  # fmt: skip
        with closing(results):
            for _, shard in results:
                if remote:
                    self.tracker.add_shard(shard, counted=False)
                done.append(shard)
        return done

    def write_in_order(self, source: Source, shard_size: int) -> list[FinishedShard]:
        """Write shards by size as the records come; those that an earlier run finished are compared with what comes."""
        sequence = ShardSequence(self.target, resume=self.resumed)

        def accept(shard_id: int, chunk: EncodedChunk) -> None:
            before = len(sequence.finished)
            sequence.accept(shard_id, chunk)
            self.tracker.add_chunk(chunk)
            for shard in sequence.finished[before:]:
                self.tracker.add_shard(shard, counted=True)

        stream = RecordStream(self.target, accept, shard_size=shard_size)
        try:
            self._feed(stream, source)
            shards = sequence.end(last=True)
            self.tracker.add_shard(shards[-1], counted=True)
        finally:
            stream.close()
            sequence.close()
        self.num_resumed = sequence.num_resumed
        return shards

    def write_by_spool(self, source: Source, num_shards: int) -> list[FinishedShard]:
        """Spool the chunks of a source of unknown length, then cut them into shards of equal numbers of records."""
        noted = Spool.noted(self.target) if self.resumed else None
        if noted is None:
            self._spool(source)
        else:
            self.skipped = [SkippedRecord.from_list(found) for found in noted]
        shards = dict(self._resumed_shards(range(num_shards)))
        self.num_resumed = len(shards)
        missing = [shard_id for shard_id in range(num_shards) if shard_id not in shards]
        try:
            shards |= self._cut(num_shards, missing)
        except DataError:
            if noted is None:
                raise
            # Complete, but no longer what was written: the source is asked again, from the damage on.
            self.skipped = []
            self._spool(source)
            shards |= self._cut(num_shards, missing)
        return [shards[shard_id] for shard_id in range(num_shards)]

    def _resumed_shards(self, shard_ids: Sequence[int]) -> list[tuple[int, FinishedShard]]:
        """Those of these shards that an earlier run finished, every byte of them verified."""
        if not self.resumed:
            return []
        with make_executor(default_workers(), False) as pool:
            check = partial(sound_shard, self.target)
            found = ordered_map(pool, check, shard_ids, window=2 * default_workers())
            return [(shard_id, shard) for shard_id, shard in zip(shard_ids, found, strict=True) if shard is not None]

    def _cut(self, num_shards: int, missing: list[int]) -> dict[int, FinishedShard]:
        shards = {}
        with make_executor(min(default_workers(), max(1, len(missing))), False) as pool:
            cut = partial(cut_spool, self.target, num_shards)
            for place, shard in as_completed_map(pool, cut, missing, window=2 * default_workers()):
                shards[missing[place]] = shard
                self.tracker.add_shard(shard, counted=True)
        return shards

    def _spool(self, source: Source) -> None:
        spool = Spool(self.target, resume=self.resumed)

        def accept(shard_id: int, chunk: EncodedChunk) -> None:
            spool.accept(shard_id, chunk)
            self.tracker.add_chunk(chunk)

        stream = RecordStream(self.target, accept)
        try:
            self._feed(stream, source)
            spool.end([found.to_list() for found in self.skipped])
        finally:
            stream.close()
            spool.close()

    def _feed(self, stream: RecordStream, source: Source) -> None:
        part = source.whole()
        alone = self.workers == 1 and not self.use_multiprocessing
        with self._pool(source) if part.parallel and not alone else nullcontext() as pool:
            with closing(part.pieces(pool, self.max_queue_size, self.on_error)) as pieces:
                feed(stream, pieces, on_error=self.on_error, skipped=self.skipped)
        stream.end()


def _describe(task: PartTask) -> str:
    return f"shard {task.shard_id}"


def _end_processes(pool: ProcessPoolExecutor) -> None:
    """Interrupted: what the workers have under way is not waited for; nothing finished is lost."""
    for process in list((getattr(pool, "_processes", None) or {}).values()):
        process.terminate()
