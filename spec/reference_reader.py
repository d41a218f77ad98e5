"""A second reader of the recordio format, written from format.md alone: short, slow, strict, in the order of the spec.

    python reference_reader.py PATH     a shard, or the directory of a data set: its records as JSON lines

It loads whole files and imports nothing from `recordio`, so that the two can be tested against each other. Leaves are
numpy scalars and arrays (bfloat16 and float8: their bits, as uint16 and uint8), str, bytes, object arrays of these,
msgpack objects, None. Where format.md leaves a choice, a comment "Open:" says which one is taken here.
"""
import contextlib
import hashlib
import itertools
import json
import math
import pathlib
import struct
import sys
from collections import namedtuple
from collections.abc import Iterator
from typing import Any

import crc32c
import numpy as np
import zstandard

# ---- Section 10: limits. MAX_24 is that of the records of a chunk, the chunks of a shard, schema and metadata.
MAX_FRAME, MAX_24, MAX_COLUMNS, MAX_RANK, MAX_DEPTH, MAX_DIMENSION = 2**30, 2**24, 2**16, 32, 32, 2**40
MAX_DIRECTORY, MAX_HEAD, MAX_SHARDS, MAX_RECORDS, MAX_NESTING = 2**28, 2**29, 2**20, 2**63 - 1, 512

# ---- Section 1: conventions
class FormatError(Exception):
    """A rule of the format is broken; `kind` is one of the words of section 1."""
    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind, self.message = kind, message

def require(condition: object, kind: str, message: str) -> None:
    if not condition:
        raise FormatError(kind, message)

@contextlib.contextmanager
def located(where: str) -> Iterator[None]:
    try:
        yield
    except FormatError as error:
        raise FormatError(error.kind, f"{where}: {error.message}") from None

def take(data: Any, start: int, size: int, what: str, kind: str = "malformed") -> Any:
    require(start + size <= len(data), kind, f"{what} ends at byte {start + size} of {len(data)}")
    return data[start:start + size]

def check_crc(stored: int, what: str, *parts: Any, kind: str = "checksum") -> None:
    found = crc32c.crc32c(b"".join(parts))
    require(found == stored, kind, f"crc of {what} is {found:#010x}, stored is {stored:#010x}")

def blake2b(size: int, person: bytes, *parts: Any) -> bytes:
    return hashlib.blake2b(b"".join(parts), digest_size=size, person=person).digest()

def align(n: int) -> int:
    return (n + 63) // 64 * 64

MSGPACK_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
MSGPACK_NUMBERS = dict(zip(range(0xCA, 0xD4), "fdBHIQbhiq", strict=True))       # float 32 64, uint 8 to 64, int 8 to 64
MSGPACK_COUNTED: dict[int, Any] = {     # type, bytes of its count
    0xC4: (bytes, 1), 0xC5: (bytes, 2), 0xC6: (bytes, 4), 0xD9: (str, 1), 0xDA: (str, 2), 0xDB: (str, 4),
    0xDC: (list, 2), 0xDD: (list, 4), 0xDE: (dict, 2), 0xDF: (dict, 4)}

def decode_msgpack(data: Any) -> Any:
    found, end = msgpack_object(data, 0, 0)
    require(end == len(data), "malformed", f"msgpack object of {end} bytes in {len(data)}")
    return found

