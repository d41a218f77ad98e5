"""The footer of a shard, and the chunk table that it shares with the index.

    head (64) | chunk table (28 bytes a chunk, column by column) | metadata

Offsets and first records are sums of the table's sizes; whoever has numpy adds them up
(`recordio.shards.shard_reader`).

Spec: spec/format.md, section 7.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from recordio.errors import ChecksumError, MalformedError, TruncatedError
from recordio.format import layout, objects
from recordio.format.checksum import Buffer, crc, digest

CHUNK_ENTRY_SIZE = 28
DIGEST_SIZE = 32
FLAG_LAST = 1

_HEAD = struct.Struct("<IIIIQQ")
_HEAD_SIZE = 64


class ChunkEntry(NamedTuple):
    """One chunk, as the footer and the index list it."""

    stored_size: int
    raw_size: int
    num_records: int
    directory_size: int
    header_crc: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    shard_id: int
    last: bool  # the last shard of its data set
    num_chunks: int
    num_records: int
    raw_size: int
    digest: bytes
    chunk_table: bytes
    metadata: bytes  # msgpack of {"metadata": ..., "options": ...}

    @property
    def stored_size(self) -> int:
        return _HEAD_SIZE + len(self.chunk_table) + len(self.metadata)


def encode_chunk_table(chunks: Iterable[ChunkEntry]) -> bytes:
    """The five arrays of the table, one after the other."""
    columns = tuple(zip(*chunks, strict=True)) or ((),) * 5
    return b"".join(
        _little_endian(array(code, column)).tobytes() for code, column in zip("QQIII", columns, strict=True)
    )


def split_chunk_table(
    table: Buffer, num_chunks: int
) -> tuple[memoryview, memoryview, memoryview, memoryview, memoryview]:
    """The five arrays of a table as views of its bytes: u64, u64, u32, u32, u32, little-endian, not aligned."""
    view = memoryview(table)
    if len(view) != CHUNK_ENTRY_SIZE * num_chunks:
        raise MalformedError(f"a chunk table of {len(view)} bytes for {num_chunks} chunks")
    n = num_chunks
    return view[: 8 * n], view[8 * n : 16 * n], view[16 * n : 20 * n], view[20 * n : 24 * n], view[24 * n :]


def encode_metadata(metadata: dict[str, Any], options: dict[str, Any]) -> bytes:
    """User metadata and writer options, as the footer and the index carry them."""
    return objects.pack({"metadata": metadata, "options": options})


def decode_metadata(data: Buffer) -> tuple[dict[str, Any], dict[str, Any]]:
    """The user's metadata and the writer's options."""
    value = objects.unpack(data, max_size=layout.MAX_METADATA_SIZE, what="the metadata")
    metadata, options = (value.get("metadata"), value.get("options")) if isinstance(value, dict) else (None, None)
    if not isinstance(metadata, dict) or not isinstance(options, dict):
        raise MalformedError('the metadata is not a map with the maps "metadata" and "options"')
    return metadata, options


def make_footer(
    *, file_id: bytes, schema: bytes, shard_id: int, last: bool, chunks: list[ChunkEntry], metadata: bytes
) -> Footer:
    """Sum up a shard and compute its digest."""
    footer = Footer(
        shard_id=shard_id, last=last, num_chunks=len(chunks), num_records=sum(chunk.num_records for chunk in chunks),
        raw_size=sum(chunk.raw_size for chunk in chunks), digest=b"", chunk_table=encode_chunk_table(chunks),
        metadata=metadata,
    )  # fmt: skip
    return replace(footer, digest=shard_digest(footer, file_id=file_id, schema=schema))


def encode_footer(footer: Footer) -> bytes:
    """The footer, without padding."""
    return _head(footer) + footer.digest + footer.chunk_table + footer.metadata


def decode_footer(data: Buffer, trailer: layout.Trailer) -> Footer:
    """Check and read the footer that a trailer points to.

    Raises:
        TruncatedError, ChecksumError, MalformedError.
    """
    place = trailer.footer_offset
    if len(data) != trailer.footer_size:
        raise TruncatedError(
            f"the file ends inside its footer, after {len(data)} of {trailer.footer_size} bytes", offset=place
        )
    if crc(data) != trailer.footer_crc:
        raise ChecksumError(
            f"footer checksum is {crc(data):#010x}, the trailer says {trailer.footer_crc:#010x}",
            offset=place,
            advice="Restore the file",
        )
    if len(data) < _HEAD_SIZE:
        raise MalformedError(f"a footer of {len(data)} bytes", offset=place)
    shard_id, flags, num_chunks, metadata_size, num_records, raw_size = _HEAD.unpack_from(data)
    table_end = _HEAD_SIZE + CHUNK_ENTRY_SIZE * num_chunks
    if (
        num_chunks > layout.MAX_CHUNKS
        or metadata_size > layout.MAX_METADATA_SIZE
        or table_end + metadata_size != len(data)
    ):
        raise MalformedError(
            f"a footer of {len(data)} bytes for {num_chunks} chunks and {metadata_size} bytes of metadata", offset=place
        )
    if flags & ~FLAG_LAST:
        raise MalformedError(f"unknown flags {flags:#x} in a footer", offset=place)
    if num_records != trailer.num_records or num_records > layout.MAX_RECORDS:
        raise MalformedError(
            f"the footer counts {num_records} records, the trailer {trailer.num_records}", offset=place
        )
    return Footer(
        shard_id=shard_id, last=bool(flags & FLAG_LAST), num_chunks=num_chunks, num_records=num_records,
        raw_size=raw_size,
        digest=bytes(data[32:64]), chunk_table=bytes(data[_HEAD_SIZE:table_end]), metadata=bytes(data[table_end:]),
    )  # fmt: skip


def shard_digest(footer: Footer, *, file_id: bytes, schema: Buffer) -> bytes:
    """The digest of a shard; whoever has the index can compute it without reading the shard."""
    return digest(DIGEST_SIZE, b"recordio.shard", (file_id, schema, _head(footer), footer.chunk_table, footer.metadata))


def check_digest(footer: Footer, *, file_id: bytes, schema: Buffer) -> None:
    """Compare the digest of a shard with what it is computed from.

    Raises:
        ChecksumError: they differ.
    """
    computed = shard_digest(footer, file_id=file_id, schema=schema)
    if computed != footer.digest:
        raise ChecksumError(
            f"shard digest is {computed.hex()}, stored is {footer.digest.hex()}", advice="Restore the file"
        )


def _head(footer: Footer) -> bytes:
    return _HEAD.pack(
        footer.shard_id,
        FLAG_LAST * footer.last,
        footer.num_chunks,
        len(footer.metadata),
        footer.num_records,
        footer.raw_size,
    )


def _little_endian(values: array[int]) -> array[int]:
    if sys.byteorder == "big":
        values.byteswap()
    return values
