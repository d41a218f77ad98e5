"""A second reader of the recordio format, from format.md alone, in its order: short, slow, strict. See `__main__`."""
import hashlib
import itertools
import json
import math
import pathlib
import re
import struct
import sys
from collections import namedtuple
from typing import Any

import crc32c
import msgpack
import numpy as np
import zstandard

Column = namedtuple("Column", "id name named dtype shape optional item_size row_size")      # row_size: None if variable

# ---- Section 1: conventions. `split` gives parts and what remains. Limits (section 10) stand where they are checked.
class FormatError(Exception):
    """A rule of the format is broken. Arguments: the kind, which is one of the words of section 1, and a message."""

def need(condition: object, message: str, kind: str = "malformed") -> None:
    if not condition:
        raise FormatError(kind, message)

def split(data: bytes, *sizes: int, kind: str = "malformed") -> Any:
    ends = [*itertools.accumulate(sizes, initial=0)]
    need(ends[-1] <= len(data), f"parts of {ends[-1]} bytes in {len(data)}", kind)
    return [*(data[start:end] for start, end in itertools.pairwise(ends)), data[ends[-1]:]]

def verified(data: bytes, crc: int, what: str, prefix: bytes = b"") -> bytes:
    need(crc32c.crc32c(prefix + data) == crc, f"crc of {what} is not {crc:#010x}", "checksum")
    return data

def check_digest(stored: bytes, kind: str, person: str, *parts: bytes) -> None:
    found = hashlib.blake2b(b"".join(parts), digest_size=len(stored), person=f"recordio.{person}".encode()).digest()
    need(found == stored, f"digest of the {person} is {found.hex()}, stored is {stored.hex()}", kind)

def align(n: int) -> int:
    return (n + 63) // 64 * 64

def as_list(items: Any) -> Any:
    need(not any(isinstance(item, msgpack.ExtType | msgpack.Timestamp) for item in items), "msgpack extension type")
    return items

def as_map(pairs: Any) -> Any:
    need(len({key for key, _ in pairs if not isinstance(key, list | dict)}) == len(pairs), "keys of a msgpack map")
    return dict(map(as_list, pairs))

def unpack_object(data: bytes) -> Any:      # the package itself refuses trailing bytes, and a nesting beyond 1,024
    return as_list([msgpack.unpackb(data, strict_map_key=False, list_hook=as_list, object_pairs_hook=as_map)])[0]

# ---- Section 2: shard. How it, and an index, begins; gives the fields of the header from byte 20 on.
def read_front(data: bytes, magic: bytes, layout: str) -> Any:
    need(magic.startswith(data[:8]), f"{data[:8]!r} at the front: foreign, or damaged in text mode", "not recordio")
    header, crc, _ = split(data, 60, 4, kind="truncated")
    major, features = struct.unpack_from("<H2xI", verified(header, int.from_bytes(crc, "little"), "file header"), 8)
    need(major == 0 and features == 0, f"major version {major}, required features {features:#x}", "too new")
    return struct.unpack_from(layout, header, 20)

# ---- Section 3: schema
NUMPY: dict[str, str] = {f"{kind}{8 * size}": f"<{kind[0]}{size}" for kind, sizes in {
    "int": (1, 2, 4, 8), "uint": (1, 2, 4, 8), "float": (2, 4, 8), "complex": (8, 16)}.items() for size in sizes}
NUMPY |= {"bool": "?", "bfloat16": "<u2"} | {f"float8_{kind}": "u1" for kind in (
    "e3m4", "e4m3", "e4m3b11fnuz", "e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz", "e8m0fnu")}
STRING_LIKE: dict[str, Any] = {"str": bytes.decode, "bytes": bytes, "msgpack": unpack_object}
CONTAINERS: Any = {"dict": dict, "tuple": lambda parts: tuple(parts.values()), "list": lambda parts: [*parts.values()]}
TYPES: Any = dict(zip(Column._fields, [[int], [str], [bool], [str], [list, type(None)], [bool]]))     # of the first six

