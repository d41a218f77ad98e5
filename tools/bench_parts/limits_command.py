"""`tools/bench --limits` and `--memory`: what the machine and the libraries below us can do, and how near we are."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from bench_parts import memory
from bench_parts.limit_workloads import NAMES, make_workload
from bench_parts.limits import (
    BATCH_SIZE,
    PIECE_SIZE,
    SHUFFLE_COPIES,
    Cell,
    access_cells,
    read_cells,
    shuffle_cells,
    write_cells,
    write_data_set,
)

_SIZE, _QUICK_SIZE = 192 << 20, 8 << 20
_MEMORY_SIZE, _QUICK_MEMORY_SIZE = 2_000_000_000, 100_000_000
_TMPFS = "/dev/shm"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; 1 if a target is missed."""
    options = _parse(arguments)
    settings = _settings(options)
    if not options.json:
        print("\n".join(f"{name:12} {value}" for name, value in settings.items()), flush=True)
    result: dict[str, Any] = {"settings": settings}
    if options.memory:
        missed = _measure_memory(options, result)
    else:
        missed = _measure_speed(options, result)
    result["missed"] = missed
    if options.json:
        print(json.dumps(result, indent=1))
    elif missed:
        print(f"\n{len(missed)} MISSED: {'; '.join(missed)}")
    else:
        print("\nall targets reached")
    return 1 if missed else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tools/bench", description="Speeds and memory of recordio, as ratios to peers in the same run."
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="small sizes: seconds, and ratios that mean little")
    add("--memory", action="store_true", help="resident memory of converting from a generator, instead of speeds")
    add("--json", action="store_true", help="one JSON object on stdout")
    add("--workloads", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=f"some of {', '.join(NAMES)}")
    add("--threads", nargs="+", type=int, default=[1, 2], metavar="N", help="of recordio and of the peer (1 2)")
    add("--only", choices=["write", "read", "shuffle", "access"], help="some of the cells")
    add("--size", type=int, metavar="BYTES", help=f"of a workload ({_SIZE}; --memory: {_MEMORY_SIZE})")
    add("--repeats", type=int, metavar="N", help="rounds, after one that is not measured (5; --quick: 1)")
    add("--level", type=int, default=3, help="of zstd (3)")
    add("--seed", type=int, default=20_250_102)
    add("--directory", help="on the disk that is measured for information (the system's temporary one)")
    options = parser.parse_args(arguments)
    if options.size is None:
        full, quick = (_MEMORY_SIZE, _QUICK_MEMORY_SIZE) if options.memory else (_SIZE, _QUICK_SIZE)
        options.size = quick if options.quick else full
    if options.repeats is None:
        options.repeats = 1 if options.quick else 5
    return options


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    versions = {"python": platform.python_version()}
    for name in ("recordio", "numpy", "zstandard", "crc32c", "msgpack"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "versions": " ".join(f"{name} {found}" for name, found in versions.items()),
        "machine": f"{_processor()}, {os.cpu_count()} processors, {platform.system()} {platform.release()}",
        "settings": f"zstd level {options.level}, batches of {BATCH_SIZE}, peer's pieces of {PIECE_SIZE >> 10} KiB, "
        f"{options.size / 1e6:.0f} MB a workload, seed {options.seed}, median of {options.repeats} interleaved rounds",
        "in memory": f"{_TMPFS} (tmpfs), so that no disk is measured" if _has_tmpfs() else "no tmpfs here: on the disk",
        "on disk": options.directory or tempfile.gettempdir(),
        "threads": "writing: Writer(workers=N); reading: batch(256).with_options(workers=N); page cache warm",
    }  # fmt: skip


def _measure_speed(options: argparse.Namespace, result: dict[str, Any]) -> list[str]:
    cells: list[Cell] = []
    with _directory(_TMPFS if _has_tmpfs() else None) as fast, _directory(options.directory) as slow:
        for name in options.workloads:
            workload = make_workload(name, options.size, options.seed)
            if not options.json:
                size = f"{workload.num_records} records, {workload.raw_size / 1e6:.0f} MB"
                print(f"\n{name}: {workload.description}; {size}")
                print(f"  {'':34} {'threads':>7} {'ratio':>8} {'target':>7} {'':7} {'recordio':>9} {'peer':>9}")
            path = os.path.join(fast, "read")
            for cell in _cells(options, workload, path, fast, slow):
                cells.append(cell)
                if not options.json:
                    print(_line(cell), flush=True)
    result["cells"] = [cell.to_map() for cell in cells]
    return [f"{cell.workload} {cell.what}, {cell.threads} threads" for cell in cells if cell.verdict == "MISSED"]


def _cells(options: argparse.Namespace, workload: Any, path: str, fast: str, slow: str) -> Iterator[Cell]:
    common = {"repeats": options.repeats}
    if options.only in (None, "write"):
        for threads in options.threads:
            yield from write_cells(
                workload, memory_directory=fast, disk_directory=slow, level=options.level, threads=threads, **common
            )
    if options.only == "write":
        return
    write_data_set(workload, path, level=options.level)
    if options.only in (None, "read"):
        for threads in options.threads:
            yield from read_cells(workload, path, threads=threads, **common)
    if options.only in (None, "shuffle") and workload.name == "digits":
        shuffled = os.path.join(fast, "shuffle")
        write_data_set(workload, shuffled, level=options.level, copies=SHUFFLE_COPIES, num_shards=16)
        for threads in options.threads:
            yield from shuffle_cells(workload, shuffled, threads=threads, **common)
        shutil.rmtree(shuffled)
    if options.only in (None, "access"):
        yield from access_cells(workload, path, seed=options.seed, **common)


def _line(cell: Cell) -> str:
    target = "" if cell.target is None else f"{cell.target:.2f}"
    return (
        f"  {cell.what:34} {cell.threads:7} {cell.ratio:8.2f} {target:>7} {cell.verdict:7} "
        f"{cell.own:9,.0f} {cell.peer:9,.0f} {cell.unit}"
    )


def _measure_memory(options: argparse.Namespace, result: dict[str, Any]) -> list[str]:
    missed = []
    result["memory"] = []
    for what, num_shards in (("generator, shards by size", None), ("generator, num_shards=4 (spooled)", 4)):
        found = memory.measure(options.size, options.directory, num_shards=num_shards)
        verdict = "OK" if found["peak"] <= memory.LIMIT else "MISSED"
        result["memory"].append({"what": what, "limit": memory.LIMIT, **found, "verdict": verdict})
        if verdict == "MISSED":
            missed.append(what)
        if not options.json:
            amount = f"{found['raw_size'] / 1e6:,.0f} MB in {found['records']} records"
            limit = f"limit {memory.LIMIT / 1e6:.0f} MB"
            print(
                f"  {what:36} {amount}: at most {found['peak'] / 1e6:.0f} MB resident, {limit}  {verdict}", flush=True
            )
    return missed


@contextmanager
def _directory(parent: str | None) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="recordio-bench-", dir=parent) as path:
        yield path


def _has_tmpfs() -> bool:
    return sys.platform == "linux" and os.access(_TMPFS, os.W_OK)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
