"""Plans of an epoch, before it is read: who reads what, how evenly, at what cost, and how well it is mixed.

    plan_reading      for each pipeline: shards, chunks, records, bytes; steps, padding, idle replicas
    shuffle_quality   for the global batches: entropies, distinct shards, chi-square, beside those of a perfect shuffle

Both go through the very positions that a loader reads; no record is read, but for the classes that were asked for.

Spec: spec/order.md, sections 4 to 7; spec/quality.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from recordio.arguments import whole_number
from recordio.batches import Batches
from recordio.columns import Array
from recordio.distributed.context import InputContext
from recordio.distributed.dataset import DistributedDataset, distribute
from recordio.errors import RequestError
from recordio.loading.loader import MAX_EPOCH, Loader
from recordio.plan.order import ExactOrder, PooledOrder
from recordio.plan.quality import ShuffleQuality, measure_shuffle
from recordio.plan.splitting import Remainder
from recordio.progress import Progress
from recordio.reader import DataSetReader
from recordio.values.leaves import record_leaves

_STEPS_RECORDS = 1 << 16  # planned at once, about


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineReading:
    """What one pipeline reads in an epoch.

    Attributes:
        shards, chunks: ordinals of shards, and how many chunks, of which something is decoded.
        records: handed out.
        raw_size: bytes of these records.
        decoded_size: raw bytes that are decoded for them.
        stored_size: bytes of the files that are read for them; in stored order by whole frames of the largest column.
        amplification: decoded_size over raw_size.
        share: part of all stored chunk bytes of the data set.
        padding: rows without a record, under remainder="pad".
    """

    pipeline: int
    shards: tuple[int, ...]
    chunks: int
    records: int
    raw_size: int
    decoded_size: int
    stored_size: int
    amplification: float
    share: float
    padding: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingPlan:
    """What all pipelines read in an epoch.

    Attributes:
        steps: batches of each pipeline, equal for all.
        imbalance: the most bytes that a pipeline reads over the mean.
        idle_replicas: that never get a record, since a global batch has fewer records than there are replicas.
        mode, lanes, window: of the order; under FILE, that of the first pipeline.
    """

    path: str
    num_records: int
    num_shards: int
    num_chunks: int
    num_pipelines: int
    num_replicas: int
    batch_size: int
    policy: str
    remainder: str
    epoch: int
    mode: str
    lanes: int | None
    window: int | None
    steps: int
    imbalance: float
    idle_replicas: int
    pipelines: tuple[PipelineReading, ...]

    def to_map(self) -> dict[str, Any]:
        """Plain values for JSON."""
        found = asdict(self)
        found["pipelines"] = [{**asdict(one), "shards": list(one.shards)} for one in self.pipelines]
        return found


def plan_reading(
    loader: Batches,
    num_pipelines: int = 1,
    num_replicas: int | None = None,
    *,
    policy: Any = "AUTO",
    remainder: Remainder | None = None,
    epoch: int = 0,
    progress: Callable[[Progress], None] | None = None,
) -> ReadingPlan:
    """Find out who reads what in an epoch.

    Args:
        loader: batched by the size of a global batch; of a data set in files.
        num_replicas: in all; one for each pipeline by default.

    Raises:
        RequestError: as `distribute`; or the data set is in memory.
    """
    recipe = loader.recipe
    _check_epoch(recipe.repeats, epoch)
    reader = recipe.reader
    if not isinstance(reader, DataSetReader):
        raise RequestError("a data set in memory is read from no file, so that there is nothing to plan")
    num_pipelines = whole_number("num_pipelines", num_pipelines, least=1)
    replicas = num_pipelines if num_replicas is None else whole_number("num_replicas", num_replicas, least=1)
    report = _Reporter(progress, recipe.num_records)
    loaders = [
        distribute(loader, InputContext(num_pipelines, number, replicas), policy, remainder).loader
        for number in range(num_pipelines)
    ]
    chunks = _Chunks.of(reader)
    found = [_pipeline(number, one, epoch, chunks, report) for number, one in enumerate(loaders)]
    sizes = [one.stored_size for one in found]
    first = loaders[0]
    parameters = first.share.parameters
    return ReadingPlan(
        path=reader.source.path, num_records=recipe.num_records, num_shards=len(recipe.shard_ids()),
        num_chunks=len(recipe.tape), num_pipelines=num_pipelines, num_replicas=replicas, batch_size=loader.batch_size,
        policy=first.split.policy, remainder=first.remainder, epoch=epoch,
        mode="none" if parameters is None else parameters.mode,
        lanes=None if parameters is None else parameters.lanes,
        window=None if parameters is None else parameters.window,
        steps=first.span_steps() or 0, imbalance=max(sizes) * len(sizes) / max(1, sum(sizes)),
        idle_replicas=max(0, replicas - loader.batch_size), pipelines=tuple(found),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chunks:
    """All chunks of a data set; int64[k] each."""

    shards: Array
    firsts: Array  # of the chunks of each shard, by ordinal of the shard
    starts: Array  # first record
    counts: Array
    stored_sizes: Array

    @staticmethod
    def of(reader: DataSetReader) -> _Chunks:
        shards, _, ends = reader.chunk_table()
        starts = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
        none = np.empty(0, np.int64)
        stored = [np.diff(reader.shard(shard).table.offsets) for shard in range(len(reader.shards))]
        firsts = np.searchsorted(shards, np.arange(len(reader.shards)))
        return _Chunks(
            shards=shards, firsts=firsts, starts=starts, counts=ends - starts,
            stored_sizes=np.concatenate([none, *stored]),
        )  # fmt: skip


class _Reporter:
    def __init__(self, progress: Callable[[Progress], None] | None, total: int) -> None:
        self._progress, self._total = progress, total
        self._done, self._began = 0, time.monotonic()

    def add(self, count: int) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(
                Progress(
                    done_records=min(self._done, self._total), total_records=self._total, raw_size=0, stored_size=0,
                    done_shards=0, total_shards=None, elapsed_s=time.monotonic() - self._began, stage="plan",
                )
            )  # fmt: skip


def _check_epoch(repeats: int | None, epoch: int) -> None:
    """Refuse what has no last batch, and an epoch that no key has."""
    if repeats is None:
        raise RequestError(
            "a loader whose batches run over the ends of epochs, without a last one, has no plan of an epoch",
            advice="Leave repeat() out, or call it after batch",
        )
    whole_number("epoch", epoch, least=0, most=MAX_EPOCH)


def _blocks(loader: Loader, epoch: int) -> Iterator[tuple[Array, Any]]:
    """Sizes of the slots and what stands in them, some steps at a time."""
    span = loader.span()
    local = max(1, span.split.batch_size * span.split.num_slots // span.split.num_replicas)
    for steps in span.blocks(max(1, _STEPS_RECORDS // local)):
        yield steps.sizes, loader.share.want(epoch, steps.positions)


def _pipeline(number: int, loader: Loader, epoch: int, chunks: _Chunks, report: _Reporter) -> PipelineReading:
    share, recipe = loader.share, loader.recipe
    order = share.order
    decoded = np.zeros(len(chunks.counts), np.int64)  # rows of each chunk
    frame_rows = _frame_rows(loader)
    frames = np.cumsum(-(-chunks.counts // frame_rows))
    first_frames = frames - -(-chunks.counts // frame_rows)
    touched = np.zeros(len(order.segments(epoch).rows) if isinstance(order, PooledOrder) else 0, np.bool_)
    is_frame = np.zeros(int(frames[-1]) if order is None and len(frames) else 0, np.bool_)
    num_records = num_rows = 0
    for sizes, wanted in _blocks(loader, epoch):
        num_records += int(sizes.sum())
        num_rows += sizes.size * loader.split.slot_size
        if wanted.segments is not None:
            touched[wanted.segments] = True
        elif order is None:
            chunk = np.searchsorted(chunks.starts, wanted.numbers, side="right") - 1
            is_frame[first_frames[chunk] + (wanted.numbers - chunks.starts[chunk]) // frame_rows] = True
        report.add(int(sizes.sum()))
    if isinstance(order, PooledOrder):
        segments, tape = order.segments(epoch), order.tape
        of_tape = chunks.firsts[tape.shards] + tape.chunks
        np.add.at(decoded, of_tape[segments.chunks[touched]], segments.counts[touched])
    elif isinstance(order, ExactOrder):
        tape = share.tape
        decoded[chunks.firsts[tape.shards] + tape.chunks] = tape.counts
    else:
        frame = np.flatnonzero(is_frame)
        chunk = np.searchsorted(frames, frame, side="right")
        rows = np.minimum(frame_rows, chunks.counts[chunk] - (frame - first_frames[chunk]) * frame_rows)
        np.add.at(decoded, chunk, rows)
    there = decoded > 0
    stored_size = float((chunks.stored_sizes * (decoded / np.maximum(chunks.counts, 1))).sum())
    return PipelineReading(
        pipeline=number, shards=tuple(np.unique(chunks.shards[there]).tolist()), chunks=int(there.sum()),
        records=num_records, raw_size=round(num_records * recipe.row_size),
        decoded_size=round(int(decoded.sum()) * recipe.row_size), stored_size=round(stored_size),
        amplification=int(decoded.sum()) / max(1, num_records),
        share=stored_size / max(1, int(chunks.stored_sizes.sum())),
        padding=num_rows - num_records if loader.remainder == "pad" else 0,
    )  # fmt: skip


def _frame_rows(loader: Loader) -> int:
    """Records of a frame of the largest column, about."""
    recipe = loader.recipe
    reader: Any = recipe.reader
    sizes = [column.row_size for column in recipe.schema.columns if column.is_fixed]
    largest = max(sizes) if len(sizes) == len(recipe.schema.columns) else recipe.row_size
    return max(1, int(reader.frame_size / max(1.0, largest)))


def shuffle_quality(
    loader: Batches | DistributedDataset,
    *,
    classes: str | Sequence[int] | Array | None = None,
    num_replicas: int | None = None,
    epoch: int = 0,
) -> ShuffleQuality:
    """Measure how well an epoch is mixed.

    Args:
        loader: batched, or distributed.
        classes: the name of a column, whose values are then read, or one class for each record of the data set, by its
            number. Without it, shards are counted.
        num_replicas: for the replicas' parts of a loader that is not distributed.

    Raises:
        RequestError: there is no such column, or classes are not as many as records. TypeError: not batched.

    Source: spec/quality.md.
    """
    if isinstance(loader, DistributedDataset):
        loaders = loader.loader.everyone()
        replicas = loader.context.num_replicas_in_sync if num_replicas is None else num_replicas
    elif isinstance(loader, Batches):
        loaders, replicas = [loader.loader], 1 if num_replicas is None else num_replicas
    else:
        raise TypeError(f"shuffle_quality takes a loader, not {type(loader).__name__}. Batch it: ds.batch(n)")
    recipe = loaders[0].recipe
    _check_epoch(recipe.repeats, epoch)
    numbers, by_position = _global_numbers(loaders, epoch)
    shards, _, ends = recipe.reader.chunk_table()
    sources = shards[np.searchsorted(ends, numbers, side="right")] if len(numbers) else numbers
    labels = None if classes is None else _classes(loaders[0], classes)[numbers]
    quality = measure_shuffle(
        sources, batch_size=loaders[0].split.batch_size, num_replicas=replicas, classes=labels
    )
    if len(numbers) > 1:
        # Within a batch neighbours come from neighbouring lanes, which is for reading, and nothing that training sees.
        ordered = sources[by_position]
        quality = replace(quality, same_source_next=float(np.mean(ordered[1:] == ordered[:-1])))
    return quality


def _global_numbers(loaders: Sequence[Loader], epoch: int) -> tuple[Array, Array]:
    """Record numbers of an epoch, global batch after global batch, and where each stands in the order of positions."""
    keyed = []
    for number, loader in enumerate(loaders):
        step = 0
        for sizes, wanted in _blocks(loader, epoch):
            of_step = sizes.sum(axis=1)
            steps = np.repeat(np.arange(step, step + len(of_step)), of_step)
            keyed.append((steps, np.full(len(steps), number), wanted.numbers, wanted.positions))
            step += len(of_step)
    if not keyed:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    steps, pipelines, numbers, positions = (np.concatenate(parts) for parts in zip(*keyed, strict=True))
    order = np.lexsort((pipelines, steps))
    return numbers[order], np.lexsort((positions[order], pipelines[order]))


def _classes(loader: Loader, classes: Any) -> Array:
    """A number for the class of every record of the data set."""
    reader: Any = loader.recipe.reader
    if not isinstance(classes, str):
        found = np.asarray(classes)
        if found.shape != (reader.num_records,):
            raise RequestError(f"{found.size:,} classes for a data set of {reader.num_records:,} records")
        return found
    schema, ordinals = reader.schema.select([classes])
    if len(ordinals) != 1:
        raise RequestError(f"{classes!r} is no single column")
    column = schema.columns[0]
    parts: list[Array] = []
    for rows in reader.stream([(0, reader.num_records)], ordinals, workers=loader.recipe.options.num_threads):
        values = rows.columns[0]
        if column.is_fixed and column.shape == () and not column.optional and column.numpy_dtype.kind in "iub":
            parts.append(values.values.astype(np.int64))
        else:
            parts.append(np.array([repr(leaf) for leaf in record_leaves(column, values)], np.str_))
    if not parts:
        return np.empty(0, np.int64)
    found = np.concatenate(parts)
    return found if found.dtype.kind == "i" else np.unique(found, return_inverse=True)[1]

