"""Reading one shard: its chunk table, and from chunks just the frames that are asked for.

A shard is reached through the index, which has its chunk table, or alone, through its trailer and footer. Either way
every byte is checked on the way: header against table, directory against header, frames against directory. Which rows
to read is decided in `recordio.reader`; nothing is cached here.

Spec: spec/format.md, sections 2, 4, 5, 7 and 8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np

from recordio.chunks.frames import check_column_chunk, decode_frame, decode_frames
from recordio.columns import Array, ColumnValues
from recordio.errors import IncompleteError, MalformedError, MismatchError, RecordIOError, TruncatedError
from recordio.format import layout
from recordio.format.checksum import Buffer, crc
from recordio.format.chunk import (
    CHUNK_HEADER_SIZE,
    ChunkHeader,
    Directory,
    check_chunk_place,
    decode_chunk_header,
    decode_directory,
)
from recordio.format.footer import ChunkEntry, Footer, check_digest, decode_footer, split_chunk_table
from recordio.schema import Schema
from recordio.storage import ReadHandle, Storage


@dataclass(frozen=True, slots=True)
class ChunkTable:
    """Where the chunks of a shard lie; sums of the stored table."""

    offsets: Array  # int64[n + 1], bytes from the start of the file; the last is the footer's
    raw_sizes: Array  # int64[n]
    first_records: Array  # int64[n + 1], ordinals in the shard
    directory_sizes: Array  # int64[n]
    header_crcs: Array  # int64[n]

    def __len__(self) -> int:
        return len(self.raw_sizes)

    @staticmethod
    def decode(table: Buffer, *, num_chunks: int, schema_size: int, num_records: int, file_size: int) -> ChunkTable:
        """Check a chunk table against its shard and add it up.

        Raises:
            MalformedError: the chunks do not fit the file or do not add up to its records.
        """
        parts = split_chunk_table(table, num_chunks)
        stored, raw, records, directories, header_crcs = (
            np.frombuffer(part, kind) for part, kind in zip(parts, ("<u8", "<u8", "<u4", "<u4", "<u4"), strict=True)
        )
        first = layout.align(layout.FILE_HEADER_SIZE + schema_size)
        # In float64, where sums cannot wrap around.
        if num_chunks and (
            float(stored.sum(dtype=np.float64)) + first > file_size
            or float(raw.max()) > layout.MAX_RECORDS
            or (stored % layout.ALIGNMENT).any()
            or (stored < CHUNK_HEADER_SIZE + directories.astype(np.uint64)).any()
        ):
            raise MalformedError(f"the chunks of a chunk table do not fit a file of {file_size} bytes")
        offsets = np.full(num_chunks + 1, first, np.int64)
        offsets[1:] += np.cumsum(stored.astype(np.int64))
        first_records = np.zeros(num_chunks + 1, np.int64)
        np.cumsum(records, out=first_records[1:])
        if int(first_records[-1]) != num_records or (num_chunks and not records.all()):
            raise MalformedError(f"a chunk table counts {int(first_records[-1])} records, its shard {num_records}")
        return ChunkTable(
            offsets, raw.astype(np.int64), first_records, directories.astype(np.int64), header_crcs.astype(np.int64)
        )

    def entry(self, chunk_id: int) -> ChunkEntry:
        """One chunk, as it is stored in the table."""
        return ChunkEntry(
            int(self.offsets[chunk_id + 1] - self.offsets[chunk_id]), int(self.raw_sizes[chunk_id]),
            int(self.first_records[chunk_id + 1] - self.first_records[chunk_id]),
            int(self.directory_sizes[chunk_id]), int(self.header_crcs[chunk_id]),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardReader:
    """Reads chunks of one shard; holds no open file, so it can be copied, sent and shared.

    Errors carry path, shard, chunk, and records as ordinals in the shard plus `first_record`.
    """

    path: str
    shard_id: int
    file_id: bytes
    schema: Schema
    table: ChunkTable
    open: Callable[[str], ReadHandle] = field(repr=False)
    file_size: int
    first_record: int = 0  # of the shard, in the data set
    may_be_cut: bool = False  # read what there is of a file that is too short

    def read_directory(self, chunk_id: int) -> Directory:
        """Read and check header and directory of a chunk: one read."""
        try:
            offset = int(self.table.offsets[chunk_id])
            size = CHUNK_HEADER_SIZE + int(self.table.directory_sizes[chunk_id])
            return self._check_front(chunk_id, self.handle().read(offset, size))
        except RecordIOError as error:
            raise self._located(error, chunk_id) from None

    def read_frames(self, chunk_id: int, directory: Directory, ordinal: int, first: int, stop: int) -> ColumnValues:
        """Read and decode consecutive frames of one column: one read."""
        column = directory.columns[ordinal]
        try:
            check_column_chunk(self.schema.columns[ordinal], column)
            start = column.offset + sum(frame.stored_size for frame in column.frames[:first])
            size = sum(frame.stored_size for frame in column.frames[first:stop])
            stored = self.handle().read(int(self.table.offsets[chunk_id]) + start, size)
            return decode_frames(self.schema.columns[ordinal], column, stored, first=first, stop=stop, owned=True)
        except RecordIOError as error:
            raise self._located(error, chunk_id, in_chunk=True) from None

    def frame_starts(self, chunk_id: int, directory: Directory, ordinal: int) -> list[int]:
        """Check the directory entry of a column: bytes from the start of the file at which its frames begin."""
        column = directory.columns[ordinal]
        check_column_chunk(self.schema.columns[ordinal], column)
        first = int(self.table.offsets[chunk_id]) + column.offset
        return [*accumulate((frame.stored_size for frame in column.frames[:-1]), initial=first)]

    def read_frame(self, directory: Directory, ordinal: int, place: int, start: int) -> ColumnValues:
        """As `read_frames`, one frame that begins at byte `start`; an error does not say where.

        Returns:
            New memory, which may be read-only.
        """
        column = directory.columns[ordinal]
        frame = column.frames[place]
        stored = self.handle().read(start, frame.stored_size)
        return decode_frame(self.schema.columns[ordinal], column, frame, stored)

    def read_chunk(self, chunk_id: int, ordinals: Sequence[int]) -> list[ColumnValues]:
        """Read and decode all rows of some columns of a chunk: one read if it is for all columns."""
        if len(ordinals) < len(self.schema.columns):
            directory = self.read_directory(chunk_id)
            return [
                self.read_frames(chunk_id, directory, ordinal, 0, len(directory.columns[ordinal].frames))
                for ordinal in ordinals
            ]
        stored = self.read_stored(chunk_id)
        directory = self.check_directory(chunk_id, stored)
        return self.decode_chunk(chunk_id, directory, stored, ordinals)

    def read_stored(self, chunk_id: int) -> memoryview:
        """All stored bytes of a chunk, not yet checked, in new memory."""
        offset, stop = int(self.table.offsets[chunk_id]), int(self.table.offsets[chunk_id + 1])
        try:
            return self.handle().read(offset, stop - offset)
        except RecordIOError as error:
            raise self._located(error, chunk_id) from None

    def check_directory(self, chunk_id: int, stored: memoryview) -> Directory:
        """Check header and directory at the front of a chunk's stored bytes."""
        try:
            return self._check_front(chunk_id, stored[: CHUNK_HEADER_SIZE + int(self.table.directory_sizes[chunk_id])])
        except RecordIOError as error:
            raise self._located(error, chunk_id) from None

    def decode_chunk(
        self, chunk_id: int, directory: Directory, stored: memoryview, ordinals: Sequence[int]
    ) -> list[ColumnValues]:
        """Verify and decode columns of a chunk whose stored bytes the caller gives away."""
        rows = []
        try:
            for ordinal in ordinals:
                column = directory.columns[ordinal]
                check_column_chunk(self.schema.columns[ordinal], column)
                part = stored[column.offset : column.offset + column.stored_size]
                rows.append(decode_frames(self.schema.columns[ordinal], column, part, owned=True))
        except RecordIOError as error:
            raise self._located(error, chunk_id, in_chunk=True) from None
        return rows

    def handle(self) -> ReadHandle:
        """The open file.

        Raises:
            DataError: it is not there, or has another size.
        """
        try:
            handle = self.open(self.path)
        except FileNotFoundError:
            raise MismatchError(
                "the index names a shard that is not there",
                advice="Restore it; if the data set was written anew, open it again",
            ) from None
        if handle.size > self.file_size or (handle.size < self.file_size and not self.may_be_cut):
            kind = TruncatedError if handle.size < self.file_size else MismatchError
            raise kind(f"the shard has {handle.size} bytes where {self.file_size} belong", advice="Restore the shard")
        return handle

    def _check_front(self, chunk_id: int, front: memoryview) -> Directory:
        offset = int(self.table.offsets[chunk_id])
        header, header_crc = decode_chunk_header(front, offset)
        self._check_header(chunk_id, header, header_crc, offset)
        directory = decode_directory(
            front[CHUNK_HEADER_SIZE:], header, num_columns=len(self.schema.columns), offset=offset
        )
        if directory.raw_size != int(self.table.raw_sizes[chunk_id]):
            raise MismatchError(
                f"a chunk of {directory.raw_size} raw bytes where {int(self.table.raw_sizes[chunk_id])} belong",
                offset=offset,
            )
        return directory

    def _check_header(self, chunk_id: int, header: ChunkHeader, header_crc: int, offset: int) -> None:
        first_record = int(self.table.first_records[chunk_id])
        check_chunk_place(header, file_id=self.file_id, chunk_id=chunk_id, first_record=first_record, offset=offset)
        entry = self.table.entry(chunk_id)
        found = (header.stored_size, header.num_records, header.directory_size, header_crc)
        expected = (entry.stored_size, entry.num_records, entry.directory_size, entry.header_crc)
        if found != expected:
            raise MismatchError(
                f"the chunk (size, records, directory size, checksum) is {found}, {expected} is expected",
                offset=offset, advice="The shard is not the one that was indexed: restore it",
            )  # fmt: skip

    def _located(self, error: RecordIOError, chunk_id: int, *, in_chunk: bool = False) -> RecordIOError:
        """Turn places in the chunk into places in file and data set."""
        first = self.first_record + int(self.table.first_records[chunk_id])
        if in_chunk and error.records is not None:
            error.records = (error.records[0] + first, error.records[1] + first)
        if in_chunk and error.offset is not None and error.chunk is None and error.path is None:
            error.offset += int(self.table.offsets[chunk_id])
        stop = self.first_record + int(self.table.first_records[chunk_id + 1])
        return error.locate(path=self.path, shard=self.shard_id, chunk=chunk_id, records=(first, stop))


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardFront:
    """What a shard says of itself, all of it verified."""

    header: layout.FileHeader
    schema: bytes
    footer: Footer
    table: ChunkTable
    file_size: int


