"""verify: every checksum and every rule, for a whole data set or one shard; all damaged places, not only the first.

    index -> shards (front, footer, size) -> chunks on threads -> damages, in the order of the records

Nothing is repaired, nothing is written. What is checked in a shard is in `recordio.checks.shard_checks`.

Spec: spec/format.md, sections 8 and 12.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from recordio import errors
from recordio.checks.chunk_checks import ChunkFindings, ChunkPlace, Damage, ShardContext, check_chunk, damage_of
from recordio.checks.shard_checks import ShardPlace, check_shard
from recordio.errors import MalformedError, NotRecordIOError, RecordIOError, TooNewError
from recordio.execute.pool import default_workers, make_executor, ordered_map
from recordio.format import layout
from recordio.format.footer import decode_metadata
from recordio.format.index import INDEX_NAME, SHARD_NAME, Index, check_chunk_table, decode_index
from recordio.job import describe_unfinished
from recordio.job_paths import WORK_NAME
from recordio.progress import Progress
from recordio.reader import open_data_set
from recordio.schema import Schema
from recordio.shards.shard_reader import ChunkTable
from recordio.storage import LOCAL, Storage

__all__ = ["Damage", "VerifyReport", "verify"]

_RUN_SIZE = 4 << 20  # stored bytes that one task checks, about


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What verify has found."""

    path: str
    num_shards: int
    num_chunks: int  # checked
    num_frames: int  # checked
    num_records: int  # that should be there
    raw_size: int  # bytes, decoded
    stored_size: int  # bytes of the files that were read
    duration_s: float
    damages: tuple[Damage, ...]  # by shard and offset
    notes: tuple[str, ...]  # what is no damage, but worth knowing

    @property
    def ok(self) -> bool:
        """Whether every byte is as it was written."""
        return not self.damages

    @property
    def lost_records(self) -> int:
        """Records that cannot be read whole."""
        lost, end = 0, 0
        for start, stop in sorted(damage.records for damage in self.damages if damage.records is not None):
            lost += max(0, stop - max(start, end))
            end = max(end, stop)
        return lost

    def raise_for_damage(self) -> None:
        """Raise the first damage as the error that reading there would be.

        Raises:
            DataError: located; it says how many more there are.
        """
        if not self.damages:
            return
        first, more = self.damages[0], len(self.damages) - 1
        kind = getattr(errors, first.kind, errors.DataError)
        text = first.message + (f" (and {more} more damaged place{'s' if more > 1 else ''})" if more else "")
        raise kind(
            text, path=first.path, shard=first.shard, chunk=first.chunk, column=first.column, offset=first.offset,
            records=first.records, advice=first.advice or "See all of them with `recordio verify`",
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """As JSON, with the keys of this class."""
        return {
            "path": self.path, "ok": self.ok, "num_shards": self.num_shards, "num_chunks": self.num_chunks,
            "num_frames": self.num_frames, "num_records": self.num_records, "lost_records": self.lost_records,
            "raw_size": self.raw_size, "stored_size": self.stored_size, "duration_s": round(self.duration_s, 3),
            "damages": [damage.to_dict() for damage in self.damages], "notes": list(self.notes),
        }  # fmt: skip


def verify(
    path: str | os.PathLike[str],
    *,
    workers: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    _storage: Storage = LOCAL,
) -> VerifyReport:
    """Read everything and check it: headers, schemas, digests, paddings, and every frame down to its values.

    Args:
        path: the directory of a data set, its `index.rix`, or one shard alone.
        workers: threads; as many as there are processors by default.
        progress: called after every few megabytes, from the calling thread.

    Raises:
        FileNotFoundError: nothing is there. IncompleteError: a directory without an index.
        NotRecordIOError, TooNewError: what is there cannot be judged. OSError: it cannot be read.

    Source: spec/format.md, section 12.
    """
    return _Verification(os.fspath(path), _storage, progress).run(default_workers() if workers is None else workers)


@dataclass(frozen=True, slots=True)
class _Run:
    """Consecutive chunks of one shard: what one task checks."""

    shard: ShardContext | None  # None: there is no chunk
    chunks: tuple[ChunkPlace, ...]
    last: bool  # of its shard


@dataclass
class _Verification:
    path: str
    storage: Storage
    progress: Callable[[Progress], None] | None
    damages: list[Damage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    total_records: int | None = None
    total_shards: int = 0
    records: int = 0
    stored_size: int = 0

    def run(self, workers: int) -> VerifyReport:
        began = time.monotonic()
        num_chunks = num_frames = raw_size = done_stored = done_records = done_shards = 0
        places = self._places()
        with make_executor(max(1, workers), False) as executor:
            for run, results in ordered_map(executor, self._check, self._runs(places), window=workers + 2):
                for result in results:
                    num_frames += result.num_frames
                    raw_size += result.raw_size
                    self.damages += result.damages
                num_chunks += len(results)
                done_stored += sum(chunk.stored_size for chunk in run.chunks)
                done_records += sum(chunk.num_records for chunk in run.chunks)
                done_shards += run.last
                if self.progress is not None:
                    now = Progress(
                        done_records=done_records, total_records=self.total_records, raw_size=raw_size,
                        stored_size=done_stored, done_shards=done_shards, total_shards=self.total_shards,
                        elapsed_s=time.monotonic() - began, stage="verify",
                    )  # fmt: skip
                    self.progress(now)
        self.damages.sort(key=lambda damage: (-1 if damage.shard is None else damage.shard, damage.offset or 0))
        return VerifyReport(
            path=self.path, num_shards=self.total_shards, num_chunks=num_chunks, num_frames=num_frames,
            num_records=self.records, raw_size=raw_size, stored_size=self.stored_size,
            duration_s=time.monotonic() - began, damages=tuple(self.damages), notes=tuple(self.notes),
        )  # fmt: skip

    def _check(self, run: _Run) -> tuple[_Run, list[ChunkFindings]]:
        # A handle of its own for every run: as many files are open as there are threads.
        if run.shard is None or not run.chunks:
            return run, []
        handle = self.storage.open(run.shard.path)
        return run, [check_chunk(handle, run.shard, chunk) for chunk in run.chunks]

    def _runs(self, places: Sequence[ShardPlace]) -> Iterator[_Run]:
        """Check the shards but for their chunks, and hand these on; lazily, a few at a time."""
        for place in places:
            found = check_shard(self.storage, place)
            self.damages += found.damages
            expected = 0 if place.entry is None else place.entry.num_records
            self.records += expected if found.num_records is None else found.num_records
            if self.storage.exists(place.path):
                self.stored_size += self.storage.size(place.path)
            if found.schema is None:
                if place.entry is None:
                    self.notes.append(f"{place.path}: without a readable schema, its chunks cannot be checked")
                yield _Run(None, (), True)
                continue
            shard = ShardContext(
                path=place.path, shard_id=found.shard_id, first_record=place.first_record, file_id=found.file_id,
                schema=found.schema,
            )  # fmt: skip
            run: list[ChunkPlace] = []
            for chunk in found.chunks:
                if run and sum(other.stored_size for other in run) + chunk.stored_size > _RUN_SIZE:
                    yield _Run(shard, tuple(run), False)
                    run = []
                run.append(chunk)
            yield _Run(shard, tuple(run), True)

    # -- which shards there are --

    def _places(self) -> list[ShardPlace]:
        path, storage = self.path, self.storage
        if storage.is_directory(path):
            index_path, directory = os.path.join(path, INDEX_NAME), path
            if not storage.exists(index_path):
                open_data_set(path, storage=storage)  # raises, and says what is there instead
        else:
            handle = storage.open(path)
            named_index = os.path.basename(path) == INDEX_NAME
            if not named_index and bytes(handle.read(0, min(8, handle.size))) != layout.INDEX_MAGIC:
                self.total_shards = 1
                return [ShardPlace(path=path)]
            index_path, directory = path, os.path.dirname(path)
        data = storage.read_file(index_path)
        self.stored_size += len(data)
        try:
            index = decode_index(data)
            schema = Schema.decode(index.schema)
            decode_metadata(index.metadata)
        except TooNewError as error:
            raise error.locate(path=index_path) from None
        except RecordIOError as error:
            return self._without_index(error, index_path, directory)
        self._note_strangers(directory, {shard.name for shard in index.shards})
        return list(self._indexed(index, schema, data, index_path, directory))

    def _indexed(
        self, index: Index, schema: Schema, data: memoryview, index_path: str, directory: str
    ) -> Iterator[ShardPlace]:
        self.total_records, self.total_shards = index.num_records, len(index.shards)
        head_end = 64 + int.from_bytes(data[32:36], "little")  # head_size, section 8
        table_offset = layout.align(head_end)
        if any(data[head_end:table_offset]):
            error = MalformedError("the padding behind the index head is not zero; no record is lost")
            self.damages.append(damage_of(error, index_path, offset=head_end))
        first_record = 0
        for shard_id, entry in enumerate(index.shards):
            path = os.path.join(directory, entry.name)
            table: ChunkTable | None = None
            try:
                check_chunk_table(index, shard_id)
                table = ChunkTable.decode(
                    index.chunk_tables[shard_id], num_chunks=entry.num_chunks, schema_size=len(index.schema),
                    num_records=entry.num_records, file_size=entry.file_size,
                )  # fmt: skip
            except RecordIOError as error:
                records = (first_record, first_record + entry.num_records)
                self.damages.append(
                    damage_of(error, index_path, shard=shard_id, offset=table_offset, records=records)
                )
            yield ShardPlace(
                path=path, shard_id=shard_id, first_record=first_record, entry=entry, schema=schema.encode(),
                table=table, last=shard_id == len(index.shards) - 1,
            )  # fmt: skip
            first_record += entry.num_records
            table_offset += len(index.chunk_tables[shard_id])

    def _without_index(self, error: RecordIOError, index_path: str, directory: str) -> list[ShardPlace]:
        """The index is damaged; the shards beside it are checked one by one."""
        names = [name for name in self.storage.list(directory or ".") if SHARD_NAME.fullmatch(name)]
        if not names and isinstance(error, NotRecordIOError):
            raise error.locate(path=index_path) from None
        self.damages.append(damage_of(error, index_path, offset=0))
        self.notes.append(
            "the index is damaged: shards are checked alone, record numbers count in each shard, "
            "and whether a shard is missing cannot be told; until it is restored, the shards open one by one only"
        )
        self.total_shards = len(names)
        return [ShardPlace(path=os.path.join(directory, name)) for name in names]

    def _note_strangers(self, directory: str, named: set[str]) -> None:
        for name in self.storage.list(directory or "."):
            if name.endswith(".rio") and name not in named:
                self.notes.append(f"{name} is not named by the index: it is no part of the data set")
        unfinished = describe_unfinished(self.storage, directory or ".")
        if unfinished is not None:
            self.notes.append(f"{WORK_NAME} holds a conversion that would replace this data set: {unfinished}")
