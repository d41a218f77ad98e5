"""Hugging Face: records as a `datasets.IterableDataset`, shuffled, split, mapped, batched and resumed by itself.

    records 0 .. N  ->  shards, as many records in each  ->  Arrow tables of some hundred records

Its shards are not our files: they are cut at records, and there are as many as many numbers of nodes and workers
divide, so that `split_dataset_by_node` and a DataLoader deal them out evenly. Tables take over the memory of batches.

Spec: spec/adapters.md, section 7. Source: datasets/iterable_dataset.py (ArrowExamplesIterable), datasets/features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Array2D, Array3D, Array4D, Array5D, DatasetInfo, Features, IterableDataset, List, Value
from datasets.iterable_dataset import ArrowExamplesIterable

from recordio.adapters.leaves import check_epochless, map_leaves
from recordio.arguments import whole_number
from recordio.columns import Array
from recordio.dataset import Dataset
from recordio.errors import RequestError
from recordio.spec import MsgpackSpec, TensorSpec
from recordio.structure import CONTAINERS, Parts, children, leaf_name
from recordio.values.ragged import Ragged

_SHARD_SIZE = 4 << 20  # raw bytes: beginning a smaller one would cost as much as reading it
_LEAST_SHARDS = 12  # where there are as many records
# Each is a multiple of the one before it, or of most of its divisors: few numbers of nodes and workers leave a rest.
_SHARD_COUNTS = (1, 2, 6, 12, 60, 120, 360, 840, 2520, 5040)
_TABLE_SIZE, _TABLE_RECORDS = 4 << 20, 1000  # raw bytes and records of a table, at most
_MAX_OFFSET = 2**31 - 1  # of Arrow's lists and strings
_ARRAYS = {2: Array2D, 3: Array3D, 4: Array4D, 5: Array5D}
_TEXTS = {"str": "string", "bytes": "binary"}
_NUMBERS = frozenset(
    ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64")
)


def to_hf_iterable(dataset: Any, *, num_shards: int | None = None) -> IterableDataset:
    """Records in order, with the features of the element_spec.

    Args:
        num_shards: that its nodes and workers share, of as many records, or one more, each. By default as many as hold
            about 4 MiB, but at least 12, and a number that many others divide; one of shuffled records, of which every
            shard would be read from all over the data set.

    Raises:
        RequestError: batched, repeated, or shuffled anew in every epoch, which Hugging Face does itself; mapped with
            rng; a column that it has no type for; more shards than records. TypeError: nothing of ours.
    """
    _check(dataset)
    spec, recipe, num_records = dataset.element_spec, dataset.recipe, len(dataset)
    spec = spec if isinstance(spec, CONTAINERS) else {"value": spec}
    features = Features(_features(spec, ()))
    if num_shards is None and recipe.shuffle is not None:
        num_shards = 1
    elif num_shards is None:
        wanted = max(_LEAST_SHARDS, int(num_records * recipe.row_size) // _SHARD_SIZE)
        num_shards = max(count for count in _SHARD_COUNTS if count <= max(1, min(wanted, num_records)))
    count = whole_number("num_shards", num_shards, least=1)
    if count > max(1, num_records):
        raise RequestError(f"num_shards is {count}, and there are {num_records} records")
    size, rest = divmod(num_records, count)
    bounds = [number * size + min(number, rest) for number in range(count + 1)]
    at_once = max(1, min(_TABLE_RECORDS, int(_TABLE_SIZE / recipe.row_size)))
    tables = _Tables(dataset=dataset, features=features, num_records=at_once)
    examples = ArrowExamplesIterable(tables, {"spans": list(pairwise(bounds))})
    return IterableDataset(examples, info=DatasetInfo(features=features))


def _check(dataset: Any) -> None:
    if not isinstance(dataset, Dataset):
        if hasattr(dataset, "batch_size"):
            raise RequestError(
                "Hugging Face takes records, and batches them itself", advice="Leave batch out: ds.to_hf_iterable()"
            )
        raise TypeError(f"to_hf_iterable takes a recordio data set, not {type(dataset).__name__}")
    recipe = dataset.recipe
    if recipe.repeats != 1:
        raise RequestError("Hugging Face repeats records itself", advice="ds.to_hf_iterable().repeat(k)")
    check_epochless(recipe, "Hugging Face", "ds.to_hf_iterable().shuffle(seed=0, buffer_size=10_000)")


# -- features --


def _features(spec: Any, parts: Parts) -> Any:
    """The features of a structure; containers are dicts, in which places of tuples and lists are names."""
    if isinstance(spec, CONTAINERS):
        return {name: _features(child, (*parts, name)) for name, child in _entries(spec)}
    if isinstance(spec, MsgpackSpec) or spec.shape is None or spec.dtype not in {*_NUMBERS, *_TEXTS}:
        raise RequestError(
            f"Hugging Face has no type for a column of {spec}", column=leaf_name(parts),
            advice="Leave it out: ds.select_columns(names)",
        )  # fmt: skip
    return _feature(spec)


def _feature(spec: TensorSpec) -> Any:
    shape, found = spec.shape or (), Value(_TEXTS.get(spec.dtype, spec.dtype))
    # What may be missing is a list: of a missing array datasets makes NaN, and floats of the others.
    is_array = spec.dtype in _NUMBERS and not spec.optional and all(shape)
    if is_array and len(shape) in _ARRAYS:
        return _ARRAYS[len(shape)](shape=shape, dtype=spec.dtype)
    if is_array and len(shape) == 1:
        return List(found, length=shape[0])
    for _ in shape:
        found = List(found)
    return found


def _entries(node: Any) -> list[tuple[str, Any]]:
    """Names and entries of a container, without those that hold no leaf."""
    return [(str(part), child) for part, child in children(node) if not _is_hollow(child)]


def _is_hollow(node: Any) -> bool:
    return isinstance(node, CONTAINERS) and all(_is_hollow(child) for _, child in children(node))


# -- tables --


@dataclass(frozen=True, kw_only=True)
class _Tables:
    """Makes the tables of spans of records; it goes to the workers of a DataLoader."""

    dataset: Dataset
    features: Features
    num_records: int  # of a table

    def __call__(self, spans: Sequence[tuple[int, int]]) -> Iterator[tuple[int, pa.Table]]:
        schema = self.features.arrow_schema
        for start, stop in spans:
            number = start
            for batch in self.dataset[start:stop].batch(self.num_records):
                whole = batch if isinstance(batch, CONTAINERS) else {"value": batch}
                for part in _small_enough(whole):
                    columns = [
                        _column(feature, value)
                        for feature, (_, value) in zip(self.features.values(), _entries(part), strict=True)
                    ]
                    table = pa.Table.from_arrays(columns, schema=schema)
                    yield number, table
                    number += len(table)


def _small_enough(batch: Any) -> Iterator[Any]:
    """The batch, or parts of it in which Arrow's offsets of 32 bits reach to the end."""
    leaves: list[Any] = []
    map_leaves(batch, leaves.append)
    num_rows = len(leaves[0])
    largest = max(leaf.values.size if isinstance(leaf, Ragged) else leaf.size for leaf in leaves)
    if largest <= _MAX_OFFSET or num_rows < 2:
        yield batch
        return
    middle = num_rows // 2
    for rows in (slice(0, middle), slice(middle, num_rows)):
        yield from _small_enough(map_leaves(batch, itemgetter(rows)))


