"""Records -> encoded chunks -> shards: the path that everything written takes.

    records, batches, columns -> RecordStream -> (shard_id, EncodedChunk) -> ShardSequence -> shards
                                                                          -> Spool -> cut_spool -> shards

`ShardSequence` is for shards by size, or for one shard; `Spool` for a given number of shards of a source whose length
is known only at its end. Both take up what an earlier run left: chunks that exist are compared, not written again.

Spec: spec/format.md, section 9.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from recordio.chunks.encoding import ChunkAssembler, ChunkEncoder, ChunkRows, EncodedChunk, WriteOptions, encode_chunk
from recordio.chunks.frames import verify_frame
from recordio.columns import ColumnValues, slice_rows
from recordio.errors import MalformedError, RecordIOError
from recordio.format import layout
from recordio.format.chunk import CHUNK_HEADER_SIZE, Directory, decode_chunk_header, decode_directory
from recordio.format.footer import ChunkEntry, split_chunk_table
from recordio.job_paths import FinishedShard, JobPaths
from recordio.plan.ranges import even_ranges
from recordio.schema import Schema
from recordio.shards.shard_reader import ShardReader, read_file_front, read_shard_front
from recordio.shards.shard_writer import ShardIdentity, ShardWriter
from recordio.values.signature import RecordBuffer, cast_batch

# Records are kept one by one up to so many or so many raw bytes, then become columns at once.
_MAX_BUFFERED_RECORDS = 1024
_MAX_BUFFERED_SIZE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is written, how and where: the same for every shard of a job; picklable."""

    paths: JobPaths
    schema: Schema
    schema_bytes: bytes
    metadata: bytes  # as in the footer
    options_bytes: bytes
    options: WriteOptions
    workers: int = 1  # encoder threads

    def identity(self, shard_id: int) -> ShardIdentity:
        return ShardIdentity(
            shard_id=shard_id, schema=self.schema_bytes, metadata=self.metadata, options=self.options_bytes
        )


class RecordStream:
    """Takes records, batches and columns, and hands encoded chunks on, in order, from the caller's own thread."""

    def __init__(
        self, target: Target, accept: Callable[[int, EncodedChunk], None], *, shard_size: int | None = None
    ) -> None:
        self.schema = target.schema
        self._buffer = RecordBuffer(target.schema)
        assert target.options.chunk_size is not None
        self._assembler = ChunkAssembler(target.schema, chunk_size=target.options.chunk_size, shard_size=shard_size)
        self._encoder = ChunkEncoder(target.schema, target.options, workers=target.workers)
        self._accept = accept
        self.num_records = 0

    def write(self, record: Any, number: int) -> None:
        """Take one record; nothing of it is kept by reference.

        Raises:
            SignatureError: it does not match the schema; nothing was stored.
        """
        self._buffer.append(record, number)
        self.num_records += 1
        if len(self._buffer) >= _MAX_BUFFERED_RECORDS or self._buffer.nbytes >= _MAX_BUFFERED_SIZE:
            self._flush_buffer()

    def write_batch(self, batch: Any, number: int) -> int:
        """Take a batch; gives its number of records. Raises as `write`."""
        num_rows, rows = cast_batch(self.schema, batch, first_record=number, keep_bytes=True)
        self.write_columns(rows)
        return num_rows

    def write_columns(self, rows: list[ColumnValues]) -> None:
        """Take rows that match the schema, and their memory."""
        self._flush_buffer()
        if rows[0].num_rows:
            self.num_records += rows[0].num_rows
            self._push(rows)

    def end(self) -> None:
        """Hand on all that is still under way."""
        self._flush_buffer()
        for chunk in self._assembler.flush():
            self._encode(chunk)
        for shard_id, encoded in self._encoder.drain():
            self._accept(shard_id, encoded)
        self.close()

    def close(self) -> None:
        """End the threads; what was not handed on is dropped."""
        self._encoder.close()

    def _flush_buffer(self) -> None:
        if len(self._buffer):
            self._push(self._buffer.take())

    def _push(self, rows: list[ColumnValues]) -> None:
        for chunk in self._assembler.push(rows):
            self._encode(chunk)

    def _encode(self, chunk: ChunkRows) -> None:
        for shard_id, encoded in self._encoder.push(chunk):
            self._accept(shard_id, encoded)


