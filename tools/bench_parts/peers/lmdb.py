"""LMDB: records as bytes under big-endian numbers, in one mapped B-tree.

Transactions hand out buffers: fixed columns are gathered from these into numpy arrays, bytes and sequences stay
views of the map. py-lmdb keeps no reference from a buffer to its map, so environments stay open as long as the process.

Source: https://lmdb.readthedocs.io
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from bench_parts.peers.bagz import RowCodec
from bench_parts.peers.contract import EpochOptions, Peer
from bench_parts.workloads import Array, Workload

WRITTEN_AT_ONCE = 4096  # records of one transaction

_environments: dict[int, Any] = {}  # by inode: a file that is held open keeps its own


class _Handle:
    """A read transaction and what decodes its records."""

    def __init__(self, transaction: Any, codec: RowCodec) -> None:
        self.transaction = transaction
        self.codec = codec


class Lmdb(Peer):
    """One LMDB environment."""

    name = "LMDB"
    environment = "arrow"
    distributions = ("lmdb",)
    kind = "views"
    settings = "buffers=True, getmulti, readahead off where shuffled; one thread"

    def write(self, workload: Workload, path: str, threads: int) -> None:
        codec = RowCodec(workload)
        starts = range(0, workload.num_records, WRITTEN_AT_ONCE)
        ends = (min(start + WRITTEN_AT_ONCE, workload.num_records) for start in starts)
        self._write(workload, path, (codec.encode_range(a, b) for a, b in zip(starts, ends, strict=True)))

    def write_records(self, workload: Workload, path: str) -> None:
        codec = RowCodec(workload)
        rows = (codec.encode(record) for record in workload.records())
        self._write(workload, path, iter(lambda: list(islice(rows, WRITTEN_AT_ONCE)), []))

    def epoch(self, workload: Workload, path: str, options: EpochOptions) -> Iterator[Any]:
        codec = RowCodec(workload)
        with _environment(path, readahead=not options.shuffle).begin(buffers=True) as transaction:
            cursor = transaction.cursor()
            if options.shuffle:
                order = np.random.default_rng(options.seed).permutation(transaction.stat()["entries"])
                for start in range(0, len(order), options.batch_size):
                    found = cursor.getmulti(_keys(order[start : start + options.batch_size]))
                    yield codec.decode([value for _, value in found], options.columns)
            else:
                cursor.first()
                values = cursor.iternext(keys=False, values=True)
                while rows := list(islice(values, options.batch_size)):
                    yield codec.decode(rows, options.columns)

    def count(self, batch: Any) -> int:
        return len(next(iter(batch.values())))

    def leaves(self, workload: Workload, batch: Any) -> dict[str, Sequence[Any]]:
        return {name: [_plain(value) for value in values] for name, values in batch.items()}

    def open(self, workload: Workload, path: str) -> Any:
        return _Handle(_environment(path, readahead=False).begin(buffers=True), RowCodec(workload))

    def record(self, handle: Any, number: int) -> dict[str, Any]:
        found = handle.codec.decode([handle.transaction.get(number.to_bytes(8, "big"))])
        return {name: _plain(values[0]) for name, values in found.items()}

    def batch(self, handle: Any, numbers: Sequence[int]) -> Any:
        found = handle.transaction.cursor().getmulti(_keys(np.asarray(numbers)))
        return handle.codec.decode([value for _, value in found])

    def _write(self, workload: Workload, path: str, parts: Iterator[list[bytes]]) -> None:
        import lmdb

        # A record of more than half a page has pages of its own. Only what is used becomes a file.
        size = 2 * workload.raw_size + 8192 * workload.num_records + (64 << 20)
        start = 0
        with lmdb.open(path, map_size=size, sync=False) as environment:
            for rows in parts:
                keys = _keys(np.arange(start, start + len(rows)))
                with environment.begin(write=True) as transaction:
                    transaction.cursor().putmulti(zip(keys, rows, strict=True), append=True)
                start += len(rows)
            environment.sync(True)


def _keys(numbers: Array) -> list[bytes]:
    raw = numbers.astype(">u8").tobytes()
    return [raw[place : place + 8] for place in range(0, len(raw), 8)]


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview) else value


def _environment(path: str, *, readahead: bool) -> Any:
    """The environment of a file: LMDB forbids a second one in a process, so that the first reader sets readahead."""
    import lmdb

    file = os.stat(os.path.join(path, "data.mdb")).st_ino
    if file not in _environments:
        _environments[file] = lmdb.open(path, readonly=True, lock=False, readahead=readahead)
    return _environments[file]


PEERS: tuple[Peer, ...] = (Lmdb(),)
