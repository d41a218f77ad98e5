"""JAX: global arrays over a sharding (spec/adapters.md, section 5). Eight devices, in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import recordio
from tests.laws.data_sets import damage_shard
from tests.laws.processes import ROOT, run_together

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
for size, other in ((30, sharding), (32, NamedSharding(mesh, PartitionSpec("data", "model")))):
    try:
        ds.batch(size).to_jax(other)
    except recordio.RequestError as error:
        assert f"does not fit batches of {size}" in str(error) and "first axis alone" in str(error)
    else:
        raise AssertionError("a sharding that does not fit")
on_one = next(iter(ds.batch(32).to_jax(devices[3])))[0]["id"]
assert on_one.devices() == {devices[3]}
for other in (mesh, PartitionSpec("data"), "cpu"):
    try:
        ds.batch(32).to_jax(other)
    except TypeError as error:
        assert "NamedSharding(mesh, PartitionSpec" in str(error)
    else:
        raise AssertionError(f"{other!r} is no sharding")
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


def run_processes(path: Path, num_processes: int, *arguments: str) -> list[Any]:
    """What each of some processes with two devices prints."""
    devices = "--xla_force_host_platform_device_count=2"
    script = Path(__file__).with_name("jax_process.py")
    return run_together(script, path, num_processes, *arguments, XLA_FLAGS=devices, JAX_PLATFORMS="cpu")


def test_resuming_with_other_processes_loses_nothing(tmp_path: Path) -> None:
    """Two processes stop in the middle of an epoch; one and three go on. The state is the same on both, and exact."""
    ids = np.arange(203, dtype=np.int32)
    recordio.convert(recordio.from_tensor_slices({"id": ids}), tmp_path / "set", num_shards=3, chunk_size=100)
    stopped = run_processes(tmp_path / "set", 2, "{}", "2")
    assert stopped[0]["state"] == stopped[1]["state"] and stopped[0]["state"]["consumed"] == 72
    seen = [number for found in stopped for step in found["steps"] for number in step]
    for num_processes in (1, 3):
        found = run_processes(tmp_path / "set", num_processes, json.dumps(stopped[0]["state"]), "0")
        assert {len(one["steps"]) for one in found} == {4}
        rest = [number for one in found for step in one["steps"] for number in step]
        assert sorted(seen + rest) == list(range(203))


def test_two_processes_read_what_their_devices_hold(tmp_path: Path) -> None:
    """Together the global batches of one process; where a model is spread over both, each reads all of it."""
    ids = np.arange(203, dtype=np.int32)
    recordio.convert(recordio.from_tensor_slices({"id": ids}), tmp_path / "set", num_shards=3, chunk_size=100)
    first, second = run_processes(tmp_path / "set", 2)
    expected = [batch["id"].tolist() for batch in recordio.open(tmp_path / "set").shuffle(seed=1).batch(32)]
    for name in first:
        assert len(first[name]) == len(second[name]) == len(expected)
        for one, other, batch in zip(first[name], second[name], expected, strict=True):
            assert one[0] == other[0] == sum(batch)
            if name == "model parallel over processes":
                assert one[1] == other[1] == batch
            else:
                assert one[1] + other[1] == batch


def test_integers_are_narrowed_where_they_fit(tmp_path: Path) -> None:
    """JAX has 32 bits by default; what does not fit is an error that names the column, and no other number."""
    wide = np.array([0, 1, 2**31 - 1, -(2**31), 2**31, 5, 0, 0])
    recordio.convert(recordio.from_tensor_slices({"a": {"wide": wide}}), tmp_path / "set")
    batches = iter(recordio.open(tmp_path / "set").batch(4).to_jax(buffer_size=0))
    batch, _ = next(batches)
    assert batch["a"]["wide"].dtype == np.int32 and batch["a"]["wide"].tolist() == wide[:4].tolist()
    with pytest.raises(recordio.RequestError, match=r"2147483648 is no int32.*column 'a/wide'.*jax_enable_x64"):
        next(batches)
    with jax.enable_x64(True):
        assert next(iter(recordio.open(tmp_path / "set")[4:].batch(4).to_jax()))[0]["a"]["wide"].dtype == np.int64


def test_parts_of_batches_and_shapes_that_differ_are_refused(tmp_path: Path) -> None:
    """Records that are skipped leave rows that the mask says of; without a mask there is no such batch."""
    recordio.convert(
        recordio.from_tensor_slices({"id": np.arange(200, dtype=np.int32)}), tmp_path / "set", num_shards=4,
    )  # fmt: skip
    with pytest.raises(recordio.RequestError, match="this is a part already"):
        recordio.distribute(recordio.open(tmp_path / "set").batch(8)).to_jax()
    damage_shard(tmp_path / "set", 2)
    torn = recordio.open(tmp_path / "set", on_corrupt="skip")
    with pytest.raises(recordio.RequestError, match="another shape"):
        torn.batch(20, drop_remainder=True).to_jax()
    seen = [np.asarray(batch["id"])[np.asarray(mask)].tolist() for batch, mask in torn.batch(20).to_jax()]
    assert len(seen) == 10 and 0 < sum(map(len, seen)) < 200