class ShardSequence:
    """Writes shards one after the other, or compares them with those that an earlier run finished."""

    def __init__(self, target: Target, *, first_shard: int = 0, resume: bool = False) -> None:
        self._target = target
        self._resume = resume
        self._shard_id = first_shard
        self._first_shard = first_shard
        self._writer: ShardWriter | None = None
        self._temporary = ""
        self._earlier: FinishedShard | None = None
        self.details: dict[str, Any] = {}  # of the shard that is being written
        self.finished: list[FinishedShard] = []
        self.num_resumed = 0

    def accept(self, shard_id: int, chunk: EncodedChunk) -> None:
        """Take the next chunk; `shard_id` counts from 0 in this sequence."""
        if self._writer is not None and self._first_shard + shard_id != self._shard_id:
            self._finish(last=False)
            self._shard_id += 1
        if self._writer is None:
            self._begin()
        assert self._writer is not None
        self._writer.write(chunk)

    def end(self, *, last: bool) -> list[FinishedShard]:
        """Finish the shard that is open; there is always at least one."""
        if self._writer is None:
            self._begin()
        self._finish(last=last)
        return self.finished

    def close(self) -> None:
        """Drop what is not finished."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            # Nobody will take it up again: the next attempt has a name of its own.
            with contextlib.suppress(OSError):
                self._target.paths.storage.remove(self._temporary)

    def _begin(self) -> None:
        target = self._target
        self._earlier = sound_shard(target, self._shard_id) if self._resume else None
        earlier = self._earlier
        self._temporary = target.paths.new_temporary(self._shard_id)
        self._writer = ShardWriter(
            target.paths.storage,
            None if earlier else self._temporary,
            target.identity(self._shard_id),
            existing=_entries(earlier.chunk_table, earlier.entry.num_chunks) if earlier else (),
            replayed=earlier.entry.name if earlier else "",
        )

    def _finish(self, *, last: bool) -> None:
        assert self._writer is not None
        entry, footer = self._writer.finish(last=last)
        if self._earlier is None:
            self.finished.append(self._target.paths.publish(self._temporary, entry, footer, self.details))
        else:
            if entry != self._earlier.entry:
                raise self._writer.changed(footer.num_chunks)
            self.finished.append(self._earlier)
            self.num_resumed += 1
        self._writer, self.details = None, {}


class Spool:
    """One file of all chunks, in the work directory; a complete one stands for the whole source.

    While it is cut into shards, it takes as much disk as they do.
    """

    def __init__(self, target: Target, *, resume: bool) -> None:
        self._paths = paths = target.paths
        existing = _whole_chunks(target, paths.spool) if resume else []
        self._writer = ShardWriter(
            paths.storage, paths.spool, target.identity(0), existing=existing,
            replayed="the spool of the unfinished conversion",
        )  # fmt: skip

    def accept(self, _shard_id: int, chunk: EncodedChunk) -> None:
        """Take the next chunk."""
        self._writer.write(chunk)

    def end(self, note: Any = None) -> None:
        """Complete the file, and note beside it what its source had to report (JSON)."""
        self._writer.finish(last=True)
        self._paths.storage.write_file(self._paths.spool_note, json.dumps(note).encode())

    def close(self) -> None:
        """Leave it as it is, to be taken up again."""
        self._writer.close()

    @staticmethod
    def noted(target: Target) -> Any:
        """What was noted when an earlier run completed it; None if none did, and the source is needed again."""
        paths = target.paths
        try:
            read_shard_front(paths.storage, paths.spool)
            return json.loads(bytes(paths.storage.read_file(paths.spool_note)))
        except (RecordIOError, OSError, ValueError):
            return None


def cut_spool(target: Target, num_shards: int, shard_id: int) -> FinishedShard:
    """Make one shard from its share of a complete spool.

    Whole chunks are verified and copied as they are; the chunk at either end is decoded and encoded anew.
    """
    paths = target.paths
    front = read_shard_front(paths.storage, paths.spool)
    reader = ShardReader(
        path=paths.spool, shard_id=0, file_id=front.header.file_id, schema=target.schema, table=front.table,
        open=paths.storage.open, file_size=front.file_size,
    )  # fmt: skip
    total = front.footer.num_records
    start, stop = even_ranges(total, num_shards)[shard_id]
    sequence = ShardSequence(target, first_shard=shard_id)
    try:
        for chunk in _cut(reader, target, start, stop):
            sequence.accept(0, chunk)
        (finished,) = sequence.end(last=shard_id == num_shards - 1)
    finally:
        sequence.close()
    return finished


def _cut(reader: ShardReader, target: Target, start: int, stop: int) -> Iterator[EncodedChunk]:
    first_records = reader.table.first_records
    chunk_id = max(0, int(np.searchsorted(first_records, start, side="right")) - 1)
    while chunk_id < len(reader.table) and int(first_records[chunk_id]) < stop:
        first, end = int(first_records[chunk_id]), int(first_records[chunk_id + 1])
        stored = reader.read_stored(chunk_id)
        directory = reader.check_directory(chunk_id, stored)
        entry = reader.table.entry(chunk_id)
        if start <= first and end <= stop:
            _verify_chunk(directory, entry.directory_size, stored)
            front = CHUNK_HEADER_SIZE + entry.directory_size
            yield EncodedChunk(
                num_records=entry.num_records, raw_size=entry.raw_size, stored_size=entry.stored_size,
                directory=bytes(stored[CHUNK_HEADER_SIZE:front]), payload=(stored[front:],),
                directory_crc=int.from_bytes(stored[52:56], "little"),
            )  # fmt: skip
        else:
            columns = reader.decode_chunk(chunk_id, directory, stored, range(len(target.schema.columns)))
            low, high = max(start, first) - first, min(stop, end) - first
            rows = [slice_rows(c, v, low, high) for c, v in zip(target.schema.columns, columns, strict=True)]
            yield encode_chunk(target.schema, [rows], target.options)
        chunk_id += 1


def _entries(chunk_table: bytes, num_chunks: int) -> list[ChunkEntry]:
    parts = split_chunk_table(chunk_table, num_chunks)
    kinds = ("<u8", "<u8", "<u4", "<u4", "<u4")
    arrays = [np.frombuffer(part, kind).tolist() for part, kind in zip(parts, kinds, strict=True)]
    return [ChunkEntry(*fields) for fields in zip(*arrays, strict=True)]


def sound_shard(target: Target, shard_id: int) -> FinishedShard | None:
    """A shard that an earlier run finished, if every byte of it is still right; else None, to write it again."""
    shard = target.paths.finished(shard_id)
    if shard is None:
        return None
    path = os.path.join(target.paths.path, shard.entry.name)
    front = read_shard_front(target.paths.storage, path)
    handle = target.paths.storage.open(path)
    # No checksum covers the padding after the schema and after the footer.
    schema_end = layout.FILE_HEADER_SIZE + len(front.schema)
    footer_end = int(front.table.offsets[-1]) + front.footer.stored_size
    padding = [
        handle.read(schema_end, front.header.first_chunk_offset - schema_end),
        handle.read(footer_end, front.file_size - layout.TRAILER_SIZE - footer_end),
    ]
    if any(map(any, padding)) or _whole_chunks(target, path) != _entries(shard.chunk_table, shard.entry.num_chunks):
        return None
    return shard


def _verify_chunk(directory: Directory, directory_size: int, stored: memoryview) -> None:
    """Check all that follows a directory which was checked already: frames, and the padding that no checksum covers."""
    end = CHUNK_HEADER_SIZE + directory_size
    for column in directory.columns:
        if any(stored[end : column.offset]):
            raise MalformedError("the padding of a chunk is not zero")
        end = column.offset
        for frame in column.frames:
            verify_frame(frame, stored[end : end + frame.stored_size])
            end += frame.stored_size
    if any(stored[end:]):
        raise MalformedError("the padding of a chunk is not zero")


def _whole_chunks(target: Target, path: str) -> list[ChunkEntry]:
    """The chunks at the front of a file, a torn spool perhaps, of which every byte is right."""
    found: list[ChunkEntry] = []
    try:
        handle = target.paths.storage.open(path)
        header, schema = read_file_front(handle)
        if schema != target.schema_bytes:
            return []
        offset = header.first_chunk_offset
        while offset + CHUNK_HEADER_SIZE <= handle.size:
            chunk, header_crc = decode_chunk_header(handle.read(offset, CHUNK_HEADER_SIZE), offset)
            stored = handle.read(offset, chunk.stored_size)
            front = stored[CHUNK_HEADER_SIZE : CHUNK_HEADER_SIZE + chunk.directory_size]
            directory = decode_directory(front, chunk, num_columns=len(target.schema.columns), offset=offset)
            _verify_chunk(directory, chunk.directory_size, stored)
            found.append(
                ChunkEntry(chunk.stored_size, directory.raw_size, chunk.num_records, chunk.directory_size, header_crc)
            )
            offset += chunk.stored_size
    except (RecordIOError, OSError):
        pass  # a torn tail is what a killed writer leaves
    return found
