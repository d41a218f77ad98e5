"""Sources: which kind an object becomes when it is given to convert.

    generator function, from_generator(...)        generators
    iterable of records, tf.data.Dataset           generators
    list of records, anything numbered             sequences
    numpy array, recordio data set                 columnar
    keras.utils.PyDataset, from_pydataset(...)     pydataset

Files of other formats are made into one of these by whoever opens them.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from typing import Any

from recordio.batches import Batches
from recordio.convert.columnar import DatasetSource
from recordio.convert.generators import GeneratorSource, IterableSource, from_generator
from recordio.convert.pieces import Part, Piece, Source, is_mapping, is_table
from recordio.convert.pydataset import PyDatasetSource, from_pydataset, is_pydataset
from recordio.convert.sequences import SequenceSource
from recordio.dataset import Dataset
from recordio.doors import from_tensor_slices
from recordio.errors import RequestError, SourceError
from recordio.schema import Schema
from recordio.values.ragged_tensors import as_numpy

__all__ = [
    "as_source", "from_generator", "from_pydataset", "Source", "Part", "Piece",
    "GeneratorSource", "IterableSource", "SequenceSource", "DatasetSource", "PyDatasetSource",
]

_ACCEPTED = (
    "A source is a generator function, recordio.from_generator(...), a PyDataset, recordio.from_pydataset(...), "
    "recordio.from_tensor_slices(...), a recordio data set, a numpy array, or an iterable of records"
)


def as_source(candidate: Any, output_signature: Any = None) -> Source:
    """Make a source of whatever was given to convert.

    Args:
        candidate: see the head of this module; a source passes.
        output_signature: structure of specs; of the records, also where batches are given.

    Raises:
        SourceError: it is of no kind that can be converted, or one with two meanings.
        RequestError: it has another signature already.
    """
    if isinstance(candidate, Source):
        return _with_signature(candidate, output_signature)
    if inspect.isclass(candidate):
        name, what = candidate.__qualname__, "a PyDataset" if is_pydataset(candidate) else "a source"
        has_records = hasattr(candidate, "__getitem__") or hasattr(candidate, "__iter__")
        advice = f"Make an instance: {name}(...)" if has_records else _ACCEPTED
        raise SourceError(f"{name} is a class, not {what}", advice=advice)
    if isinstance(candidate, str | bytes | os.PathLike):
        raise SourceError(
            f"{candidate!r} is text, not records",
            advice=f"For files: numpy.load(path), recordio.open(path), or a generator that reads them. {_ACCEPTED}",
        )
    if isinstance(candidate, Dataset):
        return DatasetSource(_fixed(candidate), output_signature)
    if isinstance(candidate, Batches):
        raise SourceError("records are converted, not batches", advice="Leave batch out: convert(ds, path)")
    if hasattr(candidate, "read_columns") and hasattr(candidate, "schema"):
        return DatasetSource(candidate, output_signature)
    if hasattr(candidate, "as_numpy_iterator"):
        return IterableSource(candidate, output_signature)
    if is_pydataset(candidate):
        return from_pydataset(candidate, output_signature=output_signature)
    if is_table(candidate):
        raise SourceError(
            "a DataFrame would be read as the names of its columns",
            advice="recordio.from_tensor_slices({name: frame[name].to_numpy() for name in frame.columns})",
        )
    if hasattr(candidate, "__array__"):
        return DatasetSource(from_tensor_slices(as_numpy(candidate)), output_signature)
    if isinstance(candidate, tuple) or is_mapping(candidate):
        kind = type(candidate).__qualname__
        raise SourceError(
            f"a {kind} may be one record, or hold the columns of many",
            advice="Columns: recordio.from_tensor_slices(...). One record: recordio.from_tensors(...). "
            "A sequence of records: list(...)",
        )
    if _is_numbered(candidate):
        return SequenceSource(candidate, output_signature)
    if callable(candidate) and not hasattr(candidate, "__iter__"):
        return from_generator(candidate, output_signature)
    if hasattr(candidate, "__iter__"):
        return IterableSource(candidate, output_signature)
    raise SourceError(f"{type(candidate).__qualname__} objects cannot be converted", advice=_ACCEPTED)


def _fixed(dataset: Dataset) -> Dataset:
    """A data set whose records have one order, an end, and a number each."""
    recipe = dataset.recipe
    if recipe.repeats != 1:
        raise SourceError("a data set that repeats is converted", advice="Leave repeat out; repeat while reading")
    if recipe.on_corrupt == "skip" and not (recipe.is_stored_order and isinstance(dataset.record_numbers, range)):
        raise SourceError(
            "records that are lost cannot be told apart behind a shuffle, a map or a subset",
            advice="Convert what is left first: convert(recordio.open(path, on_corrupt='skip'), out)",
        )
    return dataset.fixed()


def _with_signature(source: Source, signature: Any) -> Source:
    if signature is None or source.signature is signature:
        return source
    if source.signature is None:
        source.signature = signature
    elif Schema.from_signature(source.signature) != Schema.from_signature(signature):
        raise RequestError(
            f"the signature {signature!r} is given, but the source has one already: {source.signature!r}",
            advice="Give it in one place",
        )
    return source


def _is_numbered(candidate: Any) -> bool:
    if isinstance(candidate, Sequence):
        return True
    # What can be iterated may have other things as its items, or none: a torch DataLoader, a mapping of columns.
    return hasattr(candidate, "__getitem__") and hasattr(candidate, "__len__") and not hasattr(candidate, "__iter__")
