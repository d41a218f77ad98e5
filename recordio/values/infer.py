"""Inference: the signature of records from samples of them, or from one batch.

    records    {"x": 1, "y": [1, 2]}  {"x": 2.5, "y": None}   ->   {"x": float64 (), "y": int64 (None,) optional}
    batch      {"x": array[32, 28, 28]}                       ->   {"x": (28, 28)}

Samples show what is, not what may come: what differs between them becomes unknown (a dimension, a rank), optional
(None) or the wider number, and whatever has no such common form is refused rather than guessed. Values are not kept.
What one leaf shows is in `recordio.values.observed`, what a list in a batch means in `recordio.values.batch_lists`;
whether later records fit is checked in `recordio.values.signature`.

Spec: spec/format.md, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from recordio.errors import SignatureError
from recordio.spec import TensorSpec
from recordio.structure import CONTAINERS, Parts, checked_key, children, container_name, leaf_name, rebuild, shown
from recordio.values.batch_lists import LoneLists, lists_of_leaves
from recordio.values.observed import (
    DECLARE_ADVICE,
    SCALARS,
    ObservedLeaf,
    check_depth,
    is_plain_list,
    merge_leaves,
    merge_rows,
    observe_leaf,
    spec_of_array,
)
from recordio.values.ragged import Ragged
from recordio.values.ragged_tensors import as_numpy
from recordio.values.tensors import is_ragged_tensor


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


def infer_batch_signature(batch: Any, *, lone_lists: LoneLists = "rows") -> Any:
    """Find the signature of one record of a batch.

    Tuples and dicts are structure. A list of scalars, strings, None, or lists of these is the rows of one leaf; one
    that holds a dict, a tuple or a `Ragged` is structure. A list of arrays may be either, and no coincidence of sizes
    decides:

        ([x1, x2, x3], y)     rows of one leaf if y has 3 rows, 3 leaves if y has as many rows as each of the arrays,
                              and refused if both is true
        [x1, x2, x3]          rows of one leaf, where nothing else says how many rows there are: 3 records

    The signature says what was decided, and every batch that is read under it is read so. To say it yourself: a tuple
    for several leaves, `numpy.stack` for rows, or a signature.

    Args:
        batch: nested tuple, list or dict whose leaves have a leading axis: arrays, tensors, masked arrays (optional),
            `Ragged`, ragged tensors, or lists of rows.
        lone_lists: "refuse" lists of arrays that could be rows or leaves where nothing else says how many rows there
            are; for sources whose lists mean leaves as often, such as the inputs of a Keras model.

    Returns:
        A nested tuple, list or dict of `TensorSpec`, without the leading axis.

    Raises:
        SignatureError: leaves of different length, without leading axis, or without a common type; a list that can be
            read in two ways, or in none.
        SignatureTypeError: something that is no array, list of rows or structure of these.
    """
    structure = lists_of_leaves(batch, lone_lists)
    sizes: list[tuple[Parts, int]] = []
    observed = _observe_batch(batch, (), sizes, structure)
    for parts, size in sizes:
        if size != sizes[0][1]:
            raise SignatureError(
                f"leaf {leaf_name(sizes[0][0])!r} of the batch has {sizes[0][1]} rows, {leaf_name(parts)!r} has {size}",
                column=leaf_name(parts),
            )
    return _specs(observed, (), "in the whole batch")


def _specs(node: Any, parts: Parts, where: str) -> Any:
    if not isinstance(node, ObservedLeaf):
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
    check_depth(parts)
    if isinstance(value, CONTAINERS) and not is_plain_list(value, parts):
        return _descend(value, parts)
    try:
        return observe_leaf(value)
    except SignatureError as error:
        raise error.locate(column=leaf_name(parts)) from None


def _descend(value: Any, parts: Parts) -> Any:
    if isinstance(value, dict):
        value = {checked_key(key, parts): child for key, child in value.items()}
    return rebuild(value, [_observe(child, (*parts, part)) for part, child in children(value)])


# What several records have in common.


def _merge(left: Any, right: Any, parts: Parts) -> Any:
    if isinstance(left, ObservedLeaf) and isinstance(right, ObservedLeaf):
        try:
            return merge_leaves(left, right)
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
    raise SignatureError(f"records differ in structure: {problem}", column=container_name(parts), advice=DECLARE_ADVICE)


def _kind(node: Any) -> str:
    if isinstance(node, ObservedLeaf):
        return "None" if node.says_nothing else "a value"
    return f"a {type(node).__name__}"


# What one batch shows.


def _observe_batch(node: Any, parts: Parts, sizes: list[tuple[Parts, int]], structure: set[Parts]) -> Any:
    if isinstance(node, tuple | dict) or parts in structure:
        if isinstance(node, dict):
            node = {checked_key(key, parts): child for key, child in node.items()}
        observed = [_observe_batch(child, (*parts, part), sizes, structure) for part, child in children(node)]
        return rebuild(node, observed)
    try:
        leaf, size = _observe_batch_leaf(node)
    except SignatureError as error:
        raise error.locate(column=leaf_name(parts)) from None
    sizes.append((parts, size))
    return leaf


def _observe_batch_leaf(value: Any) -> tuple[ObservedLeaf, int]:
    if is_ragged_tensor(type(value)):
        value = as_numpy(value)
    if isinstance(value, Ragged):
        return ObservedLeaf(value.dtype, value.row_shape, optional=value.mask is not None), len(value)
    if isinstance(value, list) or (isinstance(value, np.ndarray) and value.dtype.kind == "O" and value.ndim == 1):
        return merge_rows(value), len(value)
    if value is None or isinstance(value, SCALARS):
        advice = "Every leaf of a batch has one row per record"
        raise SignatureError(f"{shown(value)} has no leading axis", advice=advice)
    if isinstance(value, np.ndarray) and value.dtype.kind == "O":
        leaf = observe_leaf(value)
    else:
        spec = spec_of_array(value)
        leaf = ObservedLeaf(spec.dtype, spec.shape, optional=isinstance(value, np.ma.MaskedArray))
    if not leaf.shape or leaf.shape[0] is None:
        raise SignatureError(f"an array of shape {leaf.shape} has no leading axis")
    return replace(leaf, shape=leaf.shape[1:]), leaf.shape[0]
