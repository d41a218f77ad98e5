"""Legacy Keras (tf-keras, TF_USE_LEGACY_KERAS=1) trains with a DatasetCreator, under the strategies that it is for.

    tf_keras_creator.py ANSWER DATA_SET STRATEGY        trains
    tf_keras_creator.py serve CLUSTER JOB               is a worker or a parameter server, until its stdin is closed

The model has one weight for each record, from which every training step takes one for each time that the record is in
it. The answer is how often each record was trained on.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import tensorflow as tf

import recordio
from recordio.adapters.tensorflow import dataset_fn
from tests.frameworks.tf_distribute import make_strategy
from tests.frameworks.tf_workers import free_ports

BATCH_SIZE, NUM_EPOCHS = 8, 2


def serve(cluster, job):
    server = tf.distribute.Server(tf.train.ClusterSpec(json.loads(cluster)), job_name=job, task_index=0)
    sys.stdin.read()
    del server
    os._exit(0)


def parameter_servers():
    """A strategy over a worker and a parameter server, and these: processes of their own that end with this one."""
    cluster = {job: [f"localhost:{port}"] for job, port in zip(("worker", "ps"), free_ports(2), strict=True)}
    serving = [sys.executable, __file__, "serve", json.dumps(cluster)]
    servers = [subprocess.Popen([*serving, job], stdin=subprocess.PIPE) for job in cluster]
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(tf.train.ClusterSpec(cluster), rpc_layer="grpc")
    return tf.distribute.ParameterServerStrategy(resolver), servers


def train(answer, path, name):
    assert tf.keras.Model.__module__.startswith("tf_keras"), tf.keras.Model.__module__
    servers = []
    if name == "parameter server":
        strategy, servers = parameter_servers()
    elif name == "multi-worker":
        strategy = make_strategy(num_pipelines=2, num_local_replicas=1)
    else:
        strategy = make_strategy(num_pipelines=1, num_local_replicas=2)
    ds = recordio.open(path)
    pairs = ds.shuffle(seed=5).map(lambda batch: (batch["id"], batch["id"]), batched=True).batch(BATCH_SIZE)
    creator = tf.keras.utils.experimental.DatasetCreator(dataset_fn(pairs.repeat()))
    with strategy.scope():
        model = tf.keras.Sequential([tf.keras.layers.Embedding(len(ds), 1, embeddings_initializer="zeros")])
        model.compile(tf.keras.optimizers.SGD(1.0), loss=lambda y, p: tf.reduce_sum(p))

    def write(logs):
        del logs
        Path(answer).write_text(json.dumps((-model.get_weights()[0][:, 0]).tolist()))
        if servers:
            # TensorFlow 2.21 may hang when the iterator of a generator is destroyed on a worker before its end: what
            # closes the generator is run under a lock that it needs itself.
            os._exit(0)

    written = tf.keras.callbacks.LambdaCallback(on_train_end=write)
    model.fit(creator, epochs=NUM_EPOCHS, steps_per_epoch=len(pairs), verbose=0, callbacks=[written])


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(*sys.argv[2:])
    train(*sys.argv[1:])
