"""Conversion on a real Dask cluster, over TCP: the bytes of a local one, also when a worker dies in the middle."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import recordio
from recordio.cli.engines import versions
from recordio.cli.scripts import set_up_elsewhere
from recordio.convert import cluster as cluster_module
from recordio.convert.cluster import connected
from tests.clusters import Cluster, started_cluster, wait_until
from tests.convert import clustered, given

distributed = pytest.importorskip("distributed")
pytestmark = [pytest.mark.framework, pytest.mark.timeout(180)]

OPTIONS: dict[str, Any] = {"output_signature": given.SPEC, "chunk_size": 2000, "num_shards": 6}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two workers, for tests that leave them alive."""
    with started_cluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Any]:
    with distributed.Client(cluster.address, timeout=30, set_as_default=False) as found:
        yield found


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a local conversion."""
    path = tmp_path_factory.mktemp("alone") / "set"
    recordio.convert(given.shardable, path, **OPTIONS)
    return given.files(path)


SOURCES = {
    "shardable": lambda: given.shardable,
    "a closure": lambda: recordio.from_generator(lambda shard, num_shards: given.shardable(shard, num_shards)),
    "lists": lambda: recordio.from_generator(given.from_lists, args=(list(range(0, 1500, 50)), 50)),
    "PyDataset": given.Batches,
    "a list": lambda: list(given.plain()),
    "slices": lambda: recordio.from_tensor_slices(given.columns(0, 1500)),
    "from the front only": lambda: given.plain,
}


@pytest.mark.parametrize("kind", SOURCES)
def test_the_bytes_are_those_of_a_local_conversion(kind: str, client: Any, tmp_path: Path) -> None:
    """`client.get_executor()` is an executor like any other; a closure can go there too."""
    told: list[recordio.Progress] = []
    recordio.convert(SOURCES[kind](), tmp_path / "alone", **OPTIONS)
    recordio.convert(SOURCES[kind](), tmp_path / "set", executor=client.get_executor(), progress=told.append, **OPTIONS)
    assert given.files(tmp_path / "set") == given.files(tmp_path / "alone")
    assert told[-1].done_records == 1500 and told[-1].done_shards == 6


def test_the_shards_are_written_by_the_workers(cluster: Cluster, client: Any, tmp_path: Path) -> None:
    """By all of them, and not here."""
    spec = {"shard": recordio.TensorSpec((), "int64"), "process": recordio.TensorSpec((), "int64")}
    recordio.convert(
        clustered.who, tmp_path / "set", output_signature=spec, num_shards=40, executor=client.get_executor()
    )
    assert {int(record["process"]) for record in recordio.open(tmp_path / "set")} == cluster.worker_ids


def test_a_data_set_goes_to_workers_elsewhere(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named by a relative path, which means nothing there."""
    recordio.convert(given.shardable, tmp_path / "source", **OPTIONS)
    monkeypatch.chdir(tmp_path)
    recordio.convert(recordio.open("source"), "set", num_shards=3, executor=client.get_executor())
    recordio.convert(recordio.open("source"), "alone", num_shards=3)
    assert given.files("set") == given.files("alone")


def test_a_worker_that_is_killed_while_it_writes_costs_nothing(tmp_path: Path) -> None:
    """The other one writes its shard again; the torn file does not stand in the way."""
    path, place = tmp_path / "set", tmp_path / "place"
    place.mkdir()
    source = recordio.from_generator(clustered.stopping, args=(str(place),))

    def torn() -> list[Path]:
        return [file for file in path.glob(".unfinished/shard-00002-*.tmp") if file.stat().st_size > 2000]

    with (
        started_cluster(tmp_path / "cluster") as cluster,
        distributed.Client(cluster.address, timeout=30, set_as_default=False) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        done = pool.submit(recordio.convert, source, path, executor=client.get_executor(), **OPTIONS)
        wait_until(lambda: done.done() or ((place / "ready").exists() and bool(torn())))
        victim = int((place / "ready").read_text())
        assert victim in cluster.worker_ids and not done.done()
        (before,) = torn()
        os.kill(victim, signal.SIGKILL)
        (place / "go").touch()
        report = done.result(120)
        assert sum(worker.poll() is None for worker in cluster.workers) == 1
    assert report.num_resumed_shards == 0 and report.num_records == 12_000 and not before.exists()
    recordio.convert(source, tmp_path / "alone", **OPTIONS)
    assert given.files(path) == given.files(tmp_path / "alone")


def test_a_result_that_dies_with_its_worker_is_made_again(tmp_path: Path) -> None:
    """Between the end of a task and the fetching of what it gave."""
    go_on, log = threading.Event(), tmp_path / "log"
    with (
        started_cluster(tmp_path / "cluster") as cluster,
        distributed.Client(cluster.address, timeout=30, set_as_default=False) as client,
        cluster_module.ClusterExecutor(client) as executor,
    ):
        # Dask has one thread for all callbacks.
        held = client.submit(int, pure=False)
        held.add_done_callback(lambda _: go_on.wait(60))
        future = executor.submit(clustered.noted_process, str(log))
        wait_until(lambda: sum(bool(holders) for holders in client.who_has().values()) == 2)
        first = int(log.read_text())
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: len(client.nthreads()) == 1)
        go_on.set()
        assert {first, future.result(60)} == cluster.worker_ids


