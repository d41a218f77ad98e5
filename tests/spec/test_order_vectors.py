"""The order: the vectors are what the reference says, and the library says the same (spec/order.md)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from recordio.plan.mixing import key, mix, permute
from recordio.plan.order import ExactOrder, OrderParameters, PooledOrder, resolve
from recordio.plan.splitting import Split
from recordio.plan.stream import Stream
from tests.plan.layouts import tape_of

SPEC = Path(__file__).parents[2] / "spec"
VECTORS: dict[str, Any] = json.loads((SPEC / "order_vectors.json").read_text("utf-8"))


def test_the_vectors_are_what_the_reference_says() -> None:
    """Which imports nothing from recordio, and stays short."""
    source = (SPEC / "reference_order.py").read_text("utf-8")
    lines = source.splitlines()
    assert not [line for line in lines if line.startswith(("import recordio", "from recordio"))] and len(lines) < 250
    done = subprocess.run(
        [sys.executable, "-I", SPEC / "reference_order.py"], check=True, capture_output=True, text=True, timeout=60
    )
    assert json.loads(done.stdout) == VECTORS


def test_arithmetic() -> None:
    """Section 1."""
    for x, expected in VECTORS["mix"]:
        assert int(mix(np.array([x], np.uint64))[0]) == expected
    for *arguments, expected in VECTORS["key"]:
        assert list(key(*arguments)) == expected
    for n, tweak, pairs in VECTORS["permute"]:
        x, expected = np.array(pairs).T
        assert permute(x, n, key(3, 4, "exact"), tweak).tolist() == expected.tolist()


def test_orders() -> None:
    """Sections 3 and 4, with the parameters that follow from the layout."""
    for case in VECTORS["exact"]:
        rows = ExactOrder(case["n"], case["seed"]).rows(case["epoch"], np.arange(case["n"]))
        assert rows.tolist() == case["rows"]
    for case in VECTORS["pooled"]:
        tape = tape_of(case["shards"])
        total = tape.num_records
        parameters = resolve(total, len(tape), "pooled", case["pool"], default_pool=1)
        assert parameters == OrderParameters(mode="pooled", lanes=case["lanes"], window=case["window"])
        rows = PooledOrder(tape, parameters, case["seed"]).rows(case["epoch"], np.arange(total))
        assert rows.tolist() == case["rows"]


def test_batches_and_slots() -> None:
    """Sections 5 and 6."""
    for case in VECTORS["batches"]:
        stream = Stream(num_records=case["n"], stop=case["total"], batch_size=case["size"], num_lanes=case["lanes"])
        expected = [position for batch in case["positions"] for position in batch]
        assert stream.positions(np.arange(case["total"])).tolist() == expected
    for case in VECTORS["slots"]:
        for pipeline, steps in enumerate(case["slots"]):
            split = Split(
                policy=case["policy"], num_pipelines=case["pipelines"], pipeline_id=pipeline,
                num_replicas=case["replicas"], batch_size=case["size"],
            )  # fmt: skip
            starts, stops = split.slots(0, len(steps), case["total"])
            assert np.stack([starts, stops], axis=2).tolist() == steps
            assert split.num_steps(case["total"], "empty") == len(steps)
