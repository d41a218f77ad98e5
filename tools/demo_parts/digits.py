"""(a) scikit-learn's bundled digits, through a generator with an output_signature, into 4 shards of small chunks.

Run as a script with the output directory; `digits` and `SIGNATURE` are what a user writes, the rest runs and checks it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from claims import check, print_report
from sklearn.datasets import load_digits

import recordio

SIGNATURE = {
    "image": recordio.TensorSpec((8, 8), "uint8"),
    "label": recordio.TensorSpec((), "int64"),
    "id": recordio.TensorSpec((), "int64"),
}
NUM_SHARDS = 4
CHUNK_SIZE = 4096   # bytes; far below the default, so that a data set this small has many chunks to look at


def digits() -> Iterator[dict[str, Any]]:
    """One record per digit: an 8 by 8 image with values 0 to 16, what it shows, and the number of the record."""
    bunch = load_digits()
    for number, (image, label) in enumerate(zip(bunch.images, bunch.target, strict=True)):
        yield {"image": image.astype("uint8"), "label": label, "id": number}


def main(path: str) -> None:
    """Convert, then compare every record with scikit-learn's own arrays."""
    report = recordio.convert(
        digits, path, output_signature=SIGNATURE, num_shards=NUM_SHARDS, chunk_size=CHUNK_SIZE, overwrite=True
    )
    print_report(report)

    bunch = load_digits()
    dataset = recordio.open(path)
    everything = dataset[list(range(len(dataset)))]
    check(len(dataset.shards) == NUM_SHARDS, f"{len(dataset)} digits stand in {NUM_SHARDS} shards")
    check(
        np.array_equal(everything["image"], bunch.images) and np.array_equal(everything["label"], bunch.target),
        "every image and label reads back as scikit-learn has it",
    )
    check(np.array_equal(everything["id"], np.arange(len(dataset))), "every record's id is its number")


if __name__ == "__main__":
    main(sys.argv[1])
