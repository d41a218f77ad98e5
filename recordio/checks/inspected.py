"""What inspect finds, as values: of a data set, its columns, shards and chunks.

The keys of `to_dict` are stable: new ones may come, none goes or changes its meaning. How it is found out is in
`recordio.checks.inspection`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from recordio.checks.chunk_checks import Damage
from recordio.checks.column_summary import ColumnSummary
from recordio.errors import RecordIOError
from recordio.reader import DataSetReader
from recordio.schema import Schema
from recordio.values.signature_text import format_leaf, format_signature


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnInspection:
    """One column, and what its values are like."""

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None
    optional: bool
    codecs: tuple[str, ...]  # in use, the commonest first
    raw_size: int | None  # bytes; None: could not be read
    stored_size: int | None
    summary: ColumnSummary | None

    @property
    def type(self) -> str:
        """Data type and shape in words: "uint8[28, 28]"."""
        return format_leaf(self.dtype, self.shape, self.optional)

    @property
    def ratio(self) -> float | None:
        """Raw bytes for each stored byte."""
        return _ratio(self.raw_size, self.stored_size)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "name": self.name, "type": self.type, "dtype": self.dtype,
            "shape": None if self.shape is None else list(self.shape), "optional": self.optional,
            "codecs": list(self.codecs), "raw_size": self.raw_size, "stored_size": self.stored_size,
            "ratio": _rounded(self.ratio), "values": None if self.summary is None else self.summary.to_dict(),
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardInspection:
    """One shard, as the index, or its own footer, has it."""

    shard: int
    name: str
    first_record: int
    num_records: int
    num_chunks: int
    raw_size: int
    stored_size: int
    digest: str
    state: str  # "ok" (there, and of its size), "missing", "wrong size"

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "shard": self.shard, "name": self.name, "first_record": self.first_record, "num_records": self.num_records,
            "num_chunks": self.num_chunks, "raw_size": self.raw_size, "stored_size": self.stored_size,
            "ratio": _rounded(_ratio(self.raw_size, self.stored_size)), "digest": self.digest, "state": self.state,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkInspection:
    """One chunk, as the chunk table has it."""

    shard: int
    chunk: int
    offset: int
    first_record: int  # in the data set
    num_records: int
    raw_size: int
    stored_size: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "shard": self.shard, "chunk": self.chunk, "offset": self.offset, "first_record": self.first_record,
            "num_records": self.num_records, "raw_size": self.raw_size, "stored_size": self.stored_size,
            "ratio": _rounded(_ratio(self.raw_size, self.stored_size)),
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What stands at a path. What is not known there is None."""

    path: str
    kind: str  # "data set", "shard", "index"
    state: str  # "complete", "incomplete" (shards are missing), "unfinished" (no index yet), "torn" (no trailer)
    resumable: bool = False  # unfinished, and can be gone on with
    writer: str | None = None  # who is writing there now
    format_version: str | None = None
    num_records: int | None = None
    num_shards: int | None = None  # planned, if unfinished
    num_finished_shards: int | None = None
    num_chunks: int | None = None
    raw_size: int | None = None
    stored_size: int | None = None  # bytes of the shards
    fingerprint: str | None = None
    schema: Schema | None = None
    metadata: dict[str, Any] | None = None
    options: dict[str, Any] | None = None  # of the writer
    columns: tuple[ColumnInspection, ...] = ()
    exact_sizes: bool = False  # those of columns are of all chunks, not scaled up from some
    exact_values: bool = False  # those of columns are of all records, not of a sample
    shards: tuple[ShardInspection, ...] = ()
    problems: tuple[Damage, ...] = ()
    notes: tuple[str, ...] = ()
    _reader: DataSetReader | None = None

    @property
    def ratio(self) -> float | None:
        """Raw bytes for each stored byte."""
        return _ratio(self.raw_size, self.stored_size)

    @property
    def signature(self) -> str | None:
        """The signature as `recordio convert --signature` takes it."""
        return None if self.schema is None else format_signature(self.schema.element_spec)

    def chunks(self) -> Iterator[ChunkInspection]:
        """Every chunk, as the tables have it; shards whose table is damaged are left out (they are in `problems`)."""
        if self._reader is None:
            return
        for shard_id in range(len(self._reader.shards)):
            try:
                shard = self._reader.shard(shard_id)
            except RecordIOError:
                continue
            table = shard.table
            for chunk in range(len(table)):
                yield ChunkInspection(
                    shard=shard_id, chunk=chunk, offset=int(table.offsets[chunk]),
                    first_record=shard.first_record + int(table.first_records[chunk]),
                    num_records=int(table.first_records[chunk + 1] - table.first_records[chunk]),
                    raw_size=int(table.raw_sizes[chunk]),
                    stored_size=int(table.offsets[chunk + 1] - table.offsets[chunk]),
                )  # fmt: skip

    def to_dict(self, *, shards: bool = False, chunks: bool = False) -> dict[str, Any]:
        """As JSON, with the keys of this class; "shards" and "chunks" on demand; bytes are {"$bytes": hexadecimal}."""
        found: dict[str, Any] = {
            "path": self.path, "kind": self.kind, "state": self.state, "resumable": self.resumable,
            "writer": self.writer,
            "format_version": self.format_version, "num_records": self.num_records, "num_shards": self.num_shards,
            "num_finished_shards": self.num_finished_shards, "num_chunks": self.num_chunks, "raw_size": self.raw_size,
            "stored_size": self.stored_size, "ratio": _rounded(self.ratio), "fingerprint": self.fingerprint,
            "signature": self.signature, "metadata": json_ready(self.metadata), "options": json_ready(self.options),
            "exact_sizes": self.exact_sizes, "exact_values": self.exact_values,
            "columns": [column.to_dict() for column in self.columns],
            "problems": [problem.to_dict() for problem in self.problems], "notes": list(self.notes),
        }  # fmt: skip
        if shards:
            found["shards"] = [shard.to_dict() for shard in self.shards]
        if chunks:
            found["chunks"] = [chunk.to_dict() for chunk in self.chunks()]
        return found


def _ratio(raw_size: int | None, stored_size: int | None) -> float | None:
    return raw_size / stored_size if raw_size is not None and stored_size else None


def _rounded(ratio: float | None) -> float | None:
    return None if ratio is None else round(ratio, 4)


def json_ready(value: Any) -> Any:
    """A msgpack object as JSON can have it: bytes as {"$bytes": hexadecimal}, keys and odd floats as text."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key): json_ready(one) for key, one in value.items()}
    if isinstance(value, list):
        return [json_ready(one) for one in value]
    if isinstance(value, bytes):
        return {"$bytes": value.hex()}
    if isinstance(value, float) and value - value != 0:
        return str(value)
    return value
