"""recordio plan: the table, the JSON with the keys that --help lists, the shuffle report, and its errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from tests.cli.test_json_keys import documented, found_keys


@pytest.fixture
def data(tmp_path: Path) -> str:
    """Six shards of labels."""
    source = recordio.from_tensor_slices({"label": np.arange(3000) // 500})
    recordio.convert(source, tmp_path / "set", num_shards=6, chunk_size=400)
    return str(tmp_path / "set")


def test_plan_shows_who_reads_what(invoke: Any, data: str) -> None:
    """One line for each pipeline, and what holds for all of them."""
    done = invoke("plan", data, "--pipelines", "3", "--replicas", "6", "--batch", "64", "--policy", "file")
    assert done.exit_code == 0, done.stderr
    assert "FILE over 3 input pipelines, 6 replicas" in done.stdout
    lines = [line.split() for line in done.stdout.splitlines() if line.strip()[:1].isdigit()]
    assert [line[0] for line in lines] == ["0", "1", "2"]
    assert [" ".join(line[1:3]) for line in lines] == ["0, 3", "1, 4", "2, 5"]


def test_json_has_the_keys_that_help_lists(invoke: Any, data: str) -> None:
    """With and without the shuffle report."""
    (whole,) = documented(invoke, "plan")
    keys = {name: inner for name, inner in whole.items() if name != "quality"}
    done = invoke("plan", data, "--pipelines", "2", "--batch", "64", "--json")
    answer = json.loads(done.stdout)
    assert found_keys(keys, [answer]) == keys
    assert answer["steps"] == 47 and sum(one["records"] for one in answer["pipelines"]) == 3000
    done = invoke("plan", data, "--batch", "64", "--pool", "500", "--shuffle-report", "--classes", "label", "--json")
    answer = json.loads(done.stdout)
    assert found_keys(whole, [answer]) == whole
    assert answer["mode"] == "pooled" and 0 < answer["quality"]["batch_entropy"] < 2.6


def test_report_is_printed_beside_a_perfect_shuffle(invoke: Any, data: str) -> None:
    """Entropies, distinct shards, chi-square, and the next record's shard."""
    done = invoke("plan", data, "--batch", "64", "--pipelines", "2", "--shuffle-report")
    for words in ("shard entropy of a batch", "replica's part", "distinct shards", "chi-square", "perfect"):
        assert words in done.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--pipelines", "7", "--batch", "8", "--policy", "FILE"], 2, "6 shards"),
        (["--pipelines", "2", "--replicas", "3", "--batch", "8"], 2, "multiple"),
        (["--batch", "7", "--remainder", "error"], 2, "divide"),
        (["--pipelines", "2"], 2, "--batch"),
        (["--batch", "8", "--classes", "lable"], 2, "label"),
    ],
)
def test_wrong_usage_says_what_to_do(invoke: Any, data: str, arguments: list[str], status: int, says: str) -> None:
    """Exit status 2, and the words that help."""
    done = invoke("plan", data, *arguments)
    assert done.exit_code == status
    assert says in done.stderr
