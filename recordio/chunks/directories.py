"""Directories of many chunks at once.

    directory of chunk 0 | of chunk 1 | ...  ->  one table of their columns, one of their frames

The same checks as in `recordio.format.chunk`, for all chunks with one numpy call each: a projection reads of a chunk
so little that the checks of its directory, one by one in Python, would take most of the time. What is wrong where is
not said here; whoever asks reads that chunk alone.

Spec: spec/format.md, section 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recordio.columns import Array, offsets
from recordio.errors import MalformedError
from recordio.format import layout
from recordio.format.checksum import Buffer
from recordio.format.chunk import (
    CHUNK_HEADER_SIZE,
    MAX_INTEGER_SIZE,
    MAX_LISTED_GROWTH,
    MAX_VALUE_SIZE,
    directory_size,
)
from recordio.format.codec import (
    CODEC_RAW,
    CODEC_ZSTD,
    ENCODING_PLAIN,
    ENCODINGS,
    max_stored_size,
    narrow_size,
    place_size,
)

_IS_ENCODING = np.isin(np.arange(256), sorted(ENCODINGS))
_UNIT = 16  # bytes: the head is one, the entry of a column two, the entry of a frame one


@dataclass(frozen=True, slots=True)
class Directories:
    """The columns and frames of K chunks of C columns; everything int64."""

    codecs: Array  # [K, C]
    encodings: Array  # [K, C]
    widths: Array  # [K, C]
    offsets: Array  # [K, C], from the start of the chunk
    stored_sizes: Array  # [K, C]
    raw_sizes: Array  # [K, C], values counted at the full size of their dtype
    frame_sums: Array  # [K, C], of the raw sizes of the frames
    first_frames: Array  # [K, C], rows of `frames`; those of a column follow one another
    num_frames: Array  # [K, C]
    frames: Array  # [F, 4]: num_records, raw_size, stored_size, crc


def decode_directories(
    data: Sequence[Buffer], *, num_columns: int, num_records: Array, stored_sizes: Array, raw_sizes: Array
) -> Directories:
    """Check and read the directories of chunks, whose checksums are already verified.

    Args:
        data: K directories, without padding.
        num_columns: of the schema, C.
        num_records, stored_sizes, raw_sizes: int64[K], of the chunks, as their headers or the chunk table have them.

    Raises:
        MalformedError: one of them breaks a rule.
    """
    sizes = np.fromiter(map(len, data), np.int64, len(data))
    smallest = directory_size(num_columns, num_columns)  # a column has a frame at least
    _check(not (sizes % _UNIT).any() and sizes.min() >= smallest and sizes.max() <= layout.MAX_DIRECTORY_SIZE)
    _check(num_records.min() >= 1 and num_records.max() <= layout.MAX_CHUNK_RECORDS)
    joined = np.frombuffer(b"".join(data), np.uint8)
    # Sizes below 2**62, and at most 2**24 frames of 2**32 bytes in a chunk: no sum or product below can wrap around.
    longs = joined.view("<i8").reshape(-1, 2)
    starts = offsets(sizes // _UNIT)
    heads = longs[starts[:-1]]
    frame_counts = sizes // _UNIT - 1 - 2 * num_columns
    _check((heads[:, 0] == raw_sizes).all() and (heads[:, 1] == num_columns + (frame_counts << 32)).all())

    entries = starts[:-1, None] + 1 + 2 * np.arange(num_columns)
    first, second = longs[entries], longs[entries + 1]
    kinds, places, stored, raw = first[..., 0], first[..., 1], second[..., 0], second[..., 1]
    codecs, encodings, widths = kinds & 255, kinds >> 8 & 255, kinds >> 16 & 255
    counts = kinds >> 32
    _check(((codecs == CODEC_RAW) | (codecs == CODEC_ZSTD)).all())
    _check(_IS_ENCODING[encodings].all())
    _check((widths <= 8).all() and not (widths & (widths - 1)).any())
    _check(counts.min() >= 1 and (counts.sum(axis=1) == frame_counts).all())
    limit = stored_sizes[:, None]
    _check(((stored >= 0) & (stored <= limit) & (places >= 0) & (places <= limit) & (raw >= 0)).all())
    _check((raw <= MAX_VALUE_SIZE * layout.MAX_FRAME_RAW_SIZE * counts).all())
    _check((raw.sum(axis=1) == raw_sizes).all())
    ends = layout.align(places + stored)
    _check((places[:, 0] == CHUNK_HEADER_SIZE + layout.align(sizes)).all())
    _check((places[:, 1:] == ends[:, :-1]).all() and (ends[:, -1] == stored_sizes).all())

    is_frame = np.ones(len(longs), np.bool_)
    is_frame[starts[:-1]] = is_frame[entries] = is_frame[entries + 1] = False
    frames = joined.view("<u4").reshape(-1, 4)[is_frame].astype(np.int64)
    first_frames = offsets(counts.ravel())[:-1]
    sums = np.add.reduceat(frames[:, :3], first_frames, axis=0).reshape(*counts.shape, 3)
    _check((sums[..., 0] == num_records[:, None]).all() and (sums[..., 2] == stored).all())
    frame_sums = sums[..., 1]
    place_sizes = place_size(encodings)
    units = np.where(place_sizes > 0, place_sizes, narrow_size(encodings))
    _check(((raw == frame_sums) | (encodings != ENCODING_PLAIN)).all())
    _check((raw * np.where(place_sizes > 0, MAX_LISTED_GROWTH, 1) >= frame_sums).all())
    _check((raw * units <= np.where(place_sizes > 0, MAX_VALUE_SIZE, MAX_INTEGER_SIZE) * frame_sums).all())
    is_zstd = np.repeat(codecs.ravel() == CODEC_ZSTD, counts.ravel())
    allowed = np.where(is_zstd, max_stored_size(frames[:, 1]), frames[:, 1])
    exact = is_zstd | (frames[:, 1] == frames[:, 2])
    _check(frames[:, 0].min() >= 1 and frames[:, 1].max() <= layout.MAX_FRAME_RAW_SIZE)
    _check((frames[:, 2] <= allowed).all() and exact.all())
    return Directories(
        codecs, encodings, widths, places, stored, raw, frame_sums, first_frames.reshape(counts.shape), counts, frames
    )


def _check(holds: bool | np.bool_) -> None:
    if not holds:
        raise MalformedError("a directory breaks a rule")
