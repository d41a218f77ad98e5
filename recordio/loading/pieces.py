"""Rows on their way to the user: runs in order, pieces of whole steps, and steps that are ready.

    Run (rows as they were stored) -> Piece (rows of whole steps) -> Ready (what users get)

Spec: spec/order.md, section 8; design.md, section 5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recordio.columns import Array, ColumnValues, concat, empty, split_rows
from recordio.loading.rows import Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """Steps that are ready.

    Attributes:
        steps: what users get, step after step; each is taken from here once.
        ends: records of all steps up to each of them.
        nbytes: of all of them.
        consumed: positions that are over after each step, where that is not regular.
    """

    steps: Iterable[Any]
    ends: Sequence[int]
    nbytes: int
    consumed: Sequence[int] | None = None

    def handed_out(self, num_steps: int) -> tuple[int, int]:
        """Records, and about the bytes, of the first steps."""
        records = self.ends[num_steps - 1] if num_steps else 0
        return records, round(self.nbytes * records / max(1, self.ends[-1] if len(self.ends) else 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Rows of whole steps.

    Attributes:
        stops: row after the last one of each slot, step after step.
        where: makes numbers, epochs and positions of the rows, for maps.
    """

    columns: list[ColumnValues]
    stops: Sequence[int]
    where: Callable[[], Wanted]
    consumed: Sequence[int] | None = None


@dataclass(slots=True)
class Run:
    """Consecutive rows in order: at positions from `first` on, or at exactly these."""

    columns: list[ColumnValues]
    first: int
    positions: Array | None = None

    @property
    def num_rows(self) -> int:
        """Rows of every column."""
        return self.columns[0].num_rows

    def all_positions(self) -> Array:
        """int64[num_rows]."""
        if self.positions is not None:
            return self.positions
        return np.arange(self.first, self.first + self.num_rows, dtype=np.int64)

    def split(self, columns: Sequence[Any], first: int, second: int) -> tuple[Run, Run, Run]:
        """The rows before `first`, those up to `second`, and the others."""
        if first == 0 and second == self.num_rows:
            bounds = [0, 0, second, second]
            nothing = [empty(c) for c in columns]
            parts = [nothing, self.columns, nothing]
        else:
            bounds = [0, first, second, self.num_rows]
            cut = [split_rows(c, v, bounds) for c, v in zip(columns, self.columns, strict=True)]
            parts = [list(part) for part in zip(*cut, strict=True)]
        runs = [
            Run(part, self.first + start, None if self.positions is None else self.positions[start:stop])
            for part, start, stop in zip(parts, bounds[:-1], bounds[1:], strict=True)
        ]
        return runs[0], runs[1], runs[2]


def join_runs(runs: Sequence[Run], new_array: Callable[..., Array]) -> Run:
    """Runs that follow one another, as one; a single one as it is.

    Args:
        new_array: as numpy.empty.
    """
    if len(runs) == 1:
        return runs[0]
    columns = [concat(parts, new_array) for parts in zip(*(run.columns for run in runs), strict=True)]
    positions = None
    if runs[0].positions is not None:
        positions = np.concatenate([run.all_positions() for run in runs])
    return Run(columns, runs[0].first, positions)
