"""TensorFlow, many workers, one global batch:   TF_CONFIG=... python tf_multi_worker.py, once for each worker

Without TF_CONFIG it is one worker. `dataset_fn` gives every worker its part of each batch of the loader.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from digits_data import CLASSES, SIZE, arguments, open_digits

from recordio.adapters.tensorflow import dataset_fn

BATCH_SIZE = 60  # over all workers; it divides the number of records, so that all steps are full


def main() -> None:
    options = arguments(__doc__, epochs=20)
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    train, test = open_digits(options.data)
    loader = train.shuffle(seed=0).batch(BATCH_SIZE)
    batches = strategy.distribute_datasets_from_function(dataset_fn(loader))

    shapes = (SIZE * SIZE, 128), (128,), (128, CLASSES), (CLASSES,)
    with strategy.scope():
        weights = [
            tf.Variable(tf.random.stateless_normal(shape, (0, 1)) / 12, aggregation=tf.VariableAggregation.SUM)
            for shape in shapes
        ]

    def logits(image: Any) -> Any:
        w1, b1, w2, b2 = weights
        x = tf.reshape(tf.cast(image, tf.float32) / 16, (-1, SIZE * SIZE))
        return tf.nn.relu(x @ w1 + b1) @ w2 + b2

    @tf.function
    def train_step(batch: Any) -> Any:
        def of_replica(batch: Any) -> None:
            with tf.GradientTape() as tape:
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["label"], logits(batch["image"]))
                loss = tf.reduce_sum(losses) / BATCH_SIZE  # its share of the mean over the global batch
            for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
                weight.assign_sub(0.3 * gradient)  # summed over the replicas

        strategy.run(of_replica, args=(batch,))

    for _ in range(options.epochs):
        for batch in batches:  # every iteration is the next epoch
            train_step(batch)
    right = sum(int(tf.reduce_sum(tf.cast(tf.argmax(logits(one["image"]), 1) == one["label"], tf.int32)))
                for one in test.batch(250).to_tf())
    if strategy.cluster_resolver.task_id in (None, 0):
        print(f"{strategy.num_replicas_in_sync} workers: test accuracy {right / len(test):.4f}", flush=True)


if __name__ == "__main__":
    main()