def _column(feature: Any, value: Any) -> pa.Array:
    """A column of a table: of a leaf, or of a container of them."""
    if isinstance(feature, dict):
        entries = _entries(value)
        arrays = [_column(child, part) for child, (_, part) in zip(feature.values(), entries, strict=True)]
        return pa.StructArray.from_arrays(arrays, names=[name for name, _ in entries])
    if isinstance(value, Ragged):
        return _of_ragged(value)
    missing: Array | None = None
    if isinstance(value, np.ma.MaskedArray):
        missing = np.asarray(np.ma.getmaskarray(value).any(axis=tuple(range(1, value.ndim))))
        value = np.ma.getdata(value)
    shape, flat = value.shape[1:], np.ascontiguousarray(value).reshape(-1)
    if not shape:
        return pa.array(flat, mask=missing)
    found = pa.array(flat)
    if isinstance(feature, List) and feature.length != -1:
        return pa.FixedSizeListArray.from_arrays(found, feature.length)
    for axis in reversed(range(len(shape))):
        sizes = np.arange(len(value) * prod(shape[:axis]) + 1, dtype=np.int32)
        found = _lists(sizes * np.int32(shape[axis]), found, None if axis else missing)
    return found if isinstance(feature, List) else pa.ExtensionArray.from_storage(feature(), found)


def _of_ragged(value: Ragged) -> pa.Array:
    if value.dtype not in _TEXTS:
        found = pa.array(value.values.reshape(-1))
    else:
        bounds = value.row_offsets if value.element_offsets is None else value.element_offsets
        missing = value.mask if value.element_offsets is None else None
        data = value.values[bounds[0] : bounds[-1]]
        valid = None if missing is None else pa.py_buffer(np.packbits(~missing, bitorder="little"))
        buffers = [valid, pa.py_buffer((bounds - bounds[0]).astype(np.int32)), pa.py_buffer(data)]
        found = pa.Array.from_buffers(pa.string() if value.dtype == "str" else pa.binary(), len(bounds) - 1, buffers)
    # Of every dimension the sizes of all lists, those of the last one first.
    sizes, num_lists = [], np.ones(len(value), np.int64)
    for axis in range(value.rank):
        sizes.append(np.repeat(value.shapes[:, axis], num_lists))
        num_lists = num_lists * value.shapes[:, axis]
    for axis in reversed(range(value.rank)):
        bounds = np.zeros(len(sizes[axis]) + 1, np.int32)
        np.cumsum(sizes[axis], out=bounds[1:])
        found = _lists(bounds, found, None if axis else value.mask)
    return found


def _lists(bounds: Array, elements: pa.Array, missing: Array | None) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(bounds), elements, mask=None if missing is None else pa.array(missing))
