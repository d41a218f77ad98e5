"""Tasks of an array job and the merge that completes them: the bytes of one conversion, whoever writes what and when
(spec/format.md, section 9)."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio.chunks.encoding import WriteOptions
from recordio.convert.sources import as_source
from recordio.convert.tasks import PartTask, run_part
from recordio.job import Job
from recordio.schema import Schema
from recordio.storage import LOCAL
from recordio.writer import make_target
from tests.convert import given, killing
from tests.convert.interrupting import Calls, Failure, StoppingBatches

OPTIONS: dict[str, Any] = {"output_signature": given.SPEC, "chunk_size": 2000, "metadata": {"of": "tests"}}
STARTS = list(range(0, 1500, 100))
SOURCES: dict[str, Callable[[], Any]] = {
    "a shardable generator": lambda: given.shardable,
    "lists among arguments": lambda: recordio.from_generator(given.from_lists, args=(STARTS, 100)),
    "a PyDataset": given.Batches,
    "a list": lambda: list(given.plain()),
    "slices": lambda: recordio.from_tensor_slices(given.columns(0, 1500)),
}


def convert(path: Path, source: Any = given.shardable, **more: Any) -> recordio.ConversionReport:
    return recordio.convert(source, path, **{**OPTIONS, "num_shards": 7, **more})


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of one conversion without tasks."""
    path = tmp_path_factory.mktemp("alone") / "set"
    convert(path)
    return given.files(path)


@contextmanager
def running(path: Path, task: tuple[int, int] | None, **more: Any) -> Iterator[None]:
    """A conversion, or a task of one, that does not get on with its shards until the block ends."""
    begun, go_on = threading.Event(), threading.Event()

    def waiting(shard: int, num_shards: int) -> Iterator[Any]:
        begun.set()
        assert go_on.wait(60)
        yield from given.shardable(shard, num_shards)

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(convert, path, waiting, task=task, **more)
        try:
            assert begun.wait(60)
            yield
        finally:
            go_on.set()
            done.result(60)


# ---- the bytes


@pytest.mark.parametrize(("kind", "num_tasks"), [*((kind, 3) for kind in SOURCES), ("a list", 1), ("a list", 7)])
def test_the_bytes_are_those_of_one_conversion(kind: str, num_tasks: int, tmp_path: Path) -> None:
    """Shards and index, for every kind of source that can be cut, in any order of the tasks."""
    whole = convert(tmp_path / "alone", SOURCES[kind]())
    order = random.Random(kind).sample(range(num_tasks), num_tasks)
    reports = {task: convert(tmp_path / "set", SOURCES[kind](), task=(task, num_tasks)) for task in order}
    merged = recordio.merge_shards(tmp_path / "set", check=True)
    assert given.files(tmp_path / "set") == given.files(tmp_path / "alone")
    assert (merged.fingerprint, merged.shards, merged.num_records) == (whole.fingerprint, whole.shards, 1500)
    names = [shard.name for task in range(num_tasks) for shard in reports[task].shards]
    assert names == [shard.name for shard in whole.shards]
    assert {(report.task, report.fingerprint) for report in reports.values()} == {
        ((task, num_tasks), "") for task in range(num_tasks)
    }


def test_shards_by_size_are_shared_out_too(tmp_path: Path) -> None:
    """Where their number is known in advance."""
    records = np.arange(5000)
    recordio.convert(records, tmp_path / "alone", shard_size=8000)
    for task in (1, 0):
        recordio.convert(records, tmp_path / "set", shard_size=8000, task=(task, 2))
    recordio.merge_shards(tmp_path / "set")
    assert given.files(tmp_path / "set") == given.files(tmp_path / "alone") and len(given.files(tmp_path / "set")) > 4


