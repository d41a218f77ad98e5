"""Keras 3: batches as a `keras.utils.PyDataset`, for fit, evaluate and predict, whatever the backend.

    fit(train, shuffle=False, callbacks=[train.callback()])                             epochs are those of fit
    fit(train, shuffle=False, callbacks=[train.callback("backup", save_freq=100)])      and a backup, to the batch

Keras asks for batches before training, again, and ahead of an epoch that it has not begun; so a batch is a function of
the epoch and its number alone. Batches that are asked for one after the other are read ahead on threads or processes of
ours (`workers`, `use_multiprocessing`, `max_queue_size`), any other is read by itself: `fit` asks for them in a random
order unless it is told `shuffle=False`. Keras' own workers are not used: one that is killed would never be missed.

Callbacks are in `keras_callbacks`, what `keras.distribution` asks for in `keras_distribution`.

Spec: spec/adapters.md, section 2. Source: keras/src/trainers/data_adapters/py_dataset_adapter.py, epoch_iterator.py.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np

from recordio.adapters.keras_callbacks import BackupCallback, EpochCallback
from recordio.adapters.keras_distribution import (
    Shape,
    check_part,
    distributed,
    of_this_process,
    warn_of_separate_models,
)
from recordio.adapters.leaves import check_batched, dense, map_leaves
from recordio.batches import Batches
from recordio.distributed.dataset import DistributedDataset
from recordio.distributed.values import experimental_local_results
from recordio.errors import RequestError
from recordio.loading.passes import LoaderIterator
from recordio.structure import CONTAINERS

_MOST_PARTS = 3  # (x, y, sample_weight)
_SCATTERED = 3  # batches out of order in a pass are no accident


def to_keras(
    loader: Any, *, x: Any = None, y: Any = None, sample_weight: Any = None, workers: int | None = None,
    use_multiprocessing: bool | None = None, max_queue_size: int | None = None,
    remainder: Literal["pad", "drop"] | None = None,
) -> KerasBatches:  # fmt: skip
    """Batches for `fit`, `evaluate` and `predict`.

    Under a `keras.distribution` of several processes each gets its part of every batch, those rows that its devices
    hold: set the distribution first, with auto_shard_dataset=False.

    Args:
        loader: batched by the size of a global batch; or what `recordio.distribute` made of one, for this process.
        x, y, sample_weight: which columns of a dict or tuple record: a name or place, or a list of these, which gives a
            dict or tuple of them. By default a tuple record is (x,), (x, y) or (x, y, sample_weight), and a dict record
            is x.
        workers, use_multiprocessing, max_queue_size: as `with_options` has them.
        remainder: of a last batch that the devices of a `keras.distribution` cannot share. "drop": left out. "pad":
            filled up, with rows whose sample weight is 0; the metrics that are to know of it are weighted_metrics. By
            default it is refused.

    Raises:
        RequestError: not batched; a tuple record of more than three parts, without x; a distribution that the batches
            do not fit, or that would shard again what is shared out already.
    """
    check_batched(loader, "to_keras", Batches, DistributedDataset)
    given = {"workers": workers, "use_multiprocessing": use_multiprocessing, "max_queue_size": max_queue_size}
    given = {name: value for name, value in given.items() if value is not None}
    if remainder not in (None, "pad", "drop"):
        raise RequestError(f"remainder is {remainder!r}", advice="Use 'pad' or 'drop'")
    if loader.loader.place.resumed is not None:
        raise RequestError(
            "the loader goes on from a state, and an epoch of fit begins at its beginning",
            advice="set_epoch(epoch) first; to_keras(...).callback(backup_dir, save_freq=n) goes on within an epoch",
        )
    if isinstance(loader, DistributedDataset):
        if given or remainder is not None:
            raise RequestError(
                f"{', '.join(given) or 'remainder'} of what is distributed already",
                advice="Say it before: recordio.distribute(loader.with_options(...), remainder=...)",
            )
        if loader.context.num_local_replicas > 1:
            raise RequestError(
                f"{loader.context.num_local_replicas} replicas share this input pipeline, and fit takes one batch",
                advice="Give loader.to_keras() the whole batches: Keras spreads them over the devices of a process",
            )
        check_part(loader)
        _refuse_empty_parts(loader)
        own: Batches | DistributedDataset = loader
        pads = loader.loader.finisher.slot_size is not None
        spec = loader.element_spec[0] if pads else loader.element_spec
    else:
        spec = loader.element_spec
        own = distributed(loader.with_options(**given), remainder)
        pads = isinstance(own, DistributedDataset) and own.loader.finisher.slot_size is not None
    if not own.loader.is_regular:
        raise RequestError(
            "damaged records are skipped, so that an epoch may have fewer batches than fit is told",
            advice="Convert what is left: recordio.convert(ds, path); or shuffle it here: batches are smaller then",
        )
    warn_of_separate_models()
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
    if pads and y is None and (x is not None or not isinstance(spec, tuple) or len(spec) == 1):
        raise RequestError(
            "a padded batch without y: nothing would say which rows are filled up",
            advice="Leave the last batch out (drop_remainder=True), or name y",
        )
    return KerasBatches(own, None if x is None else chosen, pads=pads)


class KerasBatches(keras.utils.PyDataset):  # type: ignore[misc]
    """One pass over the data set for every epoch; made by `to_keras`.

    Without the callback, an epoch begins after every pass that was read to its last batch.
    """

    def __init__(
        self, loader: Batches | DistributedDataset, chosen: Sequence[Any] | None = None, *, pads: bool = False
    ) -> None:
        super().__init__()  # one worker: ours read ahead
        self._loader, self._chosen, self._pads = loader, chosen, pads
        self._shape: Shape = of_this_process()
        self._lock = threading.Lock()
        self._per_pass = loader.loader.epochs_of_pass or 1
        self._epoch = loader.loader.place.following // self._per_pass
        # Batches of an epoch that were trained on in an earlier run: of the pass that comes next, and of this one.
        self._announced = self._first = 0
        self._is_short = False  # Keras is about to ask how many batches this pass has
        self._is_told = False
        self._is_complete = False
        self._in_order = False  # no other order will do
        self._num_scattered: int | None = None  # batches of the pass that were asked for out of order; None: no pass
        self._ahead: tuple[int, int, LoaderIterator] | None = None  # its epoch, the batch that comes next

    @property
    def num_batches(self) -> int | None:
        """Batches of an epoch; None without an end. Of one that was begun in an earlier run, those that are left."""
        steps = self._loader.loader.num_steps()
        # A fit that is stopped says nothing, and the next one must find a whole epoch.
        return steps - self._first if steps is not None and self._is_short else steps

    @property
    def epoch(self) -> int:
        """Whose batches are handed out."""
        return self._epoch

    @property
    def batch_size(self) -> int:
        """Records of a global batch."""
        return self._loader.loader.split.batch_size

    def set_epoch(self, epoch: int) -> None:
        """Hand out the batches of `epoch` from now on; with repeat(k), k epochs of the data set are one."""
        self._loader.set_epoch(epoch * self._per_pass)
        with self._lock:
            self._epoch, self._announced, self._first = epoch, 0, 0
            self._is_told = self._in_order = self._is_short = False

    def __getitem__(self, index: int) -> Any:
        """Batch `index` of those that the epoch still has: arrays, the caller's own.

        Raises:
            IndexError: out of range. RequestError: another `keras.distribution` was set after to_keras.
        """
        if self._shape != of_this_process():
            raise RequestError(
                "the keras.distribution is another one than when to_keras was called",
                advice="Call keras.distribution.set_distribution(...) first, then to_keras()",
            )
        with self._lock:
            number, steps = self._first + index, self._loader.loader.num_steps()
            if index < 0 or (steps is not None and number >= steps):
                raise IndexError(f"batch {number} of {steps}")
            self._is_short = False
            if number + 1 == steps:
                self._is_complete = True
            batch = self._batch(self._epoch, number)
        return self._arranged(batch)

    def on_epoch_begin(self) -> None:
        """As Keras calls it: also where it only looks at a batch."""
        with self._lock:
            self._first, self._announced = self._announced, 0
            self._is_short = self._first > 0
            self._is_complete, self._num_scattered = False, 0

    def on_epoch_end(self) -> None:
        """As Keras calls it."""
        with self._lock:
            if self._is_complete and not self._is_told:
                self._epoch += 1
            self._first, self._is_short = 0, False
            self._is_complete, self._num_scattered = False, None

    def callback(
        self, backup_dir: str | os.PathLike[str] | None = None, **options: Any
    ) -> EpochCallback | BackupCallback:
        """Keeps the epoch that of `fit`, also after `initial_epoch` or `BackupAndRestore`; for the callbacks of fit.

        A `fit` that begins at an epoch which was read already goes on with the one that comes next.

        Args:
            backup_dir: be a `keras.callbacks.BackupAndRestore` as well, which keeps the place within an epoch: with
                save_freq=n, training that was stopped goes on behind the last batch that the saved weights have seen.
            options: those of `keras.callbacks.BackupAndRestore`.
        """
        if backup_dir is None and not options:
            return EpochCallback(self)
        if backup_dir is None:
            raise RequestError(f"{', '.join(options)} without backup_dir", advice="callback('backup', save_freq=100)")
        return BackupCallback(self, os.fspath(backup_dir), **options)

    def begin(self) -> None:
        """A fit begins that will say its epochs."""
        with self._lock:
            self._is_told = self._in_order = False

    def follow(
        self, epoch: int, num_steps: int | None, first: int = 0, *, strict: bool = False, ordered: bool = False
    ) -> None:
        """Take the epoch from `fit`, if its epochs are ours.

        Args:
            first: batches of it that were trained on in an earlier run.
            strict: refuse epochs that are not ours.
            ordered: refuse any other order of its batches.

        Raises:
            RequestError: it is strict, and the epochs are not ours.
        """
        steps = self._loader.loader.num_steps()
        if num_steps in (None, steps):
            self.set_epoch(epoch)
            with self._lock:
                self._is_told, self._in_order, self._announced = True, ordered, first
        elif strict:
            raise RequestError(
                f"epochs of fit have {num_steps} steps, and those of the data set {steps or 'no end'}: a backup could "
                "not say where reading stands",
                advice="Leave out steps_per_epoch, and repeat()",
            )

    def state_at(self, epoch: int, step: int) -> dict[str, Any]:
        """The loader's state in front of a batch of an epoch."""
        loader, first = self._loader.loader, epoch * self._per_pass
        start = loader.own_state(first_epoch=first, epoch=first, consumed=0, step=0).to_map()
        return loader.state_after(start, step) if step else start

    def check_state(self, state: Any) -> None:
        """Refuse the state of something else.

        Raises:
            StateError: it names the field that differs.
        """
        self._loader.loader.copied().load_state_dict(state)

    def leave(self) -> None:
        """Count epochs again."""
        with self._lock:
            if self._is_told:
                self._is_told = self._in_order = False
                self._epoch += 1

    def _batch(self, epoch: int, index: int) -> Any:
        if self._ahead is not None and self._ahead[:2] == (epoch, index):
            iterator = self._ahead[2]
        elif index == self._first:
            if self._ahead is not None:
                self._ahead[2].close()
            self._loader.set_epoch(epoch * self._per_pass)
            if index:
                self._loader.load_state_dict(self.state_at(epoch, index))
            iterator = iter(self._loader)
        else:
            self._note_scattered()
            return self._loader.loader.at(index, epoch * self._per_pass)
        batch = next(iterator, None)
        if batch is None:
            raise IndexError(f"batch {index} of {index}")
        self._ahead = None if index + 1 == self._loader.loader.num_steps() else (epoch, index + 1, iterator)
        return batch

    def _note_scattered(self) -> None:
        """A batch is asked for out of order."""
        if self._num_scattered is None:
            return
        self._num_scattered += 1
        if self._in_order:
            raise RequestError(
                "fit asks for batches in a random order, so that a backup could not say which were trained on",
                advice="Say fit(..., shuffle=False): records are shuffled by ds.shuffle(...)",
            )
        if self._num_scattered == _SCATTERED:
            warnings.warn(
                "fit asks for batches in a random order, so that none can be read ahead. Say fit(..., shuffle=False): "
                "records are shuffled by ds.shuffle(...)",
                UserWarning, stacklevel=4,
            )  # fmt: skip

    def _arranged(self, batch: Any) -> Any:
        if isinstance(self._loader, DistributedDataset):
            (batch,) = experimental_local_results(batch)
        mask = None
        if self._pads:
            batch, mask = batch
        if self._chosen is not None:
            batch = tuple(None if part is None else _pick(batch, part) for part in self._chosen)
            while batch[-1] is None:
                batch = batch[:-1]
        batch = map_leaves(tuple(batch) if isinstance(batch, list) else batch, _input)
        return batch if mask is None else _weighted(batch, mask)


