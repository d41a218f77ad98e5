"""numpy alone, as a limit: one mapped `.npy` for each column, with offsets for variable ones.

In order a batch is copied from the map, shuffled its records are gathered; nothing is compressed and nothing checked.
Variable columns are handed out as their values and where each record ends, which costs no step for each.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice, pairwise
from typing import Any, NamedTuple

import numpy as np

from bench_parts.peers.contract import EpochOptions, Peer
from bench_parts.workloads import Array, Column, Workload


class Ragged(NamedTuple):
    """Values of some records, one after the other: record i has [offsets[i], offsets[i + 1])."""

    values: Array
    offsets: Array

    def __len__(self) -> int:
        return len(self.offsets) - 1


class _Columns:
    """The mapped columns of a directory."""

    def __init__(self, workload: Workload, path: str, names: Sequence[str] | None = None) -> None:
        self.columns = {column.name: column for column in workload.columns if names is None or column.name in names}
        self.values = {name: _mapped(path, name, "values") for name in self.columns}
        self.offsets = {
            name: _mapped(path, name, "offsets") for name, column in self.columns.items() if column.kind != "fixed"
        }

    def slice(self, start: int, stop: int) -> dict[str, Any]:
        """Records [start, stop), copied."""
        found: dict[str, Any] = {}
        for name, values in self.values.items():
            if name not in self.offsets:
                found[name] = np.array(values[start:stop])
                continue
            offsets = np.array(self.offsets[name][start : stop + 1])
            found[name] = Ragged(np.array(values[offsets[0] : offsets[-1]]), offsets - offsets[0])
        return found

    def take(self, numbers: Array) -> dict[str, Any]:
        """The records of these numbers, in their order."""
        found: dict[str, Any] = {}
        for name, values in self.values.items():
            if name not in self.offsets:
                found[name] = np.take(values, numbers, axis=0)
                continue
            starts, stops = self.offsets[name][numbers], self.offsets[name][numbers + 1]
            # One by one: an index of every value took ten times as long for JPEG files and three times for texts.
            runs = [values[start:stop] for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)]
            found[name] = Ragged(np.concatenate(runs), np.concatenate([[0], np.cumsum(stops - starts)]))
        return found


class Memmap(Peer):
    """Mapped arrays: what reading raw bytes costs at the least."""

    name = "numpy memmap"
    environment = "arrow"
    distributions = ("numpy",)
    kind = "raw"
    settings = "one .npy for each column; a limit, not a format"

    def write(self, workload: Workload, path: str, threads: int) -> None:
        for column in workload.columns:
            np.save(_path(path, column.name, "values"), workload.values[column.name])
            if column.kind != "fixed":
                np.save(_path(path, column.name, "offsets"), workload.offsets[column.name])

    def epoch(self, workload: Workload, path: str, options: EpochOptions) -> Iterator[Any]:
        columns = _Columns(workload, path, options.columns)
        starts = range(0, workload.num_records, options.batch_size)
        if options.shuffle:
            order = np.random.default_rng(options.seed).permutation(workload.num_records)
            yield from _ahead(lambda start: columns.take(order[start : start + options.batch_size]), starts, options)
        else:
            stop = workload.num_records
            yield from _ahead(
                lambda start: columns.slice(start, min(start + options.batch_size, stop)), starts, options
            )

    def count(self, batch: Any) -> int:
        return len(next(iter(batch.values())))

    def leaves(self, workload: Workload, batch: Any) -> dict[str, Sequence[Any]]:
        columns = {column.name: column for column in workload.columns}
        return {name: _plain(columns[name], values) for name, values in batch.items()}

    def open(self, workload: Workload, path: str) -> Any:
        return _Columns(workload, path)

    def record(self, handle: Any, number: int) -> dict[str, Any]:
        found = handle.slice(number, number + 1)
        return {name: _plain(handle.columns[name], values)[0] for name, values in found.items()}

    def batch(self, handle: Any, numbers: Sequence[int]) -> Any:
        return handle.take(np.asarray(numbers, np.int64))


def _path(path: str, name: str, what: str) -> str:
    return os.path.join(path, f"{name}.{what}.npy")


def _mapped(path: str, name: str, what: str) -> Array:
    """An array of the file; not as `np.memmap`, whose slices are objects of a class and slow to make."""
    return np.asarray(np.load(_path(path, name, what), mmap_mode="r"))


def _plain(column: Column, values: Any) -> Sequence[Any]:
    if column.kind == "fixed":
        found: Sequence[Any] = values
        return found
    ends = values.offsets.tolist()
    parts = [values.values[a:b] for a, b in pairwise(ends)]
    if column.kind == "ragged":
        return parts
    raw = [part.tobytes() for part in parts]
    return raw if column.kind == "bytes" else [one.decode() for one in raw]


def _ahead(make: Callable[[int], Any], starts: Sequence[int], options: EpochOptions) -> Iterator[Any]:
    """What `make` gives, in order; several at a time where several threads may."""
    if options.threads == 1:
        yield from map(make, starts)
        return
    left = iter(starts)
    with ThreadPoolExecutor(options.threads) as pool:
        waiting: deque[Future[Any]] = deque(pool.submit(make, start) for start in islice(left, 2 * options.threads))
        while waiting:
            made = waiting.popleft().result()
            waiting.extend(pool.submit(make, start) for start in islice(left, 1))
            yield made


PEERS: tuple[Peer, ...] = (Memmap(),)
