"""A data set in the making: the work directory, finished shards, the commit.

    train/.unfinished/lock                who is writing
    train/.unfinished/job.json            what was asked for
    train/.unfinished/shard-00003.tmp     a shard that is being written
    train/.unfinished/shard-00003.done    that one is finished, and under which name
    train/index.rix                       written last: the commit

A shard is synced, renamed into place and then noted; the index is written when all are. Killed at any moment, a job
leaves the old data set, or the new one, or finished shards that it can go on from.

Spec: spec/format.md, section 9.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from recordio.errors import RequestError, SourceError
from recordio.format.index import INDEX_NAME, SHARD_NAME, encode_index
from recordio.job_paths import (
    JOB_VERSION,
    LOCK_NAME,
    WORK_NAME,
    FinishedShard,
    JobPaths,
    named_by_index,
)
from recordio.lock import WriteLock, is_locked
from recordio.storage import Storage

# Keys of a request that the source decides, and not whoever asks for the conversion.
_SOURCE_KEYS = ("source", "source_identity", "num_records")
_CONTEXT = 40  # characters of a long option, around the place where it differs


class Job:
    """Owns the work directory of one data set, locked, from `begin` to `commit`, `leave` or `discard`."""

    def __init__(self, storage: Storage, path: str) -> None:
        self.paths = JobPaths(storage, path)
        self._storage = storage
        self._lock = WriteLock(self.paths.lock, directory=path)
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
        storage, path = self._storage, self.paths.path
        if storage.exists(path) and not storage.is_directory(path):
            raise _file_there(path)
        self._made_directory = not storage.exists(path)
        for last in (False, False, False, True):
            storage.make_directory(self.paths.work)
            try:
                self._lock.acquire()
                break
            except FileNotFoundError:
                if last:
                    raise
                # A writer that ended just now has removed the work directory.
        earlier = self.paths.request()
        try:
            return self._take_over({"version": JOB_VERSION, **request}, overwrite=overwrite, resume=resume)
        except BaseException:
            if earlier is None:
                self._remove_work()
                if self._made_directory:
                    storage.remove_empty_directory(path)
            else:
                self._lock.release()
            raise

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
            every = earlier.keys() | request.keys()
            # Of a source that changed, other things follow; and the schema says what the element_spec does, in bytes.
            for keys in (_SOURCE_KEYS, every - {"schema"}, every):
                begun, asked = ({key: noted.get(key) for key in keys} for noted in (earlier, request))
                if begun != asked:
                    raise (SourceError if keys is _SOURCE_KEYS else RequestError)(
                        f"the unfinished conversion was begun with {differences(begun, asked)}", path=paths.path,
                        advice="Give the same source and options, or start again with overwrite=True, without resume",
                    )  # fmt: skip
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
        storage.write_file(os.path.join(paths.work, "job.json"), json.dumps(request, sort_keys=True).encode())
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
    holder = is_locked(paths.lock)
    text = describe_finished(paths)
    return f"{text}, {holder} is writing" if holder else text


def describe_finished(paths: JobPaths) -> str:
    """How far an unfinished job is, in words."""
    finished = paths.num_finished()
    planned = (paths.request() or {}).get("num_shards")
    if isinstance(planned, int):
        return f"{finished} of {planned} shards {'is' if finished == 1 else 'are'} finished"
    return f"{finished} {'shard is' if finished == 1 else 'shards are'} finished"


def differences(begun: dict[str, Any], asked: dict[str, Any]) -> str:
    """What differs between two maps of options, in words: "level = 3, not 9". Maps in them are looked into."""
    found = []
    for key in sorted(begun.keys() | asked.keys(), key=str):
        old, new = begun.get(key), asked.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found.append(differences(old, new))
        elif old != new:
            found.append("{} = {}, not {}".format(key, *_parted(_shown(old), _shown(new))))
    return "; ".join(filter(None, found))


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def _parted(old: str, new: str) -> list[str]:
    """Two long texts around the place where they begin to differ."""
    same = next((place for place, (a, b) in enumerate(zip(old, new)) if a != b), min(len(old), len(new)))
    start = max(0, same - _CONTEXT)
    stop = start + 4 * _CONTEXT
    return ["..." * (start > 0) + text[start:stop] + "..." * (len(text) > stop) for text in (old, new)]


def _file_there(path: str) -> RequestError:
    return RequestError(
        "a data set is a directory, but a file is there", path=path, advice="Write elsewhere, or remove the file"
    )
