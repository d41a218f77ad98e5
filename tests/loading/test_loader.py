"""Loaders over files: every way of working gives the same batches, they are the caller's own, and nothing is left over.

Orders and splits are in tests/plan and tests/laws; here is what decodes, gathers, maps and hands out.
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from tests.laws.data_sets import fresh_directory
from tests.laws.processes import children

SPEC = {
    "id": recordio.TensorSpec((), "int64"),
    "image": recordio.TensorSpec((5,), "float32"),
    "word": recordio.TensorSpec((), "str"),
    "list": recordio.TensorSpec((None,), "int32"),
    "maybe": recordio.TensorSpec((), "int16", optional=True),
    "any": recordio.MsgpackSpec(),
}
FIXED = ["id", "image"]
COUNT = 3000


def record(number: int) -> dict[str, Any]:
    return {
        "id": number, "image": np.full(5, number, np.float32), "word": f"w{number}",
        "list": np.arange(number % 4, dtype=np.int32) + number, "maybe": None if number % 3 == 0 else number,
        "any": {"n": number},
    }  # fmt: skip


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    """Five shards of many small chunks of several frames."""
    with fresh_directory() as directory:
        with recordio.Writer(directory / "set", SPEC, num_shards=5, chunk_size=4000, frame_size=500) as writer:
            for number in range(COUNT):
                writer.write(record(number))
        yield directory / "set"


def numbers(batch: Any) -> list[int]:
    """The numbers of the records of a batch, all of whose columns must be right."""
    found: list[int] = batch["id"].tolist()
    if "image" in batch:
        assert (batch["image"] == batch["id"][:, None]).all()
    if "word" in batch:
        assert batch["word"].to_list() == [f"w{number}" for number in found]
        assert [row.tolist() for row in batch["list"]] == [list(range(n, n + n % 4)) for n in found]
        assert np.ma.getmaskarray(batch["maybe"]).tolist() == [n % 3 == 0 for n in found]
    if "any" in batch:
        assert [one["n"] for one in batch["any"]] == found
    return found


def flat(batches: Iterable[list[int]]) -> list[int]:
    return sorted(chain.from_iterable(batches))


ORDERS: dict[str, Any] = {
    "stored": lambda ds: ds,
    "exact": lambda ds: ds.shuffle(seed=1),
    "pooled": lambda ds: ds.shuffle(seed=1, mode="pooled", pool=500),
    "thinned": lambda ds: ds[5:2900:3],
    "thinned and pooled": lambda ds: ds[5:2900:3].shuffle(seed=1, mode="pooled", pool=100),
    "backwards": lambda ds: ds[::-1],
    "far apart": lambda ds: ds[::50].shuffle(seed=1, mode="pooled", pool=20),
    "picked": lambda ds: ds.subset(np.random.default_rng(0).integers(0, COUNT, 777)),
    "picked and shuffled": lambda ds: ds.subset(np.random.default_rng(0).permutation(COUNT)[:777]).shuffle(seed=1),
    "picked and pooled": lambda ds: ds.subset(np.random.default_rng(0).permutation(COUNT)[:777]).shuffle(
        seed=1, mode="pooled", pool=90
    ),
    "part of a fixed order": lambda ds: ds.shuffle(seed=2, reshuffle_each_iteration=False)[100:1000],
    "part of a fixed pooled order": lambda ds: ds.shuffle(
        seed=2, mode="pooled", pool=300, reshuffle_each_iteration=False
    )[100:1000:2],
    "in memory": lambda ds: recordio.from_tensor_slices(
        {name: leaf for name, leaf in ds[:500][list(range(500))].items() if name != "any"}
    ).shuffle(seed=4),
}  # fmt: skip
WAYS: dict[str, dict[str, Any]] = {
    "alone": {"workers": 0},
    "one thread": {"workers": 1},
    "three threads": {"workers": 3},
    "little ahead": {"workers": 2, "max_queue_size": 1},
    "little memory": {"workers": 2, "memory": 6_000_000},
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("columns", [None, FIXED, ["word", "id", "list", "maybe", "any"]], ids=["all", "fixed", "var"])
def test_every_way_of_working_gives_the_same_batches(path: Path, order: str, columns: Any) -> None:
    """Two epochs with threads, prefetching and memory of all kinds, and batch by batch through `[i]`."""
    dataset = ORDERS[order](recordio.open(path, columns=columns))
    if "in memory" not in order:
        expected = sorted(np.asarray(dataset.record_numbers).tolist()) if "part" not in order else None
    else:
        expected = list(range(500))
    reference: Any = None
    for way in WAYS.values():
        loader = dataset.batch(64).with_options(**way)
        columns_there = loader[0].keys()
        assert ("word" in columns_there) == (columns != FIXED)
        found = [[numbers(batch) for batch in loader] for _ in range(2)]
        assert [len(epoch) for epoch in found] == [len(loader)] * 2
        reference = reference or found
        assert found == reference
        if expected is not None:
            assert flat(found[0]) == flat(found[1]) == expected
    loader.set_epoch(1)
    assert [numbers(loader[place]) for place in range(0, len(loader), 5)] == reference[1][::5]
    assert len(loader.prefetch(3)) == len(loader.prefetch(recordio.AUTOTUNE)) == len(loader)


@pytest.mark.parametrize("order", ["exact", "pooled", "stored"])
def test_batches_are_the_callers_own(path: Path, order: str) -> None:
    """Scribbling over every batch changes nothing later, neither in this epoch nor in the next."""
    plain = ORDERS[order](recordio.open(path))
    expected = [[numbers(batch) for batch in loader] for loader in [plain.batch(50)] for _ in range(2)]
    loader = plain.batch(50)
    kept = []
    for epoch in range(2):
        for place, batch in enumerate(loader):
            assert numbers(batch) == expected[epoch][place] if epoch < len(expected) else True
            kept.append((batch["id"].copy(), batch["id"]))
            batch["image"][:] = -1
            batch["list"].values[:] = -1
            if place % 3 == 0:
                batch["id"][:] = -1
                kept.pop()
    assert all((copy == there).all() for copy, there in kept)


def test_records_come_in_the_order_of_the_epoch(path: Path) -> None:
    """Record by record, by number, and resumed in the middle; `ds[i]` does not move the epoch."""
    dataset = ORDERS["pooled"](recordio.open(path))
    first = [found["id"] for found in dataset]
    assert sorted(first) == list(range(COUNT))
    assert dataset[7]["id"] != first[7]  # of the next epoch
    second = [found["id"] for found in dataset]
    assert second != first
    dataset.set_epoch(0)
    assert [dataset[place]["id"] for place in (0, 7, -1)] == [first[0], first[7], first[-1]]
    assert dataset[[7, 0]]["id"].tolist() == [first[7], first[0]]
    iterator = iter(dataset)
    done = [next(iterator)["id"] for _ in range(1000)]
    other = ORDERS["pooled"](recordio.open(path))
    other.load_state_dict(iterator.state_dict())
    assert done + [found["id"] for found in other] == first


def test_a_state_is_small_json_that_counts_what_was_handed_out(path: Path) -> None:
    """Not what was prefetched; under a kilobyte; at the end of an epoch, before and after it is noticed (section 9)."""
    loader = ORDERS["exact"](recordio.open(path)).batch(100)
    iterator = iter(loader)
    assert iterator.steps_left == len(loader) == 30
    for step in range(30):
        state = iterator.state_dict()
        assert state["consumed"] == step * 100 and len(json.dumps(state)) < 1000
        assert state == loader.state_dict()
        next(iterator)
    last = iterator.state_dict()
    assert (last["epoch"], last["consumed"], iterator.steps_left) == (0, 3000, 0)
    with pytest.raises(StopIteration):
        next(iterator)
    after = iterator.state_dict()
    assert (after["epoch"], after["consumed"]) == (1, 0)
    loader.load_state_dict(last)
    assert [*loader] == []
    whole = ORDERS["exact"](recordio.open(path)).batch(100)
    whole.set_epoch(1)
    expected = [numbers(batch) for batch in whole]
    loader.load_state_dict(after)
    assert [numbers(batch) for batch in loader] == expected


def test_states_of_something_else_are_refused_by_name(path: Path, tmp_path: Path) -> None:
    """Another data set, seed, mode, pool or view, a state that is none, or one of another version."""
    dataset = recordio.open(path)
    loader = dataset.shuffle(seed=1, mode="pooled", pool=500).batch(64)
    state = loader.state_dict()
    cases = {
        "seed": dataset.shuffle(seed=2, mode="pooled", pool=500), "mode": dataset.shuffle(seed=1, pool=5000),
        "lanes|window|pool": dataset.shuffle(seed=1, mode="pooled", pool=400), "view": dataset[1:].shuffle(seed=1),
    }  # fmt: skip
    for name, other in cases.items():
        with pytest.raises(recordio.StateError, match=name):
            other.batch(64).load_state_dict(state)
    recordio.convert([{"id": 1}] * 3000, tmp_path / "other", output_signature={"id": recordio.TensorSpec((), "int64")})
    with pytest.raises(recordio.StateError, match="fingerprint"):
        recordio.open(tmp_path / "other").shuffle(seed=1, mode="pooled", pool=500).batch(64).load_state_dict(state)
    for wrong in (3, None, [], {}, {**state, "version": 2}, {**state, "extra": 1}, {**state, "consumed": -1},
                  {**state, "consumed": "9"}, {**state, "consumed": 10**9}, {**state, "seed": True},
                  {key: value for key, value in state.items() if key != "view"}):  # fmt: skip
        with pytest.raises(recordio.StateError):
            loader.load_state_dict(wrong)
    later = {**state, "consumed": 64}
    with pytest.raises(recordio.StateError, match=r"pipeline 0 at record 0 .* pipeline 1 at record 64"):
        loader.load_state_dict([state, later])
    loader.load_state_dict([later, later])
    assert iter(loader).state_dict() == later


def test_an_abandoned_pass_must_be_named_where_others_wait(path: Path) -> None:
    """One host that peeked must not be an epoch ahead of the others; alone, the next epoch is taken."""
    loader = ORDERS["exact"](recordio.open(path)).batch(64)
    next(iter(loader))
    assert iter(loader).state_dict()["epoch"] == 1
    dist = recordio.distribute(loader, recordio.InputContext(2, 0, 2))
    assert dist.state_dict()["epoch"] == 0  # what the loader has read counts for itself
    next(iter(dist))
    with pytest.raises(recordio.RequestError, match=r"set_epoch.*load_state_dict"):
        iter(dist)
    dist.set_epoch(0)
    assert len(list(dist)) == len(dist)
    for _ in dist:
        break
    state = dist.state_dict()
    assert (state["epoch"], state["consumed"]) == (1, 64)  # where the loop was left
    dist.load_state_dict(state)
    assert iter(dist).state_dict() == state


def test_a_budget_that_is_too_small_names_the_least(path: Path) -> None:
    """Which then works."""
    loader = ORDERS["pooled"](recordio.open(path, columns=FIXED)).batch(64)
    with pytest.raises(recordio.RequestError, match="memory=") as caught:
        iter(loader.with_options(memory=1000))
    least = int(str(caught.value.advice).split("memory=")[1].split(",")[0])
    assert flat(map(numbers, loader.with_options(memory=least))) == list(range(COUNT))


@pytest.mark.parametrize("order", ["exact", "pooled", "stored", "backwards"])
def test_damage_costs_what_it_hits(path: Path, order: str, tmp_path: Path) -> None:
    """Raised with its place; or left out of the batch that it is in, and listed, in every epoch."""
    damaged = tmp_path / "set"
    damaged.mkdir()
    for file in path.iterdir():
        (damaged / file.name).write_bytes(file.read_bytes())
    shard = sorted(damaged.glob("shard-00002*"))[0]
    reader: Any = recordio.open(damaged)._recipe.reader
    entry = reader.shard(2).read_directory(1).columns[0]
    contents = bytearray(shard.read_bytes())
    contents[int(reader.shard(2).table.offsets[1]) + entry.offset + 3] ^= 1
    shard.write_bytes(contents)
    with pytest.raises(recordio.ChecksumError) as caught:
        list(ORDERS[order](recordio.open(damaged)).batch(64))
    assert caught.value.shard == 2 and caught.value.chunk == 1
    dataset = recordio.open(damaged, on_corrupt="skip")
    loader = ORDERS[order](dataset).batch(64)
    for _ in range(2):
        found = flat(map(numbers, loader))
        (lost,) = dataset.lost
        assert found == [n for n in range(COUNT) if not lost.start <= n < lost.stop]
        assert 0 < lost.stop - lost.start < 100
    dist = [recordio.distribute(loader, recordio.InputContext(2, i, 2)) for i in range(2)]
    steps = [[step["id"].values[0].tolist() for step in one] for one in dist]
    assert len(steps[0]) == len(steps[1]) == len(dist[0])
    assert flat(steps[0] + steps[1]) == found


def double(found: dict[str, Any]) -> dict[str, Any]:
    return {"id": found["id"], "twice": found["image"] * 2}


def noisy(found: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    return {"id": found["id"], "noise": rng.integers(0, 2**62)}


def batched(batch: dict[str, Any]) -> dict[str, Any]:
    return {"id": batch["id"], "sum": batch["image"].sum(axis=1)}


def failing(found: dict[str, Any]) -> dict[str, Any]:
    if found["id"] == 1234:
        raise ZeroDivisionError("no")
    return {"id": found["id"]}


def ragged(found: dict[str, Any]) -> Any:
    return found["id"], found["list"]


MAP_WAYS: dict[str, dict[str, Any]] = {
    "alone": {"workers": 0},
    "threads": {"workers": 2, "max_queue_size": 3},
    "processes": {"workers": 2, "use_multiprocessing": True},
}


@pytest.mark.parametrize("way", MAP_WAYS)
def test_maps_give_the_same_in_threads_and_processes(path: Path, way: str) -> None:
    """Also with a generator for every record, resumed in the middle, and for batches; outputs are checked."""
    dataset = ORDERS["pooled"](recordio.open(path))
    loader = dataset.map(noisy, rng=True).batch(100)
    expected = [(b["id"].tolist(), b["noise"].tolist()) for b in loader.with_options(workers=0)]
    loader = loader.with_options(**MAP_WAYS[way])
    iterator = iter(loader)
    found = [next(iterator) for _ in range(11)]
    state = iterator.state_dict()
    iterator.close()
    again = dataset.map(noisy, rng=True).batch(100).with_options(**MAP_WAYS[way])
    again.load_state_dict(state)
    found += list(again)
    assert [(b["id"].tolist(), b["noise"].tolist()) for b in found] == expected
    assert [b["noise"].tolist() for b in loader] != [noise for _, noise in expected]  # another epoch
    sums = list(dataset.batch(100).map(batched).with_options(**MAP_WAYS[way]))
    assert all((b["sum"] == 5 * b["id"].astype(np.float32)).all() for b in sums)
    pairs = dataset.map(ragged)
    assert [len(b[1]) for b in pairs.batch(1000).with_options(**MAP_WAYS[way])] == [1000] * 3


def test_a_tuple_is_unpacked_and_specs_are_found_or_declared(path: Path) -> None:
    """As tf.data does; element_spec is that of what the function returns, with a leading axis once batched."""
    dataset = recordio.open(path).select_columns(FIXED)
    pairs = dataset.map(lambda found: (found["id"], found["image"]))
    assert pairs.element_spec == (recordio.TensorSpec((), "int64"), recordio.TensorSpec((5,), "float32"))
    sums = pairs.map(lambda number, image: number + int(image.sum()))
    assert sums.element_spec == recordio.TensorSpec((), "int64")
    assert sums[7] == 7 + 35 and sums.batch(4)[1].tolist() == [n * 6 for n in range(4, 8)]
    assert sums.batch(4).element_spec == recordio.TensorSpec((None,), "int64")
    assert sums.batch(4, drop_remainder=True).element_spec == recordio.TensorSpec((4,), "int64")
    with pytest.raises(recordio.SignatureError, match=r"record 9|record 10") as caught:
        list(dataset.map(lambda found: np.zeros(3 if found["id"] < 9 else 4), output_signature=recordio.TensorSpec(
            (3,), "float64")).batch(8))  # fmt: skip
    assert caught.value.record == 9
    with pytest.raises(recordio.RequestError, match="output_signature"):
        dataset[:0].map(double).batch(4).element_spec  # noqa: B018  asking is enough


@pytest.mark.parametrize("way", MAP_WAYS)
def test_an_exception_in_a_map_comes_back_with_the_record(path: Path, way: str) -> None:
    """Its type is kept; batches before it were handed out."""
    loader = recordio.open(path).map(failing).batch(100).with_options(**MAP_WAYS[way])
    found = 0
    with pytest.raises(ZeroDivisionError) as caught:
        for _ in loader:
            found += 1
    assert found == 12
    assert any("record 1234" in note for note in caught.value.__notes__)


def test_a_function_that_cannot_travel_is_refused_before_a_process_is_started(path: Path) -> None:
    """And the advice says what to do."""
    loader = recordio.open(path).map(lambda found: found["id"]).batch(9)
    with pytest.raises(recordio.RequestError, match="worker process"):
        list(loader.with_options(workers=1, use_multiprocessing=True))


def killing(found: dict[str, Any]) -> dict[str, Any]:
    marker = os.environ["RECORDIO_TEST_MARKER"]
    if found["id"] == 1500 and (os.environ.get("RECORDIO_TEST_ALWAYS") or not os.path.exists(marker)):
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"id": found["id"]}


@pytest.mark.parametrize("replace", [False, True])
def test_a_killed_worker_is_an_error_within_five_seconds_or_replaced(path, replace, tmp_path, monkeypatch) -> None:
    """At the user's choice; the error says what it was doing."""
    monkeypatch.setenv("RECORDIO_TEST_MARKER", str(tmp_path / "killed"))
    signature = {"id": SPEC["id"]}
    loader = recordio.open(path).map(killing, output_signature=signature).batch(100)
    loader = loader.with_options(workers=2, use_multiprocessing=True, max_queue_size=4, replace_workers=replace)
    iterator = iter(loader)
    found, started = [], time.monotonic()
    if replace:
        for batch in iterator:
            found.extend(batch["id"].tolist())
        assert found == list(range(COUNT)) and iterator.stats()["num_deaths"] == 1
        return
    with pytest.raises(recordio.WorkerError, match="first of them record 1500"):
        for batch in iterator:
            found.extend(batch["id"].tolist())
            started = time.monotonic()
    assert time.monotonic() - started < 5
    assert found == list(range(len(found))) and len(found) <= 1500


