"""Schemas: the structure of a record, and the columns that its leaves are stored in.

    {"image": TensorSpec(...), "label": (TensorSpec(...), MsgpackSpec())}      signature, element_spec
    {"image": 0,               "label": (1, 2)}                                 structure: ordinals of columns
    [Column "image", Column "label/0", Column "label/1"]                        columns, depth first

What specs mean is said in `recordio.spec`, how structures are walked in `recordio.structure`; which values a leaf may
hold is checked in `recordio.values.signature`.

Spec: spec/format.md, sections 3 and 10.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from recordio.errors import MalformedError, RequestError, SignatureError, TooNewError
from recordio.format.layout import MAX_COLUMNS, MAX_SCHEMA_SIZE
from recordio.format.objects import pack, unpack
from recordio.spec import DTYPES, STRING_LIKE, MsgpackSpec, Shape, TensorSpec, numpy_dtype, shape_problem
from recordio.structure import (
    Mismatch,
    Node,
    Parts,
    compile_flatten,
    compile_unflatten,
    decode_structure,
    encode_structure,
    flatten_checked,
    leaf_name,
    leaf_paths,
    number_leaves,
    project,
    shown,
)

__all__ = ["DTYPES", "Column", "MsgpackSpec", "Schema", "TensorSpec"]

_MAX_COLUMN_ID = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Column:
    """One leaf of the record structure, as it is stored."""

    id: int            # stable identity, distinct in the schema
    name: str          # distinct in the schema
    named: bool        # the user gave the name; else it is the path of the leaf
    dtype: str         # a key of DTYPES
    shape: Shape
    optional: bool

    @property
    def is_string_like(self) -> bool:
        """Whether every element has a length of its own: str, bytes, msgpack."""
        return self.dtype in STRING_LIKE

    @property
    def has_plain_rows(self) -> bool:
        """Whether a row is a string, or an array of one unknown dimension: where it ends in the values tells all."""
        return self.shape == () if self.is_string_like else self.shape == (None,)

    @property
    def is_fixed(self) -> bool:
        """Whether every row has the same size; otherwise the column is variable."""
        return self.dtype not in STRING_LIKE and self.shape is not None and None not in self.shape

    @property
    def itemsize(self) -> int | None:
        """Bytes of one element, None for string-like columns."""
        return DTYPES[self.dtype]

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """Type of the flat array of values, uint8 for string-like columns. RequestError without ml_dtypes."""
        return numpy_dtype(self.dtype)

    @property
    def row_size(self) -> int:
        """Bytes of one row of a fixed column, without validity; ValueError for a variable one."""
        if not self.is_fixed:
            raise ValueError(f"rows of the variable column {self.name!r} differ in size")
        return math.prod(self.shape) * DTYPES[self.dtype]  # type: ignore[arg-type, operator]  # all known: fixed

    @property
    def unknown_dims(self) -> tuple[int, ...]:
        """Places of the unknown dimensions in a shape of known rank; () for unknown rank."""
        return tuple(axis for axis, dim in enumerate(self.shape or ()) if dim is None)

    @property
    def spec(self) -> TensorSpec | MsgpackSpec:
        """What the user declared for this leaf."""
        name = self.name if self.named else None
        if self.dtype == "msgpack":
            return MsgpackSpec(name)
        return TensorSpec(self.shape, self.dtype, name, self.optional)


@dataclass(frozen=True, eq=False)
class Schema:
    """Structure of a record with the ordinals of its columns at the leaves, in order, depth first.

    Two schemas are equal if they encode to the same bytes: the order of dict keys counts.
    """

    _structure: Node    # nobody else's: flatten and unflatten are made of it, when they are first needed
    columns: tuple[Column, ...]

    @staticmethod
    def from_signature(signature: Any) -> Schema:
        """Make the schema of records that match a signature.

        Args:
            signature: a nested tuple, list or dict of `TensorSpec`, `MsgpackSpec`, or anything with shape and dtype.

        Raises:
            SignatureError: no leaf, two columns of one name, or a limit of spec/format.md, section 10.
            SignatureTypeError: something that is no spec, or a key that is no str.
        """
        structure, leaves = number_leaves(signature)
        if not leaves:
            raise SignatureError(f"signature {signature!r} has no leaf", advice="Declare at least one TensorSpec")
        if len(leaves) > MAX_COLUMNS:
            raise SignatureError(f"signature has {len(leaves)} leaves, the limit is {MAX_COLUMNS}")
        owners: dict[str, Parts] = {}
        columns = []
        for ordinal, (parts, spec) in enumerate(leaves):
            name = leaf_name(parts) if spec.name is None else spec.name
            if name in owners:
                raise SignatureError(
                    f"two columns are called {name!r}: record{_accessor(owners[name])} and record{_accessor(parts)}",
                    advice="Give one of them another name: TensorSpec(..., name=...)",
                )
            owners[name] = parts
            columns.append(Column(ordinal, name, spec.name is not None, spec.dtype, spec.shape, spec.optional))
        schema = Schema(structure, tuple(columns))
        if len(schema.encode()) > MAX_SCHEMA_SIZE:
            raise SignatureError(f"schema has {len(schema.encode())} bytes, the limit is {MAX_SCHEMA_SIZE}")
        return schema

    def encode(self) -> bytes:
        """The bytes of spec/format.md, section 3; equal schemas give equal bytes."""
        return self._encoded

    @staticmethod
    def decode(encoded: bytes) -> Schema:
        """Read a schema from untrusted bytes.

        Raises:
            MalformedError: any rule of spec/format.md, sections 3 and 10, is broken.
            TooNewError: a data type that this version does not know.
        """
        value = unpack(encoded, max_size=MAX_SCHEMA_SIZE, what="schema")
        if not isinstance(value, dict):
            raise MalformedError(f"schema is a {type(value).__name__}, not a map")
        found = value.get("columns")
        if not isinstance(found, list) or not 1 <= len(found) <= MAX_COLUMNS:
            raise MalformedError(f"'columns' of the schema is not a list of 1 to {MAX_COLUMNS} columns")
        columns = tuple(_decode_column(ordinal, column) for ordinal, column in enumerate(found))
        for what in ("id", "name"):
            if len({getattr(column, what) for column in columns}) != len(columns):
                raise MalformedError(f"two columns of the schema have the same {what}")
        structure, paths = decode_structure(value.get("structure"))
        if len(paths) != len(columns):
            raise MalformedError(f"structure of the schema has {len(paths)} leaves for {len(columns)} columns")
        for column, path in zip(columns, map(leaf_name, paths)):
            if not column.named and column.name != path:
                raise MalformedError(f"column {shown(column.name)} is not named, and its leaf is {shown(path)}")
        return Schema(structure, columns)

    @property
    def element_spec(self) -> Any:
        """The signature: a fresh structure of specs."""
        return self.unflatten([column.spec for column in self.columns])

    def flatten(self, record: Any, record_number: int | None = None) -> list[Any]:
        """Take a record apart into its leaves, in column order; their values are not looked at.

        Raises:
            SignatureError: a missing or unexpected key, or another number of entries.
            SignatureTypeError: another container than the signature has.
        """
        leaves: list[Any] = []
        try:
            self._flatten_fast(record, leaves)
        except (Mismatch, KeyError):
            return flatten_checked(self._structure, record, record_number)
        return leaves

    def unflatten(self, leaves: Sequence[Any]) -> Any:
        """Put leaves in column order into fresh containers; dict keys stand in the order of the signature."""
        if len(leaves) != len(self.columns):
            raise ValueError(f"{len(leaves)} leaves for {len(self.columns)} columns")
        return self._unflatten_fast(leaves)

    def select(self, names: Iterable[str]) -> tuple[Schema, tuple[int, ...]]:
        """Keep only some columns.

        Containers without a chosen leaf go; tuples and lists close up. A column without a name of its own whose path
        moves by that keeps its name as one of its own. Order and repetition of `names` mean nothing.

        Returns:
            The schema of the projection, and the ordinals of its columns in this one, ascending.

        Raises:
            RequestError: no name, or one that is no column.
        """
        if isinstance(names, str):
            raise RequestError(f"columns are a list of names, got the str {names!r}", advice=f"Write [{names!r}]")
        chosen = {self._ordinal(name) for name in names}
        if not chosen:
            raise RequestError("no column is selected", advice=f"Columns: {', '.join(self._ordinals)}")
        if len(chosen) == len(self.columns):
            return self, tuple(range(len(self.columns)))
        ordinals = tuple(sorted(chosen))
        structure = project(self._structure, {ordinal: place for place, ordinal in enumerate(ordinals)})
        columns = (self.columns[ordinal] for ordinal in ordinals)
        kept = tuple(
            replace(column, named=column.named or column.name != leaf_name(parts))
            for column, parts in zip(columns, leaf_paths(structure))
        )
        return Schema(structure, kept), ordinals

    def __eq__(self, other: object) -> bool:
        return self.encode() == other.encode() if isinstance(other, Schema) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.encode())

    def __reduce__(self) -> tuple[Any, ...]:
        return Schema, (self._structure, self.columns)   # the compiled functions do not pickle

    def _ordinal(self, name: Any) -> int:
        # The type first: what is no str may have no hash.
        if isinstance(name, str) and name in self._ordinals:
            return self._ordinals[name]
        close = difflib.get_close_matches(str(name), self._ordinals, n=1)
        below = [known for known in self._ordinals if known.startswith(f"{name}/")]
        if below:
            advice = f"It holds the columns {', '.join(below)}"
        else:
            advice = f"Did you mean {close[0]!r}?" if close else f"Columns: {', '.join(self._ordinals)}"
        raise RequestError(f"there is no column {name!r}", advice=advice)

    @cached_property
    def _ordinals(self) -> dict[str, int]:
        return {column.name: ordinal for ordinal, column in enumerate(self.columns)}

    @cached_property
    def _encoded(self) -> bytes:
        columns = [
            {
                "id": column.id, "name": column.name, "named": column.named, "dtype": column.dtype,
                "shape": None if column.shape is None else list(column.shape), "optional": column.optional,
            }
            for column in self.columns
        ]
        return pack({"structure": encode_structure(self._structure), "columns": columns})

    @cached_property
    def _flatten_fast(self) -> Callable[[Any, list[Any]], None]:
        return compile_flatten(self._structure)

    @cached_property
    def _unflatten_fast(self) -> Callable[[Sequence[Any]], Any]:
        return compile_unflatten(self._structure)


def _decode_column(ordinal: int, value: Any) -> Column:
    where = f"column {ordinal} of the schema"
    if not isinstance(value, dict):
        raise MalformedError(f"{where} is a {type(value).__name__}, not a map")
    column_id, name, named, dtype, shape, optional = map(
        value.get, ("id", "name", "named", "dtype", "shape", "optional")
    )
    # `type(...) is int` all through: True is an int in Python, and none in msgpack.
    if type(column_id) is not int or not 0 <= column_id <= _MAX_COLUMN_ID:
        raise MalformedError(f"{where} has the id {shown(column_id)}")
    if not isinstance(name, str) or not isinstance(named, bool) or not isinstance(optional, bool):
        raise MalformedError(f"{where} has no right 'name', 'named' or 'optional'")
    if not isinstance(dtype, str):
        raise MalformedError(f"{where} has the dtype {shown(dtype)}")
    if "shape" not in value or not (shape is None or isinstance(shape, list)):
        raise MalformedError(f"{where} has the shape {shown(shape)}")
    for dim in shape or ():
        if dim is not None and (type(dim) is not int or dim < 0):
            raise MalformedError(f"{where} has the dimension {shown(dim)}")
    if dtype not in DTYPES:
        raise TooNewError(
            f"{where}, {shown(name)}, has the unknown dtype {shown(dtype)}", column=name,
            advice="Read it with a newer recordio, or leave the column out where the data set is made",
        )
    dims = None if shape is None else tuple(shape)
    problem = shape_problem(dims, dtype, optional)
    if problem is not None:
        raise MalformedError(f"{where}: {problem}", column=name)
    if dtype == "msgpack" and (dims != () or optional):
        raise MalformedError(f"{where} is msgpack with shape {shown(shape)}, optional {optional}", column=name)
    return Column(column_id, name, named, dtype, dims, optional)


def _accessor(parts: Parts) -> str:
    return "".join(f"[{part!r}]" for part in parts)
