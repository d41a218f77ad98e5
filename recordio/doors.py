"""The ways to a data set: files that are opened, structures in memory, and data sets side by side."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from recordio.batches import Batches
from recordio.columns import ColumnValues
from recordio.dataset import Dataset
from recordio.errors import RequestError
from recordio.loading.recipe import Recipe
from recordio.memory import MemoryReader
from recordio.plan.view import View
from recordio.reader import DEFAULT_CACHE_SIZE, open_data_set
from recordio.rows import OnCorrupt
from recordio.schema import Schema
from recordio.storage import LOCAL, Storage
from recordio.structure import CONTAINERS
from recordio.values.infer import infer_batch_signature, infer_signature
from recordio.values.signature import RecordBuffer, cast_batch
from recordio.zipped import ZippedPart, ZipReader


def open_dataset(

    path: str | os.PathLike[str],
    columns: str | Sequence[str] | None = None,
    on_corrupt: OnCorrupt = "raise",
    *,
    cache_size: int = DEFAULT_CACHE_SIZE,
    _storage: Storage = LOCAL,
) -> Dataset:
    """Open a data set, reading its index and nothing else; or one `.rio` file alone.

    Reading in order keeps the memory of its batches once they are dropped, up to 256 MiB in each process, for the next.

    Args:
        path: the directory of a data set, its `index.rix`, or a shard.
        columns: names of the columns to show; all by default. The others are never read.
        on_corrupt: "raise" a located error where damage is met, or "skip" the damaged records when reading in order:
            they are listed in `lost`, and the numbers of the other records do not change.
        cache_size: bytes of decoded frames that are kept for access by number, in each process.

    Raises:
        FileNotFoundError: nothing is there. IncompleteError: writing did not end.
        NotRecordIOError, TooNewError, DataError: what is there cannot be read.
    """
    if on_corrupt not in ("raise", "skip"):
        raise RequestError(f"on_corrupt is {on_corrupt!r}", advice="Use 'raise' or 'skip'")
    if type(cache_size) is not int or cache_size < 0:
        raise RequestError(f"cache_size {cache_size!r} is not a number of bytes")
    reader = open_data_set(os.fsdecode(path), storage=_storage, cache_size=cache_size, may_be_cut=on_corrupt == "skip")
    schema = reader.schema
    recipe = Recipe(
        reader=reader, view=View(range(reader.num_records)), schema=schema, ordinals=tuple(range(len(schema.columns))),
        on_corrupt=on_corrupt,
    )  # fmt: skip
    dataset = Dataset(recipe)
    return dataset if columns is None else dataset.select_columns(columns)


def from_tensors(structure: Any, *, output_signature: Any = None) -> Dataset:
    """A data set in memory of one record: the structure itself.

    Raises:
        SignatureError: it does not match the signature, or none can be inferred.
    """
    schema = Schema.from_signature(infer_signature([structure]) if output_signature is None else output_signature)
    buffer = RecordBuffer(schema)
    buffer.append(structure, 0)
    return _in_memory(schema, buffer.take(), 1)


def from_tensor_slices(structure: Any, *, output_signature: Any = None) -> Dataset:
    """A data set in memory of the slices of arrays along their first axis.

    Args:
        structure: of arrays `[B, ...]`, `Ragged`, or lists of rows, all of the same B.
        output_signature: of one record; inferred by default.

    Raises:
        SignatureError: a row does not match the signature, or the leaves differ in length.
    """
    schema = Schema.from_signature(infer_batch_signature(structure) if output_signature is None else output_signature)
    num_rows, columns = cast_batch(schema, structure)
    return _in_memory(schema, columns, num_rows)


def _in_memory(schema: Schema, columns: list[ColumnValues], num_rows: int) -> Dataset:
    reader = MemoryReader(schema, columns, num_rows)
    return Dataset(
        Recipe(reader=reader, view=View(range(num_rows)), schema=schema, ordinals=tuple(range(len(columns))))
    )


def zip_datasets(*datasets: Any) -> Dataset:
    """Data sets side by side: record i is the tuple of the records i of all; as long as the shortest.

    Args:
        datasets: recordio data sets, or one tuple or list of them; rows may be taken and columns selected before, all
            else comes after.

    Raises:
        RequestError: one is shuffled, mapped, repeated or batched, or opened with on_corrupt="skip". TypeError: no data
            set.
    """
    if len(datasets) == 1 and isinstance(datasets[0], CONTAINERS) and not isinstance(datasets[0], dict):
        datasets = tuple(datasets[0])
    if not datasets:
        raise RequestError("zip of no data set")
    parts = []
    for dataset in datasets:
        if not isinstance(dataset, Dataset):
            advice = "Zip first, then batch" if isinstance(dataset, Batches) else "Convert it first"
            raise TypeError(f"zip takes recordio data sets, not {type(dataset).__name__}. {advice}")
        recipe = dataset.recipe
        if not recipe.is_stored_order:
            raise RequestError(
                "a data set that is shuffled, mapped or repeated is zipped", advice="Zip first: zip(a, b).shuffle(...)"
            )
        if recipe.on_corrupt == "skip":
            raise RequestError(
                "records that are left out of one data set would no longer stand beside their partners",
                advice="Open with on_corrupt='raise', or write what is left of each with convert",
            )
        parts.append(ZippedPart(reader=recipe.reader, view=recipe.view, ordinals=recipe.ordinals))
    # Names of columns may be the same in several: here they are paths, "0/image".
    signature = tuple(_without_names(dataset.recipe.schema) for dataset in datasets)
    schema = Schema.from_signature(signature)
    reader = ZipReader(schema=schema, parts=tuple(parts))
    return Dataset(
        Recipe(
            reader=reader, view=View(range(reader.num_records)), schema=schema,
            ordinals=tuple(range(len(schema.columns))),
        )
    )


def _without_names(schema: Schema) -> Any:
    return schema.unflatten([replace(column, named=False).spec for column in schema.columns])
