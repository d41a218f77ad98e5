"""Killing a conversion at a chosen moment: before, inside or after one of the things it does to files.

    moment {"count": 17}                                      the 17th thing that a process does
    moment {"what": "rename", "name": "index.rix", "when": "before"}

The conversion runs in a process of its own, which gets SIGKILL; with worker processes, a worker that comes to the
moment kills its parent. Half of a write is done before the kill, so that torn files are met as well.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import recordio
from recordio import storage
from tests.convert import given

_VARIABLE = "RECORDIO_TEST_KILL"


# Worker processes import this module for these, and find the moment in their environment.
def shardable(shard: int, num_shards: int):
    return given.shardable(shard, num_shards)


class Batches(given.Batches):
    pass


OPTIONS: dict[str, Any] = {"output_signature": given.SPEC, "chunk_size": 2000, "level": 1, "metadata": {"of": "tests"}}
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "a plain generator, shards by size": (given.plain, {"shard_size": 10_000}),
    "a plain generator, a number of shards": (given.plain, {"num_shards": 7}),
    "a shardable generator in processes": (shardable, {"num_shards": 8, "workers": 2, "use_multiprocessing": True}),
    "a PyDataset in processes": (Batches, {"num_shards": 8, "workers": 2, "use_multiprocessing": True}),
    "the new one that overwrites": (shardable, {"num_shards": 5, "overwrite": True}),
}


def source_of(case: str) -> Any:
    """A fresh source."""
    source = CASES[case][0]
    return source() if isinstance(source, type) else source


def convert(case: str, path: Path | str, *, in_threads: bool = False, **more: Any) -> recordio.ConversionReport:
    """Convert the source of a case; `in_threads`: without processes, which is faster and must not matter."""
    options = {**OPTIONS, **CASES[case][1], **more}
    if in_threads:
        options.update(use_multiprocessing=False)
    return recordio.convert(source_of(case), path, **options)


def start(case: str, path: Path, moment: dict[str, Any], **more: Any) -> multiprocessing.process.BaseProcess:
    """Begin a conversion in a process of its own, which is killed at the moment."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["recordio.convert.run"])
    process = context.Process(target=_run, args=(case, str(path), json.dumps(moment), more))
    process.start()
    return process


def things_done(work: Callable[[], object]) -> list[tuple[str, str]]:
    """Everything that a conversion in this process does to files: (what, file name)."""
    done: list[tuple[str, str]] = []
    undo = _watch(lambda what, name, _: done.append((what, name)))
    try:
        work()
    finally:
        undo()
    return done


def _run(case: str, path: str, moment: str, more: dict[str, Any]) -> None:
    os.environ[_VARIABLE] = moment
    if "count" not in json.loads(moment) or not CASES[case][1].get("use_multiprocessing"):
        _arm(os.getpid)
    convert(case, path, **more)


def _arm(victim: Callable[[], int]) -> None:
    moment = json.loads(os.environ[_VARIABLE])
    seen = 0

    def notice(what: str, name: str, after: bool) -> None:
        nonlocal seen
        if "count" in moment:
            seen += not after
            hit = seen == moment["count"] and not after
        else:
            hit = what == moment["what"] and re.fullmatch(moment["name"], name) and after == (moment["when"] == "after")
        if hit:
            os.kill(victim(), signal.SIGKILL)
            signal.pause()

    _watch(lambda what, name, after: notice(what, name, after), both=True)


def _watch(notice: Callable[[str, str, bool], object], both: bool = False) -> Callable[[], None]:
    kinds: list[tuple[type, str, int]] = [
        (storage.LocalStorage, "create", 1), (storage.LocalStorage, "rename", 2), (storage.LocalStorage, "remove", 1),
        (storage.LocalStorage, "sync_directory", 1), (storage.LocalStorage, "make_directory", 1),
        (storage._LocalWriteHandle, "write", 0), (storage._LocalWriteHandle, "sync", 0),
    ]  # fmt: skip
    originals = [(kind, name, getattr(kind, name)) for kind, name, _ in kinds]
    for kind, name, place in kinds:
        setattr(kind, name, _watched(getattr(kind, name), name, place, notice, both))

    def undo() -> None:
        for kind, name, original in originals:
            setattr(kind, name, original)

    return undo


def _watched(original: Any, what: str, place: int, notice: Any, both: bool) -> Any:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        target = os.path.basename(str(args[place - 1])) if place else ""
        if both and what == "write":
            # The first half of the bytes is in the file when the kill comes.
            data = b"".join(bytes(part) for part in args[0])
            original(self, [data[: len(data) // 2]])
            notice(what, target, False)
            result = original(self, [data[len(data) // 2 :]])
        else:
            notice(what, target, False)
            result = original(self, *args, **kwargs)
        if both:
            notice(what, target, True)
        return result

    return method


if _VARIABLE in os.environ:
    _arm(os.getppid)
