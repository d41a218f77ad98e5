"""One msgpack object, strictly: exactly one, no extension types, nothing that packs as something else.

Used for the schema, the metadata and the values of `MsgpackSpec` columns.

Spec: spec/format.md, sections 1 and 10.
"""

from __future__ import annotations

from typing import Any

import msgpack

from recordio.errors import MalformedError
from recordio.format.checksum import Buffer

_TIMESTAMP_CODES = (b"\xd6\xff", b"\xd7\xff", b"\xc7\x0c\xff")


def pack(value: Any) -> bytes:
    """Encode a JSON-like value (bytes allowed) so that it comes back equal.

    Raises:
        TypeError: a type that msgpack would change, such as a tuple or a numpy scalar.
        ValueError: nesting deeper than 1,024, or text with lone surrogates.
        OverflowError: an integer outside 64 bits.
    """
    # strict_types: a tuple would come back as a list.
    packed: bytes = msgpack.packb(value, use_bin_type=True, strict_types=True, default=_refuse)
    return packed


def unpack(data: Buffer, *, max_size: int, what: str) -> Any:
    """Decode exactly one object from untrusted bytes.

    Args:
        data: the whole object and nothing else.
        max_size: bytes accepted; checked first.
        what: names the structure in the error.

    Raises:
        MalformedError: too large, not one valid object, an extension type, or nested too deep.
    """
    if len(data) > max_size:
        raise MalformedError(f"{what} has {len(data)} bytes, the limit is {max_size}")
    try:
        # Every length inside is bounded by the input's: msgpack's own caps default to that.
        value = msgpack.unpackb(
            data,
            raw=False,
            use_list=True,
            strict_map_key=False,
            ext_hook=_refuse_extension,
            object_pairs_hook=_distinct,
        )
    except (ValueError, TypeError, RecursionError, OverflowError, msgpack.UnpackException) as error:
        raise MalformedError(f"{what} is not one valid msgpack object: {error or type(error).__name__}") from None
    # Timestamps do not go through the hook. They need a byte FF after one of three codes, which few objects hold.
    view = bytes(data)
    if any(code in view for code in _TIMESTAMP_CODES) and _holds_timestamp(value):
        raise MalformedError(f"{what} holds a msgpack timestamp")
    return value


def _distinct(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("equal keys in a map")
    return found


def _holds_timestamp(value: Any) -> bool:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, msgpack.Timestamp):
            return True
        if isinstance(item, dict):
            pending += [*item.keys(), *item.values()]
        elif isinstance(item, list):
            pending += item
    return False


def _refuse(value: Any) -> Any:
    raise TypeError(f"{type(value).__module__}.{type(value).__qualname__} has no msgpack form that comes back equal")


def _refuse_extension(code: int, _data: bytes) -> Any:
    raise ValueError(f"extension type {code} is not allowed")
