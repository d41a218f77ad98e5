"""Splitting: which part of the stream each replica of each pipeline gets at each step.

    AUTO        parts of every batch, even but for one record, pipeline by pipeline
    DATA        contiguous parts of every batch, dealt out in turn        as tf.distribute has it
    OFF, FILE   sub-batches of a pipeline's own stream                    as tf.distribute has it
    FUNCTION    batches of a pipeline's own stream, dealt out in turn     as tf.distribute has it

Everything is arithmetic on counts; which records they are is not known here.

Spec: spec/order.md, sections 6 and 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from recordio.errors import RequestError
from recordio.plan.mixing import Array
from recordio.plan.stream import Stream

Policy = Literal["AUTO", "DATA", "FILE", "OFF", "FUNCTION"]
Remainder = Literal["empty", "drop", "pad", "error"]

REMAINDERS = ("empty", "drop", "pad", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """How batches are dealt out, seen from one pipeline."""

    policy: Policy = "AUTO"
    num_pipelines: int = 1  # P
    pipeline_id: int = 0  # i
    num_replicas: int = 1  # R, in all
    batch_size: int  # G

    @property
    def num_slots(self) -> int:
        """Replicas of this pipeline, R / P."""
        return self.num_replicas // self.num_pipelines

    @property
    def has_own_stream(self) -> bool:
        """Whether the pipeline reads a stream by itself, instead of its parts of one that all share."""
        return self.policy in ("FILE", "OFF", "FUNCTION")

    @property
    def sorted_size(self) -> int:
        """Records of a batch as the data set has it: what is sorted by lane."""
        return self.slot_size if self.policy == "FUNCTION" else self.batch_size

    @property
    def slot_size(self) -> int:
        """The most records that a slot gets."""
        return -(-self.batch_size // self.num_replicas)

    def slots(self, first: int, stop: int, stream: Stream) -> tuple[Array, Array]:
        """What the replicas get at steps [first, stop).

        Args:
            stream: in batches of `sorted_size`.

        Returns:
            First and last (half-open) place in the stream: int64[steps, slots] each.
        """
        steps = np.arange(first, stop, dtype=np.int64)[:, None]
        local = np.arange(self.num_slots, dtype=np.int64)
        size, replicas, num_records = self.batch_size, self.num_replicas, stream.length
        if self.has_own_stream:
            starts, stops = (self._place(steps * self.num_slots + local + more) for more in (0, 1))
            return (starts, stops) if num_records is None else (
                np.minimum(starts, num_records), np.minimum(stops, num_records)
            )  # fmt: skip
        if self.policy == "AUTO":
            first_part = self.pipeline_id * self.num_slots
            ends = stream.parts(first, stop, replicas)[:, first_part : first_part + self.num_slots + 1]
            return ends[:, :-1], ends[:, 1:]
        base = steps * size
        count = np.full_like(base, size) if num_records is None else np.clip(num_records - base, 0, size)
        part = local * self.num_pipelines + self.pipeline_id
        each = -(-count // replicas)
        starts, stops = (np.minimum(k * each, count) for k in (part, part + 1))
        return base + starts, base + stops

    def num_steps(self, num_records: int, remainder: Remainder) -> int:
        """Steps that this pipeline can take: with "drop" those that are full, else those with a record.

        Args:
            num_records: of its stream.
        """
        whole, rest = divmod(num_records, self.batch_size)
        if not self.has_own_stream:
            return whole + (rest > 0 and remainder != "drop")
        # P steps take one whole batch of the stream.
        ends = self._place(np.arange(self.num_pipelines + 1) * self.num_slots)
        if remainder == "drop":
            return whole * self.num_pipelines + int(np.searchsorted(ends, rest, side="right")) - 1
        if not num_records:
            return 0
        if not rest:  # where batches are smaller than replicas are many, the last steps may be without a record
            whole, rest = whole - 1, self.batch_size
        return whole * self.num_pipelines + int(np.searchsorted(ends, rest, side="left"))

    def _place(self, sub_batches: Array) -> Array:
        """The first place of sub-batches of an own stream."""
        sizes = np.full(self.num_replicas, self.batch_size // self.num_replicas, np.int64)
        sizes[: self.batch_size % self.num_replicas] += 1
        ends = np.concatenate([[0], np.cumsum(np.roll(sizes, -self.pipeline_id * self.num_slots))])
        places: Array = sub_batches // self.num_replicas * self.batch_size + ends[sub_batches % self.num_replicas]
        return places


def num_steps(splits: Sequence[Split], num_records: Sequence[int], remainder: Remainder) -> int:
    """Steps of an epoch, the same on every pipeline.

    Args:
        splits: of all pipelines, in order.
        num_records: of the stream of each.

    Raises:
        RequestError: remainder is "error", and not every step is full on every pipeline.
    """
    pairs = list(zip(splits, num_records, strict=True))
    full = min(split.num_steps(count, "drop") for split, count in pairs)
    if remainder == "drop":
        return full
    all_of_them = max(split.num_steps(count, "empty") for split, count in pairs)
    if remainder == "error" and full != all_of_them:
        split = splits[0]
        raise RequestError(
            f"{_counts(num_records)} do not divide into full batches of {split.batch_size}: step {full + 1} of "
            f"{all_of_them} is not full on every pipeline",
            advice="Use remainder='empty', 'drop' or 'pad', or another batch size",
        )
    return all_of_them


def _counts(num_records: Sequence[int]) -> str:
    different = sorted(set(num_records))
    if len(different) == 1:
        return f"{different[0]:,} records"
    return f"{different[0]:,} to {different[-1]:,} records a pipeline"
