"""Everything that can be wrong with one chunk: every damaged frame is found, not only the first.

    check_chunk   header, directory, padding, every frame of every column, decoded -> damages
    scan_chunks   chunk headers where neither footer nor index can say where they are

Spec: spec/format.md, sections 4 to 6 and 12.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from recordio.chunks.frames import check_column_chunk, decode_frames
from recordio.errors import MalformedError, MismatchError, RecordIOError
from recordio.format import layout
from recordio.format.chunk import (
    CHUNK_HEADER_SIZE,
    ChunkHeader,
    ColumnChunk,
    check_chunk_place,
    decode_chunk_header,
    decode_directory,
)
from recordio.schema import Column, Schema
from recordio.storage import ReadHandle

_SCAN_SIZE = 1 << 20  # bytes read at once while looking for a chunk

Note = Callable[..., None]  # (error, **where): takes a finding down


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One place that is not as it was written, and the records that it costs."""

    kind: str  # name of the error's class: "ChecksumError"
    message: str
    path: str  # file
    shard: int | None = None
    chunk: int | None = None
    column: str | None = None
    offset: int | None = None  # bytes from the start of the file
    records: tuple[int, int] | None = None  # [start, stop) in the data set, or in a lone shard; None: none is lost
    advice: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON; the keys are always all there."""
        return {
            "kind": self.kind, "message": self.message, "path": self.path, "shard": self.shard, "chunk": self.chunk,
            "column": self.column, "offset": self.offset,
            "records": None if self.records is None else list(self.records), "advice": self.advice,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkPlace:
    """A chunk that should be there, as footer or index list it; what only its header can say is None."""

    chunk_id: int
    offset: int  # bytes from the start of the file
    stored_size: int
    first_record: int  # ordinal in the shard
    num_records: int
    directory_size: int | None = None
    header_crc: int | None = None
    raw_size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardContext:
    """What a chunk must agree with."""

    path: str
    shard_id: int | None
    first_record: int  # of the shard, in the data set
    file_id: bytes | None  # None: not known, any will do
    schema: Schema


@dataclass(slots=True, kw_only=True)
class ChunkFindings:
    num_frames: int = 0
    raw_size: int = 0
    damages: list[Damage] = field(default_factory=list)


def damage_of(error: Exception, path: str, **where: Any) -> Damage:
    """An error as a finding; `where` fills in what the error does not know."""
    if not isinstance(error, RecordIOError):
        return Damage(kind=type(error).__name__, message=str(error), path=path, **where)
    known = {name: getattr(error, name) for name in ("shard", "chunk", "column", "offset", "records")}
    merged = {name: where.get(name) if value is None else value for name, value in known.items()}
    return Damage(
        kind=type(error).__name__, message=error.message, path=error.path or path, advice=error.advice, **merged
    )  # fmt: skip


def check_chunk(handle: ReadHandle, shard: ShardContext, place: ChunkPlace) -> ChunkFindings:
    """Check one chunk down to the values of its frames; every damaged frame is a finding of its own.

    Raises:
        OSError: the file cannot be read at all; a place of the disk that cannot be is a damage.
    """
    result = ChunkFindings()
    first = shard.first_record + place.first_record
    records = (first, first + place.num_records)

    def note(error: Exception, **where: Any) -> None:
        result.damages.append(damage_of(error, shard.path, shard=shard.shard_id, chunk=place.chunk_id, **where))

    try:
        stored = handle.read(place.offset, place.stored_size)
        header, header_crc = decode_chunk_header(stored, place.offset)
        _check_header(header, header_crc, shard.file_id, place)
        directory_end = CHUNK_HEADER_SIZE + header.directory_size
        directory = decode_directory(
            stored[CHUNK_HEADER_SIZE:directory_end], header, num_columns=len(shard.schema.columns), offset=place.offset
        )
        if place.raw_size is not None and directory.raw_size != place.raw_size:
            raise MismatchError(f"a chunk of {directory.raw_size} raw bytes where {place.raw_size} belong")
    except RecordIOError as error:
        note(error, offset=place.offset, records=records)
        return result
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        note(error, offset=place.offset, records=records)
        return result
    result.raw_size = directory.raw_size
    end, what = directory_end, "behind the directory"
    for column, entry in zip(shard.schema.columns, directory.columns, strict=True):
        check_zero(stored[end : entry.offset], place.offset + end, what, note)
        end, what = entry.offset + entry.stored_size, f"behind column {column.name!r}"
        for fault, frame in _damaged_frames(column, entry, stored):
            row = sum(f.num_records for f in entry.frames[:frame])
            start = entry.offset + sum(f.stored_size for f in entry.frames[:frame])
            rows = (first + row, first + row + entry.frames[frame].num_records)
            fault.offset = fault.records = None  # counted from the start of the chunk
            note(fault, column=column.name, offset=place.offset + start, records=rows)
        result.num_frames += len(entry.frames)
    check_zero(stored[end:], place.offset + end, what, note)
    return result


def _check_header(header: ChunkHeader, header_crc: int, file_id: bytes | None, place: ChunkPlace) -> None:
    check_chunk_place(
        header, file_id=file_id or header.file_id, chunk_id=place.chunk_id, first_record=place.first_record,
        offset=place.offset,
    )  # fmt: skip
    is_found = (header.stored_size, header.num_records, header.directory_size, header_crc)
    listed = (place.stored_size, place.num_records, place.directory_size, place.header_crc)
    expected = tuple(own if value is None else value for own, value in zip(is_found, listed, strict=True))
    if is_found != expected:
        raise MismatchError(f"the chunk (size, records, directory size, checksum) is {is_found}, expected {expected}")


def _damaged_frames(column: Column, entry: ColumnChunk, stored: memoryview) -> Iterator[tuple[RecordIOError, int]]:
    """Frames that do not decode, each with its error; all at once first: good ones are decoded fastest so."""
    try:
        check_column_chunk(column, entry)
    except RecordIOError as error:
        yield error, 0
        return
    data = stored[entry.offset : entry.offset + entry.stored_size]
    try:
        decode_frames(column, entry, data, first=0, stop=len(entry.frames))
        return
    except RecordIOError:
        pass  # found again below, frame by frame
    start = 0
    for place, frame in enumerate(entry.frames):
        try:
            decode_frames(column, entry, data[start : start + frame.stored_size], first=place, stop=place + 1)
        except RecordIOError as error:
            yield error, place
        start += frame.stored_size


def scan_chunks(handle: ReadHandle, start: int, *, file_id: bytes | None = None) -> Iterator[tuple[int, ChunkHeader]]:
    """Step from chunk header to chunk header; behind a damaged one, look for the next.

    Args:
        start: bytes from the start of the file to the first chunk.
        file_id: chunks of other files are passed over; None takes that of the first chunk found.

    Returns:
        Offset and header of every chunk that begins in the file, in order; the last may be cut off.
    """
    offset = start
    while offset + CHUNK_HEADER_SIZE <= handle.size:
        try:
            header, _ = decode_chunk_header(handle.read(offset, CHUNK_HEADER_SIZE), offset)
        except RecordIOError:
            found = _next_sync(handle, offset + layout.ALIGNMENT)
            if found is None:
                return
            offset = found
            continue
        if file_id is not None and header.file_id != file_id:
            offset += layout.ALIGNMENT
            continue
        file_id = header.file_id
        yield offset, header
        offset += header.stored_size


def _next_sync(handle: ReadHandle, start: int) -> int | None:
    for window in range(start, handle.size, _SCAN_SIZE):
        data = bytes(handle.read(window, min(_SCAN_SIZE, handle.size - window)))
        place = data.find(layout.CHUNK_SYNC)
        while place >= 0:
            if place % layout.ALIGNMENT == 0:
                return window + place
            place = data.find(layout.CHUNK_SYNC, place + 1)
    return None


def check_zero(padding: memoryview, offset: int, what: str, note: Note) -> None:
    """Take padding down that is not zero (section 1)."""
    data = bytes(padding)
    if data.count(0) != len(data):
        place = next(place for place, byte in enumerate(data) if byte)
        note(MalformedError(f"the padding {what} is not zero; no record is lost"), offset=offset + place)
