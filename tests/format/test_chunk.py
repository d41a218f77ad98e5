"""Directories: the reader of one and the reader of many give what was written, and refuse the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recordio.chunks.directories import decode_directories
from recordio.errors import MalformedError, RecordIOError, TooNewError
from recordio.format.checksum import crc
from recordio.format.chunk import (
    ChunkHeader,
    ColumnChunk,
    Directory,
    Frame,
    decode_directory,
    encode_directory,
    place_columns,
)
from recordio.format.codec import CODEC_RAW, CODEC_ZSTD
from tests.laws.data_sets import EXAMPLES

NUM_RECORDS = 10
FRAMES = (Frame(4, 40, 20, 1), Frame(6, 60, 30, 2))
PLAIN = ColumnChunk(
    codec=CODEC_ZSTD, encoding=0, length_width=0, offset=0, stored_size=50, raw_size=100, frames=FRAMES
)  # fmt: skip
RAW = ColumnChunk(
    codec=CODEC_RAW, encoding=0, length_width=4, offset=0, stored_size=7, raw_size=7, frames=(Frame(10, 7, 7, 3),)
)  # fmt: skip


def decode(columns: list[ColumnChunk]) -> Directory:
    """Encoded and read again, by itself."""
    placed, stored_size = place_columns(columns)
    data = encode_directory(placed)
    header = ChunkHeader(
        file_id=bytes(16), chunk_id=0, num_records=NUM_RECORDS, first_record=0, stored_size=stored_size,
        directory_size=len(data), directory_crc=crc(data),
    )  # fmt: skip
    return decode_directory(data, header, num_columns=len(columns), offset=0)


def decode_together(columns: list[ColumnChunk]) -> Directory:
    """Encoded and read again, as the second of three."""
    three = [[PLAIN] * len(columns), columns, [RAW] * len(columns)]
    placed = [place_columns(one) for one in three]
    found = decode_directories(
        [encode_directory(chunk) for chunk, _ in placed],
        num_columns=len(columns),
        num_records=np.full(3, NUM_RECORDS),
        stored_sizes=np.array([stored_size for _, stored_size in placed]),
        raw_sizes=np.array([sum(column.raw_size for column in one) for one in three]),
    )
    read = []
    for ordinal in range(len(columns)):
        first = int(found.first_frames[1, ordinal])
        frames = found.frames[first : first + int(found.num_frames[1, ordinal])].tolist()
        assert found.frame_sums[1, ordinal] == sum(raw_size for _, raw_size, _, _ in frames)
        read.append(
            ColumnChunk(
                codec=int(found.codecs[1, ordinal]), encoding=int(found.encodings[1, ordinal]),
                length_width=int(found.widths[1, ordinal]), offset=int(found.offsets[1, ordinal]),
                stored_size=int(found.stored_sizes[1, ordinal]), raw_size=int(found.raw_sizes[1, ordinal]),
                frames=tuple(Frame(*frame) for frame in frames),
            )
        )  # fmt: skip
    return Directory(raw_size=sum(column.raw_size for column in read), columns=tuple(read))


@settings(max_examples=300 * EXAMPLES)
@given(
    encoding=st.integers(0, 50) | st.sampled_from([64, 128, 255]),
    raw_size=st.integers(40, 1610) | st.sampled_from([0, 49, 50, 100, 200, 400, 800, 1600, 2**31, 2**40, 2**62]),
    first=st.booleans(),
)
def test_one_directory_and_many_are_read_by_the_same_rules(encoding: int, raw_size: int, first: bool) -> None:
    """What needs no type: an encoding that is known, and values that may grow, narrow ones to eight bytes, places to
    sixteen (section 5).
    """
    base, place_size = encoding % 16, encoding // 16
    is_known = base in (0, 1, 2, 4, 9, 10, 12) and place_size < 3
    if place_size:
        is_possible = 50 <= raw_size <= 1600 // place_size
    else:
        is_possible = 100 <= raw_size <= 100 * (8 // (base % 8) if base % 8 else 1)
    column = replace(PLAIN, encoding=encoding, raw_size=raw_size)
    columns = [column, RAW] if first else [RAW, column]
    try:
        one = decode(columns)
    except RecordIOError as error:
        assert type(error) is (MalformedError if is_known else TooNewError)
        with pytest.raises(MalformedError):
            decode_together(columns)
        assert not (is_known and is_possible)
        return
    assert is_known and is_possible
    assert decode_together(columns) == one
    assert one.columns == tuple(place_columns(columns)[0])
    assert one.columns[not first].encoding == encoding
    assert one.raw_size == raw_size + RAW.raw_size
