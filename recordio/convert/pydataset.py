"""PyDatasets: N batches, each fetched once, by number. Keras is not imported; the protocol is enough.

    num_batches or __len__                how many; None needs a step count
    __getitem__(i)                        array, dict, or list or tuple of one to three (x, y, sample_weight)
    on_epoch_begin, on_epoch_end          once, before the first batch and after the last one is written
    workers, use_multiprocessing, max_queue_size

Source: keras.utils.PyDataset, and how Keras 3 reads a batch (`PyDatasetAdapter._standardize_batch`): a list is a tuple.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, cast

from recordio.convert.pieces import DEFAULT_QUEUE_SIZE, Part, check_pickle, fixed_row_size, given_size
from recordio.convert.sequences import IndexedSource, ItemsPart, Shared, make_resident
from recordio.errors import RequestError, SignatureError, SourceError
from recordio.schema import Schema
from recordio.values.infer import infer_batch_signature, infer_signature
from recordio.values.ragged import Ragged
from recordio.values.ragged_tensors import as_numpy
from recordio.values.signature import count_rows
from recordio.values.tensors import is_tensor

_ABSENT = object()


def is_pydataset(candidate: Any) -> bool:
    """Tell whether an instance, or a class, follows the protocol of keras.utils.PyDataset."""
    # Statically: num_batches is a property that raises where it is not overridden.
    def has(name: str) -> bool:
        return inspect.getattr_static(candidate, name, _ABSENT) is not _ABSENT

    return has("__getitem__") and has("on_epoch_end") and (has("num_batches") or has("__len__"))


def from_pydataset(
    dataset: Any, unbatch: bool = True, output_signature: Any = None, num_batches: int | None = None
) -> PyDatasetSource:
    """Make a source of a PyDataset.

    Args:
        dataset: follows the protocol of keras.utils.PyDataset.
        unbatch: a record is one row of a batch; else it is a whole batch.
        output_signature: of one record; inferred from the first batch without it.
        num_batches: how many to take, for a data set that has no end; at most as many as there are.

    Raises:
        SourceError: it is none, or has no end and num_batches is not given.
    """
    if inspect.isclass(dataset):
        name = dataset.__qualname__
        raise SourceError(f"{name} is a class, not a PyDataset", advice=f"Make an instance: {name}(...)")
    if not is_pydataset(dataset):
        raise SourceError(
            f"{type(dataset).__qualname__} is not a PyDataset: it lacks __getitem__, on_epoch_end, or both num_batches "
            "and __len__",
            advice="Derive it from keras.utils.PyDataset",
        )
    return PyDatasetSource(dataset, unbatch, output_signature, num_batches)


class PyDatasetSource(IndexedSource):
    """The batches of a PyDataset."""

    def __init__(self, dataset: Any, unbatch: bool, signature: Any, num_batches: int | None) -> None:
        super().__init__(signature)
        self.num_batches = _count_batches(dataset, num_batches)
        # Keras 2 has no such attributes; 0 workers means the calling thread, as 1 does here.
        self.workers = max(1, int(getattr(dataset, "workers", None) or 1))
        self.use_multiprocessing = bool(getattr(dataset, "use_multiprocessing", False))
        self.max_queue_size = max(1, int(getattr(dataset, "max_queue_size", None) or DEFAULT_QUEUE_SIZE))
        self.num_records = None if unbatch else self.num_batches
        self._unbatch = unbatch
        self._shared = Shared(dataset)
        self._begun = False
        self._finished = False

    def finish(self) -> None:
        if not self._finished:
            self._begin()       # a resumed pass may have had nothing left to fetch
            self._begun, self._finished = False, True
            self._shared.resident = False
            self._shared.value.on_epoch_end()

    def identity(self) -> Any:
        return {"num_batches": self.num_batches}

    def check_picklable(self) -> None:
        self._pickle()

    def worker_setup(self) -> tuple[Callable[..., object], tuple[Any, ...]]:
        self._begin()
        payload = self._pickle()
        self._shared.resident = True
        return make_resident, (self._shared.token, payload)

    def _pickle(self) -> bytes:
        return check_pickle(self._shared.value, f"the PyDataset {type(self._shared.value).__qualname__}")

    def _begin(self) -> None:
        if not self._begun:
            self._begun, self._finished = True, False
            begin = getattr(self._shared.value, "on_epoch_begin", None)
            if begin is not None:
                begin()

    def expected_records(self) -> int | None:
        """As many in every batch as in the first, if that has been looked at."""
        first = self._kept().get(0)
        if first is None or not self._unbatch:
            return self.num_records
        try:
            return self.num_batches * count_rows(Schema.from_signature(self.resolve_signature()), first)
        except SignatureError:
            return None  # whoever writes it says so

    def _infer(self) -> Any:
        head = self._fetch_head(1)
        if not head:
            raise SourceError("the PyDataset has no batch to infer a signature from", advice="Give an output_signature")
        return infer_batch_signature(head[0], lone_lists="refuse") if self._unbatch else infer_signature(head)

    def _total(self) -> int:
        return self.num_batches

    def _split(self, num_shards: int | None, shard_size: int | None, row_size: int | None) -> list[Part] | None:
        if self._unbatch and num_shards is not None and num_shards > self.num_batches:
            return None     # whole batches would leave shards empty
        return super()._split(num_shards, shard_size, row_size)

    def _part(self, start: int, stop: int) -> ItemsPart:
        self._begin()
        # A signature of the user's that is a list says that a record is one; otherwise it is a tuple, as for Keras.
        fetch = partial(get_batch, list if isinstance(self.signature, list) else tuple)
        kind: Literal["record", "batch"] = "batch" if self._unbatch else "record"
        return ItemsPart(fetch, self._shared, kind, (start, stop), what="batch", parallel=True)

    def _measure(self) -> int:
        head = self._fetch_head(1)
        if not head:
            return 1
        row_size = fixed_row_size(self.resolve_signature())
        if row_size is None:
            return given_size(head[0])
        return row_size * (count_rows(Schema.from_signature(self.resolve_signature()), head[0]) if self._unbatch else 1)


def get_batch(top: type[list[Any]] | type[tuple[Any, ...]], shared: Shared, index: int) -> Any:
    """Fetch one batch, its tensors as arrays, trailing Nones of (x, y, sample_weight) dropped.

    Raises:
        SourceError: it is no array, dict, or list or tuple of one to three.
    """
    batch = shared.value[index]
    if isinstance(batch, list | tuple):
        entries = list(batch)
        if not 1 <= len(entries) <= 3:
            raise SourceError(
                f"batch {index} has {len(entries)} entries, a PyDataset gives one to three: (x, y, sample_weight)",
                advice="Return a dict to store more than that",
            )
        while len(entries) > 1 and entries[-1] is None:
            entries.pop()
        batch = top(entries)
    elif not isinstance(batch, dict | Ragged) and not is_tensor(type(batch)):
        raise SourceError(
            f"batch {index} is a {type(batch).__qualname__}",
            advice="A PyDataset gives an array, a dict, or a tuple (x, y, sample_weight)",
        )
    return _with_arrays(batch)


def _with_arrays(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_arrays(leaf) for key, leaf in value.items()}
    if isinstance(value, tuple):
        return tuple(_with_arrays(leaf) for leaf in value)
    # A long list is a leaf (labels, texts), and need not be looked through.
    if isinstance(value, list) and not (value and isinstance(value[0], str | bytes | int | float)):
        return [_with_arrays(leaf) for leaf in value]
    return as_numpy(value)


def _count_batches(dataset: Any, wanted: int | None) -> int:
    if wanted is not None and wanted < 0:
        raise RequestError(f"num_batches is {wanted}, but must not be negative")
    try:
        if inspect.getattr_static(dataset, "num_batches", _ABSENT) is not _ABSENT:
            found = dataset.num_batches
        else:
            found = len(dataset)
    except NotImplementedError:
        found = None
    if found is None and wanted is None:
        raise SourceError(
            f"the PyDataset {type(dataset).__qualname__} does not say how many batches it has (num_batches is None)",
            advice="Say how many to take: recordio.from_pydataset(dataset, num_batches=...)",
        )
    if found is not None and wanted is not None and wanted > found:
        raise SourceError(
            f"num_batches is {wanted}, but the PyDataset has {found}", advice="Leave num_batches out to take them all"
        )
    return int(cast(int, found if wanted is None else wanted))
