"""Callbacks for `fit`: the data set's epoch is that of fit, and a stopped run goes on behind its last batch.

Spec: spec/adapters.md, section 2. Source: keras/src/callbacks/backup_and_restore.py.
"""

from __future__ import annotations

import json
import os
import warnings
from contextlib import ExitStack
from typing import Any, Protocol

import keras

_METADATA = "training_metadata.json"  # of BackupAndRestore: {"epoch": 3, "batch": 41}, the last batch that was seen


class Followed(Protocol):
    """The data set, as a callback sees it."""

    @property
    def epoch(self) -> int:
        """Whose batches are handed out."""

    @property
    def num_batches(self) -> int | None:
        """Batches of an epoch that are still to come."""

    def follow(self, epoch: int, num_steps: int | None, first: int = 0, *, in_order: bool = False) -> None:
        """Take the epoch from fit, the batch at which it begins, and whether another order is refused."""

    def leave(self) -> None:
        """Count epochs again."""


class EpochCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Tells the data set the epochs of fit."""

    _in_order = False

    def __init__(self, dataset: Followed) -> None:
        super().__init__()
        self._dataset = dataset
        self._before: int | None = None  # epochs that were read before this fit

    def on_train_begin(self, logs: Any = None) -> None:
        """A fit begins."""
        super().on_train_begin(logs)
        self._before = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """The data set's epoch is this one."""
        super().on_epoch_begin(epoch, logs)
        if self._before is None:
            self._before = max(0, self._dataset.epoch - epoch)
        steps = (self.params or {}).get("steps")
        self._dataset.follow(self._before + epoch, steps, self._first_batch(epoch), in_order=self._in_order)

    def on_train_end(self, logs: Any = None) -> None:
        """The fit is over."""
        super().on_train_end(logs)
        self._dataset.leave()

    def _first_batch(self, epoch: int) -> int:
        del epoch
        return 0


class BackupCallback(EpochCallback, keras.callbacks.BackupAndRestore):  # type: ignore[misc]
    """`BackupAndRestore` that goes on within an epoch.

    Keras' own begins the epoch again with weights that have seen part of it. This one names batches by their number in
    the whole epoch, so that what Keras saves says where reading stands, however often the epoch was stopped.
    """

    def __init__(self, dataset: Followed, backup_dir: str, **options: Any) -> None:
        keras.callbacks.BackupAndRestore.__init__(self, backup_dir, **options)
        self._dataset, self._before = dataset, None
        self._in_order = self.save_freq != "epoch"
        self._restored: tuple[int, int] | None = None  # the epoch that was stopped, and its batches that were seen
        self._first = 0
        self._quiet = ExitStack()

    def on_train_begin(self, logs: Any = None) -> None:
        """Restore what was saved."""
        super().on_train_begin(logs)
        self._restored, self._first = None, 0
        path = os.path.join(self.backup_dir, _METADATA)
        if self.save_freq == "epoch" or not os.path.exists(path):
            return
        with open(path) as file:
            saved = json.load(file)
        epoch, num_seen = saved["epoch"], saved["batch"] + 1
        if num_seen == self._dataset.num_batches:  # the last batch was seen, the end of the epoch not any more
            epoch, num_seen = epoch + 1, 0
            self.model._initial_epoch = epoch
        self._restored = epoch, num_seen

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Begin the epoch, or what is left of it."""
        super().on_epoch_begin(epoch, logs)
        self._current_epoch = epoch  # Keras' own would save the first epoch that it ends under number 0
        if self._first:
            # Keras counts on a whole epoch, and takes its early end for a mistake.
            self._quiet.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", message="Your input ran out of data")

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Save, if it is time."""
        super().on_train_batch_end(batch + self._first, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """The next epoch is whole."""
        super().on_epoch_end(epoch, logs)
        self._quiet.close()
        self._restored, self._first = None, 0

    def on_train_end(self, logs: Any = None) -> None:
        """Remove what was saved, unless it was asked to stay."""
        super().on_train_end(logs)
        self._quiet.close()

    def _first_batch(self, epoch: int) -> int:
        self._first = self._restored[1] if self._restored is not None and self._restored[0] == epoch else 0
        return self._first
