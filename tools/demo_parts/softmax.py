"""The model that the demo trains: one softmax layer over pixels, in numpy. Pure functions of arrays and batches."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

NUM_PIXELS = 64
NUM_CLASSES = 10

Floats = NDArray[np.float64]


def first_weights() -> Floats:
    """float64[pixels + 1, classes] of zeros."""
    return np.zeros((NUM_PIXELS + 1, NUM_CLASSES))


def with_bias(images: NDArray[Any]) -> Floats:
    """float64[B, pixels + 1]: flat pixels in 0..1 and a one."""
    flat = images.reshape(len(images), NUM_PIXELS) / 16.0
    return np.concatenate([flat, np.ones((len(images), 1))], axis=1)


def gradient_sum(weights: Floats, batch: Any) -> Floats:
    """Sum over the batch of the gradient of softmax cross-entropy; zeros for an empty batch."""
    inputs, labels = with_bias(batch["image"]), batch["label"]
    logits = inputs @ weights
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    odds /= odds.sum(axis=1, keepdims=True)
    odds[np.arange(len(labels)), labels] -= 1
    total: Floats = inputs.T @ odds
    return total


def accuracy(weights: Floats, batch: Any) -> float:
    """Share of the batch that the weights tell right."""
    return float(np.mean((with_bias(batch["image"]) @ weights).argmax(axis=1) == batch["label"]))
