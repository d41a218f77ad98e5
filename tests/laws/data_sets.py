"""Any data set: strategies for specs, records and options, and what it means that two leaves are the same.

    spec -> records in the very form that reading gives -> write or write_batch -> what comes back, compared bit by bit

Structures and options are drawn by hypothesis, so that they shrink; values come from a seed, so that they are cheap.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

import recordio
from recordio.schema import Column, Schema
from recordio.spec import DTYPES, STRING_LIKE, numpy_dtype

# More examples than a quick run has: RECORDIO_EXAMPLES=20 pytest tests/laws
EXAMPLES = int(os.environ.get("RECORDIO_EXAMPLES", "1"))

SHAPES = [
    (), (2,), (0,), (2, 3), (3, 0), (None,), (None, 2), (2, None), (None, None), (None, 0), (0, None), (None, 1, None),
    None,
]  # fmt: skip
TEXTS = ["", "a", "né", "日本語", "\x00", "x" * 40, "🎲", "line\nline"]
OBJECTS: list[Any] = [
    None,
    True,
    7,
    -(2**63),
    2**64 - 1,
    1.5,
    "né",
    b"\x00",
    [1, [None]],
    {"a": {"b": [2.5, b""]}},
    {1: "x"},
    [],
    {},
]


@dataclass(frozen=True)
class Case:
    """A data set to be written: what, and how."""

    spec: Any
    records: list[Any]
    options: dict[str, Any]
    seed: int

    @property
    def schema(self) -> Schema:
        return Schema.from_signature(self.spec)


@st.composite
def leaf_specs(draw: st.DrawFn) -> Any:
    """One leaf of any type."""
    dtype = draw(st.sampled_from(sorted(DTYPES)))
    if dtype == "msgpack":
        return recordio.MsgpackSpec()
    shape = draw(st.sampled_from(SHAPES))
    optional = draw(st.booleans())
    return recordio.TensorSpec(shape, dtype, optional=optional)


def specs(max_leaves: int = 5) -> st.SearchStrategy[Any]:
    """Nested tuples, lists and dicts of leaves, or one leaf."""
    keys = st.text("abé. ", min_size=1, max_size=3)

    def grow(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return (
            st.lists(inner, max_size=3)
            | st.lists(inner, max_size=3).map(tuple)
            | st.dictionaries(keys, inner, max_size=3)
        )

    return st.recursive(leaf_specs(), grow, max_leaves=max_leaves).filter(_has_leaf)


def _has_leaf(spec: Any) -> bool:
    if isinstance(spec, dict):
        return any(map(_has_leaf, spec.values()))
    return any(map(_has_leaf, spec)) if isinstance(spec, (list, tuple)) else True


@st.composite
def options(draw: st.DrawFn) -> dict[str, Any]:
    """Options of a writer, small sizes above all."""
    found: dict[str, Any] = {
        "codec": draw(st.sampled_from(["zstd", "none"])),
        "chunk_size": draw(st.sampled_from([None, 1, 30, 200, 4000])),
        "frame_size": draw(st.sampled_from([64 << 10, 1, 16, 100, 1000])),
        "workers": draw(st.sampled_from([1, 3])),
    }
    sharding = draw(st.sampled_from([{}, {"num_shards": 1}, {"num_shards": 4}, {"shard_size": 1}, {"shard_size": 300}]))
    return found | sharding


@st.composite
def cases(draw: st.DrawFn, max_records: int = 24) -> Case:
    """A data set of any spec."""
    spec = draw(specs())
    seed = draw(st.integers(0, 2**32 - 1))
    num_records = draw(st.integers(0, max_records))
    return Case(spec, make_records(spec, num_records, seed), draw(options()), seed)


def make_records(spec: Any, num_records: int, seed: int) -> list[Any]:
    """Records of any values that a spec allows, in the form that reading gives them."""
    schema = Schema.from_signature(spec)
    random = np.random.default_rng(seed)
    return [schema.unflatten([make_leaf(column, random) for column in schema.columns]) for _ in range(num_records)]


def make_leaf(column: Column, random: np.random.Generator) -> Any:
    """One value of a column, any bits that its type has."""
    if column.optional and random.random() < 0.3:
        return None
    if column.dtype == "msgpack":
        return OBJECTS[random.integers(len(OBJECTS))]
    shape = column.shape
    if shape is None:
        shape = (None,) * int(random.integers(4))
    dims = tuple(int(random.integers(4)) if dim is None else dim for dim in shape)
    count = int(np.prod(dims, dtype=np.int64))
    if column.dtype in STRING_LIKE:
        items = np.empty(count, np.object_)
        for place in range(count):
            text = TEXTS[random.integers(len(TEXTS))]
            items[place] = (
                text if column.dtype == "str" else text.encode() + bytes(random.integers(0, 256, 2, np.uint8))
            )
        return items[0] if shape == () else items.reshape(dims)
    dtype = numpy_dtype(column.dtype)
    if column.dtype == "bool":
        values = random.integers(0, 2, count).astype(np.bool_)
    elif random.random() < 0.5:
        values = np.frombuffer(random.bytes(count * dtype.itemsize), dtype).copy()  # NaN payloads and all
    else:
        values = np.zeros(count, dtype)
    values = values.reshape(dims)
    return values if column.shape != () else values[()]


# -- writing --


def write(path: Path, case: Case, *, how: str = "records", **changed: Any) -> Path:
    """Write the records of a case one by one ("records"), in batches ("batches") or in both ways by turns ("mixed")."""
    random = np.random.default_rng(case.seed + 1)
    schema = case.schema
    with recordio.Writer(path, case.spec, **(case.options | changed)) as writer:
        start = 0
        while start < len(case.records):
            stop = start + int(random.integers(1, 9))
            part = case.records[start:stop]
            if how == "batches" or (how == "mixed" and random.random() < 0.5):
                writer.write_batch(make_batch(schema, part, random))
            else:
                for record in part:
                    writer.write(record)
            start = stop
    return path


def make_batch(schema: Schema, records: list[Any], random: np.random.Generator) -> Any:
    """The structure of a record with a leading axis, in one of the forms that a column can have."""
    rows = zip(*(schema.flatten(record) for record in records), strict=True)
    return schema.unflatten(
        [_batch_leaf(column, list(leaves), random) for column, leaves in zip(schema.columns, rows, strict=True)]
    )


def _batch_leaf(column: Column, rows: list[Any], random: np.random.Generator) -> Any:
    form = random.random()
    if column.dtype == "msgpack" or form < 0.3:
        return rows
    if column.is_fixed:
        missing = [row is None for row in rows]
        zero = np.zeros(column.shape or (), column.numpy_dtype)
        values = np.stack([zero if row is None else np.asarray(row) for row in rows])
        if not any(missing):
            return values
        if 0 in (column.shape or ()):
            return rows  # a mask of no element masks nothing
        return np.ma.MaskedArray(
            values, np.broadcast_to(np.reshape(missing, (-1, *[1] * (values.ndim - 1))), values.shape)
        )
    if column.shape is not None and form < 0.7:
        return recordio.Ragged.from_rows(rows, column.dtype, shape=column.shape)
    return np.fromiter(rows, np.object_, len(rows))


@contextmanager
def fresh_directory() -> Iterator[Path]:
    """A directory that is gone afterwards, in memory where there is such a place."""
    place = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="recordio-test-", dir=place) as name:
        yield Path(name)


def files_of(path: Path) -> dict[str, bytes]:
    """Every file of a data set by its name."""
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


# -- comparing --


def same_record(schema: Schema, expected: Any, found: Any) -> bool:
    """Whether a record came back: containers, key order, types, dtypes, shapes and every bit."""
    return same_structure(expected, found) and all(
        same_leaf(column, left, right)
        for column, left, right in zip(schema.columns, schema.flatten(expected), schema.flatten(found), strict=True)
    )


def same_records(schema: Schema, expected: list[Any], found: list[Any]) -> bool:
    return len(expected) == len(found) and all(
        same_record(schema, left, right) for left, right in zip(expected, found, strict=True)
    )


def same_structure(left: Any, right: Any) -> bool:
    """Whether containers agree; at a leaf, anything does."""
    if not isinstance(left, (dict, list, tuple)):
        return True
    if type(left) is not type(right) or len(left) != len(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(same_structure(left[key], right[key]) for key in left)
    return all(itertools.starmap(same_structure, zip(left, right, strict=True)))


def same_leaf(column: Column, expected: Any, found: Any) -> bool:
    if expected is None or column.dtype == "msgpack":
        return type(expected) is type(found) and expected == found
    if type(expected) is not type(found):
        return False
    if isinstance(expected, (str, bytes)):
        return bool(expected == found)
    if expected.dtype != found.dtype or expected.shape != found.shape:
        return False
    if expected.dtype == np.object_:
        return all(type(a) is type(b) and a == b for a, b in zip(expected.flat, found.flat, strict=True))
    return bool(expected.tobytes() == found.tobytes())


def same_batch(schema: Schema, expected: list[Any], batch: Any) -> bool:
    """Whether a batch holds exactly these records, each leaf in the form that its column has."""
    leaves = schema.flatten(batch)
    rows = list(zip(*(schema.flatten(record) for record in expected), strict=True)) or [()] * len(leaves)
    return all(
        same_batch_leaf(column, list(wanted), leaf)
        for column, wanted, leaf in zip(schema.columns, rows, leaves, strict=True)
    )


def same_batch_leaf(column: Column, rows: list[Any], leaf: Any) -> bool:
    if len(leaf) != len(rows):
        return False
    if column.is_fixed:
        if column.optional != isinstance(leaf, np.ma.MaskedArray) or leaf.dtype != column.numpy_dtype:
            return False
        if leaf.shape[1:] != column.shape:
            return False
        values, mask = np.ma.getdata(leaf), np.ma.getmaskarray(leaf)
        for row, expected in enumerate(rows):
            if expected is None:
                if not mask[row].all():  # true of a row without elements as well
                    return False
            elif mask[row].any() or values[row].tobytes() != np.asarray(expected).tobytes():
                return False
        return True
    if column.shape is None or column.dtype == "msgpack":
        if not (isinstance(leaf, np.ndarray) and leaf.dtype == np.object_ and leaf.ndim == 1):
            return False
    elif not isinstance(leaf, recordio.Ragged):
        return False
    return all(same_leaf(column, expected, found) for expected, found in zip(rows, leaf, strict=True))


# -- scribbling --


def damage_shard(directory: Path, number: int, place: float = 0.5) -> Path:
    """Flip a bit of a shard, in the middle or at another part of its length, and give its path."""
    shard = sorted(directory.glob("*.rio"))[number]
    contents = bytearray(shard.read_bytes())
    contents[int(len(contents) * place)] ^= 1
    shard.write_bytes(contents)
    return shard


def scribble(leaf: Any) -> None:
    """Overwrite everything that a result holds, in place."""
    if isinstance(leaf, dict):
        for value in list(leaf.values()):
            scribble(value)
        leaf.clear()
    elif isinstance(leaf, (list, tuple)):
        for value in leaf:
            scribble(value)
        if isinstance(leaf, list):
            leaf.clear()
    elif isinstance(leaf, recordio.Ragged):
        for array in (leaf.values, leaf.row_offsets, leaf.element_offsets, leaf.shapes, leaf.mask):
            if array is not None:
                scribble(array)
    elif isinstance(leaf, np.ma.MaskedArray):
        scribble(np.ma.getdata(leaf))
        scribble(np.ma.getmaskarray(leaf))
    elif isinstance(leaf, np.ndarray):
        assert leaf.flags.writeable
        if leaf.dtype == np.object_:
            for value in leaf.flat:
                scribble(value)
            leaf[...] = None
        else:
            leaf.view(np.uint8 if leaf.ndim and leaf.flags.c_contiguous else leaf.dtype)[...] = 1