def msgpack_object(data: Any, at: int, nesting: int) -> Any:
    """Return the object at `at` and where it ends. The package msgpack lets timestamps, deep nesting and equal keys
    through, and allocates for a count before it sees the elements."""
    tag, at = take(data, at, 1, "msgpack")[0], at + 1
    if tag <= 0x7F or tag >= 0xE0:
        return tag - (tag & 0x80) * 2, at
    if tag in MSGPACK_CONSTANTS:
        return MSGPACK_CONSTANTS[tag], at
    if tag in MSGPACK_NUMBERS:
        size = struct.calcsize(MSGPACK_NUMBERS[tag])
        return struct.unpack(">" + MSGPACK_NUMBERS[tag], take(data, at, size, "msgpack"))[0], at + size
    kind: Any
    if tag <= 0xBF:
        kind, count = (str, tag & 31) if tag >= 0xA0 else (list if tag >= 0x90 else dict, tag & 15)
    else:
        require(tag in MSGPACK_COUNTED, "malformed", f"msgpack tag {tag:#x}: an extension type, or none at all")
        kind, width = MSGPACK_COUNTED[tag]
        count, at = int.from_bytes(take(data, at, width, "msgpack"), "big"), at + width
    found: Any
    try:
        if kind in (bytes, str):
            raw = bytes(take(data, at, count, "msgpack"))
            return (raw if kind is bytes else raw.decode()), at + count
        require(nesting < MAX_NESTING, "malformed", "msgpack nests too deep")   # Open: `[]` counts as 1, a scalar as 0
        items = []
        for _ in range(count * 2 if kind is dict else count):
            item, at = msgpack_object(data, at, nesting + 1)
            items.append(item)
        found = items if kind is list else dict(zip(items[::2], items[1::2], strict=True))
    except (UnicodeDecodeError, TypeError) as error:        # Open: str that is not UTF-8, keys that Python cannot hash
        raise FormatError("malformed", f"msgpack: {error}") from None
    require(len(found) == count, "malformed", "equal keys in a msgpack map")    # Open: a dict loses one (1 == True)
    return found, at

# ---- Section 2: shard. How it begins; section 7 goes on.
SHARD_MAGIC, INDEX_MAGIC = b"\x89RIO\r\n\x1a\n", b"\x89RIX\r\n\x1a\n"

def decode_file_header(data: Any, magic: bytes) -> Any:
    """Check what the headers of shard and index have in common, in the order that section 2 demands."""
    found = bytes(data[:8])             # Open: fewer than 8 bytes, all right, are truncated
    hint = ", perhaps damaged by text-mode transfer" if found[1:4] in (b"RIO", b"RIX") else ""
    require(magic.startswith(found), "not recordio", f"the file begins with {found!r}{hint}")
    header = take(data, 0, 64, "file header", "truncated")
    check_crc(int.from_bytes(header[60:], "little"), "file header", header[:60])
    major, _, features = struct.unpack_from("<HHI", header, 8)
    require(major == 0 and features == 0, "too new", f"major version {major}, required features {features:#x}")
    return header

# ---- Section 3: schema
DTYPES = {"bool": "?", "bfloat16": "<u2", "complex64": "<c8", "complex128": "<c16",
          "str": "", "bytes": "", "msgpack": "",
          **{f"{kind}{8 * size}": f"<{kind[0]}{size}" for kind in ("int", "uint") for size in (1, 2, 4, 8)},
          **{f"float{8 * size}": f"<f{size}" for size in (2, 4, 8)},
          **{f"float8_{kind}": "u1" for kind in
             ("e3m4", "e4m3", "e4m3b11fnuz", "e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz", "e8m0fnu")}}

Column = namedtuple("Column", "id name named dtype shape optional row_size")        # row_size: None if variable

def is_count(x: object, limit: int) -> bool:
    return type(x) is int and 0 <= x <= limit       # type, not isinstance: True is no integer here

def decode_column(entry: Any) -> Column:
    require(type(entry) is dict and entry.keys() >= set(Column._fields[:6]), "malformed", f"column {entry!r:.200}")
    with located(f"column {entry['name']!r:.200}"):
        _, name, named, dtype, shape, optional = fields = [entry[key] for key in Column._fields[:6]]
        require(is_count(entry["id"], 2**31 - 1) and type(name) is type(dtype) is str
                and type(named) is type(optional) is bool, "malformed", f"{entry!r:.200}")
        require(dtype in DTYPES, "too new", f"dtype {dtype!r}")
        require(shape is None or (type(shape) is list and len(shape) <= MAX_RANK
                and all(d is None or is_count(d, MAX_DIMENSION) for d in shape)), "malformed", f"shape {shape!r:.200}")
        require(dtype != "msgpack" or (shape == [] and not optional), "malformed", "msgpack with a shape, or optional")
        fixed = DTYPES[dtype] and shape is not None and None not in shape
        row_size = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize if fixed else None
        require(row_size is None or row_size <= MAX_FRAME, "malformed", f"a row has {row_size} bytes")
        return Column._make([*fields, row_size])

