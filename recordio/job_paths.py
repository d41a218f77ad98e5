"""The files of a data set in the making: names, finished shards, notes about them.

    train/.unfinished/job.json                     what was asked for, and the id of the job
    train/.unfinished/shard-00003-9f3a61c2.tmp     a shard that is being written, by one of perhaps several attempts
    train/.unfinished/shard-00003.done             shard 3 is finished, and under which name
    train/shard-00003-1b2c3d4e.rio                 it stands here

What happens when, and the commit, is in `recordio.job`.

Spec: spec/format.md, section 9.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
from dataclasses import dataclass, field
from typing import Any

from recordio.errors import DataError, IncompleteError, RecordIOError, RequestError
from recordio.format.checksum import crc
from recordio.format.footer import Footer
from recordio.format.index import INDEX_NAME, SHARD_NAME, ShardEntry, decode_index
from recordio.shards.shard_reader import read_shard_front
from recordio.storage import Storage

WORK_NAME = ".unfinished"
LOCK_NAME = "lock"
JOB_VERSION = 1
_NOTE_NAME = re.compile(r"shard-([0-9]{5,7})\.done", re.ASCII)
_TASK_NAME = re.compile(r"task-([0-9]+)-of-([0-9]+)\.lock", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedShard:
    """A shard in its place, and what converting it had to report."""

    entry: ShardEntry
    chunk_table: bytes
    details: dict[str, Any] = field(default_factory=dict)  # JSON


@dataclass(frozen=True, slots=True)
class JobPaths:
    """The files of one job; picklable, so that a shard can be written and published by any process."""

    storage: Storage
    path: str  # the data set directory
    job_id: str = ""  # of the job that is written for; empty: of whichever is there

    @property
    def work(self) -> str:
        return os.path.join(self.path, WORK_NAME)

    @property
    def lock(self) -> str:
        return os.path.join(self.work, LOCK_NAME)

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

    def new_temporary(self, shard_id: int) -> str:
        """Where one attempt writes a shard before it has a name; another name each time."""
        return os.path.join(self.work, f"shard-{shard_id:05d}-{os.urandom(4).hex()}.tmp")

    def note(self, shard_id: int) -> str:
        """Where it is noted that a shard is finished."""
        return os.path.join(self.work, f"shard-{shard_id:05d}.done")

    def task_lock(self, task: int, num_tasks: int) -> str:
        """What a task of an array job holds locked while it runs."""
        return os.path.join(self.work, f"task-{task}-of-{num_tasks}.lock")

    def check_current(self) -> None:
        """Refuse to go on for a job that has ended, or that another one has replaced.

        An attempt on another machine may be slower than the decision to do without it.

        Raises:
            RequestError: the work directory is not to be seen from this machine.
            IncompleteError: it is another job's.
        """
        if not self.job_id:
            return
        if not self.storage.exists(self.work):
            raise RequestError(
                f"{socket.gethostname()} does not see the work directory {self.work}", path=self.path,
                advice="Write to a file system that all workers share, under the same path on each",
            )  # fmt: skip
        if (self.request() or {}).get("job_id") != self.job_id:
            raise IncompleteError(
                "the conversion that this shard was written for has ended, or was replaced by another one",
                path=self.path, advice="Begin it again if it is still wanted",
            )  # fmt: skip

    def publish(self, temporary: str, entry: ShardEntry, footer: Footer, details: dict[str, Any]) -> FinishedShard:
        """Rename a synced shard into place and note that it is finished.

        Raises:
            RequestError: a live shard of the same name has another digest (eight equal digits of two digests).
            RequestError, IncompleteError: as `check_current`.
        """
        self.check_current()
        target = os.path.join(self.path, entry.name)
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
        note = {
            "name": entry.name, "digest": entry.digest.hex(), "last": footer.last, "job_id": self.job_id,
            "details": details,
        }  # fmt: skip
        self.storage.write_file(self.note(footer.shard_id), json.dumps(note).encode())
        return FinishedShard(entry=entry, chunk_table=footer.chunk_table, details=details)

    def finished(self, shard_id: int) -> FinishedShard | None:
        """A shard that an earlier run finished, verified down to its digest; None if it must be written (again)."""
        note = self.noted(shard_id)
        if note is None or note["job_id"] != self.job_id:
            return None
        try:
            front = read_shard_front(self.storage, os.path.join(self.path, note["name"]))
        except (RecordIOError, OSError):
            return None
        footer = front.footer
        if (footer.digest.hex(), footer.shard_id, footer.last) != (note["digest"], shard_id, note["last"]):
            return None
        entry = shard_entry(note["name"], front.header.file_id, footer, front.file_size)
        return FinishedShard(entry=entry, chunk_table=footer.chunk_table, details=note["details"])

    def num_finished(self) -> int:
        """How many shards are noted as finished, and are there; their bytes are not looked at."""
        ours = ("", (self.request() or {}).get("job_id", ""))   # a Writer's notes say no job
        with contextlib.suppress(OSError):
            noted = [self._noted(os.path.join(self.work, name)) for name in self.storage.list(self.work)]
            names = [note["name"] for note in noted if note is not None and note["job_id"] in ours]
            return sum(self.storage.exists(os.path.join(self.path, name)) for name in names)
        return 0

    def task_locks(self) -> list[tuple[int, int, str]]:
        """The locks of tasks, held or left: (task, number of tasks, path)."""
        with contextlib.suppress(OSError):
            found = [(_TASK_NAME.fullmatch(name), name) for name in self.storage.list(self.work)]
            return sorted((int(one[1]), int(one[2]), os.path.join(self.work, name)) for one, name in found if one)
        return []

    def noted(self, shard_id: int) -> dict[str, Any] | None:
        """What is noted of a finished shard: name, digest (hexadecimal), last, job_id, details; None if nothing is."""
        return self._noted(self.note(shard_id))

    def _noted(self, path: str) -> dict[str, Any] | None:
        """What `publish` wrote into a note; None if this is none of ours."""
        ours = _NOTE_NAME.fullmatch(os.path.basename(path))
        if ours is None:
            return None
        try:
            note = json.loads(bytes(self.storage.read_file(path)))
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(note, dict) or not isinstance(note.get("details"), dict) or "last" not in note:
            return None
        note.setdefault("job_id", "")
        shard = SHARD_NAME.fullmatch(str(note.get("name")))
        return note if shard is not None and shard[1] == ours[1] and isinstance(note.get("digest"), str) else None

    def request(self) -> dict[str, Any] | None:
        """What the unfinished job was asked for; None if there is none."""
        try:
            noted = json.loads(bytes(self.storage.read_file(os.path.join(self.work, "job.json"))))
            bytes.fromhex(noted.get("schema", ""))
            return noted if noted["version"] == JOB_VERSION else None
        except (OSError, DataError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None


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
