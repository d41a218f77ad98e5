"""What a conversion has to report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recordio.dataset import Dataset, Shard


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
    raw_size: int  # bytes
    stored_size: int  # bytes of the shards
    duration_s: float
    element_spec: Any  # as declared, or as inferred
    fingerprint: str  # of the data set, hexadecimal
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
            "num_resumed_shards": self.num_resumed_shards, "raw_size": self.raw_size, "stored_size": self.stored_size,
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
    dataset: Dataset, path: str, *, num_resumed_shards: int, duration_s: float, skipped: tuple[SkippedRecord, ...] = ()
) -> ConversionReport:
    """Describe a data set that was just committed."""
    shards = dataset.shards
    return ConversionReport(
        path=path, num_records=len(dataset), num_shards=len(shards), num_resumed_shards=num_resumed_shards,
        raw_size=sum(s.raw_size for s in shards), stored_size=sum(s.stored_size for s in shards), duration_s=duration_s,
        element_spec=dataset.element_spec, fingerprint=dataset.fingerprint, shards=shards, skipped=skipped,
    )  # fmt: skip
