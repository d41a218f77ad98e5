"""The second reader is short, and stands alone; so two readers that agree are two witnesses."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

from tests.spec.vector import shard_of

ROOT = Path(__file__).parents[2]
READER = ROOT / "spec" / "reference_reader.py"
ALLOWED = {*sys.stdlib_module_names, "crc32c", "msgpack", "numpy", "zstandard"}


def test_it_is_under_250_lines():
    """And each of them under 121 characters, without semicolons."""
    lines = READER.read_text("utf-8").splitlines()
    assert len(lines) < 250
    assert max(map(len, lines)) <= 120
    assert [line for line in lines if line.rstrip().endswith(";") or "; " in line.split("#")[0]] == []


def test_it_imports_nothing_of_recordio():
    """Only the standard library, numpy, msgpack, zstandard and crc32c."""
    tree = ast.parse(READER.read_text("utf-8"))
    names = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or "."])
    }
    assert names - ALLOWED == set()


def test_it_follows_the_order_of_the_specification():
    """Its sections stand in the order of format.md."""
    lines = READER.read_text("utf-8").splitlines()
    sections = [line.split()[3].rstrip(".:;") for line in lines if line.startswith("# ----")]
    assert sections == ["1", "2", "3", "4", "5", "6", "7", "8"]


def test_it_prints_records_as_json_lines(tmp_path):
    """From the command line; recordio cannot even be imported there."""
    from recordio import TensorSpec

    path = tmp_path / "one.rio"
    records = [{"n": 1, "s": "né"}, {"n": 2, "s": ""}]
    path.write_bytes(shard_of({"n": TensorSpec((), "int32"), "s": TensorSpec((), "str")}, records))
    code = f"""
import runpy, sys
sys.modules["recordio"] = None
sys.argv[1:] = [{str(path)!r}]
runpy.run_path({str(READER)!r}, run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert [json.loads(line) for line in done.stdout.splitlines()] == records
