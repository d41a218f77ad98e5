"""Columns of fixed size of whole chunks, many at once: what click logs have.

    frames of all columns, checked together -> decoded together -> each cast, or copied, to where its rows belong

A column of few frames costs less than the steps that lead to it, one column after the other. Every byte is verified as
in `recordio.shards.chunk_runs`, and what is wrong where is not said here either.

Spec: spec/format.md, sections 5 and 6.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recordio.buffers import Buffers
from recordio.chunks.directories import Directories
from recordio.chunks.frame_parts import check_bool
from recordio.chunks.stored_values import fixed_frames_fit, may_encode, values_into
from recordio.columns import Array, ColumnValues
from recordio.errors import ChecksumError, MalformedError
from recordio.format import layout
from recordio.format.checksum import crc_of_frame
from recordio.format.codec import CODEC_RAW, ENCODING_PLAIN, narrow_size, place_size
from recordio.metering import add_verify, clock
from recordio.schema import Column, Schema
from recordio.shards.waiting import Waiting
from recordio.storage import ReadHandle

MIN_COLUMNS = 8  # fewer are read one by one


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
    waiting = Waiting()
    for count, raw_size, stored_size, checksum, first_row, start, place, codec, encoding in frames:
        stored = handle.read(start, stored_size)
        began = clock()
        if crc_of_frame(stored) != checksum:
            raise ChecksumError("a frame has another checksum than its directory says")
        add_verify(began)
        target = flat[place][first_row * sizes[place] : (first_row + count) * sizes[place]]
        if codec != CODEC_RAW:
            where = target if encoding != ENCODING_PLAIN else memoryview(target.view(np.uint8))
            waiting.add(stored, raw_size, where, columns[place], encoding)
        elif raw_size:
            values_into(target, columns[place], encoding, stored)
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
    value_sizes = np.array([column.itemsize or 1 for column in columns])
    if directories.widths[:, ordinals].any():
        raise MalformedError("a length width in a column of fixed size")
    for column, own in zip(columns, encodings.T):
        if not all(may_encode(column, encoding) for encoding in {*own.tolist()}):
            raise MalformedError("an encoding that the type of its column does not allow")
    if (directories.raw_sizes[:, ordinals] != num_records[:, None] * row_sizes).any():
        raise MalformedError("a column that is not as large as its rows")
    kind = np.repeat(np.arange(len(counts)), counts)  # chunk and column of each frame
    first = (np.cumsum(counts) - counts)[kind]  # the first frame of these
    inside = np.arange(len(kind)) - first
    entries = directories.frames[directories.first_frames[:, ordinals].ravel()[kind] + inside]
    narrow = narrow_size(encodings)
    fits = fixed_frames_fit(
        num_values=entries[:, 0] * (row_sizes // value_sizes)[kind % len(columns)], num_flags=0,
        stored_size=np.where(narrow, narrow, value_sizes).ravel()[kind], place_size=place_size(encodings).ravel()[kind],
        raw_size=entries[:, 1],
    )  # fmt: skip
    if not fits.all():
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
