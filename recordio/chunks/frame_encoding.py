"""Rows of one column -> frames: boundaries, narrow values, dictionaries, raw bytes, zstd or raw, CRC.

Boundaries, encoding and codec depend on the values and the options alone, so the same rows always give the same bytes.
Layout inside a frame: spec/format.md, section 6; how values are stored: `recordio.chunks.stored_values`; the way back:
`recordio.chunks.frames`.

Spec: spec/format.md, sections 5, 6 and 10.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from typing import Any

import numpy as np

from recordio.chunks.dictionaries import find_dictionaries, may_pay, place_size_of
from recordio.chunks.narrow import narrowed, narrowest
from recordio.chunks.stored_values import INTEGERS, growth, may_encode
from recordio.columns import (
    Array,
    ColumnValues,
    Elements,
    concat,
    element_counts,
    offsets,
    row_sizes,
    split_places,
)
from recordio.errors import MalformedError
from recordio.format import layout
from recordio.format.checksum import crc_of_frame
from recordio.format.chunk import ColumnChunk, Frame
from recordio.format.codec import (
    CODEC_RAW,
    CODEC_ZSTD,
    DICTIONARY,
    ENCODING_PLAIN,
    PLACE_SIZES,
    compress_frames,
    narrow_size,
)
from recordio.schema import Column

# Stored raw where compression gains less than this share: decoding then costs a copy less (JPEG, noise).
_MIN_GAIN = 0.1
# Frames compressed before a column chunk is given up as incompressible.
_PROBE_FRAMES = 2
_PROBE_RATIO = 0.97
_FEW_ROWS = 1024  # up to here, cutting a list is faster than cutting an array

_Parts = list[bytes | memoryview]  # the bytes of one frame, back to back


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedColumn:
    """One column of one chunk, ready to be placed."""

    entry: ColumnChunk  # without its offset
    payload: tuple[bytes | memoryview, ...]  # stored bytes of all frames, in order; may be views of the values


def frame_bounds(column: Column, rows: ColumnValues, frame_size: int) -> list[int]:
    """Row numbers at which frames begin, and the end: a frame closes at the last row that fits `frame_size` bytes."""
    if column.is_fixed:
        return _fixed_bounds(column, rows.num_rows, frame_size)
    # A string counts 4 bytes at least, so that this also bounds the strings of a frame.
    most = 4 * layout.MAX_FRAME_ELEMENTS if column.is_string_like else frame_size
    return close_at(row_sizes(column, rows), min(frame_size, most))


def _most_elements(column: Column, rows: ColumnValues, bounds: list[int]) -> int:
    ends = offsets(element_counts(column, rows))[bounds]
    return int(np.diff(ends).max(initial=0))


def _fixed_bounds(column: Column, num_rows: int, frame_size: int) -> list[int]:
    size = column.row_size + column.optional
    step = max(1, frame_size // size) if size else num_rows
    return [*range(0, num_rows, step), num_rows]


def close_at(sizes: Array, limit: int) -> list[int]:
    """Cut consecutive rows into runs of at most `limit` bytes, at least one row each; gives the bounds, from 0 to n."""
    ends = np.cumsum(sizes)
    bounds = [0]
    if len(ends) <= _FEW_ROWS:
        few: list[int] = ends.tolist()
        while bounds[-1] < len(few):
            start = bounds[-1]
            before = few[start - 1] if start else 0
            bounds.append(max(start + 1, bisect_right(few, before + limit)))
        return bounds
    while bounds[-1] < len(ends):
        start = bounds[-1]
        before = int(ends[start - 1]) if start else 0
        bounds.append(max(start + 1, int(ends.searchsorted(before + limit, side="right"))))
    return bounds


def encode_columns(
    columns: Sequence[Column], rows: Sequence[Sequence[ColumnValues]], *, frame_size: int, codec: int, level: int
) -> list[EncodedColumn]:
    """Encode the rows of some columns of one chunk, together: a step over all of them costs the GIL once.

    Args:
        rows: for each column at least one row, in one piece or several; its arrays must stay unchanged until the
            payload is written.
        frame_size: raw bytes of a frame.
        codec: CODEC_ZSTD stores integers as narrow as they are, takes dictionaries where these pay, and compresses
            where it gains at least 10 %; CODEC_RAW stores what can be read straight into the reader's memory.

    Raises:
        MalformedError: one row takes more than a frame may hold (1 GiB).
    """
    cuts = [_CutColumn.of(column, pieces, frame_size, codec) for column, pieces in zip(columns, rows, strict=True)]
    stored: list[list[_Parts] | None] = [None] * len(cuts)
    if codec == CODEC_ZSTD:
        _take_dictionaries(cuts)
        stored = _compress_columns([cut.frames for cut in cuts], level)
    return [cut.encoded(frames) for cut, frames in zip(cuts, stored, strict=True)]


@dataclass(slots=True)
class _CutColumn:
    """The rows of a column, cut into the raw bytes of frames."""

    column: Column
    encoding: int
    width: int  # of lengths
    bounds: list[int]  # rows
    frames: list[_Parts]
    num_values: int
    pieces: Sequence[ColumnValues]  # as `encoding` stores them

    @classmethod
    def of(cls, column: Column, pieces: Sequence[ColumnValues], frame_size: int, codec: int) -> _CutColumn:
        encoding = ENCODING_PLAIN
        narrow = pieces
        if codec == CODEC_ZSTD and column.dtype in INTEGERS:
            if len(pieces) > 1 and column.is_fixed:
                pieces = [concat(pieces)]
            encoding = narrowest(column, pieces)
            narrow = narrowed(column, pieces, encoding)
        cut = cls._plain(column, narrow, frame_size, encoding)
        if encoding and cut.largest() * growth(column, encoding) > layout.MAX_FRAME_RAW_SIZE:
            # The limit counts what stands in front of the values as if it grew too: plain may fit where narrow does
            # not.
            cut = cls._plain(column, pieces, frame_size, ENCODING_PLAIN)
        if cut.largest() > layout.MAX_FRAME_RAW_SIZE:
            raise MalformedError("one record takes more than 1 GiB in this column", column=column.name)
        return cut

    @classmethod
    def _plain(
        cls, column: Column, pieces: Sequence[ColumnValues], frame_size: int, encoding: int
    ) -> _CutColumn:
        width, bounds, frames = _cut(column, pieces, frame_size)
        num_values = 0 if column.is_string_like else sum([piece.values.size for piece in pieces])
        return cls(column, encoding, width, bounds, frames, num_values, pieces)

    def largest(self) -> int:
        """Raw bytes of the largest frame."""
        return max([sum(map(len, frame)) for frame in self.frames], default=0)

    def place_sizes(self) -> list[int]:
        """Bytes that a place in a dictionary may have; none where this column cannot have one, or none is made."""
        if self.column.itemsize not in (2, 4, 8) or not self.num_values:
            return []
        return [size for size in PLACE_SIZES if may_encode(self.column, self.encoding + DICTIONARY * size)]

    def values(self) -> list[Array]:
        """The values of each frame, flat; of a fixed column without None."""
        flats = [piece.values.reshape(-1) for piece in self.pieces]
        if not may_pay(flats):
            return []
        flat = flats[0] if len(flats) == 1 else np.concatenate(flats)
        a_row = self.num_values // self.bounds[-1]
        return [flat[start * a_row : stop * a_row] for start, stop in pairwise(self.bounds)]

    def encoded(self, compressed: list[_Parts] | None) -> EncodedColumn:
        """The frames with their checksums; `compressed`, or as they are."""
        stored = self.frames if compressed is None else compressed
        frames = []
        for (start, stop), raw, parts in zip(pairwise(self.bounds), self.frames, stored, strict=True):
            checksum = stored_size = 0
            for part in parts:
                checksum = crc_of_frame(part, checksum)
                stored_size += len(part)
            frames.append(Frame(stop - start, sum(map(len, raw)), stored_size, checksum))
        column = self.column
        if column.is_fixed:
            raw_size = self.bounds[-1] * (column.row_size + column.optional)
        else:
            saved = (column.itemsize or 1) - narrow_size(self.encoding) if self.encoding else 0
            raw_size = sum([frame.raw_size for frame in frames]) + self.num_values * saved
        entry = ColumnChunk(
            codec=CODEC_RAW if compressed is None else CODEC_ZSTD, encoding=self.encoding, length_width=self.width,
            offset=0, stored_size=sum([frame.stored_size for frame in frames]), raw_size=raw_size,
            frames=tuple(frames),
        )  # fmt: skip
        return EncodedColumn(entry=entry, payload=tuple(part for parts in stored for part in parts))


def _take_dictionaries(cuts: Sequence[_CutColumn]) -> None:
    """Give those columns dictionaries whose values are categories."""
    candidates = [(cut, sizes, values) for cut in cuts if (sizes := cut.place_sizes()) and (values := cut.values())]
    found = find_dictionaries(
        [values for _, _, values in candidates], [1 << 8 * max(sizes) for _, sizes, _ in candidates]
    )
    for (cut, _, _), lists in zip(candidates, found, strict=True):
        if lists is not None:
            size = place_size_of(lists)
            cut.encoding += DICTIONARY * size
            cut.frames = [[_bytes_of(places.astype(f"<u{size}")), _bytes_of(entries)] for places, entries in lists]


def _cut(column: Column, pieces: Sequence[ColumnValues], frame_size: int) -> tuple[int, list[int], list[_Parts]]:
    """Length width, bounds and bytes of the frames; values may be narrow, and the bounds do not depend on it."""
    if column.is_fixed and not column.optional:
        bounds = _fixed_bounds(column, sum([piece.num_rows for piece in pieces]), frame_size)
        return 0, bounds, _fixed_frames(pieces, bounds)
    joined = concat(pieces)
    width = 0 if column.is_fixed else _length_width(joined)
    bounds = frame_bounds(column, joined, frame_size)
    if column.is_string_like and _most_elements(column, joined, bounds) > layout.MAX_FRAME_ELEMENTS:
        raise MalformedError("one record has more strings than a frame may hold", column=column.name)
    return width, bounds, _frame_parts(column, joined, width, bounds)


def _length_width(rows: ColumnValues) -> int:
    largest = 0
    for numbers in (rows.dims, rows.lengths):
        if numbers is not None and numbers.size:
            largest = max(largest, int(numbers.max()))
    return next(width for width in (1, 2, 4, 8) if largest < 1 << 8 * width)


def _fixed_frames(pieces: Sequence[ColumnValues], bounds: list[int]) -> list[_Parts]:
    """The bytes of each frame of a column without None: views; of two pieces, where a frame lies in both."""
    frames: list[_Parts] = [[] for _ in bounds[1:]]
    before = frame = 0  # rows
    for piece in pieces:
        data = _bytes_of(piece.values)
        size = len(data) // max(1, piece.num_rows)
        end = before + piece.num_rows
        while frame < len(frames) and bounds[frame] < end:
            start, stop = max(bounds[frame], before), min(bounds[frame + 1], end)
            frames[frame].append(data[(start - before) * size : (stop - before) * size])
            if stop < bounds[frame + 1]:
                break
            frame += 1
        before = end
    return frames


def _frame_parts(column: Column, rows: ColumnValues, width: int, bounds: list[int]) -> list[_Parts]:
    """The bytes of each frame: views of the parts of all rows."""
    elements: list[list[bytes]] | None = None
    if column.is_fixed:
        row_size = rows.values.itemsize * math.prod(column.shape or ())  # type: ignore[arg-type]  # all known: fixed
        sections = [(_bytes_of(rows.values), bounds, row_size)]
    else:
        assert rows.dims is not None
        axes, items, firsts = split_places(column, rows, bounds)
        values: Any = rows.values
        if isinstance(values, Elements):
            elements = [values.items[start:stop] for start, stop in pairwise(items)]
            sections = []
        else:
            sections = [(_bytes_of(values), firsts, values.itemsize)]
        if rows.lengths is not None:
            sections.insert(0, (_bytes_of(rows.lengths.astype(f"<u{width}")), items, width))
        if rows.dims.size:
            a_row = rows.dims.shape[1] if rows.ranks is None else 1
            sections.insert(0, (_bytes_of(rows.dims.astype(f"<u{width}")), axes, a_row * width))
    sections[:0] = [(_bytes_of(flags), bounds, 1) for flags in (rows.validity, rows.ranks) if flags is not None]
    cut = [
        [section[start * size : stop * size] for start, stop in pairwise(places)] for section, places, size in sections
    ]
    frames: list[_Parts] = [list(parts) for parts in zip(*cut, strict=True)]
    if elements is not None:
        for parts, own in zip(frames, elements, strict=True):
            parts += own
    return frames


def _bytes_of(array: Array) -> memoryview:
    """The bytes of an array, row-major and little-endian; a view where they are so already."""
    if array.dtype.byteorder == ">" or (array.dtype.byteorder == "=" and not np.little_endian):
        array = array.astype(array.dtype.newbyteorder("<"))
    return memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def _compress_columns(columns: Sequence[list[_Parts]], level: int) -> list[list[_Parts] | None]:
    """The compressed frames of each column, or None where compression is not worth it.

    The first frames of all columns are compressed in one step, and the rest of those that it is worth for in another.
    """
    joined = [[_joined(parts) for parts in frames] for frames in columns]
    raw_sizes = [sum(map(len, frames)) for frames in joined]
    stored: list[list[bytes | memoryview]] = [[] for _ in columns]
    places = [place for place, raw_size in enumerate(raw_sizes) if raw_size]
    for part in (slice(_PROBE_FRAMES), slice(_PROBE_FRAMES, None)):
        chosen = [joined[place][part] for place in places]
        found = iter(compress_frames(list(chain.from_iterable(chosen)), level))
        for place, frames in zip(places, chosen, strict=True):
            stored[place] += islice(found, len(frames))
        places = [place for place in places if not _is_hopeless(joined[place], stored[place])]
    return [
        [[frame] for frame in frames]
        if place in places and sum(map(len, frames)) <= (1 - _MIN_GAIN) * raw_sizes[place]
        else None
        for place, frames in enumerate(stored)
    ]


def _joined(parts: _Parts) -> bytes | memoryview:
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _is_hopeless(raw: Sequence[bytes | memoryview], stored: Sequence[bytes | memoryview]) -> bool:
    """Whether the first frames, if there are so many, say that compressing the others is not worth trying."""
    probed = sum(map(len, raw[:_PROBE_FRAMES]))
    return len(raw) >= _PROBE_FRAMES and sum(map(len, stored[:_PROBE_FRAMES])) > _PROBE_RATIO * probed
