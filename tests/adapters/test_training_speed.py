"""Training that an adapter feeds takes about as long as training on ready numpy batches (tools/bench --training)."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.laws.data_sets import fresh_directory

ROOT = Path(__file__).parents[2]
MOST, ATTEMPTS = 1.15, 4
BOTH = ("in order", "shuffled")
# What does not keep to it is in tools/bench --training besides: spec/adapters.md, section 8.
ORDERS = {
    "keras-jax": BOTH, "keras-torch": BOTH, "keras-tensorflow": BOTH, "jax": BOTH, "tensorflow": BOTH, "grain": BOTH,
    "torch": ("shuffled",),
}  # fmt: skip
WORKLOAD = """
import sys
from bench_parts.workloads import make_workload
make_workload("small_images", sys.argv[1], share=0.25)
"""


def run(*arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tools'}", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with fresh_directory() as directory:
        run("-c", WORKLOAD, str(directory / "workload"))
        yield directory


@pytest.mark.timeout(600)
@pytest.mark.parametrize("framework", ORDERS)
def test_an_adapter_costs_little(directory: Path, framework: str) -> None:
    """Of epochs that follow each other, one fed by ready batches, the median: a busy machine slows some, so that it is
    looked at again."""
    request = {
        "framework": framework, "workload": str(directory / "workload"), "path": str(directory / "files"), "repeats": 5,
    }  # fmt: skip
    ratios: dict[str, list[float]] = {order: [] for order in ORDERS[framework]}
    found: list[dict[str, float]] = []
    for _ in range(ATTEMPTS):
        result: dict[str, Any] = json.loads(run("-m", "bench_parts.training", json.dumps(request)).splitlines()[-1])
        seconds: dict[str, list[float]] = result["seconds"]
        for order, pairs in ratios.items():
            pairs += [own / ready for own, ready in zip(seconds[order], seconds["ready"], strict=True)]
        found.append({order: statistics.median(pairs) for order, pairs in ratios.items()})
        if max(found[-1].values()) <= MOST:
            return
    pytest.fail(f"{framework}: of the time with ready batches, {found}")