def decode_column(entry: Any) -> Column:
    need(type(entry) is dict and all(type(entry.get(key, ...)) in TYPES[key] for key in TYPES), f"column {entry!r:.99}")
    id_, _, _, dtype, shape, optional = fields = [entry[key] for key in TYPES]
    need(dtype in NUMPY or dtype in STRING_LIKE, f"dtype {dtype!r:.200}", "too new")
    dims, item_size = [dim for dim in shape or [] if dim is not None], np.dtype(NUMPY.get(dtype, object)).itemsize
    fixed = dtype in NUMPY and shape is not None and None not in shape
    need(0 <= id_ < 2**31 and len(shape or []) <= 32 and all(type(dim) is int and 0 <= dim <= 2**40 for dim in dims)
         and math.prod(filter(None, dims)) * (item_size if dtype in NUMPY else 1) + (fixed & optional & all(dims))
         <= 2**30 and (dtype != "msgpack" or (shape == [] and not optional)), f"column {entry!r:.200}")
    return Column._make([*fields, item_size, math.prod(dims) * item_size if fixed else None])

def builder(node: Any, path: tuple[str, ...], found: list[tuple[int, str]]) -> Any:     # found: column, path of leaves
    if type(node) is int:
        found.append((node, "/".join(path) if path else "value"))
        return lambda values: values[node]
    need(len(path) < 32 and type(node) is list and [*map(type, node)] == [str, list] and node[0] in CONTAINERS, "node")
    pairs = node[1] if node[0] == "dict" else [[str(place), child] for place, child in enumerate(node[1])]
    need(all(type(pair) is list and len(pair) == 2 and type(pair[0]) is str for pair in pairs), f"dict {pairs!r:.80}")
    parts = {key: builder(child, (*path, key), found) for key, child in pairs}
    need(len(parts) == len(pairs), f"equal keys in {list(parts)!r:.80}")
    return lambda values: CONTAINERS[node[0]]({key: part(values) for key, part in parts.items()})

def decode_schema(raw: bytes) -> Any:       # its bytes, columns, and the function from a row's values to the record
    found: Any = unpack_object(raw)
    need(type(found) is dict and type(found.get("columns")) is list, "a schema without list of columns")
    columns, paths = [decode_column(entry) for entry in found["columns"]], list[tuple[int, str]]()
    need(1 <= len(columns) == len({c.id for c in columns}) == len({c.name for c in columns}) <= 65_536, "equal columns")
    build = builder(found.get("structure"), (), paths)
    need(paths == [*enumerate(p if c.named else c.name for c, (_, p) in zip(columns, paths, strict=True))], "leaves")
    return raw, columns, build

# ---- Section 4: chunk; with the chunk table and the digest of section 7. `data` ends where the footer begins.
def read_chunks(data: bytes, schema: Any, file_id: bytes, footer: bytes) -> list[Any]:
    raw_schema, columns, build = schema
    n, metadata_size, num_records, raw_size, digest = struct.unpack_from("<8xIIQQ32s", footer)
    check_digest(digest, "checksum", "shard", file_id, raw_schema, footer[:32], footer[64:])
    arrays = struct.unpack_from(f"<{2 * n}Q{3 * n}I", footer, 64)
    table = [arrays[chunk_id::n] for chunk_id in range(n)]
    ends = [*itertools.accumulate((entry[0] for entry in table), initial=align(64 + len(raw_schema)))]
    need(ends[-1] == len(data) and [sum(e[i] for e in table) for i in (1, 2)] == [raw_size, num_records], "chunk table")
    need(max(n, metadata_size) <= 2**24 and all(e[2] and not e[0] % 64 and 64 + e[3] <= e[0] for e in table), "limit")
    metadata, records = unpack_object(footer[64 + 28 * n:]), list[Any]()
    need(type(metadata) is dict and type(metadata.get("metadata")) is type(metadata.get("options")) is dict, "metadata")
    for chunk_id, (offset, entry) in enumerate(zip(ends, table)):
        header, rest = split(data[offset:ends[chunk_id + 1]], 64)
        need(header[:8] == b"\xf1CHK\r\n\x1a\xf8", f"sync word of chunk {chunk_id} is {header[:8]!r}")
        *place, rows, first, size, directory_size, crc, header_crc = struct.unpack("<16sIIQQII4xI", header[8:])
        verified(header[:60], header_crc, f"header of chunk {chunk_id}", struct.pack("<Q", offset))
        need(1 <= rows <= 2**24 and not size % 64 and directory_size <= min(2**28, size - 64), f"chunk {chunk_id}")
        need([*place, first] == [file_id, chunk_id, len(records)], f"{place} {first} as chunk {chunk_id}", "mismatch")
        need((size, rows, directory_size, header_crc) == (entry[0], *entry[2:]), f"entry {chunk_id}", "mismatch")
        directory = verified(split(rest, directory_size)[0], crc, f"directory of chunk {chunk_id}")
        records += map(build, zip(*read_columns(header + rest, directory, rows, entry[1], columns)))
    return records

