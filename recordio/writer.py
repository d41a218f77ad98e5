"""Writing a data set, record by record or batch by batch.

    with recordio.Writer("data/train", spec) as writer:
        for record in records:
            writer.write(record)

Nothing can be read there until the `with` block has ended well; an exception leaves what was there before. The way from
records to shards is in `recordio.stream`, the commit in `recordio.job`.

Spec: spec/format.md, section 9.
"""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import Any

from recordio.chunks.encoding import DEFAULT_FRAME_SIZE, WriteOptions
from recordio.errors import MalformedError, RequestError, SignatureError
from recordio.execute.pool import default_workers
from recordio.format import objects
from recordio.format.codec import DEFAULT_LEVEL
from recordio.format.footer import encode_metadata
from recordio.format.layout import MAX_METADATA_SIZE, MAX_SHARDS
from recordio.job import Job
from recordio.job_paths import FinishedShard, JobPaths
from recordio.schema import Schema
from recordio.storage import LOCAL, Storage
from recordio.stream import RecordStream, ShardSequence, Spool, Target, cut_spool

DEFAULT_SHARD_SIZE = 256 << 20  # raw bytes


def absolute_path(path: str | os.PathLike[str]) -> str:
    """The path, whatever the process changes its directory to.

    Raises:
        RequestError: it is empty, which would mean the current directory.
    """
    name = os.fsdecode(path)
    if not name:
        raise RequestError("the path is empty", advice="Name the directory of the data set; '.' is the current one")
    return os.path.abspath(name)


def check_sharding(num_shards: int | None, shard_size: int | None) -> None:
    """Refuse numbers that cannot be meant.

    Raises:
        RequestError: both are given, or one is out of range.
    """
    if num_shards is not None and shard_size is not None:
        raise RequestError(
            f"num_shards {num_shards} and shard_size {shard_size} are both given", advice="Give one of them"
        )
    if num_shards is not None and (type(num_shards) is not int or not 1 <= num_shards <= MAX_SHARDS):
        raise RequestError(f"num_shards {num_shards!r} is not an int between 1 and {MAX_SHARDS}")
    if shard_size is not None and (type(shard_size) is not int or shard_size < 1):
        raise RequestError(f"shard_size {shard_size!r} is not a number of bytes")


def make_target(
    paths: JobPaths, schema: Schema, *, options: WriteOptions, metadata: dict[str, Any] | None, workers: int
) -> Target:
    """Put together what all shards of a data set share.

    Raises:
        RequestError: options out of range, or metadata that msgpack would change.
    """
    resolved = options.resolve(schema)
    try:
        metadata = {} if metadata is None else metadata
        if not isinstance(metadata, dict):
            raise TypeError(f"a {type(metadata).__name__} is no dict")
        encoded = encode_metadata(metadata, resolved.to_map())
        objects.unpack(encoded, max_size=MAX_METADATA_SIZE, what="metadata")
    except (TypeError, ValueError, OverflowError, MalformedError) as error:
        raise RequestError(
            f"metadata cannot be stored: {error}",
            advice="Use str, int, float, bool, None, bytes, and lists and dicts of them",
        ) from None
    return Target(
        paths=paths, schema=schema, schema_bytes=schema.encode(), metadata=encoded,
        options_bytes=objects.pack(resolved.to_map()), options=resolved, workers=workers,
    )  # fmt: skip