def leaves(node: Any, depth: int = 0) -> list[int]:
    """Give the integers of the structure, depth first."""
    if type(node) is int:
        return [node]
    require(depth < MAX_DEPTH, "malformed", "structure is too deep")        # Open: a lone leaf has depth 0
    require(type(node) is list and len(node) == 2 and node[0] in ("tuple", "list", "dict") and type(node[1]) is list,
            "malformed", f"node {node!r:.80}")
    if node[0] == "dict":
        require(all(type(item) is list and len(item) == 2 and type(item[0]) is str for item in node[1])
                and len({key for key, _ in node[1]}) == len(node[1]), "malformed", "keys are not distinct strings")
    return [leaf for child in node[1] for leaf in leaves(child[1] if node[0] == "dict" else child, depth + 1)]

def decode_schema(raw: Any) -> Any:
    """Return the structure and the columns."""
    found = decode_msgpack(raw)
    require(type(found) is dict and type(found.get("columns")) is list, "malformed", "no list of columns")
    require(len(found["columns"]) <= MAX_COLUMNS, "malformed", "too many columns")
    columns = [decode_column(entry) for entry in found["columns"]]
    require(len({c.id for c in columns}) == len({c.name for c in columns}) == len(columns), "malformed", "not distinct")
    require(leaves(found.get("structure")) == list(range(len(columns))), "malformed", "leaves are not the columns")
    return found["structure"], columns

def build_record(node: Any, values: list[Any]) -> Any:
    if type(node) is int:
        return values[node]
    if node[0] == "dict":
        return {key: build_record(child, values) for key, child in node[1]}
    return (tuple if node[0] == "tuple" else list)(build_record(child, values) for child in node[1])

# ---- Section 4: chunk
def decode_chunk(data: Any, schema: Any, file_id: bytes, place: tuple[int, int, int], entry: Any) -> list[Any]:
    """Return the records of the chunk that `entry` of the table describes; place: chunk_id, offset, first_record."""
    (chunk_id, offset, first_record), (structure, columns) = place, schema
    header = take(data, offset, 64, "chunk header", "truncated")
    sync, *fields, directory_crc, _, header_crc = struct.unpack("<8s16sIIQQIIII", header)
    found_file_id, found_chunk_id, num_records, found_first_record, stored_size, directory_size = fields
    require(sync == b"\xf1CHK\r\n\x1a\xf8", "malformed", f"sync word is {sync!r}")
    check_crc(header_crc, "chunk header", struct.pack("<Q", offset), header[:60])
    require((found_file_id, found_chunk_id) == (file_id, chunk_id), "mismatch", "chunk of another file or place")
    require(1 <= num_records <= MAX_24 and stored_size % 64 == 0 and directory_size <= MAX_DIRECTORY
            and found_first_record == first_record, "malformed", f"chunk header has {fields[1:]}")
    found = (stored_size, entry[1], num_records, directory_size, header_crc)
    require(found == entry, "mismatch", f"chunk header gives {found}, chunk table {entry}")     # Open: in a lone shard
    chunk = take(data, offset, stored_size, "chunk", "truncated")
    directory = take(chunk, 64, directory_size, "directory")
    check_crc(directory_crc, "directory", directory)
    values: list[list[Any]] = []
    for column, (codec, width, frames) in zip(columns, decode_directory(directory, entry, columns), strict=True):
        values.append([])
        for num_rows, raw_size, position, size, frame_crc in frames:
            first = first_record + len(values[-1])
            with located(f"column {column.name!r}, records {first} to {first + num_rows}, byte {offset + position}"):
                stored = take(chunk, position, size, "frame")
                check_crc(frame_crc, "frame", stored)
                raw = decompress(stored, raw_size) if codec else stored
                values[-1] += decode_frame(column, raw, num_rows, width)
    return [build_record(structure, [rows[i] for rows in values]) for i in range(num_records)]

