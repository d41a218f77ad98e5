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

import contextlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from recordio.errors import DataError, IncompleteError, RecordIOError, RequestError, SourceError
from recordio.format.checksum import crc
from recordio.format.footer import Footer
from recordio.format.index import INDEX_NAME, ShardEntry, decode_index, encode_index
from recordio.lock import WriteLock, is_locked
from recordio.shards.shard_reader import read_shard_front
from recordio.storage import Storage

WORK_NAME = ".unfinished"
_JOB_VERSION = 1
# Keys of a request that the source decides, and not whoever asks for the conversion.
_SOURCE_KEYS = ("source", "source_identity", "num_records")
_SHARD_NAME = re.compile(r"shard-[0-9]{5,7}-[0-9a-f]{8}\.rio", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedShard:
    """A shard in its place, and what converting it had to report."""

    entry: ShardEntry
    chunk_table: bytes
    last: bool
    details: dict[str, Any] = field(default_factory=dict)  # JSON


@dataclass(frozen=True, slots=True)
class JobPaths:
    """The files of one job; picklable, so that a shard can be written and published by any process."""

    storage: Storage
    path: str  # the data set directory

    @property
    def work(self) -> str:
        return os.path.join(self.path, WORK_NAME)

    @property
    def index(self) -> str:
        return os.path.join(self.path, INDEX_NAME)

    @property
    def spool(self) -> str:
        """Chunks of a source of unknown length, before they are cut into shards."""
        return os.path.join(self.work, "spool.rio")

    @property
    def spool_note(self) -> str:
        """What the source of a complete spool had to report."""
        return os.path.join(self.work, "spool.done")

    def temporary(self, shard_id: int) -> str:
        """Where a shard is written before it has a name."""
        return os.path.join(self.work, f"shard-{shard_id:05d}.tmp")

    def note(self, shard_id: int) -> str:
        """Where it is noted that a shard is finished."""
        return os.path.join(self.work, f"shard-{shard_id:05d}.done")

    def publish(self, entry: ShardEntry, footer: Footer, details: dict[str, Any]) -> FinishedShard:
        """Rename a synced shard into place and note that it is finished.

        Raises:
            RequestError: a live shard of the same name has another digest (eight equal digits of two digests).
        """
        temporary, target = self.temporary(footer.shard_id), os.path.join(self.path, entry.name)
        if self.storage.exists(target) and self.storage.equal(temporary, target):
            self.storage.remove(temporary)
        elif live_digests(self.storage, self.path).get(entry.name, entry.digest) != entry.digest:
            raise RequestError(
                f"{entry.name} of the data set that is being replaced has the same name and other bytes",
                path=self.path, advice="Write to another directory",
            )  # fmt: skip
        else:
            # Over a live shard of the same digest too: what the index says is there again, if it was damaged.
            self.storage.rename(temporary, target)
        self.storage.sync_directory(self.path)
        note = {"name": entry.name, "digest": entry.digest.hex(), "last": footer.last, "details": details}
        self.storage.write_file(self.note(footer.shard_id), json.dumps(note).encode())
        return FinishedShard(entry=entry, chunk_table=footer.chunk_table, last=footer.last, details=details)

    def finished(self, shard_id: int) -> FinishedShard | None:
        """A shard that an earlier run finished, verified down to its digest; None if it must be written (again)."""
        try:
            note = json.loads(bytes(self.storage.read_file(self.note(shard_id))))
            name, digest = str(note["name"]), bytes.fromhex(note["digest"])
            last, details = bool(note["last"]), note["details"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if _SHARD_NAME.fullmatch(name) is None:
            return None
        try:
            front = read_shard_front(self.storage, os.path.join(self.path, name))
        except (RecordIOError, OSError):
            return None
        footer = front.footer
        if footer.digest != digest or footer.shard_id != shard_id or footer.last != last:
            return None
        entry = shard_entry(name, front.header.file_id, footer, front.file_size)
        return FinishedShard(entry=entry, chunk_table=footer.chunk_table, last=last, details=details)

    def num_finished(self) -> int:
        """How many shards are noted as finished."""
        with contextlib.suppress(OSError):
            return sum(name.endswith(".done") and name.startswith("shard-") for name in self.storage.list(self.work))
        return 0

    def request(self) -> dict[str, Any] | None:
        """What the unfinished job was asked for; None if there is none."""
        try:
            noted = json.loads(bytes(self.storage.read_file(os.path.join(self.work, "job.json"))))
            bytes.fromhex(noted.get("schema", ""))
            return noted if noted["version"] == _JOB_VERSION else None
        except (OSError, DataError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None


class Job:
    """Owns the work directory of one data set, locked, from `begin` to `commit`, `leave` or `discard`."""

    def __init__(self, storage: Storage, path: str) -> None:
        self.paths = JobPaths(storage, path)
        self._storage = storage
        self._lock = WriteLock(os.path.join(self.paths.work, "lock"), directory=path)
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
            raise RequestError("a data set is a directory, but a file is there", path=path)
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
            return self._take_over({"version": _JOB_VERSION, **request}, overwrite=overwrite, resume=resume)
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
            raise RequestError("a data set is a directory, but a file is there", path=paths.path)
        if storage.exists(paths.index) and not overwrite:
            raise RequestError(
                "a data set is there already", path=paths.path,
                advice="Replace it with overwrite=True, or write elsewhere",
            )  # fmt: skip
        if paths.request() is not None or not storage.exists(paths.path):
            return
        names = storage.list(paths.path)
        others = [name for name in names if name not in (WORK_NAME, INDEX_NAME) and not _SHARD_NAME.fullmatch(name)]
        # A job that was killed has a request; shards without one are a data set that has lost its index.
        if not overwrite and not storage.exists(paths.index) and any(map(_SHARD_NAME.fullmatch, names)):
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
            for key in sorted({*earlier, *request}):
                begun, asked = earlier.get(key), request.get(key)
                if begun != asked:
                    raise (SourceError if key in _SOURCE_KEYS else RequestError)(
                        f"the unfinished conversion was begun with {key} = {_short(begun)}, not {_short(asked)}",
                        path=paths.path,
                        advice="Resume with the same source and options, or start again with overwrite, without resume",
                    )
            return True
        if earlier is not None and earlier.get("resumable") and not overwrite:
            raise RequestError(
                f"an unfinished conversion is there, with {paths.num_finished()} finished shards",
                path=paths.path, advice="Go on with resume=True, or start again with overwrite=True",
            )  # fmt: skip
        self.check_free(overwrite=overwrite)
        self._remove_unnamed(named_by_index(storage, paths.path))
        for name in storage.list(paths.work):
            if name != "lock":
                storage.remove(os.path.join(paths.work, name))
        storage.write_file(os.path.join(paths.work, "job.json"), json.dumps(request, sort_keys=True).encode())
        return False

    def _remove_unnamed(self, named: set[str]) -> None:
        for name in self._storage.list(self.paths.path):
            if _SHARD_NAME.fullmatch(name) and name not in named:
                self._storage.remove(os.path.join(self.paths.path, name))

    def _remove_work(self) -> None:
        # The request goes first: what is left of a work directory without it is nobody's.
        self._storage.remove(os.path.join(self.paths.work, "job.json"))
        for name in self._storage.list(self.paths.work):
            if name != "lock":
                self._storage.remove(os.path.join(self.paths.work, name))
        self._lock.release()
        self._storage.remove_empty_directory(self.paths.work)


def shard_entry(name: str, file_id: bytes, footer: Footer, file_size: int) -> ShardEntry:
    """The index's entry for a shard that exists."""
    return ShardEntry(
        name=name, file_id=file_id, digest=footer.digest, file_size=file_size, num_records=footer.num_records,
        raw_size=footer.raw_size, num_chunks=footer.num_chunks, table_crc=crc(footer.chunk_table),
    )  # fmt: skip


def named_by_index(storage: Storage, path: str) -> set[str]:
    """File names in the index of a directory; without an index, none. Raises as `live_digests`."""
    return set(live_digests(storage, path))


def live_digests(storage: Storage, path: str) -> dict[str, bytes]:
    """File names in the index of a directory, with the digests of the shards; without an index, none.

    Raises:
        IncompleteError: an index is there but cannot be read: nothing may be removed on its word.
    """
    index = os.path.join(path, INDEX_NAME)
    if not storage.exists(index):
        return {}
    try:
        return {shard.name: shard.digest for shard in decode_index(storage.read_file(index)).shards}
    except DataError as error:
        raise IncompleteError(
            f"the index of the data set there cannot be read: {error.message}", path=index,
            advice="Repair it, or remove the directory yourself, before writing there",
        ) from None  # fmt: skip


def describe_unfinished(storage: Storage, path: str) -> str | None:
    """What stands in the work directory of a data set, in words; None if nothing does."""
    paths = JobPaths(storage, path)
    if not storage.exists(paths.work):
        return None
    holder = is_locked(os.path.join(paths.work, "lock"))
    finished = paths.num_finished()
    planned = (paths.request() or {}).get("num_shards")
    of_planned = f" of {planned}" if isinstance(planned, int) else ""
    text = f"{finished}{of_planned} shards are finished"
    return f"{text}, {holder} is writing" if holder else text


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else text[:200] + "..."
