"""tools/bench runs, and keeps its promises about memory in small; its ratios mean nothing on a busy machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TOOLS = Path(__file__).parents[1] / "tools"
# The environments of the peers are replaced by this one, which has pyarrow and no other of them.
HERE = """
import sys
from bench_parts import command, report, running
from bench_parts.environments import Environment
running.environment = command.environment = lambda name: Environment(sys.executable)
report.versions = lambda name, distributions: "of the tests"
from bench_parts.peers import all_peers
here = tuple(peer for peer in all_peers() if peer.name.startswith(("recordio", "Parquet", "numpy")))
command.all_peers = lambda: here
sys.exit(command.main())
"""


def bench(*arguments: str, code: str | None = None) -> tuple[int, dict[str, Any]]:
    """Exit status and what --json prints."""
    command = ["-m", "bench_parts"] if code is None else ["-c", code]
    done = subprocess.run(
        [sys.executable, *command, "--json", *arguments], stdout=subprocess.PIPE, text=True, timeout=110,
        env={**os.environ, "PYTHONPATH": str(TOOLS)},
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("workload", ["small_images", "clicks", "multimodal"])
def test_formats_are_measured_side_by_side(tmp_path: Path, workload: str):
    """Every measure ends with a number, or says that the format has no such thing; and the report is whole."""
    report = tmp_path / "RESULTS.md"
    status, result = bench(
        "--share", "0.002", "--repeats", "1", "--report", str(report), "--workloads", workload, "--measures", "write",
        "write_records", "in_order", "shuffled", "project", "random_batches", "singles", "first_batch", "memory",
        "resume", code=HERE,
    )  # fmt: skip
    cells = result["cells"]
    assert not [cell for cell in cells if "error" in cell]
    assert status == bool(result["missed"])
    assert {cell["workload"] for cell in cells} == {workload}
    assert {"recordio", "recordio, raw", "Parquet (pyarrow)"} <= {cell["peer"] for cell in cells}
    own = [cell for cell in cells if cell["peer"] == "recordio"]
    assert len(own) == 13 and not [cell for cell in own if "missing" in cell]
    text = report.read_text("utf-8")
    for title in ("## Targets", "### Epoch in order, 2 threads", "### Size of the files", "of the tests"):
        assert title in text
    assert text.endswith("## What could not be measured\n\nNothing.\n")


def test_every_cell_is_measured_beside_its_peer():
    """Exit status 1 if and only if a target is missed; each target is said to be reached or missed."""
    status, result = bench("--limits", "--quick", "--size", "1000000", "--workloads", "digits", "noise", "text")
    cells = result["cells"]
    assert status == bool(result["missed"])
    assert len([cell for cell in cells if cell["verdict"] == "MISSED"]) == len(result["missed"])
    for workload in ("digits", "noise", "text"):
        for threads in (1, 2):
            of_both = [cell for cell in cells if (cell["workload"], cell["threads"]) == (workload, threads)]
            targets = sorted(cell["target"] for cell in of_both if cell["target"])
            assert targets == [0.6, *[0.7] * (3 if workload == "digits" else 1), 20.0]
    assert all(cell["ratio"] > 0 and cell["own"] > 0 and cell["peer"] > 0 for cell in cells)
    assert {"versions", "machine", "settings"} <= result["settings"].keys()


@pytest.mark.parametrize("size", [300_000_000])
def test_memory_does_not_grow_with_the_source(size: int):
    """Converting from a generator takes no more memory than what is under way, with and without a spool."""
    _, result = bench("--memory", "--size", str(size))
    for found in result["memory"]:
        assert found["raw_size"] > 0.99 * size
        assert found["peak"] < 300e6, found


GROWTH = """
import json, sys
from bench_parts.scaling import all_points, measure, section, steeper_than_linear
points = [measure(point, sys.argv[1]) for point in all_points(0.01) if point.factor < 100 and point.axis != "shards"]
points.append({**points[-1], "factor": 100, "found": {name: 200 * n for name, n in points[-2]["found"].items()}})
print(json.dumps({"points": points, "section": section(points, "plot.svg"), "steep": steeper_than_linear(points)}))
"""


def test_growth_is_measured_and_judged(tmp_path: Path):
    """A point of each kind; what takes 200 times as much for 100 times the size is named, and flat things are not."""
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, str(tmp_path / "set")], stdout=subprocess.PIPE, text=True, timeout=110,
        env={**os.environ, "PYTHONPATH": str(TOOLS)}, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    points = {(point["axis"], point["factor"]): point["found"] for point in found["points"]}
    assert set(points) == {(axis, n) for axis in ("records", "chunks", "index") for n in (1, 10)} | {("index", 100)}
    assert all(value > 0 for values in points.values() for value in values.values())
    assert {"open", "resume at 90 %", "shuffled epoch", "peak memory"} <= set(points["records", 1])
    assert {one.split(" by ")[1] for one in found["steep"]} >= {"index: 200 times"}
    text = "\n".join(found["section"])
    assert "plot.svg" in text and "| plan of a shuffled batch | 1.0 |" in text and "200.0 |" in text
    assert not (tmp_path / "set").exists()
