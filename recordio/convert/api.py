"""convert: the public door. What it does is in `recordio.convert.run`, which is imported when it is called.

Spec: spec/format.md, section 9.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from recordio.convert.report import ConversionReport
    from recordio.progress import Progress


def convert(
    source: Any,
    path: str | os.PathLike[str],
    *,
    output_signature: Any = None,
    num_shards: int | None = None,
    shard_size: int | None = None,
    chunk_size: int | None = None,
    frame_size: int = 128 << 10,
    codec: str = "zstd",
    level: int = 1,
    metadata: dict[str, Any] | None = None,
    workers: int | None = None,
    use_multiprocessing: bool | None = None,
    max_queue_size: int | None = None,
    executor: Executor | None = None,
    task: tuple[int, int] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    on_error: Literal["stop", "skip"] = "stop",
    progress: bool | Callable[[Progress], None] | None = None,
    check: bool = False,
) -> ConversionReport:
    """Write all records of a source as a sharded data set.

    Shards are consecutive ranges of records. The same source and options give the same bytes, with any number of
    threads, processes or machines.

    Args:
        source: a generator function (with parameters `shard` and `num_shards` it is called once a shard);
            `from_generator`, `from_pydataset`, `from_tensors`, `from_tensor_slices`; a Keras `PyDataset`; a recordio
            data set; a numpy array; a list or other iterable of records.
        path: the data set directory; made if it is not there.
        output_signature: structure of specs of one record. Without it, it is inferred from the first records, stands in
            the report, and is then just as strict.
        num_shards: exactly so many shards, of equal numbers of records (of batches, for a PyDataset that has as many).
            Where the source has no length, or fewer batches, its chunks are first spooled in the directory and then
            cut, which takes their compressed size twice on disk for a while.
        shard_size: raw bytes of a shard, instead of num_shards; 256 MiB by default. Estimated from the first records
            where the source has a length and its records differ in size.
        chunk_size, frame_size, codec, level, metadata: as for `Writer`.
        workers: how many produce records at once; as the PyDataset says, or 1. Compression has threads of its own.
        use_multiprocessing: workers are processes (spawned), not threads; as the PyDataset says, or False.
        max_queue_size: batches of a PyDataset under way at once; as it says, or 10.
        executor: any `concurrent.futures.Executor` that the shards are written on, instead of workers, such as Dask's
            `client.get_executor()`; it must see the same file system. A source that can only be read from the front is
            written here all the same.
        task: (i, N): write only share i, from 0 to N - 1, of the shards, and no index: N calls, on as many machines of
            one file system as you like, at once or in any order, do what one call would; `recordio.merge_shards(path)`
            completes the data set. Needs num_shards (or shard_size) and a source that can be cut: a function of `shard`
            and `num_shards`, lists among the arguments, or anything numbered. Called again, it writes what is missing
            of its share.
        resume: go on with an unfinished conversion of the same source with the same options; begin if there is none,
            and read nothing if it is complete. A source that is read from the front is compared with what it gave
            before; one that can skip is asked for no record of a finished shard, so a change there cannot be noticed.
            Nor can another shard_size or on_error be, once all is complete: a data set does not carry them.
        overwrite: replace the data set that is there; it stays whole until the new one is committed.
        on_error: what to do where the source fails. "skip" leaves out records that do not match the signature, and
            batches that could not be had, and lists them in the report. Of a batch, the rows that do not match are left
            out; what is no batch, so that it has no rows, is left out whole.
            Damage to a data set that is read is no fault of a source: it is raised, whatever stands here, unless the
            data set was opened with on_corrupt="skip". Then all that can be read is converted, and the ranges of
            records that are lost are listed in the report too.
        progress: True for lines on stderr, or a function that gets a `Progress` from time to time, from any thread.
        check: read everything back and verify it after writing; of tasks, `merge_shards` does that.

    Raises:
        SignatureError: a record does not match, with its number and the path in its structure.
        SourceError: the source cannot be converted so, or has changed since the conversion was begun.
        DataError: a recordio data set that is read is damaged, and where.
        RequestError: the arguments; or something is there already. LockedError: somebody else is writing there.
        Exception: what the source raised, with a note at which record. Finished shards are kept for `resume`.

    Source: design in spec/format.md, section 9.
    """
    # Imported here, so that `import recordio` does not wait for it (tests/architecture/test_import_cost.py).
    from recordio.chunks.encoding import WriteOptions
    from recordio.convert.run import ConvertRequest, run_conversion

    ask = ConvertRequest(
        path=path, output_signature=output_signature, num_shards=num_shards, shard_size=shard_size, metadata=metadata,
        write=WriteOptions(codec=codec, level=level, chunk_size=chunk_size, frame_size=frame_size),
        workers=workers, use_multiprocessing=use_multiprocessing, max_queue_size=max_queue_size, executor=executor,
        task=task, resume=resume, overwrite=overwrite, on_error=on_error, progress=progress, check=check,
    )  # fmt: skip
    return run_conversion(source, ask)
