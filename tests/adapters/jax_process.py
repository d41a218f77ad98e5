"""One of some JAX processes: prints the records that its devices hold, step by step.

    jax_process.py DATA_SET PORT PROCESS NUM_PROCESSES [STATE NUM_STEPS]

With a state, as JSON ("{}" for the beginning), it reads so many steps from there on (0: all), data parallel, and prints
the state behind them as well.
"""

import json
import sys

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import recordio


def own_records(batch, mask):
    """Of the devices of this process, in the order of the batch."""
    own = {}
    for ids, kept in zip(batch["id"].addressable_shards, mask.addressable_shards, strict=True):
        own[ids.index[0].start or 0] = np.asarray(ids.data)[np.asarray(kept.data)].tolist()
    return [number for _, part in sorted(own.items()) for number in part]


def resume(path, state, num_steps):
    sharding = NamedSharding(Mesh(np.array(jax.devices()), ("data",)), PartitionSpec("data"))
    batches = recordio.open(path).shuffle(seed=1).batch(36).to_jax(sharding)
    if state:
        batches.load_state_dict(state)
    steps = []
    for batch, mask in batches:
        steps.append(own_records(batch, mask))
        if len(steps) == num_steps:
            break
    print(json.dumps({"steps": steps, "state": batches.state_dict()}), flush=True)


def main(path, port, process, num_processes, state=None, num_steps=0):
    if num_processes > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"127.0.0.1:{port}", num_processes, process)
    if state is not None:
        resume(path, state, num_steps)
        return
    devices = np.array(jax.devices())
    assert len(devices) == 4 and jax.local_device_count() == 2
    found = {}
    meshes = {
        "data parallel": Mesh(devices, ("data",)),
        "model parallel within a process": Mesh(devices.reshape(2, 2), ("data", "model")),
        "model parallel over processes": Mesh(devices.reshape(2, 2), ("model", "data")),
    }
    for name, mesh in meshes.items():
        loader = recordio.open(path).shuffle(seed=1).batch(32).to_jax(NamedSharding(mesh, PartitionSpec("data")))
        steps = []
        for batch, mask in loader:
            # What all processes together compute of the global array.
            total = int(jax.jit(lambda ids, mask: (ids * mask).sum())(batch["id"], mask))
            steps.append([total, own_records(batch, mask)])
        found[name] = steps
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]), *map(json.loads, sys.argv[5:]))