def test_tasks_run_at_once(alone: dict[str, bytes], tmp_path: Path) -> None:
    """All begin the job in the same moment, again and again; one of them does it for all."""
    with ThreadPoolExecutor(7) as pool:
        for round_id in range(8):
            path = tmp_path / str(round_id)
            together = threading.Barrier(7, timeout=60)

            def run(task: int, path: Path = path, together: threading.Barrier = together) -> None:
                together.wait()
                convert(path, task=(task, 7))

            list(pool.map(run, range(7)))
            recordio.merge_shards(path)
            assert given.files(path) == alone


def test_tasks_of_other_numbers_fit_together(alone: dict[str, bytes], tmp_path: Path) -> None:
    """A share is a range of shards; into how many it was cut is nobody's business but the caller's."""
    convert(tmp_path / "set", task=(0, 2))
    for task in (4, 5, 6):
        convert(tmp_path / "set", task=(task, 7))
    recordio.merge_shards(tmp_path / "set")
    assert given.files(tmp_path / "set") == alone


def test_a_task_in_processes(alone: dict[str, bytes], tmp_path: Path) -> None:
    """Its workers are its own business."""
    for task in range(2):
        convert(tmp_path / "set", task=(task, 2), workers=2, use_multiprocessing=True)
    recordio.merge_shards(tmp_path / "set")
    assert given.files(tmp_path / "set") == alone


# ---- nothing looks complete before it is


def test_before_the_merge_there_is_no_data_set(tmp_path: Path) -> None:
    """Not even when all shards are there; the error says what to do."""
    path = tmp_path / "set"
    for task in range(2):
        convert(path, task=(task, 2))
        assert not (path / "index.rix").exists()
        with pytest.raises(recordio.IncompleteError, match=r"of 7 shards are finished.*merge_shards\(path\)"):
            recordio.open(path)
    recordio.merge_shards(path)
    assert len(recordio.open(path)) == 1500


def test_shards_are_durable_before_they_are_named(tmp_path: Path) -> None:
    """Written and synced under a name of their own, renamed, noted (spec/format.md, section 9)."""
    done = killing.things_done(lambda: convert(tmp_path / "set", task=(1, 7)))
    names = [name for what, name in done if what == "rename"]
    shard = next(place for place, name in enumerate(names) if name.endswith(".rio"))
    assert names[shard + 1] == "shard-00001.done" and "index.rix" not in names
    before = [what for what, name in done[: done.index(("rename", names[shard]))]]
    assert before[-1] == "sync"


@pytest.mark.parametrize(("what", "name", "when"), [
    ("write", "", "before"),                        # in the middle of the first thing that is written
    ("rename", "shard-00004-.*rio", "before"),      # written, not in its place
    ("rename", "shard-00004-.*rio", "after"),       # in its place, not noted
    ("rename", "shard-00005.done", "after"),        # noted
])  # fmt: skip
def test_a_task_that_is_killed_is_named_by_merge_and_can_be_run_again(
    what: str, name: str, when: str, alone: dict[str, bytes], tmp_path: Path
) -> None:
    """What it had finished stays; the others are not disturbed."""
    path, case = tmp_path / "set", "a shardable generator in processes"
    how = {"num_shards": 7, "use_multiprocessing": False, "workers": 1, "task": (1, 2)}
    process = killing.start(case, path, {"what": what, "name": name, "when": when}, **how)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    killing.convert(case, path, **{**how, "task": (0, 2)})
    if (path / ".unfinished" / "job.json").exists():
        with pytest.raises(recordio.IncompleteError, match=r"of 7 shards (is|are) missing: .*\(task 1/2\)") as caught:
            recordio.merge_shards(path)
        assert "convert(..., task=(1, 2)), then merge again" in str(caught.value)
    killing.convert(case, path, **how)
    recordio.merge_shards(path)
    killing.convert(case, tmp_path / "alone", **{**how, "task": None})
    assert given.files(path) == given.files(tmp_path / "alone")


# ---- again


