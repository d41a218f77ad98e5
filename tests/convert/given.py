"""What the tests of convert convert: at the top level of a module, so that worker processes find it.

The records are small and of every shape that matters: fixed, text, ragged, optional.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from recordio import TensorSpec

SPEC = {
    "number": TensorSpec((), "int64"),
    "text": TensorSpec((), "str"),
    "row": TensorSpec((None,), "float32"),
    "weight": TensorSpec((2,), "float64", optional=True),
}


def record(number: int) -> dict[str, Any]:
    """Record `number` of every source here."""
    return {
        "number": number,
        "text": f"text {number * 7919} " * (number % 5),
        "row": np.arange(number % 9, dtype="float32") * number,
        "weight": None if number % 3 else np.array([number, -number], "float64"),
    }


def plain(stop: int = 1500):
    """From the front only, of unknown length."""
    for number in range(stop):
        yield record(number)


def shardable(shard: int, num_shards: int, stop: int = 1500):
    """Knows which records are whose."""
    for number in range(stop * shard // num_shards, stop * (shard + 1) // num_shards):
        yield record(number)


def from_lists(starts: list[int], step: int):
    """A list of "files" among the arguments."""
    for start in starts:
        yield from map(record, range(start, start + step))


def columns(start: int, stop: int) -> dict[str, Any]:
    """The same records as a batch."""
    rows = [record(number) for number in range(start, stop)]
    return {name: [row[name] for row in rows] for name in SPEC} | {"number": np.arange(start, stop)}


class Batches:
    """A PyDataset by its protocol alone."""

    def __init__(self, num_batches: int = 30, batch_size: int = 50) -> None:
        self.size = num_batches
        self.batch_size = batch_size
        self.asked: list[int] = []
        self.ended = 0

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int):
        self.asked.append(index)
        return columns(index * self.batch_size, (index + 1) * self.batch_size)

    def on_epoch_end(self) -> None:
        self.ended += 1


def files(path: str | Path) -> dict[str, bytes]:
    """Every file below a directory, by relative name; empty directories count too."""
    root = Path(path)
    found = {str(file.relative_to(root)): file for file in root.rglob("*")}
    return {name: b"<directory>" if file.is_dir() else file.read_bytes() for name, file in found.items()}


def plainly(record: Any) -> Any:
    """A record as plain Python values, for comparing."""
    if isinstance(record, dict):
        return {key: plainly(leaf) for key, leaf in record.items()}
    if isinstance(record, tuple | list):
        return type(record)(plainly(leaf) for leaf in record)
    return record.tolist() if hasattr(record, "tolist") else record
