"""DatasetCreator of legacy Keras: its dataset_fn is ours (spec/adapters.md, section 3). tf-keras is installed apart.

tf-keras and Keras 3 are both `tf.keras`, by a variable; so it lies in a directory of its own, which is made once, and
which only the processes of these tests see.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import recordio
from tests.frameworks.tf_workers import ROOT, run_workers
from tests.laws.data_sets import fresh_directory

tf = pytest.importorskip("tensorflow")

PROGRAM = str(Path(__file__).with_name("tf_keras_creator.py"))
NUM_RECORDS = 50  # six batches of 8, and one of 2
MAX_RUN_S = 120  # alone it takes about 15


@pytest.fixture(scope="session")
def legacy_keras(pytestconfig: pytest.Config) -> Path:
    """A directory with the tf-keras that belongs to this TensorFlow, and nothing else."""
    release = ".".join(tf.__version__.split(".")[:2])
    place = Path(pytestconfig.cache.mkdir(f"tf-keras-{release}")) / "site"
    if not place.exists():
        fresh = place.with_name("fresh")
        done = subprocess.run(
            [
                sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--upgrade",
                "--target", str(fresh), f"tf-keras=={release}.*",
            ],
            capture_output=True, text=True, check=False, timeout=100,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        fresh.rename(place)
    return place


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    with fresh_directory() as directory:
        records = {"id": np.arange(NUM_RECORDS, dtype=np.int32)}
        recordio.convert(recordio.from_tensor_slices(records), directory / "set", num_shards=3, chunk_size=40)
        yield directory / "set"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("strategy", ["mirrored", "multi-worker", "parameter server"])
def test_fit_with_a_dataset_creator_trains_on_the_right_records(
    legacy_keras: Path, path: Path, tmp_path: Path, strategy: str
) -> None:
    """Every record once an epoch, under MirroredStrategy, MultiWorkerMirroredStrategy and ParameterServerStrategy.

    The last one with one worker: of several each has epochs of its own, and how many steps it takes of them is chance.
    """
    environment = {"TF_USE_LEGACY_KERAS": "1", "PYTHONPATH": f"{ROOT}:{legacy_keras}"}
    num_processes = 2 if strategy == "multi-worker" else 1
    answers = run_workers(
        PROGRAM, [str(path), strategy], num_processes, tmp_path, timeout_s=MAX_RUN_S, environment=environment
    )
    for answer in answers:
        counts = np.array(answer)
        assert (counts == counts[0]).all() and counts[0] > 0
