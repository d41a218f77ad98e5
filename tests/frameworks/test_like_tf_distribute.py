"""FILE, OFF and DATA give every replica, at every step, the records that tf.distribute gives it.

The other end is TensorFlow itself, in `tests.frameworks.tf_distribute`: many cases at the level of the datasets that it
builds for its workers, and a few with real processes and collectives.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import recordio
from tests.frameworks import tf_distribute
from tests.frameworks.tf_distribute import COLUMNS, IMAGE_SHAPE, Case, Steps, built_steps, write_files
from tests.frameworks.tf_workers import run_workers

pytestmark = [
    pytest.mark.framework,
    pytest.mark.filterwarnings("ignore:a global batch of .* replicas idle:UserWarning"),  # such cases are among them
]

TOPOLOGIES = [(1, 1), (1, 3), (2, 2), (2, 4), (3, 3), (3, 6), (4, 4)]  # pipelines, replicas in all

DATA_SETS = [  # records of each file, records of a global batch
    ((5,), 4),
    ((7, 7, 7), 7),
    ((5, 2, 9, 1), 6),      # pipelines run out at different steps
    ((5, 2, 9, 1), 5),      # sub-batches of unequal sizes
    ((4, 4, 4, 4), 8),      # every file ends with a sub-batch
    ((10, 1, 1, 3), 16),    # one batch, and it is partial
    ((9, 3, 2, 8, 1), 2),   # mostly fewer records in a batch than replicas
    ((2, 1, 1), 3),         # fewer records in all than some have replicas
]  # fmt: skip

CASES = [
    Case(sizes=sizes, batch_size=batch_size, num_pipelines=num_pipelines, num_replicas=num_replicas, policy=policy)
    for sizes, batch_size in DATA_SETS
    for num_pipelines, num_replicas in TOPOLOGIES
    for policy in ["FILE", "DATA", "OFF"]
    if policy != "FILE" or num_pipelines <= len(sizes)
]

REAL_CASES = [
    Case(sizes=sizes, batch_size=batch_size, num_pipelines=num_pipelines, num_replicas=num_replicas, policy=policy)
    for num_pipelines, num_replicas in [(2, 2), (2, 4), (1, 2), (1, 3)]
    for sizes, batch_size, policy in [
        ((5, 2, 9, 1), 5, "FILE"),      # 14 and 3 records: the second pipeline gets zero rows for most of the epoch
        ((10, 1, 1, 3), 6, "FILE"),
        ((3, 4), 5, "FILE"),
        ((5, 2, 9, 1), 7, "DATA"),      # 7, 7 and 3 records over 2, 3 or 4 replicas
        ((2, 1, 1), 3, "DATA"),
        ((5, 2, 9, 1), 5, "OFF"),
        ((5, 2, 9, 1), 1, "FILE"),      # fewer records in a batch than replicas
    ]
]  # fmt: skip
REAL_CASES += [
    replace(case, **change)
    for case in REAL_CASES
    for change in ([{"drop_remainder": True}] if case.policy == "DATA" else [{"repeat_before": 2}])
    if case.num_replicas == 4 and case.batch_size > 4
]

MAX_RUN_S = 100  # for one group of worker processes, on a machine that others use; alone it takes about 10

Paths = Callable[[tuple[int, ...]], tuple[Path, Path]]


def write_data_set(path: Path, sizes: tuple[int, ...]) -> None:
    """Write a data set whose shards have so many records, numbered through; a column of bytes fills each shard."""
    shard_size, slack = 1 << 16, 2048
    spec = {
        "id": recordio.TensorSpec((), "int64"),
        "image": recordio.TensorSpec(IMAGE_SHAPE, "uint8"),
        "filler": recordio.TensorSpec((), "bytes"),
    }
    with recordio.Writer(path, spec, shard_size=shard_size, workers=1) as writer:
        for size in sizes:
            for _ in range(size):
                number = writer.num_records
                filler = b"\0" * ((shard_size - slack) // size)
                writer.write({"id": number, "image": np.full(IMAGE_SHAPE, number, "uint8"), "filler": filler})
    assert tuple(shard.num_records for shard in recordio.open(path).shards) == sizes


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """A directory of TFRecord files and a data set, with so many records in each file; made when first asked for."""

    @functools.cache
    def make(sizes: tuple[int, ...]) -> tuple[Path, Path]:
        directory = tmp_path_factory.mktemp("sizes")
        write_files(directory / "tfrecord", sizes)
        write_data_set(directory / "rio", sizes)
        return directory / "tfrecord", directory / "rio"

    return make


def distribute(path: Path, case: Case, pipeline_id: int) -> recordio.DistributedDataset:
    dataset = recordio.open(path, columns=list(COLUMNS))
    if case.repeat_before > 1:
        dataset = dataset.repeat(case.repeat_before)
    loader = dataset.batch(case.batch_size, drop_remainder=case.drop_remainder)
    if case.repeat_behind > 1:
        loader = loader.repeat(case.repeat_behind)
    context = recordio.InputContext(
        num_input_pipelines=case.num_pipelines, input_pipeline_id=pipeline_id, num_replicas_in_sync=case.num_replicas
    )
    return recordio.distribute(loader, context, policy=getattr(recordio.AutoShardPolicy, case.policy))


def our_steps(path: Path, case: Case) -> list[Steps]:
    """What every replica of every pipeline gets from recordio, as `tf_distribute` writes it down."""
    pipelines = []
    for pipeline_id in range(case.num_pipelines):
        distributed = distribute(path, case, pipeline_id)
        steps = []
        for batch in distributed:
            leaves = [[batch[name]] if case.num_replicas == 1 else batch[name].values for name in COLUMNS]
            assert all(len(leaf) == case.replicas_per_pipeline for leaf in leaves)
            for ids, images in zip(*leaves, strict=True):
                assert ids.dtype == "int64"
                assert (images == ids.astype("uint8")[:, None, None]).all()
            steps.append([
                {"id": ids.tolist(), "image": [list(images.shape), images.dtype.name]}
                for ids, images in zip(*leaves, strict=True)
            ])  # fmt: skip
        assert len(distributed) == len(steps)
        pipelines.append(steps)
    return pipelines


def num_rows(pipelines: list[Steps], step: int) -> list[int]:
    """Rows of every slot at a step."""
    return [len(value["id"]) for steps in pipelines for value in steps[step]]


def cut(pipelines: list[Steps], num_steps: int) -> list[Steps]:
    return [steps[:num_steps] for steps in pipelines]


def assert_same_steps(ours: list[Steps], theirs: list[Steps], case: Case) -> None:
    """TensorFlow may go on after the last record, in one case; else all is the same, and the number of steps, too.

    With fewer records in a batch than replicas, sub-batches of size zero are values to TensorFlow: it notices the end
    of a stream only when it next wants a record of it. The steps until then hold nothing, and here there are none.
    """
    num_steps = len(ours[0])
    assert ours == cut(theirs, num_steps)
    beyond = [sum(num_rows(theirs, step)) for step in range(num_steps, len(theirs[0]))]
    assert beyond == ([0] * len(beyond) if case.batch_size < case.num_replicas and case.policy != "DATA" else [])
    assert sum(num_rows(ours, num_steps - 1)) > 0


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_replica_gets_what_tf_distribute_gives_it(case: Case, paths: Paths):
    """FILE and OFF are batch_sizes_for_worker and rebatch, DATA is the legacy rebatch (spec/order.md, section 6)."""
    files, path = paths(case.sizes)
    assert_same_steps(our_steps(path, case), built_steps(files, case), case)


@pytest.mark.parametrize("case", [
    Case(sizes=(5, 2, 9, 1), batch_size=5, num_pipelines=2, num_replicas=4, policy="FILE", repeat_before=2),
    Case(sizes=(3, 4), batch_size=4, num_pipelines=2, num_replicas=2, policy="FILE", repeat_before=3),
    Case(sizes=(5, 2, 9, 1), batch_size=5, num_pipelines=2, num_replicas=4, policy="OFF", repeat_before=2),
    Case(sizes=(5, 2, 9, 1), batch_size=5, num_pipelines=2, num_replicas=4, policy="DATA", repeat_before=2),
    Case(sizes=(5, 2, 9, 1), batch_size=5, num_pipelines=2, num_replicas=4, policy="DATA", repeat_behind=2),
], ids=str)  # fmt: skip
def test_repeated_epochs_are_cut_as_in_tensorflow(case: Case, paths: Paths):
    """In front of batch, steps run over the ends of epochs (spec/order.md, sections 5 and 7).

    Behind it only DATA is alike: here every epoch ends by itself, and TensorFlow's rebatch, which FILE and OFF have,
    joins the last batch of an epoch to the first of the next.
    """
    files, path = paths(case.sizes)
    assert_same_steps(our_steps(path, case), built_steps(files, case), case)


@pytest.mark.parametrize(
    "case",
    [replace(case, drop_remainder=True) for case in CASES if case.policy == "DATA" or case.num_pipelines == 1],
    ids=str,
)
def test_the_remainder_is_dropped_as_in_tensorflow(case: Case, paths: Paths):
    """T // G steps under DATA, and with one pipeline under FILE and OFF, too (spec/order.md, section 7)."""
    files, path = paths(case.sizes)
    assert our_steps(path, case) == built_steps(files, case)


