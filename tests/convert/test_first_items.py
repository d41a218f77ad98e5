"""The first items of a source, looked at before anything is written: skipped like others, and reported."""

from __future__ import annotations

import numpy as np
import pytest

import recordio
from tests.convert import given
from tests.convert.interrupting import Failure


class Sequence:
    """Numbered records of varying size, some of which cannot be had."""

    def __init__(self, bad, length: int = 400) -> None:
        self.bad, self.length = frozenset(bad), length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int):
        if number in self.bad:
            raise Failure(f"no record {number}")
        return {"number": number, "text": "x" * (number % 7)}


class Batches(given.Batches):
    """Batches of which some cannot be had."""

    def __init__(self, bad, num_batches: int = 8) -> None:
        super().__init__(num_batches, batch_size=10)
        self.bad = frozenset(bad)

    def __getitem__(self, index: int):
        if index in self.bad:
            raise Failure(f"no batch {index}")
        return super().__getitem__(index)


SIGNATURE = {"number": recordio.TensorSpec((), "int64"), "text": recordio.TensorSpec((), "str")}
WORKERS = [{}, {"workers": 3}, {"workers": 2, "use_multiprocessing": True}]


@pytest.mark.parametrize("how", WORKERS)
@pytest.mark.parametrize("options", [{"num_shards": 3}, {"shard_size": 2000}])
@pytest.mark.parametrize("signature", [None, SIGNATURE])
def test_a_record_that_cannot_be_had_is_skipped_wherever_it_stands(signature, options, how, tmp_path):
    """Among those that are looked at first, and later ones; each is reported once."""
    bad = {0, 1, 7, 200, 300, 399}
    report = recordio.convert(
        Sequence(bad), tmp_path / "set", output_signature=signature, on_error="skip", **options, **how
    )
    assert [skipped.label for skipped in report.skipped] == [f"record {number}" for number in sorted(bad)]
    assert "Failure: no record 7" in report.skipped[2].error
    numbers = [record["number"] for record in recordio.open(tmp_path / "set")]
    assert numbers == [number for number in range(400) if number not in bad]


@pytest.mark.parametrize("how", [*WORKERS, {"workers": 8}])
@pytest.mark.parametrize("options", [{"num_shards": 3}, {"shard_size": 2000}, {"num_shards": 20}])
@pytest.mark.parametrize("signature", [None, given.SPEC])
def test_a_batch_that_cannot_be_had_is_skipped_wherever_it_stands(signature, options, how, tmp_path):
    """Also if it is the first, and whichever way the batches are dealt out."""
    bad = {0, 1, 5}
    report = recordio.convert(
        Batches(bad), tmp_path / "set", output_signature=signature, on_error="skip", **options, **how
    )
    assert [skipped.label for skipped in report.skipped] == ["batch 0", "batch 1", "batch 5"]
    numbers = [record["number"] for record in recordio.open(tmp_path / "set")]
    assert numbers == [number for number in range(80) if number // 10 not in bad]


def test_good_items_are_asked_for_once_also_among_bad_ones(tmp_path):
    dataset = Batches({0, 2})
    recordio.convert(dataset, tmp_path / "set", num_shards=2, on_error="skip")
    assert sorted(dataset.asked) == [1, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(("source", "noted"), [
    (Sequence(range(5), 5), "none of the first 5"), (Batches(range(3), 3), "none of the first 3"),
    (Sequence(range(400)), "none of the first 32"), (Batches(range(100), 100), "none of the first 32"),
])  # fmt: skip
def test_where_no_item_can_be_had_the_source_has_the_word(source, noted, tmp_path):
    """After a bounded number of them: its own error, for the first one, and how many failed."""
    with pytest.raises(Failure, match=" 0") as caught:
        recordio.convert(source, tmp_path / "set", num_shards=1, on_error="skip")
    assert any(note.endswith(" 0") for note in caught.value.__notes__)
    assert any(noted + " items" in note for note in caught.value.__notes__)
    assert not (tmp_path / "set").exists()


def test_without_skip_the_first_item_that_fails_ends_it(tmp_path):
    records = Sequence({3})
    with pytest.raises(Failure, match="no record 3"):
        recordio.convert(records, tmp_path / "set")
    assert not (tmp_path / "set").exists()


# ---- fewer batches than shards


@pytest.mark.parametrize("how", [*WORKERS, {"workers": 8}])
@pytest.mark.parametrize(("num_batches", "num_shards", "expected"), [
    (3, 4, [8, 8, 7, 7]), (1, 3, [4, 3, 3]), (0, 2, [0, 0]), (4, 4, [10, 10, 10, 10]), (5, 4, [20, 10, 10, 10]),
])  # fmt: skip
def test_fewer_batches_than_shards_are_dealt_out_by_record(num_batches, num_shards, expected, how, tmp_path):
    """No shard is empty where there are records for it; the bytes do not depend on the workers."""
    source = Batches((), num_batches)
    report = recordio.convert(source, tmp_path / "set", num_shards=num_shards, output_signature=given.SPEC, **how)
    assert [shard.num_records for shard in report.shards] == expected
    if num_batches:
        recordio.convert(Batches((), num_batches), tmp_path / "one", num_shards=num_shards, output_signature=given.SPEC)
        assert given.files(tmp_path / "set") == given.files(tmp_path / "one")
    assert source.ended == 1


# ---- what was inferred says so


def changes(number: int = 300):
    for value in range(number):
        yield {"x": value}
    yield {"x": 2.5}


def test_a_record_against_an_inferred_type_says_that_it_was_inferred(tmp_path):
    with pytest.raises(recordio.SignatureError, match="inferred from the first records") as caught:
        recordio.convert(changes, tmp_path / "set")
    assert "output_signature" in caught.value.advice and caught.value.record == 300
    with pytest.raises(recordio.SignatureError) as caught:
        recordio.convert(changes, tmp_path / "set", output_signature={"x": recordio.TensorSpec((), "int64")})
    assert "inferred" not in str(caught.value) and "output_signature" not in str(caught.value)


def test_a_resumed_conversion_remembers_that_it_was_inferred(tmp_path):
    def source(shard, num_shards):
        yield {"x": np.int32(shard)}
        if shard == 1:
            yield from rest()

    def fails():
        raise Failure

    rest = fails
    with pytest.raises(Failure):
        recordio.convert(source, tmp_path / "set", num_shards=2)
    rest = [{"x": 0.5}].copy
    with pytest.raises(recordio.SignatureError, match="inferred from the first records"):
        recordio.convert(source, tmp_path / "set", num_shards=2, resume=True)
