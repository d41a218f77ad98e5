"""Trains the counting model of keras_epochs, and dies after some batches.

    keras_backup.py DATA_SET BACKUP_DIR BATCHES_BEFORE_DEATH SAVE_FREQ [SHUFFLE]

Prints how often each record was trained on, in the weights, once all epochs are over.
"""

import json
import os
import sys

import numpy as np
from keras_epochs import counting_model

import recordio

NUM_EPOCHS = 3


def main(path, backup_dir, batches_before_death, save_freq, shuffle=False):
    import keras

    class Death(keras.callbacks.Callback):
        left = batches_before_death

        def on_train_batch_end(self, batch, logs=None):
            self.left -= 1
            if not self.left:
                os._exit(9)

    ds = recordio.open(path)
    model = counting_model(len(ds))
    model.build((None,))
    train = ds.shuffle(seed=3).batch(7).to_keras(x="id", y="label")
    backup = train.callback(backup_dir, save_freq=save_freq)
    history = model.fit(train, epochs=NUM_EPOCHS, callbacks=[backup, Death()], shuffle=shuffle, verbose=0)
    counts = -np.asarray(model.get_weights()[0]).round(3)
    print(json.dumps({"counts": np.unique(counts).tolist(), "epochs": history.epoch, "epoch": train.epoch}))


if __name__ == "__main__":
    save_freq = sys.argv[4] if sys.argv[4] == "epoch" else int(sys.argv[4])
    main(*sys.argv[1:3], int(sys.argv[3]), save_freq, shuffle=len(sys.argv) > 5)
