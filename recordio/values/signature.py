"""Strict values: records and batches of the user -> `ColumnValues`, or an error that names record and column.

    RecordBuffer    record by record; a record that is refused leaves the buffer as it was
    cast_batch      whole arrays at once, without a loop over records where the leaves are arrays

A value is taken only if it would be read back equal: the rules for numbers are in `recordio.values.casting`, those for
one row's leaf in `recordio.values.row_values`, those for a leaf of a batch in `recordio.values.batch_columns`. What
results never shares memory with what the caller gave. The structure of a record is checked by `recordio.schema`; how
the columns are stored is in `recordio.chunks.frames`.

Spec: spec/format.md, sections 3, 6 and 10.
"""

from __future__ import annotations

from typing import Any

from recordio.columns import ColumnValues
from recordio.errors import SignatureError
from recordio.schema import Schema
from recordio.values.batch_columns import cast_column, read_leaf
from recordio.values.row_values import row_caster


class RecordBuffer:
    """Records that were checked and wait to be stored; all of them are copies."""

    def __init__(self, schema: Schema) -> None:
        """Make the functions of every column once. RequestError if a dtype needs ml_dtypes and there is none."""
        self._flatten = schema.flatten
        self._casters = [row_caster(column) for column in schema.columns]
        self._keepers = [caster.keep for caster in self._casters]
        # One list per record, not per column: a record is in it with all its leaves or not at all.
        self._rows: list[list[Any]] = []
        self._row_size = sum(column.row_size for column in schema.columns if column.is_fixed)
        self._variable = [ordinal for ordinal, column in enumerate(schema.columns) if not column.is_fixed]
        self.nbytes = 0  # raw bytes of the records kept

    def __len__(self) -> int:
        return len(self._rows)

    def append(self, record: Any, record_number: int) -> None:
        """Check a record and keep a copy.

        Args:
            record_number: place in the source, for the error.

        Raises:
            SignatureError, SignatureTypeError: the record does not match; the buffer is as before.
        """
        leaves = self._flatten(record, record_number)
        try:
            row = [keep(leaf) for keep, leaf in zip(self._keepers, leaves)]
        except SignatureError as error:
            error.locate(record=record_number)
            raise
        self._rows.append(row)
        size = self._row_size
        for ordinal in self._variable:
            kept = row[ordinal]
            if type(kept) is tuple:
                kept = kept[0]
            if kept is not None:
                size += len(kept) if type(kept) is bytes else sum(map(len, kept))
        self.nbytes += size

    def take(self) -> list[ColumnValues]:
        """All records kept, one entry per column; the buffer is empty afterwards."""
        kept = zip(*self._rows) if self._rows else (() for _ in self._casters)
        columns = [caster.build(list(rows)) for caster, rows in zip(self._casters, kept)]
        self._rows = []
        self.nbytes = 0
        return columns


def cast_batch(
    schema: Schema, batch: Any, *, first_record: int = 0, keep_bytes: bool = False
) -> tuple[int, list[ColumnValues]]:
    """Check a batch of records.

    Args:
        batch: structure of a record whose leaves have a leading axis B: arrays `[B, ...]`, tensors, Ragged, or lists
            of rows. The schema says what a list is: where it has a leaf, the list holds rows; where it has a list of
            leaves, the list holds these. Neither ever depends on how long it is.
        first_record: number of the batch's first record in the source, for errors.
        keep_bytes: for encoders: long `bytes` may be kept as they are, as `Elements`.

    Returns:
        B, and one entry per column; new memory.

    Raises:
        SignatureError, SignatureTypeError: the first record that does not match.
    """
    leaves = [
        read_leaf(column, leaf, first_record)
        for column, leaf in zip(schema.columns, schema.flatten(batch, first_record))
    ]
    num_rows = len(leaves[0]) if leaves else 0
    for column, leaf in zip(schema.columns, leaves):
        if len(leaf) != num_rows:
            raise SignatureError(
                f"column {schema.columns[0].name!r} has {num_rows} rows, column {column.name!r} has {len(leaf)}",
                column=column.name,
                record=first_record + min(num_rows, len(leaf)),
                advice="All leaves of a batch need the same number of rows",
            )
    columns: list[ColumnValues] = []
    first: SignatureError | None = None
    for column, leaf in zip(schema.columns, leaves):
        try:
            columns.append(cast_column(column, leaf, first_record, keep_bytes))
        except SignatureError as error:
            # Another column may be wrong in an earlier record.
            if first is None or (error.record or 0) < (first.record or 0):
                first = error
    if first is not None:
        raise first
    return num_rows, columns


def count_rows(schema: Schema, batch: Any) -> int:
    """How many records a batch has, as its first column says; its values are not looked at.

    Raises:
        SignatureError: the batch has another structure, or the column no leading axis.
    """
    leaves = schema.flatten(batch)
    return len(read_leaf(schema.columns[0], leaves[0], 0))
