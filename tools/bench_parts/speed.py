"""Speeds as ratios: writing, reading in order and a projection, each beside its peer in the same run.

    write      Writer.write_batch and commit     against   zstd alone on the same bytes, in 64 KiB pieces
    read       for batch in ds.batch(256)        against   zstd alone on the same frames; of what is stored raw: pread and CRC alone
    project    the label alone                   against   all columns, in records/s

Peers are made as fast as they can be: what they work on is in memory (frames) or in the page cache (raw chunks), a task
of a peer is a whole chunk, and with one thread there is no pool at all. Targets: issue 2, "To be shown".
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import crc32c
import numpy as np
import zstandard

import recordio
from bench_parts.timing import interleave, speed_ratio
from bench_parts.workloads import Workload
from recordio.format.codec import CODEC_ZSTD
from recordio.reader import open_data_set
from recordio.storage import LocalStorage, WriteHandle

BATCH_SIZE = 256
PIECE_SIZE = 64 << 10  # what the peer compresses at once
TASK_SIZE = 1 << 20  # what a thread of a peer is given at once

WRITE_TARGET = 0.70
READ_TARGET = 0.60
PROJECT_TARGET = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One ratio, with the two speeds that it is made of (MB/s of raw bytes; projections: thousand records/s)."""

    workload: str
    what: str
    threads: int
    ratio: float
    own: float
    peer: float
    unit: str
    target: float | None  # None: for information

    @property
    def verdict(self) -> str:
        """OK or MISSED; "" where there is no target."""
        return "" if self.target is None else "OK" if self.ratio >= self.target else "MISSED"

    def to_map(self) -> dict[str, Any]:
        """As --json prints it."""
        return {**asdict(self), "verdict": self.verdict}


class DroppingStorage(LocalStorage):
    """Shards go nowhere: what is left of writing when no file system is measured along with it."""

    def create(self, path: str, *, keep: int = 0) -> WriteHandle:
        """An empty file, and a handle that drops what a shard is given."""
        handle = super().create(path, keep=keep)
        return _Dropping(handle) if os.path.basename(path).startswith("shard-") else handle


class _Dropping:
    def __init__(self, handle: WriteHandle) -> None:
        self._handle = handle

    def write(self, buffers: Sequence[bytes | memoryview]) -> None:
        pass

    def sync(self) -> None:
        pass

    def close(self) -> None:
        self._handle.close()


def write_cells(
    workload: Workload, *, memory_directory: str, disk_directory: str, level: int, threads: int, repeats: int
) -> Iterator[Cell]:
    """Writing against zstd alone.

    The target is taken in memory; of bytes that do not compress, without any file system: storing them takes longer than the time
    that zstd needs to find nothing in them, so that there it is the file system that would be measured.
    """

    def writer(directory: str, storage: LocalStorage | None = None) -> Callable[[], None]:
        def run() -> None:
            path = os.path.join(directory, "write")
            shutil.rmtree(path, ignore_errors=True)
            options: dict[str, Any] = {} if storage is None else {"_storage": storage}
            with recordio.Writer(path, workload.signature, level=level, workers=threads, **options) as out:
                for batch in workload.batches:
                    out.write_batch(batch)

        return run

    with _mapping(threads) as run_all:
        tasks = [list(pieces) for pieces in _tasks(workload.column_bytes)]
        compress = _Compress(level)
        nowhere = writer(memory_directory, DroppingStorage())
        runs: list[Callable[[], None]] = [
            lambda: run_all(compress, tasks), writer(memory_directory), writer(disk_directory), nowhere,
        ]  # fmt: skip
        peer, memory, disk, dropped = interleave(runs, repeats)
    for what, times, counts in (
        ("write, in memory", memory, workload.compressible),
        ("write, stored nowhere", dropped, not workload.compressible),
        ("write, on disk", disk, False),
    ):
        yield _cell(workload, what, threads, workload.raw_size / 1e6, "MB/s", times, peer, WRITE_TARGET if counts else None)
    for directory in (memory_directory, disk_directory):
        shutil.rmtree(os.path.join(directory, "write"), ignore_errors=True)


def read_cells(workload: Workload, path: str, *, threads: int, repeats: int) -> Iterator[Cell]:
    """Reading in order against zstd or pread and CRC alone, and the projection against reading in order."""
    dataset = recordio.open(path)
    labels = dataset.select_columns(["label"])
    tasks, peer_name = _stored(path)

    def read() -> None:
        for _ in dataset.batch(BATCH_SIZE, workers=threads):
            pass

    def project() -> None:
        for _ in labels.batch(BATCH_SIZE, workers=threads):
            pass

    with _mapping(threads) as run_all:
        peer, full, projection = interleave([lambda: run_all(_verify, tasks), read, project], repeats)
    yield _cell(workload, f"read ({peer_name})", threads, workload.raw_size / 1e6, "MB/s", full, peer, READ_TARGET)
    yield _cell(workload, "project label", threads, workload.num_records / 1e3, "k/s", projection, full, PROJECT_TARGET)


