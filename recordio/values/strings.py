"""str, bytes and JSON-like objects -> their bytes, or a refusal.

Nothing is guessed: text is `str`, bytes are `bytes`, and an object must come back equal. Shapes and None are the
business of `recordio.values.row_values`.

Spec: spec/format.md, sections 3 and 10.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np

from recordio.columns import Array
from recordio.format import objects
from recordio.format.layout import MAX_OBJECT_DEPTH, MAX_OBJECT_SIZE
from recordio.schema import Column
from recordio.values.casting import Refusal, as_array, show_value
from recordio.values.row_checks import refuse
from recordio.values.tensors import is_tensor

# First bytes of msgpack's bin and ext types. An object without any of them in its bytes needs no second look.
_BIN_OR_EXT = re.compile(b"[\xc4-\xc9\xd4-\xd8]")
_JSON_LIKE = frozenset({type(None), bool, int, float, str, bytes, bytearray, list, dict})
_NO_CONTAINER = bytes(byte for byte in range(256) if not (0x80 <= byte <= 0x9F or 0xDC <= byte <= 0xDF))


def encode_element(column: Column, value: Any) -> bytes:
    """Give the bytes of one str or bytes element; Refusal for all else."""
    if column.dtype == "str":
        if isinstance(value, str):
            try:
                return value.encode()
            except UnicodeEncodeError as error:
                why = f"UTF-8 has no lone surrogate, here at character {error.start}"
                raise Refusal(show_value(value), why, advice="Store it as bytes") from None
        advice = "Decode it: value.decode()" if isinstance(value, (bytes, bytearray)) else None
    else:
        if isinstance(value, (bytes, bytearray)):
            return bytes(value)
        if isinstance(value, memoryview) and value.format in ("B", "b", "c"):
            return value.tobytes()
        advice = "Encode it: value.encode()" if isinstance(value, str) else None
    raise Refusal(show_value(value), wrong_type=True, advice=advice)


def encode_elements(column: Column, values: list[Any]) -> tuple[Array, Array]:
    """Give the bytes of all elements, back to back, and the length of each: uint8[bytes] that nobody else has,
    int64[E].

    Raises:
        Refusal: with the index of the first element that does not fit.
    """
    try:
        if column.dtype == "str":
            text = "".join(values)
            if text.isascii():
                return np.frombuffer(text.encode("ascii"), np.uint8), np.fromiter(
                    map(len, values), np.int64, len(values)
                )
            return join_elements(list(map(str.encode, values)))
        # join also takes arrays, whatever is in them.
        if set(map(type, values)) <= {bytes, bytearray, np.bytes_}:
            return join_elements(values)
    except (TypeError, UnicodeEncodeError):
        pass  # found again below, with its place
    return join_elements(encode_each(column, values))


def encode_each(column: Column, values: Iterable[Any]) -> list[bytes]:
    """Give the bytes of each element.

    Raises:
        Refusal: with the index of the first element that does not fit.
    """
    encoded: list[bytes] = []
    try:
        for value in values:
            encoded.append(encode_element(column, value))
    except Refusal as refusal:
        refusal.index = len(encoded)
        raise
    return encoded


def keep_object(column: Column, value: Any) -> bytes:
    """Pack a JSON-like object that will come back equal; SignatureError for any other."""
    try:
        packed = objects.pack(value)
        # A container takes a byte at least: few of them cannot be nested deep.
        if _BIN_OR_EXT.search(packed) or len(packed.translate(None, _NO_CONTAINER)) > MAX_OBJECT_DEPTH:
            _check_object(value)
    except Refusal as refusal:
        raise refuse(column, refusal) from None
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        wrong_type = not isinstance(error, (ValueError, RecursionError))
        advice = "Use None, bool, int up to 64 bits, float, str, bytes, list (not tuple) or dict; .tolist() of numpy"
        unpackable = Refusal(show_value(value), str(error), wrong_type=wrong_type, advice=advice)
        raise refuse(column, unpackable) from None
    if len(packed) > MAX_OBJECT_SIZE:
        why = f"packed, it takes {len(packed)} bytes; at most {MAX_OBJECT_SIZE} are allowed"
        raise refuse(column, Refusal(type(value).__name__, why, advice="Store large parts as columns of their own"))
    return packed


def _check_object(value: Any) -> None:
    """Refuse what msgpack can pack and does not give back, level by level."""
    level = [value]
    for _ in range(MAX_OBJECT_DEPTH):
        for item in level:
            if type(item) not in _JSON_LIKE:
                why = "it would not come back equal"
                raise Refusal(show_value(item), why, wrong_type=True, advice="Use a list, or bytes")
        below = [item.values() if type(item) is dict else item for item in level if type(item) in (dict, list)]
        below += [item.keys() for item in level if type(item) is dict]
        if not below:
            return
        level = list(chain.from_iterable(below))
    raise Refusal(show_value(value), f"nested deeper than {MAX_OBJECT_DEPTH}")


def read_strings(value: Any) -> tuple[list[Any], tuple[int, ...]]:
    """Take an array or nested list of strings apart into its elements, row-major, and its shape.

    numpy's own string arrays are not used on the way: they would drop zeros at the end of an element.

    Raises:
        Refusal: lists of unequal length, or a masked element.
    """
    if isinstance(value, np.ndarray):
        array = as_array(value)
        return array.ravel().tolist(), array.shape
    if isinstance(value, (list, tuple)):
        if not any(isinstance(inner, (list, tuple)) or is_tensor(type(inner)) for inner in value):
            return list(value), (len(value),)
        parts = [read_strings(inner) for inner in value]
        if any(shape != parts[0][1] for _, shape in parts):
            raise Refusal("lists of unequal length or depth")
        return list(chain.from_iterable(flat for flat, _ in parts)), (len(value), *parts[0][1])
    if isinstance(value, (str, bytes)) or not is_tensor(type(value)):
        return [value], ()
    array = as_array(value)
    return array.ravel().tolist(), array.shape


def join_elements(encoded: Sequence[bytes | bytearray]) -> tuple[Array, Array]:
    """Put elements back to back: new uint8[bytes], and their lengths, int64[E]."""
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
    return bytes_array(bytearray().join(encoded)), lengths


def bytes_array(data: bytearray) -> Array:
    """A writable view of bytes that nobody else holds."""
    return np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8)
