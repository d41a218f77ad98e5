"""What tf.distribute gives to each replica at each step: the other end of test_like_tf_distribute.

Asked in two ways. `built_steps` takes, in this process, the dataset that tf.distribute builds for each worker
(rebatched, then auto-sharded, by TensorFlow's own code) and deals its elements to the replicas. Run as a program, the
module is one worker of a real strategy, with real collectives, that iterates over what
`experimental_distribute_dataset` returns.

Imports TensorFlow and nothing of recordio.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.python.distribute import input_lib
from tensorflow.python.distribute.collective_all_reduce_strategy import CollectiveAllReduceExtended

COLUMNS = ("id", "image")
IMAGE_SHAPE = (2, 3)

Value = dict[str, Any]  # what one replica gets at one step: {"id": list[int], "image": [shape, dtype name]}
Steps = list[list[Value]]  # of one pipeline: [step][replica]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One data set and one way to distribute it."""

    sizes: tuple[int, ...]  # records of each file
    batch_size: int  # records of a full global batch, G
    num_pipelines: int  # P
    num_replicas: int  # in all, R
    policy: str  # FILE, DATA or OFF
    drop_remainder: bool = False
    repeat_before: int = 1  # repeat(k) in front of batch
    repeat_behind: int = 1  # repeat(k) behind batch

    @property
    def replicas_per_pipeline(self) -> int:
        return self.num_replicas // self.num_pipelines

    def __str__(self) -> str:
        """The name of the test."""
        files = "+".join(map(str, self.sizes))
        name = f"{self.policy}-{files}-G{self.batch_size}-P{self.num_pipelines}-R{self.num_replicas}"
        if self.repeat_before > 1:
            name += f"-repeat{self.repeat_before}"
        if self.repeat_behind > 1:
            name += f"-then_repeat{self.repeat_behind}"
        return name + "-drop" * self.drop_remainder


def write_files(directory: Path, sizes: Sequence[int]) -> None:
    """Write one TFRecord file per size; the records are numbered through."""
    directory.mkdir(parents=True)
    numbers = itertools.count()
    for file_id, size in enumerate(sizes):
        with tf.io.TFRecordWriter(str(directory / f"{file_id:03d}.tfrecord")) as writer:
            for number in itertools.islice(numbers, size):
                writer.write(str(number).encode())


@functools.cache  # tracing its functions takes longer than all that is asked of it
def make_records(directory: Path) -> tf.data.Dataset:
    """The records of all files of a directory, in order."""

    def parse(record: tf.Tensor) -> dict[str, tf.Tensor]:
        number = tf.strings.to_number(record, tf.int64)
        return {"id": number, "image": tf.fill(IMAGE_SHAPE, tf.cast(number, tf.uint8))}

    files = tf.data.Dataset.from_tensor_slices(sorted(map(str, directory.iterdir())))
    return files.interleave(tf.data.TFRecordDataset, cycle_length=1).map(parse)


def make_dataset(directory: Path, case: Case) -> tf.data.Dataset:
    """The dataset of global batches that a user hands to `experimental_distribute_dataset`."""
    records = make_records(directory).repeat(case.repeat_before)
    batches = records.batch(case.batch_size, drop_remainder=case.drop_remainder).repeat(case.repeat_behind)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = getattr(tf.data.experimental.AutoShardPolicy, case.policy)
    return batches.with_options(options)


def as_value(batch: Any) -> Value:
    """The ids in full, and of the images, which follow from these, shape and type: empty values must have them, too."""
    ids, image = batch["id"].numpy(), batch["image"].numpy()
    assert (image == ids.astype("uint8")[:, None, None]).all()
    return {"id": ids.tolist(), "image": [list(image.shape), image.dtype.name]}


def built_sub_batches(directory: Path, case: Case, pipeline_id: int) -> list[Value]:
    """The elements of the dataset that tf.distribute builds for one worker, to be dealt to its replicas in turn.

    Source: DistributedDataset in tensorflow/python/distribute/input_lib.py.
    """
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    distributed = input_lib.DistributedDataset(
        input_lib.InputWorkers([("CPU:0", ("CPU:0",))]),
        strategy,
        make_dataset(directory, case),
        num_replicas_in_sync=case.num_replicas,
        input_context=tf.distribute.InputContext(case.num_pipelines, pipeline_id, case.num_replicas),
    )
    (built,) = distributed._cloned_datasets
    return [as_value(batch) for batch in built]


def built_steps(directory: Path, case: Case) -> list[Steps]:
    """What every replica of every pipeline gets, as long as any replica anywhere gets a value.

    A replica without a value gets zero rows (DistributedIterator.get_next there).
    """
    nothing = {"id": [], "image": [[0, *IMAGE_SHAPE], "uint8"]}
    per_step = case.replicas_per_pipeline
    pipelines = [built_sub_batches(directory, case, pipeline_id) for pipeline_id in range(case.num_pipelines)]
    num_steps = max(-(-len(sub_batches) // per_step) for sub_batches in pipelines)
    for sub_batches in pipelines:
        sub_batches += [nothing] * (num_steps * per_step - len(sub_batches))
    return [
        [sub_batches[step * per_step : (step + 1) * per_step] for step in range(num_steps)]
        for sub_batches in pipelines
    ]  # fmt: skip


def make_strategy(*, num_pipelines: int, num_local_replicas: int) -> tf.distribute.Strategy:
    """A strategy of this process, or of the processes in TF_CONFIG, with several CPUs as replicas."""
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * num_local_replicas)
    if num_pipelines == 1:
        return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(num_local_replicas)])

    # Without GPUs the strategy takes CPU:0 alone, however many logical CPUs there are, and has no argument for it.
    def local_devices(_self: Any, _resolver: Any, worker_device: str) -> tuple[tuple[str, ...], str]:
        return tuple(f"{worker_device}/device:CPU:{i}" for i in range(num_local_replicas)), "CPU"

    CollectiveAllReduceExtended._initialize_local_devices = local_devices
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=tf.distribute.experimental.CommunicationImplementation.RING
    )
    return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)


def iterated_steps(strategy: tf.distribute.Strategy, directory: Path, case: Case) -> Steps:
    """What this process's replicas get; collective, so that all processes must ask for the same cases."""
    distributed = strategy.experimental_distribute_dataset(make_dataset(directory, case))
    steps = []
    for batch in distributed:
        columns = [strategy.experimental_local_results(batch[name]) for name in COLUMNS]
        steps.append([as_value(dict(zip(COLUMNS, leaves, strict=True))) for leaves in zip(*columns, strict=True)])
    return steps


def main() -> None:
    """Write the list of this process's steps to the first file that argv names, for what `asked_as_json` made of it."""
    asked = [(Path(directory), Case(**case)) for directory, case in json.loads(Path(sys.argv[2]).read_text())]
    first = asked[0][1]
    strategy = make_strategy(num_pipelines=first.num_pipelines, num_local_replicas=first.replicas_per_pipeline)
    assert strategy.num_replicas_in_sync == first.num_replicas
    answers = [iterated_steps(strategy, directory, case) for directory, case in asked]
    Path(sys.argv[1]).write_text(json.dumps(answers))


def asked_as_json(asked: Sequence[tuple[Path, Case]]) -> str:
    """What the second file says that argv of `main` names."""
    return json.dumps([[str(directory), dataclasses.asdict(case)] for directory, case in asked])


if __name__ == "__main__":
    main()
