"""Parquet, written and read by pyarrow: eight files of row groups of about a megabyte.

Arrays are fixed-size binaries, which Parquet keeps as one run of bytes; a list<uint8> took eight times as long to read.
Batches hold numpy views of the Arrow memory for fixed columns and Arrow arrays for the others.

Source: https://arrow.apache.org/docs/python/parquet.html
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, cast

import numpy as np

from bench_parts.peers.contract import EpochOptions, Kind, Peer
from bench_parts.workloads import Column, Workload

NUM_FILES = 8
# pyarrow's default of 1 Mi rows makes one group of a file, and every random access would decode all of it. From
# 1 MiB to 16 MiB an epoch takes about as long, and random access as much longer as the group has bytes; 256 KiB costs
# epochs and size.
ROW_GROUP_SIZE = 1 << 20
POOL_SIZE = 64 << 20  # bytes that are shuffled together
READ_SIZE = 4 << 20  # bytes that are decoded at once, in order, and then cut into batches


def arrow_column(workload: Workload, column: Column, start: int, stop: int) -> Any:
    """Records [start, stop) of a column as an Arrow array, without copying values."""
    import pyarrow as pa

    values = workload.values[column.name]
    num_rows = stop - start
    if column.kind == "fixed":
        part = np.ascontiguousarray(values[start:stop])
        kind = pa.from_numpy_dtype(part.dtype) if part.ndim == 1 else pa.binary(part.nbytes // num_rows)
        return pa.Array.from_buffers(kind, num_rows, [None, pa.py_buffer(part)])
    offsets = workload.offsets[column.name][start : stop + 1]
    part = np.ascontiguousarray(values[offsets[0] : offsets[-1]])
    ends = pa.py_buffer((offsets - offsets[0]).astype(np.int32))
    if column.kind == "ragged":
        items = pa.Array.from_buffers(pa.from_numpy_dtype(part.dtype), len(part), [None, pa.py_buffer(part)])
        return pa.ListArray.from_arrays(pa.Array.from_buffers(pa.int32(), num_rows + 1, [None, ends]), items)
    kind = pa.string() if column.kind == "str" else pa.binary()
    return pa.Array.from_buffers(kind, num_rows, [None, ends, pa.py_buffer(part)])


def arrow_table(workload: Workload, start: int, stop: int) -> Any:
    """Records [start, stop) as an Arrow table."""
    import pyarrow as pa

    return pa.table({column.name: arrow_column(workload, column, start, stop) for column in workload.columns})


def shard_ranges(workload: Workload, num_shards: int) -> list[tuple[int, int]]:
    """Records of each of so many shards, as even as can be."""
    ends = [workload.num_records * number // num_shards for number in range(num_shards + 1)]
    return list(pairwise(ends))


def decoded(columns: Mapping[str, Column], batch: Any) -> dict[str, Any]:
    """Arrays of a record batch: numpy views of the fixed columns, Arrow arrays of the others."""
    return {
        name: fixed_view(columns[name], array) if columns[name].kind == "fixed" else array
        for name, array in zip(batch.schema.names, batch.columns, strict=True)
    }


def fixed_view(column: Column, array: Any) -> Any:
    """The values of an Arrow array without nulls, dtype[B, *shape], without a copy."""
    dtype = np.dtype(column.dtype)
    size = dtype.itemsize * int(np.prod(column.shape, dtype=np.int64))
    buffers = array.buffers()
    # Binaries that happen to have one size: the second of three buffers says where they begin.
    start = int(np.frombuffer(buffers[1], np.int32)[array.offset]) if len(buffers) == 3 else array.offset * size
    values = np.frombuffer(buffers[-1], np.uint8)[start : start + len(array) * size]
    return values.view(dtype).reshape(-1, *column.shape)


def plain_values(column: Column, array: Any) -> Sequence[Any]:
    """One plain value for each record of what `decoded` made, or of an Arrow array."""
    if column.kind == "ragged":
        return [one.values.to_numpy(zero_copy_only=False) for one in array]
    found: Any = array
    if column.kind != "fixed":
        found = array.to_pylist()
    elif not isinstance(array, np.ndarray):
        found = fixed_view(column, array)
    return cast("Sequence[Any]", found)


def slices(batch: dict[str, Any], batch_size: int) -> Iterator[dict[str, Any]]:
    """Cut what `decoded` made into batches, without copying: one conversion then serves many batches."""
    num_records = len(next(iter(batch.values())))
    for start in range(0, num_records, batch_size):
        stop = min(start + batch_size, num_records)
        yield {name: values[start:stop] for name, values in batch.items()}


def columns_of(workload: Workload) -> dict[str, Column]:
    """The workload's columns by name."""
    return {column.name: column for column in workload.columns}


class _Handle:
    """Open files, their metadata, and where each row group begins."""

    def __init__(self, workload: Workload, files: list[Any]) -> None:
        self.columns = columns_of(workload)
        self.places = [(file, group) for file in files for group in range(file.metadata.num_row_groups)]
        sizes = [file.metadata.row_group(group).num_rows for file, group in self.places]
        self.starts = np.concatenate([[0], np.cumsum(sizes)])


class ArrowPeer(Peer):
    """A format whose batches are Arrow arrays, and numpy views of them, by column."""

    def count(self, batch: Any) -> int:
        return len(next(iter(batch.values())))

    def leaves(self, workload: Workload, batch: Any) -> dict[str, Sequence[Any]]:
        columns = columns_of(workload)
        return {name: plain_values(columns[name], array) for name, array in batch.items()}


