"""Sources: what each kind gives, how it is cut, and what its errors say (design.md, sections 1 and 6)."""

from __future__ import annotations

import functools
import pickle
import time
from collections import OrderedDict
from types import MappingProxyType

import numpy as np
import pytest

import recordio
from recordio.columns import ColumnValues
from recordio.convert.sources import as_source, from_generator, from_pydataset
from recordio.errors import RequestError, SourceError
from recordio.execute.pool import make_executor
from recordio.plan.ranges import even_ranges
from recordio.progress import describe, pace
from recordio.schema import Schema, TensorSpec

INT = TensorSpec((), "int64")


# ---- what the tests convert: at the top level, so that worker processes find it


def count(stop: int = 5):
    yield from range(stop)


def count_my_share(total: int, shard: int, num_shards: int):
    start, stop = even_ranges(total, num_shards)[shard]
    yield from range(start, stop)


def read_files(files: list, factor: int, labels: list):
    for file, label in zip(files, labels, strict=True):
        yield {"file": file * factor, "label": label}


def fail_at_two():
    yield 0
    yield 1
    raise LookupError("no such file")


class Batches:
    """A PyDataset by its protocol alone, that counts what is asked of it."""

    def __init__(self, num_batches: int = 5, batch_size: int = 4) -> None:
        self.size = num_batches
        self.batch_size = batch_size
        self.calls: list = []

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int):
        self.calls.append(index)
        start = index * self.batch_size
        return np.arange(start, start + self.batch_size), np.full((self.batch_size, 2), index, "float32")

    def on_epoch_begin(self) -> None:
        self.calls.append("begin")

    def on_epoch_end(self) -> None:
        self.calls.append("end")


class FailingBatches(Batches):
    def __getitem__(self, index: int):
        if index == 2:
            raise LookupError("no such image")
        return super().__getitem__(index)


class SlowToPickle(Batches):
    def __reduce__(self):
        return functools.partial(SlowToPickle._load, self.size), ()

    @staticmethod
    def _load(size: int) -> SlowToPickle:
        SlowToPickle.loads = getattr(SlowToPickle, "loads", 0) + 1
        return SlowToPickle(size)

    def __getitem__(self, index: int):
        return np.full(2, getattr(SlowToPickle, "loads", 0))


class OneBatch:
    """Gives a batch of any form."""

    def __init__(self, batch) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int):
        return self.batch

    def on_epoch_end(self) -> None: ...


class Tensor:
    """A framework's tensor."""

    def __init__(self, values) -> None:
        self.values = np.asarray(values)

    def __array__(self, dtype=None, copy=None):
        return self.values


class MapStyle:
    """A torch data set: numbered, and without __iter__."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.calls: list[int] = []

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int):
        self.calls.append(index)
        return {"n": index, "text": "x" * 100}


class Columns:
    """A recordio data set, as far as a source needs it."""

    def __init__(self, spec, columns: list[ColumnValues], records: list) -> None:
        self.schema = Schema.from_signature(spec)
        self._columns, self._records = columns, records

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self):
        return iter(self._records)

    def __getitem__(self, rows: slice):
        return Columns(self.schema.element_spec, self.read_columns(rows.start, rows.stop), self._records[rows])

    def read_columns(self, start: int, stop: int) -> list[ColumnValues]:
        return [
            ColumnValues(
                len(c.values[start:stop]), c.values[start:stop], None if c.validity is None else c.validity[start:stop]
            )
            for c in self._columns
        ]


class Row:
    """Has keys, like a row of sqlite3, and is no Mapping."""

    def keys(self):
        return ["x"]

    def __getitem__(self, key):
        return 1

    def __iter__(self):
        return iter(["x"])


class Frame:
    """A DataFrame that is not pandas': iterated over by column."""

    columns = ("x",)

    def __dataframe__(self):
        raise NotImplementedError

    def __iter__(self):
        return iter([np.arange(3)])


def values(parts) -> list[list]:
    return [[piece.value for piece in part.pieces()] for part in parts]


def notes(error: BaseException) -> list[str]:
    return error.__notes__


# ---- cutting