# ---- Section 5: directory and frames; gives the rows of each column
def read_columns(chunk: bytes, directory: bytes, num_rows: int, raw_size: int, columns: list[Column]) -> list[Any]:
    chunk_raw_size, num_columns, num_frames = struct.unpack("<QII", split(directory, 16)[0])
    need(num_columns == len(columns) and len(directory) == 16 + 32 * num_columns + 16 * num_frames, "directory size")
    entries = [*struct.iter_unpack("<BBBxIQQQ", directory[16:16 + 32 * num_columns])]
    all_frames = struct.iter_unpack("<IIII", directory[16 + 32 * num_columns:])
    end, jobs = 64 + len(directory), list[Any]()
    for column, (codec, encoding, width, count, offset, *sizes) in zip(columns, entries):
        what = f"directory entry of {column.name!r}: {offset=}, length_{width=}, {codec=}, {encoding=}"
        (place, narrow), size = divmod(encoding, 16), encoding % 8 or column.item_size     # size: of a stored value
        need(codec < 2 and place < 3 and narrow in (0, 1, 2, 4, 9, 10, 12), what, "too new")
        need(not narrow or (size < column.item_size and column.dtype.lstrip("u" * (narrow < 8))[:3] == "int"), what)
        need(not place or (column.row_size is not None and not column.optional and place < size), what)
        need(offset == align(end) and width in ((1, 2, 4, 8) if column.row_size is None else (0,)), what)
        frames = [*itertools.islice(all_frames, count)]
        need(len(frames) == count and [*map(sum, zip(*frames))][:3:2] == [num_rows, sizes[0]], f"{what}, sums")
        values, rest = divmod(sizes[1] - sum(frame[1] for frame in frames), column.item_size - narrow % 8)
        need(sizes[1] == num_rows * (column.row_size + column.optional) if column.row_size is not None else
             rest == 0 <= values and values * column.item_size <= (narrow and sizes[1]), f"{what}, raw_size {sizes[1]}")
        for n, raw, stored, _ in frames:
            need(n and raw <= 2**30 and (stored <= raw + raw // 256 + 64 if codec else stored == raw), what)
            values = n * (column.row_size or 0) // column.item_size
            need((values * column.item_size if place else raw * column.item_size // size) <= 2**30, what)
            need(column.row_size is None or raw - n * column.optional - values * (place or size) in (
                range(size, size * min(values, 256**place) + 1, size) if place else (0,)), what)
        end = offset + sizes[0]
        jobs += [((column, codec, place, narrow, width), frames, split(chunk[offset:], *(f[2] for f in frames)))]
    need(align(end) == len(chunk) and not [*all_frames] and sum(e[-1] for e in entries) == chunk_raw_size, "chunk sum")
    need(chunk_raw_size == raw_size, f"a chunk of {chunk_raw_size} raw bytes, the table says {raw_size}", "mismatch")
    return [[row for f, part in zip(fs, parts) for row in decode_frame(*how, f, part)] for how, fs, parts in jobs]

# ---- Section 6: contents of a frame
def decode_frame(column: Column, codec: int, place: int, narrow: int, width: int, frame: Any, raw: bytes) -> Any:
    num_rows, raw_size, _, crc = frame
    raw = verified(raw, crc, f"frame of {column.name!r}")
    raw = decompress(raw, raw_size) if codec else raw
    valid, ranks, raw = split(raw, num_rows * column.optional, num_rows * (column.shape is None))
    valid, ranks = valid or b"\1" * num_rows, ranks or bytes(num_rows)
    need(max(valid) <= 1 and max(ranks) <= 32, f"validity or rank of a row of {column.name!r}")
    templates = [[None] * rank if column.shape is None else column.shape for rank in ranks]
    dims, raw = split(raw, width * sum(template.count(None) for template in templates))
    unknown = iter(np.frombuffer(dims, f"<u{width or 1}").tolist())
    shapes = [[next(unknown) if dim is None else dim for dim in template] for template in templates]
    for ok, rank, template, shape in zip(valid, ranks, templates, shapes):
        need(ok or (rank == 0 and shape == [dim or 0 for dim in template]), f"None of shape {shape}")
        need(max(shape, default=0) <= 2**40 and math.prod(filter(None, shape)) * column.item_size < 2**63, f"{shape}")
    counts = [math.prod(shape) if ok or column.row_size is not None else 0 for ok, shape in zip(valid, shapes)]
    if how := NUMPY.get(column.dtype):
        front, rest = split(raw, sum(counts) * (place or narrow % 8 or column.item_size))
        items = np.frombuffer(rest if place else front, (narrow and f"<{(how[1], 'u')[narrow > 8]}{narrow % 8}") or how)
        items, rest = (items[np.frombuffer(front, f"<u{place}")], b"") if place else (items, rest)
    else:
        lengths, raw = split(raw, sum(counts) * width)
        *texts, rest = split(raw, *np.frombuffer(lengths, f"<u{width}").tolist())
        items = np.fromiter(map(STRING_LIKE[column.dtype], texts), object, len(texts))
    need(not rest, f"{len(rest)} bytes after the parts of a frame of {column.name!r}")
    parts = [items[end - count:end].astype(how or object) for end, count in zip(itertools.accumulate(counts), counts)]
    need(column.dtype != "bool" or not any(ok and p.tobytes().strip(b"\0\1") for ok, p in zip(valid, parts)), "bool")
    return [(p.reshape(shape) if shape else p[0]) if ok else None for ok, p, shape in zip(valid, parts, shapes)]

def decompress(stored: bytes, raw_size: int) -> bytes:
    frame = zstandard.get_frame_parameters(stored)
    need(stored[:4] == b"\x28\xb5\x2f\xfd" and 1 <= raw_size == frame.content_size, "zstd magic or content size")
    need(stored[4] & 3 == 0 and frame.window_size <= max(raw_size, 2**20), "zstd dictionary or window")
    decoder = zstandard.ZstdDecompressor(max_window_size=2**30).decompressobj()
    need(len(raw := decoder.decompress(stored)) == raw_size and decoder.eof and not decoder.unused_data, "one frame")
    return raw

# ---- Section 7: footer and trailer
def read_shard(data: bytes) -> list[Any]:
    shard_id, file_id, schema_size, schema_crc = read_front(data, b"\x89RIO\r\n\x1a\n", "<I16sII")
    need(schema_size <= 2**24, f"a schema of {schema_size} bytes")
    schema = decode_schema(verified(split(data[64:], schema_size, kind="truncated")[0], schema_crc, "schema"))
    need((at := len(data) - 64) >= 64 + schema_size and data[-8:] == b"\xf1RIOEND\n", "no trailer", "incomplete")
    start, size, crc, trailer_id, trailer_records, trailer_crc = struct.unpack("<QQI4x16sQ4xI", data[at:-8])
    verified(data[at:at + 52], trailer_crc, "trailer", struct.pack("<Q", at))
    need(start % 64 == 0 and start + align(size) == at, f"a footer of {size} bytes at {start}")
    need(trailer_id == file_id, "trailer of another file", "mismatch")
    footer = verified(data[start:start + size], crc, "footer")
    footer_shard, flags, num_chunks, metadata_size, num_records = struct.unpack("<IIIIQ40x", split(footer, 64)[0])
    need(64 + 28 * num_chunks + metadata_size == size and flags <= 1 and num_records == trailer_records, "footer head")
    need(footer_shard == shard_id, f"footer of shard {footer_shard} in shard {shard_id}", "mismatch")
    return read_chunks(data[:start], schema, file_id, footer)

# ---- Sections 8 and 9: index and data set
def read_data_set(directory: pathlib.Path) -> list[Any]:
    begun = {path.suffix or path.name for path in directory.iterdir()} & {".rio", ".unfinished"}
    need((directory / "index.rix").is_file(), "no index", "incomplete" if begun else "not recordio")
    data = (directory / "index.rix").read_bytes()
    num_shards, num_records, head_size, head_crc, fingerprint = read_front(data, b"\x89RIX\r\n\x1a\n", "<IQII16s")
    need(1 <= num_shards <= 2**20 and num_records < 2**63 and head_size <= 2**29, "limits of the index")
    head = verified(split(data[64:], head_size, kind="truncated")[0], head_crc, "head of the index")
    sizes = struct.unpack("<III4x", split(head, 16)[0])
    raw_entries, raw_schema, metadata, raw_names, rest = split(head[16:], 88 * num_shards, *sizes)
    entries = [*struct.iter_unpack("<16s32sQQQIII4x", raw_entries)]
    *names, unnamed = split(raw_names, *(entry[-1] for entry in entries))
    need(max(sizes[0], *(entry[5] for entry in entries)) <= 2**24, "limits of the index")
    *tables, behind = split(data[align(64 + head_size):], *(28 * entry[5] for entry in entries), kind="truncated")
    need(rest + unnamed + behind == b"" and sum(e[3] for e in entries) == num_records, "sums of the index")
    check_digest(fingerprint, "mismatch", "index", struct.pack("<I", num_shards), raw_schema, *(e[1] for e in entries))
    schema, records = decode_schema(raw_schema), []
    for shard_id, (file_id, digest, size, *counts, num_chunks, crc, _) in enumerate(entries):
        need(re.fullmatch(f"shard-{shard_id:05d}-[0-9a-f]{{8}}[.]rio", name := names[shard_id].decode()), name[:99])
        table = verified(tables[shard_id], crc, f"chunk table of {name}")
        need((end := align(64 + sizes[0]) + sum(struct.unpack_from(f"<{num_chunks}Q", table))) <= size, "chunk table")
        need((directory / name).is_file(), f"no {name}", "mismatch")
        need(len(shard := (directory / name).read_bytes()) == size, name, ("mismatch", "truncated")[len(shard) < size])
        numbers = struct.pack("<IIIIQQ", shard_id, shard_id == num_shards - 1, num_chunks, len(metadata), *counts)
        records += read_chunks(shard[:end], schema, file_id, numbers + digest + table + metadata)
    return records

def read(path: pathlib.Path) -> list[Any]:
    try:
        return read_data_set(path) if path.is_dir() else read_shard(path.read_bytes())
    except (ValueError, IndexError, zstandard.ZstdError) as error:      # of msgpack, UTF-8, zip; dictionaries; zstd
        raise FormatError("malformed", f"{error!r}") from None

def plain(x: Any) -> Any:       # what JSON has no type for
    made = [x.real, x.imag] if isinstance(x, complex) else {"bytes": x.hex()} if isinstance(x, bytes) else x.tolist()
    return {"shape": x.shape} if isinstance(x, np.ndarray) and not x.size else made

if __name__ == "__main__":      # PATH of a shard or data set: its records as JSON lines (bfloat16 and float8: bits)
    sys.stdout.writelines(json.dumps(record, default=plain) + "\n" for record in read(pathlib.Path(sys.argv[1])))
