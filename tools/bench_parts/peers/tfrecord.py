"""TFRecord files of tf.train.Example, read with tf.data.

    shard-00003-of-00008.tfrecord   one Example for each record; a feature for each column

Arrays that are not scalars are the raw bytes of a feature, which one `decode_raw` turns back for a whole batch; this is
faster than lists of floats or varints. Random access is not there.

Source: https://www.tensorflow.org/guide/data_performance, https://www.tensorflow.org/tutorials/load_data/tfrecord
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, pairwise
from typing import Any

import numpy as np

from bench_parts.peers.contract import EpochOptions, Kind, Peer
from bench_parts.workloads import Column, Workload

NUM_SHARDS = 8
SHUFFLE_BUFFER = 10_000  # records, as in the guide's examples
BLOCK_LENGTH = 256  # records of one file before the next one's


class TFRecord(Peer):
    """TFRecord, uncompressed or one GZIP stream for each file."""

    environment = "tf"
    distributions = ("tensorflow-cpu",)
    verifies = True  # length and contents of every record have a CRC-32C, and the reader checks both

    def __init__(self, name: str, kind: Kind, compression: str) -> None:
        self.name = name
        self.kind = kind
        self.settings = (
            f"{NUM_SHARDS} files, {compression or 'uncompressed'}; tf.train.Example, parse_example on whole batches; "
            f"threads 2: two files interleaved by {BLOCK_LENGTH} records; "
            f"shuffle: order of files and a buffer of {SHUFFLE_BUFFER:,} records"
        )
        self._compression = compression

    def write(self, workload: Workload, path: str, threads: int) -> None:
        self.write_shards(workload, path, NUM_SHARDS)

    def write_records(self, workload: Workload, path: str) -> None:
        self.write_shards(workload, path, NUM_SHARDS)

    def write_shards(self, workload: Workload, path: str, num_shards: int) -> None:
        import tensorflow as tf

        serialize = _serializer(workload.columns)
        records = workload.records()
        bounds = [shard * workload.num_records // num_shards for shard in range(num_shards + 1)]
        for shard in range(num_shards):
            file = os.path.join(path, f"shard-{shard:05}-of-{num_shards:05}.tfrecord")
            with tf.io.TFRecordWriter(file, self._compression) as writer:
                for record in islice(records, bounds[shard + 1] - bounds[shard]):
                    writer.write(serialize(record))

    def epoch(self, workload: Workload, path: str, options: EpochOptions) -> Iterator[Any]:
        import tensorflow as tf

        _limit_threads(options.threads)
        threads = options.threads
        files = [os.path.join(path, file) for file in sorted(os.listdir(path))]
        if options.shuffle:
            np.random.default_rng(options.seed).shuffle(files)
        if threads == 1:
            records = tf.data.TFRecordDataset(files, self._compression)
        else:
            # `num_parallel_reads` would take one record from each file in turn, in twice the time of one thread.
            records = tf.data.Dataset.from_tensor_slices(files).interleave(
                lambda file: tf.data.TFRecordDataset(file, self._compression),
                cycle_length=threads,
                block_length=BLOCK_LENGTH,
                num_parallel_calls=threads,
                deterministic=not options.shuffle,
            )
        if options.shuffle:
            records = records.shuffle(SHUFFLE_BUFFER, seed=options.seed)
        columns = [one for one in workload.columns if options.columns is None or one.name in options.columns]
        batches = records.batch(options.batch_size).map(_parser(columns), num_parallel_calls=threads)
        settings = tf.data.Options()
        settings.threading.private_threadpool_size = threads
        settings.threading.max_intra_op_parallelism = 1
        settings.deterministic = not options.shuffle
        return iter(batches.prefetch(tf.data.AUTOTUNE).with_options(settings))

    def count(self, batch: Any) -> int:
        first = next(iter(batch.values()))
        # A ragged tensor's own shape takes longer than the batch itself.
        return int(first.nrows()) if hasattr(first, "nrows") else int(first.shape[0])

    def leaves(self, workload: Workload, batch: Any) -> dict[str, Sequence[Any]]:
        found: dict[str, Sequence[Any]] = {}
        for column in workload.columns:
            if column.name not in batch:
                continue
            values = batch[column.name]
            if column.kind == "fixed":
                found[column.name] = values.numpy()
            elif column.kind == "ragged":
                flat, splits = values.values.numpy(), values.row_splits.numpy().tolist()
                found[column.name] = [flat[a:b] for a, b in pairwise(splits)]
            else:
                raw = values.numpy().tolist()
                found[column.name] = raw if column.kind == "bytes" else [one.decode() for one in raw]
        return found


def _is_number(column: Column) -> bool:
    return column.kind == "fixed" and column.shape == () and column.dtype in ("int64", "float32")


def _serializer(columns: Iterable[Column]) -> Callable[[dict[str, Any]], bytes]:
    """From a record to the bytes of its Example."""
    import tensorflow as tf

    bytes_list, int64_list, float_list = tf.train.BytesList, tf.train.Int64List, tf.train.FloatList
    feature, example, features = tf.train.Feature, tf.train.Example, tf.train.Features

    def of(column: Column) -> Callable[[Any], Any]:
        if _is_number(column):
            if column.dtype == "int64":
                return lambda value: feature(int64_list=int64_list(value=(value,)))
            return lambda value: feature(float_list=float_list(value=(value,)))
        if column.kind == "str":
            return lambda value: feature(bytes_list=bytes_list(value=(value.encode(),)))
        if column.kind == "bytes":
            return lambda value: feature(bytes_list=bytes_list(value=(value,)))
        return lambda value: feature(bytes_list=bytes_list(value=(value.tobytes(),)))

    makers = [(column.name, of(column)) for column in columns]

    def serialize(record: dict[str, Any]) -> bytes:
        found = {name: make(record[name]) for name, make in makers}
        serialized: bytes = example(features=features(feature=found)).SerializeToString()
        return serialized

    return serialize


def _parser(columns: Sequence[Column]) -> Callable[[Any], dict[str, Any]]:
    """From string[B] of Examples to a tensor for each column: ragged[B, None] of a ragged one."""
    import tensorflow as tf

    wanted = {
        one.name: tf.io.FixedLenFeature([], tf.dtypes.as_dtype(one.dtype) if _is_number(one) else tf.string)
        for one in columns
    }

    def parse(examples: Any) -> dict[str, Any]:
        found: dict[str, Any] = tf.io.parse_example(examples, wanted)
        for column in columns:
            raw = found[column.name]
            if column.kind == "ragged":
                # decode_raw wants one length for all of a batch: it gets one string of them all.
                values = tf.io.decode_raw(tf.strings.reduce_join(raw), column.dtype)
                sizes = tf.strings.length(raw) // np.dtype(column.dtype).itemsize
                found[column.name] = tf.RaggedTensor.from_row_lengths(values, sizes, validate=False)
            elif column.kind == "fixed" and not _is_number(column):
                found[column.name] = tf.reshape(tf.io.decode_raw(raw, column.dtype), (-1, *column.shape))
        return found

    return parse


def _limit_threads(threads: int) -> None:
    """As many for the runtime as tf.data has; it takes no other number after its first operation."""
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:
        pass


PEERS: tuple[Peer, ...] = (
    TFRecord("TFRecord + tf.data", "raw", ""),
    TFRecord("TFRecord gzip + tf.data", "compressed", "GZIP"),
)
