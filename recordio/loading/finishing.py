"""Finishing: rows of a step -> the structures that users get.

    rows of the slots of one step  ->  one batch, or one value for each replica

Batches of fixed columns are views of rows that lie side by side; whatever else a leaf needs is in
`recordio.values.leaves`. Padding of ragged rows (`padded_batch`) and of short slots (remainder="pad") is done here.

Spec: spec/order.md, section 7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from recordio.columns import Array, ColumnValues, blank, concat, split_rows
from recordio.errors import RequestError, SignatureError
from recordio.schema import Column, Schema
from recordio.spec import Shape, canonical_shape
from recordio.structure import CONTAINERS, children
from recordio.values.leaves import batch_leaf, record_leaves
from recordio.values.ragged import Ragged
from recordio.values.row_values import row_caster

Wrap = Callable[[list[Any]], Any]  # leaves of the slots of a step -> leaf


@dataclass(frozen=True, slots=True)
class Padding:
    """How the rows of one column are filled up: to a shape, None in it for the longest of the batch."""

    shape: Shape
    value: Any


@dataclass(frozen=True, kw_only=True)
class Finisher:
    """Makes steps of rows.

    Attributes:
        schema: of the records.
        paddings: for `padded_batch`, one for each column.
        wrap: makes one leaf of those of all slots; None: there is one slot, and it is the batch.
        slot_size: rows that every slot is filled up to, with a mask; None: as many as there are.
        pads_together: rows of all slots of a step are padded to one shape, as those of one batch.
    """

    schema: Schema
    paddings: tuple[Padding, ...] | None = None
    wrap: Wrap | None = None
    slot_size: int | None = None
    pads_together: bool = False

    @property
    def has_known_shapes(self) -> bool:
        """Whether padded rows have the same shape in every batch."""
        return all(padding.shape is None or None not in padding.shape for padding in self.paddings or ())

    @property
    def is_plain(self) -> bool:
        """Whether a batch is nothing but slices of arrays."""
        return (
            self.wrap is None and self.slot_size is None and self.paddings is None
            and all(column.is_fixed and not column.optional for column in self.schema.columns)
        )  # fmt: skip

    def steps(self, columns: Sequence[ColumnValues], stops: Sequence[int], num_slots: int) -> list[Any]:
        """All steps of some rows.

        Args:
            stops: row after the last one of each slot, step after step.
        """
        bounds = [0, *stops]
        if self.is_plain and num_slots == 1:
            # The way of a projection, where a batch costs more than its bytes.
            arrays, unflatten = [values.values for values in columns], self.schema.unflatten
            return [
                unflatten([array[start:stop] for array in arrays])
                for start, stop in pairwise(bounds)
            ]
        parts = [split_rows(c, v, bounds) for c, v in zip(self.schema.columns, columns, strict=True)]
        slots = list(zip(*parts, strict=True))
        return [self.step(slots[first : first + num_slots]) for first in range(0, len(slots), num_slots)]

    def step(self, slots: Sequence[Sequence[ColumnValues]]) -> Any:
        """One step of the rows of its slots."""
        filled = [self._filled(slot) for slot in slots]
        if self.pads_together and self.paddings is not None and len(slots) > 1:
            ends = [*accumulate((rows[0].num_rows for rows in filled), initial=0)]
            whole = self._leaves([concat(list(values)) for values in zip(*filled, strict=True)])
            leaves = [[leaf[start:stop] for leaf in whole] for start, stop in pairwise(ends)]
        else:
            leaves = [self._leaves(rows) for rows in filled]
        if self.wrap is None:
            (only,) = leaves
            batch = self.schema.unflatten(only)
        else:
            batch = self.schema.unflatten([self.wrap(list(values)) for values in zip(*leaves, strict=True)])
        if self.slot_size is None:
            return batch
        masks = [np.arange(self.slot_size) < slot[0].num_rows for slot in slots]
        return batch, masks[0] if self.wrap is None else self.wrap(list(masks))

    def records(self, columns: Sequence[ColumnValues]) -> Iterator[Any]:
        """Each row as a record."""
        unflatten = self.schema.unflatten
        for leaves in zip(*map(record_leaves, self.schema.columns, columns), strict=True):
            # Copies, so that a record that is kept does not keep the megabytes that were decoded with it.
            yield unflatten([leaf.copy() if isinstance(leaf, np.ndarray) else leaf for leaf in leaves])

    def _filled(self, slot: Sequence[ColumnValues]) -> Sequence[ColumnValues]:
        if self.slot_size is None or slot[0].num_rows >= self.slot_size:
            return slot
        short = self.slot_size - slot[0].num_rows
        return [
            concat([values, blank(column, short)]) for column, values in zip(self.schema.columns, slot, strict=True)
        ]

    def _leaves(self, rows: Sequence[ColumnValues]) -> list[Any]:
        columns = self.schema.columns
        leaves = [batch_leaf(column, values) for column, values in zip(columns, rows, strict=True)]
        if self.paddings is None:
            return leaves
        return [padded(c, leaf, padding) for c, leaf, padding in zip(columns, leaves, self.paddings, strict=True)]


def padded(column: Column, leaf: Any, padding: Padding) -> Any:
    """Fill the rows of a leaf of a batch up to one shape: dtype[B, ...], or object[B, ...] of strings.

    Raises:
        RequestError: a row is larger than the shape.
    """
    if isinstance(leaf, Ragged):
        try:
            return leaf.to_padded(padding.value, padding.shape)
        except RequestError as error:
            raise error.locate(column=column.name) from None
    if not column.is_fixed or padding.shape is None:
        return leaf
    target = tuple(have if dim is None else dim for dim, have in zip(padding.shape, leaf.shape[1:], strict=True))
    if target == leaf.shape[1:]:
        return leaf
    filled = np.full((len(leaf), *target), 0 if padding.value is None else padding.value, leaf.dtype)
    inside = (slice(None), *map(slice, leaf.shape[1:]))
    filled[inside] = np.ma.getdata(leaf)
    if not isinstance(leaf, np.ma.MaskedArray):
        return filled
    absent = np.ma.getmaskarray(leaf).reshape(len(leaf), -1).any(axis=1)
    mask = np.broadcast_to(absent.reshape(-1, *(1,) * len(target)), filled.shape).copy()
    return np.ma.MaskedArray(filled, mask=mask, fill_value=0)


def make_paddings(schema: Schema, shapes: Any, values: Any) -> tuple[Padding, ...]:
    """Check the arguments of `padded_batch`.

    Args:
        shapes: None for the longest rows of every batch; or the structure of a record with a shape at each leaf, None
            in it for the longest, or None as a leaf.
        values: None for zeros and empty strings; one value for all columns; or the structure with a value at each leaf.

    Raises:
        RequestError: a shape that does not fit the column, or a value that would change under its type.
        SignatureError: another structure than the records have.
    """
    columns = schema.columns
    wanted: Sequence[Any] = [None] * len(columns) if shapes is None else _leaves_of(schema, shapes, "padded_shapes")
    one_value = values is not None and not isinstance(values, CONTAINERS)
    fills: Sequence[Any] = (
        [values] * len(columns)
        if values is None or one_value
        else _leaves_of(schema, values, "padding_values")
    )
    return tuple(
        _padding(column, shape, fill) for column, shape, fill in zip(columns, wanted, fills, strict=True)
    )


def _leaves_of(schema: Schema, given: Any, name: str) -> list[Any]:
    """The leaves of a structure like the record's; its lists and tuples of numbers are shapes."""
    found: list[Any] = []

    def walk(node: Any, value: Any) -> None:
        if not isinstance(node, CONTAINERS):
            found.append(value)
            return
        if not isinstance(value, type(node)) or len(value) != len(node):
            raise SignatureError(f"{name} has another structure than the records: {schema.element_spec!r}")
        contents: Any = value
        for part, child in children(node):
            if isinstance(node, dict) and part not in contents:
                raise SignatureError(f"{name} has no {part!r}", advice="Give one for every column, or None for all")
            walk(child, contents[part])

    walk(schema.element_spec, given)
    return found


