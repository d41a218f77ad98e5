"""torchrun, two processes, gloo, DDP: stopped in the middle of an epoch, and resumed with one and with three."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from tests.laws.data_sets import fresh_directory

pytest.importorskip("torch")
ROOT = Path(__file__).parents[2]
NUM_RECORDS, STOP = 203, 10  # seven steps an epoch: it stops within the second
SCRIPT = Path(__file__).with_name("torch_ddp.py")


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(NUM_RECORDS, 4)).astype(np.float32)
    records = {"id": np.arange(NUM_RECORDS), "x": x, "y": x.sum(axis=1, keepdims=True)}
    with fresh_directory() as directory:
        recordio.convert(recordio.from_tensor_slices(records), directory / "set", num_shards=5, chunk_size=700)
        yield directory / "set"


def train(path: Path, checkpoint: Path, world_size: int, num_steps: int) -> dict[str, Any]:
    """What rank 0 prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world_size}",
            str(SCRIPT), str(path), str(checkpoint), str(num_steps),
        ],
        capture_output=True, text=True, env=environment, check=False, timeout=150,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    return found


@pytest.mark.timeout(300)
def test_training_is_the_same_whatever_the_number_of_processes(path: Path, tmp_path: Path) -> None:
    """Losses of two processes are those of one, on the same global batches; so they are after a resume with 1 and 3."""
    alone = train(path, tmp_path / "alone", 1, 10**6)
    assert len(alone["losses"]) == 14
    two = train(path, tmp_path / "two", 2, STOP)
    assert [sorted(step) for step in two["seen"]] == [sorted(step) for step in alone["seen"][:STOP]]
    np.testing.assert_allclose(two["losses"], alone["losses"][:STOP], rtol=1e-4)
    for world_size in (1, 3):
        shutil.copy(tmp_path / "two", tmp_path / "again")
        rest = train(path, tmp_path / "again", world_size, 10**6)
        np.testing.assert_allclose(two["losses"] + rest["losses"], alone["losses"], rtol=1e-4)
        steps = two["seen"] + rest["seen"]
        for epoch in (steps[:7], steps[7:]):
            assert sorted(number for step in epoch for number in step) == list(range(NUM_RECORDS))
