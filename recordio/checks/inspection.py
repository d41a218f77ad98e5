"""inspect: what a data set, an index or a shard is, whether it is complete, and what its columns are like.

    index or footer          kind, state, counts, sizes, options            always
    sizes of files           is every shard there                           always
    some directories         codec and sizes of the columns, estimated      always; all of them with stats
    some frames              a small sample                                 always; every value with stats

What is damaged is listed and does not end the inspection; every checksum is looked at only by
`recordio.checks.verification`. The values are in `recordio.checks.inspected`.

Spec: spec/format.md, sections 8 and 12.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from recordio.checks.chunk_checks import Damage, damage_of, scan_chunks
from recordio.checks.column_summary import ColumnSummary, Summarizer
from recordio.checks.inspected import ColumnInspection, Inspection, ShardInspection
from recordio.chunks.stored_values import growth
from recordio.errors import IncompleteError, MismatchError, RecordIOError, TruncatedError
from recordio.execute.pool import default_workers
from recordio.format import layout
from recordio.format.chunk import Directory
from recordio.format.codec import CODEC_NAMES
from recordio.job import describe_unfinished, writer_of
from recordio.job_paths import WORK_NAME, JobPaths
from recordio.progress import Progress
from recordio.reader import DataSetReader, open_data_set
from recordio.schema import Column, Schema
from recordio.shards.shard_reader import ShardReader, read_file_front
from recordio.storage import LOCAL, Storage

_MAX_DIRECTORIES = 64  # chunks whose directories are read for column sizes, unless all are
_SAMPLE_CHUNKS = 4
_SAMPLE_FRAME_SIZE = 16 << 20  # raw bytes; larger frames are not decoded for a sample


def inspect(
    path: str | os.PathLike[str],
    *,
    columns: Sequence[str] | None = None,
    stats: bool = False,
    workers: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    _storage: Storage = LOCAL,
) -> Inspection:
    """Say what stands at a path.

    Args:
        path: the directory of a data set, finished or not, its `index.rix`, or a shard.
        columns: names of the columns to look at; all by default.
        stats: look at all values, not at a sample.
        workers, progress: for stats.

    Raises:
        FileNotFoundError: nothing is there. NotRecordIOError, TooNewError, DataError: it cannot be said.
        RequestError: there is no such column.
    """
    place = os.fspath(path)
    try:
        reader = open_data_set(place, storage=_storage, may_be_cut=True)
    except IncompleteError as error:
        if _storage.is_directory(place):
            return _unfinished(_storage, place, error)
        return _torn(_storage, place, error)
    return _Inspector(reader, _storage).run(columns, stats, default_workers() if workers is None else workers, progress)


class _Inspector:
    """Looks at something that can be opened."""

    def __init__(self, reader: DataSetReader, storage: Storage) -> None:
        self.reader = reader
        self.storage = storage
        self.problems: list[Damage] = []
        self.unsampled: set[int] = set()  # columns with frames too large for a sample

    def run(
        self, names: Sequence[str] | None, stats: bool, workers: int, progress: Callable[[Progress], None] | None
    ) -> Inspection:
        reader, source = self.reader, self.reader.source
        ordinals = tuple(range(len(reader.schema.columns))) if names is None else reader.schema.select(names)[1]
        shards = tuple(self._shards())
        sizes, exact = self._column_sizes(ordinals, every=stats)
        summaries = self._every_value(ordinals, workers, progress) if stats else self._sample(ordinals)
        # A small data set is looked at as a whole anyway.
        all_values = all(summary.num_rows == reader.num_records for summary in summaries.values())
        is_index = not source.single and not self.storage.is_directory(source.path)
        return Inspection(
            path=source.path, kind="shard" if source.single else "index" if is_index else "data set",
            state="complete" if all(shard.state == "ok" for shard in shards) else "incomplete",
            format_version=f"{layout.MAJOR_VERSION}.{layout.MINOR_VERSION}",
            num_records=reader.num_records, num_shards=len(shards), num_finished_shards=len(shards),
            num_chunks=sum(shard.num_chunks for shard in shards), raw_size=sum(shard.raw_size for shard in shards),
            stored_size=sum(shard.stored_size for shard in shards), fingerprint=reader.fingerprint.hex(),
            schema=reader.schema, metadata=reader.metadata, options=reader.options,
            columns=tuple(
                _column(reader.schema.columns[ordinal], sizes.get(ordinal), summaries[ordinal]) for ordinal in ordinals
            ),
            exact_sizes=exact, exact_values=all_values, shards=shards, problems=tuple(self.problems),
            notes=(*self._sample_notes(), *(() if source.single else _notes(self.storage, source.directory))),
            _reader=reader,
        )  # fmt: skip

    def _shards(self) -> Iterator[ShardInspection]:
        reader = self.reader
        for ordinal, entry in enumerate(reader.shards):
            path = os.path.join(reader.source.directory, entry.name)
            first = int(reader.first_records[ordinal])
            state = "ok"
            error: RecordIOError | None = None
            if not self.storage.exists(path):
                state = "missing"
                error = MismatchError("the index names a shard that is not there", advice="Restore it")
            elif self.storage.size(path) != entry.file_size:
                text = f"the shard has {self.storage.size(path)} bytes where {entry.file_size} belong"
                state, error = "wrong size", TruncatedError(text, advice="Restore it")
            if error is not None:
                records = (first, first + entry.num_records)
                self.problems.append(damage_of(error, path, shard=ordinal, records=records))
            yield ShardInspection(
                shard=ordinal, name=entry.name, first_record=first, num_records=entry.num_records,
                num_chunks=entry.num_chunks, raw_size=entry.raw_size, stored_size=entry.file_size,
                digest=entry.digest.hex(), state=state,
            )  # fmt: skip

    def _chunks(self, most: int | None) -> Iterator[tuple[int, int]]:
        """Shard and chunk of all chunks, or of `most` that are evenly spaced; shards with a problem are left out."""
        bad = {damage.shard for damage in self.problems if damage.chunk is None}
        counts = [0 if ordinal in bad else entry.num_chunks for ordinal, entry in enumerate(self.reader.shards)]
        starts = np.concatenate([[0], np.cumsum(counts)])
        total = int(starts[-1])
        step = 1.0 if most is None or total <= most else total / most
        for turn in range(total if step == 1.0 else int(most or 0)):
            number = int(turn * step)
            shard_id = int(np.searchsorted(starts, number, side="right")) - 1
            yield shard_id, number - int(starts[shard_id])

    def _directories(self, most: int | None) -> Iterator[tuple[ShardReader, int, Directory]]:
        """The directories of these chunks, with their places; those that cannot be read are noted and left out."""
        for shard_id, chunk_id in self._chunks(most):
            try:
                shard = self.reader.shard(shard_id)
                directory = shard.read_directory(chunk_id)
            except RecordIOError as error:
                self._note(error)
                continue
            yield shard, chunk_id, directory

    def _column_sizes(
        self, ordinals: Sequence[int], *, every: bool
    ) -> tuple[dict[int, tuple[dict[str, int], int, int]], bool]:
        """Bytes by codec, raw and stored size of the columns; scaled up from some directories, unless all are read."""
        found = {ordinal: ({}, [0, 0]) for ordinal in ordinals}  # type: dict[int, tuple[dict[str, int], list[int]]]
        seen = 0
        for _, _, directory in self._directories(None if every else _MAX_DIRECTORIES):
            seen += directory.raw_size
            for ordinal, (codecs, sizes) in found.items():
                column = directory.columns[ordinal]
                name = CODEC_NAMES[column.codec]
                codecs[name] = codecs.get(name, 0) + column.raw_size
                sizes[0] += column.raw_size
                sizes[1] += column.stored_size
        total = sum(entry.raw_size for entry in self.reader.shards)
        if not seen:
            return ({ordinal: ({}, 0, 0) for ordinal in ordinals} if not total else {}), not total
        scale = total / seen
        scaled = {
            ordinal: (codecs, round(raw * scale), round(stored * scale))
            for ordinal, (codecs, (raw, stored)) in found.items()
        }
        return scaled, seen == total

    def _sample(self, ordinals: Sequence[int]) -> dict[int, ColumnSummary]:
        summarizers = {ordinal: Summarizer(self.reader.schema.columns[ordinal]) for ordinal in ordinals}
        for shard, chunk_id, directory in self._directories(_SAMPLE_CHUNKS):
            for ordinal, summarizer in summarizers.items():
                entry = directory.columns[ordinal]
                grown = entry.frames[0].raw_size * growth(self.reader.schema.columns[ordinal], entry.encoding)
                try:
                    if grown <= _SAMPLE_FRAME_SIZE:
                        summarizer.add(shard.read_frames(chunk_id, directory, ordinal, 0, 1))
                    else:
                        self.unsampled.add(ordinal)
                except RecordIOError as error:
                    self._note(error)
        return {ordinal: summarizer.summary() for ordinal, summarizer in summarizers.items()}

    def _sample_notes(self) -> Iterator[str]:
        for ordinal in sorted(self.unsampled):
            name = self.reader.schema.columns[ordinal].name
            yield f"column {name!r}: values in frames of more than 16 MiB are not in the sample; --stats reads all"

    def _every_value(
        self, ordinals: Sequence[int], workers: int, progress: Callable[[Progress], None] | None
    ) -> dict[int, ColumnSummary]:
        reader = self.reader
        summarizers = [Summarizer(reader.schema.columns[ordinal]) for ordinal in ordinals]
        began = last = time.monotonic()
        raw_size = 0
        for rows in reader.stream([(0, reader.num_records)], ordinals, workers=workers, on_corrupt="skip"):
            for summarizer, values in zip(summarizers, rows.columns, strict=True):
                summarizer.add(values)
                raw_size += values.values.nbytes
            for lost in rows.lost:
                path = os.path.join(reader.source.directory, reader.shards[lost.shard].name)
                self._add(
                    Damage(
                        kind="DataError", message=lost.error, path=path, shard=lost.shard, chunk=lost.chunk,
                        column=lost.column, records=(lost.start, lost.stop),
                    )
                )
            now = time.monotonic()
            if progress is not None and now - last > 0.1:
                last = now
                progress(
                    Progress(
                        done_records=rows.stop, total_records=reader.num_records, raw_size=raw_size, stored_size=0,
                        done_shards=0, total_shards=None, elapsed_s=now - began, stage="stats",
                    )
                )
        return {ordinal: summarizer.summary() for ordinal, summarizer in zip(ordinals, summarizers, strict=True)}

    def _note(self, error: RecordIOError) -> None:
        self._add(damage_of(error, error.path or self.reader.source.path))

    def _add(self, damage: Damage) -> None:
        known = {(one.shard, one.chunk, one.column) for one in self.problems}
        place = (damage.shard, damage.chunk, damage.column)
        if not known & {place, (*place[:2], None), (place[0], None, None)}:
            self.problems.append(damage)


def _unfinished(storage: Storage, path: str, error: IncompleteError) -> Inspection:
    """A directory without an index."""
    paths = JobPaths(storage, path)
    request = paths.request()
    if request is None and not storage.exists(paths.work):
        return Inspection(
            path=path, kind="data set", state="incomplete", problems=(damage_of(error, path),),
            num_shards=sum(name.endswith(".rio") for name in storage.list(path)),
        )  # fmt: skip
    request = request or {}
    schema = None
    try:
        schema = Schema.decode(bytes.fromhex(request.get("schema", "")))
    except (RecordIOError, ValueError, TypeError):
        pass  # a job of a Writer does not say, and one that says it wrongly is as good as silent
    planned, options = request.get("num_shards"), request.get("options")
    return Inspection(
        path=path, kind="data set", state="unfinished", resumable=bool(request.get("resumable")),
        writer=writer_of(paths), schema=schema,
        num_shards=planned if isinstance(planned, int) else None, num_finished_shards=paths.num_finished(),
        options=options if isinstance(options, dict) else None,
        columns=tuple(_column(column, None, None) for column in schema.columns) if schema is not None else (),
        notes=(error.message,),
    )  # fmt: skip


def _torn(storage: Storage, path: str, error: IncompleteError) -> Inspection:
    """A shard without a trailer: what there is of it is found by its chunk headers."""
    handle = storage.open(path)
    schema, version, chunks, records, end = None, None, 0, 0, 0
    try:
        header, stored_schema = read_file_front(handle)
        version = f"{layout.MAJOR_VERSION}.{header.minor}"
        schema = Schema.decode(stored_schema)
        for offset, chunk in scan_chunks(handle, header.first_chunk_offset, file_id=header.file_id):
            if offset + chunk.stored_size <= handle.size:
                chunks, records, end = chunks + 1, records + chunk.num_records, offset + chunk.stored_size
    except RecordIOError as front_error:
        return Inspection(
            path=path, kind="shard", state="torn", stored_size=handle.size,
            problems=(damage_of(error, path), damage_of(front_error, path)),
        )  # fmt: skip
    return Inspection(
        path=path, kind="shard", state="torn", format_version=version, num_records=records, num_shards=1,
        num_finished_shards=0, num_chunks=chunks, stored_size=handle.size, schema=schema,
        columns=tuple(_column(column, None, None) for column in schema.columns), problems=(damage_of(error, path),),
        notes=(f"{chunks} whole chunks with {records} records stand in front of byte {end}",) if chunks else (),
    )  # fmt: skip


def _notes(storage: Storage, directory: str) -> Iterator[str]:
    unfinished = describe_unfinished(storage, directory or ".")
    if unfinished is not None:
        yield f"{WORK_NAME} holds a conversion that would replace this data set: {unfinished}"


def _column(
    column: Column, sizes: tuple[dict[str, int], int, int] | None, summary: ColumnSummary | None
) -> ColumnInspection:
    codecs, raw_size, stored_size = sizes if sizes is not None else ({}, None, None)
    return ColumnInspection(
        name=column.name, dtype=column.dtype, shape=column.shape, optional=column.optional,
        codecs=tuple(sorted(codecs, key=lambda name: -codecs[name])), raw_size=raw_size, stored_size=stored_size,
        summary=summary,
    )  # fmt: skip
