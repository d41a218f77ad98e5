"""What the tests of the command line share: its command line, and files to look at and to damage."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import recordio
from recordio.job import Job


def command(*args: str | Path) -> list[str]:
    """The command line of `python -m recordio`."""
    return [sys.executable, "-m", "recordio", *map(str, args)]


def flip(path: Path, offset: int) -> None:
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def flip_after_commit(monkeypatch: pytest.MonkeyPatch, *, shard: int, chunk: int) -> None:
    """Let every data set be damaged at once when it is complete: in the first frame of one chunk."""
    commit = Job.commit

    def commit_and_flip(self: Job, **what: Any) -> bytes:
        index = commit(self, **what)
        path = shards_of(Path(self.paths.path))[shard]
        reader = recordio.open(path)._recipe.reader.shard(0)
        flip(path, int(reader.table.offsets[chunk]) + reader.read_directory(chunk).columns[0].offset)
        return index

    monkeypatch.setattr(Job, "commit", commit_and_flip)


def files_of(path: Path) -> dict[str, bytes]:
    """Names and bytes of a data set."""
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


def shards_of(path: Path) -> Sequence[Path]:
    """The shards, in order."""
    return sorted(path.glob("*.rio"))
