"""A data set in the making: the work directory, finished shards, the commit.

    train/.unfinished/lock                         who is writing
    train/.unfinished/job.json                     what was asked for
    train/.unfinished/shard-00003-9f3a61c2.tmp     a shard that is being written
    train/.unfinished/shard-00003.done             that one is finished, and under which name
    train/index.rix                                written last: the commit

A shard is synced, renamed into place and then noted; the index is written when all are. Killed at any moment, a job
leaves the old data set, or the new one, or finished shards that it can go on from. One process writes it (`begin`),
and whatever workers it has, or tasks of an array job do (`join`), and one more process commits it (`take`).

Spec: spec/format.md, section 9.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from recordio.errors import LockedError, RequestError
from recordio.format.index import INDEX_NAME, SHARD_NAME, encode_index
from recordio.job_paths import (
    JOB_VERSION,
    LOCK_NAME,
    WORK_NAME,
    FinishedShard,
    JobPaths,
    named_by_index,
)
from recordio.job_requests import check_equal, differing
from recordio.lock import PATIENCE_S, WriteLock, is_locked
from recordio.storage import Storage

# Seconds that a task waits: for one that begins the job, for a writer that is just ending, or until a network file
# system shows what another machine has written.
JOIN_PATIENCE_S = 30.0


class Job:
    """Owns the work directory of one data set, locked, from `begin` or `take` to `commit`, `leave` or `discard`.

    Between `join` and `leave_task`, it owns it together with other tasks.
    """

    def __init__(self, storage: Storage, path: str) -> None:
        self.paths = JobPaths(storage, path)
        self._storage = storage
        self._lock = WriteLock(self.paths.lock, directory=path)
        self._task_lock: WriteLock | None = None
        self._made_directory = False

    def begin(self, request: dict[str, Any], *, overwrite: bool, resume: bool) -> bool:
        """Take the lock and make, or take over, the work directory.

        Args:
            request: JSON; what decides the bytes. A job is only resumed with an equal request. The key "resumable" says
                whether it may be resumed at all.

        Returns:
            True if there is an unfinished job to go on with.

        Raises:
            RequestError: a data set, other files or an unfinished job is there and may not be replaced.
            LockedError: another writer is at work.
        """
        self._check_place()
        self._lock_work()
        return self._begin_alone({"version": JOB_VERSION, **request}, overwrite=overwrite, resume=resume)

    def join(self, request: dict[str, Any], *, task: tuple[int, int], overwrite: bool) -> None:
        """Begin as task i of N, or join the tasks that have begun: together they make one job.

        Args:
            request: as for `begin`; every task's is equal.
            overwrite: begin a new job beside a data set, or in place of an unfinished job of another request on which
                nobody is working. One of the same request is joined all the same.

        Raises:
            RequestError, SourceError: as `begin` with resume.
            LockedError: this very task is running, or another writer is at work.
        """
        self._check_place()
        asked = {"version": JOB_VERSION, **request}
        deadline = time.monotonic() + JOIN_PATIENCE_S
        while True:
            self._lock_work(shared=True, patience_s=max(PATIENCE_S, deadline - time.monotonic()))
            earlier = self.paths.request()
            if earlier is not None and not differing(earlier, asked):
                break
            self._lock.release()
            # Alone for a moment: whoever comes first begins the job for all.
            try:
                self._lock_work()
            except LockedError:
                if earlier is not None and earlier.get("resumable") and not overwrite:
                    check_equal(earlier, asked, self.paths.path)
                if time.monotonic() > deadline:
                    raise
                continue
            earlier = self.paths.request()
            if earlier is None or differing(earlier, asked):
                resume = earlier is not None and not overwrite
                self._begin_alone({**asked, "num_tasks": task[1]}, overwrite=overwrite, resume=resume)
            self._lock.release()
        self._use(earlier)
        lock = WriteLock(self.paths.task_lock(*task), directory=self.paths.path)
        try:
            lock.acquire()
        except BaseException as error:
            self._lock.release()
            if isinstance(error, LockedError):
                error.message = f"task {task[0]}/{task[1]} is running already: {error.message}"
                error.advice = "Wait for it to end, and give every task a number of its own"
            raise
        self._task_lock = lock

    def leave_task(self, *, failed: bool) -> None:
        """End this task; one that failed leaves the place as it was, if nothing is finished and no other task runs."""
        if self._task_lock is not None:
            self._task_lock.release()
        self._lock.release()
        if not failed or self.paths.num_finished():
            return
        with contextlib.suppress(LockedError, FileNotFoundError):
            self._lock.acquire()
            request = self.paths.request()
            if request is not None and request.get("job_id") == self.paths.job_id and not self.paths.num_finished():
                self.discard()
            else:
                self._lock.release()

    def take(self) -> dict[str, Any] | None:
        """Take over the unfinished job that is there, as it is, to complete it.

        Returns:
            What it was asked for; None if there is none.

        Raises:
            LockedError: somebody is writing; tasks that run are named.
        """
        if self.paths.request() is None:
            return None
        try:
            self._lock.acquire()
        except FileNotFoundError:
            return None     # it was committed just now
        except LockedError as error:
            raise self._named(error) from None
        request = self.paths.request()
        if request is None:
            self._lock.release()
            return None
        self._use(request)
        return request

    def _check_place(self) -> None:
        storage, path = self._storage, self.paths.path
        if storage.exists(path) and not storage.is_directory(path):
            raise _file_there(path)
        self._made_directory = not storage.exists(path)

    def _lock_work(self, *, shared: bool = False, patience_s: float = PATIENCE_S) -> None:
        """Make the work directory, and lock it."""
        for last in (False, False, False, True):
            self._storage.make_directory(self.paths.work)
            try:
                self._lock.acquire(shared=shared, patience_s=patience_s)
                return
            except FileNotFoundError:
                if last:
                    raise
                # A writer that ended just now has removed the work directory.
            except LockedError as error:
                raise self._named(error) from None

    def _named(self, error: LockedError) -> LockedError:
        """Say which tasks hold a lock that is held by tasks."""
        holder = running_tasks(self.paths)
        if holder is not None:
            error.message = f"{holder} is writing here"
        return error

    def _begin_alone(self, asked: dict[str, Any], *, overwrite: bool, resume: bool) -> bool:
        """`begin`, once the lock is held; given up if that fails."""
        earlier = self.paths.request()
        try:
            return self._take_over(asked, overwrite=overwrite, resume=resume)
        except BaseException:
            if earlier is None:
                self._remove_work()
                if self._made_directory:
                    self._storage.remove_empty_directory(self.paths.path)
            else:
                self._lock.release()
            raise

    def _use(self, request: dict[str, Any]) -> None:
        self.paths = replace(self.paths, job_id=str(request.get("job_id", "")))

    def check_free(self, *, overwrite: bool) -> None:
        """Refuse a place where something is that may not be replaced; reads only, and is no promise to `begin`.

        Raises:
            RequestError: a data set, its shards or other files are there.
        """
        storage, paths = self._storage, self.paths
        if storage.exists(paths.path) and not storage.is_directory(paths.path):
            raise _file_there(paths.path)
        if storage.exists(paths.index) and not overwrite:
            raise RequestError(
                "a data set is there already", path=paths.path,
                advice="Replace it with overwrite=True, or write elsewhere",
            )  # fmt: skip
        if paths.request() is not None or not storage.exists(paths.path):
            return
        names = storage.list(paths.path)
        others = [name for name in names if name not in (WORK_NAME, INDEX_NAME) and not SHARD_NAME.fullmatch(name)]
        # A job that was killed has a request; shards without one are a data set that has lost its index.
        if not overwrite and not storage.exists(paths.index) and any(map(SHARD_NAME.fullmatch, names)):
            raise RequestError(
                "the directory holds shards, but no index", path=paths.path,
                advice="Restore the index, or replace all with overwrite=True",
            )  # fmt: skip
        if others and not storage.exists(paths.index):
            raise RequestError(
                f"the directory holds other files ({', '.join(others[:3])}{', ...' if len(others) > 3 else ''})",
                path=paths.path, advice="Write to a directory of its own",
            )  # fmt: skip

    def commit(self, *, schema: bytes, metadata: bytes, shards: Sequence[FinishedShard]) -> bytes:
        """Write the index, remove what it does not name, and end the job; gives the bytes of the index."""
        storage, paths = self._storage, self.paths
        index = encode_index(
            schema=schema, metadata=metadata, shards=[shard.entry for shard in shards],
            chunk_tables=[shard.chunk_table for shard in shards],
        )  # fmt: skip
        temporary = os.path.join(paths.work, "index.tmp")
        handle = storage.create(temporary)
        try:
            handle.write([index])
            handle.sync()
        finally:
            handle.close()
        storage.rename(temporary, paths.index)
        storage.sync_directory(paths.path)
        storage.sync_directory(os.path.dirname(os.path.abspath(paths.path)))
        self._remove_unnamed({shard.entry.name for shard in shards})
        self._remove_work()
        return index

    def clear_remains(self) -> None:
        """Remove what a job that was killed after its commit has left of its work directory.

        Raises:
            LockedError: another writer is at work.
        """
        if not self._storage.exists(self.paths.work):
            return
        self._lock.acquire()
        if self.paths.request() is None:
            self._remove_work()
        else:
            self._lock.release()

    def leave(self) -> None:
        """End, but keep what is finished, so that the job can be resumed."""
        self._lock.release()

    def discard(self) -> None:
        """End, and remove everything that this job has written."""
        self._remove_unnamed(named_by_index(self._storage, self.paths.path))
        self._remove_work()
        if self._made_directory:
            self._storage.remove_empty_directory(self.paths.path)

    def _take_over(self, request: dict[str, Any], *, overwrite: bool, resume: bool) -> bool:
        storage, paths = self._storage, self.paths
        earlier = paths.request()
        if earlier is not None and resume and earlier.get("resumable"):
            check_equal(earlier, request, paths.path)
            self._use(earlier)
            for name in storage.list(paths.work):
                if name.endswith(".tmp"):
                    storage.remove(os.path.join(paths.work, name))
            return True
        if earlier is not None and earlier.get("resumable") and not overwrite:
            raise RequestError(
                f"an unfinished conversion is there: {describe_finished(paths)}",
                path=paths.path, advice="Go on with resume=True, or start again with overwrite=True",
            )  # fmt: skip
        self.check_free(overwrite=overwrite)
        self._remove_unnamed(named_by_index(storage, paths.path))
        for name in storage.list(paths.work):
            if name != LOCK_NAME:
                storage.remove(os.path.join(paths.work, name))
        request = {**request, "job_id": uuid.uuid4().hex}
        storage.write_file(os.path.join(paths.work, "job.json"), json.dumps(request, sort_keys=True).encode())
        self._use(request)
        return False

    def _remove_unnamed(self, named: set[str]) -> None:
        for name in self._storage.list(self.paths.path):
            if SHARD_NAME.fullmatch(name) and name not in named:
                self._storage.remove(os.path.join(self.paths.path, name))

    def _remove_work(self) -> None:
        # The request goes first: what is left of a work directory without it is nobody's.
        self._storage.remove(os.path.join(self.paths.work, "job.json"))
        for name in self._storage.list(self.paths.work):
            if name != LOCK_NAME:
                self._storage.remove(os.path.join(self.paths.work, name))
        self._lock.release()
        self._storage.remove_empty_directory(self.paths.work)


def describe_unfinished(storage: Storage, path: str) -> str | None:
    """What stands in the work directory of a data set, in words; None if nothing does."""
    paths = JobPaths(storage, path)
    if not storage.exists(paths.work):
        return None
    holder = writer_of(paths)
    text = describe_finished(paths)
    return f"{text}, {holder} is writing" if holder else text


def writer_of(paths: JobPaths) -> str | None:
    """Who is writing, in words; None if nobody is."""
    holder = is_locked(paths.lock)
    return holder and (running_tasks(paths) or holder)


def running_tasks(paths: JobPaths) -> str | None:
    """The tasks of an array job that are at work, in words that stand for one; None if none is."""
    found = [(task, num_tasks, is_locked(path)) for task, num_tasks, path in paths.task_locks()]
    running = [f"task {task}/{num_tasks} ({holder})" for task, num_tasks, holder in found if holder]
    if len(running) > 1:
        return f"{running[0]}, one of {len(running)} running tasks,"
    return running[0] if running else None


def describe_finished(paths: JobPaths) -> str:
    """How far an unfinished job is, in words."""
    finished = paths.num_finished()
    planned = (paths.request() or {}).get("num_shards")
    if isinstance(planned, int):
        return f"{finished} of {planned} shards {'is' if finished == 1 else 'are'} finished"
    return f"{finished} {'shard is' if finished == 1 else 'shards are'} finished"


def _file_there(path: str) -> RequestError:
    return RequestError(
        "a data set is a directory, but a file is there", path=path, advice="Write elsewhere, or remove the file"
    )