def _refuse_empty_parts(dataset: DistributedDataset) -> None:
    loader = dataset.loader
    total = loader.recipe.num_records * (loader.recipe.repeats or 0)
    if loader.remainder == "empty" and 0 < total % loader.split.batch_size < loader.split.num_replicas:
        raise RequestError(
            f"the last batch has {total % loader.split.batch_size} records for {loader.split.num_replicas} replicas, "
            "and Keras trains on no batch without a record",
            advice="recordio.distribute(loader, ..., remainder='pad') or remainder='drop'",
        )


def _input(value: Any) -> Any:
    return None if value is None else dense(value)


def _weighted(batch: tuple[Any, ...], mask: np.ndarray[Any, Any]) -> tuple[Any, Any, Any]:
    """With sample weights that are 0 in rows which are filled up."""
    inputs, targets, *weights = batch
    kept = mask.astype(np.float32)

    def filled(own: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        found: np.ndarray[Any, Any] = own * kept.reshape((-1,) + (1,) * (own.ndim - 1)).astype(own.dtype)
        return found

    return inputs, targets, map_leaves(weights[0], filled) if weights else kept


def _pick(record: Any, part: Any) -> Any:
    """A column, or several: a dict of those that have names, else a tuple.

    Raises:
        RequestError: there is no such column.
    """
    if isinstance(part, list | tuple):
        found = [_pick(record, one) for one in part]
        return dict(zip(part, found, strict=True)) if all(isinstance(one, str) for one in part) else tuple(found)
    if not isinstance(record, CONTAINERS):
        raise RequestError(
            f"a record is one value, and has no column {part!r}", advice="Leave x out; or give records a structure"
        )
    try:
        return record[part]
    except (KeyError, IndexError, TypeError):
        names = list(record) if isinstance(record, dict) else list(range(len(record)))
        raise RequestError(f"there is no column {part!r} in a record", advice=f"Columns: {names}") from None
