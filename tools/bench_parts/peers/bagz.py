"""Bagz: eight files of records that are compressed one by one; a record is one run of bytes.

    header: fixed columns, sizes of all variable columns but the last | variable columns

Bagz leaves the bytes of a record to its user. All headers of a batch become one structured array, so that fixed columns
cost no Python step for each record.

Source: https://github.com/google-deepmind/bagz (README)
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np

from bench_parts.peers.contract import EpochOptions, Kind, Peer
from bench_parts.workloads import Array, Column, Workload

NUM_FILES = 8
WRITTEN_AT_ONCE = 4096  # records
# bytes stored: shuffled reads of smaller records took longer with two threads than with one, as did those of `.bag`
PARALLEL_RECORD_SIZE = 256


class RowCodec:
    """Records as bytes, for the formats that keep nothing else."""

    def __init__(self, workload: Workload) -> None:
        # Largest first: every field is then aligned.
        fixed = [column for column in workload.columns if column.kind == "fixed"]
        fixed.sort(key=lambda column: -np.dtype(column.dtype).itemsize)
        self.columns = workload.columns
        self._workload = workload
        self._variable = [column for column in workload.columns if column.kind != "fixed"]
        fields: list[Any] = [(column.name, column.dtype, column.shape) for column in fixed]
        fields += [(_size_of(column), "uint32") for column in self._variable[:-1]]
        self._header = np.dtype(sorted(fields, key=lambda field: -np.dtype(field[1]).itemsize), align=True)

    def encode_range(self, start: int, stop: int) -> list[bytes]:
        """Records [start, stop) of the workload."""
        headers = np.zeros(stop - start, self._header)
        parts = []
        for column in self.columns:
            values = self._workload.values[column.name]
            if column.kind == "fixed":
                headers[column.name] = values[start:stop]
                continue
            ends = self._workload.offsets[column.name][start : stop + 1]
            ends = (ends - ends[0]) * values.itemsize
            first = self._workload.offsets[column.name][start]
            raw = values[first : first + int(ends[-1]) // values.itemsize].tobytes()
            places = ends.tolist()
            parts.append([raw[a:b] for a, b in pairwise(places)])
            if column in self._variable[:-1]:
                headers[_size_of(column)] = np.diff(ends)
        size = self._header.itemsize
        raw = headers.tobytes()
        rows = [raw[place : place + size] for place in range(0, len(raw), size)]
        return [b"".join(row) for row in zip(rows, *parts, strict=True)] if parts else rows

    def encode(self, record: dict[str, Any]) -> bytes:
        """One record."""
        parts = []
        sizes = []
        for column in self._variable:
            value = record[column.name]
            part = value.encode() if column.kind == "str" else value.tobytes() if column.kind == "ragged" else value
            sizes.append(len(part))
            parts.append(part)
        named = dict(zip(map(_size_of, self._variable), sizes, strict=True))
        header = np.zeros((), self._header)
        for name in self._header.names or ():
            header[name] = record[name] if name in record else named[name]
        return b"".join([header.tobytes(), *parts])

    def decode(self, rows: Sequence[Any], names: Sequence[str] | None = None) -> dict[str, Any]:
        """Records that are bytes or memoryviews: arrays of fixed columns, lists of the others.

        Values of a bytes column are of the type that the records have; those of a ragged one are views of the record.
        """
        size = self._header.itemsize
        headers = np.frombuffer(b"".join([row[:size] for row in rows] if self._variable else rows), self._header)
        found: dict[str, Any] = {}
        for column in self.columns:
            if names is not None and column.name not in names:
                continue
            if column.kind == "fixed":
                found[column.name] = headers[column.name]
            elif len(self._variable) == 1:
                found[column.name] = _rest(column, rows, size)
            else:
                found[column.name] = _parts(column, rows, *self._ends(column, rows, headers))
        return found

    def _ends(self, column: Column, rows: Sequence[Any], headers: Array) -> tuple[list[int], list[int]]:
        place = self._variable.index(column)
        starts = np.full(len(rows), self._header.itemsize, np.int64)
        for before in self._variable[:place]:
            starts += headers[_size_of(before)]
        if column is self._variable[-1]:
            return starts.tolist(), list(map(len, rows))
        return starts.tolist(), (starts + headers[_size_of(column)]).tolist()


def _size_of(column: Column) -> str:
    return f"{column.name}/size"


def _rest(column: Column, rows: Sequence[Any], start: int) -> list[Any]:
    """What each record has after `start` bytes."""
    if column.kind == "bytes":
        return [row[start:] for row in rows]
    if column.kind == "str":
        return [str(row[start:], "utf-8") for row in rows]
    dtype = np.dtype(column.dtype)
    return [np.frombuffer(row, dtype, offset=start) for row in rows]


def _parts(column: Column, rows: Sequence[Any], starts: list[int], stops: list[int]) -> list[Any]:
    """Bytes [start, stop) of each record."""
    parts = [row[start:stop] for row, start, stop in zip(rows, starts, stops, strict=True)]
    if column.kind == "bytes":
        return parts
    if column.kind == "str":
        return [str(part, "utf-8") for part in parts]
    dtype = np.dtype(column.dtype)
    return [np.frombuffer(part, dtype) for part in parts]


class _Handle:
    """An open reader and what decodes its records."""

    def __init__(self, reader: Any, codec: RowCodec) -> None:
        self.reader = reader
        self.codec = codec


class Bagz(Peer):
    """Bagz files: `.bagz` is compressed by Zstandard, `.bag` is not."""

    environment = "arrow"
    distributions = ("bagz",)

    def __init__(self, name: str, extension: str) -> None:
        self.name = name
        self.kind: Kind = "compressed" if extension == "bagz" else "raw"
        compression = "zstd level 3 for each record" if extension == "bagz" else "no compression"
        self.settings = f"{compression}, {NUM_FILES} files, read by the batch; no checksums"
        self._extension = extension

    def write(self, workload: Workload, path: str, threads: int) -> None:
        self._write(workload, path, NUM_FILES, threads)

    def write_records(self, workload: Workload, path: str) -> None:
        import bagz

        codec = RowCodec(workload)
        with bagz.Writer(self._path(path, 0, 1)) as writer:
            for record in workload.records():
                writer.write(codec.encode(record))

    def write_shards(self, workload: Workload, path: str, num_shards: int) -> None:
        self._write(workload, path, num_shards, 1)

    def epoch(self, workload: Workload, path: str, options: EpochOptions) -> Iterator[Any]:
        codec = RowCodec(workload)
        reader = self._reader(path, options.threads)
        num_records = len(reader)
        starts = range(0, num_records, options.batch_size)
        if options.shuffle:
            order = np.random.default_rng(options.seed).permutation(num_records)
            for start in starts:
                rows = reader.read_indices(order[start : start + options.batch_size])
                yield codec.decode(rows, options.columns)
        else:
            for start in starts:
                yield codec.decode(reader[start : start + options.batch_size].read(), options.columns)

    def count(self, batch: Any) -> int:
        return len(next(iter(batch.values())))

    def leaves(self, workload: Workload, batch: Any) -> dict[str, Sequence[Any]]:
        return dict(batch)

    def open(self, workload: Workload, path: str) -> Any:
        return _Handle(self._reader(path, None), RowCodec(workload))

    def record(self, handle: Any, number: int) -> dict[str, Any]:
        found = handle.codec.decode([handle.reader[number]])
        return {name: values[0] for name, values in found.items()}

    def batch(self, handle: Any, numbers: Sequence[int]) -> Any:
        return handle.codec.decode(handle.reader.read_indices(np.asarray(numbers, np.int64)))

    def _write(self, workload: Workload, path: str, num_files: int, threads: int) -> None:
        codec = RowCodec(workload)
        ends = [workload.num_records * number // num_files for number in range(num_files + 1)]

        def write_file(number: int) -> None:
            import bagz

            with bagz.Writer(self._path(path, number, num_files)) as writer:
                for start in range(ends[number], ends[number + 1], WRITTEN_AT_ONCE):
                    for row in codec.encode_range(start, min(start + WRITTEN_AT_ONCE, ends[number + 1])):
                        writer.write(row)

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(write_file, range(num_files)))

    def _path(self, path: str, number: int, num_files: int) -> str:
        return os.path.join(path, f"data-{number:05d}-of-{num_files:05d}.{self._extension}")

    def _reader(self, path: str, threads: int | None) -> Any:
        """A reader of all files; `threads`: at most so many, None: as many as Bagz starts by default."""
        import bagz

        spec = os.path.join(path, f"data@*.{self._extension}")
        if threads is None:
            return bagz.Reader(spec)
        reader = bagz.Reader(spec, bagz.Reader.Options(max_parallelism=1))
        if threads > 1 and self.kind == "compressed" and reader.approximate_bytes_per_record() >= PARALLEL_RECORD_SIZE:
            return bagz.Reader(spec, bagz.Reader.Options(max_parallelism=threads))
        return reader


PEERS: tuple[Peer, ...] = (Bagz("Bagz", "bagz"), Bagz("Bagz, uncompressed", "bag"))
