"""One cell of the table, in a process of its own: one format, one workload, one measure.

    python -m bench_parts.cell '{"module": "bench_parts.peers.own", "peer": "recordio", "measure": "in_order", …}'

Prints one JSON object: what was measured, or why it could not be. Runs in the environment of the peer, which has numpy
and the peer's packages, and nothing of ours.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench_parts.peers import find_peer
from bench_parts.peers.contract import EpochOptions, Peer
from bench_parts.workloads import Workload

_BATCH_SIZE = 256
_NUM_SINGLES = 512
_NUM_BATCHES = 24
_LONG_S = 3  # of all epochs, or writes, of a cell: no further one is begun
_CHECKED_COLUMNS = 4  # of those that are as many as in a log: the first ones and the last


class NotDeliveredError(AssertionError):
    """An epoch had other records than were written."""


def main() -> None:
    """Measure what the argument says."""
    request = json.loads(sys.argv[1])
    try:
        found = _MEASURES[request["measure"]](_Cell(**request))
    except Exception as error:  # noqa: BLE001  what a peer raises is a result
        found = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
    print(f"\n{json.dumps(found)}", flush=True)
    os._exit(0)  # what a peer left behind (threads, workers) is not waited for


class _Cell:
    def __init__(
        self, *, module: str, peer: str, workload: str, path: str, measure: str, threads: int = 1, repeats: int = 3,
        seed: int = 0, num_shards: int = 0, began: float = 0.0,
    ) -> None:  # fmt: skip
        self.peer: Peer = find_peer(module, peer)
        self.workload = Workload.open(workload)
        self.path, self.measure, self.threads, self.repeats = path, measure, threads, repeats
        self.seed, self.num_shards, self.began = seed, num_shards, began

    def options(self, *, shuffle: bool, seed: int = 0, columns: tuple[str, ...] | None = None) -> EpochOptions:
        return EpochOptions(
            batch_size=_BATCH_SIZE, threads=self.threads, shuffle=shuffle, seed=self.seed + seed, columns=columns
        )

    def numbers(self, count: int) -> list[int]:
        found: list[int] = np.random.default_rng([self.seed, 7]).integers(0, self.workload.num_records, count).tolist()
        return found


# ---- the measures ----


def _write(cell: _Cell) -> dict[str, Any]:
    return _timed_writes(cell, lambda: cell.peer.write(cell.workload, cell.path, cell.threads))


def _write_records(cell: _Cell) -> dict[str, Any]:
    if not cell.peer.can("write_records"):
        return {"missing": True}
    return _timed_writes(cell, lambda: cell.peer.write_records(cell.workload, cell.path))


def _write_shards(cell: _Cell) -> dict[str, Any]:
    if not cell.peer.can("write_shards"):
        return {"missing": True}
    os.makedirs(cell.path)
    cell.peer.write_shards(cell.workload, cell.path, cell.num_shards)
    return {"bytes": _size(cell.path)}


def _timed_writes(cell: _Cell, write: Callable[[], None]) -> dict[str, Any]:
    seconds = []
    for column in cell.workload.columns:  # in the page cache, for all alike
        np.add.reduce(cell.workload.values[column.name].reshape(-1).view(np.uint8)[::4096])
    for number in range(cell.repeats + 1):
        shutil.rmtree(cell.path, ignore_errors=True)
        os.makedirs(cell.path)
        began = time.perf_counter()
        write()
        took = time.perf_counter() - began
        if number or took > _LONG_S:  # the first one imports, and touches memory for the first time
            seconds.append(took)
        if took > _LONG_S or sum(seconds) > _LONG_S:
            break
    return {"seconds": seconds, "records": cell.workload.num_records, "bytes": _size(cell.path)}


def _in_order(cell: _Cell) -> dict[str, Any]:
    return _epochs(cell, shuffle=False)


def _shuffled(cell: _Cell) -> dict[str, Any]:
    return _epochs(cell, shuffle=True)


def _epochs(cell: _Cell, *, shuffle: bool) -> dict[str, Any]:
    peer, workload = cell.peer, cell.workload
    _check(cell, peer.epoch(workload, cell.path, cell.options(shuffle=shuffle)))
    seconds = []
    for number in range(cell.repeats):
        options = cell.options(shuffle=shuffle, seed=number + 1)
        began = time.perf_counter()
        count = 0
        for batch in peer.epoch(workload, cell.path, options):
            count += peer.count(batch)
        seconds.append(time.perf_counter() - began)
        if count != workload.num_records:
            raise NotDeliveredError(f"{count} records of {workload.num_records}")
        if sum(seconds) > _LONG_S:
            break
    return {"seconds": seconds, "records": workload.num_records}


def _project(cell: _Cell) -> dict[str, Any]:
    peer, workload = cell.peer, cell.workload
    options = cell.options(shuffle=False, columns=("label",))
    found: list[Any] = []
    for batch in peer.epoch(workload, cell.path, options):
        found.extend(np.asarray(one).item() for one in peer.leaves(workload, batch)["label"])
    if sorted(found) != sorted(workload.values["label"].tolist()):
        raise NotDeliveredError("other labels than were written")
    seconds = []
    for _ in range(cell.repeats):
        began = time.perf_counter()
        count = sum(peer.count(batch) for batch in peer.epoch(workload, cell.path, options))
        seconds.append(time.perf_counter() - began)
        assert count == workload.num_records
    return {"seconds": seconds, "records": workload.num_records}


def _singles(cell: _Cell) -> dict[str, Any]:
    """Twice over the same numbers: the second time with whatever the format keeps."""
    peer, workload = cell.peer, cell.workload
    if not peer.can("record"):
        return {"missing": True}
    handle = peer.open(workload, cell.path)
    numbers = cell.numbers(_NUM_SINGLES)
    peer.record(handle, 0)  # libraries are loaded
    passes = []
    for _ in range(2):
        taken = []
        for number in numbers:
            began = time.perf_counter()
            peer.record(handle, number)
            taken.append(time.perf_counter() - began)
        passes.append(taken)
    for number in numbers[:32]:
        _same(workload, number, peer.record(handle, number))
    first, second = (np.array(taken) for taken in passes)
    return {
        "first": _percentiles(first), "second": _percentiles(second), "records": len(numbers),
    }  # fmt: skip


def _singles_cold(cell: _Cell) -> dict[str, Any]:
    """None of the files is in the page cache; on a disk."""
    peer, workload = cell.peer, cell.workload
    if not peer.can("record"):
        return {"missing": True}
    handle = peer.open(workload, cell.path)
    peer.record(handle, 0)
    numbers = cell.numbers(_NUM_SINGLES // 8)
    os.sync()
    for file in Path(cell.path).rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
    taken = []
    for number in numbers:
        began = time.perf_counter()
        peer.record(handle, number)
        taken.append(time.perf_counter() - began)
    return {"first": _percentiles(np.array(taken)), "records": len(numbers)}


def _random_batches(cell: _Cell) -> dict[str, Any]:
    peer, workload = cell.peer, cell.workload
    if not peer.can("batch"):
        return {"missing": True}
    handle = peer.open(workload, cell.path)
    numbers = cell.numbers(_BATCH_SIZE * (_NUM_BATCHES + 1))
    groups = [numbers[start : start + _BATCH_SIZE] for start in range(0, len(numbers), _BATCH_SIZE)]
    leaves = peer.leaves(workload, peer.batch(handle, groups[0]))
    for place, number in enumerate(groups[0]):
        _same(workload, number, {name: values[place] for name, values in leaves.items()})
    seconds = []
    for group in groups[1:]:
        began = time.perf_counter()
        peer.batch(handle, group)
        seconds.append(time.perf_counter() - began)
    return {"seconds": seconds, "records": _BATCH_SIZE}


def _first_batch(cell: _Cell) -> dict[str, Any]:
    """From the start of the process; `began` is the caller's clock, which all processes share."""
    next(iter(cell.peer.epoch(cell.workload, cell.path, cell.options(shuffle=False))))
    return {"seconds": [time.clock_gettime(time.CLOCK_MONOTONIC) - cell.began], "records": 1}


