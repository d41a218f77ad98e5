"""Speeds as ratios: writing, reading in order and a projection, each beside its peer in the same run.

    write      Writer.write_batch and commit     against   zstd alone on the same bytes, in 64 KiB pieces
    read       for batch in ds.batch(256)        against   zstd alone on the same frames (raw: pread and CRC)
    project    the label alone                   against   all columns, in records/s
    shuffle    exact, and pooled                 against   reading in order on as many threads

Peers are made as fast as they can be: what they work on is in memory (frames) or in the page cache (raw chunks), a task
of a peer is a whole chunk or more, and with one thread there is no pool at all. The peer of what is stored raw reads it
into one megabyte, which stays in the processor's cache; against a peer that reads into new memory for each batch, as a
reader must, it is shown for information.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import crc32c
import numpy as np
import zstandard

import recordio
from bench_parts.limit_workloads import Workload
from bench_parts.timing import interleave, speed_ratio
from recordio.format.codec import CODEC_ZSTD
from recordio.plan.order import Mode
from recordio.reader import open_data_set
from recordio.storage import LocalStorage, WriteHandle

BATCH_SIZE = 256
PIECE_SIZE = 64 << 10  # what the peer compresses at once
TASK_SIZE = 2 << 20  # what a thread of a peer is given at once; a chunk
HOT_SIZE = 1 << 20  # of the buffer that raw bytes are read into again and again

WRITE_TARGET = 0.70
READ_TARGET = 0.60
PROJECT_TARGET = 20.0
SHUFFLE_TARGET = 0.70
SHUFFLE_COPIES = 4  # of the workload: a pooled shuffle is for what does not fit its pool


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

    The target is taken in memory. A storage that drops the shards shows, for information, what a file system in memory
    takes: for bytes that do not compress it is longer than zstd takes to find nothing in them.
    """

    def writer(directory: str, storage: LocalStorage | None = None) -> Callable[[], None]:
        def run() -> None:
            path = os.path.join(directory, "write")
            options: dict[str, Any] = {} if storage is None else {"_storage": storage}
            with recordio.Writer(path, workload.signature, level=level, workers=threads, **options) as out:
                for batch in workload.batches:
                    out.write_batch(batch)

        return run

    def remove() -> None:
        for directory in (memory_directory, disk_directory):
            shutil.rmtree(os.path.join(directory, "write"), ignore_errors=True)

    with _mapping(threads) as run_all:
        tasks = [list(pieces) for pieces in _tasks(workload.column_bytes)]
        compress = _Compress(level)
        nowhere = writer(memory_directory, DroppingStorage())
        runs = [lambda: run_all(compress, tasks), writer(memory_directory), writer(disk_directory), nowhere]
        peer, memory, disk, dropped = interleave(runs, repeats, remove)
    for what, times, counts in (
        ("write, in memory", memory, True),
        ("write, stored nowhere", dropped, False),
        ("write, on disk", disk, False),
    ):
        target = WRITE_TARGET if counts else None
        yield _cell(workload, what, threads, workload.raw_size / 1e6, "MB/s", times, peer, target)
    remove()


