"""Our own format: with zstd, as it is by default, and raw; every checksum is verified on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bench_parts.peers.contract import EpochOptions, Kind, Peer
from bench_parts.workloads import Column, Workload

_WRITE_RECORDS = 1024  # of a batch that is written; less of large records
_WRITE_SIZE = 8 << 20


class Recordio(Peer):
    """One codec."""

    environment = "recordio"
    distributions = ("recordio", "numpy", "zstandard", "crc32c")
    verifies = True

    def __init__(self, name: str, codec: str, kind: Kind) -> None:
        self.name, self.kind = name, kind
        self._codec = codec
        self._loaders: dict[Any, Any] = {}  # as in training: one loader, epoch after epoch
        self.settings = (
            f"codec {codec}, all defaults (shards of 256 MiB); one loader for all epochs, "
            "batch(256).with_options(workers=threads); shuffle() holds what fits 256 MiB from its first epoch on"
        )

    def write(self, workload: Workload, path: str, threads: int) -> None:
        self._write(workload, path, threads)

    def write_shards(self, workload: Workload, path: str, num_shards: int) -> None:
        self._write(workload, path, 2, num_shards=num_shards)

    def _write(self, workload: Workload, path: str, threads: int, **options: Any) -> None:
        import recordio

        step = max(1, min(_WRITE_RECORDS, _WRITE_SIZE * workload.num_records // workload.raw_size))
        with recordio.Writer(path, _signature(workload), codec=self._codec, workers=threads, **options) as writer:
            for start in range(0, workload.num_records, step):
                stop = min(start + step, workload.num_records)
                writer.write_batch({column.name: _batch(workload, column, start, stop) for column in workload.columns})

    def write_records(self, workload: Workload, path: str) -> None:
        import recordio

        source = recordio.from_generator(workload.records, _signature(workload))
        recordio.convert(source, path, codec=self._codec)

    def epoch(self, workload: Workload, path: str, options: EpochOptions) -> Iterator[Any]:
        key = path, options.threads, options.shuffle, options.columns
        loader = self._loaders.get(key)
        if loader is None:
            loader = self._loaders[key] = self._loader(path, options)
        loader.set_epoch(options.seed)
        return iter(loader)

    def resume(self, workload: Workload, path: str, options: EpochOptions, position: int) -> Iterator[Any]:
        loader = self._loader(path, options)
        loader.load_state_dict({**loader.state_dict(), "consumed": position})
        return iter(loader)

    def _loader(self, path: str, options: EpochOptions) -> Any:
        import recordio

        dataset = recordio.open(path)
        if options.columns is not None:
            dataset = dataset.select_columns(list(options.columns))
        if options.shuffle:
            dataset = dataset.shuffle()
        return dataset.batch(options.batch_size).with_options(workers=options.threads)

    def count(self, batch: Any) -> int:
        return len(next(iter(batch.values())))

    def leaves(self, workload: Workload, batch: Any) -> dict[str, Sequence[Any]]:
        return {name: list(values) for name, values in batch.items()}

    def open(self, workload: Workload, path: str) -> Any:
        import recordio

        return recordio.open(path)

    def record(self, handle: Any, number: int) -> dict[str, Any]:
        found: dict[str, Any] = handle[number]
        return found

    def batch(self, handle: Any, numbers: Sequence[int]) -> Any:
        return handle[numbers]


def _signature(workload: Workload) -> dict[str, Any]:
    from recordio import TensorSpec

    return {
        column.name: TensorSpec((None,), column.dtype) if column.kind == "ragged"
        else TensorSpec((), column.kind) if column.kind != "fixed"
        else TensorSpec(column.shape, column.dtype)
        for column in workload.columns
    }  # fmt: skip


def _batch(workload: Workload, column: Column, start: int, stop: int) -> Any:
    """Values [start, stop): of a fixed column as they are, as Arrow is given them, else a Ragged over a copy."""
    from recordio import Ragged

    values = workload.values[column.name]
    if column.kind == "fixed":
        return values[start:stop].view(np.ndarray)
    offsets = workload.offsets[column.name][start : stop + 1]
    part = np.array(values[offsets[0] : offsets[-1]])
    offsets = offsets - offsets[0]
    rank = 1 if column.kind == "ragged" else 0
    shapes = np.diff(offsets)[:, None] if rank else np.empty((stop - start, 0), np.int64)
    dtype = column.dtype if rank else column.kind
    return Ragged(dtype=dtype, values=part, row_offsets=offsets, shapes=shapes)


PEERS: tuple[Peer, ...] = (Recordio("recordio", "zstd", "compressed"), Recordio("recordio, raw", "none", "raw"))
