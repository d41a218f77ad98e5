"""The handwritten digits that come with scikit-learn, as data sets: images of 8 by 8 pixels, 1,440 and 357 of them.

    train, test = open_digits("digits")     converted when they are not there
"""

from __future__ import annotations

import argparse
import os
import shutil
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

import recordio

SIZE, CLASSES, NUM_TRAIN = 8, 10, 1440


def open_digits(directory: str) -> tuple[recordio.Dataset, recordio.Dataset]:
    """The records to train with and those to test with; several processes may ask for them at once."""
    if not os.path.exists(directory):
        own = f"{directory}.{os.getpid()}"
        bunch = load_digits()
        order = np.random.default_rng(0).permutation(len(bunch.target))  # writers stand together in it
        for name, rows in (("train", order[:NUM_TRAIN]), ("test", order[NUM_TRAIN:])):
            records = {"image": bunch.images[rows].astype("uint8"), "label": bunch.target[rows]}  # pixels of 0 to 16
            recordio.convert(recordio.from_tensor_slices(records), f"{own}/{name}", num_shards=4)
        try:
            os.rename(own, directory)
        except OSError:  # another process was first, with the same records
            shutil.rmtree(own)
    return recordio.open(f"{directory}/train"), recordio.open(f"{directory}/test")


def arguments(description: str | None, **options: Any) -> argparse.Namespace:
    """What stands on the command line: --data, and options with their defaults."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", default="digits", help="directory of the data set, made if it is not there")
    for name, default in options.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    return parser.parse_args()
