"""A small task to try things on: noisy digits of 5 by 7 pixels, shifted about in images of 12 by 12, from a seed.

    train, test = open_glyphs("glyphs")     converted when they are not there: 6,000 and 1,000 records
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np

import recordio

SIZE, CLASSES = 12, 10
SPEC = {"image": recordio.TensorSpec((SIZE, SIZE), "uint8"), "label": recordio.TensorSpec((), "int64")}
# Rows of each digit, as bits.
ROWS = [
    "0e11131519110e", "040c040404040e", "0e11010204081f", "1f02040201110e", "02060a121f0202",
    "1f101e0101110e", "0608101e11110e", "1f010204080808", "0e11110e11110e", "0e11110f01020c",
]  # fmt: skip
SHAPES = [np.unpackbits(np.frombuffer(bytes.fromhex(rows), np.uint8).reshape(7, 1), axis=1)[:, 3:] for rows in ROWS]


def glyphs(num_records: int, seed: int) -> Iterator[dict[str, Any]]:
    """Records of one digit each."""
    rng = np.random.default_rng(seed)
    for _ in range(num_records):
        label, top, left = rng.integers(CLASSES), rng.integers(2, 4), rng.integers(3, 5)
        image = rng.normal(60, 25, (SIZE, SIZE))
        image[top : top + 7, left : left + 5] += 120 * SHAPES[label]
        yield {"image": image.clip(0, 255).astype(np.uint8), "label": label}


def open_glyphs(directory: str) -> tuple[recordio.Dataset, recordio.Dataset]:
    """The records to train with and those to test with; several processes may ask for them at once."""
    if not os.path.exists(directory):
        own = f"{directory}.{os.getpid()}"
        for name, num_records, seed in (("train", 6000, 1), ("test", 1000, 2)):
            recordio.convert(lambda: glyphs(num_records, seed), f"{own}/{name}", output_signature=SPEC, num_shards=4)  # noqa: B023
        try:
            os.rename(own, directory)
        except OSError:  # another process was first, with the same records
            shutil.rmtree(own)
    return recordio.open(f"{directory}/train"), recordio.open(f"{directory}/test")


def arguments(description: str | None, **options: Any) -> argparse.Namespace:
    """What stands on the command line: --data, and options with their defaults."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", default="glyphs", help="directory of the data set, made if it is not there")
    for name, default in options.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    return parser.parse_args()
