"""Leaves of a batch, one by one: what all adapters do with a structure of arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from recordio.errors import RequestError
from recordio.loading.recipe import Recipe
from recordio.structure import CONTAINERS, Parts, children, leaf_name, rebuild
from recordio.values.ragged import Ragged


def map_leaves(structure: Any, change: Callable[[Any], Any], parts: Parts = ()) -> Any:
    """The same structure with every leaf changed.

    Args:
        parts: where the structure stands in a record.

    Raises:
        RequestError: of a change, with the leaf that it was about.
    """
    if isinstance(structure, CONTAINERS):
        return rebuild(structure, [map_leaves(child, change, (*parts, part)) for part, child in children(structure)])
    try:
        return change(structure)
    except RequestError as error:
        error.locate(column=leaf_name(parts))
        raise


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


def check_epochless(recipe: Recipe, framework: str, shuffle: str) -> None:
    """Refuse records that follow the epoch, where a framework reads them by their numbers and does not say which it is.

    Args:
        shuffle: how the framework shuffles itself.

    Raises:
        RequestError: a shuffle that changes from epoch to epoch, or a map with rng=True.
    """
    if recipe.shuffle is not None and recipe.shuffle.reshuffles:
        raise RequestError(
            f"the order of this shuffle changes from epoch to epoch, and {framework} does not say which one it reads",
            advice=f"Let it shuffle: {shuffle}; or ds.shuffle(..., reshuffle_each_iteration=False)",
        )
    if any(stage.rng for stage in recipe.maps):
        raise RequestError(
            f"map with rng=True follows the epoch, and {framework} does not say which one it reads",
            advice="Map there; or batch here, so that epochs are counted: ds.map(fn, rng=True).batch(n)",
        )


def check_batched(loader: Any, name: str, *kinds: type, call: str = "") -> None:
    """Refuse what is not batched.

    Args:
        call: how it is done right; by default a method of batches.

    Raises:
        RequestError: says to batch first. TypeError: it is nothing of ours.
    """
    if isinstance(loader, kinds):
        return
    if hasattr(loader, "batch"):
        raise RequestError(f"{name} takes batches", advice=f"Batch first: {call or f'ds.batch(batch_size).{name}()'}")
    raise TypeError(f"{name} takes a batched recordio data set, not {type(loader).__name__}")
