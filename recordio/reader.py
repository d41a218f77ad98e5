"""Reading a data set: from record numbers to shards, chunks, frames and rows.

    rows in order, on threads     here, and recordio.shards.chunk_runs
    rows by number                recordio.random_access

`open_data_set` reads the index and nothing else; chunk tables are checked when a shard is first touched. A reader can
be pickled, shared by threads and taken through a fork: what must not be shared is made anew in each process. What
records look like to users is decided in `recordio.dataset`.

Spec: spec/format.md, sections 8 and 12.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import chain, islice, pairwise
from typing import Any

import numpy as np

from recordio import random_access
from recordio.buffers import Buffers
from recordio.chunks.encoding import DEFAULT_FRAME_SIZE
from recordio.columns import Array, ColumnValues, empty, slice_rows
from recordio.errors import DataError, MismatchError, RecordIOError
from recordio.execute.pool import FirstInline, make_executor, ordered_map
from recordio.format.footer import decode_metadata
from recordio.format.index import ShardEntry, check_chunk_table
from recordio.metering import Totals, measured
from recordio.open_files import OpenFiles
from recordio.opening import Opened, find_data_set
from recordio.process_local import ProcessLocal
from recordio.reader_cache import ReaderCache
from recordio.rows import LostRange, OnCorrupt, Rows
from recordio.schema import Schema
from recordio.shards import chunk_runs
from recordio.shards.shard_reader import ChunkTable, ShardReader
from recordio.shards.surviving import surviving_rows
from recordio.storage import LOCAL, ReadHandle, Storage

DEFAULT_CACHE_SIZE = 64 << 20  # bytes of decoded frames, in each process
# Rows are read in tasks of so many raw bytes: one that is much smaller loses to the GIL, a larger one to the caches.
_MIN_TASK_SIZE, _MAX_TASK_SIZE = 1 << 20, 16 << 20
_FIRST_TASK_SIZE = 256 << 10  # of the one that a first batch waits for; later ones grow
_MAX_ALIGNED_SIZE = 16 << 20  # of a batch that is one task


@dataclass(frozen=True)
class DataSetReader:
    """Reads any rows of a data set."""

    source: Opened
    schema: Schema
    metadata: dict[str, Any]
    options: dict[str, Any]
    storage: Storage
    cache_size: int
    may_be_cut: bool  # read what there is of shards that are too short
    first_records: Array = field(repr=False)  # int64[shards + 1]
    _files: ProcessLocal[OpenFiles] = field(repr=False)
    _cache: ProcessLocal[ReaderCache] = field(repr=False)

    @property
    def num_records(self) -> int:
        return self.source.index.num_records

    @property
    def shards(self) -> tuple[ShardEntry, ...]:
        return self.source.index.shards

    @property
    def fingerprint(self) -> bytes:
        """16 bytes that are equal for equal data sets."""
        return self.source.index.fingerprint

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (
            self.source.path,
            self.storage,
            self.cache_size,
            self.may_be_cut,
            self.fingerprint,
        )

    @property
    def cache(self) -> ReaderCache:
        """What this process keeps of it."""
        return self._cache.get()

    @property
    def buffers(self) -> Buffers:
        """Lends the memory of rows that are read in order."""
        return self._cache.get().buffers

    @cached_property
    def shard_starts(self) -> list[int]:
        """Record numbers at which shards begin, and the end."""
        numbers: list[int] = self.first_records.tolist()
        return numbers

    # -- chunks --

    def shard(self, shard_id: int) -> ShardReader:
        """The reader of one shard; its chunk table is checked the first time.

        Raises:
            DataError: the table is damaged or does not fit the shard.
        """
        shards = self._cache.get().shards
        reader = shards.get(shard_id)
        if reader is None:
            entry = self.shards[shard_id]
            path = os.path.join(self.source.directory, entry.name)
            table = self.source.index.chunk_tables[shard_id]
            try:
                if not self.source.single:
                    check_chunk_table(self.source.index, shard_id)
                decoded = ChunkTable.decode(
                    table, num_chunks=entry.num_chunks, schema_size=len(self.source.index.schema),
                    num_records=entry.num_records, file_size=entry.file_size,
                )  # fmt: skip
            except RecordIOError as error:
                first = int(self.first_records[shard_id])
                raise error.locate(path=path, shard=shard_id, records=(first, first + entry.num_records)) from None
            reader = ShardReader(
                path=path, shard_id=shard_id, file_id=entry.file_id, schema=self.schema, table=decoded,
                open=partial(_open_file, self._files), file_size=entry.file_size,
                first_record=int(self.first_records[shard_id]), may_be_cut=self.may_be_cut,
            )  # fmt: skip
            shards[shard_id] = reader
        return reader

    def chunk_table(self) -> tuple[Array, Array, Array]:
        """All chunks: ordinal of the shard, ordinal in it, and the record number after the last; int64[k] each.

        A shard whose table is damaged is one chunk, as far as it is known, under on_corrupt="skip" (`may_be_cut`).

        Raises:
            DataError: a table is damaged.
        """
        shards, chunks, ends = [], [], []
        for shard_id, base in enumerate(self.first_records[:-1].tolist()):
            try:
                stops = base + self.shard(shard_id).table.first_records[1:]
            except DataError:
                if not self.may_be_cut:
                    raise
                stops = self.first_records[shard_id + 1 : shard_id + 2]
            shards.append(np.full(len(stops), shard_id, np.int64))
            chunks.append(np.arange(len(stops), dtype=np.int64))
            ends.append(stops)
        none = np.empty(0, np.int64)
        return tuple(np.concatenate([none, *parts]) for parts in (shards, chunks, ends))  # type: ignore[return-value]

    @property
    def record_size(self) -> float:
        """Mean raw bytes of a record, all columns."""
        return sum(shard.raw_size for shard in self.shards) / max(1, self.num_records)

    # -- rows by number --

    def locate(self, number: int) -> tuple[int, int, int]:
        """Shard, chunk and row in the chunk of a record number in range."""
        shard_id, chunk_id, first, _ = random_access.locate(self, self.cache, number)
        return shard_id, chunk_id, number - first

    def record(self, number: int, ordinals: Sequence[int]) -> list[Any]:
        """The leaves of one record, in range; the caller's own."""
        return random_access.record(self, number, ordinals)

    def rows(self, numbers: Array, ordinals: Sequence[int]) -> list[ColumnValues]:
        """Rows in the order asked, in new memory: int64[m], in range, repeats allowed; each frame is decoded once."""
        return random_access.rows(self, numbers, ordinals)

    # -- rows in order --

    def stream(
        self,
        ranges: Sequence[tuple[int, int]],
        ordinals: Sequence[int],
        *,
        workers: int,
        on_corrupt: OnCorrupt = "raise",
        align: int = 1,
        memory: int | None = None,
        stats: Totals | None = None,
    ) -> Iterator[Rows]:
        """Rows [start, stop) of each range, in order, in runs; decoded on threads ahead of the caller.

        The rows are the caller's own. Under "skip", damaged records are left out and reported in `lost`.

        Args:
            ranges: ascending.
            align: runs begin at multiples of so many rows after `start`, unless so many are too large for one run.
            memory: bytes that are decoded ahead at most, as far as single chunks allow.
            stats: gets what the tasks took.
        """
        total = sum(stop - start for start, stop in ranges)
        tasks: Iterator[tuple[int, int]] = (
            task
            for start, stop in ranges
            for task in pairwise(
                self._task_bounds(start, stop, ordinals, workers=workers, align=align, total=total, memory=memory)
            )
        )
        first = list(islice(tasks, 2))
        tasks = chain(first, tasks)
        buffers = self.buffers

        def read(task: tuple[int, int]) -> tuple[list[Rows], RecordIOError | None]:
            # Whole chunks before damage are handed out before the damage is raised.
            pieces: list[Rows] = []
            with measured() as spent:
                error: RecordIOError | None = None
                try:
                    pieces.extend(self.read_range(*task, ordinals, on_corrupt, buffers))
                except RecordIOError as damage:
                    error = damage
            if stats is not None:
                stats.add_decoded(spent)
            return pieces, error

        if len(first) < 2 or workers < 1:
            for task in tasks:
                pieces, error = read(task)
                while pieces:
                    yield pieces.pop(0)
                if error is not None:
                    raise error
            return
        with make_executor(workers, False) as executor:
            is_small = (first[0][1] - first[0][0]) * self._record_size(ordinals, self.record_size) <= 2 * _MIN_TASK_SIZE
            submitter = FirstInline(executor) if is_small else executor
            for pieces, error in ordered_map(submitter, read, tasks, window=workers + 1):
                while pieces:
                    yield pieces.pop(0)
                if error is not None:
                    raise error

    def _task_bounds(
        self, start: int, stop: int, ordinals: Sequence[int], *, workers: int, align: int, total: int,
        memory: int | None,
    ) -> Iterable[int]:  # fmt: skip
        """Record numbers at which tasks begin, and the end: as large as memory allows, and some for every worker."""
        num_records = max(1, self.num_records)
        raw_size = sum(shard.raw_size for shard in self.shards)
        record_size = self._record_size(ordinals, raw_size / num_records)
        num_chunks = sum(shard.num_chunks for shard in self.shards)
        most = _MAX_TASK_SIZE if memory is None else min(_MAX_TASK_SIZE, memory // (workers + 2))
        task_size = min(
            most, max(min(most, _MIN_TASK_SIZE), int(total * raw_size / num_records) // (4 * max(1, workers)))
        )
        chunk_records = num_records / max(1, num_chunks)
        count = int(min(task_size / max(record_size, 1e-9), chunk_runs.MAX_CHUNKS * chunk_records))
        # Small batches are cut from tasks of whole chunks, those beyond any task are put together from them. Between
        # these, tasks of whole batches save a copy. A frame that two of them share is decoded twice: it must be small.
        if (
            _MIN_TASK_SIZE <= align * record_size <= min(most, _MAX_ALIGNED_SIZE)
            and len(self.schema.columns) <= chunk_runs.MAX_COLUMNS_AT_ONCE
            and align * record_size >= 8 * len(ordinals) * self.frame_size
        ):
            return [*range(start, stop, max(1, count // align) * align), stop]
        first = int(_FIRST_TASK_SIZE / max(record_size, 1e-9))
        return self._chunk_bounds(start, stop, max(1, min(first, count)), max(1, count))

    def _chunk_bounds(self, start: int, stop: int, count: int, most: int) -> Iterator[int]:
        """Record numbers at which tasks of whole chunks begin, and the end.

        Tasks have about `count` records at first, so that the first rows come soon, and twice as many each time up to
        `most`.
        """
        place = start
        yield place
        for shard_id, base in enumerate(self.first_records[:-1].tolist()):
            shard_end = int(self.first_records[shard_id + 1])
            if shard_end <= start or base >= stop:
                continue
            try:
                ends = base + self.shard(shard_id).table.first_records[1:]
            except DataError:
                ends = np.array([shard_end])
            while place < min(stop, shard_end):
                last = int(ends.searchsorted(place + count, side="right")) - 1
                after = int(ends.searchsorted(place, side="right"))
                place = min(stop, int(ends[max(last, after)]))
                yield place
                count = min(2 * count, most)

    def _record_size(self, ordinals: Sequence[int], average: float) -> float:
        """Raw bytes of the columns asked for in a record, on average and at most, as far as the schema tells."""
        fixed = {ordinal: c.row_size + c.optional for ordinal, c in enumerate(self.schema.columns) if c.is_fixed}
        if all(ordinal in fixed for ordinal in ordinals):
            return sum(fixed[ordinal] for ordinal in ordinals)
        return max(average - sum(fixed[ordinal] for ordinal in fixed.keys() - set(ordinals)), 0)

    @property
    def frame_size(self) -> int:
        """Raw bytes of a frame, about."""
        size = self.options.get("frame_size")
        return size if isinstance(size, int) else DEFAULT_FRAME_SIZE

    def read_range(
        self, start: int, stop: int, ordinals: Sequence[int], on_corrupt: OnCorrupt, buffers: Buffers,
        into: Sequence[Array | None] | None = None,
    ) -> Iterator[Rows]:  # fmt: skip
        """Rows [start, stop), shard by shard, in the caller's own thread.

        Args:
            into: where the values of fixed columns should go, dtype[stop - start, *shape], if they lie in one shard;
                whoever wants them there looks whether they are.
        """
        shard_id = int(self.first_records.searchsorted(start, side="right")) - 1
        while start < stop:
            end = min(stop, int(self.first_records[shard_id + 1]))
            if start < end:
                target = into if into is not None and all(a is None or len(a) == end - start for a in into) else None
                yield from self._read_in_shard(shard_id, start, end, ordinals, on_corrupt, buffers, target)
            start, shard_id = end, shard_id + 1

    def read_segments(
        self, ranges: Sequence[tuple[int, int]], ordinals: Sequence[int], into: Sequence[Sequence[Array | None]]
    ) -> list[chunk_runs.SegmentRows] | None:
        """Rows [start, stop) of each range, which lie in one chunk each; in the caller's own thread.

        Args:
            into: as for `chunk_runs.read_segments`.

        Returns:
            The rows; None if something is wrong in one of the chunks, which `read_range` finds again with its place.
        """
        if len(self.schema.columns) > chunk_runs.MAX_COLUMNS_AT_ONCE:
            return None
        with contextlib.suppress(RecordIOError):
            segments = []
            for start, stop in ranges:
                shard_id, chunk_id, _ = self.locate(start)
                shard = self.shard(shard_id)
                base = shard.first_record
                segments.append(
                    chunk_runs.Segment(shard=shard, chunk_id=chunk_id, start=start - base, stop=stop - base)
                )
            return chunk_runs.read_segments(segments, ordinals, self.buffers, into)
        return None

    def _read_in_shard(
        self, shard_id: int, start: int, stop: int, ordinals: Sequence[int], on_corrupt: OnCorrupt, buffers: Buffers,
        into: Sequence[Array | None] | None = None,
    ) -> Iterator[Rows]:  # fmt: skip
        try:
            shard = self.shard(shard_id)
        except DataError as error:
            if on_corrupt == "raise":
                raise
            nothing = [empty(self.schema.columns[ordinal]) for ordinal in ordinals]
            lost = LostRange(start=start, stop=stop, shard=shard_id, chunk=None, column=None, error=error.message)
            yield Rows(start, stop, nothing, np.empty(0, np.int64), (lost,))
            return
        base, table = shard.first_record, shard.table
        if len(self.schema.columns) <= chunk_runs.MAX_COLUMNS_AT_ONCE:
            rows = None
            with contextlib.suppress(RecordIOError):  # found again below, with its place
                rows = chunk_runs.read_rows(shard, start - base, stop - base, ordinals, buffers, into)
            if rows is not None:
                yield Rows(start, stop, rows)
                return
        chunk_id = int(table.first_records.searchsorted(start - base, side="right")) - 1
        while start < stop:
            first, end = (base + int(table.first_records[chunk_id + step]) for step in (0, 1))
            high = min(stop, end)
            try:
                columns = shard.read_chunk(chunk_id, ordinals)
            except RecordIOError:
                if on_corrupt == "raise":
                    raise
                yield surviving_rows(shard, chunk_id, ordinals, start, high)
            else:
                yield Rows(start, high, self._sliced(ordinals, columns, start - first, high - first))
            start, chunk_id = high, chunk_id + 1

    def _sliced(
        self, ordinals: Sequence[int], columns: list[ColumnValues], start: int, stop: int
    ) -> list[ColumnValues]:
        return [
            slice_rows(self.schema.columns[ordinal], values, start, stop)
            for ordinal, values in zip(ordinals, columns, strict=True)
        ]


def open_data_set(
    path: str, *, storage: Storage = LOCAL, cache_size: int = DEFAULT_CACHE_SIZE, may_be_cut: bool = False
) -> DataSetReader:
    """Open a data set directory, its index file, or one shard alone.

    Args:
        cache_size: bytes of decoded frames that are kept, in each process.
        may_be_cut: read the chunks before the cut of a shard that is shorter than the index says, instead of refusing
            it.

    Raises:
        FileNotFoundError: nothing is there. IncompleteError: writing did not end.
        NotRecordIOError, TooNewError, DataError: the index, or the shard, is not readable.
    """
    source = find_data_set(path, storage)
    try:
        schema = Schema.decode(source.index.schema)
        metadata, options = decode_metadata(source.index.metadata)
    except RecordIOError as error:
        raise error.locate(path=source.path) from None
    first_records = np.zeros(len(source.index.shards) + 1, np.int64)
    np.cumsum([shard.num_records for shard in source.index.shards], out=first_records[1:])
    storage = storage.anchored()
    return DataSetReader(
        source=source, schema=schema, metadata=metadata, options=options, storage=storage, cache_size=cache_size,
        may_be_cut=may_be_cut, first_records=first_records, _files=ProcessLocal(partial(OpenFiles, storage)),
        _cache=ProcessLocal(partial(ReaderCache, cache_size)),
    )  # fmt: skip


def _open_file(files: ProcessLocal[OpenFiles], path: str) -> ReadHandle:
    return files.get().open(path)


def _reopen(path: str, storage: Storage, cache_size: int, may_be_cut: bool, fingerprint: bytes) -> DataSetReader:
    reader = open_data_set(path, storage=storage, cache_size=cache_size, may_be_cut=may_be_cut)
    if reader.fingerprint != fingerprint:
        raise MismatchError("the data set was written anew since it was opened", path=path, advice="Open it again")
    return reader
