"""Processes of a TensorFlow cluster: started together, and ended together if one of them fails or hangs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_GLANCE_S = 0.1  # at one worker, before the next one is looked at


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on; they are held until all are found, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("localhost", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def run_workers(
    program: str, arguments: Sequence[str], num_workers: int, directory: Path, *,
    timeout_s: float, environment: Mapping[str, str] | None = None,
) -> list[Any]:  # fmt: skip
    """What the workers of a cluster answer: one process each, or one without a cluster.

    Args:
        program: path of a Python file.
        arguments: for each of them; the path that the answer is to be written to, as JSON, goes before them.
        directory: of answers and of what the workers say.

    Raises:
        AssertionError: one failed or did not end in time, with its last words; the others are ended then, too.
    """
    ports = free_ports(num_workers)
    answers = [directory / f"{index}.json" for index in range(num_workers)]
    workers: list[subprocess.Popen[bytes]] = []
    try:
        for index, answer in enumerate(answers):
            cluster = {"worker": [f"localhost:{port}" for port in ports]}
            config = {"cluster": cluster, "task": {"type": "worker", "index": index}} if num_workers > 1 else {}
            with answer.with_suffix(".log").open("w") as log:
                workers.append(subprocess.Popen(
                    [sys.executable, program, str(answer), *arguments], stdout=log, stderr=log,
                    env={
                        **os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT), **(environment or {}),
                        "TF_CONFIG": json.dumps(config),
                    },
                ))  # fmt: skip
        _wait(workers, answers, time.monotonic() + timeout_s)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    return [json.loads(answer.read_text()) for answer in answers]


def _wait(workers: Sequence[subprocess.Popen[bytes]], answers: Sequence[Path], deadline: float) -> None:
    running = dict(zip(answers, workers, strict=True))
    while running:
        for answer, worker in list(running.items()):
            try:
                status = worker.wait(_GLANCE_S)
            except subprocess.TimeoutExpired:
                assert time.monotonic() < deadline, f"{answer.stem} hangs: {_last_words(answers)}"
                continue
            assert status == 0, f"{answer.stem} ended with {status}: {_last_words([answer])}"
            del running[answer]


def _last_words(answers: Sequence[Path]) -> str:
    return "\n".join(f"-- {answer.stem}\n{answer.with_suffix('.log').read_text()[-3000:]}" for answer in answers)
