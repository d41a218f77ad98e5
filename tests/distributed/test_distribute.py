"""distribute and distribute_from_function: what is refused, what idle replicas get, specs, lengths, states.

Which record goes where is in tests/plan and tests/laws; that it is what TensorFlow does, in tests/frameworks.

Spec: spec/order.md, sections 6 to 9.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio import InputContext, Ragged, RequestError, StateError
from tests.counting import CountingStorage
from tests.laws.data_sets import fresh_directory

SPEC = {
    "id": recordio.TensorSpec((), "int64"),
    "image": recordio.TensorSpec((2, 3), "float32"),
    "word": recordio.TensorSpec((), "str"),
    "raw": recordio.TensorSpec((), "bytes"),
    "list": recordio.TensorSpec((None,), "int32"),
    "grid": recordio.TensorSpec((None, 2), "uint8"),
    "maybe": recordio.TensorSpec((4,), "int16", optional=True),
    "maybe_list": recordio.TensorSpec((None,), "int16", optional=True),
    "any": recordio.MsgpackSpec(),
    "free": recordio.TensorSpec(None, "float64"),
}
NUM_RECORDS, NUM_SHARDS = 10, 3


def record(number: int) -> dict[str, Any]:
    """Rows of every length, None among them."""
    return {
        "id": number, "image": np.full((2, 3), number, np.float32), "word": f"w{number}", "raw": b"%d" % number,
        "list": [number] * number, "grid": np.full((number, 2), number, np.uint8),
        "maybe": None if number % 2 else [number] * 4, "maybe_list": None if number % 2 else [number],
        "any": {"i": number}, "free": np.full((2,) * (number % 3), 1.0),
    }  # fmt: skip


@pytest.fixture(scope="module")
def files() -> Iterator[Path]:
    """Ten records in three shards."""
    with fresh_directory() as directory:
        source = [record(number) for number in range(NUM_RECORDS)]
        recordio.convert(source, directory / "set", output_signature=SPEC, num_shards=NUM_SHARDS)
        yield directory / "set"


def numbers(count: int) -> Any:
    return recordio.from_tensor_slices(np.arange(count))


def lists(step: Any) -> list[Any]:
    return [value.tolist() for value in recordio.experimental_local_results(step)]


def contexts(pipelines: int, replicas: int) -> list[InputContext]:
    return [InputContext(pipelines, pipeline, replicas) for pipeline in range(pipelines)]


def refused(call: Callable[[InputContext], Any], pipelines: int, replicas: int) -> RequestError:
    """The error of all pipelines, which is the same."""
    errors = []
    for context in contexts(pipelines, replicas):
        with pytest.raises(RequestError) as caught:
            call(context)
        errors.append(caught.value)
    assert len({str(error) for error in errors}) == 1
    return errors[0]


# -- refusals --


def test_what_is_not_batched_is_told_to_batch_first(files: Path) -> None:
    """On disk and in memory."""
    for ds in (recordio.open(files), numbers(4), numbers(4).shuffle(seed=0), numbers(4).repeat()):
        with pytest.raises(RequestError, match="not batched") as caught:
            recordio.distribute(ds, InputContext())
        assert "Batch first: ds.batch(global_batch_size)" in str(caught.value)


@pytest.mark.parametrize("value", [None, 3, [1, 2], np.arange(3), "set"])
def test_what_is_no_data_set_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match="distribute takes a batched recordio data set, not "):
        recordio.distribute(value, InputContext())


def test_what_is_distributed_is_not_distributed_again() -> None:
    dist = recordio.distribute(numbers(4).batch(2), InputContext())
    with pytest.raises(TypeError, match="not DistributedDataset"):
        recordio.distribute(dist, InputContext())


def test_what_is_no_context_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="context is an InputContext"):
        recordio.distribute(numbers(4).batch(2), (1, 0, 1))


REFUSALS: list[tuple[Callable[[Any, InputContext], Any], str]] = [
    (lambda ds, c: recordio.distribute(ds, c), "not batched"),
    (lambda ds, c: recordio.distribute(ds.batch(4), c, "HINT"), "policy HINT"),
    (lambda ds, c: recordio.distribute(ds.batch(4), c, recordio.AutoShardPolicy.HINT), "policy HINT"),
    (lambda ds, c: recordio.distribute(ds.batch(4), c, "SOME"), "policy is 'SOME'"),
    (lambda ds, c: recordio.distribute(ds.batch(4), c, None), "policy is None"),
    (
        lambda ds, c: recordio.distribute(ds.batch(4), c, "FILE"),
        "there are 4 input pipelines, and 3 shards with records in view",
    ),
    (
        lambda ds, c: recordio.distribute(ds.take(1).shuffle(seed=1).batch(4), c, "FILE"),
        "there are 4 input pipelines, and 1 shard with records in view",
    ),
    (lambda ds, c: recordio.distribute(ds.batch(4), c, remainder="some"), "remainder is 'some'"),
    (lambda ds, c: recordio.distribute(ds.batch(4), c, remainder="error"), "10 records do not divide into full"),
    (lambda ds, c: recordio.distribute(ds.batch(4, drop_remainder=True), c, remainder="empty"), "drop_remainder=True"),
    (lambda ds, c: recordio.distribute(ds.batch(4, drop_remainder=True), c, remainder="pad"), "drop_remainder=True"),
    (lambda ds, c: recordio.distribute(ds.batch(4, drop_remainder=True), c, remainder="error"), "drop_remainder=True"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "text"), REFUSALS)
def test_what_cannot_be_is_refused_on_every_pipeline_before_a_record(
    files: Path, call: Callable[[Any, InputContext], Any], text: str
) -> None:
    """The same text with the true counts everywhere, so that none waits for another; only the index was read."""
    storage = CountingStorage()
    ds = recordio.open(files, _storage=storage)
    assert not [path for path in storage.opened if path.endswith(".rio")]
    storage.clear()
    error = refused(lambda context: call(ds, context), 4, 4)
    assert text in str(error) and error.advice
    assert storage.opened == [] and storage.reads == []


def test_every_remainder_is_named_to_whoever_asks_for_another() -> None:
    error = refused(lambda c: recordio.distribute(numbers(4).batch(4), c, remainder="none"), 2, 2)  # type: ignore[arg-type]
    for name in ("empty", "drop", "pad", "error"):
        assert repr(name) in str(error)


def test_file_takes_as_many_pipelines_as_there_are_shards(files: Path) -> None:
    """And no record twice; shards without a record in view do not count."""
    found = []
    for context in contexts(NUM_SHARDS, NUM_SHARDS):
        for step in recordio.distribute(recordio.open(files, "id").batch(3), context, "FILE"):
            found += lists(step["id"])[0]
    assert sorted(found) == list(range(NUM_RECORDS))
    part = recordio.open(files).take(1).batch(3)
    error = refused(lambda context: recordio.distribute(part, context, "FILE"), 2, 2)
    assert "2 input pipelines, and 1 shard with records in view" in str(error)


def test_nothing_is_read_before_the_first_step(files: Path) -> None:
    """Neither by distribute nor for len, element_spec and state_dict."""
    storage = CountingStorage()
    ds = recordio.open(files, _storage=storage)
    storage.clear()
    for policy in ("AUTO", "FILE", "DATA", "OFF"):
        dist = recordio.distribute(ds.shuffle(seed=1).batch(4), InputContext(2, 1, 4), policy)
        assert len(dist) and dist.element_spec and dist.state_dict()
    dist = recordio.distribute_from_function(lambda c: ds.batch(4), InputContext(2, 1, 4))
    assert len(dist) and dist.element_spec and dist.state_dict()
    assert storage.opened == [] and storage.reads == []


# -- remainders --


@pytest.mark.parametrize(("drop_remainder", "remainder", "steps"), [
    (False, None, [[[0, 1], [2, 3]], [[4, 5], [6, 7]], [[8, 9], [10]]]),
    (False, "empty", [[[0, 1], [2, 3]], [[4, 5], [6, 7]], [[8, 9], [10]]]),
    (False, "drop", [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]),
    (True, None, [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]),
    (True, "drop", [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]),
])  # fmt: skip
def test_remainders(drop_remainder: bool, remainder: Any, steps: list[Any]) -> None:
    """By default "empty", or "drop" after drop_remainder=True (section 7)."""
    loader = numbers(11).batch(4, drop_remainder=drop_remainder)
    dist = recordio.distribute(loader, InputContext(1, 0, 2), remainder=remainder)
    assert [lists(step) for step in dist] == steps
    assert len(dist) == len(steps) and lists(dist[-1]) == steps[-1]


def test_pad_fills_up_and_says_what_is_real() -> None:
    """Every step is (batch, mask)."""
    dist = recordio.distribute(numbers(9).batch(4), InputContext(1, 0, 2), remainder="pad")
    steps = [(lists(batch), lists(mask)) for batch, mask in dist]
    assert steps[0] == ([[0, 1], [2, 3]], [[True, True]] * 2)
    assert steps[2] == ([[8, 0], [0, 0]], [[True, False], [False, False]])


def test_error_is_no_error_where_batches_divide() -> None:
    dist = recordio.distribute(numbers(8).batch(4), InputContext(1, 0, 2), remainder="error")
    assert [lists(step) for step in dist] == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]


@pytest.mark.parametrize("policy", ["AUTO", "DATA", "OFF", "FILE"])
@pytest.mark.parametrize("remainder", ["empty", "drop", "pad"])
@pytest.mark.parametrize(("pipelines", "replicas", "batch_size"), [(1, 1, 3), (1, 2, 4), (2, 2, 3), (3, 6, 7)])
def test_len_is_the_number_of_steps_on_every_pipeline(
    files: Path, policy: str, remainder: Any, pipelines: int, replicas: int, batch_size: int
) -> None:
    """Known from the index; one pass, and two."""
    loader = recordio.open(files, "id").batch(batch_size)
    found = set()
    for context in contexts(pipelines, replicas):
        for passes in (1, 2):
            dist = recordio.distribute(loader.repeat(passes), context, policy, remainder)
            assert sum(1 for _ in dist) == len(dist) == iter(dist).steps_left
            found.add(len(dist) / passes)
    assert len(found) == 1


def test_a_data_set_without_an_end_has_no_len() -> None:
    for loader in (numbers(3).repeat().batch(2), numbers(3).batch(2).repeat()):
        with pytest.raises(TypeError, match="without an end has no len"):
            len(recordio.distribute(loader, InputContext(1, 0, 2)))


# -- element_spec --


@pytest.mark.parametrize(("batch_size", "replicas", "remainder", "size"), [
    (4, 2, None, None),
    (4, 2, "empty", None),
    (4, 2, "drop", 2),
    (4, 2, "error", 2),
    (4, 2, "pad", 2),
    (5, 2, "empty", None),
    (5, 2, "drop", None),     # three records and two
    (5, 2, "error", None),
    (5, 2, "pad", 3),
    (5, 1, "empty", None),
    (5, 1, "drop", 5),
    (5, 1, "error", 5),
    (5, 1, "pad", 5),
])  # fmt: skip
def test_element_spec(batch_size: int, replicas: int, remainder: Any, size: int | None) -> None:
    """The rows are known where no step has others; the structure is that of a step, with what is in it."""
    ds = recordio.from_tensor_slices({"x": np.zeros((20, 3), np.float32), "y": (np.zeros(20, np.int32),)})
    dist = recordio.distribute(ds.batch(batch_size), InputContext(1, 0, replicas), remainder=remainder)

    def specs(shape: tuple[int | None, ...], dtype: str) -> Any:
        spec = recordio.TensorSpec(shape, dtype)
        return spec if replicas == 1 else recordio.PerReplicaSpec(*[spec] * replicas)

    expected: Any = {"x": specs((size, 3), "float32"), "y": (specs((size,), "int32"),)}
    if remainder == "pad":
        expected = (expected, specs((size,), "bool"))
    assert dist.element_spec == expected
    for step in dist:
        for part in recordio.experimental_local_results(step):
            batch, mask = part if remainder == "pad" else (part, None)
            assert size in (None, len(batch["x"])) and len(batch["y"][0]) == len(batch["x"])
            assert batch["x"].dtype == np.float32 and batch["y"][0].dtype == np.int32
            assert mask is None or (mask.dtype == bool and len(mask) == size)


def test_element_spec_counts_local_replicas() -> None:
    """Of four replicas a pipeline of two feeds two."""
    dist = recordio.distribute(numbers(8).batch(4), InputContext(2, 1, 4))
    assert dist.element_spec == recordio.PerReplicaSpec(*[recordio.TensorSpec((None,), "int64")] * 2)
    alone = recordio.distribute(numbers(8).batch(4), InputContext(2, 1, 2))
    assert alone.element_spec == recordio.PerReplicaSpec(recordio.TensorSpec((None,), "int64"))


def test_element_spec_of_every_kind_of_column(files: Path) -> None:
    """One dimension more; objects and rows of any rank as they are; padding makes lengths known."""
    loader = recordio.open(files).batch(4)
    dist = recordio.distribute(loader, InputContext(1, 0, 2))
    assert list(dist.element_spec) == list(SPEC)
    for name, spec in loader.element_spec.items():
        assert dist.element_spec[name] == recordio.PerReplicaSpec(spec, spec)
    ragged = recordio.open(files, "list").padded_batch(4, {"list": (12,)}, drop_remainder=True)
    spec = recordio.TensorSpec((2, 12), "int32")
    dist = recordio.distribute(ragged, InputContext(1, 0, 2))
    assert dist.element_spec == {"list": recordio.PerReplicaSpec(spec, spec)}
    assert [value.shape for value in next(iter(dist))["list"]] == [(2, 12)] * 2


# -- idle replicas --


def test_more_replicas_than_records_of_a_batch_is_warned_of_once(files: Path) -> None:
    """By distribute, at the caller's line, and by no step."""
    loader = recordio.open(files).batch(2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dist = recordio.distribute(loader, InputContext(1, 0, 4))
        assert sum(1 for _ in dist) == len(dist) == 5
        assert sum(1 for _ in dist) == 5
    (warning,) = caught
    assert issubclass(warning.category, UserWarning) and warning.filename == __file__
    assert str(warning.message) == "a global batch of 2 leaves 2 of 4 replicas idle"


def test_nothing_is_warned_of_where_each_has_a_record() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recordio.distribute(numbers(3).batch(4), InputContext(1, 0, 4))


@pytest.mark.filterwarnings("ignore:a global batch of .* replicas idle:UserWarning")
@pytest.mark.parametrize("policy", ["AUTO", "DATA", "OFF", "FILE"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_idle_replicas_get_zero_rows_of_the_right_kind(files: Path, policy: str, shuffled: bool) -> None:
    """dtype and trailing shape as where there are records, for every kind of column."""
    ds = recordio.open(files)
    dist = recordio.distribute((ds.shuffle(seed=1) if shuffled else ds).batch(2), InputContext(1, 0, 4), policy)
    found: list[int] = []
    for step in dist:
        parts = recordio.experimental_local_results(step)
        found += [number for part in parts for number in part["id"].tolist()]
        # The split of step two of OFF and FILE is as uneven: two of four have none.
        assert sorted(len(part["id"]) for part in parts) == [0, 0, 1, 1]
        for part in parts:
            assert list(part) == list(SPEC)
            assert {len(leaf) for leaf in part.values()} == {len(part["id"])}
            check_kinds(part)
    assert sorted(found) == list(range(NUM_RECORDS))


def check_kinds(part: dict[str, Any]) -> None:
    """Types, dtypes and shapes of the leaves of a batch, of any number of rows."""
    size = len(part["id"])
    for name, dtype, shape in [("id", np.int64, ()), ("image", np.float32, (2, 3))]:
        leaf = part[name]
        assert type(leaf) is np.ndarray and leaf.dtype == dtype and leaf.shape == (size, *shape)
    for name, dtype, row_shape in [
        ("word", "str", ()), ("raw", "bytes", ()), ("list", "int32", (None,)), ("grid", "uint8", (None, 2)),
        ("maybe_list", "int16", (None,)),
    ]:  # fmt: skip
        leaf = part[name]
        assert isinstance(leaf, Ragged) and leaf.dtype == dtype and leaf.row_shape == row_shape
        assert leaf.row_offsets.shape == (size + 1,) and leaf.shapes.shape == (size, len(row_shape))
        assert (leaf.mask is None) == (name != "maybe_list")
        assert len(leaf.to_list()) == size
    assert part["grid"].values.shape[1:] == (2,)
    maybe = part["maybe"]
    assert isinstance(maybe, np.ma.MaskedArray) and maybe.dtype == np.int16 and maybe.shape == (size, 4)
    assert np.ma.getmaskarray(maybe).shape == (size, 4)
    for name in ("any", "free"):
        assert type(part[name]) is np.ndarray and part[name].dtype == object and part[name].shape == (size,)


@pytest.mark.filterwarnings("ignore:a global batch of .* replicas idle:UserWarning")
def test_padded_slots_of_every_kind_hold_nothing(files: Path) -> None:
    """A padded row is zeros, an empty row, None, whichever its column has; the mask says that it is none."""
    dist = recordio.distribute(recordio.open(files).batch(2), InputContext(1, 0, 4), remainder="pad")
    for step in dist:
        for part, mask in recordio.experimental_local_results(step):
            check_kinds(part)
            assert mask.shape == (1,)
            if not mask[0]:
                assert part["id"].tolist() == [0] and not part["image"].any()
                assert part["word"].to_list() == [""] and part["raw"].to_list() == [b""]
                assert len(part["list"][0]) == 0 and part["grid"][0].shape == (0, 2)
                assert part["maybe"].mask.all() and part["maybe_list"].to_list() == [None]
                assert part["any"].tolist() == [None] and part["free"][0].size == 0


def test_a_map_sees_no_step_without_records_wrongly(files: Path) -> None:
    """What a function makes has the right dtype for idle replicas, too."""
    ds = recordio.open(files, "image").map(lambda batch: {"sum": batch["image"].sum(axis=2)}, batched=True)
    with pytest.warns(UserWarning, match="replicas idle"):
        dist = recordio.distribute(ds.batch(2), InputContext(1, 0, 4))
    for step in dist:
        assert [value.shape for value in step["sum"]] == [(1, 2), (1, 2), (0, 2), (0, 2)]
        assert {value.dtype for value in step["sum"]} == {np.dtype(np.float32)}


# -- contexts --


def test_one_replica_in_all_is_not_wrapped(files: Path) -> None:
    """As tf.distribute's default strategy: batches are those of the loader."""
    loader = recordio.open(files).batch(4)
    dist = recordio.distribute(loader, InputContext())
    assert dist.element_spec == loader.element_spec
    for step, batch in zip(dist, loader, strict=True):
        assert type(step["id"]) is np.ndarray and step["id"].tolist() == batch["id"].tolist()
        assert step["list"] == batch["list"] or step["list"].equals(batch["list"])
    batch, mask = next(iter(recordio.distribute(loader, InputContext(), remainder="pad")))
    assert type(batch["id"]) is np.ndarray and mask.tolist() == [True] * 4


def test_one_replica_of_several_is_wrapped() -> None:
    dist = recordio.distribute(numbers(4).batch(4), InputContext(2, 1, 2))
    (step,) = dist
    assert isinstance(step, recordio.PerReplica) and lists(step) == [[2, 3]]


def test_without_a_context_it_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here from the variables of torchrun."""
    for name in ("TF_CONFIG", "SLURM_PROCID", "SLURM_NTASKS", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert [lists(step) for step in recordio.distribute(numbers(4).batch(4))] == [[[2, 3]]]
    dist = recordio.distribute_from_function(lambda c: numbers(4).shard(2, c.input_pipeline_id).batch(2))
    assert [lists(step) for step in dist] == [[[1, 3]]]
    assert dist.context == InputContext(2, 1, 2) and dist.context.detected_from == "torchrun"


@pytest.mark.framework
def test_tensorflows_input_context_is_one() -> None:
    """By both functions; dataset_fn is given ours."""
    tf = pytest.importorskip("tensorflow")
    context = tf.distribute.InputContext(num_input_pipelines=2, input_pipeline_id=1, num_replicas_in_sync=4)
    dist = recordio.distribute(numbers(8).batch(8), context)
    assert dist.context == InputContext(2, 1, 4)
    assert [lists(step) for step in dist] == [[[4, 5], [6, 7]]]

    def dataset_fn(given: Any) -> Any:
        return numbers(8).shard(2, given.input_pipeline_id).batch(given.get_per_replica_batch_size(8))

    dist = recordio.distribute_from_function(dataset_fn, context, tf.distribute.InputOptions())
    assert [lists(step) for step in dist] == [[[1, 3], [5, 7]]]
    mode = tf.distribute.InputReplicationMode.PER_REPLICA
    options = tf.distribute.InputOptions(
        experimental_fetch_to_device=False, experimental_replication_mode=mode
    )
    with pytest.raises(RequestError, match="PER_REPLICA"):
        recordio.distribute_from_function(dataset_fn, context, options)
    policy = tf.data.experimental.AutoShardPolicy
    steps = recordio.distribute(numbers(8).batch(8), context, policy.DATA)
    assert [lists(step) for step in steps] == [[[2, 3], [6, 7]]]
    with pytest.raises(RequestError, match="HINT"):
        recordio.distribute(numbers(8).batch(8), context, policy.HINT)


# -- from a function --


def lengths(*counts: int, **options: Any) -> Callable[[InputContext], Any]:
    """A dataset_fn whose pipelines have so many records, in batches of two."""

    def dataset_fn(context: InputContext) -> Any:
        return numbers(20).take(counts[context.input_pipeline_id]).batch(2, **options)

    return dataset_fn


@pytest.mark.parametrize(("dataset_fn", "expected"), [
    (lengths(11, 3), [
        [[[0, 1], [2, 3]], [[4, 5], [6, 7]], [[8, 9], [10]]],
        [[[0, 1], [2]], [[], []], [[], []]],
    ]),
    (lengths(3, 9), [
        [[[0, 1], [2]], [[], []], [[], []]],
        [[[0, 1], [2, 3]], [[4, 5], [6, 7]], [[8], []]],
    ]),
    (lengths(11, 3, drop_remainder=True), [     # no batch of two is dropped
        [[[0, 1], [2, 3]], [[4, 5], [6, 7]], [[8, 9], []]],
        [[[0, 1], []], [[], []], [[], []]],
    ]),
    (lengths(2, 0), [[[[0, 1], []]], [[[], []]]]),
    (lengths(0, 0), [[], []]),
    (lambda c: numbers(3 + 2 * c.input_pipeline_id).repeat(2).batch(2), [
        [[[0, 1], [2, 0]], [[1, 2], []], [[], []]],
        [[[0, 1], [2, 3]], [[4, 0], [1, 2]], [[3, 4], []]],
    ]),
    (lambda c: numbers(1 + 4 * c.input_pipeline_id).batch(2).repeat(2), [
        [[[0], []], [[], []]] * 2,
        [[[0, 1], [2, 3]], [[4], []]] * 2,
    ]),
])  # fmt: skip
def test_batches_of_a_function_are_dealt_in_turn(dataset_fn: Any, expected: list[Any]) -> None:
    """As the function batched them; the last replicas get zero rows; all pipelines take the same steps (section 6)."""
    for context, steps in zip(contexts(2, 4), expected, strict=True):
        dist = recordio.distribute_from_function(dataset_fn, context)
        assert [lists(step) for step in dist] == steps
        assert len(dist) == len(steps) and [lists(dist[number]) for number in range(len(dist))] == steps
        for step in dist:
            assert {value.dtype for value in step} == {np.dtype(np.int64)}


def test_zero_rows_of_a_function_are_of_the_right_kind(files: Path) -> None:
    """Both at the end of an epoch and for a pipeline without a record."""

    def dataset_fn(context: InputContext) -> Any:
        return recordio.open(files).take([5, 0][context.input_pipeline_id]).batch(2)

    for context in contexts(2, 4):
        steps = list(recordio.distribute_from_function(dataset_fn, context))
        assert len(steps) == 2
        for step in steps:
            for part in recordio.experimental_local_results(step):
                check_kinds(part)


def test_a_function_is_called_for_every_pipeline_with_its_context() -> None:
    """Once for each, in order, whichever this one is; with a context of ours."""
    for context in contexts(3, 6):
        given = []

        def dataset_fn(called: InputContext, given: list[InputContext] = given) -> Any:
            given.append(called)
            return numbers(4).batch(2)

        dist = recordio.distribute_from_function(dataset_fn, context)
        assert given == contexts(3, 6) and all(type(one) is InputContext for one in given)
        list(dist)
        assert len(given) == 3


def test_a_function_for_one_replica_in_all() -> None:
    """Nothing is wrapped, and nothing is left out."""
    dist = recordio.distribute_from_function(
        lambda c: numbers(5).batch(c.get_per_replica_batch_size(2)), InputContext()
    )
    assert [step.tolist() for step in dist] == [[0, 1], [2, 3], [4]]
    assert dist.element_spec == recordio.TensorSpec((None,), "int64")


def test_element_spec_of_a_function() -> None:
    """Rows are unknown, also after drop_remainder: a replica may have none."""
    for dataset_fn in (lengths(4, 4), lengths(4, 4, drop_remainder=True)):
        dist = recordio.distribute_from_function(dataset_fn, InputContext(2, 0, 4))
        assert dist.element_spec == recordio.PerReplicaSpec(*[recordio.TensorSpec((None,), "int64")] * 2)


@pytest.mark.parametrize("dataset_fn", [None, 3, "make", numbers(4).batch(2), numbers(4)])
def test_what_cannot_be_called_is_no_function(dataset_fn: Any) -> None:
    with pytest.raises(TypeError, match="dataset_fn is a function of an InputContext, not "):
        recordio.distribute_from_function(dataset_fn, InputContext())


@pytest.mark.parametrize(("made", "name"), [
    (None, "NoneType"), (numbers(4), "Dataset"), ([1, 2], "list"),
    (recordio.distribute(numbers(4).batch(2), InputContext()), "DistributedDataset"),
])  # fmt: skip
def test_a_function_gives_a_batched_data_set(made: Any, name: str) -> None:
    """Whatever else is a TypeError that says how to batch."""
    with pytest.raises(TypeError, match=f"not {name}") as caught:
        recordio.distribute_from_function(lambda context: made, InputContext())
    assert "ds.batch(context.get_per_replica_batch_size(global_batch_size))" in str(caught.value)


def test_an_error_of_a_function_comes_through_and_says_for_whom_it_was_called() -> None:
    """The note is there for another pipeline only."""

    def dataset_fn(context: InputContext) -> Any:
        if context.input_pipeline_id == 1:
            raise FileNotFoundError("no such host")
        return numbers(4).batch(2)

    with pytest.raises(FileNotFoundError, match="no such host") as caught:
        recordio.distribute_from_function(dataset_fn, InputContext(2, 0, 2))
    (note,) = caught.value.__notes__
    assert "this is input pipeline 0; dataset_fn is called for every other one, here 1" in note
    with pytest.raises(FileNotFoundError) as caught:
        recordio.distribute_from_function(dataset_fn, InputContext(2, 1, 2))
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize("dataset_fn", [
    lambda c: numbers(8).batch(2 + c.input_pipeline_id),
    lambda c: numbers(8).batch(2).repeat(1 + c.input_pipeline_id),
    lambda c: numbers(8).repeat(1 + c.input_pipeline_id).batch(2),
    lambda c: numbers(8).repeat(None if c.input_pipeline_id else 2).batch(2),
    lambda c: numbers(8).batch(2).repeat(None if c.input_pipeline_id else 2),
])  # fmt: skip
def test_pipelines_differ_in_their_records_only(dataset_fn: Any) -> None:
    """Refused by all of them, with one text."""
    error = refused(lambda context: recordio.distribute_from_function(dataset_fn, context), 2, 2)
    assert "different batch sizes or repeats" in str(error) and "ds.shard" in error.advice


def test_a_batch_that_cannot_be_divided_is_refused_by_the_context() -> None:
    with pytest.raises(RequestError, match="not divisible by num_replicas_in_sync 4"):
        recordio.distribute_from_function(
            lambda c: numbers(8).batch(c.get_per_replica_batch_size(6)), InputContext(1, 0, 4)
        )


@pytest.mark.parametrize("loop", [
    lambda ds: ds.repeat().batch(2),
    lambda ds: ds.batch(2).repeat(),
])  # fmt: skip
def test_a_pipeline_without_records_does_not_end_before_the_others(loop: Any) -> None:
    """Without an end on one pipeline is without an end on all, or refused on all; else a collective never returns."""

    def dataset_fn(context: InputContext) -> Any:
        return loop(numbers(1).shard(2, context.input_pipeline_id))

    num_steps = []
    for context in contexts(2, 2):
        with iter(recordio.distribute_from_function(dataset_fn, context)) as iterator:
            num_steps.append(sum(1 for _ in zip(range(3), iterator, strict=False)))
    assert num_steps[0] == num_steps[1]


# -- creators and options --


def creator(input_options: Any = None) -> recordio.DatasetCreator:
    return recordio.DatasetCreator(lengths(5, 4), input_options)


def test_a_creator_is_a_function() -> None:
    for context in contexts(2, 4):
        with_function = recordio.distribute_from_function(lengths(5, 4), context)
        with_creator = recordio.distribute_from_function(creator(), context)
        assert [lists(step) for step in with_creator] == [lists(step) for step in with_function]


PER_REPLICA = recordio.InputOptions(
    experimental_fetch_to_device=False, experimental_replication_mode=recordio.InputReplicationMode.PER_REPLICA
)


def test_options_of_a_creator_are_used() -> None:
    """Its PER_REPLICA is refused, before the function is called."""
    with pytest.raises(RequestError, match="PER_REPLICA") as caught:
        recordio.distribute_from_function(
            recordio.DatasetCreator(lambda c: pytest.fail("called"), PER_REPLICA), InputContext(1, 0, 2)
        )
    assert "num_input_pipelines=R" in caught.value.advice
    assert len(recordio.distribute_from_function(creator(recordio.InputOptions()), InputContext(2, 0, 2)))


def test_options_of_the_call_come_before_those_of_the_creator() -> None:
    dist = recordio.distribute_from_function(creator(PER_REPLICA), InputContext(2, 0, 2), recordio.InputOptions())
    assert len(dist) == 3
    with pytest.raises(RequestError, match="PER_REPLICA"):
        recordio.distribute_from_function(creator(recordio.InputOptions()), InputContext(2, 0, 2), PER_REPLICA)


@pytest.mark.parametrize("options", [3, "PER_WORKER", {}])
def test_what_is_no_options_is_a_type_error(options: Any) -> None:
    with pytest.raises(TypeError, match="input_options is an InputOptions"):
        recordio.distribute_from_function(lengths(4), InputContext(), options)


# -- passes and states --


def test_a_pass_that_was_left_is_an_error_where_there_are_peers() -> None:
    """Until all are told where they begin (section 8)."""
    dist = recordio.distribute(numbers(8).batch(2), InputContext(2, 0, 2))
    next(iter(dist))
    with pytest.raises(RequestError, match="not read to its end") as caught:
        iter(dist)
    assert "set_epoch" in caught.value.advice
    dist.set_epoch(1)
    assert len(list(dist)) == 4
    alone = recordio.distribute(numbers(8).batch(2), InputContext(1, 0, 2))
    next(iter(alone))
    assert len(list(alone)) == 4


@pytest.mark.parametrize("policy", ["AUTO", "DATA", "OFF", "FILE"])
@pytest.mark.parametrize("done", [0, 1, 2])
def test_a_distributed_pass_goes_on_where_it_was(files: Path, policy: str, done: int) -> None:
    """The state is JSON, the same on every pipeline; it or the list of all of them is loaded (section 9)."""
    loader = recordio.open(files, "id").shuffle(seed=3).batch(4)

    def made(context: InputContext) -> Any:
        return recordio.distribute(loader, context, policy)

    whole = [[lists(step["id"]) for step in made(context)] for context in contexts(2, 4)]
    states = []
    for context in contexts(2, 4):
        dist = made(context)
        with iter(dist) as iterator:
            for _ in range(done):
                next(iterator)
            states.append(json.loads(json.dumps(dist.state_dict())))
    assert states[0] == states[1]
    for context, steps in zip(contexts(2, 4), whole, strict=True):
        for state in (states, states[0], states[1]):
            dist = made(context)
            dist.load_state_dict(state)
            assert dist.state_dict() == states[0]
            assert [lists(step["id"]) for step in dist] == steps[done:]
        following = made(context)
        following.set_epoch(1)
        assert [lists(step["id"]) for step in following] == [lists(step["id"]) for step in dist]


FUNCTIONS = [
    lengths(11, 3),
    lengths(11, 3, drop_remainder=True),
    lengths(7, 0),
    lambda c: numbers(3 + 4 * c.input_pipeline_id).shuffle(seed=2).repeat(2).batch(2),
    lambda c: numbers(3 + 4 * c.input_pipeline_id).shuffle(seed=2).batch(2).repeat(2),
]


@pytest.mark.parametrize("dataset_fn", FUNCTIONS)
def test_a_pass_of_a_function_goes_on_where_it_was(dataset_fn: Any) -> None:
    """Each pipeline has a state of its own; its own is loaded, or the list of all in their order."""
    made = recordio.distribute_from_function
    whole = [[lists(step) for step in made(dataset_fn, context)] for context in contexts(2, 4)]
    for done in range(len(whole[0]) + 1):
        states = []
        for context in contexts(2, 4):
            dist = made(dataset_fn, context)
            with iter(dist) as iterator:
                for _ in range(done):
                    next(iterator)
                states.append(json.loads(json.dumps(dist.state_dict())))
        assert states[0] != states[1]
        for context, steps in zip(contexts(2, 4), whole, strict=True):
            for state in (states, tuple(states), states[context.input_pipeline_id]):
                dist = made(dataset_fn, context)
                dist.load_state_dict(state)
                iterator = iter(dist)
                assert iterator.steps_left == len(steps) - done
                assert [lists(step) for step in iterator] == steps[done:]


def function_states(*done: int) -> list[dict[str, Any]]:
    """States of two pipelines after so many steps of each."""
    states = []
    for context, num_steps in zip(contexts(2, 4), done, strict=True):
        dist = recordio.distribute_from_function(lengths(11, 3), context)
        with iter(dist) as iterator:
            for _ in range(num_steps):
                next(iterator)
            states.append(dist.state_dict())
    return states


def test_states_of_a_function_are_as_many_as_pipelines() -> None:
    states = function_states(1, 1)
    dist = recordio.distribute_from_function(lengths(11, 3), InputContext(2, 0, 4))
    for given in (states[:1], [*states, states[0]]):
        with pytest.raises(RequestError, match=f"{len(given)} states for 2 input pipelines"):
            dist.load_state_dict(given)
    for given in ([], None, 3, "ab"):
        with pytest.raises(StateError, match="a state is what state_dict"):
            dist.load_state_dict(given)


def test_the_state_of_another_pipeline_of_a_function_is_refused() -> None:
    """It counts other records."""
    states = function_states(1, 1)
    dist = recordio.distribute_from_function(lengths(11, 3), InputContext(2, 1, 4))
    for given in (states[0], states[::-1]):
        with pytest.raises(StateError, match="view is "):
            dist.load_state_dict(given)


def test_states_of_different_steps_are_refused() -> None:
    """As `load_state_dict` says; else one pipeline has steps left when the other has none."""
    states = function_states(1, 2)
    for context in contexts(2, 4):
        dist = recordio.distribute_from_function(lengths(11, 3), context)
        with pytest.raises(StateError, match="different steps"):
            dist.load_state_dict(states)


def test_states_of_different_steps_of_one_stream_are_refused() -> None:
    """The same under a policy."""
    states = []
    for num_steps in (1, 2):
        dist = recordio.distribute(numbers(8).batch(2), InputContext(2, 0, 2))
        with iter(dist) as iterator:
            for _ in range(num_steps):
                next(iterator)
            states.append(dist.state_dict())
    with pytest.raises(StateError, match="different steps"):
        dist.load_state_dict(states)


def test_a_state_of_a_function_is_not_one_of_a_policy() -> None:
    """Both name what differs."""
    ds = numbers(8)
    split = recordio.distribute(ds.batch(2), InputContext(1, 0, 2))
    made = recordio.distribute_from_function(lambda c: ds.batch(1), InputContext(1, 0, 2))
    for one, other in ((split, made), (made, split)):
        with pytest.raises(StateError, match="split is "):
            one.load_state_dict(other.state_dict())


# -- steps by number --


def test_a_step_by_its_number() -> None:
    """From both ends; nothing is begun by that."""
    dist = recordio.distribute(numbers(10).batch(4), InputContext(2, 1, 2))
    assert [lists(dist[number]) for number in range(3)] == [[[2, 3]], [[6, 7]], [[9]]]
    assert lists(dist[-3]) == [[2, 3]]
    for number in (3, -4):
        with pytest.raises(IndexError, match=f"step {number} of 3 steps"):
            dist[number]
    assert [lists(step) for step in dist] == [[[2, 3]], [[6, 7]], [[9]]]


def test_a_data_set_that_is_distributed_keeps_its_place() -> None:
    """Reading the one does not move the other."""
    loader = numbers(8).shuffle(seed=1).batch(4)
    dist = recordio.distribute(loader, InputContext())
    first = [batch.tolist() for batch in loader]
    assert [step.tolist() for step in dist] == first
    assert dist.fingerprint == loader.fingerprint and dist.lost == ()
