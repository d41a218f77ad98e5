"""Maps: the user's functions between what is stored and what is batched.

    columns -> records or a batch -> fn -> checked against the spec -> columns -> the next function, or the batch

A function sees what is its own: nothing that it keeps or scribbles over is seen again. What it returns is checked like
any record that is written. An exception of it keeps its type, and gets a note with the number of the record; but
StopIteration, which would look like the end of the data, becomes a RuntimeError.

Spec: spec/order.md, section 8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recordio.columns import Array, ColumnValues, owned, slice_rows
from recordio.errors import RequestError, SignatureError
from recordio.execute.sending import sending_problem
from recordio.plan.mixing import key
from recordio.schema import Schema
from recordio.values.infer import infer_batch_signature, infer_signature
from recordio.values.leaves import batch_leaf, record_leaves
from recordio.values.signature import RecordBuffer, cast_batch

MAP_NOTE = "recordio: in map, "
_DECLARE = "Declare what the function returns: map(fn, output_signature=...)"


@dataclass(frozen=True, slots=True, kw_only=True)
class MapStage:
    """One `map`, as the user asked for it."""

    fn: Callable[..., Any]
    rng: bool = False
    batched: bool = False
    output_signature: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MapTask:
    """Rows to be mapped; it can be sent to another process.

    Attributes:
        columns: the caller's own.
        numbers: int64[m], record numbers, for errors.
        epochs: int64[m], and positions: int64[m] in them, for generators.
    """

    columns: list[ColumnValues]
    numbers: Array
    epochs: Array
    positions: Array


class MapStopped(Exception):
    """Mapping was given up, because nobody waits for the result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    stage: MapStage
    source: Schema
    target: Schema
    rng_stage: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapper:
    """All maps of a loader, one after the other. It can be sent to another process if their functions can."""

    steps: tuple[_Step, ...]
    seed: int

    @property
    def schema(self) -> Schema:
        """Of what comes out."""
        return self.steps[-1].target

    @property
    def row_size(self) -> int | None:
        """Raw bytes of a record that comes out; None where they differ."""
        columns = self.schema.columns
        if not all(column.is_fixed for column in columns):
            return None
        return sum(column.row_size + column.optional for column in columns)

    def of_pipeline(self, num_pipelines: int, pipeline_id: int) -> Mapper:
        """The same functions, with generators that no other pipeline has.

        Source: spec/order.md, section 8.
        """
        return replace(self, seed=key(self.seed, 0, "pipeline", num_pipelines, pipeline_id + 1)[0])

    def __call__(self, task: MapTask, is_stopped: Callable[[], bool] | None = None) -> list[ColumnValues]:
        """Map rows; the same number of them comes back.

        Args:
            task: its columns are let go as soon as the functions were called, and it is left without any.
            is_stopped: asked before every call of a function.

        Raises:
            Exception: what a function raised, with a note that names the record; RuntimeError for StopIteration.
                SignatureError: what it returned does not match the spec. MapStopped: is_stopped said so.
        """
        for step in self.steps:
            if not len(task.numbers):
                columns = RecordBuffer(step.target).take()
            elif step.stage.batched:
                if is_stopped is not None and is_stopped():
                    raise MapStopped
                columns = self._batch(step, task)
            else:
                columns = self._records(step, task, is_stopped)
            task = replace(task, columns=columns)
        return task.columns

    def _records(self, step: _Step, task: MapTask, is_stopped: Callable[[], bool] | None) -> list[ColumnValues]:
        buffer = RecordBuffer(step.target)
        self._fill(buffer, step, task, is_stopped)
        # No name here keeps the rows that went in while those that come out are put together.
        task.columns.clear()
        return buffer.take()

    def _fill(
        self, buffer: RecordBuffer, step: _Step, task: MapTask, is_stopped: Callable[[], bool] | None
    ) -> None:
        fn, unflatten = step.stage.fn, step.source.unflatten
        rows = zip(*map(record_leaves, step.source.columns, task.columns), strict=True)
        for row, leaves in enumerate(rows):
            record = unflatten(leaves)
            number = int(task.numbers[row])
            if is_stopped is not None and is_stopped():
                raise MapStopped
            try:
                if step.stage.rng:
                    generator = self._generator(step, int(task.epochs[row]), int(task.positions[row]))
                    mapped = fn(*record, rng=generator) if type(record) is tuple else fn(record, rng=generator)
                else:
                    mapped = fn(*record) if type(record) is tuple else fn(record)
            except Exception as error:
                where = f"position {int(task.positions[row])} of epoch {int(task.epochs[row])}"
                _note(error, f"at record {number} ({where})")
                raise
            try:
                buffer.append(mapped, number)
            except SignatureError as error:
                raise _of_map(error, step.stage) from error.__cause__

    def _batch(self, step: _Step, task: MapTask) -> list[ColumnValues]:
        fn = step.stage.fn
        batch = step.source.unflatten([batch_leaf(c, v) for c, v in zip(step.source.columns, task.columns)])
        first, last = int(task.numbers[0]), int(task.numbers[-1])
        try:
            mapped = fn(*batch) if type(batch) is tuple else fn(batch)
        except Exception as error:
            _note(error, f"at a batch of {len(task.numbers)} records, from record {first} to record {last}")
            raise
        del batch
        task.columns.clear()
        try:
            num_rows, columns = cast_batch(step.target, mapped, first_record=0)
        except SignatureError as error:
            if error.record is not None and error.record < len(task.numbers):
                error.record = int(task.numbers[error.record])
            raise _of_map(error, step.stage) from error.__cause__
        if num_rows != len(task.numbers):
            raise SignatureError(
                f"a batched map returned {num_rows} rows for {len(task.numbers)} records",
                record=first, advice="Return one row for every record; leave records out with subset, before map",
            )  # fmt: skip
        return columns

    def _generator(self, step: _Step, epoch: int, position: int) -> np.random.Generator:
        k0, k1, _, _ = key(self.seed, epoch, "map", position, step.rng_stage)
        return np.random.Generator(np.random.Philox(key=np.array([k0, k1], np.uint64)))


