"""ArrayRecord files, read with Grain.

    record:  columns of fixed size | uint32 sizes of the others | their bytes

ArrayRecord stores runs of bytes; the layout inside is this module's, and has whole batches decoded by numpy at once.

Source: https://google-grain.readthedocs.io/en/latest/tutorials/dataset_basic_tutorial.html,
https://github.com/google/array_record#readme
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from bench_parts.peers.contract import EpochOptions, Peer
from bench_parts.workloads import Column, Workload

NUM_SHARDS = 8  # at least
# Reading one record took 10 µs in files of 3,000 records, 41 in files of 25,000, 620 in one of 200,000 (version 0.8.6).
RECORDS_PER_SHARD = 2500
# Grain wants it for random access: a record is then its own chunk, and none is decompressed for another one's sake.
WRITER_OPTIONS = "group_size:1"


class ArrayRecord(Peer):
    """One record for each read, compressed alone; Grain shuffles all of the data set by index."""

    name = "ArrayRecord + Grain"
    environment = "grain"
    distributions = ("grain", "array-record")
    kind = "compressed"
    verifies = True  # Riegeli's chunks have a hash, and the reader checks it
    settings = (
        f"files of up to {RECORDS_PER_SHARD:,} records, {WRITER_OPTIONS}, zstd (default), decoded by whole batches; "
        "read in the process itself (num_threads=0); threads 2: mp_prefetch with 2 workers"
    )

    def write(self, workload: Workload, path: str, threads: int) -> None:
        self.write_shards(workload, path, _num_shards(workload))

    def write_shards(self, workload: Workload, path: str, num_shards: int) -> None:
        layout = _Layout(workload.columns)
        _write(path, workload.num_records, num_shards, layout.encode_all(workload))

    def write_records(self, workload: Workload, path: str) -> None:
        layout = _Layout(workload.columns)
        _write(path, workload.num_records, _num_shards(workload), map(layout.encode, workload.records()))

    def epoch(self, workload: Workload, path: str, options: EpochOptions) -> Iterator[Any]:
        import grain

        numbers = grain.MapDataset.source(self._source(path))
        if options.shuffle:
            numbers = numbers.shuffle(seed=options.seed)
        decode = _Layout(workload.columns, options.columns).decode
        batches = numbers.batch(options.batch_size, batch_fn=decode)
        # Threads wait for each other's interpreter lock: one alone is faster in the process itself.
        read = batches.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
        if options.threads > 1:
            read = read.mp_prefetch(grain.MultiprocessingOptions(num_workers=options.threads))
        return iter(read)

    def count(self, batch: Any) -> int:
        return len(next(iter(batch.values())))

    def leaves(self, workload: Workload, batch: Any) -> dict[str, Sequence[Any]]:
        return dict(batch)

    def open(self, workload: Workload, path: str) -> Any:
        return self._source(path), _Layout(workload.columns)

    def record(self, handle: Any, number: int) -> dict[str, Any]:
        source, layout = handle
        return {name: values[0] for name, values in layout.decode([source[number]]).items()}

    def batch(self, handle: Any, numbers: Sequence[int]) -> Any:
        source, layout = handle
        return layout.decode(source.__getitems__(numbers))

    def _source(self, path: str) -> Any:
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        return ArrayRecordDataSource([os.path.join(path, file) for file in sorted(os.listdir(path))])


class _Layout:
    """How a record lies in its bytes.

    Attributes:
        wanted: what `decode` gives; None: all.
    """

    def __init__(self, columns: Sequence[Column], wanted: Sequence[str] | None = None) -> None:
        self._columns = [one for one in columns if wanted is None or one.name in wanted]
        self._fixed = [one for one in columns if one.kind == "fixed"]
        self._variable = [one for one in columns if one.kind != "fixed"]
        fields: list[Any] = [(one.name, one.dtype, one.shape) for one in self._fixed]
        self._head = np.dtype(fields + [(one.name, "uint32") for one in self._variable])
        sizes = [self._head[one.name].itemsize for one in self._fixed]
        self._struct = "<" + "".join(f"{size}s" for size in sizes) + "I" * len(self._variable)

    def encode(self, record: dict[str, Any]) -> bytes:
        """One record."""
        fixed = [np.asarray(record[one.name]).tobytes() for one in self._fixed]
        variable = [_to_bytes(one, record[one.name]) for one in self._variable]
        return b"".join([struct.pack(self._struct, *fixed, *map(len, variable)), *variable])

    def encode_all(self, workload: Workload) -> Iterator[bytes]:
        """All records of a workload."""
        for start in range(0, workload.num_records, 1024):
            stop = min(start + 1024, workload.num_records)
            heads = np.empty(stop - start, self._head)
            for column in self._fixed:
                heads[column.name] = workload.slice(column, start, stop)
            tails = []
            for column in self._variable:
                tails.append([_to_bytes(column, value) for value in workload.slice(column, start, stop)])
                heads[column.name] = [len(value) for value in tails[-1]]
            raw, size = heads.tobytes(), self._head.itemsize
            parts = (raw[place : place + size] for place in range(0, len(raw), size))
            yield from map(b"".join, zip(parts, *tails, strict=True)) if tails else parts

    def decode(self, records: Sequence[bytes]) -> dict[str, Any]:
        """A batch: an array of each fixed column, a list of each other one."""
        size = self._head.itemsize
        if self._variable:
            heads = np.frombuffer(b"".join([record[:size] for record in records]), self._head)
            # Of each variable column: where it begins and ends in every record.
            sizes = (heads[one.name].astype(np.int64) for one in self._variable)
            bounds = [one.tolist() for one in accumulate(sizes, initial=np.full(len(records), size))]
        else:
            heads = np.frombuffer(b"".join(records), self._head)
        found: dict[str, Any] = {}
        for column in self._columns:
            if column.kind == "fixed":
                found[column.name] = np.ascontiguousarray(heads[column.name])
                continue
            place = self._variable.index(column)
            parts = zip(records, bounds[place], bounds[place + 1], strict=True)
            if column.kind == "bytes":
                found[column.name] = [record[start:stop] for record, start, stop in parts]
            elif column.kind == "str":
                found[column.name] = [record[start:stop].decode() for record, start, stop in parts]
            else:
                dtype = np.dtype(column.dtype)
                found[column.name] = [
                    np.frombuffer(record, dtype, (stop - start) // dtype.itemsize, start)
                    for record, start, stop in parts
                ]
        return found


def _num_shards(workload: Workload) -> int:
    return max(NUM_SHARDS, -(-workload.num_records // RECORDS_PER_SHARD))


def _to_bytes(column: Column, value: Any) -> bytes:
    if column.kind == "bytes":
        return bytes(value)
    found: bytes = value.encode() if column.kind == "str" else value.tobytes()
    return found


def _write(path: str, num_records: int, num_shards: int, records: Iterator[bytes]) -> None:
    from array_record.python.array_record_module import ArrayRecordWriter

    for shard in range(num_shards):
        file = os.path.join(path, f"shard-{shard:05}-of-{num_shards:05}.arrayrecord")
        start, stop = (number * num_records // num_shards for number in (shard, shard + 1))
        writer = ArrayRecordWriter(file, WRITER_OPTIONS)
        for _ in range(start, stop):
            writer.write(next(records))
        writer.close()


PEERS: tuple[Peer, ...] = (ArrayRecord(),)