@pytest.mark.parametrize(
    "case",
    [
        replace(case, drop_remainder=True)
        for case in CASES
        if case.policy != "DATA" and case.num_pipelines > 1 and case.num_replicas <= case.batch_size
    ],
    ids=str,
)
def test_steps_that_are_full_everywhere_in_tensorflow_are_not_dropped(case: Case, paths: Paths):
    """The last step is the last that every slot of every pipeline can fill (spec/order.md, section 7).

    TensorFlow drops what is left of each pipeline's stream after whole global batches, and goes on until the last
    pipeline has ended: its full steps are the same, others are not full, and some full ones it may not take.
    """
    files, path = paths(case.sizes)
    ours, theirs = our_steps(path, case), built_steps(files, case)
    smallest = case.batch_size // case.num_replicas
    num_full = sum(min(num_rows(theirs, step)) >= smallest for step in range(len(theirs[0])))
    assert cut(ours, num_full) == cut(theirs, num_full)
    assert len(ours[0]) >= num_full
    assert all(sum(num_rows(ours, step)) == case.batch_size for step in range(len(ours[0])))


@pytest.mark.parametrize(("sizes", "num_pipelines"), [((2, 1), 3), ((2, 1), 4), ((4,), 2)])
def test_too_few_files_are_an_error_on_every_pipeline(sizes: tuple[int, ...], num_pipelines: int, paths: Paths):
    """TensorFlow raises it on the pipelines that have a file, and the others see an empty data set."""
    case = Case(sizes=sizes, batch_size=4, num_pipelines=num_pipelines, num_replicas=num_pipelines, policy="FILE")
    files, path = paths(sizes)
    messages = set()
    for pipeline_id in range(num_pipelines):
        if pipeline_id < len(sizes):
            with pytest.raises(tf.errors.InvalidArgumentError, match="not enough for the required"):
                tf_distribute.built_sub_batches(files, case, pipeline_id)
        else:
            assert tf_distribute.built_sub_batches(files, case, pipeline_id) == []
        with pytest.raises(ValueError) as caught:
            list(distribute(path, case, pipeline_id))
        messages.add(str(caught.value))
    (message,) = messages
    assert str(len(sizes)) in message and str(num_pipelines) in message


