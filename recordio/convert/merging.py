"""Merge: the shards that the tasks of an array job have written become a data set.

    lock -> every shard there once, complete, and of this job? -> commit

What the index holds is read from headers and footers of the shards; the commit is that of any conversion
(`recordio.job`), and so are the bytes. What a task does is in `recordio.convert.run`.

Spec: spec/format.md, section 9.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from functools import partial
from typing import Any

from recordio.convert.report import ConversionReport, report_on
from recordio.convert.tasks import skipped_in
from recordio.doors import open_dataset
from recordio.errors import DataError, IncompleteError, LockedError, MismatchError, RequestError
from recordio.execute.pool import default_workers, make_executor, ordered_map
from recordio.format.footer import decode_metadata
from recordio.indexing import FoundShard, difference, names_by_ordinal, ordinals_in_words, read_found
from recordio.job import Job
from recordio.job_paths import FinishedShard, JobPaths, live_digests
from recordio.job_requests import differences
from recordio.lock import is_locked
from recordio.plan.ranges import even_ranges
from recordio.storage import LOCAL
from recordio.writer import absolute_path

_MAX_NAMED = 4  # tasks that an error names


def merge_shards(path: str | os.PathLike[str], *, check: bool = False) -> ConversionReport:
    """Complete a data set that `convert(..., task=(i, N))` has written: check that all is there, and write the index.

    Nothing is done where that has happened already. The files are, byte for byte, those of one `convert` without tasks.

    Args:
        path: the data set directory.
        check: read everything back and verify it.

    Returns:
        The report, as of `convert`; every shard counts as finished before.

    Raises:
        IncompleteError: shards are missing or cut short: which, and which tasks write them.
        MismatchError: a shard is there twice, or is of another job.
        LockedError: a task is still running, or another writer is.
        RequestError: of what is unfinished there, the number of shards is not known.
        FileNotFoundError, NotRecordIOError: there is nothing to be merged.

    Source: spec/format.md, section 9.
    """
    began = time.monotonic()
    place = os.fsdecode(path)
    job = Job(LOCAL, absolute_path(place))
    try:
        request = job.take()
    except LockedError as error:
        raise _still_running(job.paths, error) from None
    shards: list[FinishedShard] = []
    if request is None:
        open_dataset(job.paths.path)    # says what is there instead of an unfinished job
        job.clear_remains()
    else:
        try:
            found, shards = _collect(job.paths, request)
            job.commit(schema=found.schema, metadata=found.footer.metadata, shards=shards)
        except BaseException:
            job.leave()
            raise
    if check:
        from recordio.checks.verification import verify

        verify(job.paths.path).raise_for_damage()
    dataset = open_dataset(job.paths.path)
    return report_on(
        dataset, place, num_resumed_shards=len(dataset.shards), duration_s=time.monotonic() - began,
        skipped=tuple(skipped for shard in shards for skipped in skipped_in(shard)),
    )  # fmt: skip


def _collect(paths: JobPaths, request: dict[str, Any]) -> tuple[FoundShard, list[FinishedShard]]:
    """All shards of the job, in order; and the first of them, for what all have in common."""
    num_shards = request.get("num_shards")
    if not request.get("resumable") or type(num_shards) is not int:
        raise RequestError(
            "what is unfinished there cannot be merged: it is not known how many shards it is to have", path=paths.path,
            advice="Go on with convert(..., resume=True)" if request.get("resumable") else "Write it again",
        )  # fmt: skip
    _refuse_strangers(paths, num_shards)
    with make_executor(default_workers(), False) as pool:
        examine = partial(_examine, paths, bytes.fromhex(request["schema"]), num_shards)
        examined = list(ordered_map(pool, examine, range(num_shards), window=2 * default_workers()))
    missing = {shard_id: one for shard_id, one in enumerate(examined) if isinstance(one, str)}
    if missing:
        raise _missing(paths, request, missing)
    pairs = [one for one in examined if not isinstance(one, str)]
    first = pairs[0][0]
    options = decode_metadata(first.footer.metadata)[1]
    if options != request.get("options"):
        what = f"other options than the job: {differences(dict(request.get('options') or {}), options)}"
        raise _stranger(paths, first, what)
    for found, _ in pairs:
        other = difference(first, found)
        if other is not None:
            raise _stranger(paths, found, f"{other} (than shard 0)")
    return first, [shard for _, shard in pairs]


def _refuse_strangers(paths: JobPaths, num_shards: int) -> None:
    """Raise a MismatchError if an ordinal is there twice, or one that the job does not have."""
    live = live_digests(paths.storage, paths.path)
    for ordinal, names in names_by_ordinal(paths.storage, paths.path).items():
        note = paths.noted(ordinal) or {}
        # What a data set that is being replaced has is none of the job's, unless both have it.
        ours = [name for name in names if name not in live or name == note.get("name")]
        if len(ours) > 1:
            noted = f"; its task has finished {note['name']}" if note.get("name") in ours else ""
            raise MismatchError(
                f"shard {ordinal} is there {'twice' if len(ours) == 2 else f'{len(ours)} times'}: "
                f"{' and '.join(ours)}{noted}",
                path=paths.path, shard=ordinal,
                advice="The source gave other records when it was asked again: remove what is not wanted, then merge",
            )  # fmt: skip
        if ours and ordinal >= num_shards:
            raise MismatchError(
                f"the job has {num_shards} shards, and this is shard {ordinal}",
                path=os.path.join(paths.path, ours[0]), shard=ordinal, advice="Remove it, then merge again",
            )  # fmt: skip


def _examine(paths: JobPaths, schema: bytes, num_shards: int, shard_id: int) -> tuple[FoundShard, FinishedShard] | str:
    """One shard of the job, checked; or why it must be written (again), in words that may be empty."""
    note = paths.noted(shard_id)
    if note is None or not paths.storage.exists(os.path.join(paths.path, note["name"])):
        return ""
    try:
        found = read_found(paths.storage, paths.path, note["name"])
    except (DataError, IncompleteError) as error:
        return error.message
    if found.schema != schema:
        raise _stranger(paths, found, "another schema than the job")
    if note["job_id"] != paths.job_id:
        raise _stranger(paths, found, "been finished for another job")
    if (found.footer.digest.hex(), found.footer.last) != (note["digest"], shard_id == num_shards - 1):
        raise _stranger(paths, found, "other contents than its task has finished")
    entry, table = found.entry, found.footer.chunk_table
    return found, FinishedShard(entry=entry, chunk_table=table, details=note["details"])


def _stranger(paths: JobPaths, found: FoundShard, what: str) -> MismatchError:
    return MismatchError(
        f"this shard has {what}", path=os.path.join(paths.path, found.entry.name), shard=found.footer.shard_id,
        advice="Remove it, run the task that writes this shard again, then merge",
    )  # fmt: skip


def _missing(paths: JobPaths, request: dict[str, Any], missing: dict[int, str]) -> IncompleteError:
    message = _missing_in_words(request, missing)
    reason = next(((shard_id, why) for shard_id, why in missing.items() if why), None)
    if reason is not None:
        message += f"; shard {reason[0]}: {reason[1]}"
    return IncompleteError(message, path=paths.path, advice=_how_to_run(_tasks_of(request, missing)))


def _still_running(paths: JobPaths, error: LockedError) -> LockedError:
    """Say what is still missing, and which of its tasks do not run."""
    request = paths.request() or {}
    num_shards = request.get("num_shards")
    if type(num_shards) is not int:
        return error
    missing = [shard_id for shard_id in range(num_shards) if paths.noted(shard_id) is None]
    if missing:
        error.message += f", and {_missing_in_words(request, missing)}"
    running = {(task, num_tasks) for task, num_tasks, path in paths.task_locks() if is_locked(path)}
    idle = [task for task in _tasks_of(request, missing) if task not in running]
    error.advice = "Merge when all tasks have ended" + (f". {_how_to_run(idle)}" if idle else "")
    return error


def _missing_in_words(request: dict[str, Any], missing: Iterable[int]) -> str:
    ids = sorted(missing)
    tasks = _tasks_of(request, ids)
    words = [f"{task}/{num_tasks}" for task, num_tasks in tasks[:_MAX_NAMED]]
    more = f" and {len(tasks) - _MAX_NAMED} more" if len(tasks) > _MAX_NAMED else ""
    whose = f" (task{'s' if len(tasks) > 1 else ''} {', '.join(words)}{more})" if tasks else ""
    verb = "is" if len(ids) == 1 else "are"
    return f"{len(ids)} of {request['num_shards']} shards {verb} missing: {ordinals_in_words(ids)}{whose}"


def _tasks_of(request: dict[str, Any], shard_ids: Iterable[int]) -> list[tuple[int, int]]:
    """The tasks that write these shards, if there are as many as the first one said."""
    num_tasks, wanted = request.get("num_tasks"), set(shard_ids)
    if type(num_tasks) is not int or not 1 <= num_tasks <= request["num_shards"]:
        return []
    shares = even_ranges(request["num_shards"], num_tasks)
    return [(task, num_tasks) for task, share in enumerate(shares) if not wanted.isdisjoint(range(*share))]


def _how_to_run(tasks: list[tuple[int, int]]) -> str:
    if not tasks:
        return "Go on with convert(..., resume=True)"
    task, num_tasks = tasks[0]
    each = "it" if len(tasks) == 1 else "each of these tasks"
    return f"Run {each} with the same source and options, convert(..., task=({task}, {num_tasks})), then merge again"
