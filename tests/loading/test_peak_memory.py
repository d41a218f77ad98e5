"""What a shuffle of a data set that is larger than its pool takes at most, by default."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import recordio
from tests.laws.data_sets import fresh_directory

NUM_BATCHES, BATCH_SIZE = 1856, 512

# What getrusage says on Linux includes the process that this one was started from.
READ = """
import resource, sys
import recordio
loader = recordio.open(sys.argv[1]).shuffle(seed=0, mode="pooled").batch(256).with_options(workers=int(sys.argv[2]))
count = sum(len(batch["label"]) for batch in loader)
try:
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
except OSError:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(count, peak)
"""


@pytest.fixture(scope="module")
def large() -> Iterator[Path]:
    """Records of a picture and a label, which compress well."""
    rng = np.random.default_rng(0)
    images = np.repeat(np.repeat(rng.integers(0, 256, (BATCH_SIZE, 7, 7), np.uint8), 4, axis=1), 4, axis=2)
    spec = {"image": recordio.TensorSpec((28, 28), "uint8"), "label": recordio.TensorSpec((), "int64")}
    with fresh_directory() as directory:
        with recordio.Writer(directory / "large", spec, workers=2) as writer:
            for number in range(NUM_BATCHES):
                writer.write_batch({"image": images, "label": np.full(BATCH_SIZE, number)})
        yield directory / "large"


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_pooled_epoch_of_a_large_data_set_stays_under_400_mb(large: Path, workers: int) -> None:
    """752 MB of records, read through the default pool (spec/order.md, section 4)."""
    done = subprocess.run(
        [sys.executable, "-c", READ, str(large), str(workers)],
        capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    count, peak = map(int, done.stdout.split())
    print(f"peak {peak / 1e6:.0f} MB")
    assert count == NUM_BATCHES * BATCH_SIZE
    assert peak < 400e6
