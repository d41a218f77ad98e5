"""The words in which damage is told: flip, cut, zero, swap, change, and re-seal.

    good -> change(good, part, "num_records", 0) -> reseal(changed, good) -> a hostile file with the right checksums

Everything is a function of bytes. `parts` says where every structure of a good file lies; what is edited keeps its
length, so the parts of the good file are those of the edited one. Where lengths must change, `take_apart` and
`put_together` make the file anew. Nothing here is a test.

Spec: spec/format.md, sections 2, 4, 5, 7 and 8.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from recordio.format import chunk, footer, index, layout
from recordio.format.checksum import crc, crc_at, digest

# Structure -> field -> offset in it, in bytes, and struct format.
FIELDS: dict[str, dict[str, tuple[int, str]]] = {
    "file header": {
        "magic": (0, "8s"),
        "major": (8, "H"),
        "minor": (10, "H"),
        "required_features": (12, "I"),
        "optional_features": (16, "I"),
        "shard_id": (20, "I"),
        "file_id": (24, "16s"),
        "schema_size": (40, "I"),
        "schema_crc": (44, "I"),
        "reserved": (48, "12s"),
        "header_crc": (60, "I"),
    },
    "chunk header": {
        "sync": (0, "8s"),
        "file_id": (8, "16s"),
        "chunk_id": (24, "I"),
        "num_records": (28, "I"),
        "first_record": (32, "Q"),
        "stored_size": (40, "Q"),
        "directory_size": (48, "I"),
        "directory_crc": (52, "I"),
        "reserved": (56, "I"),
        "header_crc": (60, "I"),
    },
    "directory head": {"raw_size": (0, "Q"), "num_columns": (8, "I"), "num_frames": (12, "I")},
    "column entry": {
        "codec": (0, "B"),
        "encoding": (1, "B"),
        "length_width": (2, "B"),
        "reserved": (3, "B"),
        "num_frames": (4, "I"),
        "offset": (8, "Q"),
        "stored_size": (16, "Q"),
        "raw_size": (24, "Q"),
    },
    "frame entry": {"num_records": (0, "I"), "raw_size": (4, "I"), "stored_size": (8, "I"), "frame_crc": (12, "I")},
    "footer head": {
        "shard_id": (0, "I"),
        "flags": (4, "I"),
        "num_chunks": (8, "I"),
        "metadata_size": (12, "I"),
        "num_records": (16, "Q"),
        "raw_size": (24, "Q"),
        "digest": (32, "32s"),
    },
    "trailer": {
        "footer_offset": (0, "Q"),
        "footer_size": (8, "Q"),
        "footer_crc": (16, "I"),
        "reserved": (20, "I"),
        "file_id": (24, "16s"),
        "num_records": (40, "Q"),
        "reserved too": (48, "4s"),
        "trailer_crc": (52, "I"),
        "magic": (56, "8s"),
    },
    "index header": {
        "magic": (0, "8s"),
        "major": (8, "H"),
        "minor": (10, "H"),
        "required_features": (12, "I"),
        "optional_features": (16, "I"),
        "num_shards": (20, "I"),
        "num_records": (24, "Q"),
        "head_size": (32, "I"),
        "head_crc": (36, "I"),
        "fingerprint": (40, "16s"),
        "reserved": (56, "4s"),
        "header_crc": (60, "I"),
    },
    "index head": {"schema_size": (0, "I"), "metadata_size": (4, "I"), "names_size": (8, "I"), "reserved": (12, "I")},
    "shard entry": {
        "file_id": (0, "16s"),
        "digest": (16, "32s"),
        "file_size": (48, "Q"),
        "num_records": (56, "Q"),
        "raw_size": (64, "Q"),
        "num_chunks": (72, "I"),
        "table_crc": (76, "I"),
        "name_size": (80, "I"),
        "reserved": (84, "I"),
    },
}
TABLE_ARRAYS = ("stored_size", "raw_size", "num_records", "directory_size", "header_crc")

# What `reseal` computes anew, from the frames up. Leave some out to make a file that disagrees with itself.
SHARD_SEALS = (
    "frames", "directories", "chunk headers", "table", "digest", "footer", "trailer", "schema", "file header",
)  # fmt: skip
_DIRECTORY = ("directory head", "column entry", "frame entry")
INDEX_SEALS = ("tables", "digests", "fingerprint", "head", "index header")


@dataclass(frozen=True, slots=True)
class Part:
    """Where one structure lies in a file: bytes [start, stop)."""

    kind: str  # a key of FIELDS, or "schema", "chunk table", "metadata", "names", "padding", "frame"
    start: int
    stop: int
    chunk: int | None = None
    column: int | None = None
    frame: int | None = None
    shard: int | None = None

    @property
    def size(self) -> int:
        return self.stop - self.start


# -- blind damage --


def flip(data: bytes, bit: int) -> bytes:
    """Turn one bit over; bits are counted from the lowest of byte 0."""
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def cut(data: bytes, size: int) -> bytes:
    """Keep the first `size` bytes only."""
    return data[:size]


def zero(data: bytes, start: int, stop: int) -> bytes:
    """Overwrite bytes [start, stop) with zeros, as a lost disk block would be."""
    return put(data, start, bytes(stop - start))


def swap(data: bytes, first: Part, second: Part) -> bytes:
    """Exchange two stretches of equal size."""
    if first.size != second.size:
        raise ValueError(f"{first} and {second} differ in size")
    exchanged = put(data, first.start, data[second.start : second.stop])
    return put(exchanged, second.start, data[first.start : first.stop])


def put(data: bytes, offset: int, new: bytes) -> bytes:
    """Overwrite what stands at `offset`; the length stays."""
    if offset < 0 or offset + len(new) > len(data):
        raise ValueError(f"{len(new)} bytes at {offset} do not fit into {len(data)}")
    return data[:offset] + new + data[offset + len(new) :]


# -- aimed damage --


def get(data: bytes, part: Part, name: str) -> Any:
    """The value of one field of a structure."""
    offset, code = FIELDS[part.kind][name]
    return struct.unpack_from(f"<{code}", data, part.start + offset)[0]


def change(data: bytes, part: Part, name: str, value: Any) -> bytes:
    """Set one field of a structure; no checksum is touched."""
    offset, code = FIELDS[part.kind][name]
    return put(data, part.start + offset, struct.pack(f"<{code}", value))


def change_table(data: bytes, part: Part, chunk_id: int, name: str, value: int) -> bytes:
    """Set one number of a chunk table, of a footer or of an index."""
    return put(data, *_table_place(part, chunk_id, name, value))


def _table_place(part: Part, chunk_id: int, name: str, value: int) -> tuple[int, bytes]:
    n = part.size // footer.CHUNK_ENTRY_SIZE
    array = TABLE_ARRAYS.index(name)
    start = part.start + n * (0, 8, 16, 20, 24)[array]
    code = "QQIII"[array]
    return start + chunk_id * struct.calcsize(code), struct.pack(f"<{code}", value)


# -- where things lie --


def parts(data: bytes) -> list[Part]:
    """Every structure of a good shard or of a good index, padding included, in the order of the file."""
    found = list(_index_parts(data) if data[:8] == layout.INDEX_MAGIC else _shard_parts(data))
    result: list[Part] = []
    end = 0
    for part in found:
        if part.start > end:
            result.append(Part("padding", end, part.start))
        result.append(part)
        end = part.stop
    if end < len(data):
        result.append(Part("padding", end, len(data)))
    return result


def part(data: bytes, kind: str, **where: int) -> Part:
    """The first structure of a kind: part(data, "frame", chunk=1, column=0)."""
    for candidate in parts(data):
        if candidate.kind == kind and all(getattr(candidate, name) == value for name, value in where.items()):
            return candidate
    raise LookupError(f"no {kind} with {where}")


def _shard_parts(data: bytes) -> Iterator[Part]:
    header = layout.decode_file_header(data[:64])
    yield Part("file header", 0, 64)
    yield Part("schema", 64, 64 + header.schema_size)
    trailer = layout.decode_trailer(data[-64:], len(data) - 64)
    place = header.first_chunk_offset
    chunk_id = 0
    while place < trailer.footer_offset:
        chunk_header, _ = chunk.decode_chunk_header(data[place : place + 64], place)
        yield from _chunk_parts(data, place, chunk_id, chunk_header.directory_size)
        place += chunk_header.stored_size
        chunk_id += 1
    table_end = place + 64 + footer.CHUNK_ENTRY_SIZE * chunk_id
    yield Part("footer head", place, place + 64)
    yield Part("chunk table", place + 64, table_end)
    yield Part("metadata", table_end, place + trailer.footer_size)
    yield Part("trailer", len(data) - 64, len(data))


def _chunk_parts(data: bytes, place: int, chunk_id: int, directory_size: int) -> Iterator[Part]:
    yield Part("chunk header", place, place + 64, chunk_id)
    head = Part("directory head", place + 64, place + 80, chunk_id)
    yield head
    num_columns = get(data, head, "num_columns")
    entries = [
        Part("column entry", start, start + 32, chunk_id, column)
        for column, start in enumerate(range(place + 80, place + 80 + 32 * num_columns, 32))
    ]
    yield from entries
    start = place + 80 + 32 * num_columns
    frames: list[Part] = []
    for entry in entries:
        stored = place + get(data, entry, "offset")
        for frame in range(get(data, entry, "num_frames")):
            frame_entry = Part("frame entry", start, start + 16, chunk_id, entry.column, frame)
            yield frame_entry
            size = get(data, frame_entry, "stored_size")
            frames.append(Part("frame", stored, stored + size, chunk_id, entry.column, frame))
            start += 16
            stored += size
    yield from frames


def _index_parts(data: bytes) -> Iterator[Part]:
    found = index.decode_index(data)
    yield Part("index header", 0, 64)
    yield Part("index head", 64, 80)
    place = 80
    for shard_id in range(len(found.shards)):
        yield Part("shard entry", place, place + 88, shard=shard_id)
        place += 88
    names_size = sum(len(shard.name) for shard in found.shards)
    for kind, size in (("schema", len(found.schema)), ("metadata", len(found.metadata)), ("names", names_size)):
        yield Part(kind, place, place + size)
        place += size
    place = layout.align(place)
    for shard_id, table in enumerate(found.chunk_tables):
        yield Part("chunk table", place, place + len(table), shard=shard_id)
        place += len(table)


# -- checksums made right again --


def reseal(data: bytes, good: bytes, seals: Collection[str] | None = None) -> bytes:
    """Compute the checksums and digests of an edited shard or index anew, so that only the edit itself is wrong.

    Args:
        data: `good` after edits that kept its length.
        good: the file before the edits; it says where the structures lie.
        seals: some of SHARD_SEALS or INDEX_SEALS; all by default.
    """
    if len(data) != len(good):
        raise ValueError(f"{len(data)} bytes edited, {len(good)} before")
    of_index = good[:8] == layout.INDEX_MAGIC
    wanted = set((INDEX_SEALS if of_index else SHARD_SEALS) if seals is None else seals)
    return _reseal_index(data, parts(good), wanted) if of_index else _reseal_shard(data, parts(good), wanted)


def _reseal_shard(data: bytes, places: Sequence[Part], seals: Collection[str]) -> bytes:
    one = {place.kind: place for place in places}
    table = one["chunk table"]
    if "frames" in seals:
        frames = (place for place in places if place.kind == "frame")
        for entry, frame in zip((place for place in places if place.kind == "frame entry"), frames, strict=True):
            data = change(data, entry, "frame_crc", crc(data[frame.start : frame.stop]))
    for header in (place for place in places if place.kind == "chunk header"):
        directory = [place for place in places if place.chunk == header.chunk and place.kind in _DIRECTORY]
        if "directories" in seals:
            data = change(data, header, "directory_crc", crc(data[directory[0].start : directory[-1].stop]))
        if "chunk headers" in seals:
            data = change(data, header, "header_crc", crc_at(header.start, data[header.start : header.start + 60]))
        if "table" in seals:
            data = change_table(data, table, header.chunk or 0, "header_crc", get(data, header, "header_crc"))
    head = one["footer head"]
    if "digest" in seals:
        data = change(data, head, "digest", _digest(
            get(data, one["file header"], "file_id"), _bytes(data, one["schema"]), data[head.start : head.start + 32],
            _bytes(data, table), _bytes(data, one["metadata"]),
        ))  # fmt: skip
    trailer = one["trailer"]
    if "footer" in seals:
        data = change(data, trailer, "footer_crc", crc(data[head.start : one["metadata"].stop]))
    if "trailer" in seals:
        data = change(data, trailer, "trailer_crc", crc_at(trailer.start, data[trailer.start : trailer.start + 52]))
    if "schema" in seals:
        data = change(data, one["file header"], "schema_crc", crc(_bytes(data, one["schema"])))
    if "file header" in seals:
        data = change(data, one["file header"], "header_crc", crc(data[:60]))
    return data


def _reseal_index(data: bytes, places: Sequence[Part], seals: Collection[str]) -> bytes:
    one = {place.kind: place for place in places}
    schema, metadata, header = _bytes(data, one["schema"]), _bytes(data, one["metadata"]), one["index header"]
    entries = [place for place in places if place.kind == "shard entry"]
    tables = [place for place in places if place.kind == "chunk table"]
    for entry, table in zip(entries, tables, strict=True):
        if "tables" in seals:
            data = change(data, entry, "table_crc", crc(_bytes(data, table)))
        if "digests" in seals:
            numbers = (get(data, entry, name) for name in ("num_records", "raw_size"))
            num_chunks = table.size // footer.CHUNK_ENTRY_SIZE
            head = struct.pack("<IIIIQQ", entry.shard, entry is entries[-1], num_chunks, len(metadata), *numbers)
            found = _digest(get(data, entry, "file_id"), schema, head, _bytes(data, table), metadata)
            data = change(data, entry, "digest", found)
    if "fingerprint" in seals:
        digests = [get(data, entry, "digest") for entry in entries]
        data = change(data, header, "fingerprint", index.data_set_fingerprint(schema, digests))
    if "head" in seals:
        data = change(data, header, "head_crc", crc(data[64 : one["names"].stop]))
    if "index header" in seals:
        data = change(data, header, "header_crc", crc(data[:60]))
    return data


def _digest(file_id: bytes, schema: bytes, head: bytes, table: bytes, metadata: bytes) -> bytes:
    return digest(footer.DIGEST_SIZE, b"recordio.shard", (file_id, schema, head, table, metadata))


def _bytes(data: bytes, place: Part) -> bytes:
    return data[place.start : place.stop]


# -- files made anew, where lengths change --


@dataclass(slots=True)
class FrameParts:
    num_records: int
    raw_size: int
    stored: bytes


@dataclass(slots=True)
class ColumnParts:
    codec: int
    length_width: int
    frames: list[FrameParts]
    encoding: int = 0
    raw_size: int | None = None  # None: that of the frames


@dataclass(slots=True)
class ShardParts:
    """A shard as values; `put_together` gives it sizes, offsets and checksums that are right."""

    schema: bytes
    chunks: list[list[ColumnParts]]
    metadata: bytes
    file_id: bytes
    shard_id: int = 0
    last: bool = True
    trailing: bytes = field(default=b"")  # after the footer's metadata, inside footer_size


def take_apart(data: bytes) -> ShardParts:
    """The values of a good shard."""
    places = parts(data)
    one = {place.kind: place for place in places}
    chunks: list[list[ColumnParts]] = []
    for place in places:
        if place.kind == "chunk header":
            chunks.append([])
        elif place.kind == "column entry":
            codec, width, encoding = (get(data, place, name) for name in ("codec", "length_width", "encoding"))
            raw_size = get(data, place, "raw_size") if encoding else None
            chunks[-1].append(ColumnParts(codec, width, [], encoding, raw_size))
        elif place.kind == "frame entry":
            frame = FrameParts(get(data, place, "num_records"), get(data, place, "raw_size"), b"")
            chunks[-1][place.column or 0].frames.append(frame)
        elif place.kind == "frame":
            chunks[-1][place.column or 0].frames[place.frame or 0].stored = _bytes(data, place)
    header, head = one["file header"], one["footer head"]
    return ShardParts(
        schema=_bytes(data, one["schema"]), chunks=chunks, metadata=_bytes(data, one["metadata"]),
        file_id=get(data, header, "file_id"), shard_id=get(data, header, "shard_id"),
        last=bool(get(data, head, "flags")),
    )  # fmt: skip


def put_together(shard: ShardParts) -> bytes:
    """A shard of these values; everything that is not given is right, so that only what is given can be wrong."""
    header = layout.FileHeader(
        shard_id=shard.shard_id, file_id=shard.file_id, schema_size=len(shard.schema), schema_crc=crc(shard.schema)
    )
    data = layout.encode_file_header(header) + shard.schema
    data += layout.padding(len(data))
    entries = []
    first_record = 0
    for chunk_id, columns in enumerate(shard.chunks):
        encoded, entry = _encode_chunk(columns, shard.file_id, chunk_id, first_record, len(data))
        entries.append(entry)
        data += encoded
        first_record += entry.num_records
    made = footer.make_footer(
        file_id=shard.file_id, schema=shard.schema, shard_id=shard.shard_id, last=shard.last, chunks=entries,
        metadata=shard.metadata,
    )  # fmt: skip
    encoded = footer.encode_footer(made) + shard.trailing
    trailer = layout.Trailer(
        footer_offset=len(data), footer_size=len(encoded), footer_crc=crc(encoded), file_id=shard.file_id,
        num_records=first_record,
    )  # fmt: skip
    data += encoded + layout.padding(len(encoded))
    return data + layout.encode_trailer(trailer, len(data))


def _encode_chunk(
    columns: Sequence[ColumnParts], file_id: bytes, chunk_id: int, first_record: int, offset: int
) -> tuple[bytes, footer.ChunkEntry]:
    placed, stored_size = chunk.place_columns([_column_chunk(column) for column in columns])
    directory = chunk.encode_directory(placed)
    num_records = sum(frame.num_records for frame in columns[0].frames)
    header = chunk.encode_chunk_header(
        chunk.ChunkHeader(
            file_id=file_id, chunk_id=chunk_id, num_records=num_records, first_record=first_record,
            stored_size=stored_size, directory_size=len(directory), directory_crc=crc(directory),
        ),
        offset,
    )  # fmt: skip
    data = header + directory + layout.padding(len(directory))
    for column in columns:
        stored = b"".join(frame.stored for frame in column.frames)
        data += stored + layout.padding(len(stored))
    raw_size = sum(entry.raw_size for entry in placed)
    header_crc = int.from_bytes(header[60:], "little")
    return data, footer.ChunkEntry(stored_size, raw_size, num_records, len(directory), header_crc)


def _column_chunk(column: ColumnParts) -> chunk.ColumnChunk:
    raw_size = sum(frame.raw_size for frame in column.frames) if column.raw_size is None else column.raw_size
    return chunk.ColumnChunk(
        codec=column.codec, encoding=column.encoding, length_width=column.length_width, offset=0,
        stored_size=sum(len(frame.stored) for frame in column.frames), raw_size=raw_size,
        frames=tuple(
            chunk.Frame(frame.num_records, frame.raw_size, len(frame.stored), crc(frame.stored))
            for frame in column.frames
        ),
    )  # fmt: skip


def shard_entry(shard: bytes, name: str | None = None) -> index.ShardEntry:
    """What an index says of a shard."""
    one = {place.kind: place for place in parts(shard)}
    head, table = one["footer head"], one["chunk table"]
    shard_digest = get(shard, head, "digest")
    return index.ShardEntry(
        name=name or index.shard_name(get(shard, head, "shard_id"), shard_digest), digest=shard_digest,
        file_id=get(shard, one["file header"], "file_id"), file_size=len(shard),
        num_records=get(shard, head, "num_records"), raw_size=get(shard, head, "raw_size"),
        num_chunks=get(shard, head, "num_chunks"), table_crc=crc(_bytes(shard, table)),
    )  # fmt: skip


def index_of(shards: Sequence[bytes], **changes: Any) -> bytes:
    """The index of complete shards, in this order; `changes` replaces values of every entry (name=..., ...)."""
    one = {place.kind: place for place in parts(shards[0])}
    return index.encode_index(
        schema=_bytes(shards[0], one["schema"]), metadata=_bytes(shards[0], one["metadata"]),
        shards=[shard_entry(shard)._replace(**changes) for shard in shards],
        chunk_tables=[_bytes(shard, part(shard, "chunk table")) for shard in shards],
    )  # fmt: skip