@pytest.mark.parametrize("arguments", [
    {}, {"num_shards": 2, "shard_size": 10}, {"num_shards": 0}, {"shard_size": 0}, {"num_shards": 1, "row_size": 0},
])
def test_a_split_without_meaning_is_refused(arguments):
    with pytest.raises(RequestError):
        as_source([1, 2, 3]).split(**arguments)


# ---- generators


def test_a_plain_generator_is_one_part_read_from_the_front():
    source = as_source(count, INT)
    assert source.split(num_shards=3) is None
    assert source.split(shard_size=100) is None
    assert source.num_records is None
    assert source.repeatable
    assert source.resolve_signature() is INT
    pieces = list(source.whole().pieces())
    assert [piece.value for piece in pieces] == [0, 1, 2, 3, 4]
    assert {piece.kind for piece in pieces} == {"record"}
    assert (pieces[3].label, pieces[3].number) == ("record 3", 3)
    assert values([source.whole()]) == [[0, 1, 2, 3, 4]]      # a task can be done again


def test_what_is_looked_at_is_kept_and_asked_for_once():
    asked = []

    def generate():
        for n in range(1000):
            asked.append(n)
            yield n

    source = as_source(generate)
    assert source.resolve_signature() == INT
    assert len(asked) < 1000
    assert values([source.whole()]) == [list(range(1000))]
    assert asked == list(range(1000))


def test_what_is_looked_at_is_copied():
    """A source may fill the same array again and again."""

    def generate():
        buffer = np.zeros(2, "int64")
        for n in range(5):
            buffer[:] = n
            yield {"x": buffer}

    source = as_source(generate)
    source.resolve_signature()
    assert [piece.value["x"].tolist() for piece in source.whole().pieces()] == [[n, n] for n in range(5)]


def test_looking_is_bounded_in_bytes():
    asked = []

    def generate():
        for n in range(1000):
            asked.append(n)
            yield np.zeros(1 << 20, "uint8")

    as_source(generate).resolve_signature()
    assert len(asked) < 20


def test_a_shardable_generator_is_called_once_per_shard():
    source = from_generator(count_my_share, args=(10,))
    parts = source.split(num_shards=3)
    assert source.resolve_signature() == INT
    assert values(parts) == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert [piece.label for piece in parts[1].pieces()][-1] == "record 2 of shard 1"
    assert source.split(shard_size=100) is None
    assert values([from_generator(count_my_share, args=(4,)).whole()]) == [[0, 1, 2, 3]]
    # All the arguments are given: it is the caller who shards.
    assert values([from_generator(count_my_share, args=(10, 1, 2)).whole()]) == [[5, 6, 7, 8, 9]]


def test_empty_shards_are_passed_over_when_the_signature_is_inferred():
    source = from_generator(lambda shard, num_shards: iter([7] if shard == 2 else []))
    parts = source.split(num_shards=3)
    assert source.resolve_signature() == INT
    assert values(parts) == [[], [], [7]]
    with pytest.raises(SourceError, match="no record"):
        as_source(lambda: iter([])).resolve_signature()


def test_list_arguments_are_cut_alike():
    source = from_generator(read_files, args=([1, 2, 3, 4, 5], 10, list("abcde")))
    expected = [{"file": 10 * n, "label": label} for n, label in enumerate("abcde", start=1)]
    assert values(source.split(num_shards=2)) == [expected[:3], expected[3:]]
    assert values([from_generator(read_files, args=([1, 2], 10, ["a", "b"])).whole()]) == [expected[:2]]


@pytest.mark.parametrize(("files", "labels", "message"), [
    ([1, 2, 3], ["a"], "3, 1 elements"),
    ([1, 2], ["a", "b"], "2 elements, fewer than the 3 shards"),
])
def test_lists_that_cannot_be_cut_are_refused_with_their_counts(files, labels, message):
    with pytest.raises(SourceError, match=message):
        from_generator(read_files, args=(files, 10, labels)).split(num_shards=3)


def test_an_empty_list_is_a_source_of_no_records():
    """However many shards; and one shard needs no cut, whatever the lists are."""
    for num_shards in (1, 3):
        parts = from_generator(read_files, args=([], 10, [])).split(num_shards=num_shards)
        assert values(parts) == [[]] * num_shards
    (part,) = from_generator(lambda files, more: zip(files, more), args=([1], [2, 3])).split(num_shards=1)
    assert values([part]) == [[(1, 2)]]


