"""One conversion: the source is split, its shards are written, the index is committed.

    as_source -> split -> shard tasks on threads, processes or an executor ------------> commit
                       -> (only the front is known) shards by size, one after the other -> commit
                       -> (and a number of shards is asked for) spool -> cut -----------> commit

Every shard is finished for itself; the index comes last. What a killed run has finished is taken over by the next, if
it is asked to, and the bytes are the same in the end. The public door is `recordio.convert.api`.

Spec: spec/format.md, section 9.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

from recordio.chunks.encoding import EncodedChunk, WriteOptions
from recordio.convert.pieces import OnError, Part, Source
from recordio.convert.report import ConversionReport, SkippedRecord, report_on
from recordio.convert.sources import as_source
from recordio.convert.tasks import PartTask, Tracker, feed, run_part, skipped_in
from recordio.dataset import open_dataset
from recordio.errors import DataError, RecordIOError, RequestError, SignatureError
from recordio.execute.pool import as_completed_map, make_executor, ordered_map
from recordio.job import FinishedShard, Job
from recordio.progress import Progress, plain_reporter
from recordio.reader import open_data_set
from recordio.schema import Schema
from recordio.storage import LOCAL
from recordio.stream import RecordStream, ShardSequence, Spool, Target, cut_spool, sound_shard
from recordio.writer import DEFAULT_SHARD_SIZE, check_sharding, default_workers, make_target

# Shard tasks handed to somebody else's executor at once, where it does not say how many workers it has.
_EXECUTOR_WINDOW = 64
_DEFAULT_QUEUE_SIZE = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertRequest:
    """The arguments of `convert`, as its docstring explains them."""

    path: str | os.PathLike[str]
    output_signature: Any
    num_shards: int | None
    shard_size: int | None
    write: WriteOptions
    metadata: dict[str, Any] | None
    workers: int | None
    use_multiprocessing: bool | None
    max_queue_size: int | None
    executor: Executor | None
    resume: bool
    overwrite: bool
    on_error: str
    progress: bool | Callable[[Progress], None] | None
    check: bool


def run_conversion(source: Any, ask: ConvertRequest) -> ConversionReport:
    """Carry a request out."""
    began = time.monotonic()
    check_sharding(ask.num_shards, ask.shard_size)
    if ask.on_error not in ("stop", "skip"):
        raise RequestError(f"on_error is {ask.on_error!r}", advice="Use 'stop' or 'skip'")
    for name, number in (("workers", ask.workers), ("max_queue_size", ask.max_queue_size)):
        if number is not None and (type(number) is not int or number < 0):
            raise RequestError(f"{name} is {number!r}, not a whole number from 0 on")
    if ask.executor is not None and not hasattr(ask.executor, "submit"):
        raise RequestError(f"executor is {ask.executor!r}, not a concurrent.futures.Executor")
    if ask.progress not in (None, True, False) and not callable(ask.progress):
        raise RequestError(f"progress is {ask.progress!r}", advice="Use True, or a function that takes a Progress")
    place = os.fspath(ask.path)
    # The source may change the working directory, and other processes may have another one.
    job = Job(LOCAL, os.path.abspath(place))
    records = as_source(source, ask.output_signature)
    earlier = job.paths.request() if ask.resume else None
    if earlier is not None and not earlier.get("resumable"):
        earlier = None
    if ask.resume and earlier is None and not ask.overwrite and LOCAL.exists(job.paths.index):
        expected = records.num_records if ask.on_error == "stop" else None
        return _report_complete(job, place, ask, records.signature, expected, began)
    if job.paths.request() is None:
        job.check_free(overwrite=ask.overwrite)
    if earlier is not None and records.signature is None:
        # What was inferred once is asked for no more.
        records.signature = Schema.decode(bytes.fromhex(earlier.get("schema", ""))).element_spec

    parts = records.split(
        num_shards=ask.num_shards, shard_size=None if ask.num_shards else ask.shard_size or DEFAULT_SHARD_SIZE,
        row_size=earlier.get("item_size") if earlier else None,
    )  # fmt: skip
    if parts is None:
        whole = records.whole()
    schema = Schema.from_signature(records.resolve_signature())
    # Measured once, where it decides where shards end: a finished shard is not asked for a record.
    if earlier is not None:
        item_size = earlier.get("item_size")
    else:
        item_size = None if parts is None or ask.num_shards else records.item_size()
    target = make_target(job.paths, schema, metadata=ask.metadata, workers=default_workers(), options=ask.write)
    request = {
        "resumable": True, "source": type(records).__name__,
        "element_spec": repr(schema.element_spec), "schema": target.schema_bytes.hex(),
        "options": target.options.to_map(), "metadata": repr(ask.metadata or {}), "on_error": ask.on_error,
        "num_shards": ask.num_shards if parts is None else len(parts), "shard_size": ask.shard_size,
        "num_records": records.num_records, "source_identity": records.identity(), "item_size": item_size,
    }  # fmt: skip
    use_multiprocessing = records.use_multiprocessing if ask.use_multiprocessing is None else ask.use_multiprocessing
    tracker = Tracker(
        report=plain_reporter(sys.stderr) if ask.progress is True else ask.progress or None,
        total_records=records.num_records, total_shards=ask.num_shards if parts is None else len(parts),
    )  # fmt: skip
    run = _Run(
        target=target, tracker=tracker, executor=ask.executor, on_error="skip" if ask.on_error == "skip" else "raise",
        resumed=job.begin(request, overwrite=ask.overwrite, resume=ask.resume),
        workers=ask.workers or records.workers or 1,
        use_multiprocessing=bool(use_multiprocessing),
        max_queue_size=ask.max_queue_size or records.max_queue_size or _DEFAULT_QUEUE_SIZE,
    )  # fmt: skip
    try:
        if parts is not None:
            shards = run.write_parts(parts, records)
        elif ask.num_shards is None:
            shards = run.write_in_order(whole, ask.shard_size or DEFAULT_SHARD_SIZE)
        else:
            shards = run.write_by_spool(whole, ask.num_shards)
        records.finish()
        job.commit(schema=target.schema_bytes, metadata=target.metadata, shards=shards)
    except BaseException as error:
        tracker.stopped = True
        _end_unfinished(job, error)
        raise
    dataset = open_dataset(job.paths.path)
    if ask.check:
        _check(job.paths.path)
    return report_on(
        dataset, place, num_resumed_shards=run.num_resumed, duration_s=time.monotonic() - began,
        skipped=tuple(run.skipped),
    )  # fmt: skip


@dataclass
class _Run:
    """One conversion under way."""

    target: Target
    tracker: Tracker
    executor: Executor | None
    on_error: OnError
    resumed: bool
    workers: int
    use_multiprocessing: bool
    max_queue_size: int

    def __post_init__(self) -> None:
        self.num_resumed = 0
        self.skipped: list[SkippedRecord] = []

    def write_parts(self, parts: list[Part], source: Source) -> list[FinishedShard]:
        """Write one shard for each part; those that an earlier run finished are left as they are."""
        finished: dict[int, FinishedShard] = {}
        for shard_id, shard in self._resumed_shards(len(parts)):
            finished[shard_id] = shard
            self.tracker.add_shard(shard, counted=False)
        self.num_resumed = len(finished)
        tasks = [
            PartTask(
                target=self.target,
                part=part,
                shard_id=shard_id,
                last=shard_id == len(parts) - 1,
                on_error=self.on_error,
                window=max(self.max_queue_size, self.workers),
            )
            for shard_id, part in enumerate(parts)
            if shard_id not in finished
        ]
        for shard in self._run_tasks(tasks, source):
            finished[int(shard.entry.name.split("-")[1])] = shard
        shards = [finished[shard_id] for shard_id in range(len(parts))]
        self.skipped = [found for shard in shards for found in skipped_in(shard)]
        return shards

    def _run_tasks(self, tasks: list[PartTask], source: Source) -> list[FinishedShard]:
        if self.executor is not None:
            return self._on_given_executor(self.executor, tasks, source)
        if not tasks or (self.workers == 1 and not self.use_multiprocessing):
            return [run_part(task, tracker=self.tracker) for task in tasks]
        setup: tuple[Callable[..., object] | None, tuple[Any, ...]] = (None, ())
        if self.use_multiprocessing:
            source.check_picklable()
            setup = source.worker_setup() or setup
        pool = make_executor(self.workers, self.use_multiprocessing, *setup)
        try:
            if len(tasks) < self.workers and all(task.part.parallel for task in tasks):
                # Too few shards to go round: their batches do.
                return [run_part(task, executor=pool, tracker=self.tracker) for task in tasks]
            return self._on_pool(pool, tasks, window=2 * self.workers, remote=self.use_multiprocessing)
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
        workers = getattr(executor, "_max_workers", None)
        window = 2 * workers if isinstance(workers, int) else _EXECUTOR_WINDOW
        try:
            return self._on_pool(executor, tasks, window=window, remote=not isinstance(executor, ThreadPoolExecutor))
        except BaseException:
            # Not ours to shut down. Its threads end what they do for us before the lock is given up.
            self.tracker.stopped = True
            self.tracker.wait_until_idle()
            raise

    def _on_pool(self, pool: Executor, tasks: list[PartTask], *, window: int, remote: bool) -> list[FinishedShard]:
        run = run_part if remote else partial(run_part, tracker=self.tracker)
        done = []
        with closing(as_completed_map(pool, run, tasks, window=window, describe=_describe)) as results:  # type: ignore[type-var]
            for _, shard in results:
                if remote:
                    self.tracker.add_shard(shard, counted=False)
                done.append(shard)
        return done

    def write_in_order(self, part: Part, shard_size: int) -> list[FinishedShard]:
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
            self._feed(stream, part)
            shards = sequence.end(last=True)
            self.tracker.add_shard(shards[-1], counted=True)
        finally:
            stream.close()
            sequence.close()
        self.num_resumed = sequence.num_resumed
        return shards

    def write_by_spool(self, part: Part, num_shards: int) -> list[FinishedShard]:
        """Spool the chunks of a source of unknown length, then cut them into shards of equal numbers of records."""
        noted = Spool.noted(self.target) if self.resumed else None
        if noted is None:
            self._spool(part)
        else:
            self.skipped = [SkippedRecord(*fields) for fields in noted]
        shards = dict(self._resumed_shards(num_shards))
        self.num_resumed = len(shards)
        missing = [shard_id for shard_id in range(num_shards) if shard_id not in shards]
        try:
            shards |= self._cut(num_shards, missing)
        except DataError:
            if noted is None:
                raise
            # Complete, but no longer what was written: the source is asked again, from the damage on.
            self.skipped = []
            self._spool(part)
            shards |= self._cut(num_shards, missing)
        return [shards[shard_id] for shard_id in range(num_shards)]

    def _resumed_shards(self, num_shards: int) -> list[tuple[int, FinishedShard]]:
        """The shards that an earlier run finished, every byte of them verified."""
        if not self.resumed:
            return []
        with make_executor(default_workers(), False) as pool:
            check = partial(sound_shard, self.target)
            found = list(ordered_map(pool, check, range(num_shards), window=2 * default_workers()))
        return [(shard_id, shard) for shard_id, shard in enumerate(found) if shard is not None]

    def _cut(self, num_shards: int, missing: list[int]) -> dict[int, FinishedShard]:
        shards = {}
        with make_executor(min(default_workers(), max(1, len(missing))), False) as pool:
            cut = partial(cut_spool, self.target, num_shards)
            for place, shard in as_completed_map(pool, cut, missing, window=2 * default_workers()):
                shards[missing[place]] = shard
                self.tracker.add_shard(shard, counted=True)
        return shards

    def _spool(self, part: Part) -> None:
        spool = Spool(self.target, resume=self.resumed)

        def accept(shard_id: int, chunk: EncodedChunk) -> None:
            spool.accept(shard_id, chunk)
            self.tracker.add_chunk(chunk)

        stream = RecordStream(self.target, accept)
        try:
            self._feed(stream, part)
            spool.end([[found.label, found.error, found.record] for found in self.skipped])
        finally:
            stream.close()
            spool.close()

    def _feed(self, stream: RecordStream, part: Part) -> None:
        with closing(part.pieces(None, self.max_queue_size, self.on_error)) as pieces:  # type: ignore[type-var]
            feed(stream, pieces, on_error=self.on_error, skipped=self.skipped)
        stream.end()


def _report_complete(
    job: Job, place: str, ask: ConvertRequest, signature: Any, num_records: int | None, began: float
) -> ConversionReport:
    """Nothing is left to do: an earlier run has committed the data set. The source is not read again.

    Raises:
        RequestError: it is not what is asked for.
    """
    dataset = open_dataset(job.paths.path)
    options = open_data_set(job.paths.path).options
    asked = dataset.element_spec if signature is None else Schema.from_signature(signature).element_spec
    for name, found, wanted in (
        ("element_spec", dataset.element_spec, asked),
        ("num_shards", len(dataset.shards), ask.num_shards or len(dataset.shards)),
        ("metadata", dataset.metadata, dataset.metadata if ask.metadata is None else ask.metadata),
        ("options", options, ask.write.resolve(dataset.schema).to_map()),
        ("num_records", len(dataset), len(dataset) if num_records is None else num_records),
    ):
        if found != wanted:
            raise RequestError(
                f"the data set there is complete, and was written with {name} = {found!r}, not {wanted!r}",
                path=place, advice="Replace it with overwrite=True, or write elsewhere",
            )  # fmt: skip
    job.clear_remains()
    return report_on(dataset, place, num_resumed_shards=len(dataset.shards), duration_s=time.monotonic() - began)


def _describe(task: PartTask) -> str:
    return f"shard {task.shard_id}"


def _end_processes(pool: ProcessPoolExecutor) -> None:
    """Interrupted: what the workers have under way is not waited for; nothing finished is lost."""
    for process in list((getattr(pool, "_processes", None) or {}).values()):
        process.terminate()


def _end_unfinished(job: Job, error: BaseException) -> None:
    """Keep what can be gone on from; otherwise leave the place as it was."""
    finished = job.paths.num_finished()
    spooled = job.paths.storage.exists(job.paths.spool)
    try:
        if not finished and (not spooled or isinstance(error, SignatureError)):
            job.discard()
            return
        job.leave()
    except (OSError, RecordIOError) as second:
        error.add_note(f"recordio: {job.paths.path} could not be cleared up: {second}")
        return
    kept = f"{finished} finished shards are kept" if finished else "what was spooled is kept"
    error.add_note(f"recordio: {kept} in {job.paths.path}. Go on with convert(..., resume=True).")


def _check(path: str) -> None:
    from recordio.checks.verification import verify

    verify(path).raise_for_damage()
