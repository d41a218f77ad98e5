"""Tensors of frameworks -> numpy arrays, by what they can do; no framework is imported.

    anything with __array__       TensorFlow, JAX, Keras, torch
    torch                         detached, on the CPU, its conjugate and negative bits resolved; bfloat16 and float8,
                                  which numpy lacks, bit by bit as those of ml_dtypes
    tf.RaggedTensor               an array if all its rows are of one shape; as a batch, see `ragged_tensors`

Spec: spec/format.md, section 3.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recordio.spec import ML_DTYPES, numpy_dtype

Array = np.ndarray[Any, np.dtype[Any]]


def is_tensor(kind: type) -> bool:
    """Tell whether objects of this type are to be read by `read_tensor`: arrays of numpy too, and its scalars."""
    return hasattr(kind, "__array__") or is_ragged_tensor(kind)


def has_array(value: Any) -> bool:
    """Tell whether numpy finds an array in it; an image of PIL has only the latter of the two."""
    return hasattr(value, "__array__") or hasattr(value, "__array_interface__")


def is_ragged_tensor(kind: type) -> bool:
    """Tell whether this is tf.RaggedTensor, or tf.compat.v1's RaggedTensorValue."""
    return hasattr(kind, "nested_row_splits") and hasattr(kind, "flat_values")


def read_tensor(value: Any) -> Array:
    """Read anything that numpy can read, and the tensors that it cannot; may be a view of the value's memory.

    Raises:
        TypeError, ValueError, RuntimeError: there is no array in it, in the words of whoever was asked.
        RequestError: bfloat16 or float8 of torch without the ml_dtypes package.
    """
    if isinstance(value, np.generic):
        return np.asarray(value)
    if is_ragged_tensor(type(value)):
        flat, splits = ragged_parts(value)
        return _dense(flat, splits)
    if hasattr(value, "detach") and hasattr(value, "resolve_conj"):
        return _read_torch(value)
    if getattr(getattr(value, "dtype", None), "name", None) == "string" and callable(getattr(value, "numpy", None)):
        # TensorFlow: bytes, or an array of objects. Reading them as numpy strings would drop zeros at the end of one.
        found = value.numpy()
        return found if isinstance(found, np.ndarray) else np.array(found, np.object_)
    return np.asarray(value)


def ragged_parts(value: Any) -> tuple[Array, list[Array]]:
    """Take a RaggedTensor apart: its values, dtype[N, *suffix], and int64 row splits from the outermost axis on."""
    splits = [np.asarray(one).astype(np.int64) for one in value.nested_row_splits]
    return read_tensor(value.flat_values), splits


def _dense(flat: Array, splits: list[Array]) -> Array:
    shape = [len(splits[0]) - 1]
    for bounds in splits:
        lengths = np.diff(bounds)
        if lengths.size and bool((lengths != lengths[0]).any()):
            least, most = int(lengths.min()), int(lengths.max())
            raise ValueError(f"its rows differ in length, from {least} to {most}; as a batch, each would be a record")
        shape.append(int(lengths[0]) if lengths.size else 0)
    return flat.reshape(*shape, *flat.shape[1:])


def _read_torch(value: Any) -> Array:
    plain = value.detach().cpu().resolve_conj().resolve_neg()
    name = str(plain.dtype).removeprefix("torch.")
    if name not in ML_DTYPES:
        return np.asarray(plain)
    byte = plain.new_empty(0).byte().dtype  # torch.uint8, without naming torch
    bits: Array = plain.contiguous().reshape(-1).view(byte).numpy()
    return bits.view(numpy_dtype(name)).reshape(tuple(plain.shape))
