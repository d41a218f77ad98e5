"""What a type checker says of a user's code: the user runs mypy --strict, and our names are shipped as typed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
USE = '''
from collections.abc import Iterator
from typing import Any, assert_type

import numpy as np
import recordio

spec: recordio.TensorSpec = recordio.TensorSpec((None, 28), np.float32, name="x", optional=True)
also = [
    recordio.TensorSpec([2, None], "str"), recordio.TensorSpec(None, np.dtype("int8")), recordio.TensorSpec((), int),
    recordio.TensorSpec(np.zeros(2).shape, np.zeros(2).dtype), recordio.MsgpackSpec("m"),
]
shape: tuple[int | None, ...] | None = spec.shape
name: str = spec.dtype

ragged = recordio.Ragged.from_rows([[1, 2], None], np.int32)
for dtype in ("int32", int, np.dtype("int32")):
    recordio.Ragged.from_rows([[1, 2], None], dtype, shape=[None])
assert_type(ragged[0], Any)
assert_type(ragged[np.int64(0)], Any)
assert_type(ragged[1:], recordio.Ragged)
assert_type(ragged[[0, 1]], recordio.Ragged)
assert_type(ragged[[np.int64(0)]], recordio.Ragged)
assert_type(ragged[[True, False]], recordio.Ragged)
assert_type(ragged[np.arange(2)], recordio.Ragged)
assert_type(ragged[np.array([True, False])], recordio.Ragged)
assert_type(ragged.copy(), recordio.Ragged)
padded = ragged.to_padded(fill=0, shape=(4,))
ragged.to_padded(shape=[None])
ragged.to_padded(shape=(np.int64(4), None))
total = int(padded.sum()) + len(ragged)
rows: Iterator[Any] = iter(ragged)
offsets: np.ndarray[Any, Any] = ragged.row_offsets
objects = np.asarray(ragged)
'''
WRONG = '''
import recordio
recordio.Ragged.from_rows([[1]], 1.5)
recordio.Ragged.from_rows([[1]], "int8", shape=4)
recordio.Ragged.from_rows([[1]], "int8").to_padded(shape=4)
recordio.Ragged.from_rows([[1]], "int8")["a"]
'''


def checked(tmp_path: Path, text: str) -> list[str]:
    """The errors of mypy --strict."""
    path = tmp_path / "use.py"
    path.write_text(text)
    # Nothing but the code above is judged: the package has a check of its own, with its own options.
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--follow-imports=silent"]
    command += [f"--cache-dir={tmp_path / 'cache'}", str(path)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ran.returncode in (0, 1), ran.stdout + ran.stderr
    return [line for line in ran.stdout.splitlines() if " error: " in line]


@pytest.mark.timeout(600)
def test_what_a_user_writes_passes_a_strict_type_check(tmp_path):
    """numpy's integers are indices, numpy's data types are dtypes; and what cannot work is found."""
    assert checked(tmp_path, USE) == []
    lines = {line.split(":")[1] for line in checked(tmp_path, WRONG)}
    assert lines == {"3", "4", "5", "6"}
