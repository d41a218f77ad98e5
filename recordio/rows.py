"""Rows that were read, and what was lost on the way.

Spec: spec/format.md, section 12.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
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


def merged_ranges(ranges: Iterable[LostRange]) -> tuple[LostRange, ...]:
    """Ranges in order, those of the same column of a chunk that touch put together."""
    merged: list[LostRange] = []
    for lost in sorted(ranges, key=lambda lost: (lost.shard, lost.chunk or 0, lost.column or "", lost.start)):
        last = merged[-1] if merged else None
        if last is not None and lost.start <= last.stop and replace(lost, start=last.start, stop=last.stop) == last:
            merged[-1] = replace(last, stop=max(last.stop, lost.stop))
        else:
            merged.append(lost)
    return tuple(sorted(merged, key=lambda lost: (lost.start, lost.stop, lost.column or "")))