def test_a_task_whose_shards_are_finished_does_nothing(tmp_path: Path) -> None:
    """It asks the source for no record, and leaves every file as it is; before the merge and after it."""
    path, calls = tmp_path / "set", Calls(None)
    for task in range(2):
        convert(path, calls.shardable, task=(task, 2))
    calls.calls.clear()
    before = {name: os.stat(path / name) for name in given.files(path) if name.endswith(".rio")}
    report = convert(path, calls.shardable, task=(1, 2))
    assert report.num_resumed_shards == report.num_shards == 3 and calls.calls == []
    merged = recordio.merge_shards(path)
    report = convert(path, calls.shardable, task=(1, 2))
    assert report.shards == merged.shards[4:] and report.fingerprint == merged.fingerprint and calls.calls == []
    again = recordio.merge_shards(path)
    assert replace(again, duration_s=0.0) == replace(merged, duration_s=0.0)
    after = {name: os.stat(path / name) for name in before}
    assert all((after[name].st_ino, after[name].st_mtime_ns) == (s.st_ino, s.st_mtime_ns) for name, s in before.items())


def test_a_task_goes_on_from_where_it_failed(alone: dict[str, bytes], tmp_path: Path) -> None:
    """And says how; what others do meanwhile is none of its business."""
    path = tmp_path / "set"
    with pytest.raises(Failure) as caught:
        convert(path, Calls(1100).shardable, task=(1, 2))
    (note,) = [note for note in caught.value.__notes__ if "kept" in note]
    assert "1 finished shard is kept" in note and "Go on with convert(..., task=(1, 2))." in note
    convert(path, task=(0, 2))
    again = Calls(None)
    assert convert(path, again.shardable, task=(1, 2)).num_resumed_shards == 1 and again.calls == [5, 6]
    recordio.merge_shards(path)
    assert given.files(path) == alone


def test_a_task_that_fails_alone_leaves_the_place_as_it_was(tmp_path: Path) -> None:
    """So that the next one may be of another request."""
    with pytest.raises(Failure):
        convert(tmp_path / "set", Calls(0).shardable, task=(0, 2))
    assert not (tmp_path / "set").exists()
    convert(tmp_path / "set", task=(1, 2))
    with pytest.raises(Failure):
        convert(tmp_path / "set", Calls(0).shardable, task=(0, 2))
    assert convert(tmp_path / "set", task=(1, 2)).num_resumed_shards == 3


def test_what_tasks_have_skipped_is_in_the_report_of_the_merge(tmp_path: Path) -> None:
    """In the order of the source."""
    for task in (1, 0):
        report = convert(tmp_path / "set", StoppingBatches(3 + 20 * task), on_error="skip", task=(task, 2))
        assert [skipped.label for skipped in report.skipped] == [f"batch {3 + 20 * task}"]
    merged = recordio.merge_shards(tmp_path / "set")
    assert [skipped.label for skipped in merged.skipped] == ["batch 3", "batch 23"] and merged.num_records == 1400


def test_one_machine_may_complete_what_tasks_have_begun(alone: dict[str, bytes], tmp_path: Path) -> None:
    """And tasks what it has left; the request is the same."""
    convert(tmp_path / "a", task=(1, 2))
    assert convert(tmp_path / "a", resume=True).num_resumed_shards == 3
    with pytest.raises(Failure):
        convert(tmp_path / "b", Calls(900).shardable)
    with pytest.raises(recordio.IncompleteError, match=r"missing: 4 to 6\b.*convert\(\.\.\., resume=True\)"):
        recordio.merge_shards(tmp_path / "b")
    convert(tmp_path / "b", task=(1, 2))
    recordio.merge_shards(tmp_path / "b")
    assert given.files(tmp_path / "a") == given.files(tmp_path / "b") == alone
    convert(tmp_path / "c", task=(1, 2))
    with pytest.raises(recordio.RequestError, match="3 of 7 shards are finished"):
        convert(tmp_path / "c")