def test_numbered_records_may_have_an_attribute_keys():
    """Like many a data set on a key-value store."""

    class Stored(MapStyle):
        keys = ("a", "b")

    assert as_source(Stored(3)).num_records == 3


def test_exceptions_of_the_source_keep_their_type_and_say_where():
    with pytest.raises(LookupError, match="no such file") as caught:
        list(as_source(fail_at_two).whole().pieces())
    assert notes(caught.value) == ["recordio: the source raised this at record 2"]
    with pytest.raises(LookupError) as caught:
        as_source(fail_at_two).resolve_signature()
    assert notes(caught.value) == ["recordio: the source raised this at record 2"]


def test_a_generator_is_closed_when_its_part_is():
    closed = []

    def generate():
        try:
            yield from range(10)
        finally:
            closed.append(True)

    pieces = as_source(generate).whole().pieces()
    next(pieces)
    pieces.close()
    assert closed == [True]


def test_parts_of_generators_go_to_processes():
    source = from_generator(count_my_share, args=(10,))
    parts = source.split(num_shards=3)
    source.resolve_signature()
    source.check_picklable()
    assert values(pickle.loads(pickle.dumps(parts))) == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]
    with pytest.raises(SourceError, match="use_multiprocessing=False"):
        as_source(lambda: iter([1])).check_picklable()


def test_an_iterator_can_be_read_once():
    source = as_source(count())
    assert not source.repeatable
    assert source.resolve_signature() == INT
    assert values([source.whole()]) == [[0, 1, 2, 3, 4]]
    again = source.whole()
    for attempt in (lambda: list(again.pieces()), lambda: pickle.dumps(again), source.check_picklable):
        with pytest.raises(SourceError, match="has begun"):
            attempt()


def test_any_iterable_is_read_from_the_front():
    source = as_source({1: "one", 2: "two", 3: "three"}.keys())
    assert source.repeatable
    assert source.split(num_shards=2) is None
    assert values([source.whole()]) == [[1, 2, 3]]
    source = as_source({1, 2, 3})
    assert values([pickle.loads(pickle.dumps(source.whole()))]) == [[1, 2, 3]]


def test_tf_data_is_read_as_numpy():
    class Pipeline:
        def __iter__(self):
            raise AssertionError("tensors")

        def as_numpy_iterator(self):
            return iter([1, 2])

    assert values([as_source(Pipeline()).whole()]) == [[1, 2]]
    assert values([as_source(lambda: Pipeline()).whole()]) == [[1, 2]]


@pytest.mark.parametrize(("make", "message"), [
    (lambda: from_generator(count, args=(1, 2)), "cannot be called with 2 arguments"),
    (lambda: from_generator(lambda shard: iter([])), "missing a required argument: 'shard'"),
    (lambda: from_generator([].__iter__().__class__), "is a class"),
    (lambda: from_generator(5), "takes a function"),
    (lambda: from_generator(count(), args=(1,)), "has begun"),
    (lambda: list(as_source(lambda: None).whole().pieces()), "gives NoneType"),
    (lambda: list(as_source(lambda: "text").whole().pieces()), "gives str"),
    (lambda: list(as_source(lambda: b"text").whole().pieces()), "gives bytes"),
    (lambda: list(as_source(lambda: memoryview(b"text")).whole().pieces()), "gives memoryview"),
    (lambda: list(as_source(lambda: 5).whole().pieces()), "gives int"),
    (lambda: list(as_source(lambda: np.array(5)).whole().pieces()), "gives ndarray"),
    (lambda: list(as_source(lambda: np.float32(5)).whole().pieces()), "gives float32"),
    (lambda: list(as_source(lambda: {"x": np.arange(3)}).whole().pieces()), "gives a dict.*from_tensor_slices"),
    (lambda: list(as_source(lambda: OrderedDict(x=1)).whole().pieces()), "gives a OrderedDict.*from_tensor_slices"),
    (lambda: list(as_source(lambda: MappingProxyType({"x": 1})).whole().pieces()), "gives a mappingproxy"),
    (lambda: list(as_source(lambda: Row()).whole().pieces()), "gives a Row"),
    (lambda: list(as_source(lambda: Frame()).whole().pieces()), "gives a Frame.*names of its columns"),
    (lambda: list(as_source(lambda: (X, Y)).whole().pieces()), "gives a tuple.*from_tensor_slices"),
    (lambda: list(from_generator({"x": 1}).whole().pieces()), "gives a dict"),
    (lambda: as_source(lambda: {"x": np.arange(3)}).resolve_signature(), "gives a dict.*from_tensor_slices"),
])
def test_a_wrong_generator_is_explained(make, message):
    with pytest.raises(SourceError, match=message):
        make()


