"""LitData chunks, written by `optimize` and read with StreamingDataset and StreamingDataLoader.

    index.json   chunk-0-0.bin  chunk-0-1.bin ...

Source: https://github.com/Lightning-AI/litData#readme
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bench_parts.peers.contract import EpochOptions, Kind, Peer
from bench_parts.peers.mds import Collate, leaves_of
from bench_parts.workloads import Workload

# Equal ones, so that two workers get whole chunks.
NUM_CHUNKS = 8


class LitData(Peer):
    """LitData, uncompressed as by default, or Zstandard."""

    environment = "torch"
    distributions = ("litdata", "torch")

    def __init__(self, name: str, kind: Kind, compression: str | None) -> None:
        self.name = name
        self.kind = kind
        shuffled = "'all'" if compression is None else 0
        self.settings = (
            f"{NUM_CHUNKS} equal chunks, {compression or 'uncompressed (default)'}; "
            f"threads 2: StreamingDataLoader with 2 workers, shuffled with batch_decode={shuffled}; "
            "random access with batch_decode=0"
        )
        self._compression = compression

    def write(self, workload: Workload, path: str, threads: int) -> None:
        self._write(workload, path, NUM_CHUNKS, max(1, threads))

    def write_shards(self, workload: Workload, path: str, num_shards: int) -> None:
        self._write(workload, path, num_shards, 1)

    def _write(self, workload: Workload, path: str, num_chunks: int, workers: int) -> None:
        import litdata

        size = -(-workload.num_records // num_chunks)
        litdata.optimize(
            fn=_Records(workload.path, size, self._array(workload)),
            inputs=list(range(0, workload.num_records, size)),
            output_dir=path,
            chunk_size=size,
            compression=self._compression,
            num_workers=workers,
            keep_data_ordered=True,
            reorder_files=False,
            start_method="fork",
            verbose=False,
        )

    def epoch(self, workload: Workload, path: str, options: EpochOptions) -> Iterator[Any]:
        import litdata

        columns = [one for one in workload.columns if options.columns is None or one.name in options.columns]
        workers = options.threads if options.threads > 1 else 0
        # By default it decodes windows of 32 to 256 records, which shuffled workers decode again for nearly each.
        # An epoch of the small images (version 0.2.76): 32 s, and 4 s with all of a chunk at once; in zstd 23 s so, and
        # 11 s with one record at a time.
        window: int | str = "auto"
        if options.shuffle and workers:
            window = "all" if self._compression is None else 0
        dataset = litdata.StreamingDataset(
            path, shuffle=options.shuffle, seed=options.seed, drop_last=False, batch_decode=window
        )
        return iter(
            litdata.StreamingDataLoader(
                dataset, batch_size=options.batch_size, num_workers=workers, collate_fn=Collate(columns, workers > 0)
            )
        )

    def count(self, batch: Any) -> int:
        return len(next(iter(batch.values())))

    def leaves(self, workload: Workload, batch: Any) -> dict[str, Sequence[Any]]:
        found = leaves_of(batch)
        for column in workload.columns:
            if column.kind == "bytes" and column.name in found:
                found[column.name] = list(map(bytes, found[column.name]))
        return found

    def open(self, workload: Workload, path: str) -> Any:
        import litdata

        # By default it decodes up to 256 neighbours of a record as well, which serves epochs.
        return litdata.StreamingDataset(path, batch_decode=0), Collate(workload.columns), self._array(workload)

    def record(self, handle: Any, number: int) -> dict[str, Any]:
        dataset, _, array = handle
        found: dict[str, Any] = dataset[number]
        if array is not None:
            found[array] = found[array][0]
        return {name: bytes(value) if isinstance(value, memoryview) else value for name, value in found.items()}

    def batch(self, handle: Any, numbers: Sequence[int]) -> Any:
        dataset, collate, _ = handle
        return collate([dataset[number] for number in numbers])

    def _array(self, workload: Workload) -> str | None:
        """A number that is written as an array of one, if there is no other array.

        Without pyarrow, version 0.2.76 leaves chunks of records without arrays uncompressed, says in its index that
        they are compressed, and cannot read them again.
        """
        if self._compression is None or any(one.shape or one.kind == "ragged" for one in workload.columns):
            return None
        return next(one.name for one in workload.columns if one.kind == "fixed")


class _Records:
    """What `optimize` calls in its workers: the records of one chunk."""

    def __init__(self, path: str, size: int, array: str | None) -> None:
        self._path = path
        self._size = size
        self._array = array
        self._workload: Workload | None = None

    def __call__(self, start: int) -> Iterator[dict[str, Any]]:
        if self._workload is None:
            self._workload = Workload.open(self._path)
        workload = self._workload
        stop = min(start + self._size, workload.num_records)
        names = [column.name for column in workload.columns]
        parts: list[Any] = [workload.slice(column, start, stop) for column in workload.columns]
        for place, column in enumerate(workload.columns):
            if column.name == self._array:
                parts[place] = parts[place][:, None]
            # Numbers of Python take eight bytes; numpy's would be pickled.
            elif column.kind == "fixed" and not column.shape:
                parts[place] = parts[place].tolist()
        for leaves in zip(*parts, strict=True):
            yield dict(zip(names, leaves, strict=True))


PEERS: tuple[Peer, ...] = (
    LitData("LitData", "raw", None),
    LitData("LitData zstd", "compressed", "zstd"),
)
