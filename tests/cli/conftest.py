"""Scripts and data sets for the tests of the command line, and ways to run it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import recordio
from recordio.cli.app import application
from tests.cli.running import command

ROOT = Path(__file__).parents[2]

SCRIPT = '''
import os
import time
from pathlib import Path

import numpy as np

import beside


class BadRecord(Exception):
    def __init__(self, number, why):
        super().__init__(f"record {number} is bad: {why}")


def records():
    for number in range(300):
        yield {"x": np.float32(number), "word": beside.word(number)}


def in_shards(shard, num_shards):
    for number in range(shard, 400, num_shards):
        yield {"x": np.float32(number), "word": beside.word(number)}


def interruptible(shard, num_shards):
    """Shard 2 waits for the file "go"."""
    for number in range(50):
        if shard == 2 and number == 20 and not Path("go").exists():
            Path("ready").touch()
            while not Path("go").exists():
                time.sleep(0.01)
        yield {"x": shard * 1000 + number}


def broken():
    yield {"x": 1}
    yield {"x": 2}
    beside.fail()


def unfit():
    for number in range(300):
        yield {"x": number}
    yield {"x": 2.5}
    yield {"x": 7}


class Photos:
    def __init__(self, bad=None, workers=2, use_multiprocessing=True):
        self.workers, self.use_multiprocessing, self.max_queue_size = workers, use_multiprocessing, 4
        self.bad = bad

    @property
    def num_batches(self):
        return 6

    def __getitem__(self, index):
        if index == self.bad:
            raise BadRecord(index, "no \\x1b[31mcolour")
        return np.full((8, 4, 4), index, np.uint8), np.arange(8) + 8 * index

    def on_epoch_end(self):
        pass


class NeedsDirectory(Photos):
    def __init__(self, directory):
        super().__init__()


class NoPhotos(Photos):
    def __getitem__(self, index):
        raise BadRecord(index, "lost")


def whole():
    return {"x": np.arange(3), "y": np.arange(3)}


def needs_two(first, second):
    yield {"x": first}


bad_photos = Photos(bad=4)
no_first_photos = Photos(bad=0)
no_photos = NoPhotos()
SCALE = 0.5
columns = {"x": [1, 2, 3]}
'''

BESIDE = '''
def word(number):
    return f"word {number}"


def fail():
    raise KeyError("nothing here")
'''

Invoke = Callable[..., Result]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to work in, with a script and a module beside it."""
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "beside.py").write_text(BESIDE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", ["recordio"])
    monkeypatch.delenv("RECORDIO_TRACEBACK", raising=False)
    # Both names mean other files in every test.
    for name in ("beside", "train"):
        sys.modules.pop(name, None)
    return tmp_path


@pytest.fixture
def invoke(work: Path) -> Invoke:
    """Run a command in this process: stdout, stderr and exit_code."""

    def run(*args: str | Path) -> Result:
        return CliRunner().invoke(application, [str(arg) for arg in args])

    return run


@pytest.fixture
def environment(work: Path) -> dict[str, str]:
    """For processes of their own: recordio can be imported, wherever they are."""
    paths = [str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    # Unbuffered, Python drops what a short write leaves, and a reader that has gone would never be noticed.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return {**inherited, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "COLUMNS": "120"}


@pytest.fixture
def run(work: Path, environment: dict[str, str]) -> Run:
    """Run a command in a process of its own."""

    def start(*args: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command(*args), cwd=work, env=environment, capture_output=True, text=True, timeout=60)

    return start


@pytest.fixture
def data(work: Path) -> Path:
    """A data set of 200 records in 2 shards."""
    spec = {"image": recordio.TensorSpec((4, 4), "uint8"), "text": recordio.TensorSpec((), "str")}
    records = [{"image": np.full((4, 4), number % 9, np.uint8), "text": f"text {number}"} for number in range(200)]
    recordio.convert(records, work / "data", output_signature=spec, num_shards=2, chunk_size=1000)
    return work / "data"