def test_an_asynchronous_generator_is_refused():
    async def generate():
        yield 1

    with pytest.raises(SourceError, match="asynchronous"):
        as_source(generate)


# ---- sequences


def test_a_list_of_records_is_cut_into_ranges():
    records = [{"n": n} for n in range(10)]
    source = as_source(records)
    assert source.num_records == 10
    parts = source.split(num_shards=3)
    assert [part.num_records for part in parts] == [4, 3, 3]
    assert [record["n"] for part in values(parts) for record in part] == list(range(10))
    assert [piece.label for piece in parts[1].pieces()] == ["record 4", "record 5", "record 6"]
    assert len(pickle.dumps(parts[1])) < len(pickle.dumps(records)) + 1000
    assert values([pickle.loads(pickle.dumps(parts[1]))]) == [records[4:7]]


@pytest.mark.parametrize(("shard_size", "row_size", "sizes"), [
    (32, None, [4, 4, 2]),      # exact: 8 bytes a record
    (1, None, [1] * 10),
    (1000, None, [10]),
    (32, 16, [2, 2, 2, 2, 2]),  # as known from an earlier run
])
def test_shard_size_fixes_the_records_per_shard(shard_size, row_size, sizes):
    parts = as_source(list(range(10))).split(shard_size=shard_size, row_size=row_size)
    assert [part.num_records for part in parts] == sizes


def test_the_size_of_variable_records_is_estimated():
    source = as_source([{"text": "x" * 100}] * 10)
    assert source.item_size() == 100
    assert [part.num_records for part in source.split(shard_size=300)] == [3, 3, 3, 1]


def test_there_are_as_many_parts_as_asked_for_however_few_the_records():
    assert [part.num_records for part in as_source([1]).split(num_shards=3)] == [1, 0, 0]
    assert [part.num_records for part in as_source([], INT).split(shard_size=100)] == [0]
    assert values(as_source([], INT).split(num_shards=2)) == [[], []]
    with pytest.raises(SourceError, match="no record"):
        as_source([]).resolve_signature()


@pytest.mark.parametrize("num_shards", [None, 1, 3])
def test_numbered_records_are_asked_for_once(num_shards):
    records = MapStyle(10)
    source = as_source(records)
    parts = [source.whole()] if num_shards is None else source.split(num_shards=num_shards)
    source.resolve_signature()
    assert source.item_size() == 108
    assert [record["n"] for part in values(parts) for record in part] == list(range(10))
    assert records.calls == list(range(10))
    # and once more when the work is done again
    assert [record["n"] for part in values(parts) for record in part] == list(range(10))


def test_only_the_records_of_a_part_are_asked_for():
    records = MapStyle(10)
    parts = as_source(records, {"n": INT, "text": TensorSpec((), "str")}).split(num_shards=5)
    list(parts[3].pieces())
    assert records.calls == [6, 7]


# ---- data sets of ours


def dataset(num_records: int) -> Columns:
    numbers = np.arange(num_records)
    return Columns({"n": INT}, [ColumnValues(num_records, numbers)], [{"n": n} for n in numbers])


def test_a_data_set_comes_as_columns():
    source = as_source(dataset(10_000))
    assert source.num_records == 10_000
    assert source.resolve_signature() == {"n": INT}
    parts = source.split(num_shards=3)
    assert [part.num_records for part in parts] == [3334, 3333, 3333]
    pieces = [piece for part in parts for piece in part.pieces()]
    assert {piece.kind for piece in pieces} == {"columns"}
    assert max(piece.value[0].num_rows for piece in pieces) <= 4096
    assert np.concatenate([piece.value[0].values for piece in pieces]).tolist() == list(range(10_000))
    assert [piece.number for piece in pieces] == np.cumsum([0] + [p.value[0].num_rows for p in pieces])[:-1].tolist()
    assert [part.num_records for part in source.split(shard_size=32_000)] == [4000, 4000, 2000]


