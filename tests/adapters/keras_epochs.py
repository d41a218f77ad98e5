"""Trains a model whose weights count how often each record was trained on: run with a path, under a KERAS_BACKEND.

Prints one JSON object: for each way of reading, the distinct counts after two epochs, and what predict gives.
"""

import json
import sys

import numpy as np

import recordio

NUM_EPOCHS = 2


def same(batch):
    return batch


def counting_model(num_records):
    """One weight for each record, from which every training step takes one for each time that the record is in it."""
    import keras  # not by the worker processes, which import this module

    model = keras.Sequential([keras.layers.Embedding(num_records, 1, embeddings_initializer="zeros")])
    model.compile(keras.optimizers.SGD(1.0), loss=lambda y, p: keras.ops.sum(p))
    return model


def main(path):
    import keras

    found = {}
    ds = recordio.open(path)
    for shuffle in ("no", "exact", "pooled"):
        rows = ds if shuffle == "no" else ds.shuffle(seed=3, mode=shuffle, pool=64)
        model = counting_model(len(ds))  # not built yet: fit looks at a batch, and begins anew
        for workers, processes in ((0, False), (2, False), (2, True)):
            for told in (False, True):
                loader = rows.map(same, batched=True).batch(7) if processes else rows.batch(7)
                train = loader.to_keras(x="id", y="label", workers=workers, use_multiprocessing=processes)
                if model.built:
                    model.set_weights([np.zeros((len(ds), 1), "float32")])
                # By default Keras asks for batches in a random order.
                model.fit(
                    train, epochs=NUM_EPOCHS, callbacks=[train.callback()] if told else [], shuffle=not told, verbose=0
                )
                counts = np.asarray(model.get_weights()[0]).round(3)
                name = f"{shuffle}, {workers} workers, processes {processes}, told {told}"
                found[name] = {"counts": np.unique(-counts).tolist(), "epoch": train.epoch}
    train, epochs = ds.shuffle(seed=3).batch(7).to_keras(x="id", y="label"), []
    spy = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: epochs.append(train.epoch))
    for first in (3, 0):
        model.fit(train, initial_epoch=first, epochs=first + 2, callbacks=[train.callback(), spy], verbose=0)
    found["epochs"] = epochs
    model.set_weights([np.arange(len(ds), dtype="float32")[:, None]])
    found["predict"] = np.asarray(model.predict(ds.batch(7).to_keras(x="id"), verbose=0)).reshape(-1).tolist()
    found["parts"] = []
    for world_size in (1, 2, 3):
        contexts = [recordio.InputContext(world_size, rank, world_size) for rank in range(world_size)]
        loader = ds.shuffle(seed=3).batch(7)
        parts = [recordio.distribute(loader, context).to_keras(x="id", y="label") for context in contexts]
        read = [[part[number][0] for number in range(part.num_batches)] for part in parts]
        before = [[batch.tolist() for batch in part] for part in read]
        for part in read:
            for batch in part:
                batch.fill(-1)
        again = [[part[number][0].tolist() for number in range(part.num_batches)] for part in parts]
        found["parts"].append({"first": before, "again": again})
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
