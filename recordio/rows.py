"""Rows that were read, and what was lost on the way.

Spec: spec/format.md, section 12.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from recordio.columns import Array, ColumnValues

OnCorrupt = Literal["raise", "skip"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LostRange:
    """Records that could not be read, under on_corrupt="skip"."""

    start: int  # record number in the data set
    stop: int
    shard: int
    chunk: int | None
    column: str | None
    error: str


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows that were read, with their record numbers in the data set: [start, stop), or exactly `numbers` if some are
    lost."""

    start: int
    stop: int
    columns: list[ColumnValues]
    numbers: Array | None = None
    lost: tuple[LostRange, ...] = ()