def test_pieces_of_a_data_set_are_about_a_chunk():
    wide = np.zeros((100, 200_000), "uint8")
    source = as_source(Columns(TensorSpec((200_000,), "uint8"), [ColumnValues(100, wide)], list(wide)))
    rows = [piece.value[0].num_rows for piece in source.whole().pieces()]
    assert sum(rows) == 100
    assert max(rows[1:]) == 5


def test_a_data_set_under_another_signature_is_cast_again():
    pieces = list(as_source(dataset(10), {"n": TensorSpec((), "int32")}).whole().pieces())
    assert {piece.kind for piece in pieces} == {"batch"}
    assert pieces[0].value["n"].tolist() == list(range(10))
    ragged = Columns(
        {"n": TensorSpec((), "int64", optional=True)},
        [ColumnValues(2, np.array([1, 0]), np.array([True, False]))], [{"n": 1}, {"n": None}],
    )
    pieces = list(as_source(ragged, {"n": TensorSpec((), "int32", optional=True)}).whole().pieces())
    assert [(piece.kind, piece.value, piece.label) for piece in pieces] == [
        ("record", {"n": 1}, "record 0"), ("record", {"n": None}, "record 1"),
    ]


# ---- PyDatasets


def test_a_pydataset_is_asked_for_every_batch_once():
    dataset = Batches(5)
    source = as_source(dataset)
    parts = source.split(num_shards=2)
    signature = source.resolve_signature()
    assert signature == (INT, TensorSpec((2,), "float32"))
    pieces = [piece for part in parts for piece in part.pieces()]
    source.finish()
    source.finish()
    assert dataset.calls == ["begin", 0, 1, 2, 3, 4, "end"]
    assert [piece.label for piece in pieces] == [f"batch {n}" for n in range(5)]
    assert {piece.kind for piece in pieces} == {"batch"}
    assert np.concatenate([piece.value[0] for piece in pieces]).tolist() == list(range(20))


def test_a_pass_that_failed_does_not_end_the_epoch():
    dataset = FailingBatches(5)
    source = as_source(dataset)
    with pytest.raises(LookupError) as caught:
        list(source.whole().pieces())
    assert notes(caught.value) == ["recordio: the source raised this at batch 2"]
    assert "end" not in dataset.calls


@pytest.mark.parametrize("threads", [0, 2])
def test_batches_that_cannot_be_had_may_be_skipped(threads):
    source = as_source(FailingBatches(5))
    executor = make_executor(threads, False) if threads else None
    pieces = list(source.whole().pieces(executor, 2, on_error="skip"))
    assert [piece.kind for piece in pieces] == ["batch", "batch", "error", "batch", "batch"]
    assert isinstance(pieces[2].value, LookupError)
    assert (pieces[2].label, notes(pieces[2].value)) == ("batch 2", ["recordio: the source raised this at batch 2"])
    if executor is not None:
        executor.shutdown()


@pytest.mark.parametrize("split_first", [True, False])
def test_the_first_batch_is_fetched_once_whatever_is_asked_first(split_first):
    dataset = Batches(5)
    source = as_source(dataset)
    if not split_first:
        source.resolve_signature()
        source.split(num_shards=4)
    parts = source.split(shard_size=4 * 16 * 2)     # 4 records of 16 bytes a batch
    source.resolve_signature()
    assert [len(list(part.pieces())) for part in parts] == [2, 2, 1]
    assert dataset.calls == ["begin", 0, 1, 2, 3, 4]


def test_only_the_batches_of_a_part_are_fetched():
    dataset = Batches(10)
    parts = as_source(dataset, (INT, TensorSpec((2,), "float32"))).split(num_shards=4)
    assert [len(list(part.pieces())) for part in parts[2:]] == [2, 2]
    assert dataset.calls == ["begin", 6, 7, 8, 9]


