"""Data sets: what users index, slice, iterate and batch.

    ds = recordio.open("data/train")       the index is read, nothing else
    ds[7]                                  one record
    ds[10:20]                              a view: no record is read
    ds[[3, 1, 4]]                          one batch, in the order asked
    for record in ds                       in order, decoded on threads ahead of the loop

A data set is a reader, the rows of it that are in view, and the columns. How rows are found and decoded is in
`recordio.reader` and `recordio.memory`; how leaves look in `recordio.values.leaves`.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, SupportsIndex, overload

import numpy as np

from recordio.buffers import Buffers
from recordio.columns import Array, ColumnValues, concat, split_rows, take_rows
from recordio.errors import RequestError
from recordio.execute.pool import default_workers
from recordio.indices import record_numbers
from recordio.memory import MemoryReader
from recordio.reader import DEFAULT_CACHE_SIZE, DataSetReader, open_data_set
from recordio.rows import LostRange, OnCorrupt, merged_ranges
from recordio.schema import Schema
from recordio.storage import LOCAL, Storage
from recordio.values.infer import infer_batch_signature, infer_signature
from recordio.values.leaves import batch_leaf, record_leaf, record_leaves
from recordio.values.signature import RecordBuffer, cast_batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One shard of a data set."""

    name: str
    first_record: int  # its record number in the data set
    num_records: int
    raw_size: int  # bytes
    stored_size: int  # bytes, of the file
    num_chunks: int


