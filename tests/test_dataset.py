"""Data sets: many threads, forks, other processes; what an index may be; very large and very many."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from tests.laws.data_sets import fresh_directory

SPEC = {
    "id": recordio.TensorSpec((), "int64"),
    "word": recordio.TensorSpec((), "str"),
    "list": recordio.TensorSpec((None,), "int32"),
}
COUNT = 3000


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    """Three shards of many chunks of several frames."""
    with fresh_directory() as directory:
        with recordio.Writer(directory / "set", SPEC, num_shards=3, chunk_size=4000, frame_size=500) as writer:
            for number in range(COUNT):
                writer.write(record(number))
        yield directory / "set"


def record(number: int) -> dict[str, Any]:
    return {"id": number, "word": f"w{number}", "list": np.arange(number % 5, dtype=np.int32) + number}


def is_right(number: int, found: dict[str, Any]) -> bool:
    expected = record(number)
    return bool(
        found["id"] == number
        and found["word"] == expected["word"]
        and found["list"].tolist() == expected["list"].tolist()
    )


def read_some(ds: recordio.Dataset, seed: int) -> bool:
    """Records by number, a batch, and a run, from all over; whether all are right."""
    random = np.random.default_rng(seed)
    for _ in range(3):
        numbers = random.integers(0, COUNT, 40).tolist()
        if not all(is_right(number, ds[number]) for number in numbers):
            return False
        batch = ds[numbers]
        if batch["id"].tolist() != numbers or batch["word"].to_list() != [f"w{number}" for number in numbers]:
            return False
        start = int(random.integers(COUNT - 300))
        if not all(is_right(start + place, found) for place, found in enumerate(ds[start : start + 300])):
            return False
    return True


@pytest.mark.parametrize("cache_size", [64 << 20, 20_000, 0])
def test_many_threads_read_one_data_set(path: Path, cache_size: int) -> None:
    """At once, from a cold start, also where the cache drops what others are reading (issue, item 6)."""
    ds = recordio.open(path, cache_size=cache_size)
    with ThreadPoolExecutor(8) as executor:
        assert all(executor.map(lambda seed: read_some(ds, seed), range(16)))


def _in_child(work: Any) -> int:
    pid = os.fork()
    if not pid:
        status = 1
        try:
            status = 0 if work() else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_child_reads_on(path: Path) -> None:
    """A warm one, and one that is forked while a thread holds the lock of the cache."""
    ds = recordio.open(path)
    assert read_some(ds, 0)
    assert _in_child(lambda: read_some(ds, 1)) == 0
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with ds._recipe.reader._cache.get()._lock:  # type: ignore[union-attr]
            held.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert held.wait(30)
        assert _in_child(lambda: read_some(ds, 2) and _in_child(lambda: read_some(ds, 3)) == 0) == 0
    finally:
        done.set()
        thread.join()
    assert read_some(ds, 4)


def test_a_spawned_process_reads_what_it_is_sent(path: Path) -> None:
    """A view, a projection and batches; nothing but the path and what is in view travels."""
    ds = recordio.open(path)
    sent = (ds, ds[10:20:3], ds.select_columns("word"), ds.batch(7))
    assert len(pickle.dumps(sent)) < 10_000
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        right, ids, word, batch = pool.apply(_read_in_process, sent)
    assert right and ids == [10, 13, 16, 19] and word == {"word": "w5"} and batch == list(range(14, 21))


def _read_in_process(ds: Any, view: Any, words: Any, batches: Any) -> Any:
    return read_some(ds, 0), [int(found["id"]) for found in view], words[5], batches[2]["id"].tolist()


def test_what_can_be_an_index(path: Path) -> None:
    """Ints of every kind, lists, arrays and ranges; nothing that numpy would make something of."""
    ds = recordio.open(path)
    for index in (7, np.int8(7), np.uint64(7), np.array(7), 7 - COUNT):
        assert is_right(7, ds[index])
    for indices in ([7, 1], (7, 1), np.array([7, 1], np.uint8), range(7, 0, -6), np.array([7 - COUNT, 1])):
        assert ds[indices]["id"].tolist() == [7, 1]
    for wrong in (COUNT, -COUNT - 1, [COUNT], [0, -COUNT - 1], np.array([2**64 - 1], np.uint64)):
        with pytest.raises(IndexError):
            ds[wrong]
    for wrong in (1.0, "id", None, [1.5], [[1]], [True], np.array([True] * COUNT), ["1"]):
        with pytest.raises(TypeError):
            ds[wrong]
    batches = ds.batch(1000)
    assert batches[-1]["id"].tolist() == list(range(2000, 3000))
    with pytest.raises(IndexError):
        batches[3]
    with pytest.raises(recordio.RequestError):
        ds.batch(0)
    with pytest.raises(TypeError):
        ds.batch(2.5)  # type: ignore[arg-type]
    with pytest.raises(recordio.RequestError, match="Did you mean"):
        ds.select_columns("wrod")
    with pytest.raises(recordio.RequestError):
        recordio.open(path, on_corrupt="ignore")  # type: ignore[arg-type]


def test_an_iterator_that_is_left_stops_reading(path: Path) -> None:
    """Its threads end with it."""
    before = threading.active_count()
    iterator = iter(recordio.open(path))
    next(iterator)
    iterator.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_two_thousand_columns(tmp_path: Path) -> None:
    """Written, read, projected."""
    spec = {f"c{number}": recordio.TensorSpec((), "int16") for number in range(2000)}
    values = np.arange(20, dtype=np.int16)
    with recordio.Writer(tmp_path / "set", spec, metadata={"wide": True}) as writer:
        writer.write_batch({name: values + place for place, name in enumerate(spec)})
        for number in range(20, 30):
            writer.write({name: number + place for place, name in enumerate(spec)})
    ds = recordio.open(tmp_path / "set")
    assert [found["c1999"] for found in ds] == list(range(1999, 2029))
    assert ds[29]["c7"] == 36
    assert ds.select_columns(["c3", "c1500"])[[2, 1]]["c1500"].tolist() == [1502, 1501]
    assert list(ds[5]) == list(spec)


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_a_record_of_300_mb(codec: str) -> None:
    """It is its own chunk, and comes back, in memory of a few times its size."""
    script = f"""