def test_its_own_wishes_are_known():
    dataset = Batches()
    source = as_source(dataset)
    assert (source.workers, source.use_multiprocessing, source.max_queue_size) == (1, False, 10)
    dataset.workers, dataset.use_multiprocessing, dataset.max_queue_size = 3, True, 4
    source = as_source(dataset)
    assert (source.workers, source.use_multiprocessing, source.max_queue_size) == (3, True, 4)
    assert as_source(count).workers is None


X, Y = np.zeros((4, 3)), np.arange(4)


@pytest.mark.parametrize(("batch", "expected"), [
    (X, X),
    ({"x": X, "y": Y}, {"x": X, "y": Y}),
    ((X,), (X,)),
    ((X, None, None), (X,)),
    ((X, Y, None), (X, Y)),
    ([X, Y], (X, Y)),
    (([X, X], {"y": Y}, Y), ([X, X], {"y": Y}, Y)),
    ((Tensor(X), {"y": Tensor(Y)}), (X, {"y": Y})),
    (Tensor(X), X),
])
def test_batches_of_every_form(batch, expected):
    (piece,) = as_source(OneBatch(batch)).whole().pieces()

    def same(got, want):
        assert type(got) is type(want)
        if isinstance(want, dict):
            assert list(got) == list(want)
            got, want = list(got.values()), list(want.values())
        if isinstance(want, list | tuple):
            for pair in zip(got, want, strict=True):
                same(*pair)
        else:
            assert np.array_equal(got, want)

    same(piece.value, expected)


def test_a_list_signature_makes_list_batches():
    (piece,) = as_source(OneBatch((X, Y)), [TensorSpec((3,), "float64"), INT]).whole().pieces()
    assert type(piece.value) is list


@pytest.mark.parametrize("batch", [(), (X, X, X, X), "text", None, 5])
def test_batches_of_no_known_form_are_refused(batch):
    with pytest.raises(SourceError, match="batch 0"):
        list(as_source(OneBatch(batch)).whole().pieces())


def test_a_batch_may_be_one_record():
    source = from_pydataset(Batches(5), unbatch=False)
    parts = source.split(num_shards=2)
    assert source.num_records == 5
    assert source.resolve_signature() == (TensorSpec((4,), "int64"), TensorSpec((4, 2), "float32"))
    pieces = [piece for part in parts for piece in part.pieces()]
    assert {piece.kind for piece in pieces} == {"record"}
    assert len(pieces) == 5
    assert [part.num_records for part in source.split(shard_size=2 * 64)] == [2, 2, 1]


class Endless(Batches):
    num_batches = None


class Unsaid(Batches):
    @property
    def num_batches(self):
        raise NotImplementedError


@pytest.mark.parametrize("dataset", [Endless(), Unsaid()])
def test_an_endless_pydataset_needs_a_step_count(dataset):
    with pytest.raises(SourceError, match=r"from_pydataset\(dataset, num_batches="):
        as_source(dataset)
    assert len(list(from_pydataset(dataset, num_batches=3).whole().pieces())) == 3


def test_a_step_count_cannot_exceed_what_is_there():
    assert len(list(from_pydataset(Batches(5), num_batches=3).whole().pieces())) == 3
    with pytest.raises(SourceError, match="num_batches is 6, but the PyDataset has 5"):
        from_pydataset(Batches(5), num_batches=6)


def test_fewer_batches_than_shards_are_read_from_the_front():
    assert from_pydataset(Batches(2)).split(num_shards=3) is None
    parts = from_pydataset(Batches(2), unbatch=False).split(num_shards=3)     # a record is a batch
    assert [len(list(part.pieces())) for part in parts] == [1, 1, 0]


def test_a_data_set_that_fills_one_array_again_is_safe_with_a_worker():
    class Reusing(Batches):
        buffer = np.zeros(4, "int64")

        def __getitem__(self, index: int):
            self.buffer[:] = index
            return self.buffer

    source = as_source(Reusing(20))
    source.resolve_signature()
    with make_executor(1, False) as executor:
        got = []
        for piece in source.whole().pieces(executor, 10):
            time.sleep(0.001)       # the worker runs ahead
            got.append(piece.value[0])
    assert got == list(range(20))


def _part_values(part) -> list:
    return [piece.value[0].tolist() for piece in part.pieces()]


