"""Checksummed, compressed, typed record files for training data.

    convert              a generator, a Keras PyDataset, arrays or any iterable -> sharded files
    open                 sharded files -> a sequence of records, views and batches
    Writer               record by record
    verify               every checksum of what is there

Files are described in spec/format.md. Names are imported when they are first used, so that `import recordio` costs
little more than its dependencies.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Submodules that bear a public name must be imported before it is bound, or the import system would bind it again.
from recordio.convert.api import convert

if TYPE_CHECKING:
    from recordio.checks.verification import VerifyReport, verify
    from recordio.convert.report import ConversionReport
    from recordio.convert.sources import from_generator, from_pydataset
    from recordio.dataset import Batches, Dataset, Shard, from_tensor_slices, from_tensors
    from recordio.dataset import open_dataset as open
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
        TooNewError,
        TruncatedError,
        WorkerError,
    )
    from recordio.progress import Progress
    from recordio.rows import LostRange
    from recordio.schema import Schema
    from recordio.spec import MsgpackSpec, TensorSpec
    from recordio.values.ragged import Ragged
    from recordio.writer import Writer

__version__ = "0.1.0"

_HOMES = {
    "recordio.convert.report": ("ConversionReport",),
    "recordio.convert.sources": ("from_generator", "from_pydataset"),
    "recordio.dataset": ("Batches", "Dataset", "Shard", "from_tensor_slices", "from_tensors", "open"),
    "recordio.errors": (
        "ChecksumError", "DataError", "IncompleteError", "LockedError", "MalformedError", "MismatchError",
        "NotRecordIOError",
        "RecordIOError", "RequestError", "SignatureError", "SignatureTypeError", "SourceError", "TooNewError",
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
_NAMES_THERE = {"open": "open_dataset"}

__all__ = [  # in full, for type checkers
    "Batches",
    "ChecksumError",
    "ConversionReport",
    "DataError",
    "Dataset",
    "IncompleteError",
    "LockedError",
    "LostRange",
    "MalformedError",
    "MismatchError",
    "MsgpackSpec",
    "NotRecordIOError",
    "Progress",
    "Ragged",
    "RecordIOError",
    "RequestError",
    "Schema",
    "Shard",
    "SignatureError",
    "SignatureTypeError",
    "SourceError",
    "TensorSpec",
    "TooNewError",
    "TruncatedError",
    "VerifyReport",
    "WorkerError",
    "Writer",
    "convert",
    "from_generator",
    "from_pydataset",
    "from_tensor_slices",
    "from_tensors",
    "open",
    "verify",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'recordio' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), _NAMES_THERE.get(name, name))
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