@pytest.fixture(scope="module")
def real_steps(paths: Paths, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], list[Steps]]:
    """What the replicas of a real strategy got; all cases of a topology are run when the first is asked for."""

    @functools.cache
    def run(num_pipelines: int, num_replicas: int) -> dict[Case, list[Steps]]:
        cases = [
            case for case in REAL_CASES if (case.num_pipelines, case.num_replicas) == (num_pipelines, num_replicas)
        ]
        directory = tmp_path_factory.mktemp("workers")
        asked = directory / "asked.json"
        asked.write_text(tf_distribute.asked_as_json([(paths(case.sizes)[0], case) for case in cases]))
        program = str(tf_distribute.__file__)
        answers = run_workers(program, [str(asked)], num_pipelines, directory, timeout_s=MAX_RUN_S)
        return dict(zip(cases, map(list, zip(*answers, strict=True)), strict=True))

    return lambda case: run(case.num_pipelines, case.num_replicas)[case]


@pytest.mark.parametrize("case", REAL_CASES, ids=str)
def test_every_replica_gets_what_a_real_strategy_gives_it(
    case: Case, paths: Paths, real_steps: Callable[[Case], list[Steps]]
):
    """MultiWorkerMirroredStrategy in two processes, with one and two replicas each; MirroredStrategy in one.

    TensorFlow's processes agree on the end by an all-reduce at every step; ours know it from the index (spec/order.md,
    section 7).
    """
    assert_same_steps(our_steps(paths(case.sizes)[1], case), real_steps(case), case)
