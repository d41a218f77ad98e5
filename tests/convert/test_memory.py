"""A conversion takes a bounded amount of memory, whatever the size of its source (issue 2; design.md, 5).

700 MB by default; 2 GB with RECORDIO_LONG_TESTS=1. Measured as the peak of a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RAW_SIZE = 2 << 30 if os.environ.get("RECORDIO_LONG_TESTS") else 700 << 20
LIMIT = 400 << 20  # bytes resident, the interpreter and its imports included

SCRIPT = """
import json, resource, sys
import numpy as np
import recordio

raw_size, record_size, options, path = json.loads(sys.argv[1])
draw = np.random.default_rng(0)
pictures = draw.integers(0, 16, (8, record_size), "uint8")

def source(shard=None, num_shards=None):
    for number in range(raw_size // record_size // (num_shards or 1)):
        yield {"number": number, "picture": pictures[number % 8], "text": "of all"}

class Batches:
    def __len__(self):
        return raw_size // record_size // 16
    def __getitem__(self, index):
        return {"picture": np.repeat(pictures[index % 8][None], 16, 0), "number": np.arange(16)}
    def on_epoch_end(self):
        pass

kind = options.pop("kind")
given = {"plain": lambda: source(), "shardable": source, "batches": Batches()}[kind]
if options.pop("signature"):
    options["output_signature"] = {
        "number": recordio.TensorSpec((), "int64"), "picture": recordio.TensorSpec((record_size,), "uint8"),
        "text": recordio.TensorSpec((), "str"),
    }
report = recordio.convert(given, path, level=1, **options)
try:
    # What getrusage says on Linux includes the process that this one was started from.
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
except OSError:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({"raw_size": report.raw_size, "peak": peak}))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("record_size", "options"),
    [
        (64 << 10, {"kind": "plain", "signature": True}),
        (64 << 10, {"kind": "plain", "signature": True, "num_shards": 5}),
        (8 << 20, {"kind": "plain", "signature": False}),
        (64 << 10, {"kind": "shardable", "signature": True, "num_shards": 8, "workers": 4}),
        (64 << 10, {"kind": "batches", "signature": False, "workers": 4}),
    ],
    ids=["in order", "spooled", "large records", "four threads", "batches"],
)
def test_memory_is_bounded(record_size, options, tmp_path):
    asked = json.dumps([RAW_SIZE, record_size, options, str(tmp_path / "set")])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, asked], cwd=ROOT, capture_output=True, text=True, check=False, timeout=850
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["raw_size"] >= RAW_SIZE * 0.99
    assert found["peak"] < LIMIT, f"{found['peak'] >> 20} MiB resident"
    print(f"{found['peak'] >> 20} MiB resident for {found['raw_size'] >> 20} MiB")