# ---- Section 5: directory and frames
def decode_directory(directory: Any, chunk: Any, columns: list[Column]) -> list[Any]:
    """Return for each column (codec, length_width, [(num_records, raw_size, offset in the chunk, stored_size, crc)])"""
    chunk_raw_size, num_columns, num_frames = struct.unpack("<QII", take(directory, 0, 16, "directory head"))
    require(num_columns == len(columns) and len(directory) == 16 + 32 * num_columns + 16 * num_frames, "malformed",
            f"{len(directory)} bytes of directory for {num_columns} columns and {num_frames} frames")
    entries = list(struct.iter_unpack("<BBBxIQQQ", directory[16:16 + 32 * num_columns]))
    frames = struct.iter_unpack("<IIII", directory[16 + 32 * num_columns:])
    require(sum(e[3] for e in entries) == num_frames and sum(e[6] for e in entries) == chunk_raw_size == chunk[1],
            "malformed", "the columns do not sum to the chunk")         # Open: raw_size of the chunk table, kind
    end, result = 64 + len(directory), []
    for column, (codec, encoding, width, count, offset, stored_size, raw_size) in zip(columns, entries, strict=True):
        with located(f"column {column.name!r}"):
            require(codec in (0, 1) and encoding == 0, "too new", f"codec {codec}, encoding {encoding}")
            require(width in ((1, 2, 4, 8) if column.row_size is None else (0,)), "malformed", f"length_width {width}")
            require(offset == align(end), "malformed", f"offset {offset} behind byte {end}")
            end, own = offset, []
            for rows, raw, stored, frame_crc in itertools.islice(frames, count):
                require(rows >= 1 and raw <= MAX_FRAME and (stored <= raw + raw // 256 + 64 if codec else stored == raw)
                        and (column.row_size is None or raw == rows * (column.row_size + column.optional)),
                        "malformed", f"frame of {rows} records, {raw} bytes raw, {stored} stored")
                own.append((rows, raw, end, stored, frame_crc))
                end += stored
            sums = [sum(frame[i] for frame in own) for i in (0, 1, 3)]
            require(sums == [chunk[2], raw_size, stored_size], "malformed", f"frames sum to {sums}")
            result.append((codec, width, own))
    require(align(end) == chunk[0], "malformed", f"the columns end at {end}, the chunk at {chunk[0]}")
    return result

def decompress(stored: Any, raw_size: int) -> Any:
    """Decode exactly one Zstandard frame of a stated size. Its blocks are walked (RFC 8878, section 3.1.1), since
    python-zstandard believes the size in the frame, ignores what follows the frame, and skips frames of size 0."""
    require(bytes(take(stored, 0, 5, "zstd header")[:4]) == b"\x28\xb5\x2f\xfd", "malformed", "not a zstd frame")
    single_segment, has_checksum = stored[4] >> 5 & 1, stored[4] >> 2 & 1
    dictionary_at = 6 - single_segment              # otherwise a window descriptor stands before it
    size_at = dictionary_at + (0, 1, 2, 4)[stored[4] & 3]
    position = size_at + (single_segment, 2, 4, 8)[stored[4] >> 6]
    size = int.from_bytes(stored[size_at:position], "little") + (256 if position - size_at == 2 else 0)
    require(position > size_at and size == raw_size and not any(stored[dictionary_at:size_at]), "malformed",
            f"zstd frame states no size, or {size} and not {raw_size}, or a dictionary")        # Open: dictionary id 0
    last = 0
    while not last:
        block = int.from_bytes(take(stored, position, 3, "zstd block header"), "little")
        last, block_type, block_size = block & 1, block >> 1 & 3, block >> 3
        require(block_type != 3 and (raw_size or block == 1), "malformed", f"zstd block {block:#x}")
        position += 3 + (1 if block_type == 1 else block_size)
    require(position + 4 * has_checksum == len(stored), "malformed", f"zstd frame of {position} bytes in {len(stored)}")
    try:
        raw = zstandard.ZstdDecompressor().decompress(stored)
    except zstandard.ZstdError as error:
        raise FormatError("malformed", str(error)) from None
    require(len(raw) == raw_size, "malformed", f"zstd gives {len(raw)} bytes, not {raw_size}")
    return memoryview(raw)

# ---- Section 6: contents of a frame
def decode_frame(column: Column, raw: Any, num_rows: int, width: int) -> list[Any]:
    at = 0

    def part(count: int, dtype: str) -> Any:
        nonlocal at
        start, at = at, at + count * np.dtype(dtype).itemsize
        return np.frombuffer(take(raw, start, at - start, "part of the frame"), dtype)

    valid = part(num_rows, "u1").tolist() if column.optional else [1] * num_rows
    ranks = part(num_rows, "u1").tolist() if column.shape is None else [len(column.shape)] * num_rows
    require(max(valid) <= 1 and max(ranks) <= MAX_RANK, "malformed", "validity or rank of a row")
    templates = [[None] * rank if column.shape is None else column.shape for rank in ranks]
    dims = iter(part(sum(t.count(None) for t in templates), f"<u{width or 1}").tolist())
    shapes, counts = [], []
    for ok, template in zip(valid, templates, strict=True):
        unknown = [next(dims) for _ in range(template.count(None))]
        require(ok or (not any(unknown) and (column.shape is not None or not template)), "malformed", "dims of None")
        filling = iter(unknown)
        shapes.append([next(filling) if d is None else d for d in template])
        # Open: with a dimension of 0 the others are free, but numpy refuses what it could never address.
        require(max(shapes[-1], default=0) <= MAX_DIMENSION and math.prod(d or 1 for d in shapes[-1]) < 2**59,
                "malformed", f"dimensions {shapes[-1]}")
        counts.append(math.prod(shapes[-1]) if ok or column.row_size is not None else 0)
    if DTYPES[column.dtype]:
        items = part(sum(counts), DTYPES[column.dtype])
        require(column.dtype != "bool" or not any(items.view("u1") > 1), "malformed", "bool is neither 0 nor 1")
    else:
        lengths = part(sum(counts), f"<u{width}").tolist()
        decode: Any = {"str": bytes.decode, "bytes": bytes, "msgpack": decode_msgpack}[column.dtype]
        try:
            items = np.fromiter((decode(part(length, "u1").tobytes()) for length in lengths), object, len(lengths))
        except UnicodeDecodeError as error:
            raise FormatError("malformed", str(error)) from None
    require(at == len(raw), "malformed", f"the parts have {at} bytes, the frame {len(raw)}")
    rows, end = [], 0
    for ok, shape, count in zip(valid, shapes, counts, strict=True):
        values, end = items[end:end + count], end + count
        require(ok or not any(values.tobytes()), "malformed", "bytes of None are not zero")     # Open: or ignored
        rows.append(None if not ok else values.reshape(shape) if shape else values[0])
    return rows

# ---- Section 7: footer and trailer
# identity: what an index says of the shard, that is a shard entry without its name, and the chunk table
Shard = namedtuple("Shard", "schema records metadata options shard_id last identity raw_schema raw_metadata")

def decode_table(table: Any) -> list[Any]:
    """Return for each chunk (stored_size, raw_size, num_records, directory_size, header_crc)."""
    n = len(table) // 28
    arrays = struct.unpack(f"<{2 * n}Q{3 * n}I", table)
    return [arrays[i::n] for i in range(n)]

def read_shard(path: str | pathlib.Path) -> Shard:
    data = memoryview(pathlib.Path(path).read_bytes())
    with located(str(path)):
        return decode_shard(data)

def decode_shard(data: memoryview) -> Shard:
    header = decode_file_header(data, SHARD_MAGIC)
    shard_id, file_id, schema_size, schema_crc = struct.unpack_from("<I16sII", header, 20)
    require(schema_size <= MAX_24, "malformed", f"schema of {schema_size} bytes")
    raw_schema = take(data, 64, schema_size, "schema", "truncated")
    check_crc(schema_crc, "schema", raw_schema)
    schema = decode_schema(raw_schema)
    # Open: damage inside the trailer is "incomplete" (section 7), not "checksum"; footer_offset is a multiple of 64.
    trailer_offset = len(data) - 64
    require(trailer_offset >= 64 and bytes(data[-8:]) == b"\xf1RIOEND\n", "incomplete", "no trailer at the end")
    trailer = struct.unpack("<QQI4x16sQ4xI", data[-64:-8])
    footer_offset, footer_size, footer_crc, trailer_file_id, trailer_num_records, trailer_crc = trailer
    check_crc(trailer_crc, "trailer", struct.pack("<Q", trailer_offset), data[-64:-12], kind="incomplete")
    require(trailer_file_id == file_id, "mismatch", "trailer of another file")
    require(footer_size >= 64 and footer_offset % 64 == 0 and footer_offset >= align(64 + schema_size)
            and footer_offset + align(footer_size) == trailer_offset, "malformed", f"trailer has {trailer}")
    footer = data[footer_offset:footer_offset + footer_size]
    check_crc(footer_crc, "footer", footer)
    footer_shard_id, flags, num_chunks, metadata_size, num_records, raw_size = struct.unpack_from("<IIIIQQ", footer)
    table_end = 64 + 28 * num_chunks
    require(num_chunks <= MAX_24 and metadata_size <= MAX_24 and table_end + metadata_size == footer_size
            and trailer_num_records == num_records <= MAX_RECORDS, "malformed", "head of the footer")
    require(footer_shard_id == shard_id, "mismatch", f"footer is of shard {footer_shard_id}")      # Open: kind
    table, raw_metadata, digest = footer[64:table_end], footer[table_end:], bytes(footer[32:64])
    found = blake2b(32, b"recordio.shard", header, raw_schema, footer[:32], table, raw_metadata)
    require(found == digest, "checksum", f"digest of the shard is {found.hex()}, stored is {digest.hex()}")
    metadata = decode_metadata(raw_metadata)
    entries = decode_table(table)
    records: list[Any] = []
    offset = align(64 + schema_size)
    require([sum(e[i] for e in entries) for i in (0, 1, 2)] == [footer_offset - offset, raw_size, num_records],
            "malformed", "the chunk table does not sum to the footer")
    for chunk_id, entry in enumerate(entries):
        with located(f"chunk {chunk_id} at byte {offset}"):
            records += decode_chunk(data[:footer_offset], schema, file_id, (chunk_id, offset, len(records)), entry)
        offset += entry[0]
    identity = (file_id, digest, len(data), num_records, raw_size, num_chunks, bytes(table))
    return Shard(schema, records, metadata["metadata"], metadata["options"], shard_id, bool(flags & 1), identity,
                 bytes(raw_schema), bytes(raw_metadata))

def decode_metadata(raw: Any) -> Any:
    found = decode_msgpack(raw)
    require(type(found) is dict and type(found.get("metadata")) is type(found.get("options")) is dict, "malformed",
            "metadata is no map of two maps")           # Open: both keys are required
    return found

# ---- Section 8: index
Index = namedtuple("Index", "schema metadata options fingerprint names identities raw_schema raw_metadata")

def decode_index(data: Any) -> Index:
    header = decode_file_header(data, INDEX_MAGIC)
    num_shards, num_records, head_size, head_crc, fingerprint = struct.unpack_from("<IQII16s", header, 20)
    require(num_shards <= MAX_SHARDS and num_records <= MAX_RECORDS and head_size <= MAX_HEAD, "malformed", "header")
    head = take(data, 64, head_size, "head", "truncated")
    check_crc(head_crc, "head", head)
    schema_size, metadata_size, names_size, _ = struct.unpack("<IIII", take(head, 0, 16, "head"))
    sizes = [16, 88 * num_shards, schema_size, metadata_size, names_size]
    require(sum(sizes) == head_size and schema_size <= MAX_24 and metadata_size <= MAX_24, "malformed", f"{sizes}")
    ends = list(itertools.accumulate(sizes))
    raw_entries, raw_schema, raw_metadata, raw_names = (head[a:b] for a, b in itertools.pairwise(ends))
    entries = list(struct.iter_unpack("<16s32sQQQIII4x", raw_entries))
    found = blake2b(16, b"recordio.index", struct.pack("<I", num_shards), raw_schema, *(e[1] for e in entries))
    require(found == fingerprint, "mismatch", f"fingerprint is {found.hex()}, stored is {fingerprint.hex()}")
    require(sum(e[3] for e in entries) == num_records and sum(e[7] for e in entries) == names_size, "malformed",
            "the shard entries do not sum to the index")
    metadata, names, identities, name_at, table_at = decode_metadata(raw_metadata), [], [], 0, align(64 + head_size)
    for shard_id, (*identity, num_chunks, table_crc, name_size) in enumerate(entries):
        with located(f"shard {shard_id}"):
            name = bytes(raw_names[name_at:name_at + name_size])
            prefix = b"shard-%05d-" % shard_id          # Open: no more zeros than five digits need
            require(len(name) == len(prefix) + 12 and name.startswith(prefix) and name.endswith(b".rio")
                    and set(name[-12:-4]) <= set(b"0123456789abcdef"), "malformed", f"file name {name!r:.200}")
            require(num_chunks <= MAX_24, "malformed", f"{num_chunks} chunks")
            table = bytes(take(data, table_at, 28 * num_chunks, "chunk table", "truncated"))
            check_crc(table_crc, "chunk table", table)
            sums = [sum(chunk[i] for chunk in decode_table(table)) for i in (2, 1)]
            require(sums == identity[3:5], "malformed", f"the chunk table sums to {sums}, not {identity[3:5]}")
            names.append(name.decode())
            identities.append((*identity, num_chunks, table))
            name_at, table_at = name_at + name_size, table_at + len(table)
    require(table_at == len(data), "malformed", f"{len(data) - table_at} bytes behind the last chunk table")
    return Index(decode_schema(raw_schema), metadata["metadata"], metadata["options"], fingerprint, names, identities,
                 bytes(raw_schema), bytes(raw_metadata))

# ---- Section 9: the directory of a data set
DataSet = namedtuple("DataSet", "contents shards records")       # contents: an Index

def read_data_set(directory: str | pathlib.Path) -> DataSet:
    path = pathlib.Path(directory) / "index.rix"
    require(path.is_file(), "incomplete", f"{path} does not exist")
    with located(str(path)):
        contents = decode_index(memoryview(path.read_bytes()))
    shards = []
    for shard_id, (name, identity) in enumerate(zip(contents.names, contents.identities, strict=True)):
        require(path.with_name(name).is_file(), "incomplete", f"{name} does not exist")     # Open: kind
        shard = read_shard(path.with_name(name))
        last = shard_id == len(contents.names) - 1
        expected = (*identity, shard_id, last, contents.raw_schema, contents.raw_metadata)
        found = (*shard.identity, shard.shard_id, shard.last, shard.raw_schema, shard.raw_metadata)
        words = ("file_id", "digest", "file_size", "num_records", "raw_size", "num_chunks", "chunk table",
                 "shard_id", "flag last", "schema", "metadata")
        differ = [word for word, a, b in zip(words, expected, found, strict=True) if a != b]
        require(not differ, "mismatch", f"{path.with_name(name)} and the index differ in {differ}")
        shards.append(shard)
    return DataSet(contents, shards, [record for shard in shards for record in shard.records])

# ---- Records as JSON lines
def plain(x: Any) -> Any:
    if isinstance(x, bytes):
        return {"bytes": x.hex()}
    if isinstance(x, complex):
        return [x.real, x.imag]
    if isinstance(x, np.ndarray | np.generic):
        return plain(x.tolist())
    if isinstance(x, dict) and not all(isinstance(key, str) for key in x):
        return {"map": plain(list(x.items()))}
    if isinstance(x, dict):
        return {key: plain(value) for key, value in x.items()}
    return list(map(plain, x)) if isinstance(x, list | tuple) else x

def main() -> int:
    sys.setrecursionlimit(10_000)       # msgpack nests up to 512 deep, and plain() takes up to three calls for a level
    path = pathlib.Path(sys.argv[1])
    try:
        records = read_data_set(path).records if path.is_dir() else read_shard(path).records
    except FormatError as error:
        sys.stderr.write(f"{error.kind}: {error.message}\n")
        return 1
    for record in records:
        sys.stdout.write(json.dumps(plain(record)) + "\n")
    return 0

if __name__ == "__main__":
    sys.exit(main())
