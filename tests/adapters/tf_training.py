"""One process of a real strategy that trains a linear model in a custom loop; alone, or one of those in TF_CONFIG.

    tf_training.py ANSWER DATA_SET TASKS

Every task is a run from a model and a state to a number of steps, read as it says; or epochs in which records are only
looked at, step by step or within a graph. The answer is a list: what this process saw of each, and where it stopped.
"""

import json
import os
import sys
from pathlib import Path

import tensorflow as tf

import recordio
from recordio.adapters.tensorflow import dataset_fn
from tests.frameworks.tf_distribute import make_strategy

BATCH_SIZE, NUM_EPOCHS, LEARNING_RATE = 8, 2, 0.05


def make_step(strategy, data, weights, *, has_mask, is_declared):
    """A step of training on the parts of a global batch; gives its loss."""

    def step(batch):
        def of_replica(batch):
            batch, mask = batch if has_mask else (batch, tf.ones_like(batch["y"], tf.bool))
            with tf.GradientTape() as tape:
                errors = tf.linalg.matvec(batch["x"], weights) - batch["y"]
                # A mean over the rows of a replica that has none is no number.
                loss = tf.reduce_sum(tf.where(mask, errors**2, 0.0)) / BATCH_SIZE
            weights.assign_sub(LEARNING_RATE * tape.gradient(loss, weights))
            return loss

        return strategy.reduce("SUM", strategy.run(of_replica, args=(batch,)), axis=None)

    # Else it is traced for every size that a part has, and at the end of an epoch on some processes alone.
    return tf.function(step, input_signature=[data.element_spec] if is_declared else None)


def local_ids(strategy, batch):
    """The numbers of the records that each replica of this process got."""
    return [ids.numpy().tolist() for ids in strategy.experimental_local_results(batch["id"])]


def train(strategy, path, task):
    loader = recordio.open(path).take(task["num_records"]).shuffle(seed=3).batch(BATCH_SIZE)
    if task["state"] is not None:
        loader.load_state_dict(task["state"])
    start, has_mask = loader.state_dict(), task["remainder"] == "pad"
    with strategy.scope():
        weights = tf.Variable(task["weights"], aggregation=tf.VariableAggregation.SUM)
    data = strategy.distribute_datasets_from_function(dataset_fn(loader, remainder=task["remainder"]))
    step = make_step(strategy, data, weights, has_mask=has_mask, is_declared=task["is_declared"])
    losses, seen = [], []
    for _ in range(start["epoch"], NUM_EPOCHS):
        for batch in data:
            losses.append(float(step(batch)))
            seen.append(local_ids(strategy, batch[0] if has_mask else batch))
            if len(losses) == task["steps"]:
                break
        if len(losses) == task["steps"]:
            break
    state = loader.state_after(start, len(losses))
    return {
        "losses": losses, "seen": seen, "weights": weights.numpy().tolist(), "state": state,
        "traces": step.experimental_get_tracing_count(),
    }  # fmt: skip


def look(strategy, path, task):
    loader = recordio.open(path).select_columns(["id"]).batch(BATCH_SIZE)
    data = strategy.distribute_datasets_from_function(dataset_fn(loader, policy=task["policy"]))
    return {"seen": [local_ids(strategy, batch) for batch in data]}


def count(strategy, path, task):
    """How often each record comes in some epochs of which each is one call of a graph."""
    dataset = recordio.open(path)
    num_records = len(dataset)
    loader = dataset.select_columns(["id"]).shuffle(seed=3).batch(BATCH_SIZE)
    data = strategy.distribute_datasets_from_function(dataset_fn(loader))
    with strategy.scope():
        counts = tf.Variable(tf.zeros(num_records, tf.int64), aggregation=tf.VariableAggregation.SUM)

    def of_replica(batch):
        counts.assign_add(tf.reduce_sum(tf.one_hot(batch["id"], num_records, dtype=tf.int64), axis=0))

    @tf.function
    def epoch():
        for batch in data:
            strategy.run(of_replica, args=(batch,))

    for _ in range(task["epochs"]):
        epoch()
    return counts.numpy().tolist()


def main(answer, path, tasks):
    cluster = json.loads(os.environ["TF_CONFIG"]).get("cluster", {})
    tasks = json.loads(tasks)
    strategy = make_strategy(
        num_pipelines=len(cluster.get("worker", [0])), num_local_replicas=tasks["local_replicas"]
    )
    kinds = {"train": train, "look": look, "count": count}
    found = [kinds[task["kind"]](strategy, path, task) for task in tasks["tasks"]]
    Path(answer).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