def test_stats_say_where_the_time_went(path: Path) -> None:
    """Records, batches and bytes handed out; seconds waited, planned, read, verified, decoded, gathered and mapped."""
    loader = ORDERS["pooled"](recordio.open(path)).map(double).batch(100)
    iterator = iter(loader)
    for _ in range(10):
        next(iterator)
    stats = iterator.stats()
    assert (stats["records"], stats["batches"]) == (1000, 10)
    assert stats["bytes"] == 1000 * (8 + 20)
    list(iterator)
    stats = iterator.stats()
    assert (stats["records"], stats["batches"]) == (COUNT, 30)
    for name in ("waited_s", "plan_s", "read_s", "verify_s", "decode_s", "gather_s", "map_s", "assemble_s"):
        assert 0 < stats[name] < 60, name
    assert stats["waited_s"] <= stats["elapsed_s"]


@pytest.mark.parametrize("order", ["stored", "exact", "pooled", "backwards"])
@pytest.mark.parametrize("how", ["close", "drop", "with", "end"])
def test_nothing_is_left_of_an_iteration(path: Path, order: str, how: str) -> None:
    """No thread, no process and no file in shared memory, however it was left."""
    shared = set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()
    others = _ours()  # of tests before this one: the server that a conversion forks from
    loader = ORDERS[order](recordio.open(path)).map(double).batch(10)
    for options in MAP_WAYS.values():
        iterator = iter(loader.with_options(**options))
        next(iterator)
        if how == "close":
            iterator.close()
            assert next(iterator, None) is None
        elif how == "with":
            with iterator:
                next(iterator)
        elif how == "end":
            for _ in iterator:
                pass
        del iterator
        deadline = time.monotonic() + 10
        while (left := [one for one in _ours() if one not in others]) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not left
    if shared:
        assert set(os.listdir("/dev/shm")) <= shared


