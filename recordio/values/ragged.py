"""Ragged: one batch of a column whose rows differ in length.

    Ragged(int32[3, ?])      rows of numbers: views      Ragged(str[3])      strings
      [0]  array [1, 2]                                    [0]  "né"
      [1]  array []                                        [1]  ""
      [2]  array [3]                                       [2]  "a"

Flat arrays with offsets, so that a batch costs a few allocations whatever the number of rows, and goes to the
ragged types of the frameworks without a loop. What these arrays are, and how they are made of rows, is in
`ragged_layout`; how a column is stored is in `columns`; which leaf becomes a Ragged is decided in `leaves`.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

import numpy as np

from recordio.columns import Array, gather, offsets
from recordio.errors import RequestError, SignatureTypeError
from recordio.spec import canonical_dtype, canonical_shape
from recordio.values.casting import Refusal, as_array, cast, show_value
from recordio.values.ragged_layout import (
    TEXT_DTYPES,
    RaggedArrays,
    RowShape,
    arrays_of_rows,
    check_arrays,
    object_array,
    split_text,
)

if TYPE_CHECKING:
    from numpy.typing import DTypeLike


_INDICES = "an integer, a slice or one array of integers or bools"


class Ragged:
    """One batch of variable-length rows; list-like, writable, and sharing no memory with another batch.

    Indexing with an integer gives a row: an array (numeric: a view of this batch), an object array of strings, a
    `str`, a `bytes`, or None. Slices, integer arrays and boolean masks give another Ragged, a copy.

    Attributes:
        dtype: name of the dtype.
        values: numeric: dtype[N, *suffix] where only the first dimension is unknown, else dtype[E], flat and
            row-major; strings: uint8[bytes], back to back.
        row_offsets: int64[B + 1] into the first axis of values (numeric), into the bytes (scalar strings) or into
            the elements (arrays of strings).
        element_offsets: int64[E + 1] into the bytes; only for arrays of strings.
        shapes: int64[B, rank], the shape of every row; zeros where the row is None.
        mask: bool[B], True where the row is None, as in numpy.ma; None if the column is not optional.
        row_shape: the declared shape of a row, None for an unknown dimension.
    """

    __slots__ = ("dtype", "element_offsets", "mask", "row_offsets", "row_shape", "shapes", "values")

    def __init__(
        self,
        *,
        dtype: DTypeLike,
        values: Array,
        row_offsets: Array,
        shapes: Array,
        element_offsets: Array | None = None,
        mask: Array | None = None,
        row_shape: RowShape | None = None,
    ) -> None:
        """Take over arrays that fit together. This is for readers and adapters; `from_rows` is for everybody else.

        Args:
            dtype: as for `TensorSpec`.
            row_shape: taken from the arrays by default; dimensions that flat values do not show are unknown.

        Raises:
            RequestError: the arrays contradict one another.
            SignatureTypeError: no such data type.
        """
        if row_shape is None:
            rank = shapes.shape[1] if shapes.ndim == 2 else 0
            row_shape = (None, *values.shape[1:]) if values.ndim > 1 else (None,) * rank
        arrays = RaggedArrays(
            dtype=canonical_dtype(dtype), values=np.require(values, requirements=("C", "W")), row_offsets=row_offsets,
            shapes=shapes, element_offsets=element_offsets, mask=mask, row_shape=row_shape,
        )  # fmt: skip
        check_arrays(arrays)
        self._take_over(arrays)

    def _take_over(self, arrays: RaggedArrays) -> None:
        self.dtype, self.values, self.row_offsets = arrays.dtype, arrays.values, arrays.row_offsets
        self.shapes, self.element_offsets = arrays.shapes, arrays.element_offsets
        self.mask, self.row_shape = arrays.mask, arrays.row_shape

    @classmethod
    def of_verified(cls, arrays: RaggedArrays) -> Ragged:
        """Take over writable arrays that are known to fit together: those that a reader made of verified frames."""
        batch = cls.__new__(cls)
        batch._take_over(arrays)
        return batch

    @classmethod
    def from_rows(
        cls, rows: Iterable[Any], dtype: DTypeLike, *, shape: Sequence[SupportsIndex | None] | None = None
    ) -> Ragged:
        """Build from arrays, nested lists, strings or None, by copy.

        Args:
            rows: one value per row; None makes the batch optional.
            dtype: as for `TensorSpec`: a name, a Python type, or a data type of numpy, ml_dtypes or a framework.
            shape: of a row, None for an unknown dimension; by default every dimension of the first row is unknown
                (rank 1, or scalar strings, if there is no such row).

        Raises:
            SignatureError: a row does not have this dtype or shape, or would change under it.
            SignatureTypeError: no such data type, or a shape that is no sequence of sizes.
            RequestError: a shape without unknown dimension; such rows are an array.
        """
        name = canonical_dtype(dtype)
        if name == "msgpack":
            raise SignatureTypeError("a Ragged has no objects", advice="Keep them in a list")
        arrays = arrays_of_rows(rows, name, canonical_shape(shape))
        check_arrays(arrays)
        return cls.of_verified(arrays)

    @property
    def rank(self) -> int:
        """Dimensions of a row; 0 for scalar strings."""
        return len(self.row_shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, offsets included."""
        arrays = (self.values, self.row_offsets, self.element_offsets, self.shapes, self.mask)
        return sum(array.nbytes for array in arrays if array is not None)

    def __len__(self) -> int:
        return len(self.row_offsets) - 1

    def __iter__(self) -> Iterator[Any]:
        return iter(self.to_list())

    # Not SupportsIndex: to type checkers, every array is one.
    @overload
    def __getitem__(self, index: int | np.integer[Any]) -> Any: ...
    @overload
    def __getitem__(self, index: slice | Array | Sequence[int] | Sequence[np.integer[Any]]) -> Ragged: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return self._slice(start, max(start, stop))
            return self._take(np.arange(start, stop, step, dtype=np.int64))
        if isinstance(index, bool):
            raise TypeError(f"a Ragged is indexed by {_INDICES}, not {index}")
        try:
            row = operator.index(index)
        except TypeError:
            return self._take(_row_numbers(index, len(self)))
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of a Ragged with {len(self)} rows")
        return self._row(row % len(self))

    def __eq__(self, other: object) -> bool:
        return self.equals(other) if isinstance(other, Ragged) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as Python says that it is not hashable

    def __repr__(self) -> str:
        shape = ", ".join(map(str, (len(self), *("?" if dim is None else dim for dim in self.row_shape))))
        absent = "" if self.mask is None else f", {np.count_nonzero(self.mask)} None"
        return f"Ragged({self.dtype}[{shape}]{absent})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, ({name: getattr(self, name) for name in self.__slots__},)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("a Ragged has no array form without a copy")
        array = self.to_object_array()
        return array if dtype is None else array.astype(dtype, copy=False)

    def copy(self) -> Ragged:
        """A batch of its own, equal to this one."""
        return self[:]

    def equals(self, other: Ragged) -> bool:
        """Whether both hold the same dtype and the same rows, of the same shapes; NaN equals NaN in the same place.

        The layout does not count (declared or unknown dimensions, a mask without a None or none at all).
        """
        if self.dtype != other.dtype or not np.array_equal(self.shapes, other.shapes):
            return False
        if not np.array_equal(_absent(self), _absent(other)):
            return False
        if self.dtype not in TEXT_DTYPES:
            mine, theirs = self.values.ravel(), other.values.ravel()
            with np.errstate(all="ignore"):  # of a signalling NaN
                return bool(((mine == theirs) | ((mine != mine) & (theirs != theirs))).all())
        if not np.array_equal(self.row_offsets, other.row_offsets) or not np.array_equal(self.values, other.values):
            return False
        if self.element_offsets is None or other.element_offsets is None:
            return self.element_offsets is other.element_offsets
        return np.array_equal(self.element_offsets, other.element_offsets)

    def to_list(self) -> list[Any]:
        """All rows as indexing gives them; None for a masked row. Rows of numbers are views of this batch.

        Raises:
            ValueError: a `str` is not valid UTF-8 (never so in what was read from a file).
        """
        if self.dtype in TEXT_DTYPES and self.element_offsets is None:
            rows: list[Any] = split_text(self.values, self.row_offsets, self.dtype)
        else:
            elements = self.values
            if self.element_offsets is not None:
                elements = object_array(split_text(self.values, self.element_offsets, self.dtype))
            bounds = self.row_offsets.tolist()
            rows = [elements[start:stop] for start, stop in pairwise(bounds)]
            if self.rank > 1 and elements.ndim == 1:
                rows = [row.reshape(shape) for row, shape in zip(rows, self.shapes.tolist())]
        if self.mask is not None:
            for row in np.flatnonzero(self.mask).tolist():
                rows[row] = None
        return rows

    def to_object_array(self) -> Array:
        """object[B] of the rows that `to_list` gives."""
        return object_array(self.to_list())

    def to_padded(self, fill: Any = None, shape: Sequence[SupportsIndex | None] | None = None) -> Array:
        """Copy into one dense array, dtype[B, longest, ...], filled up behind the values of every row.

        Strings give an object array of `str` or `bytes`: object[B] for scalar strings, object[B, longest, ...] for
        arrays of them. A row that is None is all `fill`.

        Args:
            fill: 0, "" or b"" by default.
            shape: of a padded row; None in it, or no shape at all, means the longest row of this batch.

        Raises:
            RequestError: a row is larger than `shape`, or `fill` would change under the dtype.
            SignatureTypeError: a shape that is no sequence of sizes.
        """
        target = self._padded_shape(shape)
        if self.dtype in TEXT_DTYPES:
            kind: type = str if self.dtype == "str" else bytes
            fill = kind() if fill is None else fill
            if not isinstance(fill, kind):
                raise RequestError(f"fill must be {kind.__name__} for a column of {self.dtype}, got {fill!r}")
            if self.element_offsets is None:
                padded = object_array(split_text(self.values, self.row_offsets, self.dtype))
                if self.mask is not None:
                    padded[self.mask] = fill
                return padded
            elements = object_array(split_text(self.values, self.element_offsets, self.dtype))
        else:
            elements = self.values
            fill = _fill_value(elements.dtype, fill)
        padded = np.full((len(self), *target), fill, dtype=elements.dtype)
        if elements.size == padded.size:
            return elements.reshape(padded.shape).copy()  # every place is taken
        # True where a value goes, over the axes that are not in values' own suffix; row-major, as the values are.
        num_axes = 1 if elements.ndim > 1 else self.rank
        taken = np.ones((len(self), *(1,) * num_axes), np.bool_)
        for axis in range(num_axes):
            places = np.arange(target[axis]) < self.shapes[:, axis, None]
            taken = taken & places.reshape(len(self), *(target[axis] if i == axis else 1 for i in range(num_axes)))
        inner: Any = (..., *map(slice, elements.shape[1:]))
        padded[inner][taken] = elements
        return padded

    def _padded_shape(self, wanted: Sequence[SupportsIndex | None] | None) -> tuple[int, ...]:
        longest = self.shapes.max(axis=0, initial=0).tolist()
        least = [longest[axis] if dim is None else dim for axis, dim in enumerate(self.row_shape)]
        shape = canonical_shape(wanted)
        if shape is None:
            return tuple(least)
        if len(shape) != self.rank:
            raise RequestError(f"the padded shape of a row needs {self.rank} dimensions, got {shape}")
        target = tuple(low if dim is None else dim for dim, low in zip(shape, least))
        if any(dim < low for dim, low in zip(target, least)):
            raise RequestError(f"rows of up to {tuple(least)} do not fit the padded shape {target}")
        return target

    def _row(self, row: int) -> Any:
        if self.mask is not None and self.mask[row]:
            return None
        start, stop = self.row_offsets[row : row + 2].tolist()
        if self.dtype in TEXT_DTYPES:
            if self.element_offsets is None:
                return split_text(self.values, self.row_offsets[row : row + 2], self.dtype)[0]
            elements = split_text(self.values, self.element_offsets[start : stop + 1], self.dtype)
            return object_array(elements).reshape(self.shapes[row].tolist())
        values = self.values[start:stop]
        return values if values.ndim > 1 or self.rank == 1 else values.reshape(self.shapes[row].tolist())

    def _slice(self, start: int, stop: int) -> Ragged:
        bounds = self.row_offsets[start : stop + 1]
        first, last = int(bounds[0]), int(bounds[-1])
        elements = None
        if self.element_offsets is not None:
            elements = self.element_offsets[first : last + 1]
            values = self.values[int(elements[0]) : int(elements[-1])]
            elements = elements - elements[0]
        else:
            values = self.values[first:last]
        return self._like(slice(start, stop), values.copy(), bounds - first, elements)

    def _take(self, rows: Array) -> Ragged:
        starts = self.row_offsets[rows]
        counts = self.row_offsets[rows + 1] - starts
        if self.element_offsets is None:
            return self._like(rows, gather(self.values, starts, counts), offsets(counts), None)
        lengths = gather(np.diff(self.element_offsets), starts, counts)
        sizes = self.element_offsets[starts + counts] - self.element_offsets[starts]
        values = gather(self.values, self.element_offsets[starts], sizes)
        return self._like(rows, values, offsets(counts), offsets(lengths))

    def _like(self, rows: Array | slice, values: Array, row_offsets: Array, element_offsets: Array | None) -> Ragged:
        mask = None if self.mask is None else self.mask[rows].copy()
        return Ragged(
            dtype=self.dtype, values=values, row_offsets=row_offsets, shapes=self.shapes[rows].copy(),
            element_offsets=element_offsets, mask=mask, row_shape=self.row_shape,
        )  # fmt: skip


