"""Environments of the formats: those that cannot be installed together have one of their own.

Made with pip in `.venv-bench/`, once; a format that cannot be installed is listed as such, and the others go on.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DIRECTORY = Path(os.environ.get("RECORDIO_BENCH_VENVS", ROOT / ".venv-bench"))

REQUIREMENTS = {
    "recordio": ("-e", ".[image]"),
    "arrow": ("numpy", "pyarrow", "pylance", "datasets", "lmdb", "bagz"),
    "tf": ("numpy", "tensorflow-cpu"),
    "grain": ("numpy", "grain", "array-record"),
    "torch": ("numpy", "torch==2.13.0", "webdataset", "litdata", "mosaicml-streaming"),  # a local CPU build of torch
    "plot": ("matplotlib",),
    "training": ("-e", ".[keras,jax,grain]", "torch==2.13.0", "tensorflow-cpu"),
}


@dataclass(frozen=True, slots=True)
class Environment:
    """A Python that has some formats, or the reason why there is none."""

    python: str
    error: str | None = None


@cache
def environment(name: str) -> Environment:
    """Make it, unless it is there as it should be."""
    directory = DIRECTORY / name
    print(f"environment {name}: {' '.join(REQUIREMENTS[name])}", file=sys.stderr, flush=True)
    script = '. tools/environment.sh; ensure_venv "$1" && install_once "$@"'
    done = subprocess.run(
        ["bash", "-c", script, "bash", str(directory), *REQUIREMENTS[name]], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if done.returncode:
        return Environment("", error=done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "pip failed")
    return Environment(str(directory / "bin" / "python"))


@cache
def versions(name: str, distributions: tuple[str, ...]) -> str:
    """Of what an environment has."""
    code = "import sys; from importlib.metadata import version; print(*(f'{n} {version(n)}' for n in sys.argv[1:]))"
    found = environment(name)
    if found.error is not None:
        return found.error
    done = subprocess.run([found.python, "-c", code, *distributions], capture_output=True, text=True)
    return done.stdout.strip() or "not installed"
