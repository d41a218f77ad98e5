"""Compressed frames of fixed columns that are read and verified, to be decoded together, each to where it belongs.

One step of the decompressor over many frames costs the GIL once; and what it gives is still in the cache when it is
copied, widened or looked up on the way to its place.

Spec: spec/format.md, sections 5 and 6.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recordio.chunks.stored_values import values_into
from recordio.columns import Array
from recordio.format.codec import CODEC_ZSTD, ENCODING_PLAIN, MAX_WHOLE_SIZE, decompress_frames, decompress_into
from recordio.schema import Column

_DECODED_SIZE = 2 << 20  # raw bytes of frames that are decoded in one step, or a little more


class Waiting:
    """Frames on their way: `add` decodes what has gathered from time to time, `decode` what is left."""

    def __init__(self) -> None:
        self._raw_size = 0
        self._stored: list[memoryview] = []
        self._raw_sizes: list[int] = []
        self._targets: list[tuple[Any, Column, int]] = []

    def add(
        self, stored: memoryview, raw_size: int, target: Array | memoryview, column: Column, encoding: int
    ) -> None:
        """One zstd frame of a fixed column without None.

        Args:
            stored: its bytes, which stay unchanged until it is decoded.
            target: where its values go: a flat, contiguous array of the column's type, or, of plain ones, its bytes.
        """
        self._stored.append(stored)
        self._raw_sizes.append(raw_size)
        self._targets.append((target, column, encoding))
        self._raw_size += raw_size
        if self._raw_size >= _DECODED_SIZE:
            self.decode()

    def decode(self) -> None:
        """Decode them.

        Raises:
            MalformedError: a frame breaks a rule; which one is not said.
        """
        if not self._stored:
            return
        if max(self._raw_sizes) > MAX_WHOLE_SIZE:
            for stored, raw_size, (target, column, encoding) in zip(self._stored, self._raw_sizes, self._targets):
                raw = target if encoding == ENCODING_PLAIN else memoryview(np.empty(raw_size, np.uint8))
                decompress_into(stored, raw, CODEC_ZSTD)
                if encoding != ENCODING_PLAIN:
                    values_into(target, column, encoding, raw)
        else:
            for data, (target, column, encoding) in zip(
                decompress_frames(self._stored, self._raw_sizes), self._targets
            ):
                if encoding == ENCODING_PLAIN:
                    target[:] = data  # a memoryview copies faster than an array
                else:
                    values_into(target, column, encoding, data)
        self._raw_size = 0
        self._stored.clear()
        self._raw_sizes.clear()
        self._targets.clear()