def _padding(column: Column, shape: Any, value: Any) -> Padding:
    dims = canonical_shape(shape)
    if column.shape is None or column.dtype == "msgpack":
        if column.shape is None:
            raise RequestError(
                "rows of unknown rank cannot be padded", column=column.name,
                advice="Leave the column out with select_columns, or give it a rank with map",
            )  # fmt: skip
        return Padding(None, None)
    if dims is not None:
        if len(dims) != len(column.shape):
            raise RequestError(
                f"the padded shape {dims} has rank {len(dims)}, the rows have rank {len(column.shape)}",
                column=column.name,
            )
        for want, have in zip(dims, column.shape, strict=True):
            if want is not None and have is not None and want < have:
                raise RequestError(f"rows of {column.shape} do not fit the padded shape {dims}", column=column.name)
    else:
        dims = column.shape
    if value is not None and not column.is_string_like:
        try:
            checked = row_caster(Column(0, column.name, True, column.dtype, (), False))
            value = checked.build([checked.keep(value)]).values[0]
        except SignatureError as error:
            raise RequestError(f"the padding value {value!r} is no {column.dtype}", column=column.name) from error
    elif value is not None and not isinstance(value, str if column.dtype == "str" else bytes):
        raise RequestError(f"the padding value {value!r} is no {column.dtype}", column=column.name)
    return Padding(dims, value)


def padded_spec(schema: Schema, paddings: Sequence[Padding] | None) -> Any:
    """The structure of specs of a record of a padded batch: as declared, with what padding makes known."""
    if paddings is None:
        return schema.element_spec
    specs = [
        column.spec if padding.shape is None else replace(column, shape=padding.shape).spec
        for column, padding in zip(schema.columns, paddings, strict=True)
    ]
    return schema.unflatten(specs)


def num_bytes(columns: Sequence[ColumnValues]) -> int:
    """Bytes of the values of rows."""
    return sum(values.values.nbytes for values in columns)


def stops_of(sizes: Array) -> list[int]:
    """Row after the last one of each slot: of int64[steps, slots]."""
    found: list[int] = np.cumsum(sizes.reshape(-1)).tolist()
    return found
