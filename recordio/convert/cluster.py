"""A Dask cluster as the executor of a conversion.

    connected(address), or a client of the user's -> ClusterExecutor
    a task, packed -> scheduler -> worker: prepare, unpack, run -> a finished shard

Tasks are packed here and unpacked when `prepare` has run in the worker: a source may come from a script that cannot be
imported there as it is. What is sent are parts of the source and what they are made of; what comes back is an entry of
the index. The shards themselves are written to a file system that all workers see.

A worker that dies loses its task, and the scheduler gives it to another one; two attempts at one task do each other no
harm (spec/format.md, section 9). Dask's own executor (`Client.get_executor`) is not used: it loses a task whose result
cannot be fetched, and whoever waits for that waits for ever.

distributed is imported when a cluster is connected to.
"""

from __future__ import annotations

import errno
import pickle
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, InvalidStateError
from contextlib import contextmanager, suppress
from functools import partial
from types import TracebackType
from typing import Any

from recordio.errors import RequestError, SourceError, WorkerError

CONNECT_TIMEOUT_S = 5.0     # for the scheduler to answer, and for a first worker to be there
PATIENCE_S = 60.0           # without any worker, before a cluster that we have connected to is given up
_LOOK_S = 2.0               # between two looks at it


class ClusterExecutor(Executor):
    """Runs tasks on the workers of a Dask cluster; use it in a `with` block, which watches the cluster.

    Args:
        client: of the cluster; stays open.
        prepare: called in a worker before each task; picklable, and known to a worker that has recordio.
        patience_s: seconds without any worker before all is given up; None waits for one for ever.
        options: more keywords for `client.submit`.
    """

    def __init__(
        self, client: Any, *, prepare: Callable[[], object] | None = None, patience_s: float | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.num_tasks = 0      # that were sent
        self._client = client
        self._prepare = prepare
        self._patience_s = patience_s
        # Dask knows a task by what it is made of, unless it is told that equal ones are to be done all the same.
        self._options = {**(options or {}), "pure": False}
        self._pending: set[Future[Any]] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._watch = threading.Thread(target=self._look, name="recordio-cluster-watch", daemon=True)

    def __enter__(self) -> ClusterExecutor:
        self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()

    def num_threads(self) -> int:
        """Of all workers, now."""
        found = self._client.nthreads()
        return sum(found.values())

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Send a task.

        Raises:
            SourceError: it cannot be packed.
        """
        there = self._client.submit(run_packed, self._prepare, _pack(partial(fn, *args, **kwargs)), **self._options)
        here: Future[Any] = Future()
        with self._lock:
            self.num_tasks += 1
            self._pending.add(here)
        here.add_done_callback(partial(self._ended, there))
        there.add_done_callback(partial(_hand_on, here))
        return here

    def _ended(self, there: Any, here: Future[Any]) -> None:
        with self._lock:
            self._pending.discard(here)
        if here.cancelled():
            there.cancel()

    def _look(self) -> None:
        """Watch the cluster; what it has lost is told whoever waits for it."""
        last_seen = time.monotonic()
        while not self._closed.wait(_LOOK_S):
            if self._client.status in ("closing", "closed"):
                self._give_up("the connection to the scheduler is lost")
                return
            if self._patience_s is None or _has_workers(self._client):
                last_seen = time.monotonic()
            elif time.monotonic() - last_seen > self._patience_s:
                self._give_up(f"the cluster has had no worker for {self._patience_s:.0f} s")
                return

    def _give_up(self, why: str) -> None:
        with self._lock:
            pending = list(self._pending)
        for future in pending:
            _fail(future, why)


@contextmanager
def connected(
    address: str, prepare: Callable[[], object], versions: Callable[[], dict[str, str]]
) -> Iterator[ClusterExecutor]:
    """Connect to a scheduler, and check that its workers can do what they will be asked for.

    Args:
        address: such as tcp://host:8786.
        prepare: as for `ClusterExecutor`.
        versions: of what decides the bytes, in the process that calls it; sent like `prepare`.

    Raises:
        OSError: nobody answers there within a few seconds, or no worker is connected.
        WorkerError: a worker has no recordio, or another version of it or of zstd.
        RequestError: that is no address.
        ImportError: Dask is not installed.
    """
    from distributed import Client
    from distributed.comm import get_address_host_port

    try:
        # By the client itself it is not asked for before there is half of one, which takes long to go.
        get_address_host_port(address)
        client = Client(address, timeout=CONNECT_TIMEOUT_S, set_as_default=False)
    except ValueError as error:
        raise RequestError(
            f"{address!r} is no address of a scheduler: {error}",
            advice="Write it as the scheduler prints it: tcp://host:8786",
        ) from None
    except (OSError, TimeoutError) as error:
        unreachable = TimeoutError(
            errno.ETIMEDOUT, f"no Dask scheduler has answered within {CONNECT_TIMEOUT_S:.0f} s", address
        )
        unreachable.add_note("recordio: `dask scheduler` starts one, and prints its address")
        raise unreachable from error
    try:
        _check_workers(client, address, versions)
        with ClusterExecutor(client, prepare=prepare, patience_s=PATIENCE_S) as executor:
            yield executor
    finally:
        client.close()


def run_packed(prepare: Callable[[], object] | None, payload: bytes) -> Any:
    """In a worker: run a task that `ClusterExecutor` has packed."""
    if prepare is not None:
        prepare()
    return pickle.loads(payload)()  # noqa: S301  from our own client, by way of a scheduler that could run anything


def _pack(task: Callable[[], Any]) -> bytes:
    import cloudpickle  # Dask needs it too

    try:
        payload: bytes = cloudpickle.dumps(task)
    except Exception as error:
        raise SourceError(
            f"the source cannot be sent to a worker: {error}",
            advice="Let it open files, connections and locks where it reads, not where it is made",
        ) from error
    return payload


def _hand_on(here: Future[Any], there: Any) -> None:
    """Give what a task came to, or what became of it, to whoever waits for it."""
    if here.done():
        return
    try:
        # A result may be lost with its worker before it is fetched: then this waits until it is made again.
        result = there.result()
    except BaseException as error:  # noqa: BLE001  raised by whoever waits
        if there.status == "error":
            with suppress(InvalidStateError):
                here.set_exception(error)
        elif there.status == "cancelled":
            _fail(here, "a task was cancelled: the scheduler has ended, or somebody has cancelled it there")
        else:
            _fail(here, f"the result of a task cannot be fetched: {error}")
        return
    with suppress(InvalidStateError):
        here.set_result(result)


def _fail(future: Future[Any], why: str) -> None:
    with suppress(InvalidStateError):
        future.set_exception(
            WorkerError(why, advice="Look into the logs of scheduler and workers; what is finished is kept")
        )


def _has_workers(client: Any) -> bool:
    try:
        return bool(client.nthreads())
    except Exception:  # noqa: BLE001  whatever a connection that is lost raises; the answer is no
        return False


def _check_workers(client: Any, address: str, versions: Callable[[], dict[str, str]]) -> None:
    try:
        client.wait_for_workers(1, timeout=CONNECT_TIMEOUT_S)
    except TimeoutError as error:
        alone = ConnectionError(errno.ENOTCONN, "the Dask scheduler there has no worker", address)
        alone.add_note(f"recordio: `dask worker {address}` starts one")
        raise alone from error
    mine = versions()
    try:
        found = client.run(versions)
    except Exception as error:
        # Of what a worker raises while it unpacks a call, some versions of Dask keep the text alone.
        raise WorkerError(
            f"a worker of {address} cannot say which recordio it has: {error}",
            advice="Install the same version of recordio on every machine",
        ) from error
    for worker, its in found.items():
        if its != mine:
            texts = [", ".join(f"{name} {version}" for name, version in one.items()) for one in (its, mine)]
            raise WorkerError(
                f"the worker {worker} has {texts[0]}, and here is {texts[1]}: the bytes would not be the same",
                advice="Install the same versions on every machine",
            )
