"""All rows of an exact order at hand: decoded when they are first needed, and kept from epoch to epoch.

    parts of neighbouring chunks -> tasks -> one array of all rows for each column of fixed size -> batches by taking

Spec: spec/order.md, section 3.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any

import numpy as np

from recordio.buffers import Buffers
from recordio.columns import Array, ColumnValues, concat, empty, take_rows
from recordio.errors import DataError
from recordio.execute.pool import Inline
from recordio.loading.decoding import Decoded, Decoder
from recordio.loading.rows import Gathered, Wanted
from recordio.plan.tape import Tape
from recordio.schema import Column

_PART_SIZE = 16 << 20  # raw bytes that are decoded at once, about


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """All rows of an exact order, decoded."""

    columns: list[ColumnValues]
    places: Array | None  # int64[N], where each row is among those that could be read, -1 where it could not


class HeldRows:
    """All rows of a view at hand; decoded when they are first needed, and kept for the next epoch.

    Args:
        tape: the rows.
        record_size: raw bytes of a record, about.
    """

    def __init__(self, tape: Tape, columns: Sequence[Column], record_size: float) -> None:
        self._tape = tape
        self._columns = columns
        self._record_size = record_size
        self._lock = threading.Lock()
        self._loading_now = threading.Lock()
        self._is_damaged = False
        self._held: _Held | None = None

    def loaded(self, decoder: Decoder, *, loads: bool) -> _HeldStore | None:
        """A store that has nothing left to begin; None if the rows are not there, and are not, or cannot be, loaded.

        Of threads that ask at once, one decodes.
        """
        with self._loading_now:
            if self._held is None and (self._is_damaged or not loads):
                return None
            store = self.on(decoder)
            error = store.load(Inline()).exception()
        if error is None:
            return store
        if not isinstance(error, DataError):
            raise error
        self._is_damaged = True
        return None

    def on(self, decoder: Decoder) -> _HeldStore:
        """The store of one iteration."""
        return _HeldStore(self, decoder)

    def load(self, decoder: Decoder, executor: Executor) -> Future[_Held]:
        """Decode all rows, in parts on the executor; the future is done when all are."""
        done: Future[_Held] = Future()
        if self._held is not None:
            done.set_result(self._held)
            return done
        total = self._tape.num_records
        targets: list[Array | None] = [
            decoder.reader.buffers.empty((total, *(dim or 0 for dim in column.shape or ())), column.numpy_dtype)
            if column.is_fixed and not column.optional
            else None
            for column in self._columns
        ]
        parts = self._parts()
        decoded: list[Decoded | None] = [None] * len(parts)
        left = len(parts)

        def finish(number: int, task: Future[Decoded]) -> None:
            nonlocal left
            with self._lock:
                error = task.exception() if not task.cancelled() else None
                if task.cancelled() or error is not None:
                    if not done.done():
                        done.set_exception(error or RuntimeError("the iteration was closed"))
                    return
                decoded[number] = task.result()
                left -= 1
                if left or done.done():
                    return
            try:
                held = self._assemble(parts, decoded, targets)
            except Exception as failure:  # noqa: BLE001  for whoever waits: a callback of a future raises to nobody
                done.set_exception(failure)
                return
            self._held = held
            done.set_result(held)

        if not parts:
            done.set_result(_Held(columns=[empty(column) for column in self._columns], places=None))
        for number, (row, count, place) in enumerate(parts):
            into = [None if target is None else target[place : place + count] for target in targets]
            task = executor.submit(decoder.decode, row, count, into)
            task.add_done_callback(lambda task, number=number: finish(number, task))  # type: ignore[misc]
        return done

    def _parts(self) -> list[tuple[int, int, int]]:
        """Runs of neighbouring chunks: first row, rows, place among the held ones."""
        tape = self._tape
        most = max(1, int(_PART_SIZE / max(self._record_size, 1e-9)))
        parts: list[tuple[int, int, int]] = []
        place, last = 0, -1
        for shard, start, count in zip(tape.shards.tolist(), tape.starts.tolist(), tape.counts.tolist(), strict=True):
            if parts and parts[-1][0] + parts[-1][1] == start and parts[-1][1] + count <= most and shard == last:
                parts[-1] = (parts[-1][0], parts[-1][1] + count, parts[-1][2])
            else:
                parts.append((start, count, place))
            place, last = place + count, shard
        return parts

    def _assemble(
        self, parts: list[tuple[int, int, int]], decoded: list[Decoded | None], targets: list[Array | None]
    ) -> _Held:
        found = [one for one in decoded if one is not None]
        total = self._tape.num_records
        places = None
        if any(one.kept is not None for one in found):
            there = np.zeros(total, np.bool_)
            for (_, count, place), one in zip(parts, found, strict=True):
                there[place : place + count] = one.kept is None
                if one.kept is not None:
                    there[place + one.kept] = True
            places = np.where(there, np.cumsum(there) - 1, -1)
        columns = []
        for ordinal, target in enumerate(targets):
            if target is not None:
                values = target if places is None else target[places >= 0]
                columns.append(ColumnValues(len(values), values))
            else:
                columns.append(concat([one.columns[ordinal] for one in found]))
        return _Held(columns=columns, places=places)


class _HeldStore:
    def __init__(self, rows: HeldRows, decoder: Decoder) -> None:
        self._rows = rows
        self._decoder = decoder
        self._loading: Future[_Held] | None = None

    def begin(self, wanted: Wanted, executor: Executor) -> list[Future[Any]]:
        del wanted
        return [self.load(executor)]

    def load(self, executor: Executor) -> Future[Any]:
        if self._loading is None:
            self._loading = self._rows.load(self._decoder, executor)
        return self._loading

    def gather(self, wanted: Wanted) -> Gathered:
        assert self._loading is not None
        held = self._loading.result()
        buffers = self._decoder.reader.buffers
        places, kept = wanted.rows, None
        if held.places is not None:
            places = held.places[places]
            kept = np.flatnonzero(places >= 0)
            places = places[kept]
        return Gathered(
            [
                _gather_rows(column, values, places, buffers)
                for column, values in zip(self._rows._columns, held.columns, strict=True)
            ],
            kept,
        )

    def release(self, epoch: int, position: int) -> None:
        del epoch, position

    def close(self) -> None:
        pass


def _gather_rows(column: Column, rows: ColumnValues, places: Array, buffers: Buffers) -> ColumnValues:
    """The rows at places (int64[m], in range), in memory that is lent."""
    if column.is_fixed and not column.optional:
        values = buffers.empty((len(places), *rows.values.shape[1:]), rows.values.dtype)
        np.take(rows.values, places, axis=0, out=values, mode="clip")
        return ColumnValues(len(places), values)
    return take_rows(column, rows, places)
