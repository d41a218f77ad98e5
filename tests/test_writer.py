"""Writing: nothing half-written looks complete, whatever ends the writer; and the same input gives the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio.storage import LocalStorage
from tests.counting import FailingStorage
from tests.laws.data_sets import files_of, fresh_directory

SPEC = {"id": recordio.TensorSpec((), "int32"), "word": recordio.TensorSpec((), "str")}


def record(number: int) -> dict[str, Any]:
    return {"id": number, "word": f"w{number}"}


def write(path: Path, numbers: range, **options: Any) -> Path:
    with recordio.Writer(path, SPEC, **options) as writer:
        for number in numbers:
            writer.write(record(number))
    return path


def ids(path: Path) -> list[int]:
    return [int(found["id"]) for found in recordio.open(path)]


@pytest.fixture(params=[{"shard_size": 100}, {"num_shards": 3}, {}], ids=["by size", "by number", "one shard"])
def sharding(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(request.param, chunk_size=60)


# -- what ends a writer --


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("written", [0, 3, 50])
def test_an_exception_leaves_nothing(
    tmp_path: Path, sharding: dict[str, Any], error: type[BaseException], written: int
) -> None:
    """Not even the directory, if it was not there before (design.md, section 2)."""
    path = tmp_path / "deep" / "set"
    with pytest.raises(error):
        with recordio.Writer(path, SPEC, **sharding) as writer:
            for number in range(written):
                writer.write(record(number))
            raise error
    assert not path.exists()


@pytest.mark.parametrize("written", [0, 3, 50])
def test_an_exception_leaves_the_old_data_set_as_it_was(tmp_path: Path, sharding: dict[str, Any], written: int) -> None:
    """Every file of it, byte for byte, and nothing beside it."""
    path = write(tmp_path / "set", range(10, 40), **sharding)
    before = files_of(path)
    with pytest.raises(ValueError):
        with recordio.Writer(path, SPEC, overwrite=True, **sharding) as writer:
            for number in range(written):
                writer.write(record(number))
            raise ValueError
    assert files_of(path) == before
    assert ids(path) == list(range(10, 40))


def test_nothing_can_be_read_before_the_end(tmp_path: Path, sharding: dict[str, Any]) -> None:
    """`open` of a data set in the making is an error that says who is writing."""
    path = tmp_path / "set"
    with recordio.Writer(path, SPEC, **sharding) as writer:
        for number in range(100):
            writer.write(record(number))
            if number % 20 == 0:
                with pytest.raises(recordio.IncompleteError, match=f"process {os.getpid()} on "):
                    recordio.open(path)
    assert ids(path) == list(range(100))


def test_overwriting_leaves_the_old_one_readable_until_the_end(tmp_path: Path, sharding: dict[str, Any]) -> None:
    """And removes its shards after the commit."""
    path = write(tmp_path / "set", range(10), **sharding)
    old = set(files_of(path))
    with recordio.Writer(path, SPEC, overwrite=True, **sharding) as writer:
        for number in range(100, 200):
            writer.write(record(number))
            assert ids(path) == list(range(10))
    assert ids(path) == list(range(100, 200))
    names = {file.name for file in path.iterdir()}
    assert names == {"index.rix"} | {shard.name for shard in recordio.open(path).shards}
    assert not names & old - {"index.rix"}


def test_an_identical_overwrite_keeps_the_files(tmp_path: Path, sharding: dict[str, Any]) -> None:
    """Inode and time of every shard."""
    path = write(tmp_path / "set", range(30), **sharding)
    before = {file.name: file.stat() for file in path.glob("*.rio")}
    write(path, range(30), overwrite=True, **sharding)
    after = {file.name: file.stat() for file in path.glob("*.rio")}
    assert {name: (found.st_ino, found.st_mtime_ns) for name, found in before.items()} == {
        name: (found.st_ino, found.st_mtime_ns) for name, found in after.items()
    }
    assert ids(path) == list(range(30))


def test_without_overwrite_the_old_one_stays(tmp_path: Path) -> None:
    """A data set, or somebody's files, is not replaced by accident."""
    path = write(tmp_path / "set", range(3))
    before = files_of(path)
    with pytest.raises(recordio.RequestError, match="overwrite=True"):
        write(path, range(4))
    assert files_of(path) == before
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"meow")
    for overwrite in (False, True):
        with pytest.raises(recordio.RequestError, match=r"cat\.jpg"):
            write(tmp_path / "photos", range(4), overwrite=overwrite)
    assert files_of(tmp_path / "photos") == {"cat.jpg": b"meow"}
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(recordio.RequestError, match="a file is there"):
        write(tmp_path / "file", range(4))


