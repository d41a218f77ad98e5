"""Hugging Face datasets: Arrow files in eight shards, mapped; batches are Arrow tables over that memory.

In order the mapped table is sliced. Shuffled, its documentation advises against `Dataset.shuffle`, whose indices cost
up to ten times, and for an iterable data set of many shards with a shuffle buffer; sizes are those of its examples.

Source: https://huggingface.co/docs/datasets/about_mapstyle_vs_iterable
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bench_parts.peers.contract import EpochOptions, Peer
from bench_parts.peers.parquet import arrow_column, columns_of, plain_values
from bench_parts.workloads import Column, Workload

NUM_FILES = 8
NUM_SHUFFLED_SHARDS = 64
BUFFER_SIZE = 10_000  # records


class _Handle:
    """A loaded data set and its columns."""

    def __init__(self, dataset: Any, columns: dict[str, Column]) -> None:
        self.dataset = dataset
        self.columns = columns


class HfDatasets(Peer):
    """`save_to_disk`, `load_from_disk`, and the "arrow" format, of which "numpy" is a slower conversion."""

    name = "Hugging Face datasets"
    environment = "arrow"
    distributions = ("datasets", "pyarrow")
    kind = "views"
    settings = 'mapped Arrow, format "arrow"; shuffled: 64 shards, buffer of 10,000; one thread'

    def write(self, workload: Workload, path: str, threads: int) -> None:
        self._write(workload, path, NUM_FILES)

    def write_shards(self, workload: Workload, path: str, num_shards: int) -> None:
        self._write(workload, path, num_shards)

    def epoch(self, workload: Workload, path: str, options: EpochOptions) -> Iterator[Any]:
        dataset = self._load(path)
        if options.columns:
            dataset = dataset.select_columns(list(options.columns))
        if options.shuffle:
            shards = dataset.with_format(None).to_iterable_dataset(min(NUM_SHUFFLED_SHARDS, len(dataset)))
            shuffled = shards.shuffle(seed=options.seed, buffer_size=BUFFER_SIZE)
            yield from shuffled.with_format("arrow").iter(options.batch_size)
        else:
            yield from dataset.iter(options.batch_size)

    def count(self, batch: Any) -> int:
        return int(batch.num_rows)

    def leaves(self, workload: Workload, batch: Any) -> dict[str, Sequence[Any]]:
        return _plain(columns_of(workload), batch)

    def open(self, workload: Workload, path: str) -> Any:
        return _Handle(self._load(path), columns_of(workload))

    def record(self, handle: Any, number: int) -> dict[str, Any]:
        return {name: values[0] for name, values in _plain(handle.columns, handle.dataset[number]).items()}

    def batch(self, handle: Any, numbers: Sequence[int]) -> Any:
        return handle.dataset[list(numbers)]

    def _write(self, workload: Workload, path: str, num_files: int) -> None:
        import pyarrow as pa
        from datasets import Dataset, disable_progress_bars

        disable_progress_bars()
        columns = {column.name: _column(workload, column) for column in workload.columns}
        Dataset(pa.table(columns)).save_to_disk(path, num_shards=num_files)

    def _load(self, path: str) -> Any:
        from datasets import load_from_disk

        return load_from_disk(path).with_format("arrow")


def _column(workload: Workload, column: Column) -> Any:
    """A column of the workload; arrays as lists of one length."""
    import pyarrow as pa

    if not column.shape:
        return arrow_column(workload, column, 0, workload.num_records)
    values = np.ascontiguousarray(workload.values[column.name]).reshape(-1)
    items = pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])
    return pa.FixedSizeListArray.from_arrays(items, int(np.prod(column.shape)))


def _plain(columns: dict[str, Column], table: Any) -> dict[str, Sequence[Any]]:
    found: dict[str, Sequence[Any]] = {}
    for name in table.column_names:
        array = table[name].combine_chunks()
        if columns[name].shape:
            found[name] = array.flatten().to_numpy().reshape(-1, *columns[name].shape)
        else:
            found[name] = plain_values(columns[name], array)
    return found


PEERS: tuple[Peer, ...] = (HfDatasets(),)