def _ours() -> list[Any]:
    gc.collect()
    return [t for t in threading.enumerate() if t.name.startswith("recordio")] + children()


INTERRUPTED = """
import os, signal, sys, threading, time
import recordio
def slow(found):
    time.sleep(0.05)
    return found["id"]
if __name__ == "__main__":
    loader = recordio.open(sys.argv[1]).shuffle(seed=0).map(slow, output_signature=recordio.TensorSpec((), "int64"))
    loader = loader.batch(400).with_options(workers=2, use_multiprocessing=sys.argv[2] == "1", max_queue_size=2)
    threading.Timer(3, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        for batch in loader:
            pass
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


@pytest.mark.parametrize("processes", ["0", "1"])
def test_ctrl_c_ends_promptly(path: Path, tmp_path: Path, processes: str) -> None:
    """Within seconds, with a KeyboardInterrupt, while workers are busy."""
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED)
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(script), str(path), processes], capture_output=True, text=True, timeout=60,
        env=os.environ | {"PYTHONPATH": str(Path(recordio.__file__).parents[1])},
    )  # fmt: skip
    assert "interrupted" in done.stdout, done.stderr
    # A thread cannot be killed: its batch of 400 times 0.05 s is waited for.
    assert time.monotonic() - started < (15 if processes == "1" else 45)


STILL_READING = """
import sys
import recordio
def same(found):
    return found
