"""One conversion: the source is split, its shards are written, the index is committed.

    as_source -> split -> shard tasks on threads, processes or an executor ------------> commit
                       -> (only the front is known) shards by size, one after the other -> commit
                       -> (and a number of shards is asked for) spool -> cut -----------> commit

Every shard is finished for itself; the index comes last. What a killed run has finished is taken over by the next, if
it is asked to, and the bytes are the same in the end. A task of an array job writes its share of the shards and leaves
the commit to `recordio.convert.merging`. The public door is `recordio.convert.api`.

Spec: spec/format.md, section 9.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

from recordio.chunks.encoding import WriteOptions
from recordio.convert.pieces import DEFAULT_QUEUE_SIZE, OnError, Part
from recordio.convert.report import ConversionReport, report_on, report_on_task
from recordio.convert.sources import as_source
from recordio.convert.tasks import Tracker, say_inferred
from recordio.convert.writing import ShardRun
from recordio.doors import open_dataset
from recordio.errors import RecordIOError, RequestError, SignatureError, SourceError
from recordio.execute.pool import default_workers
from recordio.format.footer import decode_metadata
from recordio.job import Job
from recordio.job_requests import differences
from recordio.plan.ranges import even_ranges
from recordio.progress import Progress, plain_reporter
from recordio.reader import open_data_set
from recordio.schema import Schema
from recordio.storage import LOCAL
from recordio.writer import DEFAULT_SHARD_SIZE, absolute_path, check_sharding, make_target


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
    task: tuple[int, int] | None  # (i, N)
    resume: bool
    overwrite: bool
    on_error: OnError
    progress: bool | Callable[[Progress], None] | None
    check: bool


def run_conversion(source: Any, ask: ConvertRequest) -> ConversionReport:
    """Carry a request out."""
    began = time.monotonic()
    _check(ask)
    place = os.fsdecode(ask.path)
    # The source may change the working directory, and other processes may have another one.
    job = Job(LOCAL, absolute_path(place))
    records = as_source(source, ask.output_signature)
    records.on_error = ask.on_error
    inferred = records.signature is None
    resume = ask.resume or ask.task is not None
    # A task that overwrites cannot know yet whether what is there is its own job or the one to be replaced.
    earlier = job.paths.request() if resume and not (ask.task and ask.overwrite) else None
    if earlier is not None and not earlier.get("resumable"):
        earlier = None
    if resume and earlier is None and not ask.overwrite and LOCAL.exists(job.paths.index):
        expected = records.num_records if ask.on_error == "stop" and not records.lossy else None
        return _report_complete(job, place, ask, records.signature, expected, began)
    # Other tasks may begin the job in this very moment: a task looks when it holds the lock.
    if ask.task is None and job.paths.request() is None:
        job.check_free(overwrite=ask.overwrite)
    if earlier is not None and records.signature is None:
        # What was inferred once is asked for no more.
        records.signature = Schema.decode(bytes.fromhex(earlier.get("schema", ""))).element_spec

    parts = records.split(
        num_shards=ask.num_shards, shard_size=None if ask.num_shards else ask.shard_size or DEFAULT_SHARD_SIZE,
        row_size=earlier.get("item_size") if earlier else None,
    )  # fmt: skip
    shard_ids = None if ask.task is None else _share(parts, ask.task)
    if parts is None:
        records.whole()     # the records that are looked at next are kept in it
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
    written = parts if parts is None or shard_ids is None else [parts[shard_id] for shard_id in shard_ids]
    total_records = records.num_records if shard_ids is None else _total_records(written or [])
    tracker = Tracker(
        report=plain_reporter(sys.stderr) if ask.progress is True else ask.progress or None, began=began,
        total_records=total_records,
        expected_records=records.expected_records() if shard_ids is None else total_records,
        total_shards=ask.num_shards if written is None else len(written),
    )  # fmt: skip
    if ask.task is None:
        resumed = job.begin(request, overwrite=ask.overwrite, resume=ask.resume)
    else:
        job.join(request, task=ask.task, overwrite=ask.overwrite)
        resumed = True
    run = ShardRun(
        target=replace(target, paths=job.paths), tracker=tracker, executor=ask.executor, on_error=records.on_error,
        resumed=resumed,
        workers=ask.workers or records.workers or 1,
        use_multiprocessing=bool(use_multiprocessing),
        max_queue_size=ask.max_queue_size or records.max_queue_size or DEFAULT_QUEUE_SIZE,
    )  # fmt: skip
    try:
        if parts is not None:
            shards = run.write_parts(parts, records, shard_ids)
        elif ask.num_shards is None:
            shards = run.write_in_order(records, ask.shard_size or DEFAULT_SHARD_SIZE)
        else:
            shards = run.write_by_spool(records, ask.num_shards)
        records.finish()
        if ask.task is None:
            job.commit(schema=target.schema_bytes, metadata=target.metadata, shards=shards)
    except BaseException as error:
        tracker.stopped = True
        if inferred and isinstance(error, SignatureError):
            say_inferred(error, earlier=earlier is not None)
        _end_unfinished(job, error, ask.task)
        raise
    skipped = tuple(run.skipped)
    if ask.task is not None:
        job.leave_task(failed=False)
        return report_on_task(
            [shard.entry for shard in shards], place, task=ask.task, element_spec=schema.element_spec,
            num_resumed_shards=run.num_resumed, duration_s=time.monotonic() - began, skipped=skipped,
        )  # fmt: skip
    dataset = open_dataset(job.paths.path)
    if ask.check:
        _verify(job.paths.path)
    return report_on(
        dataset, place, num_resumed_shards=run.num_resumed, duration_s=time.monotonic() - began, skipped=skipped
    )


def _check(ask: ConvertRequest) -> None:
    """Refuse arguments that cannot be meant, before anything is looked at."""
    check_sharding(ask.num_shards, ask.shard_size)
    if ask.on_error not in ("stop", "skip"):
        raise RequestError(f"on_error is {ask.on_error!r}", advice="Use 'stop' or 'skip'")
    for name, number in (("workers", ask.workers), ("max_queue_size", ask.max_queue_size)):
        if number is not None and (type(number) is not int or number < 0):
            raise RequestError(f"{name} is {number!r}, not a whole number from 0 on")
    if ask.executor is not None and not hasattr(ask.executor, "submit"):
        raise RequestError(
            f"executor is {ask.executor!r}, not a concurrent.futures.Executor",
            advice="Use one, or give workers instead",
        )
    if ask.progress not in (None, True, False) and not callable(ask.progress):
        raise RequestError(f"progress is {ask.progress!r}", advice="Use True, or a function that takes a Progress")
    if ask.task is not None:
        try:
            task, num_tasks = ask.task
            sound = type(task) is type(num_tasks) is int and 0 <= task < num_tasks
        except (TypeError, ValueError):
            sound = False
        if not sound:
            raise RequestError(
                f"task is {ask.task!r}, not (i, N)", advice="Count the N tasks from 0: the last one is (N - 1, N)"
            )
        if ask.check:
            raise RequestError(
                "check reads a whole data set, and a task writes a part of one",
                advice="Check when all tasks have ended: recordio.merge_shards(path, check=True)",
            )


def _share(parts: list[Part] | None, task: tuple[int, int]) -> range:
    """The shards that a task writes.

    Raises:
        SourceError: there are no shares. RequestError: there are fewer shards than tasks.
    """
    if parts is None:
        raise SourceError(
            "the source is read from the front, or has fewer batches than there are to be shards: "
            "they cannot be shared out among tasks",
            advice="Give num_shards, and a source that can be cut: a function with parameters `shard` and `num_shards` "
            "or with lists among its arguments, or records that have numbers",
        )
    if task[1] > len(parts):
        raise RequestError(
            f"there are {task[1]} tasks, but only {len(parts)} shards", advice="Give at most as many tasks as shards"
        )
    return range(*even_ranges(len(parts), task[1])[task[0]])


def _total_records(parts: list[Part]) -> int | None:
    """Of all these parts, if each of them knows."""
    numbers = [part.num_records for part in parts if part.num_records is not None]
    return sum(numbers) if len(numbers) == len(parts) else None


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
    # Compared as they are stored: nan differs from itself.
    target = make_target(job.paths, dataset.schema, metadata=ask.metadata, workers=1, options=ask.write)
    metadata, _ = decode_metadata(target.metadata)
    found = {
        "element_spec": repr(dataset.element_spec), "num_shards": len(dataset.shards),
        "metadata": repr(dataset.metadata), "options": options, "num_records": len(dataset),
    }  # fmt: skip
    wanted = {
        "element_spec": repr(asked), "num_shards": ask.num_shards or found["num_shards"],
        "metadata": found["metadata"] if ask.metadata is None else repr(metadata),
        "options": target.options.to_map(),
        "num_records": found["num_records"] if num_records is None else num_records,
    }  # fmt: skip
    if found != wanted:
        raise RequestError(
            f"the data set there is complete, and was written with {differences(found, wanted)}", path=place,
            advice="Replace it with overwrite=True, without resume, or write elsewhere",
        )  # fmt: skip
    if ask.task is not None and ask.task[1] > len(dataset.shards):
        raise RequestError(f"there are {ask.task[1]} tasks, but only {len(dataset.shards)} shards", path=place)
    job.clear_remains()
    return report_on(
        dataset, place, task=ask.task, num_resumed_shards=len(dataset.shards), duration_s=time.monotonic() - began
    )


def _end_unfinished(job: Job, error: BaseException, task: tuple[int, int] | None) -> None:
    """Keep what can be gone on from; otherwise leave the place as it was."""
    finished = job.paths.num_finished()
    spooled = job.paths.storage.exists(job.paths.spool)
    try:
        if task is not None:
            job.leave_task(failed=True)
        elif not finished and (not spooled or isinstance(error, SignatureError)):
            job.discard()
        else:
            job.leave()
    except (OSError, RecordIOError) as second:
        error.add_note(f"recordio: {job.paths.path} could not be cleared up: {second}")
        return
    if not finished and (task is not None or not spooled or isinstance(error, SignatureError)):
        return
    shards = "1 finished shard is" if finished == 1 else f"{finished} finished shards are"
    kept = f"{shards} kept" if finished else "what was spooled is kept"
    # A chunk that differs: to go on with what the source gives now would be refused again.
    changed = isinstance(error, SourceError) and error.chunk is not None
    how = "With the source as it was, go on" if changed else "Go on"
    again = "convert(..., resume=True)" if task is None else f"convert(..., task=({task[0]}, {task[1]}))"
    error.add_note(f"recordio: {kept} in {job.paths.path}. {how} with {again}.")


def _verify(path: str) -> None:
    from recordio.checks.verification import verify

    verify(path).raise_for_damage()
