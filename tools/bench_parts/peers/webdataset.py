"""WebDataset: tar files of which each record is a few members with one key, read one after the other.

    shard-000003.tar:  000120000.jpg 000120000.txt 000120000.cls  000120001.jpg ...

A member takes a header of 512 bytes and is padded to 512, so that all scalars of a record are one member if there are
several. Contents stay bytes until a batch is put together, where numpy decodes them at once. Random access is not
there.

Source: https://github.com/webdataset/webdataset#readme, https://webdataset.github.io/webdataset/FAQ/
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from bench_parts.peers.contract import EpochOptions, Peer
from bench_parts.workloads import Column, Workload

NUM_SHARDS = 8
SHUFFLE_BUFFER = 1000  # records, as in the examples of its documentation


class WebDataset(Peer):
    """Tar files without compression or checksums of the contents."""

    name = "WebDataset"
    environment = "torch"
    distributions = ("webdataset", "torch")
    kind = "raw"
    settings = (
        f"{NUM_SHARDS} tar files; batches of raw members, decoded at once; threads 2: WebLoader with 2 workers; "
        f"shuffle: order of files and a buffer of {SHUFFLE_BUFFER:,} records"
    )

    def write(self, workload: Workload, path: str, threads: int) -> None:
        self.write_shards(workload, path, NUM_SHARDS)

    def write_records(self, workload: Workload, path: str) -> None:
        self.write_shards(workload, path, NUM_SHARDS)

    def write_shards(self, workload: Workload, path: str, num_shards: int) -> None:
        import webdataset

        members = _Members(workload.columns)
        records = enumerate(workload.records())
        for shard in range(num_shards):
            start, stop = (number * workload.num_records // num_shards for number in (shard, shard + 1))
            with webdataset.TarWriter(os.path.join(path, f"shard-{shard:06}.tar"), encoder=False) as writer:
                for number, record in islice(records, stop - start):
                    writer.write({"__key__": f"{number:09}", **members.encode(record)})

    def epoch(self, workload: Workload, path: str, options: EpochOptions) -> Iterator[Any]:
        import webdataset

        members = _Members(workload.columns, options.columns)
        files = [os.path.join(path, file) for file in sorted(os.listdir(path))]
        records = webdataset.WebDataset(
            files,
            shardshuffle=len(files) if options.shuffle else False,
            seed=options.seed,
            # A member that nobody wants is passed over unread.
            select_files=None if options.columns is None else members.is_wanted,
        )
        if options.shuffle:
            records = records.shuffle(SHUFFLE_BUFFER, seed=options.seed)
        batches = records.batched(options.batch_size, collation_fn=members.decode)
        workers = options.threads if options.threads > 1 else 0
        return iter(webdataset.WebLoader(batches, batch_size=None, num_workers=workers, collate_fn=_unchanged))

    def count(self, batch: Any) -> int:
        return len(next(iter(batch.values())))

    def leaves(self, workload: Workload, batch: Any) -> dict[str, Sequence[Any]]:
        return {name: values.numpy() if hasattr(values, "numpy") else values for name, values in batch.items()}


class _Members:
    """Which members a record has.

    Attributes:
        wanted: what `decode` gives; None: all.
    """

    def __init__(self, columns: Sequence[Column], wanted: Sequence[str] | None = None) -> None:
        scalars = [one for one in columns if one.kind == "fixed" and not one.shape]
        # A class is text by convention; many numbers are not.
        self._class = scalars[0].name if len(scalars) == 1 else None
        self._packed = np.dtype([(one.name, one.dtype) for one in scalars]) if len(scalars) > 1 else None
        self._others = [one for one in columns if one not in scalars]
        names = {one.name for one in columns}
        self._wanted = names if wanted is None else names & set(wanted)
        scalar = {"cls"} if self._class in self._wanted else set()
        if self._packed is not None and not self._wanted.isdisjoint(self._packed.names or ()):
            scalar = {"scalars.bin"}
        self._suffixes = scalar | {_suffix(one) for one in self._others if one.name in self._wanted}

    def encode(self, record: dict[str, Any]) -> dict[str, bytes]:
        """Bytes of each member, by its suffix."""
        found = {_suffix(one): _to_bytes(one, record[one.name]) for one in self._others}
        if self._class is not None:
            found["cls"] = b"%d" % record[self._class]
        if self._packed is not None:
            values = tuple(record[name] for name in self._packed.names or ())
            found["scalars.bin"] = np.array(values, self._packed).tobytes()
        return found

    def is_wanted(self, file: str) -> bool:
        """Whether a member's contents are read."""
        return file.partition(".")[2] in self._suffixes

    def decode(self, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """A batch: an array of each fixed column, a list of each other one.

        Arrays of arrays are tensors, which workers hand over in shared memory; numbers arrive sooner in a pipe, as
        numpy's.
        """
        import torch

        found: dict[str, Any] = {}
        for column in self._others:
            if column.name not in self._wanted:
                continue
            suffix = _suffix(column)
            values = [record[suffix] for record in records]
            if column.kind == "fixed":
                joined = torch.frombuffer(bytearray().join(values), dtype=getattr(torch, column.dtype))
                found[column.name] = joined.reshape(-1, *column.shape)
            elif column.kind == "ragged":
                found[column.name] = [np.frombuffer(value, column.dtype) for value in values]
            else:
                found[column.name] = values if column.kind == "bytes" else [value.decode() for value in values]
        if self._class in self._wanted and self._class is not None:
            found[self._class] = np.array([int(record["cls"]) for record in records])
        if self._packed is not None and "scalars.bin" in self._suffixes:
            heads = np.frombuffer(b"".join([record["scalars.bin"] for record in records]), self._packed)
            for name in self._packed.names or ():
                if name in self._wanted:
                    found[name] = heads[name].copy()
        return found


def _unchanged(batch: Any) -> Any:
    """Batches are complete; the loader's own function would make a tensor of every value of a list."""
    return batch


def _suffix(column: Column) -> str:
    if column.kind == "str":
        return "txt"
    return "jpg" if column.kind == "bytes" else f"{column.name}.bin"


def _to_bytes(column: Column, value: Any) -> bytes:
    if column.kind == "bytes":
        return bytes(value)
    found: bytes = value.encode() if column.kind == "str" else value.tobytes()
    return found


PEERS: tuple[Peer, ...] = (WebDataset(),)