class Writer:
    """Writes a data set of typed records; use it in a `with` block.

    Compression runs on threads beside the caller. Records are copied before `write` returns. Several threads may write:
    each record, or batch, is stored whole, in the order in which the calls came. A forked process may not.

    Args:
        path: the data set directory; made if it is not there.
        spec: structure of `TensorSpec`, `MsgpackSpec`, or anything with shape and dtype, that every record must match.
        num_shards: exactly so many shards, of equal numbers of records within one. The records are first spooled in the
            directory and then cut, which takes their compressed size twice on disk for a while.
        shard_size: raw bytes of a shard, instead of num_shards; 256 MiB by default.
        chunk_size: raw bytes of a chunk, the unit of I/O and of loss; 2 MiB by default, or 128 KiB a column if that
            is more.
        frame_size: raw bytes of a frame, the smallest thing that can be read alone.
        codec: "zstd" or "none".
        level: of zstd, 1 to 22: higher ones take longer to write, hardly less space, and text longer to read.
        metadata: a JSON-like dict that the data set carries (bytes are allowed).
        overwrite: replace the data set that is there; it stays whole and readable until this one is committed.
        workers: threads that compress; as many as there are processors by default.

    Raises:
        RequestError, SignatureError: the arguments. LockedError: somebody else is writing there.

    Source: spec/format.md; design in section 9 there.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        spec: Any,
        *,
        num_shards: int | None = None,
        shard_size: int | None = None,
        chunk_size: int | None = None,
        frame_size: int = DEFAULT_FRAME_SIZE,
        codec: str = "zstd",
        level: int = DEFAULT_LEVEL,
        metadata: dict[str, Any] | None = None,
        overwrite: bool = False,
        workers: int | None = None,
        _storage: Storage = LOCAL,
    ) -> None:
        check_sharding(num_shards, shard_size)
        if workers is not None and (type(workers) is not int or workers < 1):
            raise RequestError(f"workers {workers!r} is not a number of threads, 1 or more")
        self.path = absolute_path(path)
        self.schema = Schema.from_signature(spec)
        self._num_shards = num_shards
        self._shard_size = shard_size or DEFAULT_SHARD_SIZE
        self._overwrite = overwrite
        self._job = Job(_storage, self.path)
        self._target = make_target(
            self._job.paths, self.schema, metadata=metadata, workers=workers or default_workers(),
            options=WriteOptions(codec=codec, level=level, chunk_size=chunk_size, frame_size=frame_size),
        )  # fmt: skip
        self._stream: RecordStream | None = None
        self._sink: ShardSequence | Spool | None = None
        self._failure: BaseException | None = None  # what a write ended with, so that shards may lack a part
        self._lock = threading.Lock()
        self._process_id = 0
        self.num_records = 0

    @property
    def element_spec(self) -> Any:
        """The structure of specs that records must match."""
        return self.schema.element_spec

    def __enter__(self) -> Writer:
        sink = ShardSequence(self._target) if self._num_shards is None else Spool(self._target, resume=False)
        stream = RecordStream(
            self._target, sink.accept, shard_size=self._shard_size if self._num_shards is None else None
        )
        self._job.begin({"resumable": False, "num_shards": self._num_shards}, overwrite=self._overwrite, resume=False)
        self._sink, self._stream = sink, stream
        self._failure, self.num_records = None, 0
        self._process_id = os.getpid()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is None or self._process_id != os.getpid():
            return  # a fork that leaves the block leaves what its parent is writing
        if kind is None:
            try:
                self._commit()
                return
            except BaseException as failure:
                self._abort(failure)
                raise
        self._abort(error)

    def write(self, record: Any) -> None:
        """Append one record.

        Raises:
            SignatureError: it does not match the spec, or a value would change; nothing of it is stored.
            RequestError: the writer is not open.
        """
        with self._lock:
            stream = self._open_stream()
            try:
                stream.write(record, self.num_records)
            except SignatureError:
                raise
            except BaseException as error:
                self._failure = error
                raise
            self.num_records += 1

    def write_batch(self, batch: Any) -> None:
        """Append a batch: the structure of a record, every leaf with a leading axis B.

        Leaves are arrays `[B, ...]`, `Ragged`, `numpy.ma` for None, or lists of rows. Vectorised for arrays.

        Raises:
            SignatureError: naming the first record that does not match; nothing of the batch is stored.
            RequestError: the writer is not open.
        """
        with self._lock:
            stream = self._open_stream()
            try:
                self.num_records += stream.write_batch(batch, self.num_records)
            except SignatureError:
                raise
            except BaseException as error:
                self._failure = error
                raise

    def _open_stream(self) -> RecordStream:
        if self._stream is None:
            raise RequestError("the writer is not open", path=self.path, advice="Write inside its `with` block")
        if self._process_id != os.getpid():
            raise RequestError(
                f"the writer belongs to process {self._process_id}, and this is its fork", path=self.path,
                advice="Write in one process, or let recordio.convert run several",
            )  # fmt: skip
        self._check_whole()
        return self._stream

    def _check_whole(self) -> None:
        """Refuse to go on after a write that failed half-way, even if the caller has caught its error."""
        if self._failure is not None:
            raise RequestError(
                f"an earlier write failed ({type(self._failure).__name__}: {self._failure}): "
                "this data set cannot be whole",
                path=self.path, advice="Let the error leave the `with` block, and write again",
            ) from self._failure  # fmt: skip

    def _commit(self) -> None:
        assert self._stream is not None and self._sink is not None
        self._check_whole()
        self._stream.end()
        if isinstance(self._sink, Spool):
            self._sink.end()
            assert self._num_shards is not None
            shards: list[FinishedShard] = [
                cut_spool(self._target, self._num_shards, i) for i in range(self._num_shards)
            ]
        else:
            shards = self._sink.end(last=True)
        self._job.commit(schema=self._target.schema_bytes, metadata=self._target.metadata, shards=shards)
        self._stream = self._sink = None

    def _abort(self, reason: BaseException | None) -> None:
        """Remove what was written; if that fails too, `reason` says so and stays the error that is raised."""
        assert self._stream is not None and self._sink is not None
        self._stream.close()
        try:
            self._sink.close()
            self._job.discard()
        except OSError as failure:
            if reason is None:
                raise
            reason.add_note(f"Besides, removing what was written failed: {failure}")
            self._job.leave()
        finally:
            self._stream = self._sink = None
