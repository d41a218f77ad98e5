"""MosaicML Streaming's MDS shards, read with StreamingDataset and a torch DataLoader.

    index.json                   of all partitions
    0/shard.00000.mds.zstd ...   one partition for each writing process
    local/                       where a reader has its decompressed shards

A StreamingDataset decompresses a shard into a file when it is first wanted, and reads that file ever after: only the
first epoch is of compressed shards. `local` is made by the first reader, from hard links; whoever wants another cold
epoch deletes it.

Source: https://docs.mosaicml.com/projects/streaming/en/stable/, "Parallel dataset conversion" for writing
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from bench_parts.peers.contract import EpochOptions, Peer
from bench_parts.workloads import Column, Workload

SHARD_SIZE = 1 << 26  # bytes before compression: MDSWriter's default
_operators: list[Any] = []


class MDS(Peer):
    """MDS shards, compressed as a whole."""

    environment = "torch"
    distributions = ("mosaicml-streaming", "torch")
    kind = "compressed"

    def __init__(self, name: str, hashes: tuple[str, ...]) -> None:
        self.name = name
        self.settings = (
            "shards of 64 MiB, zstd (level 3), "
            + (f"{hashes[0]} of a shard checked when it is decompressed" if hashes else "no hashes (default)")
            + "; the first epoch decompresses them to files, later ones read these (nothing is checked then); "
            "threads 2: DataLoader with 2 workers"
        )
        self._hashes = hashes

    def write(self, workload: Workload, path: str, threads: int) -> None:
        self._write(workload, path, max(1, threads), SHARD_SIZE)

    def write_shards(self, workload: Workload, path: str, num_shards: int) -> None:
        self._write(workload, path, num_shards, None)

    def write_records(self, workload: Workload, path: str) -> None:
        self._write(workload, path, 1, SHARD_SIZE)

    def epoch(self, workload: Workload, path: str, options: EpochOptions) -> Iterator[Any]:
        from torch.utils.data import DataLoader

        dataset = self._open(path, batch_size=options.batch_size, shuffle=options.shuffle, shuffle_seed=options.seed)
        columns = [one for one in workload.columns if options.columns is None or one.name in options.columns]
        workers = options.threads if options.threads > 1 else 0
        return iter(DataLoader(dataset, options.batch_size, num_workers=workers, collate_fn=Collate(columns)))

    def count(self, batch: Any) -> int:
        return len(next(iter(batch.values())))

    def leaves(self, workload: Workload, batch: Any) -> dict[str, Sequence[Any]]:
        return leaves_of(batch)

    def open(self, workload: Workload, path: str) -> Any:
        return self._open(path), Collate(workload.columns)

    def record(self, handle: Any, number: int) -> dict[str, Any]:
        found: dict[str, Any] = handle[0][number]
        return found

    def batch(self, handle: Any, numbers: Sequence[int]) -> Any:
        dataset, collate = handle
        return collate(dataset[list(numbers)])

    def _write(self, workload: Workload, path: str, num_parts: int, shard_size: int | None) -> None:
        merge_index = _streaming().base.util.merge_index
        parts = []
        for part in range(num_parts):
            start, stop = (number * workload.num_records // num_parts for number in (part, part + 1))
            parts.append((workload, os.path.join(path, f"{part:05}"), start, stop, shard_size, self._hashes))
        workers = min(num_parts, len(os.sched_getaffinity(0)))
        if num_parts == 1:
            _write_part(parts[0])
        else:
            with multiprocessing.get_context("fork").Pool(workers) as pool:
                pool.map(_write_part, parts, 1)
        merge_index(path, keep_local=True)

    def _open(self, path: str, **options: Any) -> Any:
        streaming = _streaming()
        local = os.path.join(path, "local")
        if not os.path.isdir(local):
            shutil.copytree(path, local, copy_function=os.link, ignore=shutil.ignore_patterns("local"))
        streaming.base.util.clean_stale_shared_memory()
        checked = self._hashes[0] if self._hashes else None
        return streaming.StreamingDataset(local=local, validate_hash=checked, **options)


class Collate:
    """From records to a batch: an array of each fixed column, and a list of each other one.

    Arrays of arrays are tensors, which workers hand over in shared memory; this costs a file for each tensor, and many
    numbers arrive sooner in a pipe, as numpy's.

    Attributes:
        own_bytes: memoryviews become bytes, since a worker cannot hand them over.
    """

    def __init__(self, columns: Iterable[Column], own_bytes: bool = False) -> None:
        self._columns = tuple(columns)
        self._own_bytes = own_bytes

    def __call__(self, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
        import torch

        found: dict[str, Any] = {}
        for column in self._columns:
            values = [record[column.name] for record in records]
            if column.kind != "fixed":
                found[column.name] = list(map(bytes, values)) if self._own_bytes and column.kind == "bytes" else values
            elif column.shape:
                found[column.name] = torch.from_numpy(np.stack(values))
            else:
                found[column.name] = np.array(values, column.dtype).reshape(-1)
        return found


def leaves_of(batch: dict[str, Any]) -> dict[str, Sequence[Any]]:
    """What `Collate` gave, without torch."""
    return {name: values.numpy() if hasattr(values, "numpy") else values for name, values in batch.items()}


def _streaming() -> Any:
    """The package, which imports torchvision for the sake of other data sets."""
    import torch

    if not _operators and torch.version.cuda is None and "+cpu" not in version("torchvision"):
        # PyPI's torchvision is built for CUDA: beside a torch for the CPU its own library does not load, and its import
        # ends where it describes two of that library's operators. Nothing here calls them.
        operators = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _operators.append(operators)  # they go with it
    import streaming
    import streaming.base.util

    return streaming


def _encoding(column: Column) -> str:
    if column.kind in ("bytes", "str"):
        return column.kind
    if column.kind == "ragged":
        return f"ndarray:{column.dtype}"
    if column.shape:
        return f"ndarray:{column.dtype}:{','.join(map(str, column.shape))}"
    return "int" if column.dtype == "int64" else column.dtype


def _write_part(part: tuple[Workload, str, int, int, int | None, tuple[str, ...]]) -> None:
    workload, path, start, stop, shard_size, hashes = part
    columns = {column.name: _encoding(column) for column in workload.columns}
    # Its integers have to be Python's.
    whole = [one.name for one in workload.columns if _encoding(one) == "int"]
    with _streaming().MDSWriter(
        out=path, columns=columns, compression="zstd", hashes=list(hashes) or None, size_limit=shard_size
    ) as writer:
        for record in _records(workload, start, stop):
            for name in whole:
                record[name] = int(record[name])
            writer.write(record)


def _records(workload: Workload, start: int, stop: int) -> Iterator[dict[str, Any]]:
    names = [column.name for column in workload.columns]
    for place in range(start, stop, 1024):
        end = min(place + 1024, stop)
        for leaves in zip(*[workload.slice(column, place, end) for column in workload.columns], strict=True):
            yield dict(zip(names, leaves, strict=True))


PEERS: tuple[Peer, ...] = (
    MDS("MosaicML MDS", ()),
    MDS("MosaicML MDS, hashes", ("xxh64",)),
)
