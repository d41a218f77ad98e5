"""Leaves of a batch, of whatever framework -> numpy arrays and `Ragged`.

    tf.RaggedTensor            Ragged
      flat_values  [N, *s]       values
      row_splits   [B + 1]       row_offsets

The one door for tensors in batches: what converts batches and what casts them read the same arrays. How other tensors
are read is in `tensors`; no framework is imported.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recordio.columns import Array, offsets
from recordio.errors import SignatureError, SignatureTypeError
from recordio.spec import canonical_dtype
from recordio.values.casting import Refusal, as_array
from recordio.values.ragged import Ragged
from recordio.values.ragged_layout import RowShape, flat_text, is_suffixed
from recordio.values.tensors import is_ragged_tensor, ragged_parts


def as_numpy(leaf: Any) -> Any:
    """Turn a tensor of any framework into an array, or a Ragged if it is a ragged one; other values pass.

    It shares memory with the tensor where it can. Every axis of a ragged tensor that has row splits is an unknown
    dimension; two such axes give rows that are arrays only if no row is ragged inside.

    Raises:
        SignatureError: a row is ragged inside, with its record; SignatureTypeError: the tensor cannot be read.
    """
    if isinstance(leaf, np.ndarray | np.generic | Ragged):
        return leaf
    is_ragged = is_ragged_tensor(type(leaf))
    if not is_ragged and not hasattr(leaf, "__array__"):
        return leaf
    try:
        return _ragged(*ragged_parts(leaf)) if is_ragged else as_array(leaf)
    except Refusal as refusal:
        raise SignatureTypeError(f"{refusal.got}: {refusal.why}", advice=refusal.advice) from refusal.__cause__


def _ragged(flat: Array, splits: list[Array]) -> Ragged:
    suffix = flat.shape[1:]
    row_shape: RowShape = (*[None] * len(splits), *suffix)
    shapes = np.zeros((len(splits[0]) - 1, len(row_shape)), np.int64)
    shapes[:, len(splits) :] = suffix
    bounds = splits[0]      # of each row, in items of the axis looked at
    shapes[:, 0] = np.diff(bounds)
    for axis, inner in enumerate(splits[1:], 1):
        lengths = np.diff(inner)
        filled = np.flatnonzero(np.diff(bounds))
        if filled.size:
            # Rows without items left out, these stand back to back, as reduceat wants them.
            starts = bounds[:-1][filled]
            least, most = np.minimum.reduceat(lengths, starts), np.maximum.reduceat(lengths, starts)
            if not np.array_equal(least, most):
                place = int(np.flatnonzero(least != most)[0])
                raise SignatureError(
                    f"the row is ragged inside: {int(least[place])} to {int(most[place])} items along its axis {axis}",
                    record=int(filled[place]), advice="Every row must be an array: pad it, or store it flat, with its "
                    "lengths as a column of their own",
                )  # fmt: skip
            shapes[filled, axis] = most
        bounds = inner[bounds]
    if flat.dtype.kind in "OSU":
        values, ends = flat_text(flat.ravel().tolist())
        elements_at = offsets(shapes.prod(axis=1))
        return Ragged(
            dtype="bytes", values=values, row_offsets=elements_at, element_offsets=ends, shapes=shapes,
            row_shape=row_shape,
        )  # fmt: skip
    is_flat = not is_suffixed(row_shape)
    return Ragged(
        dtype=canonical_dtype(flat.dtype), values=flat.reshape(-1) if is_flat else flat, shapes=shapes,
        row_offsets=offsets(shapes.prod(axis=1)) if is_flat else bounds, row_shape=row_shape,
    )  # fmt: skip
