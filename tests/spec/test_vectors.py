"""Every vector is read by both readers, and both reach the manifest's verdict: the same records, or one kind of error.

No other exception is allowed, whatever a file holds.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from spec import reference_reader
from tests.spec.vector import as_bits, to_json

VECTORS = Path(__file__).parents[2] / "spec" / "vectors"
MANIFEST: list[dict[str, str]] = json.loads((VECTORS / "manifest.json").read_text("utf-8"))

KINDS: dict[type[recordio.RecordIOError], str] = {
    recordio.NotRecordIOError: "not recordio",
    recordio.TooNewError: "too new",
    recordio.TruncatedError: "truncated",
    recordio.ChecksumError: "checksum",
    recordio.MalformedError: "malformed",
    recordio.MismatchError: "mismatch",
    recordio.IncompleteError: "incomplete",
}
GOOD = [entry for entry in MANIFEST if entry["verdict"] == "good"]
BAD = [entry for entry in MANIFEST if entry["verdict"] != "good"]


def path_of(entry: dict[str, str]) -> str:
    """What a failing test is called."""
    return entry["path"]


def same(left: Any, right: Any) -> bool:
    """Equal in structure, type, dtype, shape and bits; a scalar may come as an array without dimensions."""
    if isinstance(left, dict):
        return type(right) is dict and list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return type(left) is type(right) and len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, np.ndarray | np.generic):
        if not isinstance(right, np.ndarray | np.generic) or (left.dtype, left.shape) != (right.dtype, right.shape):
            return False
        return bool(left.tolist() == right.tolist()) if left.dtype == object else left.tobytes() == right.tobytes()
    return type(left) is type(right) and bool(left == right)


@pytest.mark.parametrize("entry", GOOD, ids=path_of)
def test_both_readers_give_the_expected_records(entry):
    """The section that the manifest names; the records are those of the JSON file beside the vector."""
    expected = (VECTORS / entry["records"]).read_text("utf-8")
    by_reference = reference_reader.read(VECTORS / entry["path"])
    by_recordio = list(recordio.open(VECTORS / entry["path"]))
    assert to_json(by_reference) == expected
    assert to_json(by_recordio) == expected
    assert same([as_bits(record) for record in by_recordio], by_reference)


@pytest.mark.parametrize("entry", BAD, ids=path_of)
def test_both_readers_refuse_for_the_same_reason(entry):
    """One kind of error, and no other exception; the section that the manifest names."""
    with pytest.raises(reference_reader.FormatError) as refused:
        reference_reader.read(VECTORS / entry["path"])
    with pytest.raises(recordio.RecordIOError) as raised:
        list(recordio.open(VECTORS / entry["path"]))
    assert refused.value.args[0] == entry["verdict"], refused.value
    assert KINDS[raised.type] == entry["verdict"], raised.value


@pytest.mark.parametrize("entry", BAD, ids=path_of)
def test_damage_is_met_in_batches_and_by_number_too(entry):
    """Every read path verifies: no bad vector gives all of its records by any of them."""
    for read in (read_batches, read_by_number, read_in_one):
        with pytest.raises(recordio.RecordIOError) as raised:
            read(recordio.open(VECTORS / entry["path"]))
        assert KINDS[raised.type] == entry["verdict"], (read.__name__, raised.value)


def read_batches(dataset: recordio.Dataset) -> None:
    """All records, in batches, decoded on threads."""
    list(dataset.batch(2).with_options(workers=2))


def read_by_number(dataset: recordio.Dataset) -> None:
    """All records, one by one."""
    for number in range(len(dataset)):
        dataset[number]


def read_in_one(dataset: recordio.Dataset) -> None:
    """All records as one batch, backwards; without records at least the tables."""
    dataset[list(range(len(dataset)))[::-1]]


def test_manifest_names_every_file():
    """A file that no vector names would be a promise that nobody keeps."""
    named = {entry["path"] for entry in MANIFEST} | {entry["records"] for entry in GOOD} | {"manifest.json"}
    found = {str(path.relative_to(VECTORS)) for path in VECTORS.rglob("*") if path.is_file()}
    assert {path for path in found if path not in named and str(Path(path).parent) not in named} == set()
    assert {path for path in named if not (VECTORS / path).exists()} == set()


def test_every_kind_of_error_has_vectors():
    """And so has every folder; sections are those of format.md."""
    assert set(Counter(entry["verdict"] for entry in BAD)) == set(KINDS.values())
    assert {entry["path"].split("/")[0] for entry in MANIFEST} == {"good", "damaged", "hostile", "newer"}
    assert {entry["section"] for entry in MANIFEST} <= {str(section) for section in range(1, 12)}


def test_vectors_stay_small():
    """They travel with every copy of the specification."""
    assert sum(path.stat().st_size for path in VECTORS.rglob("*") if path.is_file()) < 300_000
