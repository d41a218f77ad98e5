"""Rows -> chunks, beside the producer.

    pieces of rows -> ChunkAssembler -> rows of one chunk -> encode_chunk (on threads) -> EncodedChunk, in order

A chunk ends at the last record that fits `chunk_size`, and where a shard ends. Sizes come from the values alone, so the
chunks do not depend on how the rows arrived, nor on the threads. Where chunks go is decided in `recordio.writer`.

Spec: spec/format.md, sections 4 and 5.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recordio.chunks.frame_encoding import encode_columns
from recordio.columns import Array, ColumnValues, row_sizes, slice_rows
from recordio.errors import RequestError
from recordio.format import layout
from recordio.format.checksum import crc
from recordio.format.chunk import encode_directory, place_columns
from recordio.format.codec import CODEC_RAW, CODEC_ZSTD, DEFAULT_LEVEL, MAX_LEVEL
from recordio.schema import Schema

DEFAULT_CHUNK_SIZE = 2 << 20
DEFAULT_COLUMN_CHUNK_SIZE = 128 << 10  # so that a column of many has whole frames
DEFAULT_FRAME_SIZE = 128 << 10
# Rows under way to the encoder threads, in raw bytes; at least one chunk is always let through.
MAX_BYTES_IN_FLIGHT = 64 << 20

_CODECS = {"none": CODEC_RAW, "zstd": CODEC_ZSTD}


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOptions:
    """What decides the bytes of a shard, besides its records."""

    codec: str = "zstd"
    level: int = DEFAULT_LEVEL
    chunk_size: int | None = None  # raw bytes; None: 2 MiB, or 128 KiB a column where that is more
    frame_size: int = DEFAULT_FRAME_SIZE  # raw bytes

    def resolve(self, schema: Schema) -> WriteOptions:
        """Check the options and fill in what depends on the schema.

        Raises:
            RequestError: an unknown codec, or a number out of range.
        """
        if self.codec not in list(_CODECS):  # a list is compared with, so that anything can be asked for
            raise RequestError(f"unknown codec {self.codec!r}", advice=f"Use one of {', '.join(_CODECS)}")
        if type(self.level) is not int or not 1 <= self.level <= MAX_LEVEL:
            raise RequestError(f"level {self.level!r} is not an int between 1 and {MAX_LEVEL}")
        for name in ("chunk_size", "frame_size"):
            value = getattr(self, name)
            if value is None and name == "chunk_size":
                continue
            if type(value) is not int or not 1 <= value <= layout.MAX_FRAME_RAW_SIZE:
                raise RequestError(
                    f"{name} {value!r} is not an int between 1 and {layout.MAX_FRAME_RAW_SIZE}, in bytes"
                )
        if self.chunk_size is not None:
            return self
        return replace(self, chunk_size=max(DEFAULT_CHUNK_SIZE, DEFAULT_COLUMN_CHUNK_SIZE * len(schema.columns)))

    def to_map(self) -> dict[str, Any]:
        """As the footer carries them."""
        level = {"level": self.level} if self.codec == "zstd" else {}
        return {"codec": self.codec, **level, "chunk_size": self.chunk_size, "frame_size": self.frame_size}


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedChunk:
    """A chunk without its header, which needs to know file and place."""

    num_records: int
    raw_size: int  # bytes, as the directory says
    stored_size: int  # bytes, header and padding included
    directory: bytes
    directory_crc: int
    payload: tuple[bytes | memoryview, ...]  # all that follows the directory, padding included


def encode_chunk(schema: Schema, parts: Sequence[Sequence[ColumnValues]], options: WriteOptions) -> EncodedChunk:
    """Encode the rows of one chunk; pure, and free of the GIL for most of its time.

    Args:
        parts: pieces of consecutive rows, each a ColumnValues for every column; at least one row in all.
    """
    encoded = encode_columns(
        schema.columns, [[part[ordinal] for part in parts] for ordinal in range(len(schema.columns))],
        frame_size=options.frame_size, codec=_CODECS[options.codec], level=options.level,
    )  # fmt: skip
    placed, stored_size = place_columns([column.entry for column in encoded])
    directory = encode_directory(placed)
    payload: list[bytes | memoryview] = [layout.padding(len(directory))]
    for entry, column in zip(placed, encoded, strict=True):
        payload += column.payload
        payload.append(layout.padding(entry.stored_size))
    return EncodedChunk(
        num_records=sum(part[0].num_rows for part in parts), raw_size=sum(entry.raw_size for entry in placed),
        stored_size=stored_size, directory=directory, directory_crc=crc(directory), payload=tuple(payload),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class ChunkRows:
    """The rows of one chunk, not yet encoded."""

    shard_id: int
    parts: list[list[ColumnValues]]
    size: int  # raw bytes, nominal


class ChunkAssembler:
    """Cuts a stream of rows into chunks, and, where `shard_size` is given, into shards."""

    def __init__(self, schema: Schema, *, chunk_size: int, shard_size: int | None) -> None:
        self._schema = schema
        self._chunk_size = chunk_size
        self._shard_size = shard_size
        self._shard_id = 0
        self._shard_filled = 0  # nominal bytes
        self._parts: list[list[ColumnValues]] = []
        self._filled = 0
        self._num_pending = 0

    def push(self, rows: list[ColumnValues]) -> Iterator[ChunkRows]:
        """Take rows over, a ColumnValues for every column, and give the chunks that are full now."""
        num_rows = rows[0].num_rows
        sizes: Array = np.zeros(num_rows, np.int64)
        for column, values in zip(self._schema.columns, rows, strict=True):
            sizes += row_sizes(column, values)
        ends = np.cumsum(sizes)
        start = 0
        while start < num_rows:
            before = int(ends[start - 1]) if start else 0
            stop = int(ends.searchsorted(before + self._chunk_size - self._filled, side="right"))
            stop = min(stop, start + layout.MAX_CHUNK_RECORDS - self._num_pending)
            if self._shard_size is not None:
                in_shard = int(ends.searchsorted(before + self._shard_size - self._shard_filled, side="right"))
                if in_shard <= start and self._shard_filled:
                    yield from self.flush()
                    self._shard_id += 1
                    self._shard_filled = 0
                    continue
                stop = min(stop, max(in_shard, start + 1))
            if stop <= start and self._parts:
                yield from self.flush()
                continue
            stop = max(stop, start + 1)
            size = int(ends[stop - 1]) - before
            self._parts.append(
                [
                    slice_rows(column, values, start, stop)
                    for column, values in zip(self._schema.columns, rows, strict=True)
                ]
            )
            self._filled += size
            self._shard_filled += size
            self._num_pending += stop - start
            start = stop

    def flush(self) -> Iterator[ChunkRows]:
        """Close the chunk that is open, if there is one."""
        if self._parts:
            yield ChunkRows(self._shard_id, self._parts, self._filled)
        self._parts, self._filled, self._num_pending = [], 0, 0


class ChunkEncoder:
    """Encodes chunks on threads and gives them back in order, with a bounded number of chunks and bytes under way."""

    def __init__(self, schema: Schema, options: WriteOptions, *, workers: int) -> None:
        self._schema = schema
        self._options = options
        self._workers = workers
        self._executor: ThreadPoolExecutor | None = None
        self._pending: deque[tuple[int, int, Future[EncodedChunk]]] = deque()  # shard_id, raw bytes
        self._in_flight = 0

    def push(self, rows: ChunkRows) -> Iterator[tuple[int, EncodedChunk]]:
        """Hand one chunk over, and give those that are ready: (shard_id, chunk)."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._workers, thread_name_prefix="recordio-encode")
        future = self._executor.submit(encode_chunk, self._schema, rows.parts, self._options)
        self._pending.append((rows.shard_id, rows.size, future))
        self._in_flight += rows.size
        # No more than keeps the threads busy: memory that is soon free again is taken again, and new memory is slow.
        most = self._workers + 2
        while self._pending and (
            self._pending[0][2].done()
            or len(self._pending) > most
            or (self._in_flight > MAX_BYTES_IN_FLIGHT and len(self._pending) > 1)
        ):
            yield self._pop()

    def drain(self) -> Iterator[tuple[int, EncodedChunk]]:
        """Wait for all that is under way."""
        while self._pending:
            yield self._pop()

    def close(self) -> None:
        """Drop what is under way and end the threads."""
        for _, _, future in self._pending:
            future.cancel()
        self._pending.clear()
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._executor = None

    def _pop(self) -> tuple[int, EncodedChunk]:
        shard_id, size, future = self._pending.popleft()
        self._in_flight -= size
        return shard_id, future.result()
