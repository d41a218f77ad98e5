"""Pieces, parts and sources: the one face that every kind of source shows to convert.

    source -> parts (one per output shard, in order; or one part for everything) -> pieces -> records

A **piece** is what is handed to the writer at once; a **part** is all that a worker needs to produce the records of one
shard, in whatever process; a **source** knows how to be cut into parts. The kinds of source are in `generators`,
`sequences`, `pydataset` and `columnar`; which one an object becomes is decided in `sources`. None of them writes.
"""

from __future__ import annotations

import copy
import pickle
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import numpy as np

from recordio.errors import RequestError, SourceError
from recordio.plan.ranges import even_ranges
from recordio.refusals import INSTEAD
from recordio.schema import Schema
from recordio.values.ragged import Ragged
from recordio.values.ragged_tensors import as_numpy

SOURCE_NOTE = "recordio: the source raised this"  # how the note on an exception of the source begins
DEFAULT_QUEUE_SIZE = 10         # batches of a PyDataset under way at once, as in Keras
INFER_RECORDS = 256             # records looked at, at most, to infer a signature
INFER_SIZE = 16 << 20           # bytes of them, at most: they are all kept
ESTIMATE_RECORDS = 1024         # records looked at, at most, to estimate the raw size of one

OnError = Literal["stop", "skip"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What is handed to the writer at once."""

    # record: one record. batch: a record's structure with a leading axis. columns: list[ColumnValues], needs no cast.
    # error: under on_error="skip", the exception of an item that could not be had. lost: (why, stop), for records
    # [number, stop) that a data set has lost, if it was opened with on_corrupt="skip".
    kind: Literal["record", "batch", "columns", "error", "lost"]
    value: Any
    number: int     # of the record, the first record of the columns, or the batch; from 0, as the label counts
    label: str      # for messages: "record 17", "batch 3", "record 17 of shard 2"


class Part(ABC):
    """A run of consecutive records of a source: picklable, and able to produce them again.

    Attributes:
        num_records: how many there will be, or None if that is not known.
        parallel: `pieces` makes use of an executor.
    """

    num_records: int | None = None
    parallel: bool = False

    @abstractmethod
    def pieces(
        self, executor: Executor | None = None, window: int = DEFAULT_QUEUE_SIZE, on_error: OnError = "stop"
    ) -> Generator[Piece]:
        """Produce the records, in order.

        Args:
            executor: where the batches of a PyDataset are fetched; other parts have no use for it.
            window: batches under way there, at most.
            on_error: "skip" gives an item that could not be had as a piece of kind "error" and goes on, where the
                source allows that (a generator that raised has ended).

        Raises:
            Exception: what the user's source raised, with a note that says at which record or batch.
            DataError: a data set of ours is damaged, and was not opened with on_corrupt="skip"; whatever on_error is.
        """


# What users of tf.data would call on a generator, or on what a loader is made of.
_OPERATORS = frozenset(
    {
        "batch", "padded_batch", "shuffle", "map", "repeat", "take", "skip", "shard", "subset", "prefetch", "zip",
        "with_options", "set_epoch", "select_columns", *INSTEAD,
    }
)  # fmt: skip


class Source(ABC):
    """Something that can be converted.

    Cut it first (`split`, or `whole`), then ask for the signature: what is looked at to infer it then comes from the
    parts themselves, is kept in them, and is not asked for again.

    Attributes:
        signature: of one record, a structure of specs; None while it is not known.
        num_records: how many there are, or None if that is not known.
        lossy: some of them may turn out to be lost, and are then left out.
        on_error: "skip" if items that cannot be had are left out, the first ones too; whoever converts sets it.
        repeatable: False if it can be read once only (an iterator): there is nothing to resume from.
        workers, use_multiprocessing, max_queue_size: what the source itself asks for; None if it does not say.
    """

    signature: Any = None
    num_records: int | None = None
    lossy: bool = False
    on_error: OnError = "stop"
    repeatable: bool = True
    workers: int | None = None
    use_multiprocessing: bool | None = None
    max_queue_size: int | None = None

    def __getattr__(self, name: str) -> Any:
        if name in _OPERATORS:
            raise RequestError(
                f"there is no {name} on a source that is not converted",
                advice=f"Convert it first: recordio.convert(source, path); then recordio.open(path).{name}(...)",
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def resolve_signature(self) -> Any:
        """Give the signature, inferred from the first records or the first batch if it is not known.

        Raises:
            SourceError: there is no record to infer it from.
        """
        if self.signature is None:
            self.signature = self._infer()
        return self.signature

    def split(
        self, *, num_shards: int | None = None, shard_size: int | None = None, row_size: int | None = None
    ) -> list[Part] | None:
        """Cut into one part per output shard, or give None if the source must be read from the front.

        That is where nothing else of it is known, for fewer batches of a PyDataset than there are to be shards, and
        where none of the first items can be had to tell their size, under on_error="skip".

        Args:
            num_shards: exactly so many parts, as even as can be, the larger ones first; the last may be empty.
            shard_size: raw bytes of a part, about; instead of num_shards.
            row_size: raw bytes of one record (of one batch, for a PyDataset), if they are known from an earlier run;
                otherwise they follow from the signature or are estimated: see `item_size`.

        Raises:
            RequestError: neither or both are given, or one is below 1.
            SourceError: the source cannot be cut so, or has no length.
        """
        if (num_shards is None) == (shard_size is None):
            raise RequestError(f"num_shards is {num_shards} and shard_size {shard_size}", advice="Give one of them")
        for name, value in (("num_shards", num_shards), ("shard_size", shard_size), ("row_size", row_size)):
            if value is not None and value < 1:
                raise RequestError(f"{name} is {value}, but must be at least 1")
        return self._split(num_shards, shard_size, row_size)

    def item_size(self) -> int | None:
        """Raw bytes of one record (one batch, for a PyDataset), exact or estimated; None where split gives None."""
        return None

    def expected_records(self) -> int | None:
        """About how many records there are, as far as that is known without asking for one; for the time left."""
        return self.num_records

    def identity(self) -> Any:
        """What tells this source from another, as far as that is known without asking it for a record; JSON.

        A conversion is resumed with an equal one only: parts that are cut elsewhere would make a mixture.
        """
        return None

    @abstractmethod
    def whole(self) -> Part:
        """Everything as one part, read from the front."""

    def finish(self) -> None:  # noqa: B027  most sources have nothing to do
        """Tell the source that the pass has ended well."""

    def check_picklable(self) -> None:  # noqa: B027  most parts hold plain values
        """Raise a SourceError that says what to do if the parts cannot go to another process of ours.

        A pool that pickles by value (cloudpickle: dask, loky) accepts more; do not ask before using one.
        """

    def worker_setup(self) -> tuple[Callable[..., object], tuple[Any, ...]] | None:
        """Give initializer and arguments for our processes, where that saves sending a large source with every task.

        From then on the parts can be sent to processes that were set up so, and to no others.
        """
        return None

    @abstractmethod
    def _infer(self) -> Any: ...

    def _split(self, num_shards: int | None, shard_size: int | None, row_size: int | None) -> list[Part] | None:
        return None


def item_ranges(total: int, num_shards: int | None, items_per_shard: int) -> list[tuple[int, int]]:
    """Cut by a number of shards if there is one, else by items per shard; there is always at least one range."""
    if num_shards is not None:
        return even_ranges(total, num_shards)
    return [(start, min(start + items_per_shard, total)) for start in range(0, max(total, 1), items_per_shard)]


def raise_at(error: Exception, label: str) -> NoReturn:
    """Raise an exception of the user's source with a note that says where it happened; its type stays.

    Except for StopIteration, which would look like the end of a source to the generators that it passes through.
    """
    note = f"{SOURCE_NOTE} at {label}"
    if isinstance(error, StopIteration):
        stopped = RuntimeError(f"the source raised StopIteration at {label}")
        stopped.add_note(note)
        raise stopped from error
    error.add_note(note)
    raise error


def is_table(candidate: Any) -> bool:
    """Whether this is a DataFrame of some kind, which is iterated over by column."""
    return hasattr(candidate, "columns") and any(
        hasattr(candidate, name) for name in ("iloc", "__dataframe__", "__arrow_c_stream__")
    )


def is_mapping(candidate: Any) -> bool:
    """Whether this is a dict, or some other thing that is iterated over by key."""
    if isinstance(candidate, Mapping):
        return True
    # Many a numbered data set has an attribute `keys`, and no __iter__; a pandas.Series is iterated over by value.
    by_key = callable(getattr(candidate, "keys", None)) and hasattr(candidate, "__getitem__")
    return by_key and hasattr(candidate, "__iter__") and not hasattr(candidate, "__array__")


def fixed_row_size(signature: Any) -> int | None:
    """Raw bytes of a record, if they are the same for every record of this signature."""
    columns = Schema.from_signature(signature).columns
    if not all(column.is_fixed for column in columns):
        return None
    return sum(column.row_size + column.optional for column in columns)


def given_size(value: Any) -> int:
    """About how many bytes a record or batch has, as the source gives it."""
    if isinstance(value, dict):
        return sum(given_size(leaf) for leaf in value.values())
    if isinstance(value, np.ndarray) and value.dtype.kind in "OUT":
        return sum(given_size(leaf) for leaf in value.flat)
    if isinstance(value, list | tuple):
        return sum(given_size(leaf) for leaf in value)
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, bytes | bytearray):
        return len(value)
    return 0 if value is None else int(getattr(value, "nbytes", 8))


def own_copy(value: Any) -> Any:
    """Copy a record or batch that must outlast the next one: many a source fills the same array again."""
    if type(value) is dict:
        return {key: own_copy(leaf) for key, leaf in value.items()}
    if type(value) in (list, tuple):
        return type(value)(own_copy(leaf) for leaf in value)
    if isinstance(value, np.ndarray | Ragged):
        return value.copy()
    if value is None or isinstance(value, str | bytes | bool | int | float | complex | np.generic):
        return value
    array = as_numpy(value)
    if array is not value:
        return array.copy()
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001  whatever it is, no signature has a place for it: it is refused by its type later
        return value


def check_pickle(value: Any, name: str) -> bytes:
    """Pickle something of the user's for another process.

    Raises:
        SourceError: that cannot be done, or the other process could not find its definition.
    """
    try:
        payload = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        raise SourceError(
            f"{name} cannot be sent to a worker process: {error}",
            advice="Define it at the top level of a module (no lambda, no function or class inside a function) and let "
            "it open files where it reads them; or use threads: use_multiprocessing=False",
        ) from error
    kind = value if hasattr(value, "__qualname__") else type(value)
    if kind.__module__ == "__main__" and not hasattr(sys.modules["__main__"], "__file__"):
        raise SourceError(
            f"{name} is defined in an interactive session, where worker processes cannot find it",
            advice="Put it into a module and import it; or use threads: use_multiprocessing=False",
        )
    return payload
