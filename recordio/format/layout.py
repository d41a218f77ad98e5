"""Fixed structures at known places: the file header at the front of a shard, the trailer at its end; magics and limits.

    file header (64) | schema | pad | chunk 0 | chunk 1 | ... | footer | pad | trailer (64)

Spec: spec/format.md, sections 2, 7 and 10.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TypeVar

from recordio.errors import (
    ChecksumError,
    IncompleteError,
    MalformedError,
    NotRecordIOError,
    TooNewError,
    TruncatedError,
)
from recordio.format.checksum import Buffer, crc, crc_at, digest

Ints = TypeVar("Ints")  # an int, or an array of ints

FILE_MAGIC = b"\x89RIO\r\n\x1a\n"
INDEX_MAGIC = b"\x89RIX\r\n\x1a\n"
END_MAGIC = b"\xf1RIOEND\n"
CHUNK_SYNC = b"\xf1CHK\r\n\x1a\xf8"

MAJOR_VERSION = 0
MINOR_VERSION = 1
KNOWN_FEATURES = 0  # bits of required_features that this reader understands

ALIGNMENT = 64
FILE_HEADER_SIZE = 64
TRAILER_SIZE = 64

# Limits, in bytes where not counts (section 10).
MAX_FRAME_RAW_SIZE = 1 << 30
MAX_FRAME_ELEMENTS = 1 << 22  # of a string-like column, each of which has a length
MAX_OBJECT_SIZE = 64 << 20  # one msgpack value, which takes several times its size in memory
MAX_CHUNK_RECORDS = 1 << 24
MAX_COLUMNS = 65_536
MAX_RANK = 32
MAX_OBJECT_DEPTH = 1024  # of a msgpack value
MAX_DEPTH = 32
MAX_DIM = 1 << 40
MAX_SCHEMA_SIZE = 16 << 20
MAX_METADATA_SIZE = 16 << 20
MAX_DIRECTORY_SIZE = 256 << 20
MAX_CHUNKS = 1 << 24
MAX_SHARDS = 1 << 20
MAX_INDEX_HEAD_SIZE = 512 << 20
MAX_RECORDS = (1 << 63) - 1

_FILE_HEADER = struct.Struct("<8sHHIII16sII12x")
_TRAILER = struct.Struct("<QQI4x16sQ4x")
_U32 = struct.Struct("<I")


def align(size: Ints) -> Ints:
    """Round up to a multiple of 64: an int, or an array of them."""
    return (size + ALIGNMENT - 1) & -ALIGNMENT  # type: ignore[operator, return-value]


def padding(size: int) -> bytes:
    """The zero bytes that align what has `size` bytes."""
    return bytes(-size % ALIGNMENT)


def file_id(*, shard_id: int, first_directory_crc: int, schema: bytes, options: bytes) -> bytes:
    """16 bytes that tell this file from others; the same input gives the same id (section 2)."""
    return digest(16, b"recordio.file", (struct.pack("<II", shard_id, first_directory_crc), schema, options))


@dataclass(frozen=True, slots=True, kw_only=True)
class FileHeader:
    shard_id: int
    file_id: bytes
    schema_size: int  # bytes, without padding
    schema_crc: int
    required_features: int = 0
    optional_features: int = 0
    minor: int = MINOR_VERSION

    @property
    def first_chunk_offset(self) -> int:
        return align(FILE_HEADER_SIZE + self.schema_size)


def encode_file_header(header: FileHeader) -> bytes:
    """The first 64 bytes of a shard."""
    body = _FILE_HEADER.pack(
        FILE_MAGIC, MAJOR_VERSION, header.minor, header.required_features, header.optional_features,
        header.shard_id, header.file_id, header.schema_size, header.schema_crc,
    )  # fmt: skip
    return body + _U32.pack(crc(body))


def decode_file_header(data: Buffer) -> FileHeader:
    """Check and read the first 64 bytes of a shard.

    Raises:
        NotRecordIOError, TruncatedError, ChecksumError, TooNewError, MalformedError.
    """
    check_magic(data, FILE_MAGIC, "a recordio shard")
    if len(data) < FILE_HEADER_SIZE:
        raise TruncatedError(f"the file ends inside its header, after {len(data)} bytes", offset=0)
    check_crc(data[60:64], crc(data[:60]), "file header", offset=0)
    _, major, minor, required, optional, shard_id, identity, schema_size, schema_crc = _FILE_HEADER.unpack(data[:60])
    check_version(major, minor, required)
    if schema_size > MAX_SCHEMA_SIZE:
        raise MalformedError(f"the schema has {schema_size} bytes, the limit is {MAX_SCHEMA_SIZE}", offset=0)
    return FileHeader(
        shard_id=shard_id, file_id=identity, schema_size=schema_size, schema_crc=schema_crc,
        required_features=required, optional_features=optional, minor=minor,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Trailer:
    footer_offset: int
    footer_size: int  # bytes, without padding
    footer_crc: int
    file_id: bytes
    num_records: int


def encode_trailer(trailer: Trailer, offset: int) -> bytes:
    """The last 64 bytes of a shard; `offset` is where they stand."""
    body = _TRAILER.pack(
        trailer.footer_offset, trailer.footer_size, trailer.footer_crc, trailer.file_id, trailer.num_records
    )
    return body + _U32.pack(crc_at(offset, body)) + END_MAGIC


def decode_trailer(data: Buffer, offset: int) -> Trailer:
    """Check and read the last 64 bytes of a shard.

    Args:
        data: exactly 64 bytes.
        offset: where they stand: the file size less 64.

    Raises:
        IncompleteError: no trailer stands there: writing did not end, or the file was cut.
        ChecksumError, MalformedError: there is one, but it is damaged.
    """
    if bytes(data[56:64]) != END_MAGIC:
        raise IncompleteError(
            "the file has no trailer at its end: it was cut off, or writing did not end",
            offset=offset, advice="Restore it, or convert again",
        )  # fmt: skip
    check_crc(data[52:56], crc_at(offset, data[:52]), "trailer", offset=offset)
    footer_offset, footer_size, footer_crc, identity, num_records = _TRAILER.unpack(data[:52])
    if footer_offset % ALIGNMENT or footer_offset + align(footer_size) != offset:
        raise MalformedError(
            f"the footer, {footer_size} bytes at {footer_offset}, does not end at the trailer", offset=offset
        )
    return Trailer(
        footer_offset=footer_offset,
        footer_size=footer_size,
        footer_crc=footer_crc,
        file_id=identity,
        num_records=num_records,
    )


def check_magic(data: Buffer, magic: bytes, what: str) -> None:
    """Refuse what does not begin with the magic, naming text-mode damage where that is what happened."""
    found = bytes(data[:8])
    if found == magic:
        return
    if magic.startswith(found):
        raise TruncatedError(f"the file ends inside its magic, after {len(found)} bytes", offset=0)
    damaged = (
        magic.replace(b"\r\n", b"\n")[:7],
        magic.replace(b"\n", b"\r\n")[:7],
        bytes(byte & 0x7F for byte in magic)[:7],
    )
    if found[:7] in damaged:
        raise NotRecordIOError(
            f"this was {what} before a text-mode transfer changed its bytes",
            offset=0,
            advice="Copy it again in binary mode",
        )
    raise NotRecordIOError(f"this is not {what}: it begins with {found!r}, not {magic!r}", offset=0)


def check_version(major: int, minor: int, required: int) -> None:
    """Refuse what this reader would misread."""
    if major != MAJOR_VERSION:
        raise TooNewError(
            f"the file has format version {major}.{minor}, this reader knows {MAJOR_VERSION}.x",
            offset=8,
            advice="Update recordio",
        )
    unknown = required & ~KNOWN_FEATURES
    if unknown:
        bits = ", ".join(str(bit) for bit in range(32) if unknown >> bit & 1)
        raise TooNewError(f"the file requires unknown feature bits {bits}", offset=12, advice="Update recordio")


def check_crc(stored: Buffer, computed: int, what: str, *, offset: int) -> None:
    """Compare a stored u32 with the computed checksum."""
    (expected,) = _U32.unpack(stored)
    if expected != computed:
        raise ChecksumError(
            f"{what} checksum is {computed:#010x}, stored is {expected:#010x}", offset=offset, advice="Restore the file"
        )
