"""Tasks: from the pieces of a part to one finished shard, in whatever thread, process or machine.

    part.pieces() -> feed -> RecordStream -> ShardSequence -> FinishedShard

A task holds all that it needs; done again, or twice at once, it gives the same bytes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recordio.chunks.encoding import EncodedChunk
from recordio.convert.pieces import OnError, Part, Piece
from recordio.convert.report import SkippedRecord
from recordio.errors import SignatureError
from recordio.job_paths import FinishedShard
from recordio.progress import Progress
from recordio.stream import RecordStream, ShardSequence, Target
from recordio.values.ragged import Ragged


@dataclass(frozen=True, slots=True, kw_only=True)
class PartTask:
    """One shard to be written from its part of the source; picklable if the part is."""

    target: Target
    part: Part
    shard_id: int
    last: bool
    on_error: OnError
    window: int  # batches under way at once, where the part fetches them on a pool


@dataclass
class Tracker:
    """Counts what has been done, tells whoever asked, and tells tasks to stop."""

    report: Callable[[Progress], None] | None = None
    total_records: int | None = None
    expected_records: int | None = None
    total_shards: int | None = None
    stage: str = "convert"
    records: int = 0
    raw_size: int = 0
    stored_size: int = 0
    shards: int = 0
    stopped: bool = False
    began: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _at_work: int = 0  # tasks of this process
    _idle: threading.Condition = field(default_factory=threading.Condition)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Count a task of this process as under way."""
        with self._idle:
            self._at_work += 1
        try:
            yield
        finally:
            with self._idle:
                self._at_work -= 1
                self._idle.notify_all()

    def wait_until_idle(self) -> None:
        """Wait until no task of this process is under way."""
        with self._idle:
            self._idle.wait_for(lambda: self._at_work == 0)

    def add_chunk(self, chunk: EncodedChunk) -> None:
        """Count a chunk that was written."""
        self._add(chunk.num_records, chunk.raw_size, chunk.stored_size, 0)

    def add_shard(self, shard: FinishedShard, *, counted: bool) -> None:
        """Count a finished shard; `counted`: its chunks were counted already."""
        entry = shard.entry
        self._add(*((0, 0, 0) if counted else (entry.num_records, entry.raw_size, entry.file_size)), 1)

    def _add(self, records: int, raw_size: int, stored_size: int, shards: int) -> None:
        with self._lock:
            self.records += records
            self.raw_size += raw_size
            self.stored_size += stored_size
            self.shards += shards
            if self.report is not None:
                now = Progress(
                    done_records=self.records, total_records=self.total_records, raw_size=self.raw_size,
                    stored_size=self.stored_size, done_shards=self.shards, total_shards=self.total_shards,
                    elapsed_s=time.monotonic() - self.began, stage=self.stage, expected_records=self.expected_records,
                )  # fmt: skip
                self.report(now)


def run_part(task: PartTask, *, executor: Executor | None = None, tracker: Tracker | None = None) -> FinishedShard:
    """Write one shard: temporary name, sync, rename, note."""
    with nullcontext() if tracker is None else tracker.at_work():
        return _run_part(task, executor, tracker)


def _run_part(task: PartTask, executor: Executor | None, tracker: Tracker | None) -> FinishedShard:
    task.target.paths.check_current()
    sequence = ShardSequence(task.target, first_shard=task.shard_id)
    skipped: list[SkippedRecord] = []

    def accept(shard_id: int, chunk: EncodedChunk) -> None:
        sequence.accept(shard_id, chunk)
        if tracker is not None:
            tracker.add_chunk(chunk)

    stream = RecordStream(task.target, accept)
    try:
        with closing(task.part.pieces(executor, task.window, task.on_error)) as pieces:
            feed(stream, pieces, on_error=task.on_error, skipped=skipped, tracker=tracker)
        stream.end()
        sequence.details["skipped"] = [found.to_list() for found in skipped]
        (finished,) = sequence.end(last=task.last)
    finally:
        stream.close()
        sequence.close()
    if tracker is not None:
        tracker.add_shard(finished, counted=True)
    return finished


def skipped_in(shard: FinishedShard) -> list[SkippedRecord]:
    """What the task that wrote this shard left out."""
    return [SkippedRecord.from_list(found) for found in shard.details.get("skipped", [])]