def test_what_failed_is_tried_again_and_not_remembered(
    client: Any, alone: dict[str, bytes], tmp_path: Path
) -> None:
    """Dask knows a task by what it is made of, as long as somebody holds its result."""
    path = tmp_path / "set"
    (tmp_path / "broken").touch()
    executor = client.get_executor()
    source = recordio.from_generator(clustered.failing, args=(str(tmp_path),))
    held = []
    submit = client.submit
    client.submit = lambda *args, **options: held.append(submit(*args, **options)) or held[-1]
    with pytest.raises(LookupError, match="no such image") as caught:
        recordio.convert(source, path, executor=executor, **OPTIONS)
    assert any("record 0 of shard 1" in note for note in caught.value.__notes__)
    (tmp_path / "broken").unlink()
    for how in ({"resume": True}, {"overwrite": True}):
        recordio.convert(source, path, executor=executor, **how, **OPTIONS)
        assert given.files(path) == alone
    assert len({future.key for future in held}) == len(held) > 12


def test_what_cannot_be_sent_is_an_error_that_leaves_nothing(client: Any, tmp_path: Path) -> None:
    """An open file, a lock: no pickle takes them."""
    lock = threading.Lock()

    def source(shard: int, num_shards: int) -> Iterator[Any]:
        with lock:
            yield from given.shardable(shard, num_shards)

    with pytest.raises(recordio.SourceError, match=r"cannot be sent to a worker: cannot pickle '_thread\.lock'"):
        recordio.convert(source, tmp_path / "set", executor=client.get_executor(), **OPTIONS)
    assert not (tmp_path / "set").exists()


def test_a_task_that_kills_its_workers_is_given_up_by_name(tmp_path: Path) -> None:
    """KilledWorker is Dask's word for it; what others have finished is kept."""
    with (
        started_cluster(tmp_path / "cluster", allowed_failures=0) as cluster,
        distributed.Client(cluster.address, timeout=30, set_as_default=False) as client,
    ):
        with pytest.raises(recordio.WorkerError, match="every worker that tried shard 1 has died") as caught:
            recordio.convert(clustered.deadly, tmp_path / "set", executor=client.get_executor(), **OPTIONS)
        assert type(caught.value.__cause__).__name__ == "KilledWorker"
    with pytest.raises(recordio.IncompleteError):
        recordio.open(tmp_path / "set")


def test_a_scheduler_that_dies_is_an_error_and_no_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By both doors; the conversion can be gone on with."""
    for door in ("executor", "connected"):
        path, place = tmp_path / door, tmp_path / f"{door} place"
        place.mkdir()
        source = recordio.from_generator(clustered.stopping, args=(str(place),))
        monkeypatch.setattr(cluster_module, "PATIENCE_S", 2.0)
        monkeypatch.setattr(cluster_module, "_LOOK_S", 0.2)
        with started_cluster(tmp_path / f"{door} cluster") as cluster, ThreadPoolExecutor(1) as pool:

            def kill(cluster: Cluster = cluster, place: Path = place) -> None:
                wait_until((place / "ready").exists)
                cluster.scheduler.kill()

            killed = pool.submit(kill)
            if door == "executor":
                with distributed.Client(cluster.address, timeout=10, set_as_default=False) as client:
                    with pytest.raises(recordio.WorkerError):
                        recordio.convert(source, path, executor=client.get_executor(), **OPTIONS)
            else:
                with pytest.raises(recordio.WorkerError), connect(cluster.address) as executor:
                    recordio.convert(source, path, executor=executor, **OPTIONS)
            killed.result(60)
        (place / "go").touch()
        recordio.convert(source, path, resume=True, **OPTIONS)
        assert len(recordio.open(path)) == 12_000


def connect(address: str) -> Any:
    return connected(address, partial(set_up_elsewhere, (), os.getcwd()), versions)


def test_a_cluster_without_any_worker_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last worker died, and nobody starts another one; a cluster of the caller's own may wait for one for ever."""
    monkeypatch.setattr(cluster_module, "PATIENCE_S", 1.0)
    monkeypatch.setattr(cluster_module, "_LOOK_S", 0.1)
    with started_cluster(tmp_path / "cluster", num_workers=1) as cluster:
        with pytest.raises(recordio.WorkerError, match="had no worker for 1 s"), connect(cluster.address) as executor:
            recordio.convert(clustered.deadly, tmp_path / "set", executor=executor, **OPTIONS)
        monkeypatch.setattr(cluster_module, "CONNECT_TIMEOUT_S", 1.0)
        with pytest.raises(ConnectionError, match="has no worker"), connect(cluster.address):
            pass


class OldClient:
    """A client whose workers have another version."""

    def wait_for_workers(self, *_: Any, **__: Any) -> None:
        pass

    def run(self, fn: Any) -> dict[str, dict[str, str]]:
        return {"tcp://a:1": fn(), "tcp://b:2": {**fn(), "zstd": "1.4.0"}}


class ClientOfOthers(OldClient):
    """A client whose workers have never heard of recordio."""

    def run(self, fn: Any) -> Any:
        raise Exception("ModuleNotFoundError(\"No module named 'recordio'\")")


def test_workers_of_another_version_are_refused() -> None:
    """Their bytes might be others; the error names worker and versions. So are workers without recordio."""
    with pytest.raises(recordio.WorkerError, match=r"tcp://b:2 has recordio .*, zstd 1\.4\.0, and here is"):
        cluster_module._check_workers(OldClient(), "tcp://s:8786", versions)
    with pytest.raises(recordio.WorkerError, match=r"cannot say which recordio.*No module named 'recordio'"):
        cluster_module._check_workers(ClientOfOthers(), "tcp://s:8786", versions)
