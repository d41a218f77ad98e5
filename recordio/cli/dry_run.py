"""recordio convert --dry-run: what was understood, and how large it will be, from the first records.

Nothing is written. The first records are encoded as they would be, in memory, so that the estimate is that of the real
codec and chunks.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from recordio.chunks.encoding import EncodedChunk, WriteOptions
from recordio.convert.pieces import OnError, Part, Piece, Source
from recordio.convert.pydataset import PyDatasetSource
from recordio.convert.tasks import feed, say_inferred
from recordio.errors import SignatureError
from recordio.job import describe_unfinished
from recordio.job_paths import JobPaths
from recordio.schema import Schema
from recordio.storage import LOCAL
from recordio.stream import RecordStream
from recordio.values.signature_text import format_signature
from recordio.writer import DEFAULT_SHARD_SIZE, make_target

_SAMPLE_SIZE = 32 << 20  # raw bytes that are encoded
_SAMPLE_S = 5.0  # seconds that are spent on them, about
_MIN_RECORDS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What convert would do."""

    source: str
    path: str
    signature: str
    inferred: bool  # the signature, from the first records
    num_records: int | None  # None: known only at the end
    num_shards: int | None
    exact_shards: bool  # asked for, or fixed before work starts
    sample_records: int
    sample_raw_size: int  # bytes
    sample_stored_size: int
    raw_size: int | None  # bytes, estimated
    stored_size: int | None
    there: str | None  # what stands at `path` now, in words

    def to_dict(self) -> dict[str, Any]:
        """As JSON, with the keys of this class."""
        ratio = self.sample_raw_size / self.sample_stored_size if self.sample_stored_size else None
        return {
            "source": self.source, "path": self.path, "signature": self.signature, "inferred": self.inferred,
            "num_records": self.num_records, "num_shards": self.num_shards, "sample_records": self.sample_records,
            "sample_raw_size": self.sample_raw_size, "sample_stored_size": self.sample_stored_size,
            "ratio": None if ratio is None else round(ratio, 4), "raw_size": self.raw_size,
            "stored_size": self.stored_size, "there": self.there,
        }  # fmt: skip


def make_plan(
    source: Source, description: str, path: str, *, options: WriteOptions, metadata: dict[str, Any],
    num_shards: int | None, shard_size: int | None, on_error: OnError,
) -> Plan:  # fmt: skip
    """Look at the first records, and write nothing.

    Raises:
        SignatureError, SourceError, RequestError, or what the source raises: as convert would.
    """
    inferred = source.signature is None
    source.on_error = on_error
    parts = source.split(num_shards=num_shards, shard_size=None if num_shards else shard_size or DEFAULT_SHARD_SIZE)
    first = parts if parts is not None else [source.whole()]
    schema = Schema.from_signature(source.resolve_signature())
    target = make_target(JobPaths(LOCAL, path), schema, options=options, metadata=metadata, workers=2)
    sizes = [0, 0]

    def accept(_: int, chunk: EncodedChunk) -> None:
        sizes[0] += chunk.raw_size
        sizes[1] += chunk.stored_size

    stream = RecordStream(target, accept)
    batches, ended = 0, False
    began = time.monotonic()
    try:
        for piece in _pieces(first, on_error):
            feed(stream, [piece], on_error=on_error, skipped=[])
            batches += piece.kind in ("batch", "error")
            enough = sizes[0] >= _SAMPLE_SIZE or time.monotonic() - began > _SAMPLE_S
            if enough and stream.num_records >= _MIN_RECORDS:
                break
        else:
            ended = True
        stream.end()
    except SignatureError as error:
        if inferred:
            say_inferred(error)
        raise
    finally:
        stream.close()
    total = stream.num_records if ended else source.num_records
    if total is None and isinstance(source, PyDatasetSource) and batches:
        total = round(source.num_batches * stream.num_records / batches)
    scale = None if total is None or not stream.num_records else total / stream.num_records
    raw_size = None if scale is None else round(sizes[0] * scale)
    exact_shards = parts is not None or num_shards is not None
    if not exact_shards and raw_size is not None:
        num_shards = max(1, -(-raw_size // (shard_size or DEFAULT_SHARD_SIZE)))
    return Plan(
        source=description, path=path, signature=format_signature(schema.element_spec), inferred=inferred,
        num_records=total, num_shards=num_shards if parts is None else len(parts), exact_shards=exact_shards,
        sample_records=stream.num_records,
        sample_raw_size=sizes[0], sample_stored_size=sizes[1], raw_size=raw_size,
        stored_size=None if scale is None else round(sizes[1] * scale), there=_there(path),
    )  # fmt: skip


def _pieces(parts: list[Part], on_error: OnError) -> Iterator[Piece]:
    for part in parts:
        with closing(part.pieces(on_error=on_error)) as pieces:
            yield from pieces


def _there(path: str) -> str | None:
    paths = JobPaths(LOCAL, path)
    if LOCAL.exists(paths.index):
        return "a data set is there already: --overwrite replaces it"
    unfinished = describe_unfinished(LOCAL, path) if LOCAL.is_directory(path) else None
    if unfinished is not None:
        return f"an unfinished conversion is there ({unfinished}): --resume goes on with it, --overwrite starts again"
    return None
