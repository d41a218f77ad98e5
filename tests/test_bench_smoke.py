"""tools/bench runs, and keeps its promises about memory in small; its ratios mean nothing on a busy machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[1] / "tools" / "bench"


def bench(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit status and what --json prints."""
    done = subprocess.run([sys.executable, BENCH, "--json", *arguments], stdout=subprocess.PIPE, text=True, timeout=100)
    return done.returncode, json.loads(done.stdout)


def test_every_cell_is_measured_beside_its_peer():
    """Exit status 1 if and only if a target is missed; each target is said to be reached or missed."""
    status, result = bench("--quick", "--size", "1000000", "--workloads", "digits", "noise", "text")
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