class Parquet(ArrowPeer):
    """Parquet files with one of the compressions."""

    environment = "arrow"
    distributions = ("pyarrow",)

    def __init__(self, name: str, compression: str, *, checksums: bool = False) -> None:
        self.name = name
        self.kind: Kind = "compressed" if compression != "none" else "raw"
        self.verifies = checksums
        self.settings = f"{compression}, row groups of 1 MiB, {'page checksums' if checksums else 'no checksums'}"
        self._compression = compression

    def write(self, workload: Workload, path: str, threads: int) -> None:
        self._write(workload, path, NUM_FILES, threads)

    def write_shards(self, workload: Workload, path: str, num_shards: int) -> None:
        self._write(workload, path, num_shards, 1)

    def epoch(self, workload: Workload, path: str, options: EpochOptions) -> Iterator[Any]:
        import pyarrow as pa

        pa.set_cpu_count(options.threads)
        pa.set_io_thread_count(options.threads)
        columns = columns_of(workload)
        names = list(options.columns) if options.columns else None
        if options.shuffle:
            batches = self._shuffled(path, names, options)
        else:
            record_size = max(1, workload.raw_size // workload.num_records)
            many = max(1, READ_SIZE // (record_size * options.batch_size)) * options.batch_size
            batches = self._in_order(path, names, many, options.threads)
        for batch in batches:
            yield from slices(decoded(columns, batch), options.batch_size)

    def open(self, workload: Workload, path: str) -> Any:
        return _Handle(workload, self._files(path))

    def record(self, handle: Any, number: int) -> dict[str, Any]:
        place = int(np.searchsorted(handle.starts, number, "right")) - 1
        file, group = handle.places[place]
        table = file.read_row_group(group, use_threads=False)
        row = int(number - handle.starts[place])
        found: dict[str, Any] = {}
        for name, column in handle.columns.items():
            value = plain_values(column, table[name].slice(row, 1).combine_chunks())[0]
            found[name] = value
        return found

    def batch(self, handle: Any, numbers: Sequence[int]) -> Any:
        import pyarrow as pa

        wanted = np.asarray(numbers, np.int64)
        places = np.searchsorted(handle.starts, wanted, "right") - 1
        needed, which = np.unique(places, return_inverse=True)
        parts = []
        begin = np.empty(len(needed), np.int64)
        num_rows = 0
        for number, place in enumerate(needed.tolist()):
            file, group = handle.places[place]
            parts.append(file.read_row_group(group, use_threads=False))
            begin[number] = num_rows
            num_rows += len(parts[-1])
        rows = begin[which] + (wanted - handle.starts[places])
        return decoded(handle.columns, _one_batch(pa.concat_tables(parts)).take(pa.array(rows)))

    def _write(self, workload: Workload, path: str, num_files: int, threads: int) -> None:
        group = max(1, ROW_GROUP_SIZE * workload.num_records // max(1, workload.raw_size))

        def write_file(number: int, rows: tuple[int, int]) -> None:
            import pyarrow.parquet as pq

            pq.write_table(
                arrow_table(workload, *rows),
                os.path.join(path, f"part-{number:05d}-of-{num_files:05d}.parquet"),
                row_group_size=group,
                compression=self._compression,
                write_page_checksum=self.verifies,
            )

        ranges = shard_ranges(workload, num_files)
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(write_file, range(num_files), ranges))

    def _files(self, path: str) -> list[Any]:
        import pyarrow.parquet as pq

        paths = (os.path.join(path, name) for name in sorted(os.listdir(path)))
        return [pq.ParquetFile(one, page_checksum_verification=self.verifies) for one in paths]

    def _in_order(self, path: str, names: list[str] | None, num_records: int, threads: int) -> Iterator[Any]:
        for file in self._files(path):
            yield from file.iter_batches(num_records, columns=names, use_threads=threads > 1)

    def _shuffled(self, path: str, names: list[str] | None, options: EpochOptions) -> Iterator[Any]:
        """Row groups in shuffled order, and the records of several of them shuffled together."""
        import pyarrow as pa

        rng = np.random.default_rng(options.seed)
        files = self._files(path)
        groups = [(number, group) for number, file in enumerate(files) for group in range(file.num_row_groups)]
        sizes = [files[number].metadata.row_group(group).total_byte_size for number, group in groups]

        def read(number: int, wanted: list[int]) -> Any:
            return files[number].read_row_groups(wanted, columns=names, use_threads=False)

        with ThreadPoolExecutor(options.threads) as executor:
            run = executor.map if options.threads > 1 else map
            for pool in _pools(rng.permutation(len(groups)).tolist(), sizes):
                # A file is read by one thread at a time: a ParquetFile does not promise more.
                wanted: dict[int, list[int]] = {}
                for place in pool:
                    wanted.setdefault(groups[place][0], []).append(groups[place][1])
                rows = _one_batch(pa.concat_tables(list(run(read, wanted.keys(), wanted.values()))))
                yield rows.take(pa.array(rng.permutation(rows.num_rows)))


def _one_batch(table: Any) -> Any:
    return table.combine_chunks().to_batches()[0]


def _pools(order: Sequence[int], sizes: Sequence[int]) -> Iterator[list[int]]:
    """Cut an order of row groups into runs of about `POOL_SIZE` bytes."""
    pool: list[int] = []
    size = 0
    for place in order:
        pool.append(place)
        size += sizes[place]
        if size >= POOL_SIZE:
            yield pool
            pool, size = [], 0
    if pool:
        yield pool


PEERS: tuple[Peer, ...] = (
    Parquet("Parquet (pyarrow)", "zstd"),
    Parquet("Parquet (pyarrow), checksums", "zstd", checksums=True),
    Parquet("Parquet, uncompressed", "none"),
)
