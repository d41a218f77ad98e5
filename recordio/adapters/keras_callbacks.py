"""Callbacks for `fit`: the data set's epoch is that of fit, and a stopped run goes on behind its last batch.

A backup has three files: the weights and the numbers that Keras writes, and `reading.json`: where reading stands, and
how many updates the weights had then. If the weights are newer, because the process died between two files, what lies
between is known from their own count; so the position of the beginning is written before any weights are.

Spec: spec/adapters.md, section 2. Source: keras/src/callbacks/backup_and_restore.py.
"""

from __future__ import annotations

import json
import os
import warnings
from contextlib import ExitStack
from typing import Any, Protocol

import keras

from recordio.errors import StateError
from recordio.storage import LOCAL

# {"epoch": of fit, "num_seen": batches of it, "data_epoch", "updates", "batch_size", "state"}
_POSITION = "reading.json"
_NUMBERS = ("epoch", "num_seen", "data_epoch", "updates", "batch_size")


class Followed(Protocol):
    """The data set, as a callback sees it."""

    @property
    def epoch(self) -> int:
        """Whose batches are handed out."""

    @property
    def num_batches(self) -> int | None:
        """Batches of an epoch that are still to come."""

    @property
    def batch_size(self) -> int:
        """Records of a global batch."""

    def begin(self) -> None:
        """A fit begins: every epoch is whole."""

    def follow(
        self, epoch: int, num_steps: int | None, first: int = 0, *, strict: bool = False, ordered: bool = False
    ) -> None:
        """Take the epoch from fit, the batch at which it begins, and what is refused."""

    def leave(self) -> None:
        """Count epochs again."""

    def state_at(self, epoch: int, step: int) -> dict[str, Any]:
        """The loader's state in front of a batch."""

    def check_state(self, state: Any) -> None:
        """Refuse the state of something else."""


class EpochCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Tells the data set the epochs of fit."""

    _strict = _ordered = False

    def __init__(self, dataset: Followed) -> None:
        super().__init__()
        self._dataset = dataset
        self._before: int | None = None  # epochs that were read before this fit

    def on_train_begin(self, logs: Any = None) -> None:
        """A fit begins."""
        super().on_train_begin(logs)
        self._before = None
        self._dataset.begin()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """The data set's epoch is this one."""
        super().on_epoch_begin(epoch, logs)
        if self._before is None:
            self._before = max(0, self._dataset.epoch - epoch)
        self._dataset.follow(
            self._before + epoch, (self.params or {}).get("steps"), self._first_batch(epoch), strict=self._strict,
            ordered=self._ordered,
        )  # fmt: skip

    def on_train_end(self, logs: Any = None) -> None:
        """The fit is over."""
        super().on_train_end(logs)
        self._dataset.leave()

    def _first_batch(self, epoch: int) -> int:
        del epoch
        return 0


