"""A vector: a file, or the directory of a data set, with the verdict that every reader must reach.

The vectors are declared in `good_files` and `bad_files`, written by `tools/vectors` and read in `test_vectors`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import recordio
from recordio.format.footer import encode_metadata
from spec.reference_reader import plain
from tests.damage import vocabulary

Files = dict[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """What is promised of one file or directory."""

    path: str  # in spec/vectors; of a file, or of a directory
    files: Files  # contents by name; the name "" is `path` itself
    section: str  # of format.md
    verdict: str  # "good", or a kind of error of section 1
    reason: str
    records: list[Any] | None = None  # of a good one
    what: str = ""  # of a good one; what another is, its name says

    @property
    def records_path(self) -> str:
        """Where the expected records stand."""
        return self.path.removesuffix(".rio") + ".json"

    def entry(self) -> dict[str, str]:
        """As the manifest has it."""
        names = ("path", "section", "verdict", "reason")
        found = {name: getattr(self, name) for name in names}
        return found if self.records is None else {**found, "what": self.what, "records": self.records_path}


def one_file(path: str, data: bytes, **fields: Any) -> Vector:
    """A vector that is a single shard."""
    return Vector(path=path, files={"": data}, **fields)


def bad_file(folder: str, name: str, data: bytes, kind: str, section: str, reason: str) -> Vector:
    """A shard that is refused with one kind of error."""
    return one_file(f"{folder}/{name}.rio", data, section=section, verdict=kind, reason=reason)


def lean(shard: bytes) -> vocabulary.ShardParts:
    """The values of a shard, without the writer's options: vectors are many, and stay small."""
    return replace(vocabulary.take_apart(shard), metadata=encode_metadata({}, {}))


def data_set_of(spec: Any, records: Sequence[Any], **options: Any) -> Files:
    """The files that a writer makes of these records."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "made"
        with recordio.Writer(path, spec, **options) as writer:
            for record in records:
                writer.write(record)
        return {found.name: found.read_bytes() for found in sorted(path.iterdir()) if found.is_file()}


def shard_of(spec: Any, records: Sequence[Any], **options: Any) -> bytes:
    """The only shard of a small data set."""
    files = data_set_of(spec, records, **options)
    (name,) = (name for name in files if name.endswith(".rio"))
    return files[name]


def as_bits(leaf: Any) -> Any:
    """A record with bfloat16 and float8 as their bits, as the reference reader gives them."""
    if isinstance(leaf, dict):
        return {key: as_bits(value) for key, value in leaf.items()}
    if isinstance(leaf, list | tuple):
        return type(leaf)(as_bits(value) for value in leaf)
    if isinstance(leaf, np.ndarray | np.generic) and leaf.dtype.name.startswith(("bfloat16", "float8")):
        return leaf.view(f"u{leaf.dtype.itemsize}")
    return leaf


def to_json(records: Sequence[Any]) -> str:
    """Records as the vectors have them: one JSON array, a record a line."""
    lines = [json.dumps(as_bits(record), default=plain, separators=(",", ":")) for record in records]
    return "[\n" + ",\n".join(lines) + "\n]\n"