def _note(error: Exception, where: str) -> None:
    """Say where an exception of a function was raised.

    Raises:
        RuntimeError: it is StopIteration, which would end the iteration over batches as if it were complete.
    """
    note = f"{MAP_NOTE}{where}"
    error.add_note(note)
    if isinstance(error, StopIteration):
        failure = RuntimeError("the map function raised StopIteration: what it takes its values from has ended")
        failure.add_note(note)
        raise failure from error


def make_mapper(stages: Sequence[MapStage], schema: Schema, seed: int, samples: MapTask | None) -> Mapper:
    """Find the spec of what every function returns, and put them together.

    Args:
        samples: some records, or None if there are none; functions without an output_signature are called with them.

    Raises:
        SignatureError: what a function returns has no spec, and none was declared. Whatever a function raises.
    """
    steps: list[_Step] = []
    rng_stage = 0
    for stage in stages:
        if stage.output_signature is not None:
            target = Schema.from_signature(stage.output_signature)
        else:
            target = _inferred(stage, schema, seed, samples, rng_stage)
        step = _Step(stage=stage, source=schema, target=target, rng_stage=rng_stage)
        steps.append(step)
        if samples is not None and len(steps) < len(stages):
            samples = replace(samples, columns=Mapper(steps=(step,), seed=seed)(samples))
        schema = target
        rng_stage += stage.rng
    return Mapper(steps=tuple(steps), seed=seed)


def _inferred(stage: MapStage, schema: Schema, seed: int, samples: MapTask | None, rng_stage: int) -> Schema:
    if samples is None:
        raise RequestError("there is no record to find out with what the map function returns", advice=_DECLARE)
    collected: list[Any] = []

    def collect(*record: Any, **rng: Any) -> Any:
        collected.append(stage.fn(*record, **rng))
        raise _Collected

    probe = replace(stage, fn=collect)
    step = _Step(stage=probe, source=schema, target=schema, rng_stage=rng_stage)
    mapper = Mapper(steps=(step,), seed=seed)
    rows = [slice(None)] if stage.batched else [slice(row, row + 1) for row in range(len(samples.numbers))]
    for part in rows:
        try:
            mapper(_part(schema, samples, part))
        except _Collected:
            pass
    try:
        signature = infer_batch_signature(collected[0]) if stage.batched else infer_signature(collected)
        return Schema.from_signature(signature)
    except SignatureError as error:
        raise _of_map(error, stage) from error.__cause__


class _Collected(Exception):
    """A sample was taken; the function is not to be gone on with."""


def _part(schema: Schema, samples: MapTask, part: slice) -> MapTask:
    start, stop, _ = part.indices(len(samples.numbers))
    columns = [owned(slice_rows(c, v, start, stop)) for c, v in zip(schema.columns, samples.columns, strict=True)]
    return MapTask(
        columns=columns, numbers=samples.numbers[part], epochs=samples.epochs[part], positions=samples.positions[part]
    )


def _of_map(error: SignatureError, stage: MapStage) -> SignatureError:
    error.add_note(f"{MAP_NOTE}what the function returned is not what its spec says")
    if stage.output_signature is None:
        error.advice = _DECLARE
    return error


def check_picklable(mapper: Mapper) -> None:
    """Refuse functions that cannot go to another process, before one is started.

    Raises:
        RequestError: which function, and what to do.
    """
    for step in mapper.steps:
        problem = sending_problem(step.stage.fn)
        if problem is not None:
            name = getattr(step.stage.fn, "__qualname__", repr(step.stage.fn))
            raise RequestError(
                f"the map function {name} cannot be sent to a worker process: {problem}",
                advice="Define it at the top of a module, or use threads: with_options(use_multiprocessing=False)",
            ) from problem