class BackupCallback(EpochCallback, keras.callbacks.BackupAndRestore):  # type: ignore[misc]
    """`BackupAndRestore` that goes on within an epoch, with the records that come next.

    Keras' own begins the epoch again with weights that have seen part of it.
    """

    _strict = True

    def __init__(self, dataset: Followed, backup_dir: str, **options: Any) -> None:
        keras.callbacks.BackupAndRestore.__init__(self, backup_dir, **options)
        self._dataset, self._before = dataset, None
        self._ordered = self.save_freq != "epoch"
        self._restored: tuple[int, int] | None = None  # the epoch that was stopped, and its batches that were seen
        self._num_seen = self._first = 0  # batches of this epoch: all, and those of an earlier run
        self._quiet = ExitStack()

    def on_train_begin(self, logs: Any = None) -> None:
        """Restore what was saved.

        Raises:
            StateError: the backup is of other records, another batch size, or another file.
        """
        super().on_train_begin(logs)
        self._quiet.close()
        self._restored, self._first, self._num_seen = None, 0, 0
        path = os.path.join(self.backup_dir, _POSITION)
        if not os.path.exists(path):
            if os.path.exists(self._weights_path):
                raise StateError(
                    f"a backup without {_POSITION}: nobody knows which records its weights have seen", path=path,
                    advice="Remove the directory, or go on with keras.callbacks.BackupAndRestore",
                )  # fmt: skip
            return
        saved = self._read(path)
        steps = self._dataset.num_batches or 0
        num_seen = saved["num_seen"] + self._updates() - saved["updates"]
        if num_seen < 0:
            raise StateError(
                f"the weights have {self._updates()} updates, and reading stands behind {saved['updates']}", path=path,
                advice="Remove the directory, and begin again",
            )  # fmt: skip
        later, num_seen = divmod(num_seen, steps) if steps else (0, 0)
        epoch = saved["epoch"] + later
        self.model._initial_epoch = epoch
        self._before = saved["data_epoch"] - saved["epoch"]
        self._restored = epoch, num_seen

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Begin the epoch, or what is left of it."""
        super().on_epoch_begin(epoch, logs)
        self._current_epoch = epoch  # Keras' own would save the first epoch that it ends under number 0
        if not os.path.exists(os.path.join(self.backup_dir, _POSITION)):
            os.makedirs(self.backup_dir, exist_ok=True)
            self._write_position()
        if self._first:
            # Keras counts on a whole epoch, and takes its early end for a mistake.
            self._quiet.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", message="Your input ran out of data")

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Save, if it is time."""
        # With steps_per_execution the last number may be beyond the last batch.
        steps = self._dataset.num_batches
        self._num_seen = self._first + batch + 1 if steps is None else min(self._first + batch + 1, steps)
        super().on_train_batch_end(self._num_seen - 1, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """The next epoch is whole."""
        self._num_seen = 0
        super().on_epoch_end(epoch, logs)
        self._quiet.close()
        self._restored, self._first = None, 0

    def on_train_end(self, logs: Any = None) -> None:
        """Remove what was saved, unless it was asked to stay."""
        super().on_train_end(logs)
        self._quiet.close()
        self.model._initial_epoch = None  # or the next fit would begin there

    def _first_batch(self, epoch: int) -> int:
        self._first = self._restored[1] if self._restored is not None and self._restored[0] == epoch else 0
        self._num_seen = self._first
        return self._first

    def _save_model(self) -> None:
        super()._save_model()
        self._write_position()

    def _write_position(self) -> None:
        assert self._before is not None  # an epoch was begun
        epoch = self._current_epoch
        data_epoch = self._before + epoch
        position = {
            "epoch": epoch, "num_seen": self._num_seen, "data_epoch": data_epoch, "updates": self._updates(),
            "batch_size": self._dataset.batch_size, "state": self._dataset.state_at(data_epoch, self._num_seen),
        }  # fmt: skip
        LOCAL.write_file(os.path.join(self.backup_dir, _POSITION), json.dumps(position).encode())

    def _updates(self) -> int:
        optimizer = self.model.optimizer
        return 0 if optimizer is None else int(keras.ops.convert_to_numpy(optimizer.iterations))

    def _read(self, path: str) -> dict[str, Any]:
        """What was saved, checked."""
        try:
            with open(path, "rb") as file:
                saved = json.loads(file.read())
            whole = all(type(saved[name]) is int and 0 <= saved[name] < 1 << 63 for name in _NUMBERS)
        except (ValueError, KeyError, TypeError):
            whole = False
        if not whole:
            raise StateError(
                "this is no position of a backup", path=path, advice="Remove the directory, and begin again"
            )
        if saved["batch_size"] != self._dataset.batch_size:
            raise StateError(
                f"batches had {saved['batch_size']} records when the backup was made, and have "
                f"{self._dataset.batch_size}", path=path, advice="Go on with the same batch size",
            )  # fmt: skip
        self._dataset.check_state(saved.get("state"))
        return dict(saved)
