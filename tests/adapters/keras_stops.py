"""Fits of the counting model that are stopped by an error and begun again in the same process: run with a path.

Prints, for each case, how often records were trained on in the restored weights, or the error.
"""

import json
import os
import shutil
import sys
import tempfile

import numpy as np
from keras_epochs import counting_model

import recordio


class StopError(Exception):
    pass


def main(path):
    import keras

    class Stop(keras.callbacks.Callback):
        def __init__(self, batches):
            super().__init__()
            self.left = batches

        def on_train_batch_end(self, batch, logs=None):
            self.left -= 1
            if self.left <= 0:
                raise StopError

    ds = recordio.open(path)
    directory = tempfile.mkdtemp()

    def loader(batch_size=7):
        return ds.shuffle(seed=3).batch(batch_size)

    def fit(train, *stops, epochs=3, executions=1, between=lambda: None, also=(), **options):
        """Fit until each of the stops, then to the end; each time with new weights, which the backup fills."""
        for stop in (*stops, None):
            model = counting_model(len(ds))
            model.compile(keras.optimizers.SGD(1.0), loss=model.loss, steps_per_execution=executions)
            model.build((None,))
            backup = train.callback(os.path.join(directory, "backup"), **{"save_freq": 5, **options})
            try:
                model.fit(
                    train, epochs=epochs, shuffle=False, verbose=0,
                    callbacks=[backup, *also, *([] if stop is None else [Stop(stop)])],
                )  # fmt: skip
            except StopError:
                between()
        return model

    def counts(model):
        return np.unique(-np.asarray(model.get_weights()[0]).round(3)).tolist()

    found = {}
    train = loader().to_keras(x="id", y="label")
    found["the same data set, twice in one epoch"] = counts(fit(train, 33, 9))
    found["and another fit"] = counts(fit(train, epochs=2))
    position = os.path.join(directory, "backup", "reading.json")
    kept = os.path.join(directory, "kept.json")

    def older():
        """As if the process had died between two files: the weights are newer than the position."""
        if os.path.exists(kept):
            shutil.copy(kept, position)
        else:
            shutil.copy(position, kept)

    found["weights newer than the position"] = counts(fit(loader().to_keras(x="id", y="label"), 12, 7, between=older))
    os.remove(kept)
    found["and in the next epoch"] = counts(fit(loader().to_keras(x="id", y="label"), 25, 17, between=older))
    os.remove(kept)

    class Keep(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if not os.path.exists(kept):
                shutil.copy(position, kept)

    train = loader().to_keras(x="id", y="label")
    found["weights newer than the beginning"] = counts(fit(train, 12, 30, between=older, also=[Keep()]))
    found["several steps at once"] = counts(fit(loader().to_keras(x="id", y="label"), 10, 9, executions=2, save_freq=3))
    for name, make in {
        "another batch size": lambda: loader(14), "another order": lambda: ds.shuffle(seed=4).batch(7),
        "endless": lambda: loader().repeat(),
    }.items():  # fmt: skip
        shutil.rmtree(os.path.join(directory, "backup"), ignore_errors=True)
        try:
            model = counting_model(len(ds))
            model.build((None,))
            first = loader().to_keras(x="id", y="label")
            try:
                model.fit(
                    first, shuffle=False, verbose=0,
                    callbacks=[first.callback(os.path.join(directory, "backup"), save_freq=5), Stop(12)],
                )  # fmt: skip
            except StopError:
                pass
            second = make().to_keras(x="id", y="label")
            options = {"steps_per_epoch": 10} if name == "endless" else {}
            model.fit(
                second, shuffle=False, verbose=0, **options,
                callbacks=[second.callback(os.path.join(directory, "backup"), save_freq=5)],
            )  # fmt: skip
        except (recordio.RequestError, recordio.StateError) as error:
            found[name] = str(error)
    shutil.rmtree(directory)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
