"""Checksummed, compressed, typed record files for training data.

    convert              a generator, a Keras PyDataset, arrays or any iterable -> sharded files
    open                 sharded files -> a sequence of records, views and batches
    Writer               record by record
    verify               every checksum of what is there

Files are described in spec/format.md.
"""

from recordio.convert.api import convert
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
from recordio.ragged import Ragged
from recordio.schema import Schema
from recordio.spec import MsgpackSpec, TensorSpec
from recordio.writer import Writer

__version__ = "0.1.0"
