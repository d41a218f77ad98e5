"""Checksummed, compressed, typed record files for training data.

    convert              a generator, a Keras PyDataset, arrays or any iterable -> sharded files
    merge_shards         what several machines have converted -> one data set
    open                 sharded files -> a sequence of records, views and batches
    Writer               record by record
    distribute           the part of every batch that belongs to one input pipeline
    verify               every checksum of what is there

Files are described in spec/format.md. Names are imported when they are first used, so that `import recordio` costs
little more than its dependencies.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Submodules that bear a public name must be imported before it is bound, or the import system would bind it again.
from recordio.convert.api import convert

if TYPE_CHECKING:
    from recordio.batches import Batches
    from recordio.checks.verification import VerifyReport, verify
    from recordio.convert.merging import merge_shards
    from recordio.convert.report import ConversionReport
    from recordio.convert.sources import from_generator, from_pydataset
    from recordio.dataset import Dataset, Shard
    from recordio.distributed.context import InputContext
    from recordio.distributed.creator import DatasetCreator
    from recordio.distributed.dataset import (
        DistributedDataset,
        DistributedIterator,
        distribute,
        distribute_from_function,
    )
    from recordio.distributed.options import AutoShardPolicy, InputOptions, InputReplicationMode
    from recordio.distributed.planning import plan_reading, shuffle_quality
    from recordio.distributed.values import PerReplica, PerReplicaSpec, experimental_local_results
    from recordio.doors import from_tensor_slices, from_tensors
    from recordio.doors import open_dataset as open
    from recordio.doors import zip_datasets as zip
    from recordio.errors import (
        ChecksumError,
        DataError,
        IncompleteError,
        LockedError,
        MalformedError,
        MismatchError,
        NotRecordIOError,
        RecordIOError,
        RequestError,
        SignatureError,
        SignatureTypeError,
        SourceError,
        StateError,
        TooNewError,
        TruncatedError,
        WorkerError,
    )
    from recordio.loading.options import AUTOTUNE
    from recordio.loading.passes import LoaderIterator
    from recordio.progress import Progress
    from recordio.rows import LostRange
    from recordio.schema import Schema
    from recordio.spec import MsgpackSpec, TensorSpec
    from recordio.values.ragged import Ragged
    from recordio.writer import Writer

__version__ = "0.1.0"

_HOMES = {
    "recordio.convert.merging": ("merge_shards",),
    "recordio.convert.report": ("ConversionReport",),
    "recordio.convert.sources": ("from_generator", "from_pydataset"),
    "recordio.batches": ("Batches",),
    "recordio.dataset": ("Dataset", "Shard"),
    "recordio.doors": ("from_tensor_slices", "from_tensors", "open", "zip"),
    "recordio.distributed.context": ("InputContext",),
    "recordio.distributed.creator": ("DatasetCreator",),
    "recordio.distributed.dataset": (
        "DistributedDataset", "DistributedIterator", "distribute", "distribute_from_function",
    ),
    "recordio.distributed.options": ("AutoShardPolicy", "InputOptions", "InputReplicationMode"),
    "recordio.distributed.planning": ("plan_reading", "shuffle_quality"),
    "recordio.distributed.values": ("PerReplica", "PerReplicaSpec", "experimental_local_results"),
    "recordio.loading.passes": ("LoaderIterator",),
    "recordio.loading.options": ("AUTOTUNE",),
    "recordio.errors": (
        "ChecksumError", "DataError", "IncompleteError", "LockedError", "MalformedError", "MismatchError",
        "NotRecordIOError",
        "RecordIOError", "RequestError", "SignatureError", "SignatureTypeError", "SourceError", "StateError",
        "TooNewError",
        "TruncatedError",
        "WorkerError",
    ),
    "recordio.progress": ("Progress",),
    "recordio.values.ragged": ("Ragged",),
    "recordio.rows": ("LostRange",),
    "recordio.schema": ("Schema",),
    "recordio.spec": ("MsgpackSpec", "TensorSpec"),
    "recordio.checks.verification": ("VerifyReport", "verify"),
    "recordio.writer": ("Writer",),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_NAMES_THERE = {"open": "open_dataset", "zip": "zip_datasets"}

__all__ = [  # in full, for type checkers
    "AUTOTUNE",
    "AutoShardPolicy",
    "Batches",
    "ChecksumError",
    "ConversionReport",
    "DataError",
    "Dataset",
    "DatasetCreator",
    "DistributedDataset",
    "DistributedIterator",
    "IncompleteError",
    "InputContext",
    "InputOptions",
    "InputReplicationMode",
    "LoaderIterator",
    "LockedError",
    "LostRange",
    "MalformedError",
    "MismatchError",
    "MsgpackSpec",
    "NotRecordIOError",
    "PerReplica",
    "PerReplicaSpec",
    "Progress",
    "Ragged",
    "RecordIOError",
    "RequestError",
    "Schema",
    "Shard",
    "SignatureError",
    "SignatureTypeError",
    "SourceError",
    "StateError",
    "TensorSpec",
    "TooNewError",
    "TruncatedError",
    "VerifyReport",
    "WorkerError",
    "Writer",
    "convert",
    "distribute",
    "distribute_from_function",
    "experimental_local_results",
    "from_generator",
    "from_pydataset",
    "from_tensor_slices",
    "from_tensors",
    "merge_shards",
    "open",
    "plan_reading",
    "shuffle_quality",
    "verify",
    "zip",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'recordio' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), _NAMES_THERE.get(name, name))
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