def _open(cell: _Cell) -> dict[str, Any]:
    """All shards, up to the first record; once the libraries are loaded."""
    peer, workload = cell.peer, cell.workload
    if not (peer.can("write_shards") and peer.can("record")):
        return {"missing": True}
    peer.record(peer.open(workload, cell.path), 0)
    seconds = []
    for _ in range(cell.repeats):
        began = time.perf_counter()
        handle = peer.open(workload, cell.path)
        peer.record(handle, 0)
        seconds.append(time.perf_counter() - began)
        del handle
    return {"seconds": seconds, "records": 1}


def _memory(cell: _Cell) -> dict[str, Any]:
    """The most that the process, and its workers, held in a shuffled epoch; libraries included."""
    peer, workload = cell.peer, cell.workload
    count, most = 0, 0
    for number, batch in enumerate(peer.epoch(workload, cell.path, cell.options(shuffle=True))):
        count += peer.count(batch)
        if number % 16 == 0:
            most = max(most, sum(map(_resident, _children())))
        del batch
    assert count == workload.num_records
    return {"peak": _peak() + most, "records": count}


def _resume(cell: _Cell) -> dict[str, Any]:
    """From a saved position at 90 % of a shuffled epoch to the next batch."""
    peer, workload = cell.peer, cell.workload
    options = cell.options(shuffle=True)
    for batch in peer.epoch(workload, cell.path, options):  # libraries are loaded
        del batch
        break
    position = int(0.9 * workload.num_records) // _BATCH_SIZE * _BATCH_SIZE
    seconds = []
    for _ in range(cell.repeats):
        began = time.perf_counter()
        batches = peer.resume(workload, cell.path, options, position)
        next(batches, None)
        seconds.append(time.perf_counter() - began)
        del batches
    return {"seconds": seconds, "records": 1, "by_state": peer.can("resume")}


