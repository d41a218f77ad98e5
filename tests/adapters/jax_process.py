"""One of two JAX processes with two devices each: prints the records that its devices hold, step by step.

    jax_process.py DATA_SET PORT PROCESS
"""

import json
import sys

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import recordio


def main(path, port, process):
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, process)
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
            own = {}
            for ids, kept in zip(batch["id"].addressable_shards, mask.addressable_shards, strict=True):
                own[ids.index[0].start or 0] = np.asarray(ids.data)[np.asarray(kept.data)].tolist()
            steps.append([total, [number for _, part in sorted(own.items()) for number in part]])
        found[name] = steps
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
