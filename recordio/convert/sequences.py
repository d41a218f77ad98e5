"""Sequences: sources whose items have numbers, so that each can be had without those before it.

    a list of records, anything with __len__ and __getitem__       items are records
    the batches of a PyDataset (`recordio.convert.pydataset`)      items are batches

The first items, fetched to infer the signature or to estimate sizes, are kept in the parts that they belong to. Worker
processes get a large source once, when they start, and not with every task (`Shared`).
"""

from __future__ import annotations

import pickle
import uuid
from abc import abstractmethod
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor
from contextlib import closing
from functools import partial
from typing import Any, Literal

from recordio.convert.pieces import (
    DEFAULT_QUEUE_SIZE,
    ESTIMATE_RECORDS,
    INFER_RECORDS,
    INFER_SIZE,
    OnError,
    Part,
    Piece,
    Source,
    check_pickle,
    fixed_row_size,
    given_size,
    item_ranges,
    own_copy,
    raise_at,
)
from recordio.errors import SourceError
from recordio.execute.pool import ordered_map
from recordio.values.infer import infer_signature

_MAX_FAILED = 32        # items that cannot be had, at most, before one that can


class Shared:
    """An object that many tasks need, under a name by which a worker process can know it already."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.token = uuid.uuid4().hex
        self.resident = False

    def __reduce__(self) -> tuple[Any, ...]:
        return (_find_resident, (self.token,)) if self.resident else (Shared, (self.value,))


# In a worker process: the objects it was set up with, pickled until they are first needed; then themselves.
_resident: dict[str, bytes | Shared] = {}


def make_resident(token: str, payload: bytes) -> None:
    # Not unpickled here: what a process raises while it starts is lost, and the pool with it.
    _resident[token] = payload


def _find_resident(token: str) -> Shared:
    found = _resident.get(token)
    if found is None:
        raise SourceError(
            "the source is not known to this worker process",
            advice="Make the pool with the initializer that worker_setup() gives, or do not call worker_setup()",
        )
    if isinstance(found, bytes):
        found = Shared(pickle.loads(found))  # noqa: S301  from our own parent process
        found.token, found.resident = token, True
        _resident[token] = found
    return found


def get_item(shared: Shared, number: int) -> Any:
    """Fetch one record, as it is."""
    return shared.value[number]


class ItemsPart(Part):
    """Items start to stop of an indexed source; the first ones may have been fetched already."""

    def __init__(
        self,
        fetch: Callable[[Shared, int], Any],
        shared: Shared,
        kind: Literal["record", "batch"],
        numbers: tuple[int, int],       # of the items, in the source
        first_index: int = 0,           # number of the item that has the index 0 in `shared`
        *,
        what: str,                      # "record" or "batch", for labels
        parallel: bool = False,         # fetching is worth an executor
    ) -> None:
        self.start, self.stop = numbers
        self.num_records = self.stop - self.start if kind == "record" else None
        self.head: dict[int, Any] = {}  # items by number: handed out once instead of being fetched
        self._fetch = fetch
        self._shared = shared
        self._kind: Literal["record", "batch"] = kind
        self._first_index = first_index
        self._what = what
        self.parallel = parallel

    def pieces(
        self, executor: Executor | None = None, window: int = DEFAULT_QUEUE_SIZE, on_error: OnError = "stop"
    ) -> Generator[Piece]:
        head, self.head = self.head, {}
        known = frozenset(head)
        rest = (number for number in range(self.start, self.stop) if number not in known)
        with closing(self._fetched(rest, executor, window, on_error)) as fetched:
            for number in range(self.start, self.stop):
                yield self._piece(number, head.pop(number) if number in known else next(fetched))

    def _fetched(
        self, numbers: Iterator[int], executor: Executor | None, window: int, on_error: OnError
    ) -> Generator[Any]:
        """Values of items; exceptions among them under on_error="skip"."""
        if executor is not None and self.parallel:
            fetch = partial(_fetch_item, self._fetch, self._shared, self._what, self._first_index)
            skip = on_error == "skip"
            results = ordered_map(executor, fetch, numbers, window=window, describe=self._label, return_exceptions=skip)
            with closing(results):
                yield from results
            return
        for number in numbers:
            try:
                value = self._get(number)
            except Exception as error:
                if on_error == "stop":
                    raise
                value = error
            yield value

    def _get(self, number: int) -> Any:
        return _fetch_item(self._fetch, self._shared, self._what, self._first_index, number, own=False)

    def _piece(self, number: int, value: Any) -> Piece:
        kind: Literal["record", "batch", "error"] = "error" if isinstance(value, Exception) else self._kind
        return Piece(kind=kind, value=value, number=number, label=self._label(number))

    def _label(self, number: int) -> str:
        return f"{self._what} {number}"


def _fetch_item(
    fetch: Callable[[Shared, int], Any], shared: Shared, what: str, first_index: int, number: int, own: bool = True
) -> Any:
    try:
        value = fetch(shared, number - first_index)
        # A result waits for its turn while later ones are fetched, and many a source fills the same array again.
        return own_copy(value) if own else value
    except Exception as error:  # noqa: BLE001  raised again, with its place
        raise_at(error, f"{what} {number}")


class IndexedSource(Source):
    """What sources with numbered items share: fixed ranges, and a head that is fetched once and kept in the parts."""

    def __init__(self, signature: Any) -> None:
        self.signature = signature
        self._parts: list[ItemsPart] = []
        self._head: dict[int, Any] = {}  # the first items, by number, while no part has them
        self._item_size: int | None = None

    def whole(self) -> Part:
        if len(self._parts) != 1:
            self._make_parts([(0, self._total())])
        return self._parts[0]

    def item_size(self) -> int | None:
        if self._item_size is None:
            try:
                self._item_size = max(1, self._measure())
            except Exception:
                # Without the first items: what of the others can be had makes shards by its size.
                if self.on_error == "stop" or self.signature is None:
                    raise
        return self._item_size

    def _split(self, num_shards: int | None, shard_size: int | None, row_size: int | None) -> list[Part] | None:
        items_per_shard = 1
        if shard_size is not None:
            item_size = row_size or self.item_size()
            if item_size is None:
                return None
            items_per_shard = max(1, shard_size // item_size)
        self._make_parts(item_ranges(self._total(), num_shards, items_per_shard))
        return list(self._parts)

    def _make_parts(self, ranges: list[tuple[int, int]]) -> None:
        self._head = self._kept()      # back from the parts that are given up
        self._parts = [self._part(start, stop) for start, stop in ranges]
        self._deal_head()

    def _kept(self) -> dict[int, Any]:
        return self._head | {number: item for part in self._parts for number, item in part.head.items()}

    def _deal_head(self) -> None:
        """Leave the head to the parts, if both are there: a large first batch must not live as long as the source."""
        if self._parts and self._head:
            last = max(self._head)
            for part in self._parts:
                if part.start > last:
                    break
                part.head = {n: item for n, item in self._head.items() if part.start <= n < part.stop}
            self._head = {}

    def _fetch_head(self, max_items: int) -> list[Any]:
        """Fetch the first items; they are asked for once, and kept for the parts they belong to.

        Under on_error="skip", items that cannot be had are passed over; their parts ask again, and report them.

        Raises:
            Exception: what the source raised; under "skip" for the first item, where none of many can be had.
        """
        kept = self._kept()
        if kept:
            return list(kept.values())
        head: dict[int, Any] = {}
        size = num_failed = 0
        failure: Exception | None = None
        first = self._part(0, min(INFER_RECORDS, self._total()))
        with closing(first.pieces(on_error=self.on_error)) as pieces:
            for piece in pieces:
                if piece.kind == "error":
                    failure, num_failed = failure or piece.value, num_failed + 1
                    if num_failed >= _MAX_FAILED and not head:
                        break
                    continue
                head[piece.number] = own_copy(piece.value)
                size += given_size(piece.value)
                if size >= INFER_SIZE or len(head) >= max_items:
                    break
        if failure is not None and not head:
            failure.add_note(f"recordio: none of the first {num_failed} items could be had; this is of the first")
            raise failure
        self._head = head
        self._deal_head()
        return list(head.values())

    @abstractmethod
    def _total(self) -> int:
        """Number of items."""

    @abstractmethod
    def _part(self, start: int, stop: int) -> ItemsPart: ...

    @abstractmethod
    def _measure(self) -> int:
        """Raw bytes of one item. Raises what the source does where none of the first ones can be had."""


class SequenceSource(IndexedSource):
    """Records that can be had by their number: a list, a range, a torch map-style data set."""

    def __init__(self, records: Any, signature: Any) -> None:
        super().__init__(signature)
        self.num_records = len(records)
        self._records = records
        self._shared = Shared(records)

    def check_picklable(self) -> None:
        first = self._records[:1] if isinstance(self._records, list) else self._records
        check_pickle(first, f"the {type(self._records).__qualname__} of records")

    def _infer(self) -> Any:
        head = self._fetch_head(INFER_RECORDS)
        if not head:
            raise SourceError("there is no record to infer a signature from", advice="Give an output_signature")
        return infer_signature(head)

    def _total(self) -> int:
        return len(self._records)

    def _part(self, start: int, stop: int) -> ItemsPart:
        if isinstance(self._records, list):
            # So that only these records go to the process that needs them.
            return ItemsPart(get_item, Shared(self._records[start:stop]), "record", (start, stop), start, what="record")
        return ItemsPart(get_item, self._shared, "record", (start, stop), what="record")

    def _measure(self) -> int:
        if self._total() == 0:
            return 1
        if self.signature is None:
            self.resolve_signature()
        fixed = fixed_row_size(self.signature)
        if fixed is not None:
            return fixed
        if isinstance(self._records, list):
            head = self._records[:ESTIMATE_RECORDS]
        else:
            head = self._fetch_head(INFER_RECORDS)
        return sum(given_size(record) for record in head) // max(1, len(head))
