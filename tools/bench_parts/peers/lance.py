"""Lance: one data set of the default file version, its columns in pages without row groups.

By default values are bit-packed, run-length or dictionary coded, strings take a symbol table (FSST), and arrays stay
as they are. "Lance, zstd" asks for Zstandard in the metadata of columns, and for the forms in which it has an effect:
mini-blocks for small arrays, binaries for large ones. It has none on sequences.

Shuffled, the documented batch sampler reads ranges in a random order; several are pooled and their records shuffled.
`take` of random numbers shuffles perfectly, at about 15 times the time.

Source: https://lance.org/guide/performance, https://lance.org/format/file/encoding (compression configuration)
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bench_parts.peers.contract import EpochOptions, Kind, Peer
from bench_parts.peers.parquet import ArrowPeer, arrow_column, columns_of, decoded, plain_values, shard_ranges, slices
from bench_parts.workloads import Column, Workload

POOL_SIZE = 64 << 20  # bytes that are shuffled together
READ_SIZE = 4 << 20  # bytes that are scanned at once, in order, and then cut into batches
SAMPLED_SIZE = 1 << 20  # bytes of the ranges that are read in a random order
MINI_BLOCK_VALUE_SIZE = 2048  # bytes
# bytes: "general compression" begins here, but only for binaries of variable size (measured: 120 MB become 59)
LARGE_VALUE_SIZE = 32 << 10
WRITTEN_AT_ONCE = 8 << 20  # bytes


class _Handle:
    """An open data set and its columns."""

    def __init__(self, dataset: Any, columns: dict[str, Column]) -> None:
        self.dataset = dataset
        self.columns = columns


class Lance(ArrowPeer):
    """A Lance data set, compressed by its defaults or by Zstandard."""

    environment = "arrow"
    distributions = ("pylance", "pyarrow")
    kind: Kind = "compressed"

    def __init__(self, name: str, compression: str | None) -> None:
        self.name = name
        encodings = f"{compression} on all but strings" if compression else "default encodings"
        self.settings = f"{encodings}; LANCE_CPU_THREADS; shuffled: ranges of 1 MiB, pools of 64 MiB"
        self._compression = compression

    def write(self, workload: Workload, path: str, threads: int) -> None:
        import pyarrow as pa

        lance = _imported(threads)
        schema = self._schema(workload)
        step = max(1, WRITTEN_AT_ONCE * workload.num_records // workload.raw_size)
        starts = range(0, workload.num_records, step)
        batches = (self._batch(workload, schema, start, min(start + step, workload.num_records)) for start in starts)
        reader = pa.RecordBatchReader.from_batches(schema, batches)
        lance.write_dataset(reader, os.path.join(path, "data.lance"))

    def write_shards(self, workload: Workload, path: str, num_shards: int) -> None:
        import pyarrow as pa

        lance = _imported(1)
        schema = self._schema(workload)
        for start, stop in shard_ranges(workload, num_shards):
            table = pa.Table.from_batches([self._batch(workload, schema, start, stop)])
            mode = "append" if start else "create"
            lance.write_dataset(table, os.path.join(path, "data.lance"), mode=mode)

    def epoch(self, workload: Workload, path: str, options: EpochOptions) -> Iterator[Any]:
        lance = _imported(options.threads)
        columns = columns_of(workload)
        names = list(options.columns) if options.columns else None
        dataset = lance.dataset(os.path.join(path, "data.lance"))
        if options.shuffle:
            batches = self._shuffled(workload, dataset, names, options)
        else:
            record_size = max(1, workload.raw_size // workload.num_records)
            many = max(1, READ_SIZE // (record_size * options.batch_size)) * options.batch_size
            batches = dataset.to_batches(columns=names, batch_size=many)
        for batch in batches:
            yield from slices(decoded(columns, batch), options.batch_size)

    def open(self, workload: Workload, path: str) -> Any:
        import lance

        return _Handle(lance.dataset(os.path.join(path, "data.lance")), columns_of(workload))

    def record(self, handle: Any, number: int) -> dict[str, Any]:
        found = self.batch(handle, [number])
        return {name: plain_values(handle.columns[name], array)[0] for name, array in found.items()}

    def batch(self, handle: Any, numbers: Sequence[int]) -> Any:
        return decoded(handle.columns, _one_batch(handle.dataset.take(list(numbers))))

    def _schema(self, workload: Workload) -> Any:
        import pyarrow as pa

        fields = []
        for column in workload.columns:
            array = arrow_column(workload, column, 0, 1)
            kind = array.type
            metadata = {}
            # Zstandard takes the place of FSST, which makes smaller files of strings.
            if self._compression and column.kind != "str":
                metadata["lance-encoding:compression"] = self._compression
                if column.shape and array.nbytes <= MINI_BLOCK_VALUE_SIZE:
                    metadata["lance-encoding:structural-encoding"] = "miniblock"
                if column.shape and array.nbytes >= LARGE_VALUE_SIZE:
                    kind = pa.binary()
            fields.append(pa.field(column.name, kind, metadata=metadata, nullable=False))
        return pa.schema(fields)

    def _batch(self, workload: Workload, schema: Any, start: int, stop: int) -> Any:
        import pyarrow as pa

        columns = zip(workload.columns, schema.types, strict=True)
        arrays = [arrow_column(workload, column, start, stop).cast(kind) for column, kind in columns]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _shuffled(
        self, workload: Workload, dataset: Any, names: list[str] | None, options: EpochOptions
    ) -> Iterator[Any]:
        import pyarrow as pa
        from lance.sampler import ShardedBatchSampler

        rng = np.random.default_rng(options.seed)
        record_size = max(1, workload.raw_size // workload.num_records)
        sampled = ShardedBatchSampler(0, 1, randomize=True, seed=options.seed)
        range_size = max(1, SAMPLED_SIZE // record_size)
        pool: list[Any] = []
        num_rows = 0
        for batch in _and_none(sampled(dataset, batch_size=range_size, columns=names)):
            if batch is not None:
                pool.append(batch)
                num_rows += batch.num_rows
            if num_rows and (batch is None or num_rows * record_size >= POOL_SIZE):
                yield _one_batch(pa.Table.from_batches(pool)).take(pa.array(rng.permutation(num_rows)))
                pool, num_rows = [], 0


def _imported(threads: int) -> Any:
    """The package; it reads its thread counts once in a process."""
    os.environ["LANCE_CPU_THREADS"] = str(threads)
    # With one I/O thread, appending to a data set never returns (pylance 14.0.2).
    os.environ["LANCE_IO_THREADS"] = str(max(2, threads))
    import lance

    return lance


def _one_batch(table: Any) -> Any:
    return table.combine_chunks().to_batches()[0]


def _and_none(batches: Iterator[Any]) -> Iterator[Any]:
    yield from batches
    yield None


PEERS: tuple[Peer, ...] = (Lance("Lance", None), Lance("Lance, zstd", "zstd"))
