"""Any edit, with the checksums made right again: both readers give the same records, or the same kind of error.

The vectors are chosen; here every field of every structure takes values that are interesting anywhere, and frames take
random bytes. Where the two differ, one of them is wrong, or the specification says too little.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio import MsgpackSpec, TensorSpec
from spec import reference_reader
from tests.damage import vocabulary as v
from tests.spec.damaged_files import small_data_set, small_shard
from tests.spec.test_vectors import KINDS, same
from tests.spec.vector import as_bits, lean, shard_of

VALUES = (
    *(0, 1, 2, 3, 7, 63, 64, 128, 192, 255, 256, 2**16, 2**24 + 1),
    *(2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 64, 2**64 - 1),
)
CONTENTS: dict[str, tuple[Any, list[Any]]] = {
    "optional": (TensorSpec((None,), "int16", optional=True), [None, np.zeros(2, np.int16), np.ones(1, np.int16)]),
    "fixed": (TensorSpec((2,), "bool", optional=True), [None, np.array([True, False])]),
    "rank": (TensorSpec(None, "uint8"), [np.zeros((2, 1), np.uint8), np.uint8(3), np.zeros((0, 2), np.uint8)]),
    "text": (TensorSpec((None,), "str"), [np.array(["né", ""], object), np.array([], object)]),
    "texts": (TensorSpec(None, "bytes", optional=True), [b"ab", None, np.array([[b"a", b"b"]], object)]),
    "msgpack": (MsgpackSpec(), [{"k": [1, "né"]}, None, b"\0"]),
}


def outcomes(path: Path) -> tuple[Any, Any]:
    """What each reader makes of a file: records, or the kind of error."""
    try:
        one: Any = reference_reader.read(path)
    except reference_reader.FormatError as error:
        one = error.args[0]
    try:
        other: Any = [as_bits(record) for record in recordio.open(path)]
    except recordio.RecordIOError as error:
        other = KINDS[type(error)]
    return one, other


def field_edits(good: bytes) -> Iterator[tuple[str, bytes]]:
    """Every number of every structure, set to every value that fits it."""
    for part in v.parts(good):
        for name, (_, code) in v.FIELDS.get(part.kind, {}).items():
            if code.endswith("s") or name.endswith("crc"):
                continue
            now = v.get(good, part, name)
            limit = 1 << 8 * {"B": 1, "H": 2, "I": 4, "Q": 8}[code]
            for value in sorted({*VALUES, now - 1, now + 1, now + 64}):
                if 0 <= value < limit and value != now:
                    yield f"{part} {name} = {value}", v.change(good, part, name, value)
        if part.kind == "chunk table":
            for name in v.TABLE_ARRAYS:
                for value in VALUES:
                    if value < 2**32 or name in ("stored_size", "raw_size"):
                        yield f"{part} {name} = {value}", v.change_table(good, part, 0, name, value)


def compare(path: Path, what: str) -> None:
    one, other = outcomes(path)
    alike = one == other if isinstance(one, str) or isinstance(other, str) else same(other, one)
    assert alike, f"{what}: the reference reader gives {one!r:.200}, recordio {other!r:.200}"


def test_every_field_of_a_shard(tmp_path):
    """spec/format.md, sections 2, 4, 5, 7 and 10."""
    good = small_shard(2)
    path = tmp_path / "edited.rio"
    for what, edited in field_edits(good):
        path.write_bytes(v.reseal(edited, good))
        compare(path, what)


def test_every_field_of_an_index(tmp_path):
    """spec/format.md, sections 8 and 10."""
    files = small_data_set()
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    good = files["index.rix"]
    for what, edited in field_edits(good):
        (tmp_path / "index.rix").write_bytes(v.reseal(edited, good))
        compare(tmp_path, what)


def compare_random_edits(directory, good, part, draw, *, seed, count, most):
    """One to `most` bytes of a part take another value, `count` times; `draw` gives a place in the file and a value."""
    dice = random.Random(seed)
    path = directory / "edited.rio"
    for _ in range(count):
        edited = good
        for _ in range(dice.randint(1, most)):
            place, value = draw(dice)
            edited = v.put(edited, place, bytes([value]))
        path.write_bytes(v.reseal(edited, good))
        compare(path, edited[part.start : part.stop].hex())


def any_place(part, *values):
    """Any place of a part alike; one of some values, or any."""

    def draw(dice):
        value = dice.choice((*values, dice.randrange(256)))
        return dice.randrange(part.start, part.stop), value

    return draw


@pytest.mark.parametrize("name", CONTENTS)
def test_random_contents_of_frames(tmp_path, name):
    """spec/format.md, section 6."""
    spec, records = CONTENTS[name]
    good = shard_of(spec, records, codec="none")
    frame = v.part(good, "frame")
    compare_random_edits(tmp_path, good, frame, any_place(frame, 0, 1, 2, 127, 128, 255), seed=name, count=300, most=3)


def test_random_schemas(tmp_path):
    """spec/format.md, section 3."""
    good = shard_of({"a": TensorSpec((None, 2), "int8"), "b": (TensorSpec((), "str"), [MsgpackSpec()])}, [])
    schema = v.part(good, "schema")
    tags = (0x80, 0x90, 0x91, 0xA1, 0xC0, 0xC1, 0xC2, 0xC3, 0xC7, 0xCA, 0xD6, 0xDB, 0xDD, 0xDF, 0xFF)
    compare_random_edits(tmp_path, good, schema, any_place(schema, *tags), seed="schema", count=1500, most=2)


def test_random_zstd_frames(tmp_path):
    """spec/format.md, section 5: bytes of a compressed frame, most of them near its front."""
    good = shard_of(TensorSpec((40,), "int32"), [np.arange(40, dtype=np.int32) % 3] * 8, codec="zstd")
    frame = v.part(good, "frame")
    assert v.get(good, v.part(good, "column entry"), "codec") == 1

    def draw(dice):
        return frame.start + dice.randrange(dice.choice((12, frame.size))), dice.randrange(256)

    compare_random_edits(tmp_path, good, frame, draw, seed="zstd", count=600, most=2)


@pytest.mark.parametrize(
    "spec",
    [
        TensorSpec((2,), "int64"), TensorSpec((2,), "uint16", optional=True), TensorSpec((None,), "int32"),
        TensorSpec(None, "uint64"), TensorSpec((), "float32"), TensorSpec((), "str"),
    ],
    ids=str,
)  # fmt: skip
def test_every_size_of_a_narrow_column(tmp_path, spec):
    """spec/format.md, section 5: frames of values of any width, under all encodings and raw sizes of the column."""
    path = tmp_path / "edited.rio"
    shard = lean(shard_of(spec, []))
    variable = spec.dtype == "str" or spec.shape is None or None in spec.shape
    front = (b"\1" if spec.optional else b"") + (b"\1" if spec.shape is None else b"") + (b"\2" if variable else b"")
    for size in (0, 1, 2, 4, 8):
        raw = front + bytes(range(2 * size))
        for encoding in (0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 255):
            for raw_size in range(20):
                shard.chunks = [[v.ColumnParts(0, int(variable), [v.FrameParts(1, len(raw), raw)], encoding, raw_size)]]
                path.write_bytes(v.put_together(shard))
                compare(path, f"{raw.hex()}, encoding {encoding}, raw_size {raw_size}")


@pytest.mark.parametrize(
    "spec",
    [
        TensorSpec((2,), "int64"), TensorSpec((2,), "float32"), TensorSpec((), "uint16"), TensorSpec((), "bool"),
        TensorSpec((), "complex128"), TensorSpec((0,), "int64"), TensorSpec((2,), "int32", optional=True),
        TensorSpec((None,), "int64"), TensorSpec((), "str"),
    ],
    ids=str,
)  # fmt: skip
def test_every_size_of_a_dictionary(tmp_path, spec):
    """spec/format.md, sections 5 and 6: any number of entries, whole or not, under encodings of every kind."""
    path = tmp_path / "edited.rio"
    shard = lean(shard_of(spec, []))
    variable = spec.dtype == "str" or None in spec.shape
    values = 0 if variable else math.prod(spec.shape)
    itemsize = 1 if spec.dtype == "str" else np.dtype(spec.dtype).itemsize
    for encoding in (16, 17, 18, 20, 24, 25, 26, 28, 32, 33, 34, 36, 41, 42, 48, 50, 64):
        for size in range(40):
            raw = b"\2" * variable + bytes(values * (encoding // 16)) + bytes(range(size))
            for raw_size in {values * itemsize, values * itemsize + spec.optional, len(raw)}:
                shard.chunks = [[v.ColumnParts(0, int(variable), [v.FrameParts(1, len(raw), raw)], encoding, raw_size)]]
                path.write_bytes(v.put_together(shard))
                compare(path, f"{raw.hex()}, encoding {encoding}, raw_size {raw_size}")


def test_random_contents_of_dictionaries(tmp_path):
    """spec/format.md, section 6: every place, and one beyond."""
    made = lean(shard_of(TensorSpec((3,), "int32"), []))
    raw = bytes([0, 1, 2, 2, 1, 0]) + np.array([7, -7, 2**31 - 1], "<i4").tobytes()
    good = v.put_together(replace(made, chunks=[[v.ColumnParts(0, 0, [v.FrameParts(2, len(raw), raw)], 16, 24)]]))
    frame = v.part(good, "frame")
    compare_random_edits(tmp_path, good, frame, any_place(frame, 0, 1, 2, 3, 255), seed="places", count=300, most=3)


def test_random_contents_of_narrow_frames(tmp_path):
    """spec/format.md, section 6."""
    spec = TensorSpec((None, None), "int32", optional=True)
    good = v.put_together(lean(shard_of(spec, [None, np.array([[1, -1]], np.int32), np.array([[]], np.int32)] * 2)))
    frame = v.part(good, "frame")
    assert v.get(good, v.part(good, "column entry"), "encoding") == 1
    draw = any_place(frame, 0, 1, 2, 127, 128, 255)
    compare_random_edits(tmp_path, good, frame, draw, seed="narrow", count=300, most=3)
