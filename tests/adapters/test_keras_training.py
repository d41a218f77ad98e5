"""Keras runs that are stopped, and runs of several processes (spec/adapters.md, section 2)."""

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
from tests.laws.data_sets import damage_shard, fresh_directory
from tests.laws.processes import ROOT, run_together

HERE = Path(__file__).parent
NUM_RECORDS = 203  # 29 batches of 7; six of 32 and one of 11


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(NUM_RECORDS, 4)).astype(np.float32)
    records = {
        "id": np.arange(NUM_RECORDS, dtype=np.int32), "label": np.zeros(NUM_RECORDS, np.float32), "x": x,
        "y": x.sum(axis=1, keepdims=True) + 1,
    }  # fmt: skip
    with fresh_directory() as directory:
        recordio.convert(recordio.from_tensor_slices(records), directory / "set", num_shards=5, chunk_size=700)
        yield directory / "set"


def environment(**variables: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT}:{HERE}", "TF_CPP_MIN_LOG_LEVEL": "3", **variables}


def run(script: str, *arguments: Any, status: int = 0, **variables: str) -> tuple[Any, str]:
    """The JSON that a script prints last, and its stderr."""
    done = subprocess.run(
        [sys.executable, str(HERE / script), *map(str, arguments)], capture_output=True, text=True, timeout=150,
        env=environment(**variables), check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr[-3000:]
    return (json.loads(done.stdout.strip().splitlines()[-1]) if not status else None), done.stderr


@pytest.mark.timeout(400)
@pytest.mark.parametrize("backend", ["jax", "torch", "tensorflow"])
def test_a_run_that_dies_goes_on_behind_its_last_backup(path: Path, tmp_path: Path, backend: str) -> None:
    """Killed three times, twice of these in one epoch; in the end every record was trained on three times."""
    # Epochs of 29 batches, backups after every fifth: it dies after batch 12 of epoch 0, then (backups count on from
    # what was restored) twice within epoch 1.
    for batches in (12, 33, 11):
        run("keras_backup.py", path, tmp_path / "backup", batches, 5, status=9, KERAS_BACKEND=backend)
    found, errors = run("keras_backup.py", path, tmp_path / "backup", 10**6, 5, KERAS_BACKEND=backend)
    assert found["counts"] == [3.0]
    assert found["epoch"] == 3
    assert "ran out of data" not in errors


@pytest.mark.parametrize("batches", [29, 40])
def test_backups_of_whole_epochs(path: Path, tmp_path: Path, batches: int) -> None:
    """With save_freq="epoch" an epoch is begun again, and its batches are the same."""
    run("keras_backup.py", path, tmp_path / "backup", batches, "epoch", status=9, KERAS_BACKEND="jax")
    found, _ = run("keras_backup.py", path, tmp_path / "backup", 10**6, "epoch", KERAS_BACKEND="jax")
    assert found["counts"] == [3.0]
    assert found["epochs"] == list(range(batches // 29 if batches > 29 else 0, 3))


def test_a_backup_behind_the_last_batch_of_an_epoch(path: Path, tmp_path: Path) -> None:
    """Nothing is left of that epoch: the next one begins."""
    run("keras_backup.py", path, tmp_path / "backup", 29, 29, status=9, KERAS_BACKEND="jax")
    found, _ = run("keras_backup.py", path, tmp_path / "backup", 10**6, 29, KERAS_BACKEND="jax")
    assert found["counts"] == [3.0] and found["epochs"] == [1, 2]


def test_stops_within_one_process(path: Path) -> None:
    """Of the same data set, between two files of a backup, with several steps at once; what does not fit is refused."""
    found, _ = run("keras_stops.py", path, KERAS_BACKEND="jax")
    assert found.pop("and another fit") == [2.0]
    assert "batch" in found.pop("another batch size") and "seed" in found.pop("another order")
    assert "fit" in found.pop("endless")
    assert len(found) == 5
    for case, counts in found.items():
        assert counts == [3.0], case


def test_a_backup_of_another_order_is_refused(path: Path, tmp_path: Path) -> None:
    """Keras shuffles batches unless it is told not to: nobody would know which were trained on."""
    _, errors = run("keras_backup.py", path, tmp_path / "backup", 10**6, 5, "shuffle", status=1, KERAS_BACKEND="jax")
    assert "shuffle=False" in errors and "random order" in errors


@pytest.mark.timeout(300)
def test_two_processes_of_a_distribution_train_as_one(path: Path) -> None:
    """Two processes with two devices each see every record once, and have the losses and weights of one process."""
    alone, _ = run("keras_process.py", path, 0, 0, 1, XLA_FLAGS="--xla_force_host_platform_device_count=4")
    devices = "--xla_force_host_platform_device_count=2"
    first, second = run_together(HERE / "keras_process.py", path, 2, XLA_FLAGS=devices)
    assert first["steps"] == second["steps"] == alone["steps"] == 14
    np.testing.assert_allclose(first["losses"], alone["losses"], rtol=1e-5)
    np.testing.assert_allclose(first["weights"], alone["weights"], rtol=1e-5)
    together = [a + b for a, b in zip(first["seen"], second["seen"], strict=True)]
    assert together == alone["seen"]
    assert sorted(number for step in together for number in step) == list(range(NUM_RECORDS))
    # It would be sharded twice; its last batch cannot be shared; it is another's part; the distribution is another one.
    expected = "wants to shard", "has less than 32", "part 1 of 3", "may have less than 32", "another one than when"
    for text, words in zip(first["refused"], expected, strict=True):
        assert words in text


REFUSED = """
import sys, keras, numpy as np, recordio
path, damaged = sys.argv[1:]
ds = recordio.open(path)
torn = recordio.open(damaged, on_corrupt="skip")
values = recordio.from_tensor_slices(np.zeros(9))

def refused(words, make):
    try:
        make()
    except recordio.RequestError as error:
        assert words in str(error), error
    else:
        raise AssertionError(words)

refused("a record is one value, and has no column 0", lambda: values.batch(3).to_keras(x=0))
refused("fewer batches than fit is told", lambda: torn.batch(7).to_keras(x="x", y="y"))
shuffled = torn.shuffle(seed=0).batch(7).to_keras(x="id", y="y")
assert 0 < sum(len(shuffled[number][0]) for number in range(shuffled.num_batches)) < len(torn)
keras.distribution.set_distribution(keras.distribution.DataParallel())
refused("less than 32 records", lambda: ds.batch(32).repeat().to_keras(x="x", y="y"))
refused("less rows", lambda: torn.batch(32, drop_remainder=True).to_keras(x="x", y="y"))
ones = ds.map(lambda one: {**one, "label": one["label"] + 1}).batch(32)
weighted = ones.to_keras(x="x", y="y", sample_weight=["label"], remainder="pad")
assert weighted[6][2]["label"].tolist() == [1.0] * 11 + [0.0] * 21
print("done")
"""


def test_what_keras_cannot_be_given_is_refused(path: Path, tmp_path: Path) -> None:
    """By an error that says what to do."""
    shutil.copytree(path, tmp_path / "set")
    damage_shard(tmp_path / "set", 2, place=0.2)
    done = subprocess.run(
        [sys.executable, "-c", REFUSED, str(path), str(tmp_path / "set")], capture_output=True, text=True, timeout=100,
        env=environment(KERAS_BACKEND="jax", XLA_FLAGS="--xla_force_host_platform_device_count=4"),
    )  # fmt: skip
    assert done.stdout == "done\n", done.stderr[-2000:]


WARNING = """
import sys, warnings, recordio
warnings.simplefilter("error")
loader = recordio.open(sys.argv[1]).batch(7)
try:
    loader.to_keras(x="x", y="y")
except UserWarning as warning:
    print("WORDS", warning)
"""


@pytest.mark.parametrize(("backend", "is_warned"), [("torch", True), ("jax", False)])
def test_separate_models_are_warned_of(path: Path, backend: str, is_warned: bool) -> None:
    """The torch backend under torchrun."""
    done = subprocess.run(
        [sys.executable, "-c", WARNING, str(path)], capture_output=True, text=True, timeout=100,
        env=environment(KERAS_BACKEND=backend, RANK="1", WORLD_SIZE="2", LOCAL_RANK="1", LOCAL_WORLD_SIZE="2"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert ("2 processes" in done.stdout and "separate model" in done.stdout) == is_warned
