"""Leaves of a batch, one by one: what all adapters do with a structure of arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from recordio.errors import RequestError
from recordio.structure import CONTAINERS, children, rebuild
from recordio.values.ragged import Ragged


def map_leaves(structure: Any, change: Callable[[Any], Any]) -> Any:
    """The same structure with every leaf changed."""
    if isinstance(structure, CONTAINERS):
        return rebuild(structure, [map_leaves(child, change) for _, child in children(structure)])
    return change(structure)


def dense(value: Any) -> np.ndarray[Any, Any]:
    """A leaf as an array: text and bytes as objects; the caller's own, not copied where it is an array already.

    Raises:
        RequestError: rows differ in size, or some are missing.
    """
    if isinstance(value, Ragged):
        if value.dtype in ("str", "bytes"):
            return value.to_object_array()
        raise RequestError(
            f"rows of a {value.dtype} column differ in size, and this framework takes arrays",
            advice="Pad them: ds.padded_batch(n, padded_shapes=...) instead of ds.batch(n)",
        )
    if isinstance(value, np.ma.MaskedArray):
        raise RequestError(
            "a column has missing values (None), and this framework takes arrays without a mask",
            advice="Fill them in a map: ds.map(fn)",
        )
    return np.asarray(value)


def check_batched(loader: Any, name: str, *kinds: type) -> None:
    """Refuse what is not batched.

    Raises:
        RequestError: says to batch first. TypeError: it is nothing of ours.
    """
    if isinstance(loader, kinds):
        return
    if hasattr(loader, "batch"):
        raise RequestError(f"{name} takes batches", advice=f"Batch first: ds.batch(batch_size).{name}()")
    raise TypeError(f"{name} takes a batched recordio data set, not {type(loader).__name__}")
