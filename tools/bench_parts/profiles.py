"""Where our own time goes: each measure of each workload under the profiler, and what two threads make of it.

    tools/bench --profiles --report tools/bench_parts/PROFILES.md

Reading on one thread is the caller's own work (`workers=0`); a writer has a thread besides, which is profiled, too. The
profiler costs time of its own wherever many small functions are called: shares say where to look, and the table of the
report how fast it is. Each profile is made in a process of its own, of the second time that it is done.
"""

from __future__ import annotations

import cProfile
import json
import os
import pstats
import shutil
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from bench_parts.peers import find_peer
from bench_parts.peers.contract import EpochOptions, Peer
from bench_parts.running import OPEN_SHARDS, Plan, run_process
from bench_parts.workloads import Workload, make_workload

TITLES = {
    "in_order": "Epoch in order, batches of 256",
    "shuffled": "Shuffled epoch, batches of 256, from the second epoch on",
    "write": "Write from arrays",
    "write_records": "Write record by record",
    "singles": "Single records, a second time over the same numbers",
    "open": f"Open {OPEN_SHARDS:,} shards and read a record",
}
_LEAST, _MOST = 0.03, 7  # of the time; so many functions
_NUM_SINGLES, _NUM_OPENED = 512, 5
_OPEN_WORKLOAD = "small_images"
_WAITING = ("<method 'acquire' of '_thread.lock' objects>", "<method 'get' of '_queue.SimpleQueue' objects>")


def run_profiles(plan: Plan) -> Iterator[dict[str, Any]]:
    """One result for each workload, each of our two forms, and each measure."""
    own = [peer for peer in plan.peers if peer.environment == "recordio"]
    for name in plan.workloads:
        base = Path(plan.directory, name)
        workload = make_workload(name, str(base / "workload"), share=plan.share)
        for peer in own:
            for measure in TITLES:
                if measure == "open" and workload.name != _OPEN_WORKLOAD:
                    continue
                request = {
                    "module": type(peer).__module__, "peer": peer.name, "workload": workload.path,
                    "path": str(base / "files"), "measure": measure, "seed": plan.seed,
                }  # fmt: skip
                found = run_process(
                    peer.environment, "bench_parts.profiles", request, limit_s=plan.limit_s, directory=plan.disk
                )
                shutil.rmtree(base / "files", ignore_errors=True)
                yield {"workload": name, "peer": peer.name, "measure": measure, "threads": 1, **found}
        shutil.rmtree(base)


def markdown(results: Sequence[dict[str, Any]], header: dict[str, str]) -> str:
    """The report."""
    lines = [
        "# Where the time goes", "",
        "Made by the command below; nothing here is written by hand. For each measure, what our own functions, and "
        "those of the libraries below us, take of the time on one thread, without what they call; and what a second "
        "thread brings: how many times as fast it is, and how many processors are busy meanwhile.", "",
        *(f"- {name}: {value}" for name, value in header.items()), "",
    ]  # fmt: skip
    for measure, title in TITLES.items():
        rows = [result for result in results if result["measure"] == measure]
        if not rows:
            continue
        lines += [f"## {title}", "", "| workload | stored | two threads | one thread |", "|---|---|---|---|"]
        for row in rows:
            stored = "raw" if "raw" in row["peer"] else "compressed"
            lines.append(f"| {row['workload']} | {stored} | {_threads(row)} | {_parts(row)} |")
        lines.append("")
    return "\n".join(lines)


def _threads(row: dict[str, Any]) -> str:
    if "busy" not in row:
        return "-"
    return f"{row['faster']:.2f} times as fast, {row['busy']:.2f} busy"


def _parts(row: dict[str, Any]) -> str:
    if "error" in row:
        return str(row["error"]).replace("|", "/")[:200]
    return ", ".join(f"{share:.0%} `{name}`" for name, share in row["parts"])


# ---- in the process of one profile ----


