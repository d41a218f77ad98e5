"""The frames of a column in a run of chunks: which of them hold the rows that are wanted, and whether they can be its.

Spec: spec/format.md, sections 5 and 6.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from recordio.chunks.directories import Directories
from recordio.chunks.stored_values import fixed_frames_fit, may_encode, raw_size_fits
from recordio.columns import Array
from recordio.errors import MalformedError
from recordio.format import layout
from recordio.format.codec import narrow_size, place_size
from recordio.schema import Column


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames of one column, one after the other, over chunks; arrays of int64[F]."""

    start: int  # rows before the one asked for first
    chunks: Array  # ordinals in the run
    places: Array  # bytes from the start of the file
    codecs: Array
    encodings: Array
    widths: Array
    num_records: Array
    raw_sizes: Array
    stored_sizes: Array
    crcs: Array

    def reads(self) -> Iterator[tuple[int, int, int, int]]:
        """Runs of frames that lie back to back: first and last ordinal (half-open), place and size."""
        bounds = [0, *(np.flatnonzero(np.diff(self.chunks)) + 1).tolist(), len(self.chunks)]
        sizes = np.add.reduceat(self.stored_sizes, bounds[:-1]).tolist()
        return zip(bounds[:-1], bounds[1:], self.places[bounds[:-1]].tolist(), sizes)

    def part(self, first: int, stop: int) -> Frames:
        """Some of the frames."""
        arrays = (
            self.chunks, self.places, self.codecs, self.encodings, self.widths, self.num_records, self.raw_sizes,
            self.stored_sizes, self.crcs,
        )  # fmt: skip
        return Frames(self.start, *(array[first:stop] for array in arrays))

    def stored_value_sizes(self, column: Column) -> int | Array:
        """Bytes of a value as it is stored, or listed in a dictionary, frame by frame."""
        size = column.itemsize or 1
        if not self.encodings.any():
            return size
        narrow = narrow_size(self.encodings)
        return np.where(narrow, narrow, size)

    def growths(self, column: Column) -> int | Array:
        """How many times as large narrow values get when they are widened, frame by frame; 1 where all are plain."""
        return (column.itemsize or 1) // self.stored_value_sizes(column)


def select_each(
    directories: Directories, ordinal: int, offsets: Array, starts: Array, stops: Array
) -> tuple[Frames, Array]:
    """The frames of a column that hold the rows [start, stop) of each chunk, and rows in them before `start`."""
    chunks, entries, places = _frames_of(directories, ordinal, offsets)
    ends = np.cumsum(entries[:, 0])
    counts = directories.num_frames[:, ordinal]
    before = (ends - entries[:, 0])[np.cumsum(counts) - counts]
    ends = ends - before[chunks]  # in the chunk
    part = np.flatnonzero((ends > starts[chunks]) & (ends - entries[:, 0] < stops[chunks]))
    chunks, entries = chunks[part], entries[part]
    firsts = np.searchsorted(chunks, np.arange(len(starts)))
    skips = starts - (ends[part] - entries[:, 0])[firsts]
    return _frames(directories, ordinal, 0, chunks, places[part], entries), skips


def _frames_of(directories: Directories, ordinal: int, offsets: Array) -> tuple[Array, Array, Array]:
    """All frames of a column: chunk, entry and place in the file of each."""
    counts = directories.num_frames[:, ordinal]
    before = np.cumsum(counts) - counts
    chunks = np.repeat(np.arange(len(counts)), counts)
    entries = directories.frames[np.arange(len(chunks)) + (directories.first_frames[:, ordinal] - before)[chunks]]
    stored_starts = np.cumsum(entries[:, 2]) - entries[:, 2]
    places = (offsets + directories.offsets[:, ordinal] - stored_starts[before])[chunks] + stored_starts
    return chunks, entries, places


def _frames(
    directories: Directories, ordinal: int, start: int, chunks: Array, places: Array, entries: Array
) -> Frames:
    return Frames(
        start, chunks, places, directories.codecs[:, ordinal][chunks], directories.encodings[:, ordinal][chunks],
        directories.widths[:, ordinal][chunks], entries[:, 0], entries[:, 1], entries[:, 2], entries[:, 3],
    )  # fmt: skip


def select(directories: Directories, ordinal: int, offsets: Array, start: int, count: int) -> Frames:
    """The frames of a column that hold `count` rows from row `start` of the run on."""
    chunks, entries, places = _frames_of(directories, ordinal, offsets)
    row_ends = np.cumsum(entries[:, 0])
    first = int(row_ends.searchsorted(start, side="right"))
    stop = int(row_ends.searchsorted(start + count, side="left")) + 1
    part = slice(first, stop)
    chunks, entries = chunks[part], entries[part]
    skip = start - int(row_ends[first]) + int(entries[0, 0])
    return _frames(directories, ordinal, skip, chunks, places[part], entries)


def check_frames(
    column: Column, directories: Directories, ordinal: int, num_records: Array, frames: Frames
) -> None:
    """Refuse frames that cannot belong to this column, before anything is allocated for them."""
    if frames.encodings.any():
        _check_encodings(column, directories, ordinal, num_records, frames)
    if column.is_fixed:
        fits = fixed_frames_fit(
            num_values=frames.num_records * (column.row_size // (column.itemsize or 1)),
            num_flags=frames.num_records * column.optional, stored_size=frames.stored_value_sizes(column),
            place_size=place_size(frames.encodings), raw_size=frames.raw_sizes,
        )  # fmt: skip
        if frames.widths.any() or not fits.all():
            raise MalformedError("a frame that is not as large as its rows")
    elif not frames.widths.all():
        raise MalformedError("no length width in a variable column")


def _check_encodings(
    column: Column, directories: Directories, ordinal: int, num_records: Array, frames: Frames
) -> None:
    """As `check_encoding`, for all chunks at once."""
    encodings = directories.encodings[:, ordinal]
    if not all(may_encode(column, encoding) for encoding in np.unique(encodings).tolist()):
        raise MalformedError("an encoding that the type of its column does not allow")
    widened = frames.raw_sizes * frames.growths(column)
    if column.is_fixed:
        widened = np.where(place_size(frames.encodings) > 0, frames.num_records * column.row_size, widened)
    if int(widened.max()) > layout.MAX_FRAME_RAW_SIZE:
        raise MalformedError("a frame that is too large once its values are widened")
    encoded = np.flatnonzero(encodings)
    if not raw_size_fits(
        column, encodings[encoded], raw_size=directories.raw_sizes[encoded, ordinal],
        frame_sum=directories.frame_sums[encoded, ordinal], num_records=num_records[encoded],
    ).all():  # fmt: skip
        raise MalformedError("a column whose raw size is not that of its values at full width")
