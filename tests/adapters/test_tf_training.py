"""Real strategies train on the global batches, in two processes as in one, and go on from a state with another number.

MultiWorkerMirroredStrategy with TF_CONFIG, a custom loop, 57 records in batches of 8: at the last step of an epoch one
record is left, and most replicas have zero rows (spec/adapters.md, section 3).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from tests.frameworks.tf_workers import run_workers
from tests.laws.data_sets import fresh_directory

pytest.importorskip("tensorflow")
PROGRAM = str(Path(__file__).with_name("tf_training.py"))
NUM_RECORDS, BATCH_SIZE, STEPS, STOP = 57, 8, 8, 11  # it stops within the second epoch
WEIGHTS = [0.5, 0.0, -0.5]
POLICIES = ["AUTO", "DATA", "FILE", "OFF"]
MAX_RUN_S = 150  # alone it takes about 15

Found = list[list[Any]]  # [task][process]


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    x = np.random.default_rng(0).normal(size=(NUM_RECORDS, 3)).astype(np.float32)
    records = {"id": np.arange(NUM_RECORDS), "x": x, "y": x.sum(axis=1)}
    with fresh_directory() as directory:
        recordio.convert(recordio.from_tensor_slices(records), directory / "set", num_shards=3, chunk_size=200)
        yield directory / "set"


def run(path: Path, directory: Path, num_processes: int, local: int, tasks: list[dict[str, Any]]) -> Found:
    directory.mkdir()
    asked = json.dumps({"local_replicas": local, "tasks": tasks})
    answers = run_workers(PROGRAM, [str(path), asked], num_processes, directory, timeout_s=MAX_RUN_S)
    return [list(found) for found in zip(*answers, strict=True)]


def task(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "train", "state": None, "weights": WEIGHTS, "steps": None, "num_records": NUM_RECORDS,
        "remainder": "empty", "is_declared": True, **changes,
    }  # fmt: skip


@pytest.fixture(scope="module")
def found(path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, int], Found]:
    """What processes and replicas saw, by their numbers: the tasks of each are those of this list."""
    tasks = [
        task(), task(remainder="pad"), task(remainder="drop"), task(steps=STOP),
        task(num_records=NUM_RECORDS - 2, is_declared=False), {"kind": "count", "epochs": 3},
        *({"kind": "look", "policy": policy} for policy in POLICIES),
    ]  # fmt: skip
    topologies = [(1, 1), (1, 2), (2, 1), (2, 2)]
    with ThreadPoolExecutor(2) as executor:
        runs = {
            topology: executor.submit(run, path, tmp_path_factory.mktemp("run") / "first", *topology, tasks)
            for topology in topologies
        }
        return {topology: run.result() for topology, run in runs.items()}


def global_steps(processes: list[Any]) -> list[list[int]]:
    """The records of every step, all processes together, replica by replica."""
    steps = zip(*(process["seen"] for process in processes), strict=True)
    return [[number for parts in step for part in parts for number in part] for step in steps]


@pytest.fixture(scope="module")
def batches(path: Path) -> list[list[int]]:
    """The global batches of two epochs."""
    loader = recordio.open(path).shuffle(seed=3).batch(BATCH_SIZE)
    return [batch["id"].tolist() for _ in range(2) for batch in loader]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("topology", [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_a_custom_loop_trains_on_the_global_batches(
    found: dict[tuple[int, int], Found], batches: list[list[int]], topology: tuple[int, int]
) -> None:
    """Every record once an epoch, equal steps, and the losses of one process, whatever is done at the end."""
    whole, padded, dropped = found[topology][:3]
    (alone,) = found[1, 1][0]
    assert len(alone["losses"]) == 2 * STEPS and len(batches[STEPS - 1]) == 1
    assert sorted(number for step in batches[:STEPS] for number in step) == list(range(NUM_RECORDS))
    assert global_steps(whole) == batches
    sizes = [len(part) for process in whole for part in process["seen"][STEPS - 1]]
    assert sorted(sizes) == [0] * (len(sizes) - 1) + [1]
    for process in (*whole, *padded):
        np.testing.assert_allclose(process["losses"], alone["losses"], rtol=1e-5)
        np.testing.assert_allclose(process["weights"], alone["weights"], rtol=1e-5)
        assert alone["losses"][-2] < alone["losses"][0] / 2
    num_replicas = topology[0] * topology[1]
    assert {len(part) for process in padded for step in process["seen"] for part in step} == {8 // num_replicas}
    assert global_steps(dropped) == [batch for batch in batches if len(batch) == BATCH_SIZE]
    assert {process["traces"] for process in (*whole, *padded, *dropped)} == {1}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("topology", [(1, 2), (2, 1), (2, 2)])
def test_a_step_may_be_traced_anew_on_one_process_alone(
    found: dict[tuple[int, int], Found], topology: tuple[int, int]
) -> None:
    """Seven records are left at the end: in two processes, one has as many as always, and the other has not."""
    processes, (alone,) = found[topology][4], found[1, 1][4]
    assert {len(process["losses"]) for process in processes} == {2 * 7}
    for process in processes:
        np.testing.assert_allclose(process["losses"], alone["losses"], rtol=1e-5)
    if topology == (2, 1):
        assert sorted(process["traces"] for process in processes) == [1, 2]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("topology", [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_an_epoch_may_be_one_call_of_a_graph(found: dict[tuple[int, int], Found], topology: tuple[int, int]) -> None:
    """Three of them have every record three times, and the last step does not hang."""
    assert found[topology][5] == [[3] * NUM_RECORDS] * topology[0]


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("before", "after"), [((2, 1), (1, 1)), ((1, 1), (2, 2))])
def test_another_number_of_processes_goes_on_from_a_state(
    found: dict[tuple[int, int], Found], batches: list[list[int]], path: Path, tmp_path: Path,
    before: tuple[int, int], after: tuple[int, int],
) -> None:
    """Stopped in the middle of an epoch, while tf.data had read on: no record is lost, and none comes twice."""
    stopped = found[before][3]
    states = [process["state"] for process in stopped]
    assert all(state == states[0] for state in states) and states[0]["consumed"] == (STOP - STEPS) * BATCH_SIZE
    assert global_steps(stopped) == batches[:STOP]
    rest = run(path, tmp_path / "rest", *after, [task(state=states[0], weights=stopped[0]["weights"])])[0]
    assert global_steps(stopped) + global_steps(rest) == batches
    (alone,) = found[1, 1][0]
    for process in rest:
        np.testing.assert_allclose(stopped[0]["losses"] + process["losses"], alone["losses"], rtol=1e-5)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("topology", [(1, 1), (1, 2), (2, 1), (2, 2)])
@pytest.mark.parametrize("policy", POLICIES)
def test_every_replica_gets_what_distribute_gives_it(
    found: dict[tuple[int, int], Found], path: Path, policy: str, topology: tuple[int, int]
) -> None:
    """Step by step, through tf.data; tests/frameworks/test_like_tf_distribute.py compares it with TensorFlow's own."""
    num_pipelines, local = topology
    loader = recordio.open(path).select_columns(["id"]).batch(BATCH_SIZE)
    for number, process in enumerate(found[topology][6 + POLICIES.index(policy)]):
        context = recordio.InputContext(num_pipelines, number, num_pipelines * local)
        expected = [
            [part["id"].tolist() for part in recordio.experimental_local_results(step)]
            for step in recordio.distribute(loader, context, policy=policy)
        ]
        assert process["seen"] == expected
