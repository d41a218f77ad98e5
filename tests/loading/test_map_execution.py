"""Maps at work: how they end, what they may hold, whose random numbers they draw.

What a map gives, and in which order, is in tests/loading/test_loader.py.

Spec: spec/order.md, section 8; design.md, section 5.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio.execute import replacing
from tests.laws.data_sets import fresh_directory

SPEC = {"x": recordio.TensorSpec((), "int64")}
COUNT = 1000
WAYS: dict[str, dict[str, Any]] = {
    "alone": {"workers": 0},
    "threads": {"workers": 2},
    "processes": {"workers": 1, "use_multiprocessing": True},
}


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    """1,000 records in four shards of many chunks."""
    with fresh_directory() as directory:
        with recordio.Writer(directory / "set", SPEC, num_shards=4, chunk_size=256) as writer:
            for number in range(COUNT):
                writer.write({"x": number})
        yield directory / "set"


# -- StopIteration --


def ended(found: dict[str, Any]) -> dict[str, Any]:
    if found["x"] == 250:
        next(iter(()))
    return found


def ended_batch(batch: dict[str, Any]) -> dict[str, Any]:
    if 250 in batch["x"]:
        next(iter(()))
    return batch


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("batched", [False, True])
def test_stop_iteration_in_a_map_does_not_end_the_epoch(path: Path, way: str, batched: bool) -> None:
    """It is an error that names the record, after the batches before it; never an epoch that looks complete."""
    loader = recordio.open(path).map(ended, output_signature=SPEC).batch(10)
    if batched:
        loader = recordio.open(path).batch(10).map(ended_batch, output_signature=SPEC)
    iterator = iter(loader.with_options(**WAYS[way]))
    found = 0
    with pytest.raises(RuntimeError, match="StopIteration") as caught:
        for _ in iterator:
            found += 1
    assert found == 25
    assert any("record 250" in note for note in caught.value.__notes__)


def test_stop_iteration_while_a_signature_is_found_is_an_error(path: Path) -> None:
    """The samples are records like any other."""
    with pytest.raises(RuntimeError, match="StopIteration"):
        recordio.open(path).map(lambda found: next(iter(()))).element_spec  # noqa: B018  asking is enough


# -- forks --

FORKED: dict[str, Callable[[Any], Any]] = {
    "shuffled": lambda ds: ds.shuffle(seed=0).batch(10),
    "pooled": lambda ds: ds.shuffle(seed=0, mode="pooled", pool=100).batch(10),
    "reversed": lambda ds: ds[::-1].batch(10),
    "mapped": lambda ds: ds[::-1].map(ended, output_signature=SPEC).batch(10),
    "distributed": lambda ds: recordio.distribute(ds.batch(10), recordio.InputContext(2, 0, 2)),
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("order", FORKED)
def test_an_iteration_does_not_go_on_in_a_fork(path: Path, order: str) -> None:
    """Its threads are not there: an error in the child, not a hang; the parent goes on."""
    data = recordio.open(path).with_options(workers=2, max_queue_size=1, memory=11_000)  # in blocks of 171 records
    iterator = iter(FORKED[order](data))
    next(iterator)
    child = os.fork()
    if not child:
        status = 1
        try:
            signal.alarm(10)
            for _ in iterator:
                pass
            status = 2
        except recordio.WorkerError as error:
            iterator.close()
            status = 0 if "fork" in str(error) else 3
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    next(iterator)
    iterator.close()


# -- random numbers --


def drawn(found: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    return {"x": found["x"], "r": rng.integers(0, 2**62)}


def values(step: Any, name: str) -> list[int]:
    return [number for part in recordio.experimental_local_results(step[name]) for number in part.tolist()]


def pipelines(path: Path, policy: str, num_pipelines: int, shuffled: bool = True) -> list[Any]:
    def loader(shard: bool, number: int) -> Any:
        ds = recordio.open(path)
        ds = ds.shard(num_pipelines, number) if shard else ds
        ds = ds.shuffle(seed=3) if shuffled else ds
        return ds.map(drawn, rng=True).batch(20)

    contexts = [recordio.InputContext(num_pipelines, number, num_pipelines) for number in range(num_pipelines)]
    if policy == "FUNCTION":
        return [
            recordio.distribute_from_function(lambda c: loader(True, c.input_pipeline_id), context)
            for context in contexts
        ]
    return [recordio.distribute(loader(False, 0), context, policy) for context in contexts]


def all_drawn(dist: Any) -> dict[int, int]:
    return {x: r for step in dist for x, r in zip(values(step, "x"), values(step, "r"), strict=True)}


@pytest.mark.parametrize("policy", ["FILE", "OFF", "FUNCTION"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_pipelines_with_streams_of_their_own_draw_numbers_of_their_own(path: Path, policy: str, shuffled: bool) -> None:
    """No number comes twice, whatever the pipeline and the position (spec/order.md, section 8)."""
    found = [list(all_drawn(dist).values()) for dist in pipelines(path, policy, 2, shuffled)]
    assert all(len(part) >= COUNT // 4 for part in found)
    assert len({*found[0], *found[1]}) == len(found[0]) + len(found[1])


@pytest.mark.parametrize("policy", ["AUTO", "DATA"])
def test_pipelines_that_share_a_stream_draw_what_one_would(path: Path, policy: str) -> None:
    """Positions are global, so that a record has its numbers for any P."""
    expected = {
        x: r
        for batch in recordio.open(path).shuffle(seed=3).map(drawn, rng=True).batch(20)
        for x, r in zip(batch["x"].tolist(), batch["r"].tolist(), strict=True)
    }
    for num_pipelines in (1, 2):
        found: dict[int, int] = {}
        for dist in pipelines(path, policy, num_pipelines):
            found.update(all_drawn(dist))
        assert found == expected


@pytest.mark.parametrize("policy", ["AUTO", "DATA", "FILE", "OFF", "FUNCTION"])
def test_numbers_are_the_same_after_a_resume_and_by_step(path: Path, policy: str) -> None:
    """As they would have been."""
    whole = [(values(step, "x"), values(step, "r")) for step in pipelines(path, policy, 2)[1]]
    dist = pipelines(path, policy, 2)[1]
    iterator = iter(dist)
    for _ in range(7):
        next(iterator)
    again = pipelines(path, policy, 2)[1]
    again.load_state_dict(iterator.state_dict())
    iterator.close()
    assert [(values(step, "x"), values(step, "r")) for step in again] == whole[7:]
    step = pipelines(path, policy, 2)[1][7]
    assert (values(step, "x"), values(step, "r")) == whole[7]


# -- memory --

ROW = 32 << 10
BIG_COUNT, BIG_BATCH = 1280, 16
BIG_SPEC = {"x": recordio.TensorSpec((ROW,), "uint8")}
FREE_SPEC = {"x": recordio.TensorSpec((None,), "uint8")}


@pytest.fixture
def _live_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """No buffer is kept for later, so that what is counted is what lives."""
    monkeypatch.setattr("recordio.buffers._MIN_SIZE", 1 << 62)


@pytest.fixture(scope="module")
def big() -> Iterator[Path]:
    """40 MiB."""
    with fresh_directory() as directory:
        with recordio.Writer(directory / "big", BIG_SPEC, num_shards=4, chunk_size=4 * ROW, frame_size=ROW) as writer:
            for number in range(BIG_COUNT):
                writer.write({"x": np.full(ROW, number % 251, np.uint8)})
        yield directory / "big"


def same(found: dict[str, Any]) -> dict[str, Any]:
    return found


def tripled(found: dict[str, Any]) -> dict[str, Any]:
    return {"x": np.tile(found["x"], 3)}


def live_peak(loader: Any, seconds: float = 0.01) -> int:
    """The most bytes that lived at once, of which one batch is the caller's."""
    tracemalloc.start()
    try:
        base = tracemalloc.get_traced_memory()[0]
        for place, batch in enumerate(loader):
            if place < 8:
                time.sleep(seconds)  # a slow consumer: what runs ahead runs as far ahead as it may
            assert len(batch["x"])
        return tracemalloc.get_traced_memory()[1] - base
    finally:
        tracemalloc.stop()


