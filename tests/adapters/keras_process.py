"""One of the processes of a `keras.distribution`, on the jax backend.

    keras_process.py DATA_SET PORT PROCESS NUM_PROCESSES

Prints the losses of every step, and the records that this process was given.
"""

import json
import os
import sys

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras
import numpy as np

import recordio

BATCH_SIZE = 32


def main(path, port, process, num_processes):
    if num_processes > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        keras.distribution.initialize(f"127.0.0.1:{port}", num_processes, process)
    ds = recordio.open(path)
    loader = ds.shuffle(seed=3).batch(BATCH_SIZE)
    refused = []
    for auto_shard in (True, False):
        distribution = keras.distribution.DataParallel(auto_shard_dataset=auto_shard)
        keras.distribution.set_distribution(distribution)
        try:
            loader.to_keras(x="x", y="y")
        except recordio.RequestError as error:
            refused.append(str(error))
    for part in (recordio.distribute(loader, recordio.InputContext(3, 1, 3), remainder="pad"), recordio.distribute(
        loader, recordio.InputContext(num_processes, process, num_processes)
    )):  # fmt: skip
        try:
            part.to_keras(x="x", y="y")
        except recordio.RequestError as error:
            refused.append(str(error))
    train = loader.to_keras(x="x", y="y", remainder="pad")
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.layers.Dense(1, kernel_initializer="ones")])
    model.compile(keras.optimizers.SGD(0.01), loss=keras.losses.MeanSquaredError("mean_with_sample_weight"))
    losses, seen = [], []

    class Losses(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            losses.append(float(logs["loss"]))

    history = model.fit(train, epochs=2, shuffle=False, callbacks=[train.callback(), Losses()], verbose=0)
    own = loader.to_keras(x="id", y="y", remainder="pad")
    for number in range(own.num_batches):
        ids, _, weights = own[number]
        seen.append(ids[weights > 0].tolist())
    exact = ds.take(3 * BATCH_SIZE).shuffle(seed=3).batch(BATCH_SIZE).to_keras(x="id", y="y")  # nothing to fill up
    assert len(exact[0]) == 2 and len(exact[0][0]) == BATCH_SIZE // num_processes
    keras.distribution.set_distribution(None)
    try:
        train[0]
    except recordio.RequestError as error:
        refused.append(str(error))
    print(json.dumps({
        "losses": history.history["loss"], "seen": seen, "refused": refused, "steps": len(losses),
        "weights": np.asarray(model.get_weights()[0]).reshape(-1).tolist(),
    }), flush=True)  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