# -- the disk --


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, sharding: dict[str, Any]) -> None:
    """At whatever byte it is full: the old data set, or no data set."""
    with fresh_directory() as directory:
        path = write(directory / "set", range(10), **sharding)
        before = files_of(path)
        space, done = 0, False
        while not done:
            try:
                write(path, range(50, 70), overwrite=True, _storage=FailingStorage(space=space), **sharding)
                done = True
            except OSError as error:
                assert error.errno == 28
                assert files_of(path) == before
            if space % 400 == 0:
                with pytest.raises(OSError):
                    write(directory / "other", range(50, 70), _storage=FailingStorage(space=space), **sharding)
                assert not (directory / "other").exists()
            space += 80 if space else 1
        assert ids(path) == list(range(50, 70))


@pytest.mark.parametrize("operation", ["create", "rename", "make_directory", "sync_directory"])
def test_a_directory_that_cannot_be_written_leaves_what_was_there(sharding: dict[str, Any], operation: str) -> None:
    """Whichever call it is that fails: the old data set or the new one, whole, and no other file."""
    with fresh_directory() as directory:
        path = directory / "set"
        for count in range(1000):
            write(path, range(10), overwrite=True, **sharding)
            before = files_of(path)
            try:
                write(
                    path,
                    range(50, 60),
                    overwrite=True,
                    _storage=FailingStorage(fail=operation, after=count),
                    **sharding,
                )
                break
            except PermissionError:
                if ids(path) == list(range(10)):
                    assert files_of(path) == before
                else:
                    # Only the commit itself had gone through.
                    assert operation == "sync_directory" and ids(path) == list(range(50, 60))
                assert {file.name for file in path.iterdir()} == {"index.rix"} | {
                    s.name for s in recordio.open(path).shards
                }
        assert 0 < count < 100


def test_a_write_that_failed_half_way_cannot_be_committed(sharding: dict[str, Any]) -> None:
    """Even if the caller catches the error and goes on: a part of a chunk may be missing."""
    with fresh_directory() as directory:
        path = write(directory / "set", range(10), **sharding)
        before = files_of(path)
        storage = FailingStorage(space=3000)
        caught = 0
        with pytest.raises(recordio.RequestError, match="No space left"):
            with recordio.Writer(path, SPEC, overwrite=True, workers=1, _storage=storage, **sharding) as writer:
                for number in range(3000):
                    try:
                        writer.write(record(number))
                    except OSError:
                        caught += 1
                        storage.space = None
                    except recordio.RequestError:
                        caught += 1
        assert caught > 1
        assert files_of(path) == before


