"""What a conversion has to report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from recordio.dataset import Dataset, Shard
from recordio.format.index import ShardEntry
from recordio.plan.ranges import even_ranges


@dataclass(frozen=True, slots=True)
class SkippedRecord:
    """What was left out: under on_error="skip" a record or a batch; of a data set that was opened with
    on_corrupt="skip", a range of records that cannot be read."""

    label: str  # where in the source: "record 17", "batch 3", "records 4384 to 4467"
    error: str
    record: int | None = None  # number in the source, or in its batch
    records: tuple[int, int] | None = None  # a range that is lost: half-open, numbers in the source

    def to_list(self) -> list[Any]:
        """As JSON, for the note of a finished shard."""
        return [self.label, self.error, self.record, self.records]

    @staticmethod
    def from_list(found: list[Any]) -> SkippedRecord:
        """Read what `to_list` gave."""
        label, error, record, records = found
        return SkippedRecord(str(label), str(error), record, None if records is None else tuple(records))


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionReport:
    """What was written, and what it took."""

    path: str
    num_records: int
    num_shards: int
    num_resumed_shards: int  # finished by an earlier run
    task: tuple[int, int] | None = None  # (i, N): only share i of the shards was written; all counts are of this share
    raw_size: int  # bytes
    stored_size: int  # bytes of the shards
    duration_s: float
    element_spec: Any  # as declared, or as inferred
    fingerprint: str  # of the data set, hexadecimal; empty after a task, which does not complete it
    shards: tuple[Shard, ...]
    skipped: tuple[SkippedRecord, ...] = ()

    @property
    def ratio(self) -> float:
        """Raw bytes for each stored byte."""
        return self.raw_size / self.stored_size if self.stored_size else 1.0

    def to_dict(self) -> dict[str, Any]:
        """As JSON, with the keys of this class; the spec as text."""
        return {
            "path": self.path, "num_records": self.num_records, "num_shards": self.num_shards,
            "num_resumed_shards": self.num_resumed_shards, "task": None if self.task is None else list(self.task),
            "raw_size": self.raw_size, "stored_size": self.stored_size,
            "ratio": round(self.ratio, 4), "duration_s": round(self.duration_s, 3),
            "element_spec": repr(self.element_spec), "fingerprint": self.fingerprint,
            "shards": [
                {"name": s.name, "first_record": s.first_record, "num_records": s.num_records, "raw_size": s.raw_size,
                 "stored_size": s.stored_size, "num_chunks": s.num_chunks}
                for s in self.shards
            ],
            "skipped": [
                {"label": s.label, "record": s.record, "records": None if s.records is None else list(s.records),
                 "error": s.error}
                for s in self.skipped
            ],
        }  # fmt: skip


def report_on(
    dataset: Dataset, path: str, *, num_resumed_shards: int, duration_s: float, skipped: tuple[SkippedRecord, ...] = (),
    task: tuple[int, int] | None = None,
) -> ConversionReport:  # fmt: skip
    """Describe a data set that is committed, or a task's share of it."""
    shards = dataset.shards
    if task is not None:
        shards = shards[slice(*even_ranges(len(shards), task[1])[task[0]])]
        num_resumed_shards = len(shards)
    return ConversionReport(
        path=path, num_records=sum(s.num_records for s in shards), num_shards=len(shards),
        num_resumed_shards=num_resumed_shards, task=task, raw_size=sum(s.raw_size for s in shards),
        stored_size=sum(s.stored_size for s in shards), duration_s=duration_s,
        element_spec=dataset.element_spec, fingerprint=dataset.fingerprint, shards=shards, skipped=skipped,
    )  # fmt: skip


def report_on_task(
    entries: Sequence[ShardEntry], path: str, *, task: tuple[int, int], element_spec: Any, num_resumed_shards: int,
    duration_s: float, skipped: tuple[SkippedRecord, ...] = (),
) -> ConversionReport:  # fmt: skip
    """Describe the share of one task; its records count from the first of the share."""
    first_records = accumulate((entry.num_records for entry in entries), initial=0)
    shards = tuple(
        Shard(name=entry.name, first_record=first, num_records=entry.num_records, raw_size=entry.raw_size,
              stored_size=entry.file_size, num_chunks=entry.num_chunks)
        for entry, first in zip(entries, first_records, strict=False)
    )  # fmt: skip
    return ConversionReport(
        path=path, num_records=sum(s.num_records for s in shards), num_shards=len(shards),
        num_resumed_shards=num_resumed_shards, task=task, raw_size=sum(s.raw_size for s in shards),
        stored_size=sum(s.stored_size for s in shards), duration_s=duration_s, element_spec=element_spec,
        fingerprint="", shards=shards, skipped=skipped,
    )  # fmt: skip
