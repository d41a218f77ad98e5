"""A conversion that is killed at any moment and gone on with ends with the bytes of an undisturbed one (design.md, 2).

Nothing here depends on time: moments are counted in things done to files. With RECORDIO_LONG_TESTS=1 there are more.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

import recordio
from tests.convert import given, killing

LONG = bool(os.environ.get("RECORDIO_LONG_TESTS"))
# Keyed by whether there are worker processes.
MOMENTS = {False: 100 if LONG else 20, True: 60 if LONG else 10}

IN_ORDER, SPOOLED, SHARDABLE, PYDATASET, OVERWRITE = killing.CASES


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """For each case: the files of a conversion that nobody disturbed, its records, and what it did to files."""
    made = {}

    def make(case: str):
        if case not in made:
            path = tmp_path_factory.mktemp("undisturbed") / "set"
            done = killing.things_done(lambda: killing.convert(case, path, in_threads=True))
            made[case] = given.files(path), [given.plainly(record) for record in recordio.open(path)], done
        return made[case]

    return make


def watch(process, path: Path, allowed: list[list]) -> bool:
    """Poll as a reader until the process has ended; what can be opened must be one of the allowed data sets, whole."""
    opened = None
    deadline = time.monotonic() + 60
    while process.is_alive():
        assert time.monotonic() < deadline, "a hang"
        opened = look(path, allowed, opened)
        process.join(0.002)
    assert process.exitcode in (0, -signal.SIGKILL)
    look(path, allowed, None)
    return process.exitcode != 0


def look(path: Path, allowed: list[list], opened: str | None) -> str | None:
    try:
        dataset = recordio.open(path)
    except (recordio.IncompleteError, recordio.NotRecordIOError, FileNotFoundError):
        return None
    if dataset.fingerprint != opened:
        try:
            assert [given.plainly(record) for record in dataset] in allowed
        except recordio.MismatchError:
            # The old data set, opened just before the commit that has removed its shards.
            assert recordio.open(path).fingerprint != dataset.fingerprint
    return dataset.fingerprint


def finished_shards(path: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of change of every shard that is noted as finished."""
    names = [json.loads(note.read_bytes())["name"] for note in path.glob(".unfinished/shard-*.done")]
    return {name: (os.stat(path / name).st_ino, os.stat(path / name).st_mtime_ns) for name in names}


def unchanged(path: Path, finished: dict[str, tuple[int, int]]) -> bool:
    return all((os.stat(path / name).st_ino, os.stat(path / name).st_mtime_ns) == was for name, was in finished.items())