@pytest.mark.parametrize("setup", [False, True])
def test_batches_are_fetched_in_processes(setup):
    """With worker_setup, a process unpickles the data set once; without, it still works with any pool."""
    SlowToPickle.loads = 0
    source = as_source(SlowToPickle(6))
    source.resolve_signature()
    parts = source.split(num_shards=2)
    initializer = source.worker_setup() if setup else (None, ())
    with make_executor(1, True, *initializer) as executor:
        values = [piece.value.tolist() for part in parts for piece in part.pieces(executor, 3)]
        assert values[0] == [0, 0]      # fetched here
        assert values[-1] == ([1, 1] if setup else [5, 5])
        if setup:
            assert len(pickle.dumps(parts[1])) < 1000
            assert executor.submit(_part_values, parts[1]).result() == [1, 1, 1]
    if setup:
        with pytest.raises(SourceError, match="not known to this worker"):
            pickle.loads(pickle.dumps(parts[1]))


def test_errors_in_processes_keep_type_and_place():
    with make_executor(1, True) as executor:
        with pytest.raises(LookupError, match="no such image") as caught:
            list(as_source(FailingBatches(5)).whole().pieces(executor, 3))
    assert notes(caught.value) == ["recordio: the source raised this at batch 2"]


def test_a_local_pydataset_cannot_go_to_a_process():
    class Local(Batches):
        pass

    for attempt in (as_source(Local()).check_picklable, as_source(Local()).worker_setup):
        with pytest.raises(SourceError, match="Local cannot be sent to a worker process"):
            attempt()


# ---- which kind


@pytest.mark.parametrize(("candidate", "message"), [
    (Batches, "Batches is a class, not a PyDataset"),
    (MapStyle, "MapStyle is a class"),
    ("data/train", "is text, not records"),
    ({"x": X}, "from_tensor_slices"),
    ((X, Y), "from_tensor_slices"),
    (5, "int objects cannot be converted"),
    (None, "NoneType objects cannot be converted"),
])
def test_what_cannot_be_converted_is_named_with_what_can(candidate, message):
    with pytest.raises(SourceError, match=message):
        as_source(candidate)


def test_a_data_frame_is_not_read_as_its_column_names():
    class DataFrame:
        columns, iloc = ["a"], None

        def __iter__(self):
            return iter(self.columns)

    with pytest.raises(SourceError, match="DataFrame"):
        as_source(DataFrame())


def test_a_source_passes_and_takes_one_signature():
    source = from_generator(count)
    assert as_source(source) is source
    assert as_source(source, INT).signature is INT
    assert as_source(source, INT) is source
    with pytest.raises(RequestError, match="already"):
        as_source(source, TensorSpec((), "int32"))
    nested = from_generator(count, {"a": INT, "b": (INT, [TensorSpec((None,), "str")])})
    equal = {"a": TensorSpec([], np.int64), "b": (INT, [TensorSpec((None,), "str")])}
    assert as_source(nested, equal) is nested
    for other in ({"a": INT, "b": [INT, [TensorSpec((None,), "str")]]}, {"b": equal["b"], "a": INT}, INT):
        with pytest.raises(RequestError, match="already"):
            as_source(nested, other)


def test_an_array_is_sliced_into_records():
    source = as_source(np.arange(6).reshape(3, 2))
    assert source.num_records == 3
    assert source.resolve_signature() == TensorSpec((2,), "int64")
    assert as_source(Tensor([1, 2])).num_records == 2
    rows = [piece.value[0].values.tolist() for part in source.split(num_shards=2) for piece in part.pieces()]
    assert rows == [[[0, 1], [2, 3]], [[4, 5]]]


def test_the_time_left_of_a_pydataset_is_known(tmp_path):
    """Its batches are counted before, its records only about: by the first batch, if that was looked at."""
    class Uneven:
        num_batches = 20

        def __getitem__(self, index):
            return np.zeros((7 if index % 2 else 9, 10))

        def on_epoch_end(self):
            pass

    told = []
    recordio.convert(Uneven(), tmp_path / "set", shard_size=2_000, progress=told.append)
    assert {one.total_records for one in told} == {None} and {one.expected_records for one in told} == {180}
    assert pace(None, told[0]).left_s > 0 and told[-1].left_records == 20
    assert " left" in describe(told[0])
