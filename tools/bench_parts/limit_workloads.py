"""Workloads of the benchmark: records made from a seed, as batches and as the plain bytes of their columns.

    digits    uint8[28, 28] smooth strokes on black, int64 label        compresses well
    photos    uint8[224, 224, 3] gradients with a little noise, label   compresses somewhat
    noise     bytes of 5 to 60 KB without any structure, label          does not compress
    text      str of 50 to 2,000 characters, English-like, label        compresses

The peers of the library get `column_bytes`: the very bytes that the frames hold, before compression.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench_parts.workloads import strokes
from recordio import TensorSpec

Array = np.ndarray[Any, np.dtype[Any]]
Batch = dict[str, Any]

_BATCH_SIZE = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Records of one kind; every batch is a dict of one data column and "label"."""

    name: str
    description: str
    signature: dict[str, TensorSpec]
    batches: list[Batch]
    column_bytes: list[memoryview]  # one for each column, all records
    num_records: int

    @property
    def raw_size(self) -> int:
        """Bytes of all columns."""
        return sum(map(len, self.column_bytes))


def make_workload(name: str, size: int, seed: int) -> Workload:
    """Make about `size` bytes of records."""
    description, spec, make = _KINDS[name]
    rng = np.random.default_rng([seed, sum(name.encode())])
    data, raw = make(rng, size)
    num_records = len(data)
    label = rng.integers(0, 10, num_records)
    step = max(1, min(_BATCH_SIZE, (4 << 20) * num_records // max(1, len(raw))))
    parts = [slice(start, start + step) for start in range(0, num_records, step)]
    batches = [{"data": data[part], "label": label[part]} for part in parts]
    return Workload(
        name=name, description=description,
        signature={"data": spec, "label": TensorSpec((), "int64")}, batches=batches,
        column_bytes=[raw, memoryview(label).cast("B")], num_records=num_records,
    )  # fmt: skip


def _digits(rng: np.random.Generator, size: int) -> tuple[Array, memoryview]:
    """Two curved strokes each, blurred at their edges, in all places of the frame."""
    kinds = strokes(rng)
    count = max(1, size // 784)
    images = kinds[rng.integers(0, len(kinds), count)]
    ink = rng.integers(160, 256, count).astype(np.uint16)
    images = (images * ink[:, None, None] >> 8).astype(np.uint8)
    images = np.roll(images, 3, axis=1)
    images[::2] = np.roll(images[::2], -5, axis=2)
    return images, memoryview(np.ascontiguousarray(images)).cast("B")


def _photos(rng: np.random.Generator, size: int) -> tuple[Array, memoryview]:
    """Bilinear gradients between 8 x 8 random colours in 32 steps, and noise of one step on an eighth of the rows."""
    count = max(1, size // (224 * 224 * 3))
    images = np.empty((count, 224, 224, 3), np.uint8)
    place = np.linspace(0, 6.999, 224)
    low, part = place.astype(np.int64), (place % 1).astype(np.float32)
    for image in images:
        grid = rng.uniform(0, 248, (8, 8, 3)).astype(np.float32)
        rows = grid[low] * (1 - part)[:, None, None] + grid[low + 1] * part[:, None, None]
        image[:] = rows[:, low] * (1 - part)[None, :, None] + rows[:, low + 1] * part[None, :, None]
        image[::8] += rng.integers(0, 8, (28, 224, 3), np.uint8)
        image &= 0xF8
    return images, memoryview(images).cast("B")


def _noise(rng: np.random.Generator, size: int) -> tuple[list[bytes], memoryview]:
    ends = np.cumsum(rng.integers(5_000, 60_000, max(1, size // 32_500)))
    raw = rng.bytes(int(ends[-1]))
    starts = [0, *ends[:-1].tolist()]
    return [raw[start:stop] for start, stop in zip(starts, ends.tolist(), strict=True)], memoryview(raw)


def _text(rng: np.random.Generator, size: int) -> tuple[list[str], memoryview]:
    """Sentences of words whose frequencies fall as in a language."""
    letters = "theanineronrestatenorisaritaltecoderaroliriiolendmasimeouheas"
    syllables = [letters[place : place + 2] for place in range(0, len(letters), 2)]
    words = ["".join(rng.choice(syllables, rng.integers(1, 5))) for _ in range(6_000)]
    share = 1 / (np.arange(len(words)) + 2.7)
    drawn = rng.choice(len(words), size // 5, p=share / share.sum())
    ending = rng.choice(np.array([" ", " ", " ", " ", " ", " ", " ", " ", ", ", ". "]), len(drawn))
    text = "".join(words[word] + end for word, end in zip(drawn.tolist(), ending.tolist(), strict=True))[:size]
    ends = np.cumsum(rng.integers(50, 2_001, max(1, size // 1_025)))
    ends = ends[ends <= len(text)] if (ends <= len(text)).any() else np.array([len(text)])
    starts = [0, *ends[:-1].tolist()]
    rows = [text[start:stop] for start, stop in zip(starts, ends.tolist(), strict=True)]
    return rows, memoryview("".join(rows).encode())


_Make = Callable[[np.random.Generator, int], tuple[Any, memoryview]]
_KINDS: dict[str, tuple[str, TensorSpec, _Make]] = {
    "digits": ("uint8[28,28] smooth, int64 label", TensorSpec((28, 28), "uint8"), _digits),
    "photos": ("uint8[224,224,3] gradients with noise, int64 label", TensorSpec((224, 224, 3), "uint8"), _photos),
    "noise": ("bytes of 5-60 KB, random, int64 label", TensorSpec((), "bytes"), _noise),
    "text": ("str of 50-2,000 characters, English-like, int64 label", TensorSpec((), "str"), _text),
}
NAMES = tuple(_KINDS)