if __name__ == "__main__":
    ds = recordio.open(sys.argv[1])
    left = []
    for loader in (ds.batch(7), ds.shuffle(seed=0).batch(7), ds.shuffle(seed=0, mode="pooled").map(same).batch(7)):
        for processes in (False, True):
            left.append(iter(loader.with_options(workers=2, use_multiprocessing=processes)))
            next(left[-1])
    print("at the end", flush=True)
"""


def test_a_process_may_end_while_it_reads(path: Path, tmp_path: Path) -> None:
    """At once, and without a word."""
    script = tmp_path / "script.py"
    script.write_text(STILL_READING)
    done = subprocess.run(
        [sys.executable, str(script), str(path)], capture_output=True, text=True, timeout=60,
        env=os.environ | {"PYTHONPATH": str(Path(recordio.__file__).parents[1])},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "at the end\n", "")


def test_loaders_travel(path: Path) -> None:
    """To another process or back: what they read and where they are, in a few kilobytes, without what they hold."""
    loader = ORDERS["exact"](recordio.open(path)).batch(64)
    expected = [numbers(batch) for batch in loader]
    assert len(pickle.dumps(loader)) < 5_000
    copy = pickle.loads(pickle.dumps(loader))
    assert copy.state_dict() == loader.state_dict()
    copy.set_epoch(0)
    assert [numbers(batch) for batch in copy] == expected
    dist = recordio.distribute(loader, recordio.InputContext(1, 0, 2))
    assert len(pickle.loads(pickle.dumps(dist))) == len(dist)
    next(iter(dist))  # what it holds by now stays here
    one, other = (each[0]["id"].values[0].tolist() for each in (dist, pickle.loads(pickle.dumps(dist))))
    assert one == other


@pytest.mark.parametrize("order", ["exact", "pooled"])
def test_zipped_data_sets_stay_together(path: Path, order: str) -> None:
    """Records i of all are one tuple, shuffled together; as long as the shortest."""
    dataset = recordio.open(path)
    pairs = recordio.zip(dataset.select_columns("id"), dataset[:2000].select_columns("word"))
    assert len(pairs) == 2000 and pairs[3] == ({"id": 3}, {"word": "w3"})
    loader = ORDERS[order](pairs).batch(64)
    seen = []
    for left, right in loader:
        assert right["word"].to_list() == [f"w{number}" for number in left["id"]]
        seen.extend(left["id"].tolist())
    assert sorted(seen) == list(range(2000))
    with pytest.raises(recordio.RequestError, match=r"[Zz]ip first"):
        recordio.zip(dataset.shuffle(seed=0), dataset)


def test_padded_batches_are_arrays(path: Path) -> None:
    """Rows as long as the longest, or as asked; a longer row is an error that names the column."""
    dataset = recordio.open(path).select_columns(["id", "list", "word"])
    batch = dataset.padded_batch(4)[0]
    assert batch["list"].tolist() == [[0, 0, 0], [1, 0, 0], [2, 3, 0], [3, 4, 5]]
    assert batch["word"].tolist() == ["w0", "w1", "w2", "w3"]
    shapes = {"id": (), "list": (6,), "word": ()}
    batch = dataset.padded_batch(4, shapes, {"id": 0, "list": -1, "word": ""})[1]
    assert batch["list"].shape == (4, 6) and batch["list"][0].tolist() == [-1] * 6
    loader = dataset.padded_batch(4, shapes)
    assert loader.element_spec["list"] == recordio.TensorSpec((None, 6), "int32")
    with pytest.raises(recordio.RequestError, match="'list'"):
        list(dataset.padded_batch(4, {"id": (), "list": (2,), "word": ()}))
    with pytest.raises(recordio.RequestError, match="no int32"):
        dataset.padded_batch(4, padding_values={"id": 0, "list": 1.5, "word": ""})


def _one() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("misuse", "says"),
    [
        (lambda ds: ds.shuffle(10_000), "pool="),
        (lambda ds: ds.shuffle(seed=0).shuffle(seed=1), "Shuffle once"),
        (lambda ds: ds.repeat(2).shuffle(seed=0), "Shuffle first"),
        (lambda ds: ds.map(double).shuffle(seed=0), "Shuffle first"),
        (lambda ds: ds.shuffle(seed=0).take(5), "Split first"),
        (lambda ds: ds.shuffle(seed=0)[5:], "Split first"),
        (lambda ds: ds.shuffle(seed=0).batch(5).take(2), "Split first"),
        (lambda ds: ds.shuffle(seed=-1), "seed"),
        (lambda ds: ds.shuffle(mode="best"), "'pooled'"),
        (lambda ds: ds.shuffle(pool=0), "pool"),
        (lambda ds: ds.batch(0), "batch_size 0"),
        (lambda ds: ds.batch(5).batch(5), "Batch once"),
        (lambda ds: ds.batch(5).shuffle(seed=0), "shuffle"),
        (lambda ds: ds.filter(len), "subset"),
        (lambda ds: ds.flat_map(len), "before converting"),
        (lambda ds: ds.interleave(len), "shuffle"),
        (lambda ds: ds.batch(5).unbatch(), "Leave batch out"),
        (lambda ds: ds.shard(2, 2), "index 2"),
        (lambda ds: ds.take(-2), "count"),
        (lambda ds: ds.repeat(2).take(5), "Take them first"),
        (lambda ds: ds.map(double).select_columns("id"), "Select them first"),
        (lambda ds: ds.map(double, rng=True, batched=True), "rng"),
        (lambda ds: ds.with_options(threads=2), "workers"),
        (lambda ds: ds.prefetch(0), "max_queue_size"),
        (lambda ds: recordio.from_generator(_one, SPEC["id"]).batch(4), "Convert it"),
        (lambda ds: recordio.convert(ds.repeat(2), "never"), "repeat out"),
        (lambda ds: recordio.convert(ds.batch(2), "never"), "Leave batch out"),
    ],
)
def test_what_is_left_out_says_what_to_do_instead(path: Path, misuse: Any, says: str) -> None:
    """An error of ours, never an AttributeError, and never something else than was asked for."""
    with pytest.raises(recordio.RecordIOError, match=says):
        misuse(recordio.open(path))


def test_a_shuffle_can_be_converted(path: Path, tmp_path: Path) -> None:
    """In the order of epoch 0; maps are applied; a second shuffle of it is another order."""
    dataset = recordio.open(path).shuffle(seed=3)
    expected = [found["id"] for found in dataset]
    recordio.convert(dataset.map(double), tmp_path / "out", num_shards=3)
    found = [one["id"] for one in recordio.open(tmp_path / "out")]
    assert found == expected
    picked = recordio.open(path).subset([5, 3, 5])
    recordio.convert(picked, tmp_path / "picked")
    assert [one["id"] for one in recordio.open(tmp_path / "picked")] == [5, 3, 5]


def test_memory_that_runs_out_while_all_rows_are_put_together_is_raised(path: Path, monkeypatch) -> None:
    """Where nobody waits for the tasks themselves, a failure must not become a wait without an end."""

    def fail(*_: Any) -> Any:
        raise MemoryError("no more")

    monkeypatch.setattr("recordio.loading.held.HeldRows._assemble", fail)
    with pytest.raises(MemoryError):
        next(iter(ORDERS["exact"](recordio.open(path)).batch(64)))
