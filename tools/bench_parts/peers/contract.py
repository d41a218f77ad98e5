"""What the benchmark asks of a format: write a workload, and read it back in every way that trains models.

    workload (arrays on disk) -> write -> files -> epoch | record | batch -> what the format hands out
                                                                          -> leaves: plain values, for the check

Every format is used as its own documentation recommends, and hands batches out in the form that it gives fastest;
turning them into one common form is not measured. A format without random access leaves `open` out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bench_parts.workloads import Workload

Kind = Literal["compressed", "raw", "views"]


@dataclass(frozen=True, kw_only=True)
class EpochOptions:
    """How an epoch is read.

    Attributes:
        threads: what may decode at once: threads, or worker processes where the format's loader has only these; 1 is
            the process itself.
        shuffle: an order of its own, over the whole data set or as well as the format can.
        columns: the only ones that are wanted; None: all.
    """

    batch_size: int = 256
    threads: int = 1
    shuffle: bool = False
    seed: int = 0
    columns: tuple[str, ...] | None = None


class Peer:
    """A format with settings; one object for each way that it is measured.

    Attributes:
        name: as the table has it, such as "TFRecord + tf.data".
        environment: which of the environments has it (`environments.py`).
        distributions: whose versions are printed.
        kind: compressed; raw; or raw and handed out as views of a mapped file that nothing verified.
        verifies: whether every byte that is handed out was checked against a checksum.
        settings: one line, for the reader of the table.
    """

    name: str
    environment: str
    distributions: tuple[str, ...] = ()
    kind: Kind = "compressed"
    verifies: bool = False
    settings: str = ""

    def write(self, workload: Workload, path: str, threads: int) -> None:
        """Write all records below the directory `path`, which exists and is empty; as fast as the format can."""
        raise NotImplementedError

    def write_records(self, workload: Workload, path: str) -> None:
        """The same from `workload.records()`, one record after the other; left out where it is the same thing."""
        raise NotImplementedError

    def write_shards(self, workload: Workload, path: str, num_shards: int) -> None:
        """The same in exactly so many shards; left out where the format has none."""
        raise NotImplementedError

    def epoch(self, workload: Workload, path: str, options: EpochOptions) -> Iterator[Any]:
        """Batches of all records once; also from a process that has not imported the format yet."""
        raise NotImplementedError

    def resume(self, workload: Workload, path: str, options: EpochOptions, position: int) -> Iterator[Any]:
        """An epoch from a position on; where the format has no state, what is before it is read and dropped."""
        batches = self.epoch(workload, path, options)
        while position > 0:
            position -= self.count(next(batches))
        return batches

    def count(self, batch: Any) -> int:
        """Records of what `epoch` or `batch` gave."""
        raise NotImplementedError

    def leaves(self, workload: Workload, batch: Any) -> dict[str, Sequence[Any]]:
        """What `epoch` or `batch` gave, as one sequence of B values for each column that is there; not measured.

        Values: arrays of the column's dtype and shape (or numbers), bytes, str.
        """
        raise NotImplementedError

    def open(self, workload: Workload, path: str) -> Any:
        """A handle for random access, with the caches that the format has by default."""
        raise NotImplementedError

    def record(self, handle: Any, number: int) -> dict[str, Any]:
        """One record, decoded: a value for each column, as in `leaves`."""
        raise NotImplementedError

    def batch(self, handle: Any, numbers: Sequence[int]) -> Any:
        """Many records at once, in the order asked, decoded."""
        raise NotImplementedError

    def can(self, what: str) -> bool:
        """Whether a method is there."""
        return getattr(type(self), what) is not getattr(Peer, what)