import numpy as np, recordio, resource, sys
spec = {{"blob": recordio.TensorSpec((None,), "uint8"), "id": recordio.TensorSpec((), "int32")}}
blob = np.zeros(300_000_000, np.uint8)
blob[::4096] = np.arange(len(blob[::4096])) % 251
with recordio.Writer(sys.argv[1], spec, codec={codec!r}, level=1, workers=1) as writer:
    for number in range(3):
        writer.write({{"blob": blob if number == 1 else blob[:3], "id": number}})
ds = recordio.open(sys.argv[1])
assert sum(shard.num_chunks for shard in ds.shards) == 3
found = ds[1]["blob"]
assert found.shape == blob.shape and (found[::4096] == blob[::4096]).all() and not found[1::4096].any()
del found
assert [len(record["blob"]) for record in ds] == [3, len(blob), 3]
try:
    # What getrusage says on Linux includes the process that this one was started from.
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM"))
except OSError:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform != "darwin" else 1 << 20)
print(peak)
"""
    with fresh_directory() as directory:
        done = subprocess.run(
            [sys.executable, "-c", script, str(directory / "set")],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[1],
            check=False,
        )
    assert done.returncode == 0, done.stderr
    print("peak", done.stdout.strip(), "MiB")
    assert int(done.stdout) < 2000  # MiB: the record itself, and a few copies


def test_a_record_of_more_than_a_gib_is_refused(tmp_path: Path) -> None:
    """When it is written, with its number and its column; the writer goes on (spec/format.md, section 10)."""
    large = np.broadcast_to(np.uint8(0), (2**30 + 1,))  # one byte of memory
    with pytest.raises(recordio.SignatureError):
        recordio.TensorSpec((2**30 + 1,), "uint8")
    spec = {"a": recordio.TensorSpec((None,), "uint8"), "b": recordio.TensorSpec((2**20,), "uint8")}
    small = np.zeros(2**20, np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with recordio.Writer(tmp_path / "set", spec, level=1) as writer:
        writer.write({"a": small, "b": small})
        with pytest.raises(recordio.SignatureError) as caught:
            writer.write({"a": large, "b": small})
        assert caught.value.record == 1 and caught.value.column == "a" and str(2**30) in str(caught.value)
        with pytest.raises(recordio.SignatureError):
            writer.write_batch({"a": [small, large], "b": [small, small]})
        writer.write({"a": small[:5], "b": small})
    assert [len(found["a"]) for found in recordio.open(tmp_path / "set")] == [2**20, 5]
    print("peak grew by", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10, "MiB")


def test_records_of_no_bytes(tmp_path: Path) -> None:
    """Columns without an element take no room, and still have as many records as were written."""
    spec = (
        recordio.TensorSpec((0, 3), "float32"),
        recordio.TensorSpec((), "str"),
        recordio.TensorSpec((0,), "int8", optional=True),
    )
    with recordio.Writer(tmp_path / "set", spec, chunk_size=1, frame_size=1) as writer:
        for number in range(10):
            writer.write((np.zeros((0, 3), np.float32), "", None if number % 2 else np.zeros(0, np.int8)))
    ds = recordio.open(tmp_path / "set")
    assert len(list(ds)) == 10
    for number, (first, text, last) in enumerate(ds):
        assert first.shape == (0, 3) and first.dtype == np.float32 and text == "" and (last is None) == bool(number % 2)
    only = recordio.TensorSpec((0,), "int8")
    with recordio.Writer(tmp_path / "only", only, num_shards=2) as writer:
        writer.write_batch(np.zeros((1000, 0), np.int8))
    assert len(recordio.open(tmp_path / "only")) == 1000
    assert recordio.open(tmp_path / "only")[998].shape == (0,)
    assert sum(len(batch) for batch in recordio.open(tmp_path / "only").batch(64)) == 1000


def test_a_relative_path_is_meant_from_where_it_was_opened(tmp_path, monkeypatch):
    """Also after the process has gone elsewhere, and in another process."""
    monkeypatch.chdir(tmp_path)
    recordio.convert([{"x": number} for number in range(3)], "set")
    dataset = recordio.open("set")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert [record["x"] for record in dataset] == [0, 1, 2]
    assert pickle.loads(pickle.dumps(dataset))[2] == {"x": 2}


@pytest.mark.parametrize("key", [True, np.True_, [True, 2], [np.False_]])
def test_a_bool_is_no_record_number(key):
    """Neither alone nor in a list: it would be read as 0 or 1."""
    with pytest.raises(TypeError, match="bool"):
        recordio.from_tensor_slices({"x": np.arange(3)})[key]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_an_iteration_does_not_go_on_in_a_fork(path: Path) -> None:
    """Its threads are not there: an error, not a hang (the error itself: tests/execute/test_pool.py)."""
    iterator = iter(recordio.open(path).batch(100).with_options(workers=2))
    next(iterator)

    def go_on() -> bool:
        try:
            for _ in iterator:
                pass
        except recordio.WorkerError as error:
            return "fork" in str(error)
        return True  # all was decoded before the fork

    assert _in_child(go_on) == 0
    assert sum(len(batch["id"]) for batch in iterator) == COUNT - 100


def test_a_record_that_is_kept_keeps_nothing_else(path: Path) -> None:
    """A reservoir of records must not hold the megabytes that were decoded with them."""
    for found in [*recordio.open(path)][::100]:
        array = found["list"]
        while isinstance(array.base, np.ndarray):
            array = array.base
        assert array.nbytes <= 5 * 4


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_NOFILE"), reason="needs a limit of open files")
def test_many_data_sets_of_many_shards_do_not_run_out_of_files(tmp_path: Path) -> None:
    """Files of data sets that are not being read are let go when the process may open no more."""
    with recordio.Writer(tmp_path / "set", recordio.TensorSpec((), "int64"), num_shards=60) as writer:
        writer.write_batch(np.arange(600))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, limits[1]))
    try:
        opened = [recordio.open(tmp_path / "set") for _ in range(8)]
        for _ in range(2):
            for ds in opened:
                assert [int(number) for number in ds] == list(range(600))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_indices_of_any_int_type(path: Path) -> None:
    ds = recordio.open(path, columns="id")
    assert ds[[np.int64(3), np.uint64(4), 5]]["id"].tolist() == [3, 4, 5]
    assert ds[np.array([3, 4], object)]["id"].tolist() == [3, 4]
    assert ds[range(3, 9, 2)]["id"].tolist() == [3, 5, 7]
    assert ds[:: 2**63][[0]]["id"].tolist() == [0]
    assert ds[5 :: -(2**70)][0]["id"] == 5
    for wrong in ([2**70], [-(2**70)], [COUNT], np.array([2**63], np.uint64)):
        with pytest.raises(IndexError):
            ds[wrong]
    for strange in ([1.0], ["a"], [True], [None], np.array([1.0]), np.array([[1]])):
        with pytest.raises(TypeError):
            ds[strange]


def test_workers_and_cache_size_are_checked(path: Path) -> None:
    with pytest.raises(recordio.RequestError, match="workers"):
        recordio.open(path).batch(10).with_options(workers=-2)
    with pytest.raises(recordio.RequestError, match="cache_size"):
        recordio.open(path, cache_size=-1)


def test_a_batch_put_together_of_many_runs_is_the_callers_own(tmp_path: Path) -> None:
    """Its memory is lent again only when nobody holds a part of it: some are kept, some dropped, all scribbled over."""
    values = np.arange(1_000)
    with recordio.Writer(tmp_path / "set", recordio.TensorSpec((1 << 13,), "int64"), codec="none") as writer:
        for value in values:
            writer.write(np.full(1 << 13, value))
    dataset = recordio.open(tmp_path / "set")
    kept = []
    for number, batch in enumerate(dataset.batch(290).with_options(workers=2)):
        assert (batch == values[290 * number : 290 * number + len(batch), None]).all()
        batch[:] = -1 - number
        if number % 2:
            kept.append(batch[7])
    assert [set(array.tolist()) for array in kept] == [{-2}, {-4}]


def test_the_next_epoch_reads_into_the_memory_of_the_last(tmp_path: Path) -> None:
    """Threads or none; and a data set that is pickled has its own."""
    with recordio.Writer(tmp_path / "set", recordio.TensorSpec((1 << 13,), "int64"), codec="none") as writer:
        for value in range(1_000):
            writer.write(np.full(1 << 13, value))
    dataset = recordio.open(tmp_path / "set")
    for workers in (0, 2):
        for epoch in range(4):
            for batch in dataset.batch(290).with_options(workers=workers):
                assert batch.shape[1] == 1 << 13
            del batch
            if not epoch:
                size = dataset._recipe.reader.buffers.size
    assert dataset._recipe.reader.buffers.size <= 1.5 * size
    assert pickle.loads(pickle.dumps(dataset))._recipe.reader.buffers.size == 0
