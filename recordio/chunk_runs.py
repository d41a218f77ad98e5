"""Consecutive chunks of a shard, read and decoded together: what a task of reading in order does.

    fronts or whole chunks -> their directories, checked together -> frames of a column -> rows of all these chunks

The work for a chunk and for a frame, not for a byte, decides how fast a projection is, or a column that is stored raw;
so it is done once for a run of chunks wherever numpy can. Every byte is verified as in `ShardReader.read_chunk`. What is
wrong where is not said here: whoever asks finds it by reading chunk by chunk.

Spec: spec/format.md, sections 4 to 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recordio.columns import Array, ColumnValues, Pieced, concat
from recordio.directories import Directories, decode_directories
from recordio.errors import ChecksumError, MalformedError
from recordio.format.checksum import crc
from recordio.format.chunk import CHUNK_HEADER_SIZE, is_chunk_front
from recordio.format.codec import CODEC_RAW, MAX_WHOLE_SIZE, decompress, decompress_into
from recordio.frame_parts import check_bool, parse_frames
from recordio.schema import Column
from recordio.shard_reader import ShardReader
from recordio.storage import ReadHandle

MAX_CHUNKS = 256  # at once: more of them cost latency and save nothing
MAX_COLUMNS = 256  # of the schema: the directories of wider ones cost more than the steps saved
_ALIGNMENT = 16  # of values that are used where they were read


def read_run(shard: ShardReader, first: int, stop: int, ordinals: Sequence[int]) -> list[ColumnValues]:
    """Read and decode some columns of the chunks [first, stop), all rows; the caller's own.

    Returns:
        An entry for every ordinal. Values that are stored raw may be `Pieced`.

    Raises:
        RecordIOError: something is wrong in one of the chunks, which is not named.
    """
    table = shard.table
    handle = shard.handle()
    num_records = np.diff(table.first_records[first : stop + 1])
    stored_sizes = np.diff(table.offsets[first : stop + 1])
    places: list[int] = table.offsets[first : stop + 1].tolist()
    whole = len(ordinals) == len(shard.schema.columns)
    chunks: list[memoryview | None] = []
    data = []
    for chunk_id, offset, directory_size, header_crc, records, first_record, stored_size in zip(
        range(first, stop), places, table.directory_sizes[first:stop].tolist(), table.header_crcs[first:stop].tolist(),
        num_records.tolist(), table.first_records[first:stop].tolist(), stored_sizes.tolist(),
    ):  # fmt: skip
        size = CHUNK_HEADER_SIZE + directory_size
        chunk = handle.read(offset, stored_size if whole else size)
        front = chunk[:size]
        if not is_chunk_front(
            front, shard.file_id, chunk_id, records, first_record, stored_size, directory_size, header_crc, offset
        ):
            raise MalformedError("a chunk is not the one that its table lists")
        chunks.append(chunk if whole else None)
        data.append(front[CHUNK_HEADER_SIZE:])
    directories = decode_directories(
        data, num_columns=len(shard.schema.columns), num_records=num_records, stored_sizes=stored_sizes,
        raw_sizes=table.raw_sizes[first:stop],
    )  # fmt: skip
    run = _Run(handle, places, chunks, directories)
    rows = []
    for ordinal in ordinals:
        column = shard.schema.columns[ordinal]
        decode = _decode_fixed if column.is_fixed and not column.optional else _decode_parts
        rows.append(decode(column, run.column(ordinal)))
    return rows


@dataclass(frozen=True, slots=True)
class _ColumnRun:
    """One column of the chunks of a run."""

    stored: list[memoryview]  # of each chunk
    codecs: list[int]  # of each chunk
    widths: list[int]  # of each chunk
    counts: list[int]  # frames of each chunk
    frames: Array  # int64[F, 4], of all chunks


@dataclass(frozen=True, slots=True)
class _Run:
    handle: ReadHandle
    places: list[int]
    chunks: list[memoryview | None]  # the whole chunks, or None where only their fronts were read
    directories: Directories

    def column(self, ordinal: int) -> _ColumnRun:
        found = self.directories
        stored = [
            self.handle.read(base + start, size) if chunk is None else chunk[start : start + size]
            for chunk, base, start, size in zip(
                self.chunks, self.places, found.offsets[:, ordinal].tolist(), found.stored_sizes[:, ordinal].tolist()
            )
        ]
        counts = found.num_frames[:, ordinal]
        first = found.first_frames[:, ordinal]
        rows = np.arange(int(counts.sum())) + np.repeat(first - np.cumsum(counts) + counts, counts)
        return _ColumnRun(
            stored, found.codecs[:, ordinal].tolist(), found.widths[:, ordinal].tolist(), counts.tolist(), found.frames[rows]
        )


def _decode_fixed(column: Column, run: _ColumnRun) -> ColumnValues:
    """All frames straight into one array; those stored raw stay where they are."""
    frames = run.frames
    if any(run.widths):
        raise MalformedError("a length width in a fixed column")
    if (frames[:, 1] != frames[:, 0] * column.row_size).any():
        raise MalformedError("a frame that is not as large as its rows")
    num_rows = int(frames[:, 0].sum())
    shape = column.shape or ()
    values: Array | Pieced
    if all(codec == CODEC_RAW for codec in run.codecs) and column.row_size:
        listed = zip(frames[:, 2].tolist(), frames[:, 3].tolist())
        pieces = []
        for stored, count in zip(run.stored, run.counts):
            start = 0
            for _ in range(count):
                size, stored_crc = next(listed)
                _verified(stored, start, size, stored_crc)
                start += size
            piece = np.frombuffer(stored, np.uint8)
            if piece.ctypes.data % _ALIGNMENT or not piece.flags.writeable:
                piece = piece.copy()
            pieces.append(piece.view(column.numpy_dtype).reshape(-1, *shape))
        values = pieces[0] if len(pieces) == 1 else Pieced(pieces)
        if column.dtype == "bool":
            for piece in pieces:
                check_bool(ColumnValues(len(piece), piece))
        return ColumnValues(num_rows, values)  # type: ignore[arg-type]
    values = np.empty((num_rows, *shape), column.numpy_dtype)
    target = memoryview(values.reshape(-1).view(np.uint8))
    entries = iter(frames[:, 1:].tolist())
    filled = 0
    for stored, codec, count in zip(run.stored, run.codecs, run.counts):
        start = 0
        for _ in range(count):
            raw_size, size, stored_crc = next(entries)
            frame = _verified(stored, start, size, stored_crc)
            decompress_into(frame, target[filled : filled + raw_size], codec)
            filled += raw_size
            start += size
    rows = ColumnValues(num_rows, values)
    if column.dtype == "bool":
        check_bool(rows)
    return rows


def _decode_parts(column: Column, run: _ColumnRun) -> ColumnValues:
    """Frames of several parts: cut together as far as their numbers have the same width."""
    if column.is_fixed:
        if any(run.widths) or (run.frames[:, 1] != run.frames[:, 0] * (column.row_size + 1)).any():
            raise MalformedError("a frame that is not as large as its rows")
    elif not all(run.widths):
        raise MalformedError("no length width in a variable column")
    entries = iter(run.frames.tolist())
    groups: list[tuple[int, bool, list[Array], list[int]]] = []
    for stored, codec, width, count in zip(run.stored, run.codecs, run.widths, run.counts):
        is_raw = codec == CODEC_RAW
        if not groups or groups[-1][:2] != (width, is_raw):
            groups.append((width, is_raw, [], []))
        parts, counts = groups[-1][2:]
        start = 0
        for _ in range(count):
            num_records, raw_size, size, stored_crc = next(entries)
            frame = _verified(stored, start, size, stored_crc)
            if is_raw:
                parts.append(np.frombuffer(frame, np.uint8))
            elif raw_size > MAX_WHOLE_SIZE:
                parts.append(np.empty(raw_size, np.uint8))
                decompress_into(frame, memoryview(parts[-1]), codec)
            else:
                parts.append(np.frombuffer(decompress(frame, raw_size, codec), np.uint8))
            counts.append(num_records)
            start += size
    return concat(
        [parse_frames(column, parts, counts, width, pieced=is_raw) for width, is_raw, parts, counts in groups], pieced=True
    )


def _verified(stored: memoryview, start: int, size: int, stored_crc: int) -> memoryview:
    frame = stored[start : start + size]
    if crc(frame) != stored_crc:
        raise ChecksumError("a frame has another checksum than its directory says")
    return frame
