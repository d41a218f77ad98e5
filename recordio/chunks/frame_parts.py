"""The parts of frames: raw bytes -> rows, trusting no number in them.

    validity | ranks | dims | lengths | values        of frame 0, of frame 1, ...  ->  the rows of all of them

Consecutive frames of a column are cut together, part by part, since a numpy call costs the same for one frame as for
all of a chunk. Where the bytes come from, and that they are the ones written, is the business of
`recordio.chunks.frames`.

Spec: spec/format.md, section 6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from recordio.chunks.stored_values import stored_dtype, stored_row_size
from recordio.columns import Array, ColumnValues, element_counts, offsets
from recordio.errors import MalformedError
from recordio.format import layout
from recordio.format.objects import unpack
from recordio.schema import Column


def parse_frames(
    column: Column, raw: Sequence[Array], counts: Sequence[int], width: int, encoding: int
) -> ColumnValues:
    """Cut the raw bytes of consecutive frames of a variable or optional column into their parts.

    Args:
        raw: uint8 of each frame, at least one; what is writable may be kept.
        counts: rows of each frame.
        width: bytes of a dimension or length.
        encoding: bytes of a value, if it is narrow.

    Returns:
        The rows of all frames, with values of the column's type, in writable memory.

    Raises:
        MalformedError: a frame breaks a rule; which one is not said.
    """
    if column.is_fixed:
        rows = _parse_fixed(column, raw, counts, encoding)
    else:
        rows = _parse_variable(column, raw, counts, width, encoding)
    if column.dtype == "bool":
        check_bool(rows)
    return rows


def check_bool(rows: ColumnValues) -> None:
    """Refuse bools that are stored as something else than 0 or 1."""
    stored = rows.values.view(np.uint8)
    if stored.size and int(stored.max()) > 1:
        raise MalformedError(f"a bool stored as {int(stored.max())}")


def check_elements(count: int) -> None:
    """Refuse a frame of more strings than a reader should have to keep lengths of, before it does."""
    if count > layout.MAX_FRAME_ELEMENTS:
        raise MalformedError(f"a frame of {count} strings; at most {layout.MAX_FRAME_ELEMENTS} are allowed")


def check_variable(column: Column, rows: ColumnValues, counts: Sequence[int], value_sizes: Array) -> None:
    """Check rows of a column of known rank, without None, that were taken from frames without looking at their numbers.

    Args:
        rows: with `dims`, and `lengths` of strings, as they are stored.
        counts: rows of each frame.
        value_sizes: int64, bytes of the values of each frame.

    Raises:
        MalformedError: a frame breaks a rule; which one is not said.
    """
    assert rows.dims is not None
    total = int(value_sizes.sum())
    numbers, limit = (rows.dims, layout.MAX_DIM) if rows.lengths is None else (rows.lengths, total)
    if numbers.size and not 0 <= int(numbers.min()) <= int(numbers.max()) <= limit:
        raise MalformedError(f"a dimension or length of {int(numbers.max())}; at most {limit} is possible here")
    if rows.lengths is None:
        _check_products(column, rows, total, len(counts), column.itemsize or 1)
        sizes = element_counts(column, rows) * (column.itemsize or 1)
    else:
        sizes = rows.lengths.reshape(rows.num_rows, -1).sum(axis=1)
    if _sums(offsets(sizes), counts) != value_sizes.tolist():
        raise MalformedError("the rows of a frame do not fill it")
    if column.dtype == "str":
        _check_text(rows)
    elif column.dtype == "msgpack":
        _check_objects(rows)
    elif column.dtype == "bool":
        check_bool(rows)


def _parse_fixed(column: Column, raw: Sequence[Array], counts: Sequence[int], encoding: int) -> ColumnValues:
    cutter = _Cutter(raw)
    validity = _validity(cutter.cut(counts))
    row_size = stored_row_size(column, encoding)
    values = cutter.cut([count * row_size for count in counts], stored_dtype(column, encoding))
    cutter.check_end()
    num_rows = sum(counts)
    shaped = values.astype(column.numpy_dtype, copy=False).reshape(num_rows, *(column.shape or ()))
    if not validity.all():
        shaped[~validity] = 0  # what a None row holds is not checked, and must not show
    return ColumnValues(num_rows, shaped, validity)


def _parse_variable(
    column: Column, raw: Sequence[Array], counts: Sequence[int], width: int, encoding: int
) -> ColumnValues:
    cutter = _Cutter(raw)
    num_rows = sum(counts)
    rows = ColumnValues(num_rows, raw[0][:0])
    if column.optional:
        rows.validity = _validity(cutter.cut(counts))
    if column.shape is None:
        rows.ranks = cutter.cut(counts)
        if int(rows.ranks.max(initial=0)) > layout.MAX_RANK:
            raise MalformedError(f"a row of rank {int(rows.ranks.max())}; at most {layout.MAX_RANK} is allowed")
        ranks = _sums(offsets(rows.ranks.astype(np.int64)), counts)
        rows.dims = cutter.cut_numbers(ranks, width, layout.MAX_DIM)
    else:
        unknown = len(column.unknown_dims)
        dims = [count * unknown for count in counts]
        rows.dims = cutter.cut_numbers(dims, width, layout.MAX_DIM).reshape(num_rows, unknown)
    dtype = stored_dtype(column, encoding)
    _check_products(column, rows, cutter.total, len(raw), dtype.itemsize)
    if rows.validity is not None:
        _check_none_rows(rows)
    row_ends = offsets(element_counts(column, rows))
    if column.is_string_like:
        elements = _sums(row_ends, counts)
        check_elements(max(elements))
        rows.lengths = cutter.cut_numbers(elements, width, cutter.largest)
        rows.values = cutter.cut(_sums(offsets(rows.lengths), elements), column.numpy_dtype)
        if column.dtype == "str":
            _check_text(rows)
        elif column.dtype == "msgpack":
            _check_objects(rows)
    else:
        stored = cutter.cut([count * dtype.itemsize for count in _sums(row_ends, counts)], dtype)
        rows.values = stored.astype(column.numpy_dtype, copy=False)
    cutter.check_end()
    return rows


def _sums(ends: Array, counts: Sequence[int]) -> list[int]:
    """What consecutive runs of `counts` things add up to, given the running sum of the things."""
    if len(counts) == 1:
        return [int(ends[-1])]
    bounds = [0]
    for count in counts:
        bounds.append(bounds[-1] + count)
    sums: list[int] = np.diff(ends[bounds]).tolist()
    return sums


class _Cutter:
    """Cuts the same part from each frame, and puts it together; refuses to go past the end of a frame."""

    def __init__(self, raw: Sequence[Array]) -> None:
        self._raw = raw
        self._places = [0] * len(raw)
        self.total = sum(map(len, raw))  # bytes
        self.largest = max(map(len, raw))

    def cut(self, sizes: Sequence[int], dtype: np.dtype[np.generic] | None = None) -> Array:
        """The next bytes of each frame, so many of each: new memory, or a view of a writable frame."""
        pieces = []
        for number, (raw, size) in enumerate(zip(self._raw, sizes, strict=True)):
            start = self._places[number]
            stop = self._places[number] = start + size
            if stop > len(raw):
                raise MalformedError(f"a frame of {len(raw)} bytes holds parts of {stop} bytes and more")
            pieces.append(raw[start:stop])
        whole: Array
        if len(pieces) > 1:
            whole = np.concatenate(pieces)
        elif pieces[0].flags.writeable and (dtype is None or dtype.itemsize == 1):
            whole = pieces[0]
        else:
            whole = pieces[0].copy()  # aligned, too
        return whole if dtype is None else whole.view(dtype)

    def cut_numbers(self, counts: Sequence[int], width: int, limit: int) -> Array:
        """The next numbers of each frame, so many of each: int64."""
        if not any(counts):
            return np.empty(0, np.int64)
        found = self.cut([count * width for count in counts], np.dtype(f"<u{width}"))
        largest = int(found.max())
        if largest > limit:
            raise MalformedError(f"a dimension or length of {largest}; at most {limit} is possible here")
        return found.astype(np.int64)

    def check_end(self) -> None:
        """Every frame is cut to its very end."""
        for raw, place in zip(self._raw, self._places, strict=True):
            if place != len(raw):
                raise MalformedError(f"the rows of a frame fill {place} of its {len(raw)} bytes")


def _check_products(column: Column, rows: ColumnValues, raw_size: int, num_frames: int, item: int) -> None:
    """No row may have more elements than the frames can hold, of `item` bytes, nor a shape that numpy cannot make.

    In float64, where products cannot wrap around, over the dimensions that are not zero.
    """
    assert rows.dims is not None
    known = math.prod(float(dim) for dim in column.shape or () if dim)
    if rows.ranks is not None:
        row_of = np.repeat(np.arange(rows.num_rows), rows.ranks)
        products = np.exp2(np.bincount(row_of, np.log2(np.maximum(rows.dims, 1)), minlength=rows.num_rows))
        zero = np.bincount(row_of, rows.dims == 0, minlength=rows.num_rows) > 0
    else:
        products = np.multiply.reduce(np.maximum(rows.dims, 1).astype(np.float64), axis=1, initial=known)
        zero = (rows.dims == 0).any(axis=1) | (0 in (column.shape or ()))
    # numpy holds strings as references of 8 bytes.
    if products.size and float(products.max()) * (column.itemsize or 8) >= 2.0**63:
        raise MalformedError("the dimensions of a row make a shape beyond 2**63 bytes")
    products[zero] = 0
    if rows.validity is not None:
        products = products[rows.validity]
    # Each element takes at least a byte: its value, or its length. Twice: float64 products are rounded.
    if products.size and float(products.sum()) * item > 2.0 * raw_size + 64 * num_frames:
        raise MalformedError(f"the dimensions in frames of {raw_size} bytes ask for more elements than they can hold")


def _check_none_rows(rows: ColumnValues) -> None:
    assert rows.validity is not None and rows.dims is not None
    none = ~rows.validity
    if rows.ranks is not None:
        wrong = bool(rows.ranks[none].any())
    else:
        wrong = bool(rows.dims[none].any())
    if wrong:
        raise MalformedError("a row that is None has dimensions")


def _check_text(rows: ColumnValues) -> None:
    """Every element is UTF-8: all bytes together are, and no element begins inside a character."""
    assert rows.lengths is not None
    if int(rows.values.max(initial=0)) < 0x80:
        return  # ASCII
    try:
        str(rows.values.data, "utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError(
            f"text that is not UTF-8: {error.reason} at byte {error.start} of the frame's values"
        ) from None
    starts = offsets(rows.lengths)[:-1][rows.lengths > 0]
    if bool(((rows.values[starts] & 0xC0) == 0x80).any()):
        raise MalformedError("text that is not UTF-8: an element begins inside a character")


def _check_objects(rows: ColumnValues) -> None:
    """Every value is one msgpack object. It is decoded again for the user, but here it can be located and left out."""
    assert rows.lengths is not None
    packed = rows.values.tobytes()
    for start, stop in pairwise(offsets(rows.lengths).tolist()):
        unpack(packed[start:stop], max_size=layout.MAX_OBJECT_SIZE, what="a msgpack value")


def _validity(stored: Array) -> Array:
    if stored.size and int(stored.max()) > 1:
        raise MalformedError(f"validity {int(stored.max())} is neither 0 nor 1")
    return stored.view(np.bool_)