def access_cells(workload: Workload, path: str, *, seed: int, repeats: int, num_records: int = 256) -> Iterator[Cell]:
    """Access by number against reading in order, in records/s; for information."""
    numbers = np.random.default_rng([seed, 1]).integers(0, workload.num_records, num_records)
    singles = numbers.tolist()
    dataset = recordio.open(path)
    warm = recordio.open(path, cache_size=4 * workload.raw_size)

    def read() -> None:
        for _ in dataset.batch(BATCH_SIZE, workers=1):
            pass

    def cold() -> None:
        opened = recordio.open(path, cache_size=0)
        for number in singles:
            opened[number]

    def cached() -> None:
        for number in singles:
            warm[number]

    def batch() -> None:
        recordio.open(path, cache_size=0)[numbers]

    full, uncached, hot, batches = interleave([read, cold, cached, batch], repeats)
    scaled = [taken * num_records / workload.num_records for taken in full]
    for what, times in (("ds[i] random, uncached", uncached), ("ds[i] random, cached", hot), ("ds[256 random]", batches)):
        yield _cell(workload, what, 1, num_records / 1e3, "k/s", times, scaled, None)


def write_data_set(workload: Workload, path: str, *, level: int) -> None:
    """The data set that the read cells read."""
    with recordio.Writer(path, workload.signature, level=level, overwrite=True) as out:
        for batch in workload.batches:
            out.write_batch(batch)


def _cell(
    workload: Workload, what: str, threads: int, amount: float, unit: str,
    times: list[float], peer: list[float], target: float | None,
) -> Cell:  # fmt: skip
    own_speed, peer_speed = (amount / sorted(taken)[len(taken) // 2] for taken in (times, peer))
    return Cell(
        workload=workload.name, what=what, threads=threads, ratio=speed_ratio(times, peer), own=own_speed, peer=peer_speed,
        unit=unit, target=target,
    )  # fmt: skip


# ---- the peers ----


@contextmanager
def _mapping(threads: int) -> Iterator[Callable[[Callable[[Any], None], Sequence[Any]], None]]:
    """Run a function over tasks on so many threads; with one, in the caller's own."""
    if threads == 1:

        def run_here(function: Callable[[Any], None], tasks: Sequence[Any]) -> None:
            for task in tasks:
                function(task)

        yield run_here
        return
    with ThreadPoolExecutor(threads) as pool:

        def run_on_pool(function: Callable[[Any], None], tasks: Sequence[Any]) -> None:
            for _ in pool.map(function, tasks):
                pass

        yield run_on_pool


def _tasks(columns: Sequence[memoryview]) -> Iterator[list[memoryview]]:
    for column in columns:
        for start in range(0, len(column), TASK_SIZE):
            part = column[start : start + TASK_SIZE]
            yield [part[place : place + PIECE_SIZE] for place in range(0, len(part), PIECE_SIZE)]


class _Compress:
    """zstd alone; a context is for one thread."""

    def __init__(self, level: int) -> None:
        self._level = level
        self._local = threading.local()

    def __call__(self, pieces: list[memoryview]) -> None:
        compressor = getattr(self._local, "compressor", None)
        if compressor is None:
            compressor = self._local.compressor = zstandard.ZstdCompressor(level=self._level)
        for piece in pieces:
            compressor.compress(piece)


@dataclass(frozen=True, slots=True)
class _StoredChunk:
    """The frames of one chunk: those of zstd in memory, those stored raw as a place in the file."""

    frames: list[bytes]
    file: int
    raw_parts: list[tuple[int, int]]  # offset, size


_local = threading.local()


def _verify(chunk: _StoredChunk) -> None:
    decompressor = getattr(_local, "decompressor", None)
    if decompressor is None:
        decompressor = _local.decompressor = zstandard.ZstdDecompressor()
    for frame in chunk.frames:
        decompressor.decompress(frame)
    for offset, size in chunk.raw_parts:
        crc32c.crc32c(os.pread(chunk.file, size, offset))


def _stored(path: str) -> tuple[list[_StoredChunk], str]:
    """What the peer of reading works on, and what that is called."""
    reader = open_data_set(path)
    tasks = []
    raw_size = zstd_size = 0
    for shard_id, entry in enumerate(reader.shards):
        shard = reader.shard(shard_id)
        file = os.open(shard.path, os.O_RDONLY)
        for chunk_id in range(entry.num_chunks):
            directory = shard.read_directory(chunk_id)
            base = int(shard.table.offsets[chunk_id])
            chunk = _StoredChunk([], file, [])
            for column in directory.columns:
                if column.codec == CODEC_ZSTD:
                    place = base + column.offset
                    for frame in column.frames:
                        chunk.frames.append(os.pread(file, frame.stored_size, place))
                        place += frame.stored_size
                    zstd_size += column.raw_size
                else:
                    chunk.raw_parts.append((base + column.offset, column.stored_size))
                    raw_size += column.raw_size
            tasks.append(chunk)
    return tasks, "zstd alone" if zstd_size >= raw_size else "pread+crc alone"
