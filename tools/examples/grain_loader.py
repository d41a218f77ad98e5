"""Grain shuffles, shards, batches and resumes; records come from recordio:   python grain_loader.py --data digits"""

from __future__ import annotations

from typing import Any

import grain.python as grain
import jax
import jax.numpy as jnp
from absl import app, flags
from digits_data import CLASSES, SIZE, open_digits

DATA = flags.DEFINE_string("data", "digits", "directory of the data set, made if it is not there")
EPOCHS = flags.DEFINE_integer("epochs", 20, "epochs to train")


def logits(weights: Any, image: Any) -> Any:
    x = image.reshape(len(image), -1) / 16
    return jax.nn.relu(x @ weights["w1"]) @ weights["w2"]


@jax.jit
def train_step(weights: Any, batch: Any) -> Any:
    def loss(weights: Any) -> Any:
        odds = jax.nn.log_softmax(logits(weights, batch["image"]))
        return -jnp.take_along_axis(odds, batch["label"][:, None], 1).mean()

    return jax.tree.map(lambda w, g: w - 0.5 * g, weights, jax.grad(loss)(weights))


def batches_of(source: Any, num_workers: int) -> Any:
    """Every process of a larger run takes its shard: ShardByJaxProcess instead of NoSharding."""
    whole = grain.NoSharding()
    sampler = grain.IndexSampler(len(source), whole, shuffle=True, num_epochs=EPOCHS.value, seed=0)
    return iter(grain.DataLoader(
        data_source=source, sampler=sampler, operations=[grain.Batch(60)], worker_count=num_workers
    ))  # fmt: skip


def main(_: Any) -> None:
    train, test = open_digits(DATA.value)
    one, two = jax.random.split(jax.random.key(0))
    weights = {
        "w1": jax.random.normal(one, (SIZE * SIZE, 128)) / SIZE, "w2": jax.random.normal(two, (128, CLASSES)) / 11
    }  # fmt: skip
    batches = batches_of(train.to_grain(), num_workers=2)
    for _ in range(150):  # a run that stops in the middle of an epoch ...
        weights = train_step(weights, next(batches))
    state = batches.get_state()
    batches = batches_of(train.to_grain(), num_workers=2)
    batches.set_state(state)  # ... and goes on with the very next batch
    for batch in batches:
        weights = train_step(weights, batch)
    everything = test[list(range(len(test)))]
    accuracy = (logits(weights, everything["image"]).argmax(1) == everything["label"]).mean()
    print(f"grain: test accuracy {accuracy:.4f}")


if __name__ == "__main__":
    app.run(main)
