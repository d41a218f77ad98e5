"""Chunks: the unit of I/O, of scheduling and of loss.

    header (64 bytes) | directory | pad | frames of column 0 | pad | frames of column 1 | pad | ...

Damage inside one chunk costs that chunk and no other. Bytes only: what the frames of a column mean is decided in
`recordio.columns`, which chunks to read in the readers.

Spec: spec/format.md, sections 4 and 5.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from recordio.errors import ChecksumError, MalformedError, MismatchError, TooNewError, TruncatedError
from recordio.format import layout
from recordio.format.checksum import Buffer, crc, crc_at
from recordio.format.codec import (
    CODEC_NAMES,
    CODEC_RAW,
    CODEC_ZSTD,
    ENCODING_PLAIN,
    ENCODINGS,
    max_stored_size,
    narrow_size,
    place_size,
)

CHUNK_HEADER_SIZE = 64
MAX_INTEGER_SIZE = 8  # bytes; what a narrow value can grow to
MAX_VALUE_SIZE = 16  # bytes; what a place in a dictionary can grow to

# A frame with a dictionary of nothing but its own values has these, and for each a place of at most half their size.
MAX_LISTED_GROWTH = 2

_HEADER = struct.Struct("<8s16sIIQQII4x")
_LISTED = struct.Struct("<8s16sIIQQI")  # what of a chunk header the chunk table says
_DIRECTORY_HEAD = struct.Struct("<QII")
_COLUMN = struct.Struct("<BBBxIQQQ")
_FRAME = struct.Struct("<IIII")
_U32 = struct.Struct("<I")

_LENGTH_WIDTHS = (0, 1, 2, 4, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkHeader:
    file_id: bytes
    chunk_id: int  # ordinal in the shard
    num_records: int
    first_record: int  # ordinal in the shard
    stored_size: int  # bytes, header and padding included
    directory_size: int  # bytes, without padding
    directory_crc: int


class Frame(NamedTuple):
    """Consecutive rows of one column, as the directory lists them."""

    num_records: int
    raw_size: int  # bytes before compression
    stored_size: int
    crc: int  # of the stored bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnChunk:
    """The frames of one column in one chunk; they lie back to back from `offset`."""

    codec: int
    encoding: int  # how values are stored (codec.py); 0: plain
    length_width: int  # bytes of a dimension or length; 0 in a fixed column
    offset: int  # from the start of the chunk; 0: not placed yet
    stored_size: int
    raw_size: int  # values counted at the full size of their dtype; that of the frames only where these are plain
    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    raw_size: int
    columns: tuple[ColumnChunk, ...]


def encode_chunk_header(header: ChunkHeader, offset: int) -> bytes:
    """The 64 bytes in front of a chunk that stands at `offset` of its file."""
    body = _HEADER.pack(
        layout.CHUNK_SYNC, header.file_id, header.chunk_id, header.num_records, header.first_record,
        header.stored_size, header.directory_size, header.directory_crc,
    )  # fmt: skip
    return body + _U32.pack(crc_at(offset, body))


def decode_chunk_header(data: Buffer, offset: int) -> tuple[ChunkHeader, int]:
    """Check and read the first 64 bytes of a chunk that stands at `offset`; also gives header_crc.

    Raises:
        TruncatedError, MalformedError, ChecksumError.
    """
    if len(data) < CHUNK_HEADER_SIZE:
        raise TruncatedError(f"the file ends inside a chunk header, after {len(data)} of 64 bytes", offset=offset)
    if bytes(data[:8]) != layout.CHUNK_SYNC:
        raise MalformedError(
            f"no chunk begins here: {bytes(data[:8])!r} is not the sync word", offset=offset,
            advice="Restore the file, or open with on_corrupt='skip' to lose this chunk only",
        )  # fmt: skip
    computed = crc_at(offset, data[:60])
    layout.check_crc(data[60:64], computed, "chunk header", offset=offset)
    identity, chunk_id, num_records, first_record, stored_size, directory_size, directory_crc = _HEADER.unpack(
        data[:60]
    )[1:]
    if not 1 <= num_records <= layout.MAX_CHUNK_RECORDS:
        raise MalformedError(
            f"a chunk of {num_records} records; 1 to {layout.MAX_CHUNK_RECORDS} are allowed", offset=offset
        )
    smallest = CHUNK_HEADER_SIZE + layout.align(directory_size)
    if directory_size > layout.MAX_DIRECTORY_SIZE or stored_size % layout.ALIGNMENT or stored_size < smallest:
        raise MalformedError(f"a chunk of {stored_size} bytes with a directory of {directory_size}", offset=offset)
    header = ChunkHeader(
        file_id=identity, chunk_id=chunk_id, num_records=num_records, first_record=first_record,
        stored_size=stored_size, directory_size=directory_size, directory_crc=directory_crc,
    )  # fmt: skip
    return header, computed


def check_chunk_place(header: ChunkHeader, *, file_id: bytes, chunk_id: int, first_record: int, offset: int) -> None:
    """Refuse a valid chunk that belongs to another file or another place in this one."""
    for name, found, expected in (
        ("file id", header.file_id.hex(), file_id.hex()),
        ("chunk ordinal", header.chunk_id, chunk_id),
        ("first record", header.first_record, first_record),
    ):
        if found != expected:
            raise MismatchError(f"a chunk with {name} {found} stands where {expected} belongs", offset=offset)


def is_chunk_front(
    front: Buffer, file_id: bytes, chunk_id: int, num_records: int, first_record: int, stored_size: int,
    directory_size: int, header_crc: int, offset: int,
) -> bool:  # fmt: skip
    """Whether these are header and directory of the chunk that a chunk table lists, both with the right checksums.

    A yes is all that `decode_chunk_header`, `check_chunk_place` and the directory's checksum say; a no does not say
    why. Positional, since it is called for every chunk of a projection.
    """
    header = front[:60]
    return (
        len(front) == CHUNK_HEADER_SIZE + directory_size
        and header[: _LISTED.size]
        == _LISTED.pack(layout.CHUNK_SYNC, file_id, chunk_id, num_records, first_record, stored_size, directory_size)
        and crc_at(offset, header) == header_crc == _U32.unpack_from(front, 60)[0]
        and crc(front[CHUNK_HEADER_SIZE:]) == _U32.unpack_from(front, 52)[0]
    )


def encode_directory(columns: Sequence[ColumnChunk]) -> bytes:
    """The directory of a chunk, without padding. Column offsets must already be those of `place_columns`."""
    parts = [_DIRECTORY_HEAD.pack(sum(c.raw_size for c in columns), len(columns), sum(len(c.frames) for c in columns))]
    parts += [
        _COLUMN.pack(c.codec, c.encoding, c.length_width, len(c.frames), c.offset, c.stored_size, c.raw_size)
        for c in columns
    ]
    parts += [_FRAME.pack(*frame) for column in columns for frame in column.frames]
    return b"".join(parts)


def directory_size(num_columns: int, num_frames: int) -> int:
    """Bytes of a directory, without padding."""
    return _DIRECTORY_HEAD.size + _COLUMN.size * num_columns + _FRAME.size * num_frames


def decode_directory(data: Buffer, header: ChunkHeader, *, num_columns: int, offset: int) -> Directory:
    """Check and read a directory.

    Args:
        data: `header.directory_size` bytes.
        header: of the same chunk.
        num_columns: of the schema.
        offset: of the chunk in the file, for errors.

    Raises:
        ChecksumError, MalformedError, TooNewError.
    """
    place = offset + CHUNK_HEADER_SIZE
    if len(data) != header.directory_size:
        raise TruncatedError(
            f"the file ends inside a directory, after {len(data)} of {header.directory_size} bytes", offset=place
        )
    if crc(data) != header.directory_crc:
        raise ChecksumError(
            f"directory checksum is {crc(data):#010x}, the chunk header says {header.directory_crc:#010x}",
            offset=place, advice="Restore the file, or open with on_corrupt='skip' to lose this chunk only",
        )  # fmt: skip
    if len(data) < _DIRECTORY_HEAD.size:
        raise MalformedError(f"a directory of {len(data)} bytes", offset=place)
    raw_size, found_columns, num_frames = _DIRECTORY_HEAD.unpack_from(data)
    if found_columns != num_columns or len(data) != directory_size(num_columns, num_frames):
        raise MalformedError(
            f"a directory of {len(data)} bytes for {found_columns} columns and {num_frames} frames; "
            f"the schema has {num_columns} columns",
            offset=place,
        )  # fmt: skip
    frames_start = _DIRECTORY_HEAD.size + _COLUMN.size * num_columns
    entries = list(_COLUMN.iter_unpack(data[_DIRECTORY_HEAD.size : frames_start]))
    frames = list(map(Frame._make, _FRAME.iter_unpack(data[frames_start:])))
    columns = []
    start = 0
    next_offset = CHUNK_HEADER_SIZE + layout.align(header.directory_size)
    for ordinal, (codec, encoding, width, count, column_offset, stored, raw) in enumerate(entries):
        if codec not in CODEC_NAMES or encoding not in ENCODINGS:
            raise TooNewError(
                f"column {ordinal} has codec {codec}, encoding {encoding}", offset=place, advice="Update recordio"
            )
        if width not in _LENGTH_WIDTHS:
            raise MalformedError(f"column {ordinal} has lengths of {width} bytes", offset=place)
        column = ColumnChunk(
            codec=codec, encoding=encoding, length_width=width, offset=column_offset, stored_size=stored, raw_size=raw,
            frames=tuple(frames[start : start + count]),
        )  # fmt: skip
        if column_offset != next_offset:
            raise MalformedError(f"column {ordinal} begins at {column_offset}, not at {next_offset}", offset=place)
        _check_frames(column, ordinal, count, header.num_records, place)
        start += count
        next_offset = layout.align(column_offset + stored)
        columns.append(column)
    if start != num_frames or next_offset != header.stored_size or sum(c.raw_size for c in columns) != raw_size:
        raise MalformedError("the columns of a directory do not add up to the chunk", offset=place)
    return Directory(raw_size=raw_size, columns=tuple(columns))


def _check_frames(column: ColumnChunk, ordinal: int, count: int, num_records: int, place: int) -> None:
    records = stored = raw = 0
    for frame in column.frames:
        records += frame.num_records
        stored += frame.stored_size
        raw += frame.raw_size
        allowed = max_stored_size(frame.raw_size) if column.codec == CODEC_ZSTD else frame.raw_size
        if (
            not frame.num_records
            or frame.raw_size > layout.MAX_FRAME_RAW_SIZE
            or frame.stored_size > allowed
            or (column.codec == CODEC_RAW and frame.stored_size != frame.raw_size)
        ):
            raise MalformedError(f"column {ordinal} lists an impossible frame: {frame}", offset=place)
    # By how much a column grows exactly that is not plain, only the schema tells.
    if column.encoding == ENCODING_PLAIN:
        fits = column.raw_size == raw
    elif place_size(column.encoding):
        largest = raw * MAX_VALUE_SIZE // place_size(column.encoding)
        fits = raw <= MAX_LISTED_GROWTH * column.raw_size and column.raw_size <= largest
    else:
        fits = raw <= column.raw_size <= raw * MAX_INTEGER_SIZE // narrow_size(column.encoding)
    if not fits or (len(column.frames), records, stored) != (count, num_records, column.stored_size):
        raise MalformedError(f"the frames of column {ordinal} do not add up to the column", offset=place)


def place_columns(columns: Sequence[ColumnChunk]) -> tuple[list[ColumnChunk], int]:
    """Lay the columns of a chunk out, in schema order, each on a 64-byte boundary.

    Returns:
        The columns with their offsets, and the stored size of the whole chunk in bytes.
    """
    num_frames = sum(len(column.frames) for column in columns)
    place = CHUNK_HEADER_SIZE + layout.align(directory_size(len(columns), num_frames))
    placed = []
    for column in columns:
        placed.append(replace(column, offset=place))
        place = layout.align(place + column.stored_size)
    return placed, place
