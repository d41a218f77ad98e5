"""(b) A keras.utils.PyDataset over image files, in the manner of the Keras documentation's CIFAR10 example; 2 workers.

The files are PNG crops of scikit-learn's two bundled photos, written first. `PhotoCrops` is what a Keras user already
has, and recordio converts it as it stands.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
from claims import check, print_report
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images

import recordio

CROP_SIZE = 32      # pixels
BATCH_SIZE = 16     # 520 crops: the last batch is a partial one
NUM_SHARDS = 3


class PhotoCrops(keras.utils.PyDataset):  # type: ignore[misc]  # Keras has no types
    """Batches of image files and labels; one `__getitem__` per batch."""

    def __init__(self, x_set: list[str], y_set: list[int], batch_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.x, self.y = x_set, y_set
        self.batch_size = batch_size

    def __len__(self) -> int:
        return math.ceil(len(self.x) / self.batch_size)

    def __getitem__(self, idx: int) -> tuple[NDArray[Any], NDArray[Any]]:
        low = idx * self.batch_size
        # The last batch may be smaller.
        high = min(low + self.batch_size, len(self.x))
        return np.array([np.asarray(Image.open(name)) for name in self.x[low:high]]), np.array(self.y[low:high])


def write_files(directory: Path) -> tuple[list[str], list[int]]:
    """Cut both photos into crops; their names and labels (which photo), in a shuffled order that is always the same."""
    directory.mkdir(parents=True, exist_ok=True)
    names, labels = [], []
    for label, photo in enumerate(load_sample_images().images):
        height, width, _ = photo.shape
        for top in range(0, height - CROP_SIZE + 1, CROP_SIZE):
            for left in range(0, width - CROP_SIZE + 1, CROP_SIZE):
                name = directory / f"{label}-{top:03}-{left:03}.png"
                Image.fromarray(photo[top : top + CROP_SIZE, left : left + CROP_SIZE]).save(name)
                names.append(str(name))
                labels.append(label)
    order = np.random.default_rng(0).permutation(len(names))
    return [names[place] for place in order], [labels[place] for place in order]


def main(files: str, path: str) -> None:
    """Convert with two worker processes, then compare every record with its file."""
    names, labels = write_files(Path(files))
    dataset = PhotoCrops(names, labels, BATCH_SIZE, workers=2, use_multiprocessing=True)
    print(f"  {len(names)} PNG files in {len(dataset)} batches; Keras {keras.__version__} on {keras.backend.backend()}")
    report = recordio.convert(dataset, path, num_shards=NUM_SHARDS, overwrite=True)
    print_report(report)

    stored = recordio.open(path)
    print(f"  element_spec: {stored.element_spec}")
    check(len(stored) == len(names), f"{len(names)} files became {len(stored)} records, batches undone")
    same = (
        np.array_equal(image, np.asarray(Image.open(name))) and int(value) == label
        for (image, value), name, label in zip(stored, names, labels, strict=True)
    )
    check(all(same), "every record is its file's pixels and its label, in the order of the PyDataset")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