_MEASURES: dict[str, Callable[[_Cell], dict[str, Any]]] = {
    "write": _write, "write_records": _write_records, "write_shards": _write_shards, "in_order": _in_order,
    "shuffled": _shuffled, "project": _project, "singles": _singles, "singles_cold": _singles_cold,
    "random_batches": _random_batches, "first_batch": _first_batch, "open": _open, "memory": _memory,
    "resume": _resume,
}  # fmt: skip


# ---- the checks ----


def _check(cell: _Cell, batches: Iterable[Any]) -> None:
    """Every record once: the sum of a checksum of each.

    Raises:
        NotDeliveredError: some are missing, too many, or others.
    """
    workload = cell.workload
    names = [column.name for column in workload.columns]
    if len(names) > _CHECKED_COLUMNS:
        names = [*names[: _CHECKED_COLUMNS - 1], names[-1]]
    columns = [column for column in workload.columns if column.name in names]
    total = count = 0
    for batch in batches:
        leaves = cell.peer.leaves(workload, batch)
        total += _digest([_plain(column.dtype, column.kind, leaves[column.name]) for column in columns])
        count += cell.peer.count(batch)
        del batch
    expected = 0
    for start in range(0, workload.num_records, 1024):
        stop = min(start + 1024, workload.num_records)
        parts = [_plain(column.dtype, column.kind, workload.slice(column, start, stop)) for column in columns]
        expected += _digest(parts)
    if count != workload.num_records or total != expected:
        raise NotDeliveredError(f"{count} records of {workload.num_records}, checksums {total} and {expected}")


def _plain(dtype: str, kind: str, values: Sequence[Any]) -> list[bytes]:
    if kind == "str":
        return [one.encode() if isinstance(one, str) else bytes(one) for one in values]
    if kind == "bytes":
        return [bytes(one) for one in values]
    return [np.asarray(one, dtype).tobytes() for one in values]


def _digest(columns: Sequence[list[bytes]]) -> int:
    total = 0
    for leaves in zip(*columns, strict=True):
        value = 0
        for leaf in leaves:
            value = zlib.crc32(leaf, value)
        total += value
    return total


def _same(workload: Workload, number: int, found: dict[str, Any]) -> None:
    for column in workload.columns:
        expected = _plain(column.dtype, column.kind, [workload.value(column, number)])
        if _plain(column.dtype, column.kind, [found[column.name]]) != expected:
            raise NotDeliveredError(f"record {number} has another {column.name!r}")


# ---- the process ----


def _percentiles(taken: np.ndarray[Any, Any]) -> dict[str, float]:
    return {"p50": float(np.percentile(taken, 50)), "p99": float(np.percentile(taken, 99))}


def _size(path: str) -> int:
    return sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())


def _peak() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) << 10


def _children() -> list[int]:
    found: list[int] = []
    waiting = [os.getpid()]
    while waiting:
        parent = waiting.pop()
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found.extend(children := [int(child) for child in task.read_text().split()])
            except OSError:
                continue
            waiting.extend(children)
    return found


def _resident(process_id: int) -> int:
    try:
        return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


if __name__ == "__main__":
    main()