MAPS: dict[str, Callable[[Any], Any]] = {
    "same size": lambda ds: ds.map(same, output_signature=BIG_SPEC),
    "sizes unknown": lambda ds: ds.map(same, output_signature=FREE_SPEC),
    "larger": lambda ds: ds.map(tripled, output_signature={"x": recordio.TensorSpec((3 * ROW,), "uint8")}),
    "larger, sizes unknown": lambda ds: ds.map(tripled, output_signature=FREE_SPEC),
}
BIG_ORDERS: dict[str, Callable[[Any], Any]] = {
    "stored": lambda ds: ds,
    "pooled": lambda ds: ds.shuffle(seed=0, mode="pooled", pool=64),
    "reversed": lambda ds: ds[::-1],
}


@pytest.mark.usefixtures("_live_only")
@pytest.mark.parametrize("order", BIG_ORDERS)
@pytest.mark.parametrize("kind", MAPS)
def test_memory_bounds_what_is_mapped_and_waits(big: Path, kind: str, order: str) -> None:
    """The budget, a fifth more, and one batch that is the caller's."""
    memory, batch = 16 << 20, BIG_BATCH * ROW * (3 if "larger" in kind else 1)
    ds = BIG_ORDERS[order](recordio.open(big, cache_size=0))
    loader = MAPS[kind](ds).batch(BIG_BATCH).with_options(workers=2, memory=memory, max_queue_size=1000)
    peak = live_peak(loader)
    print(f"{peak / memory:.2f} of the budget, {batch / memory:.2f} of them the caller's")
    assert peak < memory * 1.2 + batch


