"""The command line as a process: pipes, signals, terminals, exit status."""

from __future__ import annotations

import os
import pty
import select
import shlex
import signal
import subprocess
import sys
import time

import pytest

import recordio
from tests.cli.running import command, files_of, shards_of


def started(args, work, environment):
    """Run a process to its end."""
    return subprocess.run(args, cwd=work, env=environment, capture_output=True, text=True, timeout=60)


def wait_for(condition, process, seconds=30.0):
    """Poll until something is there; a process that ends before, or never gets there, is a failure."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "the process did not get there"
        time.sleep(0.01)


def interrupt(process):
    """Ctrl-C until it ends: the first waits for a thread whose source hangs, the second does not."""
    for _ in range(20):
        os.killpg(process.pid, signal.SIGINT)
        try:
            return process.communicate(timeout=2)
        except subprocess.TimeoutExpired:
            continue
    pytest.fail("Ctrl-C does not end it")


@pytest.mark.parametrize("options", [[], ["--workers", "2", "--threads"], ["--workers", "2", "--processes"]])
def test_ctrl_c_loses_nothing_and_says_how_to_go_on(work, environment, run, options):
    """Exit status 130; the command that is printed ends with the bytes of an undisturbed run."""
    args = ["convert", "train.py:interruptible", "my out", "--shards", "4", *options]
    process = subprocess.Popen(
        command(*args), cwd=work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    done = work / "my out" / ".unfinished"
    wait_for(lambda: (work / "ready").exists() and len(list(done.glob("*.done"))) >= 2, process)
    stdout, stderr = interrupt(process)
    assert process.returncode == 130 and stdout == "" and "Traceback" not in stderr, stderr
    assert "interrupted" in stderr and "kept" in stderr
    finished = {path: path.stat().st_mtime_ns for path in shards_of(work / "my out")}
    assert len(finished) >= 2
    assert run("inspect", "my out").returncode == 5

    (work / "go").touch()
    line = stderr.strip().splitlines()[-1]
    assert shlex.split(line)[-1] == "--resume" and "'my out'" in line
    again = started(["sh", "-c", line], work, environment)
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert run("convert", "train.py:interruptible", "undisturbed", "--shards", "4").returncode == 0
    assert files_of(work / "my out") == files_of(work / "undisturbed")


@pytest.mark.parametrize("line", [
    "inspect many --chunks", "inspect many --chunks --json", "inspect many --chunks --shards", "verify many --json",
])  # fmt: skip
def test_reader_that_goes_away_is_no_error(work, environment, line):
    """`recordio ... | head -1` is quiet, and the exit status is that of the work."""
    recordio.convert(range(3000), work / "many", chunk_size=8)
    piped = f"{shlex.join(command())} {line} | head -1; echo ${{PIPESTATUS[0]}}"
    result = started(["bash", "-c", piped], work, environment)
    assert result.stderr == "" and result.stdout.splitlines()[-1] == "0"
    assert len(result.stdout.splitlines()) == 2


def test_reader_of_a_report_that_goes_away_is_no_error(work, environment):
    """The report is longer than a pipe holds, and the conversion is done when it is printed."""
    (work / "unfit.py").write_text("def f():\n    for n in range(3000):\n        yield {'x': n if n % 2 else 0.5}\n")
    options = "--signature '{x: int64}' --on-error skip --json -q"
    piped = f"{shlex.join(command())} convert unfit.py:f out {options} | head -1; echo ${{PIPESTATUS[0]}}"
    result = started(["bash", "-c", piped], work, environment)
    assert (result.stdout, result.stderr) == ("{\n0\n", "")
    assert len(recordio.open(work / "out")) == 1500


def test_stderr_that_goes_away_does_not_stop_a_conversion(work, environment):
    """Progress is no reason to fail."""
    process = subprocess.Popen(
        command("convert", "train.py:records", "out"), cwd=work, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None and process.stdout is not None
    process.stderr.close()
    answer = process.stdout.read()
    assert process.wait(timeout=60) == 0 and answer.startswith("out: 300 records")


@pytest.mark.parametrize(("line", "status", "words"), [
    ("inspect data >&-", 3, "stdout is closed"), ("verify data >&-", 3, "stdout is closed"), (">&-", 3, "is closed"),
    ("inspect data --json >&- 2>&-", 3, ""), ("inspect nowhere 2>&-", 3, ""), ("convert train.py:records 2>&-", 2, ""),
    ("convert train.py:records out >&-", 3, "stdout is closed"), ("inspect data > /dev/full", 3, "No space left"),
    ("inspect data 2>&- <&-", 0, "data set, complete"), ("convert train.py:records out 2>&- <&-", 0, "300 records"),
    ("convert train.py:in_shards out --shards 4 --workers 2 --processes 2>&- <&-", 0, "400 records"),
    ("convert train.py:records out 2> /dev/full", 0, "300 records"), ("--help > /dev/full", 3, "No space left"),
])  # fmt: skip
def test_closed_streams_are_no_crash(work, environment, data, line, status, words):
    """Without stdout nothing is begun; without stderr nobody listens."""
    result = started(["bash", "-c", f"{shlex.join(command())} {line}"], work, environment)
    assert (result.returncode, "Traceback" in result.stderr) == (status, False), result
    assert words in result.stderr + result.stdout and (status == 0 or not (work / "out").exists())


def on_terminal(work, environment, *args):
    """What a terminal of 100 columns gets on stderr, and the exit status."""
    leader, follower = pty.openpty()
    environment = {**environment, "TERM": "xterm-256color", "COLUMNS": "100"}
    process = subprocess.Popen(
        command(*args), cwd=work, env=environment, stdout=subprocess.PIPE, stderr=follower, stdin=follower, text=True
    )
    os.close(follower)
    shown = b""
    while True:
        ready, _, _ = select.select([leader], [], [], 60)
        assert ready, "the process hangs"
        try:
            part = os.read(leader, 65536)
        except OSError:     # Linux: the other end is closed
            break
        if not part:
            break
        shown += part
    assert process.stdout is not None
    answer = process.stdout.read()
    os.close(leader)
    return shown.decode(), answer, process.wait(timeout=60)


def test_terminal_gets_a_bar_and_stdout_does_not(work, environment):
    """Bar on stderr, answer on stdout; the bar is gone at the end."""
    shown, answer, status = on_terminal(work, environment, "convert", "train.py:in_shards", "out", "--shards", "4")
    assert status == 0 and "convert" in shown and "records" in shown and "ratio" in shown
    assert "\x1b" not in answer and answer.startswith("out: 400 records in 4 shards")
    shown, answer, status = on_terminal(work, environment, "verify", "out", "-q")
    assert (shown, status) == ("", 0)


def test_command_line_loads_no_framework(work, environment):
    """Help does not even load the commands."""
    code = (
        "import sys, recordio.cli.app as app\n"
        "status = app.application.main(['--help'], standalone_mode=False)\n"
        "assert not {'rich', 'recordio.convert.run', 'keras', 'tensorflow', 'torch'} & set(sys.modules), 'too much'"
    )
    result = started([sys.executable, "-c", code], work, environment)
    assert result.returncode == 0, result.stderr


def test_completion_completes(work, environment):
    """Commands and options, as the shell asks for them."""
    asked = {**environment, "_RECORDIO_COMPLETE": "bash_complete", "COMP_WORDS": "recordio in", "COMP_CWORD": "1"}
    code = "import sys; sys.argv = ['recordio']; from recordio.cli import main; main()"
    result = started([sys.executable, "-c", code], work, asked)
    assert "inspect" in result.stdout
