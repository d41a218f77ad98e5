"""Running the table: each cell in a fresh process, in the environment of its format, the formats of a row side by side.

    workload -> every format writes it -> every measure of every format, one process each -> results

Files are in memory (tmpfs) where there is one, so that no disk is measured; single records with a cold cache are read
from the disk. What a workload needs is removed before the next one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench_parts.environments import ROOT, environment
from bench_parts.peers import Peer
from bench_parts.scaling import all_points
from bench_parts.workloads import Workload, make_workload

MEASURES = (
    "write", "write_records", "in_order", "shuffled", "project", "random_batches", "singles", "singles_cold",
    "first_batch", "memory", "resume", "open",
)  # fmt: skip
_WITH_THREADS = ("write", "in_order", "shuffled")
_OPEN_WORKLOAD, OPEN_SHARDS = "small_images", 1024
_FIRST_BATCH_RUNS = 4  # the first of them is not counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is run.

    Attributes:
        directory: for the files; in memory if possible.
        disk: for what is read with a cold cache.
        share: of the records of a full workload.
        limit_s: for one cell; then it is killed, and the cell says so.
    """

    peers: Sequence[Peer]
    workloads: Sequence[str]
    measures: Sequence[str]
    threads: Sequence[int]
    directory: str
    disk: str
    share: float
    repeats: int
    seed: int
    limit_s: float = 300.0


def run_all(plan: Plan) -> Iterator[dict[str, Any]]:
    """One result for each cell: workload, peer, measure, threads, and what the cell printed."""
    for name in plan.workloads:
        base = Path(plan.directory, name)
        workload = make_workload(name, str(base / "workload"), share=plan.share)
        for row in _rows(plan, workload):
            for peer in plan.peers:
                yield from _run_row(plan, workload, peer, base, *row)
        shutil.rmtree(base)


def _rows(plan: Plan, workload: Workload) -> Iterator[tuple[str, int]]:
    measures = list(plan.measures)
    if "write" not in measures:
        yield "write", 0
    for measure in measures:
        if measure == "open" and workload.name != _OPEN_WORKLOAD:
            continue
        for threads in plan.threads if measure in _WITH_THREADS else (1,):
            yield measure, threads


def _run_row(
    plan: Plan, workload: Workload, peer: Peer, base: Path, measure: str, threads: int
) -> Iterator[dict[str, Any]]:
    path = base / _file_name(peer)
    request: dict[str, Any] = {
        "module": type(peer).__module__, "peer": peer.name, "workload": workload.path, "path": str(path),
        "measure": measure, "threads": max(1, threads), "repeats": plan.repeats, "seed": plan.seed,
    }  # fmt: skip
    is_needed = measure == "write" and threads == 0  # to be read, and not asked for itself
    if measure in ("write_records",):
        request["path"] = str(base / "records")
    if measure == "singles_cold":
        request["path"] = os.path.join(plan.disk, "cold")
        if path.exists():
            shutil.copytree(path, request["path"])
    if measure == "open":
        request["path"] = str(base / "shards")
        made = _run_cell(plan, peer, {**request, "measure": "write_shards", "num_shards": OPEN_SHARDS})
        if "error" in made or "missing" in made:
            yield _result(workload, peer, measure, threads, made)
            return
    if measure == "first_batch":
        found = _first_batches(plan, peer, request)
    else:
        found = _run_cell(plan, peer, {**request, "repeats": 1} if is_needed else request)
    if request["path"] != str(path):
        shutil.rmtree(request["path"], ignore_errors=True)
    if not is_needed or "error" in found:
        yield _result(workload, peer, measure, threads, found)


def run_scaling(plan: Plan) -> Iterator[dict[str, Any]]:
    """One result for each point: what it is, and what was found, or an error."""
    for point in all_points(plan.share):
        request = {"point": asdict(point), "path": os.path.join(plan.directory, "scaling")}
        found = run_process(
            "recordio", "bench_parts.scaling", request, limit_s=plan.limit_s, directory=plan.disk
        )  # fmt: skip
        yield {**asdict(point), **found}


def draw_scaling(points: Sequence[dict[str, Any]], path: Path) -> str | None:
    """Make the plot; gives the reason if that is not possible."""
    where = environment("plot")
    if where.error is not None:
        return where.error
    done = subprocess.run(
        [where.python, "-m", "bench_parts.scaling", "draw", str(path)], input=json.dumps(points), text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tools")}, capture_output=True,
    )  # fmt: skip
    return done.stderr.strip().splitlines()[-1] if done.returncode else None


def _result(workload: Workload, peer: Peer, measure: str, threads: int, found: dict[str, Any]) -> dict[str, Any]:
    return {
        "workload": workload.name, "raw_size": workload.raw_size, "peer": peer.name, "measure": measure,
        "threads": threads, **found,
    }  # fmt: skip


def _first_batches(plan: Plan, peer: Peer, request: dict[str, Any]) -> dict[str, Any]:
    seconds: list[float] = []
    for _ in range(_FIRST_BATCH_RUNS):
        found = _run_cell(plan, peer, {**request, "began": time.clock_gettime(time.CLOCK_MONOTONIC)})
        if "error" in found:
            return found
        seconds += found["seconds"]
    return {**found, "seconds": seconds[1:]}


def _run_cell(plan: Plan, peer: Peer, request: dict[str, Any]) -> dict[str, Any]:
    return run_process(peer.environment, "bench_parts.cell", request, limit_s=plan.limit_s, directory=plan.disk)


def run_process(name: str, module: str, request: dict[str, Any], *, limit_s: float, directory: str) -> dict[str, Any]:
    """What a module prints, run in an environment and a directory; or the error that it ended with."""
    where = environment(name)
    if where.error is not None:
        return {"error": f"not installed: {where.error}"}
    paths = os.pathsep.join([str(ROOT / "tools")])
    variables = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [where.python, "-m", module, json.dumps(request)]
    process = subprocess.Popen(
        command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        cwd=directory,
    )  # fmt: skip
    try:
        output, errors = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        return {"error": f"took more than {limit_s:.0f} s"}
    finally:
        _end(process)
    try:
        found: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    except (IndexError, ValueError):
        last = errors.strip().splitlines()[-1:] or ["no output"]
        return {"error": f"status {process.returncode}: {last[0]}"}
    return found


def _end(process: subprocess.Popen[str]) -> None:
    """With all that it started."""
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        pass
    process.wait()


def _file_name(peer: Peer) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in peer.name)


def progress(result: dict[str, Any], began: float) -> None:
    """One line on stderr."""
    if "axis" in result:
        told = f"FAILED {result['error'][:100]}" if "error" in result else ""
        what = f"scaling of {result['axis']} × {result['factor']}"
        print(f"{time.monotonic() - began:6.0f} s  {what} {told}", file=sys.stderr, flush=True)
        return
    what = f"{result['workload']:13} {result['measure']:14} {result['threads']}  {result['peer']:28}"
    if "error" in result:
        told = f"FAILED {result['error'][:100]}"
    elif "missing" in result:
        told = "-"
    elif "seconds" in result:
        told = f"{sorted(result['seconds'])[len(result['seconds']) // 2]:.4f} s"
    else:
        told = ""
    print(f"{time.monotonic() - began:6.0f} s  {what} {told}", file=sys.stderr, flush=True)
