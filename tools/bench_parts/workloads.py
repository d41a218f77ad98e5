"""Workloads of the benchmark: records made from a seed, kept as arrays on disk, which every process maps.

    small_images   uint8[28, 28] strokes on black, label                        compresses well
    large_images   uint8[224, 224, 3] smooth as photographs, label              compresses somewhat
    jpeg           JPEG files of 5 to 60 KB, label                              does not compress
    text           str of 50 to 2,000 bytes, label                              compresses
    clicks         13 float32, 26 int64 categories of skewed frequency, label   narrow and repetitive
    tokens         int32 sequences of 100 to 4,000, as of a tokenizer, label    narrow
    multimodal     JPEG, caption, float32[768] embedding, label                 of everything

Only numpy is needed to read them: peers live in environments of their own.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One leaf of a record.

    Attributes:
        kind: fixed: array[N, *shape]; bytes, str: one run of bytes for each record; ragged: array[?] of dtype for each.
    """

    name: str
    kind: Literal["fixed", "bytes", "str", "ragged"]
    dtype: str = "uint8"
    shape: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Records of one kind, mapped from a directory."""

    name: str
    description: str
    path: str
    num_records: int
    columns: tuple[Column, ...]

    @staticmethod
    def open(path: str) -> Workload:
        """What `make_workload` has made."""
        found = json.loads(Path(path, "workload.json").read_text())
        columns = tuple(Column(**{**one, "shape": tuple(one["shape"])}) for one in found.pop("columns"))
        return Workload(**found, path=path, columns=columns)

    @cached_property
    def values(self) -> dict[str, Array]:
        """Of each column: array[N, ...] of a fixed one, else all values in a row (uint8 of bytes and str)."""
        return {column.name: np.load(self._file(column, "values"), mmap_mode="r") for column in self.columns}

    @cached_property
    def offsets(self) -> dict[str, Array]:
        """int64[N + 1] of each column that is not fixed: where its records begin and end among the values."""
        return {
            column.name: np.load(self._file(column, "offsets")) for column in self.columns if column.kind != "fixed"
        }

    @property
    def raw_size(self) -> int:
        """Bytes of all columns, offsets not counted."""
        return sum(values.nbytes for values in self.values.values())

    @property
    def main(self) -> Column:
        """The column with the most bytes."""
        return max(self.columns, key=lambda column: self.values[column.name].nbytes)

    def value(self, column: Column, number: int) -> Any:
        """One value: an array, a numpy scalar, bytes or str; a copy."""
        values = self.values[column.name]
        if column.kind == "fixed":
            return np.array(values[number])[()]
        offsets = self.offsets[column.name]
        part = np.array(values[offsets[number] : offsets[number + 1]])
        if column.kind == "ragged":
            return part
        return part.tobytes() if column.kind == "bytes" else part.tobytes().decode()

    def record(self, number: int) -> dict[str, Any]:
        """One record: a value for each column."""
        return {column.name: self.value(column, number) for column in self.columns}

    def records(self) -> Iterator[dict[str, Any]]:
        """All records, one after the other."""
        for start in range(0, self.num_records, 1024):
            stop = min(start + 1024, self.num_records)
            parts = [self.slice(column, start, stop) for column in self.columns]
            names = [column.name for column in self.columns]
            for leaves in zip(*parts, strict=True):
                yield dict(zip(names, leaves, strict=True))

    def slice(self, column: Column, start: int, stop: int) -> Any:
        """Values [start, stop) of a column: array[n, ...] of a fixed one (a copy), else a list."""
        values = self.values[column.name]
        if column.kind == "fixed":
            return np.array(values[start:stop])
        offsets = self.offsets[column.name][start : stop + 1]
        part = np.array(values[offsets[0] : offsets[-1]])
        ends = (offsets - offsets[0]).tolist()
        if column.kind == "ragged":
            return [part[a:b] for a, b in pairwise(ends)]
        raw = part.tobytes()
        found = [raw[a:b] for a, b in pairwise(ends)]
        return found if column.kind == "bytes" else [one.decode() for one in found]

    def _file(self, column: Column, what: str) -> Path:
        return Path(self.path, f"{column.name}.{what}.npy")


def make_workload(name: str, path: str, *, share: float = 1.0, seed: int = 20_250_102) -> Workload:
    """Make a workload in a directory, if it is not there already.

    Args:
        share: of the records that the full benchmark has.
    """
    if not os.path.exists(os.path.join(path, "workload.json")):
        description, count, make = _KINDS[name]
        rng = np.random.default_rng([seed, sum(name.encode())])
        made = make(rng, max(64, int(count * share)))
        os.makedirs(path, exist_ok=True)
        columns = []
        for column, values, offsets in made:
            np.save(os.path.join(path, f"{column.name}.values.npy"), values)
            if offsets is not None:
                np.save(os.path.join(path, f"{column.name}.offsets.npy"), offsets)
            columns.append(asdict(column))
        num_records = len(made[0][1]) if made[0][2] is None else len(made[0][2]) - 1
        found = {"name": name, "description": description, "num_records": num_records, "columns": columns}
        Path(path, "workload.json").write_text(json.dumps(found))
    return Workload.open(path)


# ---- what they are made of ----

_Made = list[tuple[Column, Array, Array | None]]


def _label(rng: np.random.Generator, count: int, classes: int) -> tuple[Column, Array, None]:
    return Column(name="label", kind="fixed", dtype="int64"), rng.integers(0, classes, count), None


def strokes(rng: np.random.Generator) -> Array:
    """Two curved strokes each, blurred at their edges: uint8[2048, 28, 28]."""
    num_kinds = 2048
    along = np.linspace(0, 1, 12)
    distance = np.full((num_kinds, 28, 28), np.inf, np.float32)
    axis = np.arange(28, dtype=np.float32)
    for _ in range(2):
        points = rng.uniform(7, 21, (num_kinds, 3, 2))
        weights = np.stack([(1 - along) ** 2, 2 * along * (1 - along), along**2])
        curve = np.einsum("nkd,kt->ntd", points, weights).astype(np.float32)
        for place in range(len(along)):
            vertical = (axis - curve[:, place, 0, None]) ** 2
            horizontal = (axis - curve[:, place, 1, None]) ** 2
            np.minimum(distance, vertical[:, :, None] + horizontal[:, None, :], out=distance)
    return (255 * np.clip(2.0 - np.sqrt(distance), 0, 1)).astype(np.uint8)


def _small_images(rng: np.random.Generator, count: int) -> _Made:
    """Two curved strokes each, blurred at their edges, in all places of the frame, every one with noise of its own."""
    kinds = strokes(rng)
    images = kinds[rng.integers(0, len(kinds), count)]
    images = (images * rng.integers(160, 256, count).astype(np.uint16)[:, None, None] >> 8).astype(np.uint8)
    for start in range(0, count, 1 << 14):  # scanned ink is not smooth
        part = images[start : start + (1 << 14)]
        part -= np.minimum(part, rng.integers(0, 9, part.shape, np.uint8)) * (part > 8)
    images = np.roll(images, 3, axis=1)
    images[::2] = np.roll(images[::2], -5, axis=2)
    return [(Column(name="image", kind="fixed", shape=(28, 28)), images, None), _label(rng, count, 10)]


def _photos(rng: np.random.Generator, count: int, side: int) -> Array:
    """Bilinear gradients between random colours, coarse and fine, with noise on an eighth of the rows."""
    images = np.empty((count, side, side, 3), np.uint8)
    for image in images:
        total = np.zeros((side, side, 3), np.float32)
        for cells, weight in ((4, 0.6), (16, 0.4)):
            grid = rng.uniform(0, 248, (cells, cells, 3)).astype(np.float32)
            place = np.linspace(0, cells - 1.001, side)
            low, part = place.astype(np.int64), (place % 1).astype(np.float32)
            rows = grid[low] * (1 - part)[:, None, None] + grid[low + 1] * part[:, None, None]
            total += weight * (rows[:, low] * (1 - part)[None, :, None] + rows[:, low + 1] * part[None, :, None])
        image[:] = total
        image[::8] += rng.integers(0, 8, (len(range(0, side, 8)), side, 3), np.uint8)
        image &= 0xFC
    return images


def _large_images(rng: np.random.Generator, count: int) -> _Made:
    images = _photos(rng, count, 224)
    return [(Column(name="image", kind="fixed", shape=(224, 224, 3)), images, None), _label(rng, count, 1000)]


def _jpeg_files(rng: np.random.Generator, count: int) -> tuple[Array, Array]:
    """Photos of several sizes and qualities; with grain, so that they take 5 to 60 KB as real ones do."""
    from PIL import Image

    files = []
    sides = rng.integers(96, 400, count)
    bases = _photos(rng, 16, 512)
    for side in sides.tolist():
        x, y = rng.integers(0, 512 - side, 2).tolist()
        part = bases[rng.integers(len(bases)), y : y + side, x : x + side].astype(np.int16)
        part = part + rng.normal(0, 12, part.shape).astype(np.int16)
        stream = io.BytesIO()
        Image.fromarray(np.clip(part, 0, 255).astype(np.uint8)).save(stream, "JPEG", quality=int(rng.integers(75, 93)))
        files.append(stream.getvalue())
    return _joined(files)


def _jpeg(rng: np.random.Generator, count: int) -> _Made:
    return [(Column(name="image", kind="bytes"), *_jpeg_files(rng, count)), _label(rng, count, 1000)]


def _sentences(rng: np.random.Generator, count: int, least: int, most: int) -> tuple[Array, Array]:
    """Sentences of words whose frequencies fall as in a language, cut into texts."""
    letters = "theanineronrestatenorisaritaltecoderaroliriiolendmasimeouheas"
    syllables = [letters[place : place + 2] for place in range(0, len(letters), 2)]
    words = ["".join(rng.choice(syllables, rng.integers(1, 5))) for _ in range(12_000)]
    ends = np.cumsum(rng.integers(least, most + 1, count))
    share = 1 / (np.arange(len(words)) + 2.7)
    text = b""
    drawn = rng.choice(len(words), int(ends[-1]) // 4, p=share / share.sum())
    ending = rng.choice(np.array([" "] * 8 + [", ", ". "]), len(drawn))
    text = "".join(words[word] + end for word, end in zip(drawn.tolist(), ending.tolist(), strict=True)).encode()
    assert len(text) >= ends[-1]
    values = np.frombuffer(text, np.uint8)[: ends[-1]]
    return values, np.concatenate([[0], ends])


def _text(rng: np.random.Generator, count: int) -> _Made:
    return [(Column(name="text", kind="str"), *_sentences(rng, count, 50, 2000)), _label(rng, count, 5)]


def _clicks(rng: np.random.Generator, count: int) -> _Made:
    """As an advertiser's log: counters with long tails and missing ones, hashed categories, few clicks."""
    made: _Made = []
    for number in range(13):
        values = np.floor(rng.lognormal(1.0 + number / 6, 1.2, count)).astype(np.float32)
        values[rng.random(count) < number / 40] = 0
        made.append((Column(name=f"i{number}", kind="fixed", dtype="float32"), values, None))
    for number in range(26):
        cardinality = int(10 ** rng.uniform(0.5, 6))
        hashes = rng.integers(0, 1 << 32, cardinality)
        ranks = np.minimum(rng.zipf(1.2 + rng.uniform(0, 0.5), count) - 1, cardinality - 1)
        made.append((Column(name=f"c{number}", kind="fixed", dtype="int64"), hashes[ranks], None))
    label = (rng.random(count) < 0.03).astype(np.int64)
    made.append((Column(name="label", kind="fixed", dtype="int64"), label, None))
    return made