def feed(
    stream: RecordStream,
    pieces: Iterable[Piece],
    *,
    on_error: OnError,
    skipped: list[SkippedRecord],
    tracker: Tracker | None = None,
) -> None:
    """Write all pieces; what is left out is added to `skipped`.

    Raises:
        SignatureError: a record does not match, and `on_error` is "stop".
    """
    for piece in pieces:
        if tracker is not None and tracker.stopped:
            raise _Stopped
        if piece.kind == "columns":
            stream.write_columns(piece.value)
        elif piece.kind == "error":
            skipped.append(SkippedRecord(piece.label, f"{type(piece.value).__name__}: {piece.value}"))
        elif piece.kind == "lost":
            reason, stop = piece.value
            skipped.append(SkippedRecord(piece.label, reason, None, (piece.number, stop)))
        elif piece.kind == "record":
            try:
                stream.write(piece.value, piece.number)
            except SignatureError as error:
                _refused(error, piece, on_error, skipped)
        else:
            try:
                stream.write_batch(piece.value, 0)
            except SignatureError as error:
                if on_error == "skip":
                    _write_rows(stream, piece, error, skipped)
                else:
                    _refused(error, piece, on_error, skipped)


class _Stopped(Exception):
    """Another task has failed, or the user has interrupted; what this one has is not wanted any more."""


def _refused(error: SignatureError, piece: Piece, on_error: OnError, skipped: list[SkippedRecord]) -> None:
    if on_error == "skip":
        skipped.append(SkippedRecord(piece.label, _in_column(error), error.record))
        return
    if piece.kind == "batch" or piece.label != f"record {error.record}":
        # The number counts in the batch or the shard: as a record of the data set it would be wrong.
        row = f", record {error.record} of it" if piece.kind == "batch" and error.record is not None else ""
        error.message = f"{piece.label}{row}: {error.message}"
        error.record = None
    raise error


def say_inferred(error: SignatureError, *, earlier: bool = False) -> None:
    """Say of a record that was refused that nobody has declared the type which it does not match.

    Args:
        earlier: it was inferred by the run that is resumed.
    """
    error.message += "; this type was inferred from the first records"
    advice = "Give an output_signature that all records match"
    if earlier:
        error.message += " when the unfinished conversion began"
        advice += ", without resume; or resume with the source that it began with"
    error.advice = advice if error.advice is None else f"{advice}. {error.advice}"


def _in_column(error: SignatureError) -> str:
    return error.message if error.column is None else f"column {error.column!r}: {error.message}"


def _write_rows(stream: RecordStream, piece: Piece, error: SignatureError, skipped: list[SkippedRecord]) -> None:
    """Write the good rows of a batch that was refused, as batches themselves: what is a row is said in one place."""
    try:
        leaves = stream.schema.flatten(piece.value, 0)
    except SignatureError:
        leaves = []
    lengths = {len(leaf) if _has_rows(leaf) else None for leaf in leaves}
    num_rows = lengths.pop() if len(lengths) == 1 else None

    def write(start: int, stop: int) -> None:
        stream.write_batch(stream.schema.unflatten([leaf[start:stop] for leaf in leaves]), start)

    try:
        if num_rows is None:
            raise error
        write(0, 0)     # what refuses every row alike is said once
    except SignatureError:
        skipped.append(SkippedRecord(piece.label, _in_column(error), None))
        return
    waiting = _halves(0, num_rows)
    while waiting:
        start, stop = waiting.pop()
        try:
            write(start, stop)
        except SignatureError as refused:
            if stop - start == 1:
                skipped.append(SkippedRecord(piece.label, _in_column(refused), start))
            else:
                waiting += _halves(start, stop)


def _has_rows(leaf: Any) -> bool:
    """Whether `leaf[start:stop]` are rows of it, for certain: other things have a length too, or may be sliced."""
    return isinstance(leaf, Ragged | list | tuple) or (isinstance(leaf, np.ndarray) and leaf.ndim > 0)


def _halves(start: int, stop: int) -> list[tuple[int, int]]:
    """The ranges that are left to be tried, the first one last."""
    middle = (start + stop + 1) // 2
    return [(low, high) for low, high in ((middle, stop), (start, middle)) if low < high]
