"""Data sets of our own, on disk or in memory, as sources: ranges of records, handed over as columns.

Columns need no cast and no Python loop over records. Under another signature than their own, the values go through the
strict cast like anybody's: as batches where a batch has the very same arrays, else record by record.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from typing import Any, Protocol

from recordio.columns import ColumnValues, row_sizes
from recordio.convert.pieces import (
    ESTIMATE_RECORDS,
    OnError,
    Part,
    Piece,
    Source,
    add_place,
    fixed_row_size,
    given_size,
    item_ranges,
)
from recordio.schema import Schema

_PIECE_SIZE = 1 << 20       # raw bytes of a piece, about; like a chunk
_PIECE_RECORDS = 4096       # records of one, at most


class ColumnarDataset(Protocol):
    """What is needed of a recordio data set."""

    @property
    def schema(self) -> Schema: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Any: ...

    def read_columns(self, start: int, stop: int) -> list[ColumnValues]: ...


class DatasetSource(Source):
    """A recordio data set, on disk or in memory."""

    def __init__(self, dataset: ColumnarDataset, signature: Any = None) -> None:
        self.num_records = len(dataset)
        self.signature = dataset.schema.element_spec if signature is None else signature
        self._dataset = dataset
        # Under another signature the values must be cast again, and checked.
        self._same = signature is None or Schema.from_signature(signature) == dataset.schema
        self._item_size: int | None = None

    def whole(self) -> Part:
        return self._part(0, len(self._dataset))

    def identity(self) -> Any:
        fingerprint, rows = (getattr(self._dataset, name, None) for name in ("fingerprint", "_rows"))
        return {"fingerprint": fingerprint, "rows": None if rows is None else repr(rows)}

    def item_size(self) -> int:
        if self._item_size is None:
            fixed = fixed_row_size(self.signature)
            if fixed is None:
                stop = min(ESTIMATE_RECORDS, len(self._dataset))
                fixed = _raw_size(self._dataset.schema, self._dataset.read_columns(0, stop)) // stop if stop else 1
            self._item_size = max(1, fixed)
        return self._item_size

    def _infer(self) -> Any:
        return self._dataset.schema.element_spec

    def _split(self, num_shards: int | None, shard_size: int | None, row_size: int | None) -> list[Part] | None:
        records_per_shard = 1 if shard_size is None else max(1, shard_size // (row_size or self.item_size()))
        ranges = item_ranges(len(self._dataset), num_shards, records_per_shard)
        return [self._part(start, stop) for start, stop in ranges]

    def _part(self, start: int, stop: int) -> ColumnsPart:
        return ColumnsPart(self._dataset[start:stop], start, self._same)


class ColumnsPart(Part):
    """A view of a data set; pieces are about a chunk, so that a piece is never much of the memory."""

    def __init__(self, view: ColumnarDataset, first_record: int, as_columns: bool) -> None:
        self.num_records: int = len(view)
        self._view = view
        self._first_record = first_record
        self._as_columns = as_columns

    def pieces(
        self, executor: Executor | None = None, window: int = 10, on_error: OnError = "raise"
    ) -> Iterator[Piece]:
        schema = self._view.schema
        # Values of fixed, present columns are already what a batch has; other leaves go record by record.
        as_batch = not self._as_columns and all(c.is_fixed and not c.optional for c in schema.columns)
        start, num_rows = 0, min(16, _PIECE_RECORDS)
        while start < self.num_records:
            stop = min(start + num_rows, self.num_records)
            number = self._first_record + start
            label = f"records {number} to {number + stop - start}"
            try:
                if self._as_columns or as_batch:
                    value: Any = self._view.read_columns(start, stop)
                    size = _raw_size(schema, value)
                else:
                    value = list(self._view[start:stop])
                    size = sum(given_size(record) for record in value)
            except Exception as error:
                add_place(error, label)
                raise
            if self._as_columns:
                yield Piece(kind="columns", value=value, number=number, label=label)
            elif as_batch:
                batch = schema.unflatten([column.values for column in value])
                yield Piece(kind="batch", value=batch, number=number, label=label)
            else:
                for place, record in enumerate(value):
                    yield Piece(kind="record", value=record, number=number + place, label=f"record {number + place}")
            # From the size of these rows to the number of the next, but never many times more at once: the rows of
            # variable columns may be much larger further on.
            wanted = _PIECE_SIZE * (stop - start) // max(1, size)
            num_rows = max(1, min(wanted, 16 * num_rows, _PIECE_RECORDS))
            start = stop


def _raw_size(schema: Schema, columns: list[ColumnValues]) -> int:
    return sum(int(row_sizes(column, rows).sum()) for column, rows in zip(schema.columns, columns, strict=True))
