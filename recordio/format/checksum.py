"""CRC-32C and BLAKE2b, as the format uses them.

Spec: spec/format.md, section 1.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable

from crc32c import crc32c as crc

Buffer = bytes | bytearray | memoryview

__all__ = ["Buffer", "crc", "crc_at", "crc_of_frame", "digest"]

_OFFSET = struct.Struct("<Q")
# Up to so many bytes the GIL is kept: to get it back among busy threads takes longer than the sum (20 us for 512 KiB).
_GIL_KEPT_SIZE = 512 << 10


def crc_of_frame(data: Buffer, value: int = 0) -> int:
    """CRC-32C of the stored bytes of a frame, or of more of them after `value`."""
    return crc(data, value, -1 if len(data) > _GIL_KEPT_SIZE else 0)


def crc_at(offset: int, data: Buffer) -> int:
    """CRC-32C of data that is valid at one offset of a file only."""
    return crc(data, crc(_OFFSET.pack(offset)))


def digest(size: int, person: bytes, parts: Iterable[Buffer]) -> bytes:
    """BLAKE2b of the joined parts, `size` bytes, personalised so that digests of different uses never meet."""
    state = hashlib.blake2b(digest_size=size, person=person)
    for part in parts:
        state.update(part)
    return state.digest()
