"""Inference: the signature of records from samples of them, or from one batch.

    records    {"x": 1, "y": [1, 2]}  {"x": 2.5, "y": None}   ->   {"x": float64 (), "y": int64 (None,) optional}
    batch      {"x": array[32, 28, 28]}                       ->   {"x": (28, 28)}

Samples show what is, not what may come: what differs between them becomes unknown (a dimension, a rank), optional
(None) or the wider number, and whatever has no such common form is refused rather than guessed. Values are not kept.
Whether later records fit is checked in `recordio.values.signature`.

Spec: spec/format.md, section 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recordio.errors import SignatureError, SignatureTypeError
from recordio.format.layout import MAX_DEPTH
from recordio.spec import ML_DTYPES, STRING_LIKE, Shape, TensorSpec, canonical_dtype, foreign_spec
from recordio.structure import CONTAINERS, Parts, checked_key, children, leaf_name, rebuild, shown
from recordio.values.ragged import Ragged

_SCALARS = (bool, int, float, complex, str, bytes, np.generic)
_DECLARE = "Give an output_signature: recordio.MsgpackSpec() stands for a JSON-like object that varies"


@dataclass(frozen=True, slots=True)
class _Leaf:
    """What is known of one leaf so far."""

    dtype: str | None            # None: no value seen, only None or empty lists
    shape: Shape                 # without meaning where nothing was seen
    optional: bool = False
    is_empty_list: bool = False   # [] has a rank, but no dtype

    @property
    def says_nothing(self) -> bool:
        return self.dtype is None and not self.is_empty_list


_NONE = _Leaf(None, None, optional=True)


def infer_signature(records: Sequence[Any]) -> Any:
    """Find the signature that all of some sample records match.

    Arrays keep dtype and shape; int, float and bool are int64, float64 and bool. A list of nothing but scalars or
    strings, or of such lists, is one leaf of unknown dimensions; any other list, a tuple and a dict are structure.

    Args:
        records: at least one.

    Returns:
        A nested tuple, list or dict of `TensorSpec`.

    Raises:
        SignatureError: no record, records of different structure, or values without a common type.
        SignatureTypeError: something that is no array, scalar or string.
    """
    if not len(records):
        raise SignatureError("there is no record to infer a signature from", advice="Give an output_signature")
    merged: Any = None
    for number, record in enumerate(records):
        try:
            observed = _observe(record, ())
            merged = observed if number == 0 else _merge(merged, observed, ())
        except SignatureError as error:
            raise error.locate(record=number) from None
    return _specs(merged, (), f"in all {len(records)} records looked at")


def infer_batch_signature(batch: Any) -> Any:
    """Find the signature of one record of a batch.

    Args:
        batch: nested tuple, list or dict whose leaves have a leading axis: arrays, masked arrays (optional), `Ragged`,
            or lists of rows. A list of scalars, strings, None or lists of these is a list of rows. A list of arrays
            is a list of leaves if all have the batch's length, else a list of rows.

    Returns:
        A nested tuple, list or dict of `TensorSpec`, without the leading axis.

    Raises:
        SignatureError: leaves of different length, without leading axis, or without a common type.
        SignatureTypeError: something that is no array, list of rows or structure of these.
    """
    sizes: list[tuple[Parts, int]] = []
    observed = _observe_batch(batch, (), sizes, _batch_size(batch, 0))
    for parts, size in sizes:
        if size != sizes[0][1]:
            raise SignatureError(
                f"leaf {leaf_name(sizes[0][0])!r} of the batch has {sizes[0][1]} rows, {leaf_name(parts)!r} has {size}",
                column=leaf_name(parts),
            )
    return _specs(observed, (), "in the whole batch")


def _specs(node: Any, parts: Parts, where: str) -> Any:
    if not isinstance(node, _Leaf):
        return rebuild(node, [_specs(child, (*parts, part), where) for part, child in children(node)])
    if node.dtype is None:
        only = "empty lists" if node.is_empty_list else "None"
        raise SignatureError(
            f"nothing but {only} {where}: the dtype cannot be inferred", column=leaf_name(parts),
            advice="Give an output_signature",
        )
    try:
        return TensorSpec(node.shape, node.dtype, optional=node.optional)
    except SignatureError as error:
        raise error.locate(column=leaf_name(parts)) from None


# What one record shows.


def _observe(value: Any, parts: Parts) -> Any:
    _check_depth(parts)
    if isinstance(value, CONTAINERS) and not (isinstance(value, list) and _is_plain(value, parts)):
        return _descend(value, parts)
    try:
        return _observe_leaf(value)
    except SignatureError as error:
        raise error.locate(column=leaf_name(parts)) from None


def _descend(value: Any, parts: Parts) -> Any:
    if isinstance(value, dict):
        value = {checked_key(key, parts): child for key, child in value.items()}
    return rebuild(value, [_observe(child, (*parts, part)) for part, child in children(value)])


def _observe_leaf(value: Any) -> _Leaf:
    if value is None:
        return _NONE
    if isinstance(value, np.ndarray) and value.dtype.kind == "O":
        return _Leaf(_dtype_of_objects(value), value.shape)
    if isinstance(value, _SCALARS):
        return _Leaf(_dtype_of_scalars([value]), ())
    if isinstance(value, list):
        return _observe_list(value)
    spec = _spec_of_array(value)
    return _Leaf(spec.dtype, spec.shape)


def _observe_list(values: list[Any]) -> _Leaf:
    scalars: list[Any] = []
    shape = _rectangle(values, scalars)
    if shape is None:
        raise SignatureError("the lists inside a list differ in length or depth", advice=_DECLARE)
    dims = (None,) * len(shape)
    return _Leaf(_dtype_of_scalars(scalars), dims) if scalars else _Leaf(None, dims, is_empty_list=True)


def _is_plain(values: list[Any], parts: Parts) -> bool:
    """Whether a list holds nothing but scalars, strings and lists of these."""
    _check_depth(parts)
    return all(
        isinstance(value, _SCALARS) or (isinstance(value, list) and _is_plain(value, (*parts, place)))
        for place, value in enumerate(values)
    )


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
    raise SignatureTypeError("an object array holds other things than only str or only bytes", advice=_DECLARE)


def _spec_of_array(value: Any) -> TensorSpec:
    spec = foreign_spec(value)
    if spec is None and (hasattr(value, "__array__") or hasattr(value, "__array_interface__")):   # PIL has the latter
        try:
            spec = foreign_spec(np.asarray(value))
        except (TypeError, ValueError, RuntimeError) as error:
            raise SignatureTypeError(f"{shown(value)} does not become an array: {error}") from error
    if spec is None:
        raise SignatureTypeError(f"{shown(value)} is no array, scalar, string or bytes", advice=_DECLARE)
    return spec


def _check_depth(parts: Parts) -> None:
    if len(parts) > MAX_DEPTH:
        raise SignatureError(f"record is nested deeper than {MAX_DEPTH}", column=leaf_name(parts[:4]), advice=_DECLARE)


# What several records have in common.


def _merge(left: Any, right: Any, parts: Parts) -> Any:
    if isinstance(left, _Leaf) and isinstance(right, _Leaf):
        try:
            return _merge_leaves(left, right)
        except SignatureError as error:
            raise error.locate(column=leaf_name(parts)) from None
    if type(left) is not type(right):
        problem = f"{_kind(left)} in the records before, {_kind(right)} in this one"
    elif isinstance(left, dict) and left.keys() != right.keys():
        problem = f"the keys {sorted(left)} in the records before, {sorted(right)} in this one"
    elif len(left) != len(right):
        problem = f"{_kind(left)} of {len(left)} in the records before, of {len(right)} in this one"
    else:
        merged = [_merge(child, right[part], (*parts, part)) for part, child in children(left)]
        return rebuild(left, merged)
    raise SignatureError(f"records differ in structure: {problem}", column=leaf_name(parts), advice=_DECLARE)


def _kind(node: Any) -> str:
    if isinstance(node, _Leaf):
        return "None" if node.says_nothing else "a value"
    return f"a {type(node).__name__}"


def _merge_leaves(left: _Leaf, right: _Leaf) -> _Leaf:
    optional = left.optional or right.optional
    if left.says_nothing or right.says_nothing:
        return replace(right if left.says_nothing else left, optional=optional)
    shape = _common_shape(left.shape, right.shape)
    if left.dtype is None or right.dtype is None:
        known = left.dtype or right.dtype
        return _Leaf(known, shape, optional, is_empty_list=known is None)
    return _Leaf(_common_dtype(left.dtype, right.dtype), shape, optional)


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


# What one batch shows.


def _observe_batch(node: Any, parts: Parts, sizes: list[tuple[Parts, int]], batch_size: int | None) -> Any:
    _check_depth(parts)
    is_rows = isinstance(node, list) and _is_rows(node, parts, batch_size)
    if isinstance(node, CONTAINERS) and not is_rows:
        if isinstance(node, dict):
            node = {checked_key(key, parts): child for key, child in node.items()}
        observed = [_observe_batch(child, (*parts, part), sizes, batch_size) for part, child in children(node)]
        return rebuild(node, observed)
    try:
        leaf, size = _observe_batch_leaf(node)
    except SignatureError as error:
        raise error.locate(column=leaf_name(parts)) from None
    if size is not None:
        sizes.append((parts, size))
    return leaf


def _observe_batch_leaf(value: Any) -> tuple[_Leaf, int | None]:
    if isinstance(value, Ragged):
        return _Leaf(value.dtype, value.row_shape, optional=value.mask is not None), len(value)
    if isinstance(value, list) or (isinstance(value, np.ndarray) and value.dtype.kind == "O" and value.ndim == 1):
        return _merge_rows(value), len(value)
    if value is None or isinstance(value, _SCALARS):
        advice = "Every leaf of a batch has one row per record"
        raise SignatureError(f"{shown(value)} has no leading axis", advice=advice)
    if isinstance(value, np.ndarray) and value.dtype.kind == "O":
        leaf = _observe_leaf(value)
    else:
        spec = _spec_of_array(value)
        leaf = _Leaf(spec.dtype, spec.shape, optional=isinstance(value, np.ma.MaskedArray))
    if not leaf.shape:
        raise SignatureError(f"an array of shape {leaf.shape} has no leading axis")
    return replace(leaf, shape=leaf.shape[1:]), leaf.shape[0]


def _merge_rows(rows: Iterable[Any]) -> _Leaf:
    merged: _Leaf | None = None
    for number, row in enumerate(rows):
        try:
            if isinstance(row, CONTAINERS) and not (isinstance(row, list) and _is_plain(row, ())):
                raise SignatureTypeError(f"a row is {shown(row)}, no array or scalar", advice=_DECLARE)
            leaf = _observe_leaf(row)
            merged = leaf if merged is None else _merge_leaves(merged, leaf)
        except SignatureError as error:
            raise error.locate(record=number) from None
    return _Leaf(None, (), is_empty_list=True) if merged is None else merged


def _is_rows(values: list[Any], parts: Parts, batch_size: int | None) -> bool:
    """Whether a list in a batch holds the rows of one leaf, rather than several leaves."""
    if any(isinstance(value, (tuple, dict, Ragged)) for value in values):
        return False
    lengths = {_length(value) for value in values if not _is_row(value, parts)}
    if not lengths or any(value is None or isinstance(value, _SCALARS) for value in values):
        return True
    if None in lengths or (len(lengths) == 1 and batch_size in (None, *lengths)):
        return False
    # Arrays that differ in length, or are not as long as the batch, are rows if there is one for every record.
    return batch_size is None or batch_size == len(values)


def _is_row(value: Any, parts: Parts) -> bool:
    return value is None or isinstance(value, _SCALARS) or (isinstance(value, list) and _is_plain(value, parts))


def _length(value: Any) -> int | None:
    shape = None if isinstance(value, list) else getattr(value, "shape", None)
    return int(shape[0]) if shape is not None and len(shape) and shape[0] is not None else None


def _batch_size(node: Any, depth: int) -> int | None:
    """The length of the first leaf that is certainly one: an array or Ragged outside every list."""
    if isinstance(node, Ragged):
        return len(node)
    if isinstance(node, tuple | dict) and depth <= MAX_DEPTH:
        found = (_batch_size(child, depth + 1) for _part, child in children(node))
        return next((size for size in found if size is not None), None)
    return _length(node)
