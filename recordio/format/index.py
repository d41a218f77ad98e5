"""The index of a data set: written last, so it is the commit.

    header (64) | head: sizes, shard entries, schema, metadata, names | pad | chunk table of shard 0 | of shard 1 | ...

Chunk tables are only cut out here; they are checked and read when a shard is first touched, so that opening thousands
of shards is one read.

Spec: spec/format.md, section 8.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

from recordio.errors import ChecksumError, MalformedError, MismatchError, TruncatedError
from recordio.format import layout
from recordio.format.checksum import Buffer, crc, digest
from recordio.format.footer import CHUNK_ENTRY_SIZE, Footer, check_digest

INDEX_NAME = "index.rix"
INDEX_HEADER_SIZE = 64

_HEADER = struct.Struct("<8sHHIIIQII16s4x")
_HEAD = struct.Struct("<IIII")
_ENTRY = struct.Struct("<16s32sQQQIIII")
_U32 = struct.Struct("<I")
SHARD_NAME = re.compile(r"shard-([0-9]{5,7})-[0-9a-f]{8}\.rio", re.ASCII)
_SHARD_NAMES = re.compile(rf"(?:{SHARD_NAME.pattern}\n)*", re.ASCII)


class ShardEntry(NamedTuple):
    """One shard, as the index lists it; a tuple, since an index may list many thousands."""

    name: str  # relative file name
    file_id: bytes
    digest: bytes
    file_size: int  # bytes
    num_records: int
    raw_size: int  # bytes
    num_chunks: int
    table_crc: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    schema: bytes
    metadata: bytes  # msgpack of {"metadata": ..., "options": ...}
    shards: tuple[ShardEntry, ...]
    chunk_tables: tuple[Buffer, ...]  # not yet checked against table_crc
    num_records: int
    fingerprint: bytes


def shard_name(shard_id: int, shard_digest: bytes) -> str:
    """The file name of a shard: its ordinal, and eight digits of its digest."""
    return f"shard-{shard_id:05d}-{shard_digest[:4].hex()}.rio"


def data_set_fingerprint(schema: bytes, digests: Sequence[bytes]) -> bytes:
    """16 bytes that tell this data set from others."""
    return digest(16, b"recordio.index", (_U32.pack(len(digests)), schema, *digests))


def encode_index(
    *, schema: bytes, metadata: bytes, shards: Sequence[ShardEntry], chunk_tables: Sequence[bytes]
) -> bytes:
    """The whole index file."""
    names = [shard.name.encode() for shard in shards]
    entries = b"".join(
        _ENTRY.pack(
            s.file_id, s.digest, s.file_size, s.num_records, s.raw_size, s.num_chunks, s.table_crc, len(name), 0
        )
        for s, name in zip(shards, names, strict=True)
    )
    joined_names = b"".join(names)
    head = _HEAD.pack(len(schema), len(metadata), len(joined_names), 0) + entries + schema + metadata + joined_names
    header = _HEADER.pack(
        layout.INDEX_MAGIC, layout.MAJOR_VERSION, layout.MINOR_VERSION, 0, 0, len(shards),
        sum(shard.num_records for shard in shards), len(head), crc(head),
        data_set_fingerprint(schema, [shard.digest for shard in shards]),
    )  # fmt: skip
    return b"".join((header, _U32.pack(crc(header)), head, layout.padding(len(head)), *chunk_tables))


def decode_index(data: Buffer) -> Index:
    """Check and read an index file.

    Raises:
        NotRecordIOError, TruncatedError, ChecksumError, TooNewError, MalformedError, MismatchError.
    """
    layout.check_magic(data, layout.INDEX_MAGIC, "a recordio index")
    if len(data) < INDEX_HEADER_SIZE:
        raise TruncatedError(f"the index ends inside its header, after {len(data)} bytes", offset=0)
    layout.check_crc(data[60:64], crc(data[:60]), "index header", offset=0)
    fields = _HEADER.unpack(data[:60])
    _, major, minor, required, _, num_shards, num_records, head_size, head_crc, fingerprint = fields
    layout.check_version(major, minor, required)
    if (
        not 1 <= num_shards <= layout.MAX_SHARDS
        or num_records > layout.MAX_RECORDS
        or head_size > layout.MAX_INDEX_HEAD_SIZE
    ):
        raise MalformedError(
            f"an index of {num_shards} shards, {num_records} records, {head_size} bytes of head", offset=0
        )
    view = memoryview(data)
    head = view[INDEX_HEADER_SIZE : INDEX_HEADER_SIZE + head_size]
    if len(head) != head_size:
        raise TruncatedError(f"the index ends inside its head, after {len(data)} bytes", offset=INDEX_HEADER_SIZE)
    if crc(head) != head_crc:
        raise ChecksumError(
            f"index head checksum is {crc(head):#010x}, the header says {head_crc:#010x}", offset=INDEX_HEADER_SIZE,
            advice="Restore the index; the shards still open one by one",
        )  # fmt: skip
    schema, metadata, shards = _decode_head(head, num_shards)
    if sum([shard.num_records for shard in shards]) != num_records:
        raise MalformedError("the shards of the index do not add up to its records", offset=INDEX_HEADER_SIZE)
    if data_set_fingerprint(schema, [shard.digest for shard in shards]) != fingerprint:
        raise MismatchError("the fingerprint of the index is not that of its shards", offset=40)
    place = layout.align(INDEX_HEADER_SIZE + head_size)
    ends = list(accumulate([CHUNK_ENTRY_SIZE * shard.num_chunks for shard in shards], initial=place))
    tables = [view[start:stop] for start, stop in pairwise(ends)]
    place = ends[-1]
    if place != len(data):
        kind = TruncatedError if place > len(data) else MalformedError
        raise kind(f"the index has {len(data)} bytes; its chunk tables end at {place}", offset=min(place, len(data)))
    return Index(
        schema=schema, metadata=metadata, shards=tuple(shards), chunk_tables=tuple(tables),
        num_records=num_records, fingerprint=fingerprint,
    )  # fmt: skip


def check_chunk_table(index: Index, shard_id: int) -> None:
    """Verify the chunk table of a shard, when it is first used, up to the digest that the fingerprint covers.

    Raises:
        ChecksumError: table or digest differ.
        MalformedError: the chunks do not add up to the raw size of the shard.
    """
    shard, table = index.shards[shard_id], index.chunk_tables[shard_id]
    if crc(table) != shard.table_crc:
        raise ChecksumError(
            f"chunk table checksum is {crc(table):#010x}, the index says {shard.table_crc:#010x}",
            advice="Restore the index; the shard still opens alone",
        )
    footer = Footer(
        shard_id=shard_id, last=shard_id == len(index.shards) - 1, num_chunks=shard.num_chunks,
        num_records=shard.num_records,
        raw_size=shard.raw_size, digest=shard.digest, chunk_table=bytes(table), metadata=index.metadata,
    )  # fmt: skip
    check_digest(footer, file_id=shard.file_id, schema=index.schema)
    raw_size = sum(struct.unpack_from(f"<{shard.num_chunks}Q", table, 8 * shard.num_chunks))
    if raw_size != shard.raw_size:
        raise MalformedError(f"a chunk table counts {raw_size} raw bytes, its shard {shard.raw_size}")


def _decode_head(head: memoryview, num_shards: int) -> tuple[bytes, bytes, list[ShardEntry]]:
    if len(head) < _HEAD.size:
        raise MalformedError(f"an index head of {len(head)} bytes", offset=INDEX_HEADER_SIZE)
    schema_size, metadata_size, names_size, _ = _HEAD.unpack_from(head)
    entries_end = _HEAD.size + _ENTRY.size * num_shards
    schema_end = entries_end + schema_size
    metadata_end = schema_end + metadata_size
    if (
        schema_size > layout.MAX_SCHEMA_SIZE
        or metadata_size > layout.MAX_METADATA_SIZE
        or metadata_end + names_size != len(head)
    ):
        raise MalformedError(f"the parts of the index head do not fill its {len(head)} bytes", offset=INDEX_HEADER_SIZE)
    columns = zip(*_ENTRY.iter_unpack(head[_HEAD.size : entries_end]), strict=True)
    identities, digests, file_sizes, num_records, raw_sizes, num_chunks, table_crcs, name_sizes, _ = columns
    ends = list(accumulate(name_sizes, initial=0))
    if ends[-1] != names_size:
        raise MalformedError("the shard names of the index do not fill their place", offset=INDEX_HEADER_SIZE)
    text = str(head[metadata_end:], "latin-1")  # a character for each byte; what is no ASCII is no name
    names = [text[start:stop] for start, stop in pairwise(ends)]
    # A name with a directory in it would let an index point outside its data set.
    # All at once, as most are; one by one where the ordinals have more digits, or to say which is wrong.
    beginnings = "".join(map("shard-%05d-".__mod__, range(num_shards)))
    are_in_turn = "".join([name[:12] for name in names]) == beginnings
    if not are_in_turn or "\n" in text or not _SHARD_NAMES.fullmatch("\n".join([*names, ""])):
        for ordinal, name in enumerate(names):
            if not name.startswith(f"shard-{ordinal:05d}-") or SHARD_NAME.fullmatch(name) is None:
                raise MalformedError(
                    f"{name!r} is no name for shard {ordinal}", shard=ordinal, offset=INDEX_HEADER_SIZE
                )
    if max(num_chunks) > layout.MAX_CHUNKS:
        ordinal = num_chunks.index(max(num_chunks))
        raise MalformedError(f"a shard of {num_chunks[ordinal]} chunks", shard=ordinal, offset=INDEX_HEADER_SIZE)
    entries = zip(
        names, identities, digests, file_sizes, num_records, raw_sizes, num_chunks, table_crcs, strict=True
    )
    shards = [*map(ShardEntry._make, entries)]
    return bytes(head[entries_end:schema_end]), bytes(head[schema_end:metadata_end]), shards
