"""Advice is written for Python: on the command line it names options, and what is quoted or code stays as it is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import recordio
from recordio.cli.failures import _as_options

PACKAGE = Path(recordio.__file__).parent


def advices() -> Iterator[str]:
    """Every text that is given as advice anywhere in recordio, or named so; {} stands for what is filled in."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.keyword):
                names = [node.arg]
            elif isinstance(node, ast.Assign):
                names = [ast.unparse(target) for target in node.targets]
            else:
                continue
            if any("advice" in name.lower() or name == "_ACCEPTED" for name in filter(None, names)):
                yield from texts(node.value)


def texts(value: ast.expr) -> Iterator[str]:
    """The texts that an expression may be."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value
    elif isinstance(value, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in value.values)
    elif isinstance(value, ast.IfExp | ast.BoolOp):
        for one in value.values if isinstance(value, ast.BoolOp) else (value.body, value.orelse):
            yield from texts(one)


# What the command line says instead. An advice that is not here is said as it stands.
CHANGED = {
    "Convert again from the start, with overwrite=True and without resume, or restore the source":
        "Convert again from the start, with --overwrite and without --resume, or restore the source",
    "Define it at the top level of a module (no lambda, no function or class inside a function) and let it "
    "open files where it reads them; or use threads: use_multiprocessing=False":
        "Define it at the top level of a module (no lambda, no function or class inside a function) and let it "
        "open files where it reads them; or use threads: --threads",
    "Check when all tasks have ended: recordio.merge_shards(path, check=True)":
        "Check when all tasks have ended: recordio index OUT --merge --check",
    "Give an output_signature":
        "Give a --signature",
    "Give an output_signature that all records match":
        "Give a --signature that all records match",
    "Give an output_signature, or convert them":
        "Give a --signature, or convert them",
    "Give an output_signature: recordio.MsgpackSpec() stands for a JSON-like object that varies":
        "Give a --signature: msgpack in it stands for a JSON-like object that varies",
    "Give an output_signature; uint64 holds integers below 2**64":
        "Give a --signature; uint64 holds integers below 2**64",
    "Give the same source and options, or start again with overwrite=True, without resume":
        "Give the same source and options, or start again with --overwrite, without --resume",
    "Go on with convert(..., resume=True)":
        "Go on with recordio convert ... --resume",
    "Go on with it: convert(..., resume=True)":
        "Go on with it: recordio convert ... --resume",
    "Go on with resume=True, or start again with overwrite=True":
        "Go on with --resume, or start again with --overwrite",
    "Make it a tuple if these are leaves, numpy.stack(...) if they are rows; or give an output_signature":
        "Make it a tuple if these are leaves, numpy.stack(...) if they are rows; or give a --signature",
    "Put it into a module and import it; or use threads: use_multiprocessing=False":
        "Put it into a module and import it; or use threads: --threads",
    "Replace it with overwrite=True, or write elsewhere":
        "Replace it with --overwrite, or write elsewhere",
    "Replace it with overwrite=True, without resume, or write elsewhere":
        "Replace it with --overwrite, without --resume, or write elsewhere",
    "Restore the file, or open with on_corrupt='skip' to lose these records only":
        "Restore the file, or read it with recordio.open(..., on_corrupt='skip') and lose these records only",
    "Restore the file, or open with on_corrupt='skip' to lose this chunk only":
        "Restore the file, or read it with recordio.open(..., on_corrupt='skip') and lose this chunk only",
    "Restore the index, or replace all with overwrite=True":
        "Restore the index, or replace all with --overwrite",
    "Run the tasks that are left, then recordio.merge_shards(path)":
        "Run the tasks that are left, then recordio index OUT --merge",
    "To allow None, declare TensorSpec(..., optional=True)":
        "To allow None, put ? behind its type in --signature",
}


def test_every_advice_of_the_tree_is_said_as_it_should_be():
    """A new advice that names an argument of Python comes up here, to be looked at."""
    found = set(advices())
    assert len(found) > 80
    assert {text: _as_options(text) for text in found if _as_options(text) != text} == CHANGED


@pytest.mark.parametrize("text", [
    "Parameters named `shard` and `num_shards` are filled in if both are there",
    "Call recordio.convert(source, path, num_shards=8, overwrite=True)",
    "Call from_generator(fn, args=(1, overwrite=True))",
    "Did you mean 'overwrite=True' or \"without resume\"?",
    "Columns: num_shards, shard_size, resume, overwrite",
    "No such argument: no_overwrite=True, overwrite=Truely, self.resume=True",
])  # fmt: skip
def test_code_and_names_of_the_user_stay(text):
    """Quoted, called, or part of another word."""
    assert _as_options(text) == text


def test_the_path_in_a_note_stays(invoke, work):
    """Whatever its words are."""
    (work / "fails.py").write_text("def f(shard, num_shards):\n    1 / (shard < 1)\n    yield 1\n")
    result = invoke("convert", "fails.py:f", work / "overwrite=True", "--shards", 3)
    note = f"1 finished shard is kept in {work}/overwrite=True. Go on with recordio convert ... --resume."
    assert result.exit_code == 1 and note in result.stderr