# ---- what is refused


@pytest.mark.parametrize(("source", "more", "kind", "words"), [
    (given.shardable, {"task": (7, 7)}, recordio.RequestError, "Count the N tasks from 0"),
    (given.shardable, {"task": (0, 0)}, recordio.RequestError, "not (i, N)"),
    (given.shardable, {"task": (-1, 2)}, recordio.RequestError, "not (i, N)"),
    (given.shardable, {"task": "1/2"}, recordio.RequestError, "not (i, N)"),
    (given.shardable, {"task": 3}, recordio.RequestError, "not (i, N)"),
    (given.shardable, {"task": (0, 8)}, recordio.RequestError, "8 tasks, but only 7 shards"),
    (given.shardable, {"task": (0, 2), "check": True}, recordio.RequestError, "merge_shards(path, check=True)"),
    (given.shardable, {"task": (0, 2), "num_shards": None}, recordio.SourceError, "Give num_shards"),
    (given.plain, {"task": (0, 2)}, recordio.SourceError, "read from the front"),
    (given.Batches(5), {"task": (0, 2)}, recordio.SourceError, "fewer batches"),
])  # fmt: skip
def test_what_cannot_be_a_task_is_refused(
    source: Any, more: dict[str, Any], kind: type[Exception], words: str, tmp_path: Path
) -> None:
    """Before anything is written."""
    with pytest.raises(kind) as caught:
        convert(tmp_path / "set", source, **more)
    assert words in str(caught.value) and not (tmp_path / "set").exists()


@pytest.mark.parametrize(("more", "words"), [
    ({"level": 5}, "level = 1, not 5"),
    ({"num_shards": 8}, "num_shards = 7, not 8"),
    ({"metadata": {}}, "metadata = {'of': 'tests'}, not {}"),
    ({"output_signature": {**given.SPEC, "number": recordio.TensorSpec((), "int32")}}, "element_spec = "),
    ({"source": list(given.plain())}, "source = GeneratorSource, not SequenceSource"),
])  # fmt: skip
def test_a_task_with_other_options_is_refused(more: dict[str, Any], words: str, tmp_path: Path) -> None:
    """While others run, and when they have ended; the error names what differs."""
    path = tmp_path / "set"
    with running(path, (0, 2)):
        with pytest.raises(recordio.RecordIOError) as caught:
            convert(path, **{"task": (1, 2), **more})
        assert words in str(caught.value) and isinstance(caught.value, ValueError)
    with pytest.raises(recordio.RecordIOError) as caught:
        convert(path, **{"task": (1, 2), **more})
    assert words in str(caught.value)


def test_a_task_excludes_itself_merge_and_ordinary_conversions_but_no_other_task(
    alone: dict[str, bytes], tmp_path: Path
) -> None:
    """Whoever has to wait is told for which task, and the merge what is missing."""
    path, me = tmp_path / "set", f"process {os.getpid()} on "
    with running(path, (1, 3)):
        convert(path, task=(0, 3))
        with pytest.raises(recordio.LockedError, match=f"task 1/3 is running already: {me}"):
            convert(path, task=(1, 3))
        for how in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(recordio.LockedError, match=rf"task 1/3 \({me}.*\) is writing here"):
                convert(path, **how)
        with pytest.raises(recordio.LockedError) as caught:
            recordio.merge_shards(path)
        text = str(caught.value)
        assert "task 1/3 (process" in text and "4 of 7 shards are missing: 3 to 6 (tasks 1/3, 2/3)" in text
        assert "Merge when all tasks have ended. Run it with the same source" in text and "task=(2, 3)" in text
        with pytest.raises(recordio.IncompleteError, match=r"3 of 7 shards are finished, task 1/3 .* is writing"):
            recordio.open(path)
    convert(path, task=(2, 3))
    recordio.merge_shards(path)
    assert given.files(path) == alone


