"""What values show of their column: one leaf, and what several leaves have in common.

    [1, 2]  then  None  then  [1.5]        float64[?], optional

Lists of nothing but scalars and strings are leaves of unknown dimensions. Structures of leaves are walked in
`recordio.values.infer`.

Spec: spec/format.md, section 3.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recordio.errors import SignatureError, SignatureTypeError
from recordio.format.layout import MAX_DEPTH
from recordio.spec import ML_DTYPES, STRING_LIKE, Shape, TensorSpec, canonical_dtype, foreign_spec
from recordio.structure import CONTAINERS, Parts, container_name, shown
from recordio.values.tensors import has_array, is_ragged_tensor, read_tensor

SCALARS = (bool, int, float, complex, str, bytes, np.generic)
DECLARE_ADVICE = "Give an output_signature: recordio.MsgpackSpec() stands for a JSON-like object that varies"


@dataclass(frozen=True, slots=True)
class ObservedLeaf:
    """What is known of one leaf so far."""

    dtype: str | None            # None: no value seen, only None or empty lists
    shape: Shape                 # without meaning where nothing was seen
    optional: bool = False
    is_empty_list: bool = False   # [] has a rank, but no dtype

    @property
    def says_nothing(self) -> bool:
        """Whether nothing but None was seen."""
        return self.dtype is None and not self.is_empty_list


_NONE = ObservedLeaf(None, None, optional=True)


def check_depth(parts: Parts) -> None:
    """Raise SignatureError below the deepest place that a signature can have."""
    if len(parts) > MAX_DEPTH:
        name = container_name(parts[:4])
        raise SignatureError(f"record is nested deeper than {MAX_DEPTH}", column=name, advice=DECLARE_ADVICE)


def is_plain_list(value: Any, parts: Parts) -> bool:
    """Whether this is a list that holds nothing but scalars, strings and lists of these."""
    if not isinstance(value, list):
        return False
    check_depth(parts)
    return all(
        isinstance(child, SCALARS) or is_plain_list(child, (*parts, place)) for place, child in enumerate(value)
    )


def observe_leaf(value: Any) -> ObservedLeaf:
    """What one value shows; a list must be plain.

    Raises:
        SignatureError: values without a common type, or lists of different length.
        SignatureTypeError: no array, scalar or string.
    """
    if value is None:
        return _NONE
    if isinstance(value, np.ndarray) and value.dtype.kind == "O":
        return ObservedLeaf(_dtype_of_objects(value), value.shape)
    if isinstance(value, SCALARS):
        return ObservedLeaf(_dtype_of_scalars([value]), ())
    if isinstance(value, list):
        return _observe_list(value)
    spec = spec_of_array(value)
    return ObservedLeaf(spec.dtype, spec.shape)


def spec_of_array(value: Any) -> TensorSpec:
    """The spec that an array or a tensor of any framework shows.

    Raises:
        SignatureError: it cannot be a value of any column.
    """
    spec = foreign_spec(value)
    is_ragged = is_ragged_tensor(type(value))
    if is_ragged or (spec is None and has_array(value)):
        try:
            array = read_tensor(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise SignatureTypeError(f"{shown(value)} does not become an array: {error}") from error
        spec = spec if is_ragged else foreign_spec(array)
    if spec is None:
        raise SignatureTypeError(f"{shown(value)} is no array, scalar, string or bytes", advice=DECLARE_ADVICE)
    return spec


def merge_rows(rows: Iterable[Any]) -> ObservedLeaf:
    """What the rows of one leaf have in common.

    Raises:
        SignatureError: with the number of the row that has nothing in common with those before it.
    """
    merged: ObservedLeaf | None = None
    for number, row in enumerate(rows):
        try:
            if isinstance(row, CONTAINERS) and not is_plain_list(row, ()):
                raise SignatureTypeError(f"a row is {shown(row)}, no array or scalar", advice=DECLARE_ADVICE)
            leaf = observe_leaf(row)
            merged = leaf if merged is None else merge_leaves(merged, leaf)
        except SignatureError as error:
            raise error.locate(record=number) from None
    return ObservedLeaf(None, (), is_empty_list=True) if merged is None else merged


def merge_leaves(left: ObservedLeaf, right: ObservedLeaf) -> ObservedLeaf:
    """What two leaves have in common: what differs becomes unknown, optional or wider. SignatureError without a dtype.
    """
    optional = left.optional or right.optional
    if left.says_nothing or right.says_nothing:
        return replace(right if left.says_nothing else left, optional=optional)
    shape = _common_shape(left.shape, right.shape)
    if left.dtype is None or right.dtype is None:
        known = left.dtype or right.dtype
        return ObservedLeaf(known, shape, optional, is_empty_list=known is None)
    return ObservedLeaf(_common_dtype(left.dtype, right.dtype), shape, optional)


def _observe_list(values: list[Any]) -> ObservedLeaf:
    scalars: list[Any] = []
    shape = _rectangle(values, scalars)
    if shape is None:
        raise SignatureError("the lists inside a list differ in length or depth", advice=DECLARE_ADVICE)
    dims = (None,) * len(shape)
    return ObservedLeaf(_dtype_of_scalars(scalars), dims) if scalars else ObservedLeaf(None, dims, is_empty_list=True)


def _rectangle(value: Any, scalars: list[Any]) -> tuple[int, ...] | None:
    """The shape of nested lists, whose contents go to `scalars`; None if they have none."""
    if not isinstance(value, list):
        scalars.append(value)
        return ()
    shapes = {_rectangle(child, scalars) for child in value}
    if len(shapes) > 1:
        return None
    inner = shapes.pop() if shapes else ()
    return None if inner is None else (len(value), *inner)


def _dtype_of_scalars(scalars: list[Any]) -> str:
    dtypes = dict.fromkeys(_dtype_of_scalar(value) for value in scalars)   # in order: a set would vary the message
    first, *others = dtypes
    for other in others:
        first = _common_dtype(first, other)
    return first


def _dtype_of_scalar(value: Any) -> str:
    if isinstance(value, np.generic):
        return canonical_dtype(value.dtype)
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        advice = "Give an output_signature; uint64 holds integers below 2**64"
        raise SignatureError(f"{shown(value)} does not fit into int64", advice=advice)
    # bool before int, whose subclass it is.
    return canonical_dtype(next(kind for kind in (bool, int, float, complex, str, bytes) if isinstance(value, kind)))


def _dtype_of_objects(array: np.ndarray[Any, Any]) -> str:
    for kind in (str, bytes):
        if array.size and all(isinstance(value, kind) for value in array.flat):
            return canonical_dtype(kind)
    raise SignatureTypeError("an object array holds other things than only str or only bytes", advice=DECLARE_ADVICE)


def _common_shape(left: Shape, right: Shape) -> Shape:
    if left is None or right is None or len(left) != len(right):
        return None
    return tuple(one if one == other else None for one, other in zip(left, right))


def _common_dtype(left: str, right: str) -> str:
    if left == right:
        return left
    if not {left, right} & (STRING_LIKE | ML_DTYPES | {"bool"}):
        common = np.result_type(left, right)
        # int64 with uint64 is float64 to numpy, which holds neither.
        if common.kind != "f" or "f" in (np.dtype(left).kind, np.dtype(right).kind):
            return common.name
    raise SignatureError(f"{left} and {right} have no common dtype", advice="Give an output_signature, or convert them")
