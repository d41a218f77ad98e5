"""Data sets in memory: the same reading as from files, over columns that are already here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from recordio.buffers import Buffers
from recordio.columns import Array, ColumnValues, owned, slice_rows, take_rows
from recordio.format.checksum import digest
from recordio.format.index import data_set_fingerprint
from recordio.rows import OnCorrupt, Rows
from recordio.schema import Schema

_RUN_RECORDS = 4096


@dataclass(frozen=True)
class MemoryReader:
    """Columns in memory, read as `recordio.reader.DataSetReader` reads files; all that it gives is a copy."""

    schema: Schema
    columns: list[ColumnValues]
    num_records: int
    metadata: dict[str, Any] = field(default_factory=dict)
    whole: bytes | None = None  # fingerprint of the data set that this is a part of

    @cached_property
    def fingerprint(self) -> bytes:
        """Of the values, so that equal data has an equal one; reads all of it, the first time."""
        if self.whole is not None:
            return self.whole
        parts = []
        for rows in self.columns:
            for array in (rows.values, rows.validity, rows.ranks, rows.dims, rows.lengths):
                if array is not None:
                    parts.append(memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8)))
        return data_set_fingerprint(self.schema.encode(), [digest(32, b"recordio.memory", parts)])

    @property
    def buffers(self) -> Buffers:
        """Lends memory, and keeps none: what is here is in memory already."""
        return Buffers(0)

    def record(self, number: int, ordinals: Sequence[int]) -> list[tuple[ColumnValues, int]]:
        return [(self.columns[ordinal], number) for ordinal in ordinals]

    def rows(self, numbers: Array, ordinals: Sequence[int]) -> list[ColumnValues]:
        return [take_rows(self.schema.columns[ordinal], self.columns[ordinal], numbers) for ordinal in ordinals]

    def stream(
        self,
        start: int,
        stop: int,
        ordinals: Sequence[int],
        *,
        workers: int,
        on_corrupt: OnCorrupt = "raise",
        align: int = 1,
    ) -> Iterator[Rows]:
        del workers, on_corrupt, align
        for low in range(start, stop, _RUN_RECORDS):
            high = min(stop, low + _RUN_RECORDS)
            yield Rows(
                low, high,
                [owned(slice_rows(self.schema.columns[ordinal], self.columns[ordinal], low,
                high)) for ordinal in ordinals],
            )  # fmt: skip