def test_an_ordinary_conversion_excludes_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait a moment for it, and then say who it is."""
    monkeypatch.setattr("recordio.job.JOIN_PATIENCE_S", 0.2)
    with running(tmp_path / "set", None):
        with pytest.raises(recordio.LockedError, match=f"process {os.getpid()}"):
            convert(tmp_path / "set", task=(0, 2))
    assert len(recordio.open(tmp_path / "set")) == 1500


# ---- what merge refuses


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """All shards of a conversion by four tasks."""
    for task in range(4):
        convert(tmp_path / "set", task=(task, 4))
    return tmp_path / "set"


def unchanged_by_merge(path: Path, kind: type[Exception]) -> str:
    """Merge, which must refuse and change nothing; gives its message."""
    before = given.files(path)
    with pytest.raises(kind) as caught:
        recordio.merge_shards(path)
    after = given.files(path)
    assert {name: after.get(name) for name in before if not name.endswith("lock")} == {
        name: data for name, data in before.items() if not name.endswith("lock")
    }
    return str(caught.value)


def shard(path: Path, ordinal: int) -> Path:
    (found,) = path.glob(f"shard-{ordinal:05d}-*.rio")
    return found


def test_merge_names_every_gap(written: Path, alone: dict[str, bytes]) -> None:
    """Shards, and the tasks that write them; running these is enough."""
    shard(written, 1).unlink()
    (written / ".unfinished" / "shard-00004.done").unlink()
    shard(written, 5).unlink()
    message = unchanged_by_merge(written, recordio.IncompleteError)
    assert "3 of 7 shards are missing: 1, 4 to 5 (tasks 0/4, 2/4)" in message
    assert "each of these tasks" in message and "convert(..., task=(0, 4))" in message
    for task in (0, 2):
        convert(written, task=(task, 4))
    recordio.merge_shards(written)
    assert given.files(written) == alone


def test_merge_names_a_shard_that_is_cut(written: Path, alone: dict[str, bytes]) -> None:
    """It is as good as missing: the task that wrote it writes it again."""
    place = shard(written, 2)
    place.write_bytes(place.read_bytes()[:-100])
    message = unchanged_by_merge(written, recordio.IncompleteError)
    assert "1 of 7 shards is missing: 2 (task 1/4); shard 2: " in message and "task=(1, 4)" in message
    convert(written, task=(1, 4))
    recordio.merge_shards(written)
    assert given.files(written) == alone


def test_merge_names_a_shard_that_is_there_twice(written: Path, alone: dict[str, bytes]) -> None:
    """And which of the two its task has finished."""
    mine = shard(written, 3)
    other = written / "shard-00003-0123abcd.rio"
    other.write_bytes(mine.read_bytes())
    message = unchanged_by_merge(written, recordio.MismatchError)
    assert "shard 3 is there twice" in message and other.name in message
    assert f"its task has finished {mine.name}" in message
    other.unlink()
    recordio.merge_shards(written)
    assert given.files(written) == alone


def test_merge_names_a_shard_that_the_job_does_not_have(written: Path) -> None:
    (written / "shard-00007-0123abcd.rio").write_bytes(shard(written, 6).read_bytes())
    message = unchanged_by_merge(written, recordio.MismatchError)
    assert "the job has 7 shards, and this is shard 7" in message and "shard-00007-0123abcd.rio" in message


@pytest.mark.parametrize(("more", "words"), [
    ({"level": 5}, "other options: level = 1, not 5 (than shard 0)"),
    ({"metadata": {"of": "others"}}, "other metadata: of = tests, not others (than shard 0)"),
    ({"output_signature": {**given.SPEC, "number": recordio.TensorSpec((), "int32")}}, "another schema than the job"),
    ({}, "been finished for another job"),
])  # fmt: skip
@pytest.mark.parametrize("claims", [False, True])
def test_merge_names_a_shard_of_another_job(
    more: dict[str, Any], words: str, claims: bool, written: Path, tmp_path: Path
) -> None:
    """Whose note came with it; even if the note claims to be of this job. An equal one under its own job's is no harm,
    but nobody knows."""
    convert(tmp_path / "other", **{"task": (2, 7), **more})
    mine, foreign = shard(written, 2), shard(tmp_path / "other", 2)
    note = json.loads((tmp_path / "other" / ".unfinished" / "shard-00002.done").read_bytes())
    if claims:
        note["job_id"] = json.loads((written / ".unfinished" / "job.json").read_bytes())["job_id"]
    contents = foreign.read_bytes()
    mine.unlink()
    (written / foreign.name).write_bytes(contents)
    (written / ".unfinished" / "shard-00002.done").write_text(json.dumps(note))
    if claims and not more:
        recordio.merge_shards(written)
        return
    message = unchanged_by_merge(written, recordio.MismatchError)
    assert foreign.name in message and "shard 2" in message
    assert (words if claims or "schema" in words else "been finished for another job") in message
    (written / foreign.name).unlink()
    convert(written, task=(1, 4))
    recordio.merge_shards(written)
    assert len(recordio.open(written)) == 1500


def test_merge_of_what_no_task_has_written(tmp_path: Path) -> None:
    """Each says what is there instead."""
    with pytest.raises(FileNotFoundError):
        recordio.merge_shards(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(recordio.NotRecordIOError):
        recordio.merge_shards(tmp_path / "empty")
    with pytest.raises(Failure):
        recordio.convert(Calls(1400).plain, tmp_path / "by size", shard_size=10_000, **OPTIONS)
    with pytest.raises(recordio.RequestError, match=r"is not known how many shards.*convert\(\.\.\., resume=True\)"):
        recordio.merge_shards(tmp_path / "by size")
    recordio.convert(given.plain, tmp_path / "by size", shard_size=10_000, resume=True, **OPTIONS)
    assert recordio.merge_shards(tmp_path / "by size").num_records == 1500


def test_a_merge_that_is_killed_before_its_commit_can_be_repeated(
    written: Path, alone: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost before the index is in its place."""
    def fail(*_: Any) -> None:
        raise Failure

    with monkeypatch.context() as patch:
        patch.setattr("recordio.storage.LocalStorage.rename", fail)
        with pytest.raises(Failure):
            recordio.merge_shards(written)
    recordio.merge_shards(written)
    assert given.files(written) == alone


