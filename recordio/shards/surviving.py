"""What can still be read of a damaged chunk: every frame that is whole, and exactly which records are lost.

Spec: spec/format.md, section 12.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recordio.columns import Array, ColumnValues, concat, empty, take_rows
from recordio.errors import RecordIOError
from recordio.rows import LostRange, Rows
from recordio.shards.shard_reader import ShardReader


def surviving_rows(shard: ShardReader, chunk_id: int, ordinals: Sequence[int], start: int, stop: int) -> Rows:
    """Read what a damaged chunk still holds of the records [start, stop) of the data set, frame by frame.

    What is lost is listed column by column; nothing is raised for it.
    """
    schema = shard.schema
    first, end = (shard.first_record + int(shard.table.first_records[chunk_id + step]) for step in (0, 1))
    good = np.ones(end - first, np.bool_)
    losses: list[LostRange] = []
    columns: list[tuple[list[ColumnValues], list[Array]]] = []

    def lose(low: int, high: int, column: str | None, error: RecordIOError) -> None:
        good[low:high] = False
        bounds = max(start, first + low), min(stop, first + high)
        if bounds[0] < bounds[1]:
            losses.append(
                LostRange(
                    start=bounds[0],
                    stop=bounds[1],
                    shard=shard.shard_id,
                    chunk=chunk_id,
                    column=column,
                    error=error.message,
                )
            )

    try:
        directory = shard.read_directory(chunk_id)
    except RecordIOError as error:
        lose(0, end - first, None, error)
        nothing = [empty(schema.columns[ordinal]) for ordinal in ordinals]
        return Rows(start, stop, nothing, np.empty(0, np.int64), tuple(losses))
    for ordinal in ordinals:
        row = 0
        parts, places = [empty(schema.columns[ordinal])], [np.empty(0, np.int64)]
        for place, frame in enumerate(directory.columns[ordinal].frames):
            try:
                parts.append(shard.read_frames(chunk_id, directory, ordinal, place, place + 1))
                places.append(np.arange(row, row + frame.num_records))
            except RecordIOError as error:
                lose(row, row + frame.num_records, schema.columns[ordinal].name, error)
            row += frame.num_records
        columns.append((parts, places))
    good[: start - first] = False
    good[stop - first :] = False
    kept = np.flatnonzero(good)
    values = [
        take_rows(schema.columns[ordinal], concat(parts), np.searchsorted(np.concatenate(places), kept))
        for ordinal, (parts, places) in zip(ordinals, columns, strict=True)
    ]
    return Rows(start, stop, values, kept + first, tuple(losses))
