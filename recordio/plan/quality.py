"""Shuffle quality: how well an order is mixed, as numbers beside those of a perfect shuffle.

    shard of every record, in stream order ->  entropy and distinct shards of batches, of the replicas' parts
                                               chi-square of blocks of the stream by shards
                                               chance that the next record is of the same shard

A perfect shuffle is a permutation that is as likely as any other. What it gives is computed from the sizes of the
shards, exactly and without a sample. Which order is measured, and where the shards come from, is the caller's
business; what is a good number is said in the spec.

Spec: spec/quality.md.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from recordio.errors import RequestError
from recordio.plan.mixing import Array
from recordio.plan.ranges import even_ranges

# Mean count of a cell that a chi-square needs to vary as its distribution says (Cochran 1954).
_LEAST_EXPECTED = 5
# So many records are sorted at a time: one batch at least, and some megabytes at most where batches are small.
_STRIDE = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class ShuffleQuality:
    """Measures of an order, each beside its expectation in a perfect shuffle; None where it means nothing.

    Entropies are of classes where those were given, everything else is of the sources.
    """

    num_records: int  # N
    batch_size: int  # G
    num_replicas: int  # R
    num_sources: int  # S, distinct ones; as a rule shards
    num_classes: int | None
    num_batches: int  # that were measured: the full ones, or the only one
    batch_entropy: float | None  # bits, mean of the batches
    uniform_batch_entropy: float | None
    replica_entropy: float | None  # bits, mean of the replicas' parts that hold a record; None with one replica
    uniform_replica_entropy: float | None
    shards_per_batch: float | None  # distinct sources, mean of the batches
    uniform_shards_per_batch: float | None
    num_blocks: int | None  # of the stream, for the chi-square
    chi2_per_dof: float | None  # N / (N - 1) in a perfect shuffle; None with one source
    same_source_next: float | None  # probability
    uniform_same_source_next: float | None

    def to_map(self) -> dict[str, Any]:
        """Plain values for JSON; what means nothing here is null."""
        return asdict(self)


def measure_shuffle(
    sources: Array, *, batch_size: int, num_replicas: int = 1, classes: Array | None = None
) -> ShuffleQuality:
    """Measure how well an order is mixed.

    Args:
        sources: int[N], the shard of every record, in stream order; any numbers.
        batch_size: records of a full global batch.
        num_replicas: in all; each gets a part of every batch, floor and ceil, the larger ones first. (AUTO may choose
            other larger ones, so that a part may be a record off.)
        classes: int[N], the class of every record, in stream order. Without them, a source is a class.

    Raises:
        RequestError: a number is below 1, or classes are not as many as sources.
        TypeError: the arrays do not hold integers along one axis.

    Source: spec/quality.md.
    """
    for name, value in (("batch_size", batch_size), ("num_replicas", num_replicas)):
        if value < 1:
            raise RequestError(f"{name} is {value}, but it must be at least 1")
    shards, shard_sizes = _numbered("sources", sources)
    labels, class_sizes = (shards, shard_sizes) if classes is None else _numbered("classes", classes)
    if len(labels) != len(shards):
        raise RequestError(f"{len(labels):,} classes were given for {len(shards):,} sources")

    num_records = len(shards)
    # Without a full batch, the only one is measured: every order gives it the same records.
    size = min(batch_size, num_records)
    num_batches = num_records // size if size else 0
    replica_entropy, uniform_replica_entropy = (
        _of_parts(labels, class_sizes, size, num_replicas) if num_replicas > 1 and size else (None, None)
    )
    batch_entropy, uniform_batch_entropy = _of_parts(labels, class_sizes, size, 1) if size else (None, None)
    num_blocks, chi2_per_dof = _chi2_per_dof(shards, shard_sizes)
    return ShuffleQuality(
        num_records=num_records,
        batch_size=batch_size,
        num_replicas=num_replicas,
        num_sources=len(shard_sizes),
        num_classes=None if classes is None else len(class_sizes),
        num_batches=num_batches,
        batch_entropy=batch_entropy,
        uniform_batch_entropy=uniform_batch_entropy,
        replica_entropy=replica_entropy,
        uniform_replica_entropy=uniform_replica_entropy,
        shards_per_batch=_runs(shards, size, 0, size)[1] if size else None,
        uniform_shards_per_batch=_drawn(shard_sizes, size)[1] if size else None,
        num_blocks=num_blocks,
        chi2_per_dof=chi2_per_dof,
        same_source_next=float(np.mean(shards[1:] == shards[:-1])) if num_records > 1 else None,
        uniform_same_source_next=_same_twice(shard_sizes) if num_records > 1 else None,
    )


def _numbered(name: str, values: Array) -> tuple[Array, Array]:
    """Give the distinct values the numbers from 0: number of each, uint[N], and how often each occurs, int64[S]."""
    values = np.asarray(values)
    if values.ndim != 1 or (values.dtype.kind not in "iu" and values.size):
        raise TypeError(f"{name} are integers along one axis, not {values.dtype}{list(values.shape)}")
    if not values.size:
        return np.zeros(0, np.uint16), np.zeros(0, np.int64)
    least, most = int(values.min()), int(values.max())
    if most - least <= 2 * len(values):
        # A table is several times faster than the sort of np.unique, and shards are numbered from 0 as a rule.
        # Modulo 2**64, so that no type of integer overflows.
        offsets = (values.astype(np.uint64) - np.uint64(least % (1 << 64))).astype(np.int64)
        sizes = np.bincount(offsets)
        numbers = (np.cumsum(sizes > 0) - 1)[offsets]
        sizes = sizes[sizes > 0]
    else:
        _, numbers, sizes = np.unique(values, return_inverse=True, return_counts=True)
    return numbers.astype(np.uint16 if len(sizes) <= 1 << 16 else np.uint32), sizes.astype(np.int64)


def _of_parts(labels: Array, sizes: Array, batch_size: int, num_parts: int) -> tuple[float, float]:
    """Mean entropy of the parts of every batch that hold a record, and what a perfect shuffle gives; bits."""
    ranges = [(start, stop) for start, stop in even_ranges(batch_size, num_parts) if stop > start]
    measured = math.fsum(_runs(labels, batch_size, start, stop)[0] for start, stop in ranges)
    # Any part of a perfect shuffle is a draw of its size, wherever it lies; there are two sizes at most.
    lengths, how_often = np.unique([stop - start for start, stop in ranges], return_counts=True)
    expected = math.fsum(int(times) * _drawn(sizes, int(size))[0] for size, times in zip(lengths, how_often))
    return measured / len(ranges), expected / len(ranges)


def _runs(labels: Array, batch_size: int, start: int, stop: int) -> tuple[float, float]:
    """Mean entropy in bits, and mean number of distinct labels, of places [start, stop) of every full batch."""
    num_batches = len(labels) // batch_size
    size = stop - start
    batches = labels[: num_batches * batch_size].reshape(num_batches, batch_size)
    step = max(1, _STRIDE // size)
    num_runs = 0
    total = 0.0
    for first in range(0, num_batches, step):
        part = np.sort(batches[first : first + step, start:stop], axis=1)
        is_first = np.ones(part.shape, np.bool_)
        np.not_equal(part[:, 1:], part[:, :-1], out=is_first[:, 1:])
        starts = np.flatnonzero(is_first)
        counts = np.diff(starts, append=part.size)
        num_runs += len(starts)
        total += float(np.dot(counts, np.log2(counts)))
    # Over the runs of a batch: -sum c/n log2(c/n) = log2 n - sum c log2 c / n.
    entropy = math.log2(size) - total / (num_batches * size)
    return max(entropy, 0.0), num_runs / num_batches


def _drawn(sizes: Array, num_drawn: int) -> tuple[float, float]:
    """Expected entropy in bits, and expected number of distinct labels, of records drawn without replacement.

    Args:
        sizes: int64[S], records of each label, none of them 0.
        num_drawn: from 1 to their sum.

    Source: spec/quality.md, section 2.
    """
    num_records = int(sizes.sum())
    total = 0.0
    num_labels = 0.0
    for size, how_often in zip(*np.unique(sizes, return_counts=True)):
        counts, chances = _hypergeometric(num_records, int(size), num_drawn)
        positive = counts > 0
        total += int(how_often) * float(np.dot(chances[positive], counts[positive] * np.log2(counts[positive])))
        num_labels += int(how_often) * float(chances[positive].sum())
    return max(math.log2(num_drawn) - total / num_drawn, 0.0), num_labels


def _hypergeometric(num_records: int, size: int, num_drawn: int) -> tuple[Array, Array]:
    """How many of `size` marked records are drawn: the possible counts, int64[m], and their chances, float64[m]."""
    others = num_records - size
    counts = np.arange(max(0, num_drawn - others), min(size, num_drawn) + 1, dtype=np.int64)
    # Ratios of neighbouring chances need no factorial, and no constant: chances sum to 1.
    k = counts[:-1]
    ratios = np.log(size - k) + np.log(num_drawn - k) - np.log(k + 1) - np.log(others - num_drawn + k + 1)
    logs = np.concatenate([[0.0], np.cumsum(ratios)])
    chances = np.exp(logs - logs.max())
    return counts, chances / chances.sum()


def _chi2_per_dof(shards: Array, sizes: Array) -> tuple[int | None, float | None]:
    """Blocks of the stream, and Pearson's chi-square of the table of blocks by shards over its degrees of freedom."""
    num_records, num_shards = len(shards), len(sizes)
    if num_shards < 2:
        return None, None
    num_blocks = max(2, min(num_shards, num_records // (_LEAST_EXPECTED * num_shards)))
    shares = sizes / num_records
    chi2 = 0.0
    # Block by block: the table is never held as a whole.
    for start, stop in even_ranges(num_records, num_blocks):
        expected = (stop - start) * shares
        counts = np.bincount(shards[start:stop], minlength=num_shards)
        chi2 += float(np.sum((counts - expected) ** 2 / expected))
    return num_blocks, chi2 / ((num_blocks - 1) * (num_shards - 1))


def _same_twice(sizes: Array) -> float:
    """Chance that two records drawn without replacement have the same label."""
    num_records = int(sizes.sum())
    return float(np.dot(sizes / num_records, (sizes - 1) / (num_records - 1)))
