"""The order: the vectors are what the reference prints, and the library gives the same (order.md, sections 1 to 7)."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordio import InputContext, RequestError, distribute, experimental_local_results
from recordio.plan.mixing import key, mix, permute
from recordio.plan.order import ExactOrder, OrderParameters, PooledOrder, resolve
from recordio.plan.splitting import Split, num_steps
from recordio.plan.stream import Stream
from recordio.plan.tape import Tape
from tests.laws.laid_out import laid_out

SPEC = Path(__file__).parents[2] / "spec"
REFERENCE = SPEC / "reference_order.py"
VECTORS: dict[str, Any] = json.loads((SPEC / "order_vectors.json").read_text("utf-8"))
REMAINDERS = ("empty", "pad", "drop", "error")


def tape_in_view(layout: list[list[int]], step: int) -> Tape:
    """The chunks that hold a row, where every step-th record of all is in view."""
    entries, number, row = [], 0, 0
    for shard, chunks in enumerate(layout):
        for chunk, size in enumerate(chunks):
            count = len(range(-number % step, size, step))
            if count:
                entries.append((shard, chunk, row, count))
            number, row = number + size, row + count
    shards, ordinals, starts, counts = np.array(entries, np.int64).T
    return Tape(shards=shards, chunks=ordinals, starts=starts, counts=counts)


def test_the_vectors_are_what_the_reference_prints():
    """It stands alone (`-I`: recordio cannot be found), and is short."""
    lines = REFERENCE.read_text("utf-8").splitlines()
    assert len(lines) < 250 and max(map(len, lines)) <= 120
    assert not [line for line in lines if line.startswith(("import numpy", "import recordio", "from recordio"))]
    printed = subprocess.run(
        [sys.executable, "-I", REFERENCE], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    assert json.loads(printed) == VECTORS


def test_mix_and_key():
    """Section 1."""
    numbers, expected = np.array(VECTORS["mix"], np.uint64).T
    assert mix(numbers).tolist() == expected.tolist()
    for *arguments, found in VECTORS["key"]:
        assert list(key(*arguments)) == found


@pytest.mark.parametrize(("n", "tweak", "pairs"), VECTORS["permute"]["cases"])
def test_permute(n, tweak, pairs):
    """Section 1."""
    x, expected = np.array(pairs, np.int64).T
    assert permute(x, n, tuple(VECTORS["permute"]["key"]), tweak).tolist() == expected.tolist()


@pytest.mark.parametrize(("n", "seed", "epoch", "a", "b", "rows"), VECTORS["exact"])
def test_exact_order(n, seed, epoch, a, b, rows):
    """Section 3."""
    assert ExactOrder(n, seed, (a, b)).rows(epoch, np.arange(n)).tolist() == rows


@pytest.mark.parametrize("case", VECTORS["pooled"])
def test_parameters_and_pooled_order(case):
    """Section 4; all positions at once, and one by one from the last."""
    tape = tape_in_view(case["layout"], case["step"])
    n = tape.num_records
    mode, lanes, window = case["resolved"]
    parameters = resolve(n, len(tape), case["mode"], case["pool"], record_size=1)
    assert parameters == OrderParameters(mode=mode, lanes=lanes, window=window)
    order = ExactOrder(n, case["seed"]) if mode == "exact" else PooledOrder(tape, parameters, case["seed"])
    assert order.rows(case["epoch"], np.arange(n)).tolist() == case["rows"]
    alone = [order.rows(case["epoch"], np.array([p])).item() for p in reversed(range(n))]
    assert alone[::-1] == case["rows"]


@pytest.mark.parametrize(("n", "size", "lanes", "epochs", "start", "batches"), VECTORS["batches"])
def test_batches(n, size, lanes, epochs, start, batches):
    """Section 5."""
    stream = Stream(num_records=n, start=start, stop=n * epochs, batch_size=size, num_lanes=lanes)
    assert stream.positions(np.arange(n * epochs - start)).tolist() == [*chain(*batches)]


@pytest.mark.parametrize("case", VECTORS["splits"])
@pytest.mark.filterwarnings("ignore:a global batch:UserWarning")
def test_splits(case):
    """Section 6; places in the streams, and records through the public doors."""
    dataset = laid_out([[9, 7], [], [8], [6, 6, 1], [12], [3, 3]]).shuffle(seed=1, mode="pooled", pool=case["pool"])
    has_own = case["policy"] in ("OFF", "FILE")
    for i in range(case["P"]):
        records = case["streams"][i if has_own else 0]["records"]
        expected = [step[i] for step in case["slots"]]
        split = Split(
            policy=case["policy"], num_pipelines=case["P"], pipeline_id=i, num_replicas=case["R"], batch_size=case["G"]
        )
        lanes = 1 if has_own else case["streams"][0]["resolved"][1]
        stream = Stream(num_records=len(records), stop=len(records), batch_size=case["G"], num_lanes=lanes)
        starts, stops = split.slots(0, len(expected), stream)
        assert np.stack([starts, stops], axis=2).tolist() == expected
        context = InputContext(case["P"], i, case["R"])
        dist = distribute(dataset.batch(case["G"]), context, policy=case["policy"], remainder="empty")
        found = [[slot["id"].tolist() for slot in experimental_local_results(step)] for step in dist]
        assert found == [[records[start:stop] for start, stop in step] for step in expected]


ENDS = [
    *VECTORS["steps"],
    *([case["policy"], case["P"], case["R"], case["G"], [len(stream["records"]) for stream in case["streams"]],
       [case["steps"][name] for name in REMAINDERS]] for case in VECTORS["splits"]),
]  # fmt: skip


@pytest.mark.parametrize(("policy", "pipelines", "replicas", "size", "totals", "expected"), ENDS)
def test_steps(policy, pipelines, replicas, size, totals, expected):
    """Section 7; none: an error."""
    splits = [
        Split(policy=policy, num_pipelines=pipelines, pipeline_id=i, num_replicas=replicas, batch_size=size)
        for i in range(pipelines)
    ]
    if policy in ("AUTO", "DATA"):
        totals = totals[:1] * pipelines
    for remainder, steps in zip(REMAINDERS, expected, strict=True):
        if steps is None:
            with pytest.raises(RequestError):
                num_steps(splits, totals, remainder)
        else:
            assert num_steps(splits, totals, remainder) == steps