class KillingStorage(LocalStorage):
    """Ends the process, as SIGKILL does, before the n-th thing that it does to the disk."""

    def __init__(self, count: int) -> None:
        self.count = count

    def _tick(self) -> None:
        self.count -= 1
        if self.count < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def create(self, path: str, *, keep: int = 0) -> Any:
        self._tick()
        return super().create(path, keep=keep)

    def rename(self, old: str, new: str) -> None:
        self._tick()
        super().rename(old, new)

    def sync_directory(self, path: str) -> None:
        self._tick()
        super().sync_directory(path)

    def make_directory(self, path: str) -> None:
        self._tick()
        super().make_directory(path)

    def remove(self, path: str) -> None:
        self._tick()
        super().remove(path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("old", [False, True], ids=["new", "over an old one"])
def test_a_killed_writer_leaves_the_old_one_or_the_new_one(sharding: dict[str, Any], old: bool) -> None:
    """Killed before each thing that it does to the disk; the next writer needs no help (spec/format.md, section 9)."""
    with fresh_directory() as directory:
        outcomes = set()
        for count in range(1000):
            path = directory / f"set{count}"
            if old:
                write(path, range(10), **sharding)
            pid = os.fork()
            if not pid:
                try:
                    write(path, range(50, 60), overwrite=old, workers=1, _storage=KillingStorage(count), **sharding)
                finally:
                    os._exit(0)
            if os.waitpid(pid, 0)[1] == 0:
                break
            try:
                found = ids(path)
                assert found in ([list(range(10))] if old else []) + [list(range(50, 60))]
                outcomes.add(found[0])
            except (recordio.IncompleteError, recordio.NotRecordIOError, FileNotFoundError):
                assert not old
                outcomes.add(-1)
            unfinished = (path / ".unfinished").exists()
            write(path, range(70, 80), overwrite=old or 50 in outcomes, **sharding)
            assert ids(path) == list(range(70, 80))
            assert {file.name for file in path.iterdir()} == {"index.rix"} | {
                s.name for s in recordio.open(path).shards
            }, unfinished
        assert count > 5
        assert outcomes == {0 if old else -1, 50}


# -- two writers --


def test_a_second_writer_is_told_who_holds_the_first(tmp_path: Path) -> None:
    """In the same process: by process id and host."""
    import socket

    with recordio.Writer(tmp_path / "set", SPEC) as writer:
        for overwrite in (False, True):
            with pytest.raises(
                recordio.LockedError, match=f"process {os.getpid()} on {socket.gethostname()}"
            ) as caught:
                write(tmp_path / "set", range(3), overwrite=overwrite)
            assert caught.value.path == str(tmp_path / "set")
        writer.write(record(1))
    assert ids(tmp_path / "set") == [1]
    write(tmp_path / "set", range(3), overwrite=True)
    assert ids(tmp_path / "set") == [0, 1, 2]


def test_a_second_writer_in_another_process_is_told_too(tmp_path: Path) -> None:
    """The lock ends with its process, even when that is killed."""
    script = (
        "import recordio, sys\n"
        "with recordio.Writer(sys.argv[1], recordio.TensorSpec((), 'int32')) as writer:\n"
        "    writer.write(1)\n"
        "    print('open', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "set")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )
    try:
        assert other.stdout is not None and other.stdout.readline() == b"open\n"
        with pytest.raises(recordio.LockedError, match=f"process {other.pid} on "):
            write(tmp_path / "set", range(3))
        with pytest.raises(recordio.IncompleteError, match=f"process {other.pid} on "):
            recordio.open(tmp_path / "set")
    finally:
        other.kill()
        other.communicate()
    with pytest.raises(recordio.IncompleteError):
        recordio.open(tmp_path / "set")
    write(tmp_path / "set", range(3))
    assert ids(tmp_path / "set") == [0, 1, 2]


def test_a_polling_reader_does_not_get_in_the_way(tmp_path: Path) -> None:
    """Readers ask who is writing; a writer that begins at that moment begins all the same."""
    path = tmp_path / "set"
    path.mkdir()
    ended = threading.Event()
    seen = []

    def poll() -> None:
        while not ended.is_set():
            try:
                seen.append(ids(path))
            except (recordio.IncompleteError, recordio.NotRecordIOError) as error:
                seen.append(type(error).__name__)

    readers = [threading.Thread(target=poll) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(30):
            with pytest.raises(ZeroDivisionError):
                with recordio.Writer(path, SPEC) as writer:
                    writer.write(record(1))
                    _ = 1 // 0
            path.mkdir(exist_ok=True)
    finally:
        ended.set()
        for reader in readers:
            reader.join()
    assert {"IncompleteError"} <= set(map(str, seen)) <= {"IncompleteError", "NotRecordIOError"}


# -- the calls --


def test_a_refused_record_is_absent_and_the_writer_goes_on(tmp_path: Path, sharding: dict[str, Any]) -> None:
    """Refused when it is written, with its number in the source; the others are there."""
    path = tmp_path / "set"
    with recordio.Writer(path, SPEC, **sharding) as writer:
        for number in range(30):
            writer.write(record(number))
            with pytest.raises(recordio.SignatureError) as caught:
                writer.write({"id": 2**40, "word": "x"})
            assert caught.value.record == number + 1 and caught.value.column == "id"
            with pytest.raises(recordio.SignatureTypeError):
                writer.write({"id": 1, "word": b"x"})
            with pytest.raises(recordio.SignatureError):
                writer.write({"id": 1})
        with pytest.raises(recordio.SignatureError) as caught:
            writer.write_batch({"id": [1, 2, 2**31], "word": ["a", "b", "c"]})
        assert caught.value.record == 32
        writer.write_batch({"id": [30, 31], "word": ["a", "b"]})
        assert writer.num_records == 32
    assert ids(path) == list(range(32))


def test_records_are_copied_before_write_returns(tmp_path: Path) -> None:
    """The caller may use its memory again at once."""
    spec = {
        "a": recordio.TensorSpec((3,), "int64"),
        "b": recordio.TensorSpec((None,), "int64"),
        "c": recordio.MsgpackSpec(),
    }
    array, listed = np.zeros(3, np.int64), [0]
    with recordio.Writer(tmp_path / "set", spec) as writer:
        for number in range(50):
            array[:], listed[0] = number, number
            writer.write({"a": array, "b": array, "c": listed})
            writer.write_batch({"a": array[None], "b": array[None], "c": [listed]})
    for number, found in enumerate(recordio.open(tmp_path / "set")):
        assert found["a"].tolist() == found["b"].tolist() == [number // 2] * 3 and found["c"] == [number // 2]


def test_a_writer_is_used_inside_its_with_block(tmp_path: Path) -> None:
    """Before and after it, writing is refused, and nothing is made on disk."""
    writer = recordio.Writer(tmp_path / "set", SPEC)
    with pytest.raises(recordio.RequestError, match="not open"):
        writer.write(record(1))
    assert not (tmp_path / "set").exists()
    with writer:
        writer.write(record(1))
    for call in (lambda: writer.write(record(2)), lambda: writer.write_batch({"id": [2], "word": ["b"]})):
        with pytest.raises(recordio.RequestError, match="not open"):
            call()
    assert ids(tmp_path / "set") == [1]


@pytest.mark.parametrize(
    "options",
    [
        {"num_shards": 0}, {"num_shards": -1}, {"num_shards": 2.0}, {"num_shards": 2, "shard_size": 5},
        {"num_shards": 1 << 21}, {"shard_size": 0}, {"shard_size": "1MB"}, {"chunk_size": 0}, {"chunk_size": 1.5},
        {"chunk_size": 1 << 31}, {"frame_size": 0}, {"frame_size": None}, {"codec": "gzip"}, {"codec": None},
        {"codec": ["zstd"]}, {"level": 0}, {"level": 23}, {"level": 3.5}, {"workers": 0}, {"workers": -1},
        {"metadata": [1]}, {"metadata": []}, {"metadata": {"a": (1, 2)}}, {"metadata": {"a": {1, 2}}},
        {"metadata": {"a": np.int64(3)}}, {"metadata": {"a": 2 ** 64}}, {"metadata": {"a": b"x" * (17 << 20)}},
        {"metadata": {"\ud800": 1}},
    ],
    ids=lambda options: str(options)[:40],
)  # fmt: skip
def test_options_that_cannot_be_meant_are_refused_at_once(tmp_path: Path, options: dict[str, Any]) -> None:
    """When the writer is made, before anything is on disk (style.md, section 6)."""
    with pytest.raises(recordio.RequestError):
        recordio.Writer(tmp_path / "set", SPEC, **options)
    assert not (tmp_path / "set").exists()


def test_metadata_comes_back(tmp_path: Path) -> None:
    """Whatever is JSON-like, bytes and other keys as well; the caller's own copy each time."""
    metadata = {"name": "né", "n": [1, 2.5, None, True, {"deep": b"\0"}], 3: "three", "": {}}
    ds = recordio.open(write(tmp_path / "set", range(3), metadata=metadata))
    assert ds.metadata == metadata
    ds.metadata["n"].clear()
    assert ds.metadata == metadata
    assert recordio.open(tmp_path / "set" / ds.shards[0].name).metadata == metadata


# -- the bytes --


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, sharding: dict[str, Any]) -> None:
    """Whatever the workers, and run after run."""
    expected = files_of(write(tmp_path / "first", range(500), **sharding))
    for count, workers in enumerate((1, 1, 2, 4)):
        assert files_of(write(tmp_path / str(count), range(500), workers=workers, **sharding)) == expected


@pytest.mark.parametrize("how", [{"num_shards": 1}, {"num_shards": 4}, {"shard_size": 10}, {}])
def test_no_records_are_a_data_set_too(tmp_path: Path, how: dict[str, Any]) -> None:
    """With as many shards as were asked for."""
    ds = recordio.open(write(tmp_path / "set", range(0), **how))
    assert len(ds) == 0 and list(ds) == [] and list(ds.batch(3)) == [] and len(ds.batch(3)) == 0 and len(ds[:]) == 0
    assert len(ds.shards) == how.get("num_shards", 1)
    assert ds[[]]["id"].shape == (0,) and len(ds[[]]["word"]) == 0
    assert list(reversed(ds)) == []
    for key in (0, -1, [0]):
        with pytest.raises(IndexError):
            ds[key]
    for shard in ds.shards:
        assert len(recordio.open(tmp_path / "set" / shard.name)) == 0


@pytest.mark.parametrize(
    ("records", "shards", "expected"), [(10, 4, [3, 3, 2, 2]), (3, 5, [1, 1, 1, 0, 0]), (8, 2, [4, 4]), (7, 1, [7])]
)
def test_num_shards_gives_equal_ranges(tmp_path: Path, records: int, shards: int, expected: list[int]) -> None:
    """Consecutive ranges, sizes differing by one at most, larger first."""
    ds = recordio.open(write(tmp_path / "set", range(records), num_shards=shards, chunk_size=40))
    assert [shard.num_records for shard in ds.shards] == expected
    assert [record["id"] for record in ds] == list(range(records))


def test_a_shard_holds_256_mib_by_default(tmp_path: Path) -> None:
    """Of raw bytes, to the record."""
    batch = np.zeros((32, 1 << 20), np.uint8)
    with recordio.Writer(
        tmp_path / "set", recordio.TensorSpec((1 << 20,), "uint8"), level=1, chunk_size=8 << 20, frame_size=1 << 20
    ) as writer:
        for _ in range(8):
            writer.write_batch(batch)
        writer.write(batch[0])
    assert [shard.num_records for shard in recordio.open(tmp_path / "set").shards] == [256, 1]


def test_a_higher_level_takes_less_room(tmp_path: Path) -> None:
    """The records are the same, the bytes are not."""
    low, high = (write(tmp_path / str(level), range(20_000), level=level) for level in (1, 19))
    sizes = [sum(shard.stored_size for shard in recordio.open(path).shards) for path in (low, high)]
    assert sizes[1] < 0.95 * sizes[0]
    assert ids(low) == ids(high) == list(range(20_000))


# -- threads, forks, directories --


@pytest.mark.parametrize("batched", [False, True])
def test_threads_may_share_a_writer(tmp_path: Path, batched: bool) -> None:
    """Every record of every thread is stored once, those of a thread in its order."""
    num_threads, count = 6, 20_000

    def work(thread: int) -> None:
        numbers = range(thread * count, (thread + 1) * count)
        if batched:
            for start in range(0, count, 100):
                writer.write_batch(np.array(numbers[start : start + 100], np.int64))
        else:
            for number in numbers:
                writer.write(number)

    with recordio.Writer(tmp_path / "set", recordio.TensorSpec((), "int64"), chunk_size=4000) as writer:
        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(num_threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert writer.num_records == num_threads * count
    found = np.concatenate(list(recordio.open(tmp_path / "set").batch(1000)))
    assert sorted(found.tolist()) == list(range(num_threads * count))
    for thread in range(num_threads):
        own = found[found // count == thread]
        assert (np.diff(own) == 1).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("how", ["leaves", "raises", "writes"])
def test_a_fork_cannot_harm_what_its_parent_writes(tmp_path: Path, how: str) -> None:
    """Left in the child, the block neither commits nor removes; and a write there is an error, not a hang."""
    path = tmp_path / "set"
    pid = -1
    status = 1
    try:
        with recordio.Writer(path, SPEC, chunk_size=60) as writer:
            for number in range(100):
                writer.write(record(number))
            pid = os.fork()
            if pid == 0:
                if how == "raises":
                    raise SystemExit(0)
                if how == "writes":
                    try:
                        writer.write(record(0))
                    except recordio.RequestError:
                        status = 0
            else:
                assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
                writer.write(record(100))
        if how == "leaves":
            status = 0
    except SystemExit:
        status = 0
    finally:
        if pid == 0:
            os._exit(status)
    assert ids(path) == list(range(101))


def test_a_relative_path_is_where_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that changes its directory inside the block loses nothing."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with recordio.Writer("set", SPEC) as writer:
        writer.write(record(0))
        monkeypatch.chdir(tmp_path / "elsewhere")
        writer.write(record(1))
    assert ids(tmp_path / "set") == [0, 1]
    with recordio.Writer(os.fsencode(tmp_path / "bytes"), SPEC) as writer:  # type: ignore[arg-type]
        writer.write(record(2))
    assert [found["id"] for found in recordio.open(os.fsencode(tmp_path / "bytes"))] == [2]  # type: ignore[arg-type]
    with pytest.raises(recordio.RequestError, match="empty"):
        recordio.Writer("", SPEC)


def test_whoever_opens_too_early_is_told_to_wait(tmp_path: Path) -> None:
    with recordio.Writer(tmp_path / "set", SPEC) as writer:
        writer.write(record(0))
        with pytest.raises(recordio.IncompleteError, match="Wait until it has ended"):
            recordio.open(tmp_path / "set")
