"""Data sets in memory: the same reading as from files, over columns that are already here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from recordio.buffers import Buffers
from recordio.columns import Array, ColumnValues, memory_size, owned, slice_rows, take_rows
from recordio.format.checksum import digest
from recordio.format.index import data_set_fingerprint
from recordio.metering import Totals, measured
from recordio.rows import OnCorrupt, Rows
from recordio.schema import Schema
from recordio.values.leaves import record_leaf

RUN_RECORDS = 4096  # of a run, and of what counts as a chunk in a shuffle (spec/order.md, section 4)


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

    def record(self, number: int, ordinals: Sequence[int]) -> list[Any]:
        return [record_leaf(self.schema.columns[ordinal], self.columns[ordinal], number) for ordinal in ordinals]

    def rows(self, numbers: Array, ordinals: Sequence[int]) -> list[ColumnValues]:
        return [take_rows(self.schema.columns[ordinal], self.columns[ordinal], numbers) for ordinal in ordinals]

    def chunk_table(self) -> tuple[Array, Array, Array]:
        """As `DataSetReader.chunk_table`: one shard, in chunks of `RUN_RECORDS`."""
        ends = np.minimum(np.arange(1, -(-self.num_records // RUN_RECORDS) + 1) * RUN_RECORDS, self.num_records)
        return np.zeros(len(ends), np.int64), np.arange(len(ends), dtype=np.int64), ends.astype(np.int64)

    @property
    def record_size(self) -> float:
        """Mean bytes of a record."""
        return sum(map(memory_size, self.columns)) / max(1, self.num_records)

    def stream(
        self,
        ranges: Sequence[tuple[int, int]],
        ordinals: Sequence[int],
        *,
        workers: int,
        on_corrupt: OnCorrupt = "raise",
        align: int = 1,
        memory: int | None = None,
        stats: Totals | None = None,
    ) -> Iterator[Rows]:
        """As `DataSetReader.stream`, in the caller's thread: there is nothing to decode."""
        del workers, on_corrupt, align, memory

        def read(low: int, high: int) -> list[ColumnValues]:
            return [
                owned(slice_rows(self.schema.columns[ordinal], self.columns[ordinal], low, high))
                for ordinal in ordinals
            ]

        return read_runs(ranges, RUN_RECORDS, read, stats)


def read_runs(
    ranges: Sequence[tuple[int, int]], run_records: int, read: Callable[[int, int], list[ColumnValues]],
    stats: Totals | None,
) -> Iterator[Rows]:  # fmt: skip
    """Rows of ranges in runs of so many, read one after the other in the caller's thread."""
    for start, stop in ranges:
        for low in range(start, stop, run_records):
            high = min(stop, low + run_records)
            with measured() as spent:
                columns = read(low, high)
            if stats is not None:
                stats.add_decoded(spent)
            yield Rows(low, high, columns)
