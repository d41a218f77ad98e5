"""What the values of a column are like: least, largest, mean, lengths, how many are None, and the first as text.

Rows are added in any number of pieces; sums are kept in float64, deviations by the update of Chan et al. What rows are
looked at is decided in `recordio.checks.inspection`.

Source: Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from recordio.columns import Array, ColumnValues, element_counts, slice_rows
from recordio.schema import Column
from recordio.spec import ML_DTYPES
from recordio.values.leaves import record_leaf

_EXCERPT_SIZE = 200  # characters of text, or bytes, that are kept
_EXCERPT_VALUES = 8  # of an array


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Bytes of a string-like value; elements of a row of any other variable column."""

    minimum: int
    maximum: int
    mean: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnSummary:
    """The rows that were looked at. What a column does not have is None: a text has no mean."""

    num_rows: int
    num_none: int
    num_nan: int | None
    minimum: int | float | None  # without NaN
    maximum: int | float | None
    mean: float | None  # of the finite values
    std: float | None
    lengths: Lengths | None
    excerpt: str | None  # the first value that is not None

    def to_dict(self) -> dict[str, Any]:
        """As JSON; infinities and NaN are text."""
        lengths = self.lengths
        return {
            "num_rows": self.num_rows, "num_none": self.num_none, "num_nan": self.num_nan, "min": _number(self.minimum),
            "max": _number(self.maximum), "mean": _number(self.mean), "std": _number(self.std),
            "lengths": lengths and {"min": lengths.minimum, "max": lengths.maximum, "mean": lengths.mean},
            "excerpt": self.excerpt,
        }  # fmt: skip


class Summarizer:
    """Takes rows of one column and sums them up."""

    def __init__(self, column: Column) -> None:
        self._column = column
        self._num_rows = self._num_none = self._num_nan = self._num_finite = 0
        self._mean = self._square = 0.0  # of the finite values; sum of squared deviations
        self._least: int | float | None = None
        self._largest: int | float | None = None
        self._lengths: list[int] = []  # least, largest
        self._length_sum = self._num_lengths = 0
        self._excerpt: str | None = None

    def add(self, rows: ColumnValues) -> None:
        """Look at some rows; their memory is not kept."""
        if not rows.num_rows:
            return
        column = self._column
        present = np.ones(rows.num_rows, np.bool_) if rows.validity is None else rows.validity
        self._num_rows += rows.num_rows
        self._num_none += int(rows.num_rows - present.sum())
        if self._excerpt is None and present.any():
            row = int(np.argmax(present))
            self._excerpt = excerpt(record_leaf(column, slice_rows(column, rows, row, row + 1), 0))
        if rows.lengths is not None:
            self._add_lengths(rows.lengths)
            return
        if not column.is_fixed:
            self._add_lengths(element_counts(column, rows)[present])
            self._add_values(rows.values)
        else:
            self._add_values(rows.values if rows.validity is None else rows.values[present])

    def summary(self) -> ColumnSummary:
        """All rows up to now."""
        column = self._column
        is_real = not column.is_string_like and not column.dtype.startswith("complex")
        counted = is_real and self._num_finite > 0
        lengths = None
        if self._num_lengths:
            mean = self._length_sum / self._num_lengths
            lengths = Lengths(minimum=self._lengths[0], maximum=self._lengths[1], mean=mean)
        return ColumnSummary(
            num_rows=self._num_rows, num_none=self._num_none,
            num_nan=self._num_nan if is_real and _is_float(column) else None,
            minimum=self._least, maximum=self._largest, mean=self._mean if counted else None,
            std=math.sqrt(self._square / self._num_finite) if counted else None, lengths=lengths, excerpt=self._excerpt,
        )  # fmt: skip

    def _add_lengths(self, lengths: Array) -> None:
        if not lengths.size:
            return
        found = [int(lengths.min()), int(lengths.max()), *self._lengths]
        self._lengths = [min(found), max(found)]
        self._length_sum += int(lengths.sum())
        self._num_lengths += int(lengths.size)

    def _add_values(self, values: Array) -> None:
        column = self._column
        if not values.size or column.dtype.startswith("complex"):
            return
        if column.dtype in ML_DTYPES:
            values = values.astype(np.float32)
        if _is_float(column):
            is_nan = np.isnan(values)
            self._num_nan += int(is_nan.sum())
            ordered = values[~is_nan] if is_nan.any() else values
            finite = ordered[np.isfinite(ordered)]
        else:
            ordered = finite = values
        if ordered.size:
            least, largest = ordered.min().item(), ordered.max().item()
            self._least = least if self._least is None else min(self._least, least)
            self._largest = largest if self._largest is None else max(self._largest, largest)
        if finite.size:
            with np.errstate(over="ignore", invalid="ignore"):
                mean = float(finite.mean(dtype=np.float64))
                square = float(finite.var(dtype=np.float64)) * finite.size
            total = self._num_finite + finite.size
            apart = mean - self._mean
            self._square += square + apart * apart * (self._num_finite * finite.size / total)
            self._mean += apart * (finite.size / total)
            self._num_finite = total


def excerpt(value: Any) -> str:
    """The beginning of a value as text; bytes as Python writes them, objects as JSON where they have one."""
    if isinstance(value, str):
        return value[:_EXCERPT_SIZE]
    if isinstance(value, bytes):
        return repr(value[:_EXCERPT_SIZE])
    if isinstance(value, np.ndarray):
        flat = value.reshape(-1)
        inside = ", ".join(excerpt(one) for one in flat[:_EXCERPT_VALUES])
        more = ", ..." if flat.size > _EXCERPT_VALUES else ""
        return f"[{inside}{more}]"[:_EXCERPT_SIZE]
    if isinstance(value, np.generic):
        return str(value)
    try:
        return json.dumps(value, ensure_ascii=False)[:_EXCERPT_SIZE]
    except (TypeError, ValueError):
        return repr(value)[:_EXCERPT_SIZE]


def _is_float(column: Column) -> bool:
    return "float" in column.dtype


def _number(value: int | float | None) -> int | float | str | None:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
