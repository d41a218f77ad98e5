"""Columns: rows of one leaf as flat arrays, and the frames they are stored in.

    validity | ranks | dims | lengths | values        of n rows, as in a frame

Everything is vectorised over rows. What a user may put into a column is decided in `recordio.values.signature`; what
a user gets out of it in `recordio.values.leaves`; how frames lie in a chunk in `recordio.format.chunk`.

Spec: spec/format.md, sections 5 and 6.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from recordio.schema import Column

Array = np.ndarray[Any, np.dtype[Any]]

# Rows longer than this (bytes) are gathered as slices, shorter ones by an index per value; see `gather`.
_SLICE_ROW_SIZE = 128


@dataclass(slots=True)
class ColumnValues:
    """Rows of one column.

    Attributes:
        num_rows: n.
        values: fixed columns: dtype[n, *shape]; numeric variable columns: dtype[E], all elements back to back,
            row-major; string-like columns: uint8[bytes], all elements back to back.
        validity: bool[n], True where there is a value; optional columns only. A None row is zero in a fixed column, and
            has rank 0, dims 0 and no element in a variable one.
        ranks: uint8[n]; columns of unknown rank only.
        dims: variable columns only: int64[n, k] for k unknown dims; int64[sum of ranks] where the rank is unknown.
        lengths: int64[E], bytes of each element; string-like columns only.

    On the way from a user to an encoder, values of strings may be `Elements`.
    """

    num_rows: int
    values: Array
    validity: Array | None = None
    ranks: Array | None = None
    dims: Array | None = None
    lengths: Array | None = None


class Elements:
    """Values of a column of strings: the user's own `bytes`, which nobody can change, instead of a copy back to back.

    Only those who cut rows for an encoder know of it: `split_rows`, `concat`, and the encoding of frames.
    """

    __slots__ = ("items",)

    def __init__(self, items: list[bytes]) -> None:
        self.items = items

    def join(self) -> Array:
        """uint8 of all elements, back to back; read-only."""
        return np.frombuffer(b"".join(self.items), np.uint8)


def element_counts(column: Column, rows: ColumnValues) -> Array:
    """Elements of each row of a variable column: int64[n]."""
    counts = _products(column, rows)
    if rows.validity is not None:
        counts[~rows.validity] = 0
    return counts


def row_sizes(column: Column, rows: ColumnValues) -> Array:
    """Raw bytes of each row, int64[n], with 4 bytes for every dimension and length; what chunks and frames are closed
    by.

    The true width of dimensions and lengths is known only when a chunk is closed, and boundaries must not depend on it.
    """
    overhead = (rows.validity is not None) + (rows.ranks is not None)
    if column.is_fixed:
        return np.full(rows.num_rows, column.row_size + overhead, np.int64)
    counts = element_counts(column, rows)
    sizes: Array
    if rows.ranks is not None:
        sizes = overhead + 4 * rows.ranks.astype(np.int64)
    else:
        assert rows.dims is not None
        sizes = np.full(rows.num_rows, overhead + 4 * rows.dims.shape[1], np.int64)
    if rows.lengths is None:
        sizes += counts * (column.itemsize or 1)
        return sizes
    byte_ends = offsets(rows.lengths)[offsets(counts)]
    sizes += 4 * counts
    sizes += np.diff(byte_ends)
    return sizes


def slice_rows(column: Column, rows: ColumnValues, start: int, stop: int) -> ColumnValues:
    """Rows start to stop, as views."""
    if start == 0 and stop == rows.num_rows:
        return rows
    return split_rows(column, rows, (start, stop))[0]


def split_rows(column: Column, rows: ColumnValues, bounds: Sequence[int]) -> list[ColumnValues]:
    """Rows bounds[i] to bounds[i + 1] for every i, as views; bounds ascend."""
    validity, ranks, dims, lengths = rows.validity, rows.ranks, rows.dims, rows.lengths
    values: Any = rows.values
    if column.is_fixed:
        return [
            ColumnValues(stop - start, values[start:stop], None if validity is None else validity[start:stop])
            for start, stop in pairwise(bounds)
        ]
    assert dims is not None
    places = list(bounds)
    axes, items, firsts = split_places(column, rows, places)
    if isinstance(values, Elements):
        cut: list[Any] = [Elements(values.items[start:stop]) for start, stop in pairwise(items)]
    else:
        cut = [values[start:stop] for start, stop in pairwise(firsts)]
    return [
        ColumnValues(
            num_rows=places[part + 1] - places[part],
            values=cut[part],
            validity=None if validity is None else validity[places[part] : places[part + 1]],
            ranks=None if ranks is None else ranks[places[part] : places[part + 1]],
            dims=dims[axes[part] : axes[part + 1]],
            lengths=None if lengths is None else lengths[items[part] : items[part + 1]],
        )
        for part in range(len(places) - 1)
    ]


def split_places(column: Column, rows: ColumnValues, bounds: list[int]) -> tuple[list[int], list[int], list[int]]:
    """Where rows of a variable column begin in `dims` (in rows of it, if the rank is known), `lengths` and `values`."""
    axes = bounds if rows.ranks is None else offsets(rows.ranks.astype(np.int64))[bounds].tolist()
    items = offsets(element_counts(column, rows))[bounds].tolist()
    firsts = items if rows.lengths is None else offsets(rows.lengths)[items].tolist()
    return axes, items, firsts


def take_rows(column: Column, rows: ColumnValues, indices: Array) -> ColumnValues:
    """The rows at `indices` (int64[m], in range), as a copy in that order."""
    taken = ColumnValues(
        num_rows=len(indices),
        values=rows.values,
        validity=None if rows.validity is None else rows.validity[indices],
        ranks=None if rows.ranks is None else rows.ranks[indices],
    )
    if column.is_fixed:
        taken.values = rows.values.take(indices, axis=0)
        return taken
    assert rows.dims is not None
    if rows.ranks is None:
        taken.dims = rows.dims[indices]
    else:
        rank_starts = offsets(rows.ranks.astype(np.int64))[:-1]
        taken.dims = gather(rows.dims, rank_starts[indices], rows.ranks.astype(np.int64)[indices])
    counts = element_counts(column, rows)
    starts = offsets(counts)
    if rows.lengths is None:
        taken.values = gather(rows.values, starts[:-1][indices], counts[indices])
        return taken
    byte_starts = offsets(rows.lengths)
    taken.lengths = gather(rows.lengths, starts[:-1][indices], counts[indices])
    first_bytes = byte_starts[starts[:-1]][indices]
    taken.values = gather(rows.values, first_bytes, byte_starts[starts[1:]][indices] - first_bytes)
    return taken


def concat(parts: Sequence[ColumnValues], new_array: Callable[..., Array] = np.empty) -> ColumnValues:
    """The rows of all parts, in order; a single part is returned as it is, several are copied. At least one part.

    Args:
        new_array: makes the arrays that they are copied to, of any contents, from a shape and a dtype.
    """
    if len(parts) == 1:
        return parts[0]

    def join(arrays: list[Any]) -> Any:
        if arrays[0] is None:
            return None
        shape = (sum(map(len, arrays)), *arrays[0].shape[1:])
        return np.concatenate(arrays, out=new_array(shape, arrays[0].dtype))

    values: list[Any] = [part.values for part in parts]
    if all(isinstance(part, Elements) for part in values):
        joined: Any = Elements([item for part in values for item in part.items])
    else:
        joined = join([part.join() if isinstance(part, Elements) else part for part in values])
    return ColumnValues(
        num_rows=sum([part.num_rows for part in parts]),
        values=joined,
        validity=join([part.validity for part in parts]),
        ranks=join([part.ranks for part in parts]),
        dims=join([part.dims for part in parts]),
        lengths=join([part.lengths for part in parts]),
    )


def empty(column: Column) -> ColumnValues:
    """No rows."""
    known_rank = column.shape is not None
    return ColumnValues(
        num_rows=0,
        values=np.empty((0, *(column.shape or ())) if column.is_fixed else 0, column.numpy_dtype),
        validity=np.empty(0, np.bool_) if column.optional else None,
        ranks=None if known_rank else np.empty(0, np.uint8),
        dims=None if column.is_fixed else np.empty((0, len(column.unknown_dims)) if known_rank else 0, np.int64),
        lengths=np.empty(0, np.int64) if column.is_string_like else None,
    )


def blank(column: Column, num_rows: int) -> ColumnValues:
    """Rows that fill a batch up: zeros, empty strings and ragged rows, None where it is allowed."""
    known_rank = column.shape is not None
    dims_known = tuple(dim or 0 for dim in column.shape or ())
    elements = 0 if not known_rank or column.unknown_dims else math.prod(dims_known)
    is_object = column.dtype == "msgpack"  # which cannot be empty: nil
    lengths = np.full(num_rows * elements, int(is_object), np.int64) if column.is_string_like else None
    if column.is_fixed:
        values: Array = np.zeros((num_rows, *dims_known), column.numpy_dtype)
    else:
        values = np.full(num_rows if is_object else 0, 0xC0 if is_object else 0, column.numpy_dtype)
    ranks = dims = None
    if not column.is_fixed:
        unknown = len(column.unknown_dims)
        ranks = None if known_rank else np.full(num_rows, 0 if column.optional else 1, np.uint8)
        dims = np.zeros((num_rows, unknown) if known_rank else num_rows * (not column.optional), np.int64)
    if column.optional and lengths is not None:
        lengths = lengths[:0]
    return ColumnValues(
        num_rows=num_rows, values=values, validity=np.zeros(num_rows, np.bool_) if column.optional else None,
        ranks=ranks, dims=dims, lengths=lengths,
    )  # fmt: skip


def owned(rows: ColumnValues) -> ColumnValues:
    """A copy that shares memory with nothing."""

    def copy(array: Array | None) -> Any:
        return None if array is None else array.copy()

    return ColumnValues(
        rows.num_rows, copy(rows.values), copy(rows.validity), copy(rows.ranks), copy(rows.dims), copy(rows.lengths)
    )


def memory_size(rows: ColumnValues) -> int:
    """Bytes that the arrays hold."""
    arrays = (rows.values, rows.validity, rows.ranks, rows.dims, rows.lengths)
    return sum(array.nbytes for array in arrays if array is not None)


def offsets(counts: Array) -> Array:
    """Where each of n consecutive runs begins, and where the last ends: int64[n + 1]."""
    ends = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=ends[1:])
    return ends


def gather(values: Array, starts: Array, counts: Array) -> Array:
    """Runs of `values`, [start, start + count) each, back to back in a new array.

    An index costs 8 bytes and a step of numpy for every value, a slice a step of Python for every run: long runs take
    slices.
    """
    total = int(counts.sum())
    if total * values.itemsize > _SLICE_ROW_SIZE * len(counts):
        size = values.itemsize
        data = np.ascontiguousarray(values).view(np.uint8).data
        first, last = (starts * size).tolist(), ((starts + counts) * size).tolist()
        # Joined at once without the GIL; numpy takes and gives it back for every run.
        runs = bytearray().join([data[a:b] for a, b in zip(first, last, strict=True)])
        return np.frombuffer(runs, np.uint8).view(values.dtype)
    index = np.arange(total, dtype=np.int64)
    index += np.repeat(starts - (np.cumsum(counts) - counts), counts)
    return values[index]


def _products(column: Column, rows: ColumnValues) -> Array:
    """Product of the dimensions of each row, None rows included: int64[n], a new array."""
    if rows.ranks is not None:
        assert rows.dims is not None
        # reduceat needs at least one factor a row, so a 1 is put in front of each row's dimensions.
        ends = offsets(rows.ranks.astype(np.int64))
        if not rows.num_rows:
            return np.zeros(0, np.int64)
        factors = np.insert(rows.dims, ends[:-1], 1)
        return np.multiply.reduceat(factors, ends[:-1] + np.arange(rows.num_rows))
    assert rows.dims is not None and column.shape is not None
    known = 1
    for dim in column.shape:
        known *= 1 if dim is None else dim
    if rows.dims.shape[1] == 1:
        return rows.dims[:, 0] * known
    counts: Array = np.multiply.reduce(rows.dims, axis=1, dtype=np.int64, initial=known)
    return counts
