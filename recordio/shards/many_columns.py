"""Columns of fixed size of whole chunks, many at once: what click logs have.

    frames of all columns, checked together -> decoded together -> each cast, or copied, to where its rows belong

A column of few frames costs less than the steps that lead to it, one column after the other. Every byte is verified as
in `recordio.shards.chunk_runs`, and what is wrong where is not said here either.

Spec: spec/format.md, sections 5 and 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recordio.buffers import Buffers
from recordio.chunks.directories import Directories
from recordio.chunks.frame_parts import check_bool
from recordio.chunks.narrow import may_encode, stored_dtype, stored_row_size
from recordio.columns import Array, ColumnValues
from recordio.errors import ChecksumError, MalformedError
from recordio.format import layout
from recordio.format.checksum import crc_of_frame
from recordio.format.codec import CODEC_RAW, decompress_frames
from recordio.metering import add_verify, clock
from recordio.schema import Column, Schema
from recordio.storage import ReadHandle

MIN_COLUMNS = 8  # fewer are read one by one
_DECODED_SIZE = 1 << 20  # raw bytes of frames that are decoded in one step


def decode_columns(
    handle: ReadHandle, schema: Schema, ordinals: Sequence[int], directories: Directories, *, offsets: Array,
    num_records: Array, buffers: Buffers,
) -> list[ColumnValues]:  # fmt: skip
    """All rows of some chunks, of columns of fixed size without None; the caller's own.

    Args:
        directories: of the K chunks.
        offsets, num_records: int64[K], of the chunks.

    Raises:
        RecordIOError: something is wrong in one of the chunks, which is not named.
    """
    columns = [schema.columns[ordinal] for ordinal in ordinals]
    frames = _checked_frames(columns, ordinals, directories, offsets, num_records)
    total = int(num_records.sum())
    found = [
        ColumnValues(total, buffers.empty((total, *(dim or 0 for dim in column.shape or ())), column.numpy_dtype))
        for column in columns
    ]
    flat = [rows.values.reshape(-1) for rows in found]
    sizes = [values.size // total for values in flat]  # values of a row
    waiting = _Waiting()
    for count, raw_size, stored_size, checksum, first_row, start, place, codec, encoding in frames:
        stored = handle.read(start, stored_size)
        began = clock()
        if crc_of_frame(stored) != checksum:
            raise ChecksumError("a frame has another checksum than its directory says")
        add_verify(began)
        target = flat[place][first_row * sizes[place] : (first_row + count) * sizes[place]]
        dtype = stored_dtype(columns[place], encoding)
        if codec == CODEC_RAW:
            target[:] = np.frombuffer(stored, dtype) if raw_size else 0
        else:
            waiting.add(stored, raw_size, target, dtype)
    waiting.decode()
    for column, rows in zip(columns, found):
        if column.dtype == "bool":
            check_bool(rows)
    return found


def _checked_frames(
    columns: Sequence[Column], ordinals: Sequence[int], directories: Directories, offsets: Array, num_records: Array
) -> list[list[int]]:
    """The frames as they lie in the file, once they are known to be possible.

    Returns:
        Of each: rows, raw size, stored size, checksum, first row, place in the file, column, codec and encoding.
    """
    encodings, counts = directories.encodings[:, ordinals], directories.num_frames[:, ordinals].ravel()
    row_sizes = np.array([column.row_size for column in columns])
    stored_sizes = np.zeros_like(encodings)  # of a row
    if directories.widths[:, ordinals].any():
        raise MalformedError("a length width in a column of fixed size")
    for place, column in enumerate(columns):
        for encoding in {*encodings[:, place].tolist()}:
            if not may_encode(column, encoding):
                raise MalformedError("a narrow column of a type that cannot be narrow, or not so wide")
            stored_sizes[encodings[:, place] == encoding, place] = stored_row_size(column, encoding)
    if (directories.raw_sizes[:, ordinals] != num_records[:, None] * row_sizes).any():
        raise MalformedError("a column that is not as large as its rows")
    kind = np.repeat(np.arange(len(counts)), counts)  # chunk and column of each frame
    first = (np.cumsum(counts) - counts)[kind]  # the first frame of these
    inside = np.arange(len(kind)) - first
    entries = directories.frames[directories.first_frames[:, ordinals].ravel()[kind] + inside]
    if (entries[:, 1] != entries[:, 0] * stored_sizes.ravel()[kind]).any():
        raise MalformedError("a frame that is not as large as its rows")
    if (entries[:, 0] * row_sizes[kind % len(columns)] > layout.MAX_FRAME_RAW_SIZE).any():
        raise MalformedError("a frame that is too large once its values are widened")
    rows_before, bytes_before = (np.cumsum(entries[:, axis]) - entries[:, axis] for axis in (0, 2))
    first_rows = rows_before - rows_before[first] + (np.cumsum(num_records) - num_records)[kind // len(columns)]
    begins = (offsets[:, None] + directories.offsets[:, ordinals]).ravel()[kind]
    starts = bytes_before - bytes_before[first] + begins
    codecs = directories.codecs[:, ordinals].ravel()[kind]
    listed: list[list[int]] = np.column_stack(
        [entries, first_rows, starts, kind % len(columns), codecs, encodings.ravel()[kind]]
    ).tolist()
    return listed


class _Waiting:
    """Frames that are verified, to be decoded together, each to where its values belong."""

    def __init__(self) -> None:
        self._held = 0
        self._frames: list[tuple[memoryview, int, Array, np.dtype[Any]]] = []

    def add(self, stored: memoryview, raw_size: int, target: Array, dtype: np.dtype[Any]) -> None:
        self._frames.append((stored, raw_size, target, dtype))
        self._held += raw_size
        if self._held >= _DECODED_SIZE:
            self.decode()

    def decode(self) -> None:
        """Decode them; values of another type are cast on the way."""
        if not self._frames:
            return
        raw = decompress_frames([frame[0] for frame in self._frames], [frame[1] for frame in self._frames])
        for data, (_, _, target, dtype) in zip(raw, self._frames):
            target[:] = np.frombuffer(data, dtype)
        self._held = 0
        self._frames.clear()
