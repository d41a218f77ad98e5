"""Finding what is to be read: a data set behind its index, or one shard alone.

    directory -> index.rix        index.rix -> its directory        shard-00003-....rio -> an index of one shard

Nothing but the index, or the front and the end of one shard, is read here. What is missing, unfinished or something
else is an error that says so.

Spec: spec/format.md, sections 8 and 9.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from recordio.errors import IncompleteError, NotRecordIOError, RecordIOError
from recordio.format import layout
from recordio.format.index import INDEX_NAME, Index, data_set_fingerprint, decode_index
from recordio.job import describe_unfinished
from recordio.job_paths import JobPaths, shard_entry
from recordio.lock import is_locked
from recordio.shards.shard_reader import read_shard_front
from recordio.storage import Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What is opened: a data set through its index, or one shard alone."""

    path: str
    directory: str  # of the shards
    index: Index
    single: bool  # one shard, without an index


_ALONE = "the shards still open one by one"


def find_data_set(path: str, storage: Storage) -> Opened:
    if storage.is_directory(path):
        index_path = os.path.join(path, INDEX_NAME)
        if not storage.exists(index_path):
            raise _no_index(path, storage)
        return _read_index(index_path, path, path, storage)
    handle = storage.open(path)
    magic = bytes(handle.read(0, min(8, handle.size)))
    if magic == layout.INDEX_MAGIC:
        return _read_index(path, path, os.path.dirname(path), storage)
    front = read_shard_front(storage, path)
    entry = shard_entry(os.path.basename(path), front.header.file_id, front.footer, front.file_size)
    index = Index(
        schema=front.schema, metadata=front.footer.metadata, shards=(entry,), chunk_tables=(front.footer.chunk_table,),
        num_records=entry.num_records, fingerprint=data_set_fingerprint(front.schema, [entry.digest]),
    )  # fmt: skip
    return Opened(path=path, directory=os.path.dirname(path), index=index, single=True)


def _read_index(index_path: str, path: str, directory: str, storage: Storage) -> Opened:
    try:
        index = decode_index(storage.read_file(index_path))
    except RecordIOError as error:
        if error.advice is None:
            error.advice = f"Restore the index; {_ALONE}"
        raise error.locate(path=index_path) from None
    return Opened(path=path, directory=directory, index=index, single=False)


def _no_index(path: str, storage: Storage) -> RecordIOError:
    unfinished = describe_unfinished(storage, path)
    if unfinished is not None:
        paths = JobPaths(storage, path)
        if is_locked(paths.lock):
            advice = "Wait until it has ended"
        elif (paths.request() or {}).get("num_tasks"):
            advice = "Run the tasks that are left, then recordio.merge_shards(path)"
        elif (paths.request() or {}).get("resumable"):
            advice = "Go on with it: convert(..., resume=True)"
        else:
            advice = "Write it again"
        return IncompleteError(f"writing into this directory has not ended: {unfinished}", path=path, advice=advice)
    shards = sum(name.endswith(".rio") for name in storage.list(path))
    if shards:
        here = "1 shard is" if shards == 1 else f"{shards} shards are"
        return IncompleteError(
            f"{here} here, but no {INDEX_NAME}", path=path, advice=f"Restore the index, or convert again; {_ALONE}"
        )
    return NotRecordIOError(
        f"there is no {INDEX_NAME} in this directory",
        path=path,
        advice="Give the directory of a data set, or a .rio file",
    )
