"""Data sets of our own, on disk or in memory, as sources: ranges of records, handed over as columns.

Columns need no cast and no Python loop over records. Under another signature than their own, the values go through the
strict cast like anybody's: as batches where a batch has the very same arrays, else record by record.

A shuffled data set is written in the order of epoch 0, a mapped one as it is mapped.

Damage is raised, or, if the data set was opened with on_corrupt="skip", left out and said:

    rows 0 to 64 | lost 64 to 192 | rows 192 to 1216 | ...      runs of one part, in order
"""

from __future__ import annotations

import copy
from bisect import bisect_left
from collections.abc import Generator, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any, Protocol

from recordio.columns import ColumnValues, concat, row_sizes, slice_rows
from recordio.convert.pieces import (
    DEFAULT_QUEUE_SIZE,
    ESTIMATE_RECORDS,
    OnError,
    Part,
    Piece,
    Source,
    fixed_row_size,
    item_ranges,
    raise_at,
)
from recordio.errors import RecordIOError
from recordio.schema import Schema
from recordio.values.leaves import record_leaves

_PIECE_SIZE = 1 << 20       # raw bytes of a piece, about
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
        self.lossy = _leaves_out_damage(dataset)
        self.signature = dataset.schema.element_spec if signature is None else signature
        self._dataset = dataset
        # Under another signature the values must be cast again, and checked.
        self._same = signature is None or Schema.from_signature(signature) == dataset.schema
        self._item_size: int | None = None

    def whole(self) -> Part:
        return self._part(0, len(self._dataset))

    def identity(self) -> Any:
        fingerprint, rows = (getattr(self._dataset, name, None) for name in ("fingerprint", "record_numbers"))
        recipe: Any = getattr(self._dataset, "recipe", None)
        return {
            "fingerprint": fingerprint, "lossy": self.lossy,
            "rows": repr(rows) if rows is None or isinstance(rows, range) else recipe.view.text(),
            "columns": [column.name for column in self._dataset.schema.columns],
            "order": None if recipe is None else repr((recipe.shuffle, recipe.after and recipe.after.text())),
            "maps": [] if recipe is None else [getattr(stage.fn, "__qualname__", "?") for stage in recipe.maps],
        }  # fmt: skip

    def item_size(self) -> int:
        if self._item_size is None:
            fixed = fixed_row_size(self.signature)
            self._item_size = max(1, self._estimate() if fixed is None else fixed)
        return self._item_size

    def _estimate(self) -> int:
        """Raw bytes of one of the first records that can be read."""
        schema, total = self._dataset.schema, len(self._dataset)
        for start in range(0, total, ESTIMATE_RECORDS):
            part = self._part(start, min(start + ESTIMATE_RECORDS, total))
            runs = [run.columns for run in part.runs() if run.columns is not None]
            num_rows = sum(columns[0].num_rows for columns in runs)
            if num_rows:
                return sum(_raw_size(schema, columns) for columns in runs) // num_rows
        return 1

    def _infer(self) -> Any:
        return self._dataset.schema.element_spec

    def _split(self, num_shards: int | None, shard_size: int | None, row_size: int | None) -> list[Part] | None:
        records_per_shard = 1 if shard_size is None else max(1, shard_size // (row_size or self.item_size()))
        ranges = item_ranges(len(self._dataset), num_shards, records_per_shard)
        return [self._part(start, stop) for start, stop in ranges]

    def _part(self, start: int, stop: int) -> ColumnsPart:
        return ColumnsPart(self._dataset[start:stop], start, self._same)


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive rows of a part: read, or lost."""

    start: int
    stop: int
    columns: list[ColumnValues] | None
    reason: str = ""    # why there are none


class ColumnsPart(Part):
    """A view of a data set, in pieces that are never much of the memory."""

    def __init__(self, view: ColumnarDataset, first_record: int, as_columns: bool) -> None:
        self.num_records: int = len(view)
        self._view = view
        self._first_record = first_record
        self._as_columns = as_columns

    def pieces(
        self, executor: Executor | None = None, window: int = DEFAULT_QUEUE_SIZE, on_error: OnError = "stop"
    ) -> Generator[Piece]:
        schema = self._view.schema
        # Values of fixed, present columns are already what a batch has; other leaves go record by record.
        as_batch = all(column.is_fixed and not column.optional for column in schema.columns)
        for run in self.runs():
            number = self._first_record + run.start
            stop = self._first_record + run.stop
            label = f"records {number} to {stop}"
            if run.columns is None:
                yield Piece(kind="lost", value=(run.reason, stop), number=number, label=label)
            elif self._as_columns:
                yield Piece(kind="columns", value=run.columns, number=number, label=label)
            elif as_batch:
                batch = schema.unflatten([column.values for column in run.columns])
                yield Piece(kind="batch", value=batch, number=number, label=label)
            else:
                leaves = zip(*map(record_leaves, schema.columns, run.columns), strict=True)
                for record_number, record in enumerate(leaves, number):
                    value = schema.unflatten(list(record))
                    yield Piece(kind="record", value=value, number=record_number, label=f"record {record_number}")

    def runs(self) -> Iterator[Run]:
        """Read all rows, in order, a piece at a time; or what can be read, with what is lost between.

        Raises:
            DataError: a row is damaged, and the data set was not opened with on_corrupt="skip".
        """
        lost: Run | None = None
        for run in self._read():
            if lost is not None and run.columns is None and run.reason == lost.reason:
                lost = replace(lost, stop=run.stop)
                continue
            if lost is not None:
                yield lost
            lost = run if run.columns is None else None
            if lost is None:
                yield run
        if lost is not None:
            yield lost

    def _read(self) -> Iterator[Run]:
        start, num_rows = 0, min(16, _PIECE_RECORDS)
        while start < self.num_records:
            stop = min(start + num_rows, self.num_records)
            size = 0
            try:
                runs = [Run(start, stop, self._view.read_columns(start, stop))]
            except RecordIOError as damage:
                runs = self._survivors(start, stop, damage)
            except Exception as error:  # noqa: BLE001  raised again, with its place
                raise_at(error, f"records {self._first_record + start} to {self._first_record + stop}")
            for run in runs:
                size += 0 if run.columns is None else _raw_size(self._view.schema, run.columns)
                yield run
            # From the size of these rows to the number of the next, but never many times more at once: the rows of
            # variable columns may be much larger further on.
            wanted = _PIECE_SIZE * (stop - start) // max(1, size)
            num_rows = max(1, min(wanted, 16 * num_rows, _PIECE_RECORDS))
            start = stop

    def _survivors(self, start: int, stop: int, damage: RecordIOError) -> list[Run]:
        """What can be read of rows that hold damage, and what cannot; raises the damage if it may not be left out."""
        if not _leaves_out_damage(self._view):
            raise damage
        # A copy notes for itself what it has lost: other threads read other views.
        view = copy.copy(self._view[start:stop])
        columns = [concat(parts) for parts in zip(*view.stream_columns(workers=1), strict=True)]
        lost = _lost_rows(view)
        num_read = columns[0].num_rows if columns else 0
        if num_read != len(view) - sum(high - low for low, high, _ in lost):
            raise damage    # no record may get a wrong number
        runs, row, place = [], 0, 0     # row of the view; place of the row among those that were read
        for low, high, reason in [*lost, (len(view), len(view), "")]:
            if row < low:
                pairs = zip(view.schema.columns, columns, strict=True)
                rows = [slice_rows(column, values, place, place + low - row) for column, values in pairs]
                runs.append(Run(start + row, start + low, rows))
                place += low - row
            if low < high:
                runs.append(Run(start + low, start + high, None, reason))
            row = high
        return runs


def _lost_rows(view: Any) -> list[tuple[int, int, str]]:
    """Ranges of rows that a view has lost, in its own numbers, in order, and why; no two overlap."""
    rows = view.record_numbers
    found = []
    for lost in view.lost:
        if rows.step > 0:
            low, high = bisect_left(rows, lost.start), bisect_left(rows, lost.stop)
        else:
            low, high = (len(rows) - bisect_left(rows[::-1], number) for number in (lost.stop, lost.start))
        names = ("shard", "chunk", "column")
        where = [f"{name} {getattr(lost, name)!r}" for name in names if getattr(lost, name) is not None]
        found.append((low, high, f"{lost.error} [{', '.join(where)}]"))
    ranges, row = [], 0
    for low, high, reason in sorted(found):
        # What several columns have lost is said of the first.
        if max(low, row) < high:
            ranges.append((max(low, row), high, reason))
            row = high
    return ranges


def _leaves_out_damage(dataset: ColumnarDataset) -> bool:
    return getattr(dataset, "on_corrupt", "raise") == "skip"


def _raw_size(schema: Schema, columns: list[ColumnValues]) -> int:
    return sum(int(row_sizes(column, rows).sum()) for column, rows in zip(schema.columns, columns, strict=True))
