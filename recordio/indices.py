"""Indices of records, as users give them -> places in a view.

Source: Python's sequences, and numpy's lists and arrays of integers.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

import numpy as np

from recordio.columns import Array


def places_in_view(key: Any, num_records: int) -> Array:
    """Read a list or array of ints as places of a view, negative ones from its end: int64[m], from 0.

    Args:
        num_records: in view.

    Raises:
        IndexError: one is out of range. TypeError: something else than ints.
    """
    if not isinstance(key, np.ndarray) or (key.dtype == object and key.ndim == 1):
        key = _integers(key, num_records)
    if not key.size:
        return np.empty(0, np.int64)
    if key.ndim != 1 or key.dtype.kind not in "iu":
        raise TypeError(f"a batch is picked by a list of ints, not {key.dtype.name}{list(key.shape)}")
    wrong = (key < -num_records) | (key >= num_records)
    if wrong.any():
        raise IndexError(f"record {int(key[wrong][0])} of a data set of {num_records} records")
    indices = key.astype(np.int64)
    places: Array = np.where(indices < 0, indices + num_records, indices)
    return places


def _integers(key: Iterable[Any], num_records: int) -> Array:
    indices = []
    for item in key:
        if isinstance(item, bool | np.bool_):
            raise TypeError("a batch is picked by a list of ints, not of bools")
        try:
            indices.append(operator.index(item))
        except TypeError:
            raise TypeError(f"a batch is picked by a list of ints, not of {type(item).__name__}") from None
    try:
        return np.array(indices, np.int64)
    except OverflowError:
        wrong = next(index for index in indices if not -num_records <= index < num_records)
        raise IndexError(f"record {wrong} of a data set of {num_records} records") from None
