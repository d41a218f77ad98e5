"""Processes that train together, and what is left of the processes of a test."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]


def run_together(script: Path, path: Path, num_processes: int, *arguments: str, **variables: str) -> list[Any]:
    """Run `script PATH PORT PROCESS NUM_PROCESSES [ARGUMENT...]` in each of some processes at once.

    The first of them may listen on PORT.

    Args:
        variables: of their environment.

    Returns:
        the JSON that each has printed last.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", **variables}
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(path), str(port), str(number), str(num_processes), *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )
        for number in range(num_processes)
    ]  # fmt: skip
    try:
        ended = [process.communicate(timeout=150) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert not any(process.returncode for process in processes), "".join(errors[-2000:] for _, errors in ended)
    return [json.loads(output.strip().splitlines()[-1]) for output, _ in ended]


def children() -> list[psutil.Process]:
    """Processes of this one; but for the tracker of multiprocessing, which belongs to the interpreter, and stays."""
    found = []
    for child in psutil.Process().children():
        try:
            is_tracker = "resource_tracker" in " ".join(child.cmdline())
        except psutil.ZombieProcess:
            is_tracker = False  # it has ended, and nobody has waited for it
        except psutil.NoSuchProcess:
            continue
        if not is_tracker:
            found.append(child)
    return found
