"""Keras 3 trains on every record once in each epoch, whatever it reads besides (spec/adapters.md, section 2)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from tests.laws.data_sets import fresh_directory

ROOT = Path(__file__).parents[2]
NUM_RECORDS = 60  # nine batches of 7, the last of 4


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    with fresh_directory() as directory:
        records = {"id": np.arange(NUM_RECORDS, dtype=np.int32), "label": np.zeros(NUM_RECORDS, np.float32)}
        recordio.convert(recordio.from_tensor_slices(records), directory / "set", num_shards=3, chunk_size=64)
        yield directory / "set"


def run_script(backend: str, path: Path) -> dict[str, Any]:
    """What the script prints, under a backend of Keras."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("keras_epochs.py")), str(path)],
        capture_output=True, text=True, env=environment, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("backend", ["jax", "torch", "tensorflow"])
def test_every_epoch_trains_on_every_record_once(path: Path, backend: str) -> None:
    """Two epochs: every weight was moved twice; shuffled or not, on none, two threads and two processes."""
    found = run_script(backend, path)
    assert sorted(found.pop("predict")) == list(range(NUM_RECORDS))
    # From the epoch that fit names; a second fit goes on.
    assert found.pop("epochs") == [3, 4, 5, 6]
    # Parts of one, two and three processes: every record once in as many steps; scribbled over, they are read again.
    for parts in found.pop("parts"):
        assert parts["first"] == parts["again"]
        assert len({len(part) for part in parts["first"]}) == 1
        assert sorted(n for part in parts["first"] for batch in part for n in batch) == list(range(NUM_RECORDS))
    for what, one in found.items():
        assert one["counts"] == [2.0], what
        if "told True" in what:
            assert one["epoch"] == 2, what
    assert len(found) == 18
