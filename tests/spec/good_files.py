"""Files that every reader must read: each data type, each kind of shape, what only hand-made files hold."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import ml_dtypes
import msgpack
import numpy as np
import zstandard

from recordio import MsgpackSpec, TensorSpec
from recordio.spec import DTYPES, ML_DTYPES
from tests.damage import vocabulary as v
from tests.spec.vector import Vector, data_set_of, lean, one_file, shard_of


def good(name: str, what: str, section: str, spec: Any, records: list[Any], **options: Any) -> Vector:
    """A shard as the writer makes it."""
    data = shard_of(spec, records, **{"codec": "none", **options})
    return _good(name, data, what, section, records, "a valid file")


def _good(name: str, data: bytes, what: str, section: str, records: list[Any], reason: str) -> Vector:
    return one_file(
        f"good/{name}.rio", data, what=what, section=section, verdict="good", reason=reason, records=records
    )


def good_files() -> Iterator[Vector]:
    yield from _types()
    yield from _shapes()
    yield from _layouts()
    yield from _narrow()
    yield from _dictionaries()
    yield from _hand_made()
    yield from _ignored()


def _types() -> Iterator[Vector]:
    numbers = {name: TensorSpec((), name) for name in DTYPES if DTYPES[name] and name not in ML_DTYPES}
    extremes = []
    for pick in (0, 1, 2):
        record: dict[str, Any] = {}
        for name in numbers:
            dtype = np.dtype(name)
            if dtype.kind in "iu":
                found: Any = (np.iinfo(dtype).min, np.iinfo(dtype).max, 1)[pick]
            elif dtype.kind == "b":
                found = pick == 1
            elif dtype.kind == "f":
                found = (-0.0, math.nan, np.finfo(dtype).max)[pick]
            else:
                found = (complex(-1.5, 2), complex(math.inf, -0.0), 0)[pick]
            record[name] = dtype.type(found)
        extremes.append(record)
    yield good("numbers", "every numeric dtype of numpy: extremes, NaN, infinity, minus zero", "3", numbers, extremes)
    names = sorted(ML_DTYPES)
    spec = {name: TensorSpec((2,), name) for name in names}
    records = [
        {name: np.array(values, np.float32).astype(getattr(ml_dtypes, name)) for name in names}
        for values in ([0.5, 1.0], [2.0, 4.0])
    ]
    yield good("bits", "bfloat16 and float8; the expected records are their bits", "3", spec, records)
    texts = ["", "a", "né", "日本", "\U0001f40d", "nul \0 inside"]
    yield good("text", "str: empty, ASCII, two, three and four bytes, NUL", "3", TensorSpec((), "str"), texts)
    yield good("bytes", "bytes: empty, all values", "3", TensorSpec((), "bytes"), [b"", bytes(range(256)), b"\n\0"])
    objects: list[Any] = [
        None,
        True,
        -1,
        2**64 - 1,
        1.5,
        "né",
        b"\0\xff",
        [],
        {},
        [1, [2, {"k": None}]],
        {"a": {"b": [b""]}},
    ]
    yield good("msgpack", "msgpack objects of every type", "3", MsgpackSpec(), objects)


def _shapes() -> Iterator[Vector]:
    yield good(
        "fixed",
        "fixed shapes, with a dimension of zero",
        "6",
        {"matrix": TensorSpec((2, 3), "int16"), "none": TensorSpec((0, 3), "float32")},
        [
            {"matrix": np.arange(6, dtype=np.int16).reshape(2, 3) * i, "none": np.zeros((0, 3), np.float32)}
            for i in range(3)
        ],
    )
    yield good(
        "optional",
        "optional columns of every kind",
        "6",
        {
            "fixed": TensorSpec((2,), "float32", optional=True),
            "scalar": TensorSpec((), "bool", optional=True),
            "ragged": TensorSpec((None,), "uint8", optional=True),
            "text": TensorSpec((), "str", optional=True),
            "any": TensorSpec(None, "int16", optional=True),
        },
        [
            {"fixed": None, "scalar": None, "ragged": None, "text": None, "any": None},
            {
                "fixed": np.array([1, -1], np.float32),
                "scalar": np.True_,
                "ragged": np.array([1, 2, 3], np.uint8),
                "text": "x",
                "any": np.array([[1, 2]], np.int16),
            },
            {
                "fixed": np.zeros(2, np.float32),
                "scalar": np.False_,
                "ragged": np.zeros(0, np.uint8),
                "text": "",
                "any": np.int16(7),
            },
        ],
    )
    yield good(
        "ragged",
        "one and two unknown dimensions, with zeros",
        "6",
        {"one": TensorSpec((None,), "int32"), "two": TensorSpec((None, 2, None), "uint8")},
        [
            {"one": np.arange(n, dtype=np.int32), "two": np.arange(n * 2 * m, dtype=np.uint8).reshape(n, 2, m)}
            for n, m in ((0, 0), (1, 3), (3, 0), (2, 1))
        ],
    )
    yield good(
        "any_rank",
        "unknown rank, from a scalar to rank 32",
        "6",
        TensorSpec(None, "float64"),
        [np.array(1.5), np.zeros((0, 4)), np.arange(6.0).reshape(1, 2, 3), np.full((1,) * 32, -1.0)],
    )
    yield good(
        "huge_dims",
        "huge dimensions beside a zero",
        "6",
        TensorSpec((None, 2**20), "int64"),
        [np.zeros((0, 2**20), np.int64)],
    )
    yield good(
        "texts",
        "arrays of str and bytes: fixed, ragged, of unknown rank",
        "6",
        {"pair": TensorSpec((2,), "str"), "words": TensorSpec((None,), "str"), "grid": TensorSpec(None, "bytes")},
        [
            {"pair": _texts(["a", ""]), "words": _texts([]), "grid": b"scalar"},
            {
                "pair": _texts(["né", "日本"]),
                "words": _texts(["", "x", ""]),
                "grid": _texts([[b"a", b""], [b"c", b"d"]]),
            },
        ],
    )


def _texts(values: list[Any]) -> Any:
    return np.array(values, object)


def _layouts() -> Iterator[Vector]:
    nested = {
        "z": TensorSpec((), "int8"),
        "a": (TensorSpec((), "str"), [TensorSpec((), "bool"), {"deep": MsgpackSpec()}]),
        "": TensorSpec((), "uint8"),
    }
    records = [{"z": np.int8(i), "a": (f"{i}", [np.bool_(i), {"deep": [i]}]), "": np.uint8(i)} for i in range(2)]
    yield good("nested", "dicts, tuples and lists in each other; the order of keys is kept", "3", nested, records)
    named = (TensorSpec((), "int8", name="first"), TensorSpec((), "int8", name="né/2"), TensorSpec((), "int8"))
    yield good(
        "named",
        "columns that the user has named, and one that has its path",
        "3",
        named,
        [tuple(map(np.int8, (1, 2, 3)))],
    )
    yield good("leaf", 'the structure is one leaf; its path is "value"', "3", TensorSpec((), "int64"), [np.int64(7)])
    yield good("no_records", "a shard without chunks", "7", TensorSpec((), "int64"), [])
    number = {"n": TensorSpec((), "int64"), "s": TensorSpec((), "str")}
    records = [{"n": np.int64(i // 7), "s": "ab" * (i % 5)} for i in range(60)]
    yield good("chunks", "several chunks of several frames, raw", "5", number, records, chunk_size=400, frame_size=100)
    yield good(
        "zstd",
        "several chunks of several frames, compressed where it gains",
        "5",
        number,
        records,
        codec="zstd",
        chunk_size=600,
        frame_size=200,
    )
    yield good(
        "metadata",
        "metadata of the user",
        "7",
        TensorSpec((), "int8"),
        [np.int8(1)],
        metadata={"who": "né", "what": [1, None, {"b": b"\0"}]},
    )
    for shards, count in ((3, 7), (2, 0)):
        records = [{"n": np.int64(i), "s": f"{i}"} for i in range(count)]
        files = data_set_of(number, records, num_shards=shards, chunk_size=40, frame_size=16)
        yield Vector(
            path=f"good/{shards}_shards_of_{count}",
            files=files,
            what=f"a data set: {shards} shards, {count} records, index",
            section="8",
            verdict="good",
            reason="valid files",
            records=records,
        )
    files = {**files, "shard-00009-00000000.rio": b"not named by the index", ".unfinished": b"in the way"}
    yield Vector(
        path="good/strangers",
        files=files,
        what="files beside the data set that the index does not name",
        section="9",
        verdict="good",
        reason="what the index does not name is no part of the data set",
        records=[],
    )


def _narrow() -> Iterator[Vector]:
    """Integers that are stored in fewer bytes than their type has."""
    extremes: dict[str, list[Any]] = {}
    for dtype, encoding in NARROW:
        limits = np.iinfo(f"{'u' if dtype[0] == 'u' else ''}int{8 * encoding}")
        extremes[f"{dtype}_{encoding}"] = [np.dtype(dtype).type(n) for n in (limits.min, limits.max, limits.max // 3)]
    for dtype, size in WITHOUT_SIGN:
        values = (0, 2 ** (8 * size) - 1, 2 ** (8 * size - 1))
        extremes[f"{dtype}_{size}u"] = [np.dtype(dtype).type(n) for n in values]
    for dtype, plain in (("int64", [-(2**31) - 1, 2**31, 0]), ("uint16", [0, 256, 1])):
        extremes[dtype] = [np.dtype(dtype).type(n) for n in plain]
    spec = {name: TensorSpec((), name.split("_")[0]) for name in extremes}
    records = [{name: values[row] for name, values in extremes.items()} for row in range(3)]
    yield _narrow_file("narrow", "least and largest integer of each width, and just beyond", spec, records)
    spec = {
        "fixed": TensorSpec((2,), "int32", optional=True),
        "ragged": TensorSpec((None,), "int64"),
        "any": TensorSpec(None, "uint16", optional=True),
    }
    shapes: list[Any] = [
        {"fixed": np.array([-1, 127], np.int32), "ragged": np.array([-129, 9], np.int64), "any": np.uint16(255)},
        {"fixed": None, "ragged": np.array([], np.int64), "any": None},
        {"fixed": np.array([-128, 0], np.int32), "ragged": np.array([7], np.int64), "any": np.ones((1, 2), np.uint16)},
    ]
    yield _narrow_file("narrow_shapes", "narrow columns of every kind of shape", spec, shapes)
    firsts = (1, -129, 2**31, -(2**31), 255)
    chunks = [np.int64(first if row == 0 else 5) for first in firsts for row in range(24)]
    what = "chunks of widths 1, 2, plain, 4 and 2, compressed"
    yield _narrow_file("narrow_chunks", what, TensorSpec((), "int64"), chunks, chunk_size=24 * 8)


def _dictionaries() -> Iterator[Vector]:
    """Values that are stored as places in a list."""
    made: list[Any] = [np.int64(value) for value in (-9, 5, -9, 5, 5)]
    shard = lean(shard_of(TensorSpec((), "int64"), made))
    for name, what, encoding, places, listed in (
        ("unused", "places of two bytes; an entry twice, one without a place, in no order", 32, "<u2", [7, -9, 5, -9]),
        ("narrow", "a list of integers of two bytes", 18, "u1", [-9, 5]),
    ):
        entries = np.array(listed, f"<i{encoding % 8 or 8}")
        at = np.array([listed.index(value) for value in made], places)
        raw = at.tobytes() + entries.tobytes()
        column = v.ColumnParts(0, 0, [v.FrameParts(5, len(raw), raw)], encoding, 40)
        data = v.put_together(replace(shard, chunks=[[column]]))
        yield _good(f"dictionary_{name}", data, what, "6", made, "the writer's choice")
    spec = {"f": TensorSpec((2,), "float32"), "u": TensorSpec((), "uint16")}
    shard = lean(shard_of(spec, []))
    pairs = [([0.5, -1], 257), ([-1, -1], 3)]
    records = [{"f": np.array(f, "f4"), "u": np.uint16(u)} for f, u in pairs]
    raw = b"\1\0\0\0" + np.array([-1, 0.5], "<f4").tobytes()
    stored = zstandard.ZstdCompressor().compress(raw)
    floats = v.ColumnParts(1, 0, [v.FrameParts(2, len(raw), stored)], 16, 16)
    singles = [v.FrameParts(1, 3, b"\0" + np.uint16(value).tobytes()) for _, value in pairs]
    data = v.put_together(replace(shard, chunks=[[floats, v.ColumnParts(0, 0, singles, 16, 4)]]))
    what = "a list of floats, compressed, and those of two frames"
    yield _good("dictionary", data, what, "6", records, "a valid file")


WITHOUT_SIGN = (("int16", 1), ("int32", 2), ("int64", 1), ("int64", 4))
NARROW = (
    *(("int16", 1), ("int32", 1), ("int32", 2), ("int64", 2), ("int64", 4)),
    *(("uint16", 1), ("uint32", 2), ("uint64", 1), ("uint64", 4)),
)


def _narrow_file(name: str, what: str, spec: Any, records: list[Any], **options: Any) -> Vector:
    data = v.put_together(lean(shard_of(spec, records, **options)))
    return _good(name, data, what, "6", records, "a valid file")


def _hand_made() -> Iterator[Vector]:
    """What the format allows and this writer does not make."""
    records: list[Any] = [np.arange(n, dtype=np.int16) for n in (2, 0, 3)]
    made = v.take_apart(shard_of(TensorSpec((None,), "int16"), records, codec="none"))
    values = np.concatenate(records).tobytes()
    for width in (2, 4, 8):
        dims = np.array([2, 0, 3], f"<u{width}").tobytes()
        column = v.ColumnParts(0, width, [v.FrameParts(3, len(dims + values), dims + values)])
        data = v.put_together(replace(made, chunks=[[column]]))
        yield _good(
            f"length_width_{width}",
            data,
            f"lengths of {width} bytes",
            "6",
            records,
            "a wider width than needed is allowed",
        )
    numbers: list[Any] = [np.int64(n) for n in (3, -1)]
    frame = v.FrameParts(2, 8, np.array([3, -1], "<i4").tobytes())
    made = lean(shard_of(TensorSpec((), "int64"), numbers))
    data = v.put_together(replace(made, chunks=[[v.ColumnParts(0, 0, [frame], 4, 16)]]))
    yield _good("narrow_wider", data, "values of 4 bytes, where 1 would do", "6", numbers, "the writer's choice")
    nothing: list[Any] = [np.zeros(0, np.int64)]
    made = lean(shard_of(TensorSpec((0,), "int64"), nothing))
    data = v.put_together(replace(made, chunks=[[v.ColumnParts(0, 0, [v.FrameParts(1, 0, b"")], 1, 0)]]))
    yield _good("narrow_nothing", data, "a narrow column without values", "5", nothing, "the writer's choice")
    text = ["ab" * 40, "cd" * 40]
    made = v.take_apart(shard_of(TensorSpec((), "str"), text, codec="none"))
    raw = made.chunks[0][0].frames[0].stored
    frames = {
        "zstd_checksum": (zstandard.ZstdCompressor(write_checksum=True).compress(raw), "with a content checksum"),
        "zstd_window": (_zstd_with_window(raw), "with a window descriptor (1 KiB) instead of a single segment"),
        "zstd_large_window": (_zstd_with_window(raw, b"\x50"), "with a window of 1 MiB, the largest for small frames"),
    }
    for name, (stored, how) in frames.items():
        column = v.ColumnParts(1, made.chunks[0][0].length_width, [v.FrameParts(2, len(raw), stored)])
        data = v.put_together(replace(made, chunks=[[column]]))
        yield _good(name, data, f"a zstd frame {how}", "5", text, "allowed by section 5")
    data = v.put_together(replace(made, file_id=bytes(range(16))))
    yield _good(
        "foreign_file_id", data, "a file id that is not the hash this writer takes", "2", text, "opaque to readers"
    )
    schema = msgpack.unpackb(made.schema)
    schema["columns"][0] |= {"id": 2**31 - 1, "note": [1]}
    schema |= {"new": None}
    metadata = {**msgpack.unpackb(made.metadata), "new": 1}
    data = v.put_together(replace(made, schema=msgpack.packb(schema), metadata=msgpack.packb(metadata)))
    yield _good(
        "unknown_keys", data, "unknown keys in schema, column and metadata; a large column id", "3", text, "ignored"
    )


def _zstd_with_window(raw: bytes, window: bytes = b"\x00") -> bytes:
    """One raw block; descriptor: content size of 2 bytes or more, no single segment."""
    size = (len(raw) - 256).to_bytes(2, "little") if len(raw) >= 256 else len(raw).to_bytes(4, "little")
    descriptor = b"\x40" if len(raw) >= 256 else b"\x80"
    return b"\x28\xb5\x2f\xfd" + descriptor + window + size + (1 | len(raw) << 3).to_bytes(3, "little") + raw


def _ignored() -> Iterator[Vector]:
    """What readers pass over."""
    spec = {"n": TensorSpec((), "bool", optional=True), "x": TensorSpec((2,), "int16", optional=True)}
    records: list[Any] = [{"n": np.True_, "x": np.array([1, 2], np.int16)}, {"n": None, "x": None}]
    data = shard_of(spec, records, codec="none")
    for column, garbage in ((0, b"\x07"), (1, b"\xff\xff\xff\xff")):
        frame = v.part(data, "frame", column=column)
        changed = v.reseal(v.put(data, frame.stop - len(garbage), garbage), data)
        yield _good(
            f"none_row_{column}",
            changed,
            "a None row of a fixed column that is not zero",
            "6",
            records,
            "ignored by readers",
        )
    for kind, name, value in (
        ("file header", "minor", 9),
        ("file header", "optional_features", 2**31 + 1),
        ("file header", "reserved", b"\1" * 12),
        ("chunk header", "reserved", 1),
        ("column entry", "reserved", 1),
        ("trailer", "reserved", 1),
        ("trailer", "reserved too", b"\1" * 4),
    ):
        changed = v.reseal(v.change(data, v.part(data, kind), name, value), data)
        file_name = f"{kind}_{name}".replace(" ", "_")
        yield _good(file_name, changed, f"{name} of the {kind} is {value!r}", "11", records, "ignored by readers")
    changed = data
    for padding in (part for part in v.parts(data) if part.kind == "padding"):
        changed = v.put(changed, padding.start, b"\xa5" * padding.size)
    yield _good("padding", changed, "padding that is not zero", "1", records, "never interpreted; `verify` reports it")