# ---- overwriting


def test_tasks_overwrite_a_data_set_that_stays_whole_until_the_merge(alone: dict[str, bytes], tmp_path: Path) -> None:
    """Without overwrite each is refused; with it, all of them join one job."""
    path = tmp_path / "set"
    recordio.convert(list(given.plain(300)), path, num_shards=9, **OPTIONS)
    for _ in range(2):
        with pytest.raises(recordio.RequestError, match=r"num_shards = 9, not 7.*overwrite=True"):
            convert(path, task=(0, 2))
    assert not (path / ".unfinished").exists()
    for task in (1, 0):
        convert(path, task=(task, 2), overwrite=True)
        assert [record["number"] for record in recordio.open(path)] == list(range(300))
    assert convert(path, task=(1, 2), overwrite=True).num_resumed_shards == 3
    recordio.merge_shards(path)
    assert given.files(path) == alone


def test_tasks_overwrite_an_unfinished_job_of_another_request(
    alone: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If nobody is working on it; the first one does, the others join."""
    monkeypatch.setattr("recordio.job.JOIN_PATIENCE_S", 0.2)
    path = tmp_path / "set"
    with running(path, (0, 2), level=9):
        with pytest.raises(recordio.LockedError, match="task 0/2"):
            convert(path, task=(1, 2), overwrite=True)
    for task in range(2):
        convert(path, task=(task, 2), overwrite=True)
    recordio.merge_shards(path)
    assert given.files(path) == alone


def test_tasks_that_overwrite_take_nothing_from_what_they_replace(tmp_path: Path) -> None:
    """Not the types that were inferred then."""
    path, options = tmp_path / "set", {"output_signature": None}
    convert(path, [{"x": 1}] * 10, task=(0, 2), **options)
    convert(path, [{"x": 1.5}] * 10, task=(0, 2), overwrite=True, **options)
    convert(path, [{"x": 1.5}] * 10, task=(1, 2), **options)
    assert recordio.merge_shards(path).element_spec == {"x": recordio.TensorSpec((), "float64")}


# ---- two attempts at one shard


def part_tasks(path: Path, source: Any) -> tuple[Job, list[PartTask]]:
    """The shards of a conversion as tasks, begun and not yet done."""
    whole = as_source(source, given.SPEC)
    parts = whole.split(num_shards=3)
    assert parts is not None
    job = Job(LOCAL, str(path))
    options = WriteOptions(codec="zstd", level=1, chunk_size=2000, frame_size=128 << 10)
    target = make_target(
        job.paths, Schema.from_signature(given.SPEC), options=options, metadata=OPTIONS["metadata"], workers=2
    )
    job.begin({"resumable": True, "num_shards": 3}, overwrite=False, resume=False)
    target = replace(target, paths=job.paths)
    return job, [
        PartTask(target=target, part=part, shard_id=shard_id, last=shard_id == 2, on_error="stop", window=2)
        for shard_id, part in enumerate(parts)
    ]


def test_two_attempts_at_one_shard_at_once_give_one_shard(tmp_path: Path) -> None:
    """As when a cluster believes a worker dead that is not: each writes a file of its own, and both are right."""
    together = threading.Barrier(2, timeout=60)

    def source(shard: int, num_shards: int) -> Iterator[Any]:
        for number, record in enumerate(given.shardable(shard, num_shards)):
            if number in (0, 200, 400):
                together.wait()
            yield record
        together.wait()

    _, tasks = part_tasks(tmp_path / "set", source)
    with ThreadPoolExecutor(2) as pool:
        for task in tasks:
            first, second = pool.map(run_part, [task, task])
            assert first == second
    convert(tmp_path / "alone", num_shards=3)
    found, expected = given.files(tmp_path / "set"), given.files(tmp_path / "alone")
    assert {name: data for name, data in found.items() if name.endswith(".rio")} == {
        name: data for name, data in expected.items() if name.endswith(".rio")
    }
    assert not [name for name in found if name.endswith(".tmp")]


def test_a_worker_that_does_not_see_the_directory_says_so(tmp_path: Path) -> None:
    """Each machine has a disk of its own: nothing is written there, and the error names the machine."""
    job, tasks = part_tasks(tmp_path / "set", given.shardable)
    job.discard()
    with pytest.raises(recordio.RequestError, match=f"{socket.gethostname()} does not see .*all workers share"):
        run_part(tasks[0])
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("how", ["replaced", "ended"])
def test_an_attempt_that_comes_too_late_changes_nothing(how: str, tmp_path: Path) -> None:
    """Its conversion was given up, and another one has begun, or has ended."""
    path, begun, go_on = tmp_path / "set", threading.Event(), threading.Event()

    def old(shard: int, num_shards: int) -> Iterator[Any]:
        yield given.record(5)
        begun.set()
        assert go_on.wait(60)
        yield given.record(6)

    job, tasks = part_tasks(path, old)
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(run_part, tasks[1])
        assert begun.wait(60)
        job.leave()
        convert(path, task=(1, 3), num_shards=3, overwrite=True)
        if how == "ended":
            convert(path, num_shards=3, resume=True)
        before = given.files(path)
        go_on.set()
        with pytest.raises((recordio.IncompleteError, FileNotFoundError), match=r"replaced|\.unfinished/shard-00001"):
            late.result(60)
    assert given.files(path) == before
