"""Resident memory while a generator is converted: the most that a fresh process ever held.

In a process of its own, since the high-water mark of a process never falls again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

LIMIT = 400e6  # bytes resident, for 2 GB converted (issue 2, "To be shown")


def measure(size: int, directory: str | None, *, num_shards: int | None = None) -> dict[str, Any]:
    """Convert `size` bytes of records from a generator in a new process; gives its peak, in bytes."""
    with tempfile.TemporaryDirectory(prefix="recordio-bench-", dir=directory) as path:
        here = Path(__file__).resolve()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here.parents[2]), str(here.parents[1])])}
        request = json.dumps({"size": size, "path": os.path.join(path, "set"), "num_shards": num_shards})
        command = [sys.executable, "-m", "bench_parts.memory", request]
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _images(size: int) -> Iterator[dict[str, Any]]:
    """Random photos of 150 KB, two of three compressible; few enough of them are made to cost no time."""
    import numpy as np

    rng = np.random.default_rng(0)
    kinds = [rng.integers(0, top, (224, 224, 3), np.uint8) for top in (256, 16, 4)]
    for number in range(size // kinds[0].nbytes):
        yield {"data": kinds[number % 3], "label": number}


def _peak() -> int:
    """The most resident bytes of this process; not of those it came from, as getrusage would have it."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) << 10
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << (0 if sys.platform == "darwin" else 10)


def _main() -> None:
    import recordio

    request = json.loads(sys.argv[1])
    signature = {"data": recordio.TensorSpec((224, 224, 3), "uint8"), "label": recordio.TensorSpec((), "int64")}
    source = recordio.from_generator(partial(_images, request["size"]), signature)
    recordio.convert(source, request["path"], num_shards=request["num_shards"])
    dataset = recordio.open(request["path"])
    print(json.dumps({"peak": _peak(), "raw_size": sum(s.raw_size for s in dataset.shards), "records": len(dataset)}))


if __name__ == "__main__":
    _main()
