"""The README's own code and commands, as printed, in an empty directory."""

import os
import pathlib
import re
import shlex
import subprocess
import sys

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
        if words[1] == "convert":
            words.append("--overwrite")  # the code above has written there
        done = run([sys.executable, "-m", *words], tmp_path)
        assert done.returncode == 0, done.stderr
        if words[1] == "inspect":
            # Sizes depend on the release of zstd; the words and the columns do not.
            shown = next(block for block in blocks("text") if block.startswith("data/train  data set"))
            assert re.sub(r"[\d.,]+|[0-9a-f]{32}|\s+", " ", done.stdout) == re.sub(
                r"[\d.,]+|[0-9a-f]{32}|\s+", " ", shown
            )