@dataclass(frozen=True, eq=False)
class Dataset:
    """Records on disk, or in memory, as a sequence. Made by `recordio.open`, `from_tensors` and `from_tensor_slices`.

    Everything that comes back is writable and the caller's own. A data set can be pickled, and used from many threads
    and after a fork.
    """

    _reader: DataSetReader | MemoryReader
    _rows: range  # record numbers in view
    schema: Schema
    _ordinals: tuple[int, ...]
    _on_corrupt: OnCorrupt = "raise"
    _lost: dict[LostRange, None] = field(default_factory=dict)  # a set that keeps its order; shared by all views

    # -- what it is --

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def element_spec(self) -> Any:
        """Structure of `TensorSpec` and `MsgpackSpec` that every record matches."""
        return self.schema.element_spec

    @property
    def metadata(self) -> dict[str, Any]:
        """What the writer was given; the caller's own copy."""
        import copy

        return copy.deepcopy(self._reader.metadata)

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits that are equal for equal data sets (all of it, not only what is in view)."""
        return self._reader.fingerprint.hex()

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The files of the data set, in order (all of them, not only what is in view); empty in memory."""
        reader = self._reader
        if isinstance(reader, MemoryReader):
            return ()
        return tuple(
            Shard(
                name=entry.name,
                first_record=int(reader.first_records[ordinal]),
                num_records=entry.num_records,
                raw_size=entry.raw_size,
                stored_size=entry.file_size,
                num_chunks=entry.num_chunks,
            )
            for ordinal, entry in enumerate(reader.shards)
        )

    @property
    def record_numbers(self) -> range:
        """Which records of the whole data set are in view, in the order of the view."""
        return self._rows

    @property
    def on_corrupt(self) -> OnCorrupt:
        """What is done where damage is met: as `open` was told."""
        return self._on_corrupt

    @property
    def lost(self) -> tuple[LostRange, ...]:
        """Under on_corrupt="skip": the ranges of records that cannot be read, as far as reading has met them up to now.

        Of this data set and all views that were made of it, in this process; a range has a record in view of the one
        that met it. No two ranges of the same column of a chunk overlap; records that several columns have lost are in
        the ranges of each.
        """
        return merged_ranges(self._lost)

    def __reduce__(self) -> tuple[Any, ...]:
        reader, rows, ordinals = self._reader, self._rows, self._ordinals
        if isinstance(reader, MemoryReader) and (len(rows) < reader.num_records or len(ordinals) < len(reader.columns)):
            # Only what is in view is sent: a part of a data set in memory goes to every worker.
            columns = self.read_columns(0, len(rows))
            reader = replace(
                reader, schema=self.schema, columns=columns, num_records=len(rows), whole=reader.fingerprint
            )
            rows, ordinals = range(len(rows)), tuple(range(len(columns)))
        return Dataset, (reader, rows, self.schema, ordinals, self._on_corrupt)

    def __repr__(self) -> str:
        return f"<recordio.Dataset: {len(self)} records, element_spec={self.element_spec!r}>"

    # -- records --

    @overload
    def __getitem__(self, key: slice) -> Dataset: ...
    @overload
    def __getitem__(self, key: SupportsIndex | Sequence[SupportsIndex] | Array) -> Any: ...
    def __getitem__(self, key: Any) -> Any:
        """One record, a view, or one batch.

        Args:
            key: an int (negative from the end): a record. A slice: a data set that shows only these rows. A list or
                array of ints: a batch of these records in this order, leaves as described in `batch`.

        Raises:
            IndexError: out of range. TypeError: not one of these. DataError: what is asked for is damaged, under
            on_corrupt="skip" as well: a record that is asked for by number cannot be left out.
        """
        if isinstance(key, slice):
            rows = self._rows[key]
            # Steps of any size give these: arithmetic on them is in int64.
            return replace(self, _rows=rows if len(rows) > 1 else range(rows[0], rows[0] + 1) if rows else range(0))
        if isinstance(key, (list, tuple, range)) or (isinstance(key, np.ndarray) and key.ndim):
            return self._batch(record_numbers(key, self._rows))
        if isinstance(key, bool | np.bool_):
            raise TypeError("records are picked by int, slice, or a list or array of ints, not bool")
        try:
            index = operator.index(key)
        except TypeError:
            raise TypeError(
                f"records are picked by int, slice, or a list or array of ints, not {type(key).__name__}"
            ) from None
        try:
            number = self._rows[index]
        except IndexError:
            raise IndexError(f"record {index} of a data set of {len(self)} records") from None
        columns = self.schema.columns
        found = self._reader.record(number, self._ordinals)
        return self.schema.unflatten(
            [record_leaf(c, values, row) for c, (values, row) in zip(columns, found, strict=True)]
        )

    def __iter__(self) -> Iterator[Any]:
        """The records in order; the next chunks are decoded meanwhile."""
        unflatten, columns = self.schema.unflatten, self.schema.columns
        for rows in self.stream_columns():
            for leaves in zip(*map(record_leaves, columns, rows), strict=True):
                # Copies, so that a record that is kept does not keep the megabytes that were decoded with it.
                yield unflatten([leaf.copy() if isinstance(leaf, np.ndarray) else leaf for leaf in leaves])

    def __reversed__(self) -> Iterator[Any]:
        return iter(self[::-1])

    # -- views --

    def select_columns(self, names: str | Sequence[str]) -> Dataset:
        """Show only some columns; the others are neither read nor verified.

        Args:
            names: of columns, as `inspect` shows them: the name in the spec, or the path of the leaf ("features/age").

        Raises:
            RequestError: there is no such column.
        """
        schema, ordinals = self.schema.select([names] if isinstance(names, str) else names)
        return replace(self, schema=schema, _ordinals=tuple(self._ordinals[ordinal] for ordinal in ordinals))

    def batch(self, batch_size: int, *, drop_remainder: bool = False, workers: int | None = None) -> Batches:
        """Group consecutive records; a sequence of batches.

        Args:
            batch_size: records of a batch, B.
            drop_remainder: leave out the last batch if it is smaller.
            workers: threads that read and decode ahead; as many as there are processors by default, 0 for the caller's
                own.

        Raises:
            RequestError: batch_size is below 1, or workers below 0.
        """
        batch_size = operator.index(batch_size)
        if batch_size < 1:
            raise RequestError(f"batch_size {batch_size} is below 1")
        workers = default_workers() if workers is None else operator.index(workers)
        if workers < 0:
            raise RequestError(f"workers {workers} is below 0")
        return Batches(self, batch_size, drop_remainder, workers)

    # -- columns: what converters and batches read --

    def read_columns(self, start: int, stop: int) -> list[ColumnValues]:
        """Rows [start, stop) of the view, a ColumnValues for every column; the caller's own."""
        return self._reader.rows(np.asarray(self._rows[start:stop], np.int64), self._ordinals)

    def stream_columns(self, *, workers: int | None = None, align: int = 1) -> Iterator[list[ColumnValues]]:
        """All rows of the view in order, in runs; what is damaged is left out under on_corrupt="skip".

        Args:
            workers: threads that read and decode ahead; as many as there are processors by default.
            align: runs begin at multiples of so many rows, where that costs nothing.
        """
        rows = self._rows
        if not len(rows):
            return
        workers = default_workers() if workers is None else workers
        low, high = min(rows[0], rows[-1]), max(rows[0], rows[-1]) + 1
        if rows.step < 0 or rows.step > _STREAM_STEP:
            yield from self._scattered()
            return
        reader = self._reader.stream(
            low, high, self._ordinals, workers=workers, on_corrupt=self._on_corrupt, align=align
        )
        for piece in reader:
            self._note_lost(piece.lost)
            columns = piece.columns
            if rows.step != 1:
                numbers = np.arange(piece.start, piece.stop) if piece.numbers is None else piece.numbers
                kept = np.flatnonzero((numbers - low) % rows.step == 0)
                columns = [take_rows(c, v, kept) for c, v in zip(self.schema.columns, columns, strict=True)]
            if columns[0].num_rows:
                yield columns

    @property
    def buffers(self) -> Buffers:
        """Lends the memory of batches."""
        return self._reader.buffers

    def _note_lost(self, ranges: Iterable[LostRange]) -> None:
        rows = self._rows if self._rows.step > 0 else self._rows[::-1]
        for lost in ranges:
            # The first row in view that is not before the range.
            steps = max(0, -(-(lost.start - rows.start) // rows.step))
            if steps < len(rows) and rows[steps] < lost.stop:
                self._lost[lost] = None

    def _scattered(self) -> Iterator[list[ColumnValues]]:
        if self._on_corrupt == "skip":
            # Backwards or with gaps, damage is met record by record: what can be read at all is found in order first.
            low, high = min(self._rows[0], self._rows[-1]), max(self._rows[0], self._rows[-1]) + 1
            lost = [
                piece.lost for piece in self._reader.stream(low, high, self._ordinals, workers=1, on_corrupt="skip")
            ]
            ranges = [found for part in lost for found in part]
            self._note_lost(ranges)
        else:
            ranges = []
        for start in range(0, len(self._rows), _SCATTERED_RECORDS):
            numbers = np.asarray(self._rows[start : start + _SCATTERED_RECORDS], np.int64)
            for found in ranges:
                numbers = numbers[(numbers < found.start) | (numbers >= found.stop)]
            if len(numbers):
                yield self._reader.rows(numbers, self._ordinals)

    def _batch(self, numbers: Array) -> Any:
        return self.make_batch(self._reader.rows(numbers, self._ordinals))

    def make_batch(self, rows: Sequence[ColumnValues]) -> Any:
        """The structure of a batch from the rows of its columns, without copying."""
        return self.schema.unflatten(
            [batch_leaf(c, values) for c, values in zip(self.schema.columns, rows, strict=True)]
        )


# Rows further apart than this are picked one by one; nearer ones are read in order and thinned out.
_STREAM_STEP = 16
_SCATTERED_RECORDS = 1024


@dataclass(frozen=True, eq=False)
class Batches:
    """Consecutive batches of a data set, as a sequence.

    Every batch has the structure of a record. Fixed-shape columns are arrays `[B, ...]`; `str`, `bytes` and ragged
    columns are `Ragged`; optional fixed columns `numpy.ma`; unknown rank and msgpack object arrays.

    Batches that are iterated over share no byte, but lie side by side in buffers of some megabytes, which live as long
    as one of them: copy what you keep for long. Under on_corrupt="skip" iteration leaves damaged records out, and gives
    fewer batches than `len` says; `[i]` counts all records, and raises where one is damaged.
    """

    dataset: Dataset
    batch_size: int
    drop_remainder: bool
    workers: int

    def __len__(self) -> int:
        records = len(self.dataset)
        return records // self.batch_size if self.drop_remainder else -(-records // self.batch_size)

    @property
    def element_spec(self) -> Any:
        """Of one record: every leaf of a batch has one more axis, in front."""
        return self.dataset.element_spec

    def __getitem__(self, index: SupportsIndex) -> Any:
        """Batch `index`, by arithmetic.

        Raises:
            IndexError: out of range.
        """
        found = operator.index(index)
        found += len(self) if found < 0 else 0
        if not 0 <= found < len(self):
            raise IndexError(f"batch {operator.index(index)} of {len(self)} batches")
        stop = min(len(self.dataset), (found + 1) * self.batch_size)
        return self.dataset.make_batch(self.dataset.read_columns(found * self.batch_size, stop))

    def __iter__(self) -> Iterator[Any]:
        """The batches in order; the next chunks are decoded meanwhile."""
        columns, batch_size = self.dataset.schema.columns, self.batch_size
        make_batch, unflatten = self.dataset.make_batch, self.dataset.schema.unflatten
        is_plain = all(column.is_fixed and not column.optional for column in columns)
        buffers = self.dataset.buffers  # for batches that are put together from several runs
        held: list[Sequence[ColumnValues]] = []  # of the batch that is not full yet
        num_held = 0
        for rows in self.dataset.stream_columns(workers=self.workers, align=batch_size):
            num_rows = rows[0].num_rows
            if num_held + num_rows < batch_size:
                held.append(rows)
                num_held += num_rows
                continue
            ends = range(batch_size - num_held, num_rows + 1, batch_size)  # of the batches that end in these rows
            if is_plain:
                # Nothing but arrays: the way of a projection, where a batch costs more than its bytes.
                first, _, last = self._split(rows, [0, ends[0], ends[-1], num_rows])
                yield self._join([*held, first], buffers)
                arrays = [values.values for values in rows]
                for start in ends[:-1]:
                    yield unflatten([array[start : start + batch_size] for array in arrays])
            else:
                first, *middle, last = self._split(rows, [0, *ends, num_rows])
                yield self._join([*held, first], buffers)
                for part in middle:
                    yield make_batch(part)
            num_held = num_rows - ends[-1]
            held = [last] if num_held else []
        if num_held and not self.drop_remainder:
            yield self._join(held, buffers)

    def _split(self, rows: list[ColumnValues], bounds: list[int]) -> list[Sequence[ColumnValues]]:
        columns = self.dataset.schema.columns
        return list(zip(*[split_rows(c, values, bounds) for c, values in zip(columns, rows, strict=True)], strict=True))

    def _join(self, parts: Sequence[Sequence[ColumnValues]], buffers: Buffers) -> Any:
        return self.dataset.make_batch([concat(column, buffers.empty) for column in zip(*parts, strict=True)])


def open_dataset(
    path: str | os.PathLike[str],
    columns: str | Sequence[str] | None = None,
    on_corrupt: OnCorrupt = "raise",
    *,
    cache_size: int = DEFAULT_CACHE_SIZE,
    _storage: Storage = LOCAL,
) -> Dataset:
    """Open a data set, reading its index and nothing else; or one `.rio` file alone.

    Reading in order keeps the memory of its batches once they are dropped, up to 256 MiB in each process, for the next.

    Args:
        path: the directory of a data set, its `index.rix`, or a shard.
        columns: names of the columns to show; all by default. The others are never read.
        on_corrupt: "raise" a located error where damage is met, or "skip" the damaged records when reading in order:
            they are listed in `lost`, and the numbers of the other records do not change.
        cache_size: bytes of decoded frames that are kept for access by number, in each process.

    Raises:
        FileNotFoundError: nothing is there. IncompleteError: writing did not end.
        NotRecordIOError, TooNewError, DataError: what is there cannot be read.
    """
    if on_corrupt not in ("raise", "skip"):
        raise RequestError(f"on_corrupt is {on_corrupt!r}", advice="Use 'raise' or 'skip'")
    if type(cache_size) is not int or cache_size < 0:
        raise RequestError(f"cache_size {cache_size!r} is not a number of bytes")
    reader = open_data_set(os.fsdecode(path), storage=_storage, cache_size=cache_size, may_be_cut=on_corrupt == "skip")
    schema = reader.schema
    dataset = Dataset(reader, range(reader.num_records), schema, tuple(range(len(schema.columns))), on_corrupt)
    return dataset if columns is None else dataset.select_columns(columns)


def from_tensors(structure: Any, *, output_signature: Any = None) -> Dataset:
    """A data set in memory of one record: the structure itself.

    Raises:
        SignatureError: it does not match the signature, or none can be inferred.
    """
    schema = Schema.from_signature(infer_signature([structure]) if output_signature is None else output_signature)
    buffer = RecordBuffer(schema)
    buffer.append(structure, 0)
    return _in_memory(schema, buffer.take(), 1)


def from_tensor_slices(structure: Any, *, output_signature: Any = None) -> Dataset:
    """A data set in memory of the slices of arrays along their first axis.

    Args:
        structure: of arrays `[B, ...]`, `Ragged`, or lists of rows, all of the same B.
        output_signature: of one record; inferred by default.

    Raises:
        SignatureError: a row does not match the signature, or the leaves differ in length.
    """
    schema = Schema.from_signature(infer_batch_signature(structure) if output_signature is None else output_signature)
    num_rows, columns = cast_batch(schema, structure)
    return _in_memory(schema, columns, num_rows)


def _in_memory(schema: Schema, columns: list[ColumnValues], num_rows: int) -> Dataset:
    return Dataset(MemoryReader(schema, columns, num_rows), range(num_rows), schema, tuple(range(len(columns))))
