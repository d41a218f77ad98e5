"""Lightning's Trainer sees every record once an epoch, and goes on from a checkpoint (spec/adapters.md, section 4)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import recordio

pytest.importorskip("torch")
pytest.importorskip("torchdata.stateful_dataloader")
pytest.importorskip("lightning")

from tests.torch_adapter import lightning_fit  # it imports all of them

ROOT = Path(__file__).parents[2]
NUM_RECORDS, NUM_EPOCHS = 203, 3  # seven steps an epoch
MAX_RUN_S = 120  # alone it takes about 10


def seen(directory: Path) -> list[list[int]]:
    """The records of each epoch, of all processes and runs."""
    epochs: list[list[int]] = [[] for _ in range(NUM_EPOCHS)]
    for file in sorted(directory.glob("seen-*")):
        for line in file.read_text().splitlines():
            epoch, *numbers = map(int, line.split())
            epochs[epoch] += numbers
    return epochs


@pytest.mark.parametrize("num_workers", [-1, 0, 2])
@pytest.mark.parametrize("limits", [[(3, 3), (12, 3), (-1, 3)], [(-1, 1), (-1, 2), (-1, 3)]])
def test_a_trainer_stops_and_goes_on(
    path: Path, tmp_path: Path, num_workers: int, limits: list[tuple[int, int]]
) -> None:
    """In the middle of epochs, and at their ends: the records of a run that never stopped, in their order; read by ours
    alone, or by a StatefulDataLoader of torchdata."""
    loader = recordio.open(path).shuffle(seed=3).batch(lightning_fit.BATCH_SIZE)
    epochs = [[number for batch in loader for number in batch["id"].tolist()] for _ in range(NUM_EPOCHS)]
    for max_steps, max_epochs in limits:
        lightning_fit.main(path, tmp_path, 1, num_workers, max_steps, max_epochs)
    assert seen(tmp_path) == epochs


@pytest.mark.timeout(2 * MAX_RUN_S + 20)
def test_two_processes_stop_and_one_goes_on(path: Path, tmp_path: Path) -> None:
    """DDP by Lightning's own launcher, into the second epoch; the rest in a run of one process."""
    for num_processes, max_steps in ((2, 10), (1, -1)):
        done = subprocess.run(
            [
                sys.executable, str(lightning_fit.__file__), str(path), str(tmp_path), str(num_processes), "-1",
                str(max_steps), str(NUM_EPOCHS),
            ],
            capture_output=True, text=True, check=False, timeout=MAX_RUN_S,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
    assert len(list(tmp_path.glob("seen-*"))) == 2
    assert [sorted(epoch) for epoch in seen(tmp_path)] == [list(range(NUM_RECORDS))] * NUM_EPOCHS
