"""The way to the adapters: `ds.to_torch()` and the others, of data sets, of batches, and of what is distributed.

An adapter stands above what it adapts, and needs its framework; so it is found by its name, when it is asked for.

Spec: spec/adapters.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_EXTRAS = {"tensorflow": "tf", "huggingface": "hf"}  # named otherwise than the module


class Adapted:
    """Gives what a framework's own loops take."""

    def to_keras(self, **options: Any) -> Any:
        """A `keras.utils.PyDataset`; see `recordio.adapters.keras.to_keras`."""
        return _adapter("keras").to_keras(self, **options)

    def to_tf(self, **options: Any) -> Any:
        """A `tf.data.Dataset`; see `recordio.adapters.tensorflow.to_tf`."""
        return _adapter("tensorflow").to_tf(self, **options)

    def to_torch(self, **options: Any) -> Any:
        """A `torch.utils.data.Dataset`; see `recordio.adapters.torch.to_torch`."""
        return _adapter("torch").to_torch(self, **options)

    def to_jax(self, sharding: Any = None, **options: Any) -> Any:
        """Batches of `jax.Array`; see `recordio.adapters.jax.to_jax`."""
        return _adapter("jax").to_jax(self, sharding, **options)

    def to_grain(self) -> Any:
        """A `grain.RandomAccessDataSource`; see `recordio.adapters.grain.to_grain`."""
        return _adapter("grain").to_grain(self)

    def to_hf_iterable(self, **options: Any) -> Any:
        """A `datasets.IterableDataset`; see `recordio.adapters.huggingface.to_hf_iterable`."""
        return _adapter("huggingface").to_hf_iterable(self, **options)


def _adapter(name: str) -> Any:
    try:
        return import_module(f"recordio.adapters.{name}")
    except ModuleNotFoundError as error:
        error.add_note(f"recordio: pip install 'recordio[{_EXTRAS.get(name, name)}]'")
        raise