def read_cells(workload: Workload, path: str, *, threads: int, repeats: int) -> Iterator[Cell]:
    """Reading in order against zstd or pread and CRC alone, and the projection against reading in order."""
    dataset = recordio.open(path)
    labels = dataset.select_columns(["label"])
    tasks = _stored(path)
    raw_size = sum(size for task in tasks for _, size in task.raw_parts)
    is_raw = raw_size > workload.raw_size / 2
    if is_raw:
        tasks = _spans(tasks, BATCH_SIZE * workload.raw_size // workload.num_records)

    def read() -> None:
        for _ in dataset.batch(BATCH_SIZE).with_options(workers=threads):
            pass

    def project() -> None:
        for _ in labels.batch(BATCH_SIZE).with_options(workers=threads):
            pass

    with _mapping(threads) as run_all:
        runs = [lambda: run_all(_verify_hot if is_raw else _verify, tasks), read, project]
        if is_raw:
            runs.append(lambda: run_all(_verify, tasks))
        peer, full, projection, *fresh = interleave(runs, repeats)
    name = "pread+crc alone" if is_raw else "zstd alone"
    yield _cell(workload, f"read ({name})", threads, workload.raw_size / 1e6, "MB/s", full, peer, READ_TARGET)
    if is_raw:
        yield _cell(
            workload, "read (the same, new memory)", threads, workload.raw_size / 1e6, "MB/s", full, fresh[0], None
        )
    yield _cell(workload, "project label", threads, workload.num_records / 1e3, "k/s", projection, full, PROJECT_TARGET)


def shuffle_cells(workload: Workload, path: str, *, threads: int, repeats: int) -> Iterator[Cell]:
    """Shuffled epochs against reading in order; and, for information, what of the time plans and batches take.

    An exact shuffle holds what it has decoded: its first epoch, of a data set that is opened anew, is shown beside the
    later ones.
    """
    dataset = recordio.open(path)
    num_records = len(dataset)
    in_order = dataset.batch(BATCH_SIZE).with_options(workers=threads)
    modes: dict[str, Mode] = {"exact": "exact", "exact, first epoch": "exact", "pooled": "pooled"}

    def shuffled_loader(what: str) -> Any:
        opened = recordio.open(path) if "first" in what else dataset
        return opened.shuffle(seed=0, mode=modes[what]).batch(BATCH_SIZE).with_options(workers=threads)

    loaders = {what: shuffled_loader(what) for what in modes}
    shares: dict[str, list[float]] = {what: [] for what in loaders}

    def epoch(what: str) -> Callable[[], None]:
        def run() -> None:
            iterator = iter(shuffled_loader(what) if "first" in what else loaders[what])
            count = 0
            for batch in iterator:
                count += len(batch["label"])
            assert count == num_records
            stats = iterator.stats()
            work = sum(stats[f"{part}_s"] for part in ("plan", "assemble", "read", "verify", "decode", "gather"))
            shares[what].append((stats["plan_s"] + stats["assemble_s"]) / work)

        return run

    def read() -> None:
        for _ in in_order:
            pass

    peer, *shuffled = interleave([read, *map(epoch, loaders)], repeats)
    for what, times in zip(loaders, shuffled, strict=True):
        amount = num_records / 1e3
        target = None if "first" in what else SHUFFLE_TARGET
        yield _cell(workload, f"shuffled, {what} (in order)", threads, amount, "k/s", times, peer, target)
        share = sorted(shares[what][1:])[len(shares[what][1:]) // 2]
        yield Cell(
            workload=workload.name, what=f"{what}: plan and assembly, share", threads=threads, ratio=share,
            own=share * 100, peer=100, unit="%", target=None,
        )  # fmt: skip


def access_cells(workload: Workload, path: str, *, seed: int, repeats: int, num_records: int = 256) -> Iterator[Cell]:
    """Access by number against reading in order, in records/s; for information."""
    numbers = np.random.default_rng([seed, 1]).integers(0, workload.num_records, num_records)
    singles = numbers.tolist()
    dataset = recordio.open(path)
    warm = recordio.open(path, cache_size=4 * workload.raw_size)

    def read() -> None:
        for _ in dataset.batch(BATCH_SIZE).with_options(workers=1):
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
    for what, times in (
        ("ds[i] random, uncached", uncached), ("ds[i] random, cached", hot), ("ds[256 random] uncached", batches),
    ):  # fmt: skip
        yield _cell(workload, what, 1, num_records / 1e3, "k/s", times, scaled, None)


def write_data_set(
    workload: Workload, path: str, *, level: int, copies: int = 1, num_shards: int | None = None
) -> None:
    """The data set that the read cells read; with several copies of the records, for the shuffle cells."""
    with recordio.Writer(path, workload.signature, level=level, overwrite=True, num_shards=num_shards) as out:
        for _ in range(copies):
            for batch in workload.batches:
                out.write_batch(batch)


def _cell(
    workload: Workload, what: str, threads: int, amount: float, unit: str,
    times: list[float], peer: list[float], target: float | None,
) -> Cell:  # fmt: skip
    own_speed, peer_speed = (amount / sorted(taken)[len(taken) // 2] for taken in (times, peer))
    return Cell(
        workload=workload.name, what=what, threads=threads, ratio=speed_ratio(times, peer),
        own=own_speed, peer=peer_speed, unit=unit, target=target,
    )  # fmt: skip


# ---- the peers ----


@contextmanager
def _mapping(threads: int) -> Iterator[Callable[[Callable[[Any], object], Sequence[Any]], None]]:
    """Run a function over tasks on so many threads; with one, in the caller's own. Each result lives until the next."""
    if threads == 1:

        def run_here(function: Callable[[Any], object], tasks: Sequence[Any]) -> None:
            held = None
            for task in tasks:
                held = function(task)
            del held

        yield run_here
        return
    with ThreadPoolExecutor(threads) as pool:

        def run_on_pool(function: Callable[[Any], object], tasks: Sequence[Any]) -> None:
            pending: deque[Future[object]] = deque()
            held = None
            for task in tasks:
                pending.append(pool.submit(function, task))
                if len(pending) > threads + 1:
                    held = pending.popleft().result()
            while pending:
                held = pending.popleft().result()
            del held

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
class _Stored:
    """The frames of a chunk or more: those of zstd in memory, those stored raw as places in a file."""

    frames: list[bytes]
    file: int
    raw_parts: list[tuple[int, int]]  # offset, size


_local = threading.local()


def _verify(task: _Stored) -> object:
    _decompress(task)
    if not task.raw_parts:
        return None
    memory = np.empty(sum(size for _, size in task.raw_parts), np.uint8)
    start = 0
    for offset, size in task.raw_parts:
        part = memory[start : start + size]
        os.preadv(task.file, [part], offset)
        crc32c.crc32c(part)
        start += size
    return memory


def _verify_hot(task: _Stored) -> None:
    _decompress(task)
    buffer = getattr(_local, "buffer", None)
    if buffer is None:
        buffer = _local.buffer = memoryview(bytearray(HOT_SIZE))
    for offset, size in task.raw_parts:
        for start in range(0, size, HOT_SIZE):
            part = buffer[: size - start]
            os.preadv(task.file, [part], offset + start)
            crc32c.crc32c(part)


def _decompress(task: _Stored) -> None:
    decompressor = getattr(_local, "decompressor", None)
    if decompressor is None:
        decompressor = _local.decompressor = zstandard.ZstdDecompressor()
    for frame in task.frames:
        decompressor.decompress(frame)


def _stored(path: str) -> list[_Stored]:
    """What the peer of reading works on, chunk by chunk."""
    reader = open_data_set(path)
    tasks = []
    for shard_id, entry in enumerate(reader.shards):
        shard = reader.shard(shard_id)
        file = os.open(shard.path, os.O_RDONLY)
        for chunk_id in range(entry.num_chunks):
            base = int(shard.table.offsets[chunk_id])
            chunk = _Stored([], file, [])
            for column in shard.read_directory(chunk_id).columns:
                if column.codec == CODEC_ZSTD:
                    place = base + column.offset
                    for frame in column.frames:
                        chunk.frames.append(os.pread(file, frame.stored_size, place))
                        place += frame.stored_size
                else:
                    chunk.raw_parts.append((base + column.offset, column.stored_size))
            tasks.append(chunk)
    return tasks


def _spans(tasks: list[_Stored], size: int) -> list[_Stored]:
    """Put chunks of one file together until they have the bytes of a batch."""
    spans: list[_Stored] = []
    for task in tasks:
        last = spans[-1] if spans else None
        if last is None or last.file != task.file or sum(part for _, part in last.raw_parts) >= size:
            spans.append(last := _Stored([], task.file, []))
        last.frames.extend(task.frames)
        last.raw_parts.extend(task.raw_parts)
    return spans
