"""recordio convert beyond one machine: --task and recordio index --merge; --engine dask on a real cluster."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import recordio
from recordio.convert import cluster as cluster_module
from tests.cli.running import command, files_of, shards_of
from tests.clusters import Cluster, started_cluster

SOURCE = ("convert", "train.py:in_shards")


# ---- tasks


def test_tasks_and_merge(invoke, work):
    """Four tasks in any order, then the merge: the files of one command."""
    for task in (2, 0, 3, 1):
        result = invoke(*SOURCE, "out", "--shards", 8, "--task", f"{task}/4")
        assert result.exit_code == 0, result.stderr
        assert result.stdout.startswith(f"out: task {task}/4, 100 records in 2 shards, ")
        assert "note: when all tasks have ended: recordio index out --merge" in result.stderr
        assert not (work / "out" / "index.rix").exists()
    result = invoke("index", "out", "--merge", "--check")
    assert result.exit_code == 0, result.stderr
    first, second = result.stdout.splitlines()
    assert first.startswith("out: 400 records in 8 shards, ") and second.startswith("out: ok")
    assert invoke(*SOURCE, "alone", "--shards", 8).exit_code == 0
    assert files_of(work / "out") == files_of(work / "alone")


def test_tasks_that_run_at_once_as_processes(work, environment):
    """As on several machines of one file system."""
    commands = [command(*SOURCE, "out", "--shards", 9, "--task", f"{task}/3") for task in range(3)]
    processes = [
        subprocess.Popen(one, cwd=work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for one in commands
    ]
    try:
        assert [(process.communicate(timeout=60)[1], process.returncode)[1] for process in processes] == [0, 0, 0]
    finally:
        for process in processes:
            process.kill()
    for args in (("index", "out", "--merge"), (*SOURCE, "alone", "--shards", 9)):
        assert subprocess.run(command(*args), cwd=work, env=environment, timeout=60, check=False).returncode == 0
    assert files_of(work / "out") == files_of(work / "alone")


def test_a_task_as_slurm_gives_it(run, work, environment):
    """The shell puts the number of the array's task in; without Slurm, it says what is missing."""
    line = f"{' '.join(command(*SOURCE))} out --shards 4 --task $SLURM_ARRAY_TASK_ID/2"
    for task in ("0", "1"):
        slurm = {**environment, "SLURM_ARRAY_TASK_ID": task}
        assert subprocess.run(["sh", "-c", line], cwd=work, env=slurm, timeout=60, check=False).returncode == 0
    assert run("index", "out", "--merge").returncode == 0
    result = subprocess.run(
        ["sh", "-c", line], cwd=work, env=environment, timeout=60, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2 and "'/2' is no task" in result.stderr and "SLURM_ARRAY_TASK_ID" in result.stderr


def test_a_task_that_is_run_again_does_nothing(invoke, work):
    """Before the merge and after it; a merge that is run again, too."""
    args = (*SOURCE, "out", "--shards", 4, "--task", "1/2")
    assert invoke(*SOURCE, "out", "--shards", 4, "--task", "0/2").exit_code == 0
    assert invoke(*args).exit_code == 0
    before = {path: path.stat().st_mtime_ns for path in shards_of(work / "out")}
    result = invoke(*args)
    assert result.exit_code == 0 and "(2 finished before)" in result.stdout and "was not read" in result.stdout
    for _ in range(2):
        assert invoke("index", "out", "--merge").exit_code == 0
    result = invoke(*args)
    assert result.exit_code == 0 and "out: task 1/2, 200 records in 2 shards (2 finished before)" in result.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_merge_that_is_too_early_names_what_is_missing_and_the_command(invoke, work):
    """Exit status 5: it can be gone on with. `inspect` says the same."""
    assert invoke(*SOURCE, "out", "--shards", 8, "--task", "1/4").exit_code == 0
    result = invoke("index", "out", "--merge")
    assert result.exit_code == 5 and result.stdout == "", result.stderr
    assert "6 of 8 shards are missing: 0 to 1, 4 to 7 (tasks 0/4, 2/4, 3/4)" in result.stderr
    assert "recordio convert ... --task 0/4, then merge again" in result.stderr
    assert invoke("inspect", "out").exit_code == 5
    result = invoke("verify", "out")
    assert result.exit_code == 5 and "recordio index OUT --merge" in result.stderr


def test_a_merge_of_a_shard_that_is_there_twice(invoke, work):
    """Exit status 1, and both names."""
    assert invoke(*SOURCE, "out", "--shards", 2, "--task", "0/1").exit_code == 0
    shard = shards_of(work / "out")[1]
    (work / "out" / "shard-00001-00000000.rio").write_bytes(shard.read_bytes())
    result = invoke("index", "out", "--merge")
    assert result.exit_code == 1 and "shard 1 is there twice" in result.stderr and shard.name in result.stderr
    assert not (work / "out" / "index.rix").exists()


def test_a_task_with_other_options_names_what_differs(invoke):
    """The first one to come has said what the job is."""
    assert invoke(*SOURCE, "out", "--shards", 4, "--task", "0/2").exit_code == 0
    result = invoke(*SOURCE, "out", "--shards", 4, "--task", "1/2", "--level", 9)
    assert result.exit_code == 2 and "begun with level = 1, not 9\n" in result.stderr


def test_keys_of_the_merge(invoke, work):
    """Those of convert, and its help lists them."""
    invoke(*SOURCE, "out", "--shards", 2, "--task", "0/1")
    merged = json.loads(invoke("index", "out", "--merge", "--json").stdout)
    converted = json.loads(invoke(*SOURCE, "alone", "--shards", 2, "--json").stdout)
    assert merged.keys() == converted.keys() and merged["shards"] == converted["shards"]
    assert json.loads(invoke(*SOURCE, "part", "--shards", 2, "--task", "1/2", "--json").stdout)["task"] == [1, 2]


@pytest.mark.parametrize(("args", "words"), [
    (["--task", "1/2"], ["without a number of shards", "--shards"]),
    (["--shards", "4", "--task", "1"], ["'1' is no task", "i/N"]),
    (["--shards", "4", "--task", "-1/2"], ["'-1/2' is no task"]),
    (["--shards", "4", "--task", "2/2"], ["no task 2/2", "0 to 1", "--array=0-1"]),
    (["--shards", "4", "--task", "0/0"], ["no task 0/0"]),
    (["--shards", "4", "--task", "0/5"], ["5 tasks, but only 4 shards"]),
    (["--shards", "4", "--task", "0/2", "--check"], ["index OUT --merge --check"]),
    (["--shards", "4", "--task", "0/2", "--engine", "dask", "--address", "tcp://a:1"], ["--task and --engine dask"]),
    (["--address", "tcp://a:1"], ["--address is given without --engine dask"]),
    (["--engine", "dask"], ["--engine dask is given without --address", "tcp://host:8786"]),
    (["--engine", "dask", "--address", "tcp://a:1", "--workers", "3"], ["workers of this machine"]),
    (["--engine", "dask", "--address", "tcp://a:1", "--threads"], ["workers of this machine"]),
    (["--engine", "spark"], ["local", "dask"]),
])  # fmt: skip
def test_options_that_do_not_belong_together(invoke, work, args, words):
    """Exit status 2; says what was meant; nothing is written."""
    result = invoke(*SOURCE, "out", *args)
    assert result.exit_code == 2 and all(word in result.stderr for word in words), result.stderr
    assert result.stdout == "" and "Traceback" not in result.stderr and not (work / "out").exists()


def test_a_source_without_shares_is_refused(invoke, work):
    result = invoke("convert", "train.py:records", "out", "--shards", "4", "--task", "0/2")
    assert result.exit_code == 1 and "read from the front" in result.stderr and "num_shards" in result.stderr
    assert not (work / "out").exists()


@pytest.mark.parametrize(("args", "status", "words"), [
    (["index", "out"], 2, ["--merge"]),
    (["index", "", "--merge"], 2, ["OUT is empty"]),
    (["index", "out", "--merge"], 3, ["no such file"]),
    (["index", ".", "--merge"], 4, ["no index.rix"]),
])  # fmt: skip
def test_index_of_nothing(invoke, args, status, words):
    result = invoke(*args)
    assert result.exit_code == status and all(word in result.stderr for word in words), result.stderr


def test_help_shows_how(invoke):
    """Examples of all of it, Slurm's variable too."""
    text = invoke("convert", "--help").stdout
    for words in ("--engine dask --address tcp://host:8786", "--task 3/16", "$SLURM_ARRAY_TASK_ID/16"):
        assert words in text
    assert "--merge" in invoke("index", "--help").stdout and "index" in invoke("--help").stdout


# ---- a cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    pytest.importorskip("distributed")
    with started_cluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.mark.framework
@pytest.mark.timeout(180)
@pytest.mark.parametrize("source", ["train.py:in_shards", "train.py:Photos", "train:in_shards", "a.npy", "data"])
def test_scripts_and_files_are_converted_on_a_cluster(invoke, work, data, cluster, source):
    """A function and a class of a script with what it imports, a module beside it, an array file, a data set: the bytes
    of a local run, and the workers are in another directory."""
    np.save(work / "a.npy", np.arange(3000))
    there = invoke("convert", source, "there", "--shards", 4, "--engine", "dask", "--address", cluster.address)
    assert there.exit_code == 0, there.stderr
    assert there.stdout.startswith("there: ") and "nothing was sent" not in there.stderr
    assert invoke("convert", source, "here", "--shards", 4, "--threads").exit_code == 0
    assert files_of(work / "there") == files_of(work / "here")


@pytest.mark.framework
@pytest.mark.timeout(180)
def test_a_script_that_changes_is_sent_anew(run, work, cluster):
    """Workers live longer than a script stays as it is; and an exception of its own comes back with its type."""
    dask = ("--engine", "dask", "--address", cluster.address)
    for number in (1, 2):
        (work / "changing.py").write_text(
            f"class Bad(Exception):\n    pass\n\ndef f(shard, num_shards):\n    yield {number}\n"
            f"    if {number} == 2 and shard == 1:\n        raise Bad('gone')\n"
        )
        result = run("convert", "changing.py:f", f"out{number}", "--shards", 2, *dask)
        assert result.returncode == number - 1, result.stderr
    assert list(recordio.open(work / "out1")) == [1, 1]
    assert "the source raised Bad at record 1 of shard 1" in result.stderr and "changing.py" in result.stderr
    result = run("convert", "train.py:records", "front", *dask)
    assert result.returncode == 0 and "nothing was sent to the cluster" in result.stderr


@pytest.mark.framework
def test_a_cluster_that_does_not_answer(invoke, work, monkeypatch):
    """Exit status 3, within seconds: where, and how to start one."""
    pytest.importorskip("distributed")
    monkeypatch.setattr(cluster_module, "CONNECT_TIMEOUT_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    result = invoke(*SOURCE, "out", "--shards", 2, "--engine", "dask", "--address", address)
    assert result.exit_code == 3 and "Traceback" not in result.stderr, result.stderr
    assert "no Dask scheduler has answered within 1 s" in result.stderr and f"where   {address}" in result.stderr
    assert "`dask scheduler` starts one" in result.stderr
    for nonsense in ("htp://host:8786", "tcp://host", ""):
        result = invoke(*SOURCE, "out", "--shards", 2, "--engine", "dask", "--address", nonsense)
        assert result.exit_code == 2 and f"{nonsense!r} is no address of a scheduler" in result.stderr
    assert not (work / "out").exists()


def test_without_dask_it_says_what_to_install(invoke, work, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    result = invoke(*SOURCE, "out", "--engine", "dask", "--address", "tcp://127.0.0.1:8786")
    assert result.exit_code == 2 and "pip install 'recordio[dask]'" in result.stderr and not (work / "out").exists()


SENT = """
import os, pickle, sys
from recordio.cli.scripts import Script, set_up_elsewhere

script = Script("recordio_script_far_0", "/nowhere/far.py", b"import recordio\\ndef f():\\n    yield __file__\\n")
for _ in range(2):
    set_up_elsewhere((script,), os.getcwd())
print(list(pickle.loads(b"crecordio_script_far_0\\nf\\n.")()), sys.path.count(os.getcwd()), "/nowhere" in sys.path)
"""


def test_a_script_is_found_where_its_file_is_not(tmp_path):
    """By its text; directories that are not there are not searched."""
    path = Path(recordio.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", SENT], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(path)}, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == "['/nowhere/far.py'] 1 False\n", done.stderr
