"""What the tests of the command line share: its command line, and files to look at and to damage."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path


def command(*args: str | Path) -> list[str]:
    """The command line of `python -m recordio`."""
    return [sys.executable, "-m", "recordio", *map(str, args)]


def flip(path: Path, offset: int) -> None:
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def files_of(path: Path) -> dict[str, bytes]:
    """Names and bytes of a data set."""
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


def shards_of(path: Path) -> Sequence[Path]:
    """The shards, in order."""
    return sorted(path.glob("*.rio"))
