"""Keras 3, on any backend:   KERAS_BACKEND=jax python keras_fit.py --data digits"""

from __future__ import annotations

import keras
from digits_data import CLASSES, SIZE, arguments, open_digits


def main() -> None:
    options = arguments(__doc__, epochs=20)
    keras.utils.set_random_seed(0)
    train, test = open_digits(options.data)
    fit = train.shuffle(seed=0).batch(64).to_keras(x="image", y="label")  # a keras.utils.PyDataset

    model = keras.Sequential([
        keras.Input((SIZE, SIZE)),
        keras.layers.Rescaling(1 / 16),
        keras.layers.Flatten(),
        keras.layers.Dense(128, activation="relu"),
        keras.layers.Dense(CLASSES),
    ])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss=loss, metrics=["accuracy"])
    # Records are shuffled above: batches come as they are read. The callback tells the data set the epochs of fit.
    model.fit(fit, epochs=options.epochs, shuffle=False, callbacks=[fit.callback()], verbose=2)

    _, accuracy = model.evaluate(test.batch(250).to_keras(x="image", y="label"), verbose=0)
    print(f"{keras.backend.backend()}: test accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main()