def _tokens(rng: np.random.Generator, count: int) -> _Made:
    """Ids of a vocabulary of 50,257 whose frequencies fall as in a language, with pieces that come again."""
    ends = np.cumsum(rng.integers(100, 4001, count))
    order = rng.permutation(50_257)
    share = 1 / (np.arange(50_257) + 2.7)
    values = order[rng.choice(50_257, int(ends[-1]), p=share / share.sum())].astype(np.int32)
    places = rng.integers(0, len(values) - 64, len(values) // 128)
    for place, source in zip(places.tolist(), rng.permutation(places).tolist(), strict=True):
        size = 4 + place % 12
        values[place : place + size] = values[source : source + size]
    return [
        (Column(name="tokens", kind="ragged", dtype="int32"), values, np.concatenate([[0], ends])),
        _label(rng, count, 5),
    ]


def _multimodal(rng: np.random.Generator, count: int) -> _Made:
    embedding = rng.normal(0, 1, (count, 768)).astype(np.float32)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    return [
        (Column(name="image", kind="bytes"), *_jpeg_files(rng, count)),
        (Column(name="caption", kind="str"), *_sentences(rng, count, 20, 200)),
        (Column(name="embedding", kind="fixed", dtype="float32", shape=(768,)), embedding, None),
        _label(rng, count, 1000),
    ]


def _joined(files: Sequence[bytes]) -> tuple[Array, Array]:
    ends = np.cumsum([len(one) for one in files])
    return np.frombuffer(b"".join(files), np.uint8), np.concatenate([[0], ends])


_KINDS: dict[str, tuple[str, int, Callable[[np.random.Generator, int], _Made]]] = {
    "small_images": ("uint8[28,28] strokes, int64 label", 200_000, _small_images),
    "large_images": ("uint8[224,224,3] smooth as photographs, int64 label", 800, _large_images),
    "jpeg": ("JPEG files of 5-60 KB, int64 label", 4_000, _jpeg),
    "text": ("str of 50-2,000 bytes, int64 label", 100_000, _text),
    "clicks": ("13 float32, 26 int64 categories, int64 label", 300_000, _clicks),
    "tokens": ("int32 sequences of 100-4,000, int64 label", 12_000, _tokens),
    "multimodal": ("JPEG, caption, float32[768] embedding, int64 label", 3_000, _multimodal),
}
NAMES = tuple(_KINDS)
