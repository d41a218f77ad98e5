"""The command line of `tools/bench`: the table against other formats, or what the machine itself can do."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench_parts import limits_command, profiles, training
from bench_parts.environments import environment
from bench_parts.peers import Peer, all_peers
from bench_parts.report import Results, markdown, verdicts
from bench_parts.running import MEASURES, Plan, draw_scaling, progress, run_all, run_scaling
from bench_parts.scaling import section, steeper_than_linear
from bench_parts.workloads import NAMES

_TMPFS = "/dev/shm"
_QUICK_SHARE, _QUICK_MEASURES = 0.1, ("write", "in_order", "shuffled", "random_batches", "singles")
_QUICK_WORKLOADS = ("small_images", "text", "clicks")
_EXAMPLES = """examples:
  tools/bench --quick                                   five minutes: three small workloads, the most telling measures
  tools/bench --report tools/bench_parts/RESULTS.md     everything, and the report
  tools/bench --profiles                                where our own time goes
  tools/bench --peers recordio Parquet --workloads text --measures in_order
  tools/bench --limits                                  ours against zstd, CRC and memory alone
  tools/bench --training                                epochs of training, fed by our adapters and by ready batches
  tools/bench --memory                                  resident memory of converting 2 GB from a generator
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; 1 if a target is missed."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if "--limits" in arguments or "--memory" in arguments:
        return limits_command.main([one for one in arguments if one != "--limits"])
    if "--training" in arguments:
        return training.main([one for one in arguments if one != "--training"])
    options = _parse(arguments)
    began = time.monotonic()
    found: list[dict[str, Any]] = []
    points: list[dict[str, Any]] = []
    peers = _peers(options.peers)
    for name in dict.fromkeys(peer.environment for peer in peers):
        environment(name)
    on_tmpfs = options.directory is None and sys.platform == "linux" and os.access(_TMPFS, os.W_OK)
    with (
        tempfile.TemporaryDirectory(prefix="recordio-bench-", dir=_TMPFS if on_tmpfs else options.directory) as fast,
        tempfile.TemporaryDirectory(prefix="recordio-bench-", dir=options.directory) as disk,
    ):
        plan = Plan(
            peers=peers, workloads=options.workloads, measures=options.measures, threads=options.threads,
            directory=fast, disk=disk, share=options.share, repeats=options.repeats, seed=options.seed,
        )  # fmt: skip
        try:
            for result in profiles.run_profiles(plan) if options.profiles else run_all(plan):
                found.append(result)
                progress(result, began)
            for point in run_scaling(plan) if options.scaling else ():
                points.append(point)
                progress(point, began)
        except KeyboardInterrupt:
            print("interrupted: the report has what was measured up to here", file=sys.stderr)
    header = _header(arguments, options, on_tmpfs, time.monotonic() - began)
    if options.profiles:
        if options.json:
            print(json.dumps({"settings": header, "profiles": found}, indent=1))
        if options.report is not None or not options.json:
            _give(profiles.markdown(found, header), options.report)
        return 1 if any("error" in result for result in found) else 0
    results = Results(found, peers)
    missed = [one.what for one in verdicts(results) if not one.is_reached] + steeper_than_linear(points)
    if options.json:
        print(json.dumps({"settings": header, "cells": found, "scaling": points, "missed": missed}, indent=1))
    text = markdown(results, header, section(points, _plot(points, options.report)) if points else [])
    if options.report is not None or not options.json:
        _give(text, options.report)
    return 1 if missed else 0


def _give(text: str, report: str | None) -> None:
    if report is None:
        print(text)
    else:
        Path(report).write_text(text, "utf-8")


def _plot(points: Sequence[dict[str, Any]], report: str | None) -> str | None:
    """Draw the plot beside the report; gives its name."""
    if report is None:
        return None
    path = Path(report).resolve().with_name("scaling.svg")
    problem = draw_scaling(points, path)
    if problem is not None:
        print(f"no plot: {problem}", file=sys.stderr)
        return None
    return path.name


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tools/bench", description="recordio beside other formats: ratios of one run, every cell a fresh process.",
        epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--quick", action="store_true", help="small workloads and the most telling measures: five minutes")
    add("--workloads", nargs="+", choices=NAMES, metavar="NAME", help=f"some of {', '.join(NAMES)}")
    add("--peers", nargs="+", metavar="NAME", help="those whose names begin so")
    add("--measures", nargs="+", choices=MEASURES, metavar="NAME", help=f"some of {', '.join(MEASURES)}")
    add("--threads", nargs="+", type=int, default=[1, 2], metavar="N", help="of epochs and writing (1 2)")
    add("--share", type=float, help="of the records of a full workload (1.0; --quick: 0.1)")
    add("--repeats", type=int, metavar="N", help="of a cell, after one that is checked and not timed (3)", default=3)
    add("--seed", type=int, default=20_250_102)
    add("--directory", help="for the files; in memory by default, where there is a tmpfs")
    add("--report", metavar="FILE", help="write the report there, not to stdout")
    add(
        "--scaling", action=argparse.BooleanOptionalAction,
        help="how time and memory grow with the data set; by default where nothing is left out",
    )  # fmt: skip
    add("--profiles", action="store_true", help="instead: where our own time goes, workload by workload")
    add("--json", action="store_true", help="every cell, or profile, as one JSON object on stdout")
    add("--limits", action="store_true", help="ours against zstd, CRC and memory alone; has options of its own")
    add("--training", action="store_true", help="what the adapters cost in training; has options of its own")
    add("--memory", action="store_true", help="resident memory of converting from a generator")
    options = parser.parse_args(arguments)
    chosen = any(one is not None for one in (options.workloads, options.peers, options.measures))
    options.workloads = options.workloads or list(_QUICK_WORKLOADS if options.quick else NAMES)
    wanted = options.measures or (_QUICK_MEASURES if options.quick else MEASURES)
    options.measures = [measure for measure in MEASURES if measure in wanted]  # what is read was written before
    if options.scaling is None:
        options.scaling = not (options.quick or chosen or options.profiles)
    options.share = options.share or (_QUICK_SHARE if options.quick else 1.0)
    return options


def _peers(names: Sequence[str] | None) -> tuple[Peer, ...]:
    """Ours always; the others as asked."""
    found = all_peers()
    if names is None:
        return found
    return tuple(peer for peer in found if peer.environment == "recordio" or peer.name.startswith(tuple(names)))


def _header(arguments: Sequence[str], options: argparse.Namespace, on_tmpfs: bool, took: float) -> dict[str, str]:
    where = "in memory (tmpfs), page cache warm" if on_tmpfs else f"in {options.directory or tempfile.gettempdir()}"
    return {
        "command": f"`tools/bench {' '.join(arguments)}`",
        "machine": f"{_processor()}, {os.cpu_count()} processors, {_memory() / 2**30:.0f} GiB, {platform.system()}",
        "Python": platform.python_version(),
        "workloads": f"{options.share:g} of {', '.join(options.workloads)}; seed {options.seed}",
        "files": f"{where}; cold reads from {tempfile.gettempdir()}",
        "took": f"{took / 60:.0f} minutes; medians of {options.repeats}",
    }  # fmt: skip


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
