"""The keys that --help lists are those of the JSON, each of them and no other: programs are written by that list."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.cli.running import flip_after_commit, shards_of

Keys = dict[str, Any]       # key -> the keys of what stands there: None, if that is not said


def documented(invoke: Any, command: str) -> list[Keys]:
    """The lists of keys in the JSON paragraph of a command's help; an option before a colon begins another list."""
    text = invoke(command, "--help").stdout
    paragraph = re.search(r"JSON: (.*?)(\n\s*\n|$)", text, re.DOTALL)
    assert paragraph is not None
    return read_keys(re.sub(r"\([^()\[\]]*\)", "", " ".join(paragraph[1].split())))


def read_keys(text: str) -> list[Keys]:
    """`a, b: [{c, d: {e}}], some words, more words f: text` -> {a, b: {c, d: {e}}, f}."""
    found: list[Keys] = [{}]
    for entry in split_outside_brackets(text):
        head, colon, rest = entry.partition(":")
        *words, name = head.split()
        if colon and name.startswith("--"):
            found.append({})
            words, name, colon, rest = [], rest.strip(), "", ""
        if name.isidentifier() and (colon or not words):    # else words between the keys
            inner = re.search(r"\{(.*)\}", rest)
            found[-1][name] = read_keys(inner[1])[0] if inner else None
    return found


def split_outside_brackets(text: str) -> list[str]:
    """The entries between commas, and between sentences."""
    entries, depth = [""], 0
    for sign in text:
        depth += (sign in "[{") - (sign in "]})")
        if depth == 0 and sign in ",;.":
            entries.append("")
        else:
            entries[-1] += sign
    return [entry.strip() for entry in entries if entry.strip()]


def found_keys(like: Keys, objects: list[Any]) -> Keys:
    """The keys of objects, which all have the same; inside of them, as deep as `like` goes."""
    (names,) = {tuple(sorted(one)) for one in objects}
    inner = {name: [part for one in objects for part in parts(one[name])] for name in names if like.get(name)}
    return {name: found_keys(like[name], inner[name]) if name in inner else None for name in names}


def parts(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


@pytest.fixture
def verify_keys(invoke: Any) -> Keys:
    (keys,) = documented(invoke, "verify")
    return keys


def test_lists_of_keys_are_understood():
    """Words between them are no keys, and what is in brackets belongs to the key before."""
    text = "a, b: [{c, d: {e}, f: [m, n]}], b being [x, y) where so; with --g also h: as i. With --j: k, l."
    assert read_keys(text) == [
        {"a": None, "b": {"c": None, "d": {"e": None}, "f": None}, "h": None}, {"k": None, "l": None},
    ]  # fmt: skip
    assert found_keys({"a": {"b": None}}, [{"a": None, "c": {}}, {"a": [{"b": {"d": 1}}], "c": 1}]) == {
        "a": {"b": None}, "c": None
    }  # fmt: skip


def test_keys_of_convert(invoke, work, monkeypatch, verify_keys):
    """With what was skipped, and with what --check has found."""
    report, plan = documented(invoke, "convert")
    flip_after_commit(monkeypatch, shard=0, chunk=0)
    args = ["convert", "train.py:unfit", "out", "--on-error", "skip", "--json", "--overwrite"]
    checked = json.loads(invoke(*args, "--check").stdout)
    assert found_keys(report, [checked]) == report
    assert found_keys(verify_keys, [checked["verify"]]) == verify_keys
    assert json.loads(invoke(*args).stdout).keys() == report.keys() - {"verify"}
    assert found_keys(plan, [json.loads(invoke(*args, "--dry-run").stdout)]) == plan


def test_keys_of_index(invoke, work, verify_keys):
    """Those of convert."""
    (report,) = documented(invoke, "index")
    assert invoke("convert", "train.py:Photos", "out", "--shards", 2, "--threads", "--task", "0/1").exit_code == 0
    merged = json.loads(invoke("index", "out", "--merge", "--check", "--json").stdout)
    assert merged.keys() == report.keys() and merged["verify"].keys() == verify_keys.keys()
    assert report == documented(invoke, "convert")[0]


def test_keys_of_verify(invoke, data, verify_keys):
    """Of a good data set the same as of a damaged one."""
    good = json.loads(invoke("verify", data, "--json").stdout)
    shards_of(data)[0].unlink()
    damaged = json.loads(invoke("verify", data, "--json").stdout)
    assert good.keys() == damaged.keys() and found_keys(verify_keys, [damaged]) == verify_keys


def test_keys_of_inspect(invoke, data, verify_keys):
    """With every list, and with problems; the lists are not there unasked."""
    (keys,) = documented(invoke, "inspect")
    lists = ["--shards", "--chunks", "--verify"]
    assert json.loads(invoke("inspect", data, "--json").stdout).keys() == keys.keys() - {"shards", "chunks", "verify"}
    whole = json.loads(invoke("inspect", data, "--json", "--stats", *lists).stdout)
    assert found_keys(keys, [whole]) == keys
    shards_of(data)[1].unlink()
    damaged = json.loads(invoke("inspect", data, "--json", *lists).stdout)
    assert damaged.keys() == keys.keys()
    for problems in (damaged["problems"], damaged["verify"]["damages"]):
        assert found_keys(verify_keys["damages"], problems) == verify_keys["damages"]
    unfinished = data.parent / "unfinished"
    (unfinished / ".unfinished").mkdir(parents=True)
    found = json.loads(invoke("inspect", unfinished, "--json", *lists).stdout)
    assert found.keys() == keys.keys()