def moments(done: list[tuple[str, str]], number: int, seed: str) -> list[dict]:
    """Some anywhere, the greater part after the first finished shard."""
    first = next(place for place, (what, name) in enumerate(done) if what == "rename" and name.endswith(".done"))
    draw = random.Random(seed)
    early = draw.sample(range(1, first + 1), min(first, number // 3))
    late = draw.sample(range(first + 2, len(done) + 1), number - len(early))
    return [{"count": count} for count in early + late]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", [IN_ORDER, SPOOLED])
def test_a_conversion_killed_at_random_moments_ends_with_the_same_bytes(case, undisturbed, tmp_path):
    """In order; and spooled, where some of the kills come while the spool is written and some while it is cut."""
    expected, records, done = undisturbed(case)
    after_a_shard = 0
    for number, moment in enumerate(moments(done, MOMENTS[False], case)):
        path = tmp_path / str(number)
        assert watch(killing.start(case, path, moment), path, [records])
        finished = finished_shards(path) if path.exists() else {}
        after_a_shard += bool(finished)
        killing.convert(case, path, resume=True)
        assert given.files(path) == expected, moment
        assert unchanged(path, finished), moment
    assert after_a_shard >= 5


@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", [SHARDABLE, PYDATASET])
def test_a_conversion_in_processes_killed_at_random_moments_ends_with_the_same_bytes(case, undisturbed, tmp_path):
    """A worker comes to the moment and kills its parent; the other one may be anywhere."""
    expected, records, done = undisturbed(case)
    in_a_worker = sum(what == "write" for what, _ in done)
    draw = random.Random(case)
    killed = after_a_shard = 0
    for number in range(MOMENTS[True]):
        path = tmp_path / str(number)
        killed += watch(killing.start(case, path, {"count": draw.randrange(1, in_a_worker)}), path, [records])
        finished = finished_shards(path) if path.exists() else {}
        after_a_shard += bool(finished)
        killing.convert(case, path, resume=True, in_threads=True)
        assert given.files(path) == expected
        assert unchanged(path, finished)
    assert killed >= MOMENTS[True] // 2 and after_a_shard >= 3


@pytest.mark.parametrize("case", [IN_ORDER, SPOOLED, SHARDABLE])
@pytest.mark.parametrize(
    ("what", "name", "when"),
    [
        ("rename", "shard-00000-.*", "before"),         # written, not in its place
        ("rename", "shard-00000-.*", "after"),          # in its place, not noted
        ("rename", "shard-00001.done", "after"),        # noted
        ("create", "index.tmp", "before"),              # between the last shard and the index
        ("rename", "index.rix", "before"),
        ("rename", "index.rix", "after"),               # committed, not cleared up
        ("remove", "job.json", "after"),
        ("remove", "shard-00003.done", "after"),        # half cleared up
        ("create", r"job\.json\..*tmp", "before"),     # nothing done
    ],
)  # fmt: skip
def test_a_kill_between_two_steps_is_gone_on_from(case, what, name, when, undisturbed, tmp_path):
    """The moments at which the directory is in a state of its own, each of them."""
    expected, records, _ = undisturbed(case)
    path = tmp_path / "set"
    in_parent = {"use_multiprocessing": False, "workers": 1}
    assert watch(killing.start(case, path, {"what": what, "name": name, "when": when}, **in_parent), path, [records])
    finished = finished_shards(path)
    killing.convert(case, path, resume=True, in_threads=True)
    assert given.files(path) == expected
    assert unchanged(path, finished)


def test_the_second_resume_goes_on_from_where_the_first_was_killed(undisturbed, tmp_path):
    """Killed again and again, it comes to an end, and no finished shard is written twice."""
    expected, records, done = undisturbed(SPOOLED)
    path = tmp_path / "set"
    finished: dict = {}
    for count in (40, 60, 80):
        watch(killing.start(SPOOLED, path, {"count": min(count, len(done) // 2)}, resume=True), path, [records])
        assert unchanged(path, finished)
        finished = finished_shards(path)
    killing.convert(SPOOLED, path, resume=True)
    assert given.files(path) == expected
    assert unchanged(path, finished)


@pytest.mark.timeout(300)
def test_an_overwrite_killed_anywhere_leaves_the_old_data_set_whole_and_can_be_gone_on_with(undisturbed, tmp_path):
    """The old one, or after the commit the new one, at every moment; in the end the new one alone."""
    expected, new, _ = undisturbed(OVERWRITE)

    def write_old(path: Path) -> None:
        recordio.convert([given.record(number) for number in range(700)], path,
                         num_shards=3, **killing.OPTIONS)  # fmt: skip

    write_old(tmp_path / "old")
    old = [given.plainly(record) for record in recordio.open(tmp_path / "old")]
    write_old(tmp_path / "counted")
    done = killing.things_done(lambda: killing.convert(OVERWRITE, tmp_path / "counted"))
    assert given.files(tmp_path / "counted") == expected
    everywhere = range(1, len(done) + 1)
    for count in everywhere if LONG else random.Random(3).sample(everywhere, 25):
        path = tmp_path / str(count)
        write_old(path)
        assert watch(killing.start(OVERWRITE, path, {"count": count}), path, [old, new])
        found = [given.plainly(record) for record in recordio.open(path)]
        renamed = next(place for place, thing in enumerate(done, 1) if thing == ("rename", "index.rix"))
        assert found == (old if count <= renamed else new)
        finished = finished_shards(path)
        killing.convert(OVERWRITE, path, resume=True)
        assert given.files(path) == expected
        assert unchanged(path, finished)


def test_an_unfinished_data_set_says_that_it_is(undisturbed, tmp_path):
    """What a reader is told: incomplete, with the number of finished shards."""
    path = tmp_path / "set"
    moment = {"what": "rename", "name": "index.rix", "when": "before"}
    assert watch(killing.start(IN_ORDER, path, moment), path, [])
    with pytest.raises(recordio.IncompleteError, match="finished"):
        recordio.open(path)
