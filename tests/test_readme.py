"""The README's own code and commands, as printed, in an empty directory."""

import os
import pathlib
import re
import shlex
import subprocess
import sys

import zstandard

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
