"""Everything that can be wrong with one shard, found place by place instead of up to the first.

    header, schema, padding, size, trailer, footer, digest, what the index says -> damages, and where the chunks are

Readers stop at the first broken rule; this goes on behind it. Chunks are checked in `recordio.checks.chunk_checks`;
which shards there are, and on which threads, in `recordio.checks.verification`.

Spec: spec/format.md, sections 2, 3, 7 and 12.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from recordio.checks.chunk_checks import ChunkPlace, Damage, Note, check_zero, damage_of, scan_chunks
from recordio.errors import (
    ChecksumError,
    MalformedError,
    MismatchError,
    NotRecordIOError,
    RecordIOError,
    TooNewError,
    TruncatedError,
)
from recordio.format import layout
from recordio.format.footer import Footer, check_digest, decode_footer
from recordio.format.index import ShardEntry
from recordio.schema import Schema
from recordio.shards.shard_reader import ChunkTable, read_file_front
from recordio.storage import ReadHandle, Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardPlace:
    """Where a shard is, and what is known of it before it is opened."""

    path: str
    shard_id: int | None = None  # None: the shard stands alone
    first_record: int = 0  # in the data set
    entry: ShardEntry | None = None  # of the index, if that is readable
    schema: bytes | None = None  # of the index
    table: ChunkTable | None = None  # of the index, if it is right
    last: bool = False


@dataclass(slots=True, kw_only=True)
class ShardFindings:
    """What `check_shard` found, and what is left to check."""

    file_id: bytes | None = None
    schema: Schema | None = None
    num_records: int | None = None
    shard_id: int | None = None
    chunks: list[ChunkPlace] = field(default_factory=list)
    damages: list[Damage] = field(default_factory=list)


def check_shard(storage: Storage, place: ShardPlace) -> ShardFindings:
    """Check all of a shard but its chunks, and find out where those are.

    Raises:
        TooNewError: it cannot be judged. NotRecordIOError: a lone file has neither front nor end of a shard.
        OSError: it cannot be read.
    """
    found = ShardFindings(shard_id=place.shard_id)
    entry = place.entry
    total = None if entry is None else (place.first_record, place.first_record + entry.num_records)
    try:
        handle = storage.open(place.path)
    except FileNotFoundError:
        if entry is None:
            raise
        error = MismatchError("the index names a shard that is not there", advice="Restore it from a copy")
        found.damages.append(damage_of(error, place.path, shard=place.shard_id, records=total))
        return found
    except NotRecordIOError as strange:
        if entry is None:
            raise
        found.damages.append(damage_of(strange, place.path, shard=place.shard_id, records=total))
        return found

    def note(error: Exception, **where: Any) -> None:
        found.damages.append(damage_of(error, place.path, shard=found.shard_id, **where))

    _check_front(handle, place, found, note)
    footer = _check_size_and_end(handle, place, found, note)
    table = place.table
    if table is None and footer is not None and found.schema is not None:
        try:
            table = ChunkTable.decode(
                footer.chunk_table, num_chunks=footer.num_chunks, schema_size=len(found.schema.encode()),
                num_records=footer.num_records, file_size=handle.size,
            )  # fmt: skip
        except RecordIOError as error:
            note(error)
    if entry is not None:
        found.file_id, found.num_records = entry.file_id, entry.num_records
    if table is not None:
        found.num_records = int(table.first_records[-1])
        found.chunks = list(_listed(table))
    elif found.schema is not None:
        found.chunks = list(_scanned(handle, place, found, note))
    _leave_out_cut_chunks(handle, place, found, note)
    return found


def _check_front(handle: ReadHandle, place: ShardPlace, found: ShardFindings, note: Note) -> None:
    """File header, schema, and the padding behind it."""
    entry, schema, schema_checked = place.entry, place.schema, False
    try:
        header, stored_schema = read_file_front(handle)
    except NotRecordIOError as error:
        if entry is None and not _has_end(handle):
            raise error.locate(path=place.path) from None
        note(error, offset=0)
    except RecordIOError as error:
        if isinstance(error, TooNewError):
            raise error.locate(path=place.path) from None
        note(error, offset=0)
        schema_checked = error.offset == layout.FILE_HEADER_SIZE
    else:
        schema_checked = True
        found.file_id = header.file_id
        if found.shard_id is None:
            found.shard_id = header.shard_id
        if entry is not None and (header.file_id, header.shard_id) != (entry.file_id, place.shard_id):
            note(
                MismatchError(
                    f"the file is shard {header.shard_id} with file id {header.file_id.hex()}, the index names shard "
                    f"{place.shard_id} with {entry.file_id.hex()}",
                    advice="Put the right file there",
                ),
                offset=0,
            )
        if schema is not None and stored_schema != schema:
            note(MismatchError("the schema is not that of the index"), offset=layout.FILE_HEADER_SIZE)
        schema = stored_schema if schema is None else schema
    if schema is None:
        return
    end = layout.FILE_HEADER_SIZE + len(schema)
    if not schema_checked and handle.size >= end and bytes(handle.read(layout.FILE_HEADER_SIZE, len(schema))) != schema:
        note(ChecksumError("the schema is not that of the index"), offset=layout.FILE_HEADER_SIZE)
    try:
        found.schema = Schema.decode(schema)
    except RecordIOError as error:
        if place.schema is None:
            note(error, offset=layout.FILE_HEADER_SIZE)
    _check_padding(handle, end, layout.align(end), "behind the schema", note)


def _check_size_and_end(handle: ReadHandle, place: ShardPlace, found: ShardFindings, note: Note) -> Footer | None:
    """File size, trailer, footer, digest, and the padding between."""
    entry = place.entry
    if entry is not None and handle.size != entry.file_size:
        if handle.size > entry.file_size:
            note(
                MismatchError(_wrong_size(handle, entry), advice="Restore the shard"),
                offset=entry.file_size, records=(place.first_record, place.first_record + entry.num_records),
            )  # fmt: skip
        elif place.table is None:
            note(TruncatedError(_wrong_size(handle, entry)), offset=handle.size)
        return None
    offset = handle.size - layout.TRAILER_SIZE
    if offset < layout.FILE_HEADER_SIZE:
        note(TruncatedError(f"the file ends after {handle.size} bytes, before its first chunk"), offset=handle.size)
        return None
    try:
        trailer = layout.decode_trailer(handle.read(offset, layout.TRAILER_SIZE), offset)
        if found.file_id is not None and trailer.file_id != found.file_id:
            note(MismatchError("header and trailer belong to different files"), offset=offset)
        if found.file_id is None:
            found.file_id = trailer.file_id
        footer = decode_footer(handle.read(trailer.footer_offset, trailer.footer_size), trailer)
        _check_padding(handle, trailer.footer_offset + trailer.footer_size, offset, "behind the footer", note)
        if found.shard_id is None:
            found.shard_id = footer.shard_id
        if footer.shard_id != found.shard_id:
            note(MismatchError(f"the footer is of shard {footer.shard_id}"), offset=trailer.footer_offset)
        schema = place.schema if found.schema is None else found.schema.encode()
        if schema is not None:
            check_digest(footer, file_id=trailer.file_id, schema=schema)
        if entry is not None and (footer.digest, footer.last) != (entry.digest, place.last):
            raise MismatchError(
                f"the footer has the digest {footer.digest.hex()}, last {footer.last}; "
                f"the index has {entry.digest.hex()}, last {place.last}"
            )
    except RecordIOError as error:
        note(error, offset=offset)
        return None
    return footer


def _listed(table: ChunkTable) -> Iterator[ChunkPlace]:
    for chunk_id in range(len(table)):
        listed = table.entry(chunk_id)
        yield ChunkPlace(
            chunk_id=chunk_id, offset=int(table.offsets[chunk_id]), stored_size=listed.stored_size,
            first_record=int(table.first_records[chunk_id]), num_records=listed.num_records,
            directory_size=listed.directory_size, header_crc=listed.header_crc, raw_size=listed.raw_size,
        )  # fmt: skip


def _scanned(handle: ReadHandle, place: ShardPlace, found: ShardFindings, note: Note) -> Iterator[ChunkPlace]:
    """Chunks by their own headers; where one is missing between two, that is a damage."""
    assert found.schema is not None
    expected = layout.align(layout.FILE_HEADER_SIZE + len(found.schema.encode()))
    next_chunk = next_record = 0
    for offset, header in scan_chunks(handle, expected, file_id=found.file_id):
        if header.chunk_id > next_chunk:
            first, stop = place.first_record + next_record, place.first_record + header.first_record
            text = f"chunk {next_chunk} does not begin here; the next that can be found is chunk {header.chunk_id}"
            note(MalformedError(text), offset=expected, chunk=next_chunk, records=(first, stop))
        yield ChunkPlace(
            chunk_id=header.chunk_id, offset=offset, stored_size=header.stored_size, first_record=header.first_record,
            num_records=header.num_records,
        )  # fmt: skip
        next_chunk, next_record = header.chunk_id + 1, header.first_record + header.num_records
        expected = offset + header.stored_size
    found.num_records = next_record


def _leave_out_cut_chunks(handle: ReadHandle, place: ShardPlace, found: ShardFindings, note: Note) -> None:
    """One finding for all chunks behind the end of a file that was cut."""
    whole = [chunk for chunk in found.chunks if chunk.offset + chunk.stored_size <= handle.size]
    if len(whole) < len(found.chunks):
        cut = found.chunks[len(whole)]
        last = found.chunks[-1]
        which = f"chunk {cut.chunk_id} is" if cut is last else f"chunks {cut.chunk_id} to {last.chunk_id} are"
        size = f"the shard has {handle.size} bytes" if place.entry is None else _wrong_size(handle, place.entry)
        note(
            TruncatedError(f"{size}: {which} cut off", advice="Restore the shard"),
            offset=handle.size, chunk=cut.chunk_id,
            records=(place.first_record + cut.first_record, place.first_record + last.first_record + last.num_records),
        )  # fmt: skip
    elif place.entry is not None and place.table is not None and handle.size < place.entry.file_size:
        note(TruncatedError(_wrong_size(handle, place.entry)), offset=handle.size)
    found.chunks = whole


def _wrong_size(handle: ReadHandle, entry: ShardEntry) -> str:
    return f"the shard has {handle.size} bytes where {entry.file_size} belong"


def _has_end(handle: ReadHandle) -> bool:
    size = len(layout.END_MAGIC)
    return handle.size >= size and bytes(handle.read(handle.size - size, size)) == layout.END_MAGIC


def _check_padding(handle: ReadHandle, start: int, stop: int, what: str, note: Note) -> None:
    if stop <= handle.size:
        check_zero(handle.read(start, stop - start), start, what, note)
