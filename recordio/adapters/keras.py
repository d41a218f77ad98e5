"""Keras 3: batches as a `keras.utils.PyDataset`, for fit, evaluate and predict, whatever the backend.

    fit(train, callbacks=[train.callback()])

Keras asks for batches before training, again, and ahead of an epoch that it has not begun; so a batch is a function of
the epoch and its number alone. Batches that are asked for one after the other are read ahead on threads or processes of
ours (`workers`, `use_multiprocessing`, `max_queue_size`), any other is read by itself. Keras' own workers are not used:
one that is killed would never be missed.

Spec: spec/adapters.md, section 2. Source: keras/src/trainers/data_adapters/py_dataset_adapter.py, epoch_iterator.py.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import keras

from recordio.adapters.leaves import check_batched, dense, map_leaves
from recordio.batches import Batches
from recordio.errors import RequestError
from recordio.loading.loader import LoaderIterator

_MOST_PARTS = 3  # (x, y, sample_weight)


def to_keras(
    loader: Any, *, x: Any = None, y: Any = None, sample_weight: Any = None, workers: int | None = None,
    use_multiprocessing: bool | None = None, max_queue_size: int | None = None,
) -> KerasBatches:  # fmt: skip
    """Batches for `fit`, `evaluate` and `predict`.

    Args:
        loader: batched.
        x, y, sample_weight: which columns of a dict or tuple record: a name or place, or a list of these, which gives a
            dict or tuple of them. By default a tuple record is (x,), (x, y) or (x, y, sample_weight), and a dict record
            is x.
        workers, use_multiprocessing, max_queue_size: as `with_options` has them.

    Raises:
        RequestError: not batched; a tuple record of more than three parts, without x.
    """
    check_batched(loader, "to_keras", Batches)
    given = {"workers": workers, "use_multiprocessing": use_multiprocessing, "max_queue_size": max_queue_size}
    own = loader.with_options(**{name: value for name, value in given.items() if value is not None})
    spec = loader.element_spec
    chosen = (x, y, sample_weight)
    if x is None and (y is not None or sample_weight is not None):
        raise RequestError("y or sample_weight without x", advice="Name the column of the inputs, too: to_keras(x=...)")
    if x is None and isinstance(spec, tuple) and len(spec) > _MOST_PARTS:
        raise RequestError(
            f"a record of {len(spec)} parts is no (x, y, sample_weight)", advice="Choose them: to_keras(x=0, y=1)"
        )
    if x is not None:
        for part in chosen:
            if part is not None:
                _pick(spec, part)
    return KerasBatches(own, None if x is None else chosen)


class KerasBatches(keras.utils.PyDataset):  # type: ignore[misc]
    """One pass over the data set for every epoch; made by `to_keras`.

    Without the callback, an epoch begins after every pass that was read to its last batch.
    """

    def __init__(self, loader: Batches, chosen: Sequence[Any] | None) -> None:
        super().__init__()  # one worker: ours read ahead
        self._loader, self._chosen = loader, chosen
        self._lock = threading.Lock()
        self._epoch = loader.place.following
        self._is_told = False
        self._is_complete = False
        self._ahead: tuple[int, int, LoaderIterator] | None = None  # its epoch, the batch that comes next

    @property
    def num_batches(self) -> int | None:
        """Batches of an epoch; None without an end."""
        return self._loader.loader.num_steps()

    @property
    def epoch(self) -> int:
        """Whose batches are handed out."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Hand out the batches of `epoch` from now on."""
        self._loader.set_epoch(epoch)
        with self._lock:
            self._epoch = self._loader.place.following

    def __getitem__(self, index: int) -> Any:
        """Batch `index` of the epoch: arrays, the caller's own."""
        with self._lock:
            if self.num_batches is not None and index == self.num_batches - 1:
                self._is_complete = True
            batch = self._batch(self._epoch, index)
        return self._arranged(batch)

    def on_epoch_begin(self) -> None:
        """As Keras calls it: also where it only looks at a batch."""
        with self._lock:
            self._is_complete = False

    def on_epoch_end(self) -> None:
        """As Keras calls it."""
        with self._lock:
            if self._is_complete and not self._is_told:
                self._epoch += 1
            self._is_complete = False

    def callback(self) -> keras.callbacks.Callback:
        """Keeps the epoch that of `fit`, also after `initial_epoch` or `BackupAndRestore`; for the callbacks of fit.

        A `fit` that begins at an epoch which was read already goes on with the one that comes next.
        """
        return _EpochCallback(self)

    def follow(self, epoch: int, num_steps: int | None) -> None:
        """Take the epoch from `fit`, if its epochs are ours."""
        if num_steps in (None, self.num_batches):
            self._is_told = True
            self.set_epoch(epoch)

    def leave(self) -> None:
        """Count epochs again."""
        with self._lock:
            if self._is_told:
                self._is_told, self._epoch = False, self._epoch + 1

    def _batch(self, epoch: int, index: int) -> Any:
        if self._ahead is not None and self._ahead[:2] == (epoch, index):
            iterator = self._ahead[2]
        elif index == 0:
            if self._ahead is not None:
                self._ahead[2].close()
            self._loader.set_epoch(epoch)
            iterator = iter(self._loader)
        else:
            return self._loader.loader.at(index, epoch)
        batch = next(iterator, None)
        if batch is None:
            raise IndexError(f"batch {index} of {index}")
        self._ahead = None if index + 1 == self.num_batches else (epoch, index + 1, iterator)
        return batch

    def _arranged(self, batch: Any) -> Any:
        if self._chosen is not None:
            parts = [None if part is None else _pick(batch, part) for part in self._chosen]
            while parts[-1] is None:
                parts.pop()
            batch = tuple(parts)
        return map_leaves(batch, dense) if not isinstance(batch, list) else map_leaves(tuple(batch), dense)


class _EpochCallback(keras.callbacks.Callback):  # type: ignore[misc]
    def __init__(self, dataset: KerasBatches) -> None:
        super().__init__()
        self._dataset = dataset
        self._before: int | None = None  # epochs that were read before this fit

    def on_train_begin(self, logs: Any = None) -> None:
        del logs
        self._before = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        del logs
        if self._before is None:
            self._before = max(0, self._dataset.epoch - epoch)
        self._dataset.follow(self._before + epoch, (self.params or {}).get("steps"))

    def on_train_end(self, logs: Any = None) -> None:
        del logs
        self._dataset.leave()


def _pick(record: Any, part: Any) -> Any:
    """A column, or several: a dict of those that have names, else a tuple.

    Raises:
        RequestError: there is no such column.
    """
    if isinstance(part, list | tuple):
        found = [_pick(record, one) for one in part]
        return dict(zip(part, found, strict=True)) if all(isinstance(one, str) for one in part) else tuple(found)
    try:
        return record[part]
    except (KeyError, IndexError, TypeError):
        names = list(record) if isinstance(record, dict) else list(range(len(record)))
        raise RequestError(f"there is no column {part!r} in a record", advice=f"Columns: {names}") from None