def main() -> None:
    """Profile what the argument says."""
    request = json.loads(sys.argv[1])
    peer, workload = find_peer(request["module"], request["peer"]), Workload.open(request["workload"])
    path, measure = request["path"], request["measure"]
    if measure == "write":
        ordinals = count()
        found = _threads_of(lambda threads: _written(peer, workload, f"{path}/{next(ordinals)}", max(1, threads)))
    elif measure == "write_records":
        ordinals = count()
        found = _profile(lambda: _written(peer, workload, f"{path}/{next(ordinals)}", None))
    elif measure == "open":
        os.makedirs(path)
        peer.write_shards(workload, path, OPEN_SHARDS)
        found = _profile(lambda: [peer.record(peer.open(workload, path), 0) for _ in range(_NUM_OPENED)])
    else:
        _written(peer, workload, path, 2)
        if measure == "singles":
            handle, last = peer.open(workload, path), workload.num_records
            numbers = [number * last // _NUM_SINGLES for number in range(_NUM_SINGLES)]
            found = _profile(lambda: [peer.record(handle, number) for number in numbers])
        else:
            epochs = _epochs(peer, workload, path, shuffle=measure == "shuffled", seed=request["seed"])
            found = _threads_of(epochs)
    print(f"\n{json.dumps(found)}", flush=True)
    os._exit(0)


def _written(peer: Peer, workload: Workload, path: str, threads: int | None) -> None:
    """From arrays, on some threads; or record by record."""
    os.makedirs(path)
    if threads is None:
        peer.write_records(workload, path)
    else:
        peer.write(workload, path, threads)


def _epochs(
    peer: Peer, workload: Workload, path: str, *, shuffle: bool, seed: int
) -> Callable[[int], object]:  # fmt: skip
    def epoch(threads: int) -> None:
        options = EpochOptions(batch_size=256, threads=threads, shuffle=shuffle, seed=seed, columns=None)
        for _ in peer.epoch(workload, path, options):
            pass

    return epoch


def _threads_of(run: Callable[[int], object]) -> dict[str, Any]:
    """The profile of one thread, and what two make of it."""
    found = _profile(lambda: run(0))
    taken, busy = {}, 0.0
    for threads in (1, 2):
        run(threads)
        times = []
        for _ in range(3):
            began, used = time.perf_counter(), time.process_time()
            run(threads)
            elapsed = time.perf_counter() - began
            times.append((elapsed, (time.process_time() - used) / elapsed))
        taken[threads], busy = sorted(times)[1]
    return {**found, "faster": taken[1] / taken[2], "busy": busy}


def _profile(run: Callable[[], object]) -> dict[str, Any]:
    run()  # libraries are loaded, memory and caches are as they are from then on
    profile = cProfile.Profile()
    with _threads_profiled() as profiles:
        profile.runcall(run)
    spent: dict[str, float] = defaultdict(float)
    for one in (profile, *profiles):
        for (file, _, function), (_, _, own, _, _) in pstats.Stats(one).stats.items():  # type: ignore[attr-defined]
            if function not in _WAITING:
                spent[_name(file, function)] += own
    total = sum(spent.values())
    parts = sorted(((name, own / total) for name, own in spent.items()), key=lambda part: -part[1])
    return {"parts": [part for part in parts[:_MOST] if part[1] >= _LEAST]}


@contextmanager
def _threads_profiled() -> Iterator[list[cProfile.Profile]]:
    """Threads that are started meanwhile, too: a writer has one at least."""
    profiles: list[cProfile.Profile] = []
    run = threading.Thread.run

    def profiled(thread: threading.Thread) -> None:
        profiles.append(cProfile.Profile())
        profiles[-1].runcall(run, thread)

    threading.Thread.run = profiled  # type: ignore[method-assign, assignment]
    try:
        yield profiles
    finally:
        threading.Thread.run = run  # type: ignore[method-assign]


def _name(file: str, function: str) -> str:
    """What a reader would call it: `ZstdDecompressor.decompress`, `preadv`, `frames.py decode`."""
    if file != "~":
        return f"{Path(file).name} {function}"
    words = function.strip("{}<>").split()
    if words[0] == "method":  # {method 'take' of 'numpy.ndarray' objects}
        return f"{words[3].strip(chr(39)).rsplit('.', 1)[-1]}.{words[1].strip(chr(39))}"
    found = next((word for word in reversed(words) if not word.startswith(("0x", "at"))), "built-in")
    return found.rsplit(".", 1)[-1]


if __name__ == "__main__":
    main()
