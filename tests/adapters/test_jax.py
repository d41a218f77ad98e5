"""JAX: global arrays over a sharding (spec/adapters.md, section 5). Eight devices, in a process of their own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

import recordio

ROOT = Path(__file__).parents[2]
EIGHT_DEVICES = """
import sys
import jax, numpy as np, recordio
from jax.sharding import Mesh, NamedSharding, PartitionSpec

ds = recordio.open(sys.argv[1])
devices = np.array(jax.devices())
assert len(devices) == 8
for mesh, spec in (
    (Mesh(devices, ("data",)), PartitionSpec("data")),
    (Mesh(devices.reshape(4, 2), ("data", "model")), PartitionSpec("data")),
    (Mesh(devices.reshape(2, 4), ("model", "data")), PartitionSpec("data")),
):
    sharding = NamedSharding(mesh, spec)
    loader = ds.shuffle(seed=1).batch(32).to_jax(sharding)
    seen = []
    steps = 0
    for batch, mask in loader:
        assert batch["image"].shape == (32, 2, 2) and batch["image"].sharding == sharding
        assert mask.shape == (32,) and mask.dtype == bool
        seen += np.asarray(batch["id"])[np.asarray(mask)].tolist()
        steps += 1
    assert steps == len(loader) == 7 and sorted(seen) == list(range(203)), (steps, sorted(seen))
    assert sum(1 for _ in ds.batch(32, drop_remainder=True).to_jax(sharding)) == 6
    for buffer_size in (0, 1, 3):
        first = ds.shuffle(seed=1).batch(32).to_jax(sharding, buffer_size=buffer_size)
        before = []
        for step, (batch, mask) in enumerate(first):
            before += np.asarray(batch["id"])[np.asarray(mask)].tolist()
            if step == 2:
                break
        assert before == seen[:96]
        rest = ds.shuffle(seed=1).batch(16).to_jax(sharding)
        rest.load_state_dict(first.state_dict())
        after = [n for batch, mask in rest for n in np.asarray(batch["id"])[np.asarray(mask)].tolist()]
        assert sorted(before + after) == list(range(203))
try:
    ds.batch(30).to_jax(sharding)
except recordio.RequestError as error:
    assert "30" in str(error)
else:
    raise AssertionError("a batch that the sharding does not divide")
print("done")
"""


def test_arrays_are_spread_over_eight_devices(tmp_path: Path) -> None:
    """Data-parallel and model-parallel meshes: every record once, the same shape at every step."""
    records = {"id": np.arange(203, dtype=np.int32), "image": np.zeros((203, 2, 2), np.uint8)}
    recordio.convert(recordio.from_tensor_slices(records), tmp_path / "set", num_shards=3, chunk_size=300)
    environment = {
        **os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", EIGHT_DEVICES, str(tmp_path / "set")], capture_output=True, text=True, env=environment,
        check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().endswith("done")


def run_processes(path: Path, num_processes: int, *arguments: str, num_devices: int) -> list[Any]:
    """What each of some processes prints."""
    environment = {
        **os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={num_devices}", "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    script = str(Path(__file__).with_name("jax_process.py"))
    processes = [
        subprocess.Popen(
            [sys.executable, script, str(path), str(port), str(number), str(num_processes), *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )
        for number in range(num_processes)
    ]  # fmt: skip
    try:
        ended = [process.communicate(timeout=150) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert not any(process.returncode for process in processes), "".join(errors[-2000:] for _, errors in ended)
    return [json.loads(output.strip().splitlines()[-1]) for output, _ in ended]


def test_resuming_with_other_processes_loses_nothing(tmp_path: Path) -> None:
    """Two processes stop in the middle of an epoch; one and three go on. The state is the same on both, and exact."""
    ids = np.arange(203, dtype=np.int32)
    recordio.convert(recordio.from_tensor_slices({"id": ids}), tmp_path / "set", num_shards=3, chunk_size=100)
    stopped = run_processes(tmp_path / "set", 2, "{}", "2", num_devices=2)
    assert stopped[0]["state"] == stopped[1]["state"] and stopped[0]["state"]["consumed"] == 72
    seen = [number for found in stopped for step in found["steps"] for number in step]
    for num_processes in (1, 3):
        found = run_processes(tmp_path / "set", num_processes, json.dumps(stopped[0]["state"]), "0", num_devices=2)
        assert {len(one["steps"]) for one in found} == {4}
        rest = [number for one in found for step in one["steps"] for number in step]
        assert sorted(seen + rest) == list(range(203))


def test_two_processes_read_what_their_devices_hold(tmp_path: Path) -> None:
    """Together the global batches of one process; where a model is spread over both, each reads all of it."""
    ids = np.arange(203, dtype=np.int32)
    recordio.convert(recordio.from_tensor_slices({"id": ids}), tmp_path / "set", num_shards=3, chunk_size=100)
    first, second = run_processes(tmp_path / "set", 2, num_devices=2)
    expected = [batch["id"].tolist() for batch in recordio.open(tmp_path / "set").shuffle(seed=1).batch(32)]
    for name in first:
        assert len(first[name]) == len(second[name]) == len(expected)
        for one, other, batch in zip(first[name], second[name], expected, strict=True):
            assert one[0] == other[0] == sum(batch)
            if name == "model parallel over processes":
                assert one[1] == other[1] == batch
            else:
                assert one[1] + other[1] == batch