def _absent(batch: Ragged) -> Array:
    return np.zeros(len(batch), np.bool_) if batch.mask is None else batch.mask


def _rebuild(parts: dict[str, Any]) -> Ragged:
    return Ragged(**parts)


def _row_numbers(index: Any, num_rows: int) -> Array:
    """int64 row numbers of an integer or boolean index array."""
    array = np.asarray(index)
    if array.ndim != 1 or isinstance(index, tuple) or (array.size and array.dtype.kind not in "iub"):
        raise TypeError(f"a Ragged is indexed by {_INDICES}, not {show_value(index)}")
    if array.dtype == np.bool_:
        if len(array) != num_rows:
            raise IndexError(f"boolean index of {len(array)} for {num_rows} rows")
        return np.flatnonzero(array)
    if bool(((array < -num_rows) | (array >= num_rows)).any()):
        raise IndexError(f"a row number is out of range for {num_rows} rows")
    rows = array.astype(np.int64)
    return np.where(rows < 0, rows + num_rows, rows)


def _fill_value(dtype: np.dtype[Any], fill: Any) -> Any:
    if fill is None or (isinstance(fill, int) and fill == 0):
        return np.zeros((), dtype)[()]  # for bool too, which a cast would not take a number for
    try:
        value = cast(as_array(fill), dtype)
    except Refusal as error:
        raise RequestError(f"fill {fill!r} is no value of {dtype.name}", advice=error.advice) from None
    if value.ndim:
        raise RequestError(f"fill must be a scalar, got an array of shape {value.shape}")
    return value[()]