@pytest.mark.usefixtures("_live_only")
def test_maps_are_bounded_without_a_budget_too(big: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the constants that Options names."""
    monkeypatch.setattr("recordio.loading.options._MAP_SIZE", 4 << 20)
    monkeypatch.setattr("recordio.loading.options._MAP_SIZE_OF_WORKER", 1 << 20)
    monkeypatch.setattr("recordio.reader._MAX_TASK_SIZE", 1 << 20)
    ds = recordio.open(big, cache_size=0).map(same, output_signature=BIG_SPEC)
    assert live_peak(ds.batch(BIG_BATCH).with_options(workers=2, max_queue_size=1000)) < 16 << 20


def test_a_batch_that_is_more_than_the_budget_is_mapped_alone(big: Path) -> None:
    """At least one is always under way."""
    ds = recordio.open(big).map(same, output_signature=BIG_SPEC)
    assert [len(b["x"]) for b in ds.batch(640).with_options(workers=2, memory=1 << 20)] == [640, 640]


@pytest.mark.usefixtures("_live_only")
@pytest.mark.parametrize("memory", [4, 8])
def test_blocks_ahead_of_scattered_reading_are_counted(big: Path, memory: int) -> None:
    """A batch of 2 MiB that is picked row by row takes three times as much while it is put together."""
    loader = recordio.open(big, cache_size=0)[::-1].batch(64).with_options(workers=2, memory=memory << 20)
    assert live_peak(loader) < max(3 * 64 * ROW, memory << 20) * 1.2 + 64 * ROW


# -- ends --


@pytest.mark.parametrize("how", ["close", "break", "error"])
def test_leaving_waits_for_the_calls_that_run_and_not_for_their_batches(
    path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In threads the functions of other records are not called any more."""
    is_ending, called = threading.Event(), []
    end = replacing._end

    def ending(*args: Any) -> None:
        is_ending.set()
        end(*args)

    def slow(found: dict[str, Any]) -> dict[str, Any]:
        called.append(int(found["x"]))
        if how == "error" and found["x"] == 100:
            while 200 not in called:
                time.sleep(0.001)
            raise ZeroDivisionError
        if found["x"] >= 100:
            assert is_ending.wait(60)
        return found

    monkeypatch.setattr(replacing, "_end", ending)
    loader = recordio.open(path).map(slow, output_signature=SPEC).batch(100)
    iterator = iter(loader.with_options(workers=2, max_queue_size=4))
    next(iterator)
    while not {100, 200} <= set(called):  # both threads are in a call
        time.sleep(0.001)
    if how == "error":
        with pytest.raises(ZeroDivisionError):
            next(iterator)
    elif how == "close":
        iterator.close()
    else:
        del iterator
    # A thread whose batch has failed begins the next one before anybody knows of it.
    assert {*range(101), 200} <= set(called) <= {*range(101), 200, 300}
    assert len(called) == len(set(called))


# -- damage --


def damaged_copy(path: Path, target: Path, chunks: Callable[[int], bool]) -> Path:
    """A copy in which the chunks that are named by their place in the shard are damaged, in every shard."""
    target.mkdir()
    for file in path.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    reader: Any = recordio.open(path)._recipe.reader
    for shard, file in enumerate(sorted(target.glob("shard-*"))):
        contents = bytearray(file.read_bytes())
        table = reader.shard(shard).table
        for chunk in range(len(table.offsets) - 1):
            if chunks(chunk):
                entry = reader.shard(shard).read_directory(chunk).columns[0]
                contents[int(table.offsets[chunk]) + entry.offset + 3] ^= 1
        file.write_bytes(contents)
    return target


@pytest.mark.parametrize("batched", [False, True])
def test_a_signature_is_found_with_records_that_can_be_read(path: Path, tmp_path: Path, batched: bool) -> None:
    """Under on_corrupt="skip" damage of the records that would be tried first costs these only."""
    few = damaged_copy(path, tmp_path / "few", lambda chunk: chunk == 0)
    ds = recordio.open(few, on_corrupt="skip")
    loader: Any = ds.map(lambda found: {"x": found["x"] * 2}).batch(50)
    if batched:
        loader = ds.batch(50).map(lambda batch: {"x": batch["x"] * 2})
    assert loader.element_spec == {"x": recordio.TensorSpec((None,), "int64")}
    found = [x for batch in loader for x in batch["x"].tolist()]
    lost = {number for one in ds.lost for number in range(one.start, one.stop)}
    assert lost and found == [2 * number for number in range(COUNT) if number not in lost]


def test_most_records_may_be_damaged_where_a_signature_is_found(path: Path, tmp_path: Path) -> None:
    """All but the third chunk of every shard; and where nothing can be read, the error says what to do."""
    most = recordio.open(damaged_copy(path, tmp_path / "most", lambda chunk: chunk != 2), on_corrupt="skip")
    assert most.map(lambda found: found["x"]).element_spec == recordio.TensorSpec((), "int64")
    none = recordio.open(damaged_copy(path, tmp_path / "none", lambda chunk: True), on_corrupt="skip")
    with pytest.raises(recordio.RequestError, match="output_signature"):
        none.map(lambda found: found["x"]).element_spec  # noqa: B018  asking is enough
    with pytest.raises(recordio.ChecksumError):
        recordio.open(tmp_path / "none").map(lambda found: found["x"]).element_spec  # noqa: B018
