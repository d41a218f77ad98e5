"""Several data sets side by side: record i of all of them is one record, a tuple."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from recordio.buffers import Buffers
from recordio.columns import Array, ColumnValues
from recordio.format.checksum import digest
from recordio.format.index import data_set_fingerprint
from recordio.memory import MemoryReader, read_runs
from recordio.metering import Totals
from recordio.plan.view import View
from recordio.reader import DataSetReader
from recordio.rows import OnCorrupt, Rows
from recordio.schema import Schema
from recordio.values.leaves import record_leaf

_RUN_RECORDS = 1024


@dataclass(frozen=True, kw_only=True)
class ZippedPart:
    """One of the data sets: what is in view of it."""

    reader: DataSetReader | MemoryReader | ZipReader
    view: View
    ordinals: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ZipReader:
    """Reads the same places of several views; as many as the shortest has."""

    schema: Schema
    parts: tuple[ZippedPart, ...]

    @property
    def num_records(self) -> int:
        return min(len(part.view) for part in self.parts)

    @property
    def metadata(self) -> dict[str, Any]:
        """None of its own."""
        return {}

    @cached_property
    def fingerprint(self) -> bytes:
        """Of all parts and what is in view of them."""
        texts = [b"%b|%b" % (part.reader.fingerprint, part.view.text().encode()) for part in self.parts]
        return data_set_fingerprint(self.schema.encode(), [digest(32, b"recordio.zip", [text]) for text in texts])

    @property
    def buffers(self) -> Buffers:
        return self.parts[0].reader.buffers

    @property
    def record_size(self) -> float:
        return sum(part.reader.record_size for part in self.parts)

    def chunk_table(self) -> tuple[Array, Array, Array]:
        """The chunks of the first part, as far as they are in view there."""
        part = self.parts[0]
        tape = part.view.tape(*part.reader.chunk_table()) if part.view.is_ascending else None
        if tape is None:
            return np.zeros(1, np.int64), np.zeros(1, np.int64), np.array([self.num_records], np.int64)
        ends = np.minimum(tape.starts + tape.counts, self.num_records)
        return tape.shards, tape.chunks, ends

    def record(self, number: int, ordinals: Sequence[int]) -> list[Any]:
        """As `DataSetReader.record`."""
        rows = self.rows(np.array([number], np.int64), ordinals)
        return [record_leaf(self.schema.columns[o], values, 0) for o, values in zip(ordinals, rows, strict=True)]

    def rows(self, numbers: Array, ordinals: Sequence[int]) -> list[ColumnValues]:
        """As `DataSetReader.rows`."""
        found: dict[int, ColumnValues] = {}
        first = 0
        for part in self.parts:
            wanted = [ordinal for ordinal in ordinals if first <= ordinal < first + len(part.ordinals)]
            if wanted:
                inner = [part.ordinals[ordinal - first] for ordinal in wanted]
                found.update(zip(wanted, part.reader.rows(part.view.at(numbers), inner), strict=True))
            first += len(part.ordinals)
        return [found[ordinal] for ordinal in ordinals]

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
        """As `DataSetReader.stream`, in the caller's thread."""
        del workers, on_corrupt, align, memory
        return read_runs(
            ranges, _RUN_RECORDS, lambda low, high: self.rows(np.arange(low, high, dtype=np.int64), ordinals), stats
        )
