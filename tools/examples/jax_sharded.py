"""JAX, data-parallel over all devices:   XLA_FLAGS=--xla_force_host_platform_device_count=4 python jax_sharded.py

With jax.distributed.initialize() in front the same on many processes: each reads what its devices hold.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from digits_data import CLASSES, SIZE, arguments, open_digits
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def logits(weights: Any, image: Any) -> Any:
    x = image.reshape(len(image), -1) / 16
    return jax.nn.relu(x @ weights["w1"] + weights["b1"]) @ weights["w2"] + weights["b2"]


def mean_loss(weights: Any, batch: Any, mask: Any) -> Any:
    """Of the records that are there: a last batch that is short is filled up, and `mask` says with how many."""
    losses = -jnp.take_along_axis(jax.nn.log_softmax(logits(weights, batch["image"])), batch["label"][:, None], 1)[:, 0]
    return (losses * mask).sum() / mask.sum()


@jax.jit
def train_step(weights: Any, momentum: Any, batch: Any, mask: Any) -> Any:
    gradients = jax.grad(mean_loss)(weights, batch, mask)
    momentum = jax.tree.map(lambda m, g: 0.9 * m + g, momentum, gradients)
    return jax.tree.map(lambda w, m: w - 0.05 * m, weights, momentum), momentum


@jax.jit
def count_right(weights: Any, batch: Any, mask: Any) -> Any:
    return ((logits(weights, batch["image"]).argmax(1) == batch["label"]) * mask).sum()


def main() -> None:
    options = arguments(__doc__, epochs=20)
    train, test = open_digits(options.data)
    sharding = NamedSharding(Mesh(np.array(jax.devices()), ("data",)), PartitionSpec("data"))
    batches = train.shuffle(seed=0).batch(64).to_jax(sharding)
    one, two = jax.random.split(jax.random.key(0))
    weights = {
        "w1": jax.random.normal(one, (SIZE * SIZE, 128)) / SIZE, "b1": jnp.zeros(128),
        "w2": jax.random.normal(two, (128, CLASSES)) / 11, "b2": jnp.zeros(CLASSES),
    }  # fmt: skip
    momentum = jax.tree.map(jnp.zeros_like, weights)
    for _ in range(options.epochs):
        for batch, mask in batches:  # global arrays, spread over the devices
            weights, momentum = train_step(weights, momentum, batch, mask)
    right = sum(int(count_right(weights, batch, mask)) for batch, mask in test.batch(256).to_jax(sharding))
    print(f"{jax.device_count()} devices: test accuracy {right / len(test):.4f}")


if __name__ == "__main__":
    main()
