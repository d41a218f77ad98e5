"""The README's own code and commands, as printed, in an empty directory."""

import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import sys

import pytest
import zstandard

from tests.clusters import address_answers, num_connected, wait_until

README = pathlib.Path(__file__).parents[1] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text("utf-8"), re.M | re.S)


def run(command: list[str], directory: pathlib.Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COLUMNS": "100", "PYTHONPATH": str(README.parent)}
    return subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_readme_does_what_it_shows(tmp_path):
    """Convert and read under 25 lines; then the commands; inspect prints what the README shows."""
    (code,) = blocks("python")
    assert len([line for line in code.splitlines() if line.strip()]) < 25
    done = run([sys.executable, "-c", code], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "10000 records in 4 shards"

    (commands,) = (block for block in blocks("sh") if block.startswith("recordio convert"))
    (tmp_path / "my_script.py").write_text(code.split("report =")[0])
    for line in commands.splitlines():
        words = shlex.split(line)
        done = run([sys.executable, "-m", *words], tmp_path)
        assert done.returncode == 0, done.stderr
        if words[1] == "inspect":
            shown = next(block for block in blocks("text") if block.startswith("data/train  data set"))
            assert comparable(done.stdout) == comparable(shown)

    (shard,) = (tmp_path / "data" / "train").glob("shard-00001-*.rio")
    contents = bytearray(shard.read_bytes())
    contents[1_478_600] ^= 1
    shard.write_bytes(contents)
    raised, verified, refused = (block for block in blocks("text") if "Error: " in block)
    done = run([sys.executable, "-c", READ_ALL], tmp_path)
    assert comparable(done.stdout) == comparable(raised)
    done = run([sys.executable, "-m", "recordio", "verify", "data/train"], tmp_path)
    assert done.returncode == 1
    assert comparable(done.stdout) == comparable(verified.partition("\n")[2])
    done = run([sys.executable, "-c", WRONG_VALUE], tmp_path)
    assert done.stderr.splitlines()[-1].endswith(refused.strip())


def test_the_array_job_of_the_readme_does_what_it_shows(tmp_path):
    """Each line as it stands; the files are those of one command."""
    commands = cluster_block(tmp_path, "# Array jobs")
    done = [run([sys.executable, "-m", *words], tmp_path) for words in commands]
    assert [one.returncode for one in done] == [0, 0, 0], done
    alone = [sys.executable, "-m", "recordio", "convert", "my_shards.py:records", "alone", "--shards", "4"]
    assert run(alone, tmp_path).returncode == 0
    assert files(tmp_path / "data" / "tasks") == files(tmp_path / "alone")


@pytest.mark.framework
def test_the_cluster_of_the_readme_does_what_it_shows(tmp_path):
    """Each line as it stands, but for the port, which may be in use; the first two go on until they are ended."""
    pytest.importorskip("distributed")
    with socket.create_server(("localhost", 0)) as listening:
        port = str(listening.getsockname()[1])
    scheduler, worker, convert = ([word.replace("8786", port) for word in words]
                                  for words in cluster_block(tmp_path, "# A Dask cluster"))  # fmt: skip
    started = []
    try:
        for words, is_there in (
            (scheduler, lambda: address_answers("localhost", int(port))),
            (worker, lambda: num_connected(worker[-1]) == 1),
        ):
            environment = os.environ | {"PYTHONPATH": str(README.parent)}
            started.append(subprocess.Popen(
                [sys.executable, "-m", *words], cwd=tmp_path, env=environment, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            ))  # fmt: skip
            wait_until(is_there, started[-1])
        done = run([sys.executable, "-m", *convert], tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("data/dask: 10,000 records in 4 shards")
    finally:
        for process in started:
            os.killpg(process.pid, signal.SIGKILL)     # a worker has a process that watches it
            process.wait(30)


def cluster_block(directory: pathlib.Path, beginning: str) -> list[list[str]]:
    """The commands of a block, once its script is there."""
    (script,) = (block for block in blocks("text") if block.startswith("def records("))
    (directory / "my_shards.py").write_text(script)
    (commands,) = (block for block in blocks("sh") if block.startswith(beginning))
    return [shlex.split(line) for line in commands.splitlines()[1:]]


def files(path: pathlib.Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


READ_ALL = """
import recordio
try:
    list(recordio.open("data/train"))
except recordio.ChecksumError as error:
    message = str(error)
    place = message.index(" [")
    where, _, advice = message[place + 1 :].partition("]. ")
    print(f"{type(error).__name__}: {message[:place]}", f"  {where}]", f"  {advice}", sep="\\n")
"""
WRONG_VALUE = """
import recordio
with recordio.Writer("w", {"label": recordio.TensorSpec((), "int32")}) as writer:
    writer.write({"label": 2**40})
"""


def comparable(text: str) -> str:
    """All of it but times; with another zstd than the README's, whose bytes may differ, the words alone."""
    text = re.sub(r"in [\d.]+ s\b", "in 0.0 s", text).strip()
    if zstandard.ZSTD_VERSION == (1, 5, 7):
        return text
    return re.sub(r"0x[0-9a-f]{8}|shard-00001-[0-9a-f]{8}|[0-9a-f]{32}|[\d.,]+|\s+", " ", text)
