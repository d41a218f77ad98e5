"""The files of a data set in the making: names, finished shards, notes about them.

    train/.unfinished/job.json            what was asked for
    train/.unfinished/shard-00003.tmp     a shard that is being written
    train/.unfinished/shard-00003.done    that one is finished, and under which name
    train/shard-00003-1b2c3d4e.rio        it stands here

What happens when, and the commit, is in `recordio.job`.

Spec: spec/format.md, section 9.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
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
        return FinishedShard(entry=entry, chunk_table=footer.chunk_table, details=details)

    def finished(self, shard_id: int) -> FinishedShard | None:
        """A shard that an earlier run finished, verified down to its digest; None if it must be written (again)."""
        note = self._noted(self.note(shard_id))
        if note is None:
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
        with contextlib.suppress(OSError):
            noted = [self._noted(os.path.join(self.work, name)) for name in self.storage.list(self.work)]
            return sum(self.storage.exists(os.path.join(self.path, note["name"])) for note in noted if note is not None)
        return 0

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