def read_shard_front(storage: Storage, path: str) -> ShardFront:
    """Read header, schema, trailer and footer of a shard, and check them against each other.

    Raises:
        NotRecordIOError, TooNewError, IncompleteError, DataError; the operating system's errors.
    """
    try:
        handle = storage.open(path)
        header, schema = read_file_front(handle)
        if handle.size < header.first_chunk_offset + layout.TRAILER_SIZE:
            raise IncompleteError("the file ends before its first chunk: writing did not end", offset=handle.size)
        offset = handle.size - layout.TRAILER_SIZE
        trailer = layout.decode_trailer(handle.read(offset, layout.TRAILER_SIZE), offset)
        if trailer.file_id != header.file_id:
            raise MismatchError("header and trailer belong to different files", offset=offset)
        footer_bytes = handle.read(trailer.footer_offset, trailer.footer_size)
        footer = decode_footer(footer_bytes, trailer)
        if footer.shard_id != header.shard_id:
            raise MismatchError(
                f"the header is of shard {header.shard_id}, the footer of {footer.shard_id}", offset=offset
            )
        check_digest(footer, file_id=header.file_id, schema=schema)
        table = ChunkTable.decode(
            footer.chunk_table, num_chunks=footer.num_chunks, schema_size=len(schema), num_records=footer.num_records,
            file_size=trailer.footer_offset,
        )  # fmt: skip
        if int(table.offsets[-1]) != trailer.footer_offset or int(table.raw_sizes.sum()) != footer.raw_size:
            raise MalformedError(
                "the chunks of a shard do not end at its footer, or do not add up to it", offset=offset
            )
    except RecordIOError as error:
        raise error.locate(path=path) from None
    return ShardFront(header=header, schema=schema, footer=footer, table=table, file_size=handle.size)


def read_file_front(handle: ReadHandle) -> tuple[layout.FileHeader, bytes]:
    """File header and bytes of the schema, verified."""
    data = handle.read(0, min(layout.FILE_HEADER_SIZE, handle.size))
    header = layout.decode_file_header(data)
    schema = bytes(handle.read(layout.FILE_HEADER_SIZE, header.schema_size))
    layout.check_crc(header.schema_crc.to_bytes(4, "little"), crc(schema), "schema", offset=layout.FILE_HEADER_SIZE)
    return header, schema
