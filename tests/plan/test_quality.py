"""Shuffle quality: measures of an order beside those of a perfect shuffle (spec/quality.md)."""

from __future__ import annotations

import itertools
import json
import math
import pickle
import statistics
import time
from collections import Counter
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordio.errors import RequestError
from recordio.plan.quality import ShuffleQuality, measure_shuffle
from recordio.plan.ranges import even_ranges

NUM_SHARDS = 100
SHARD_SIZE = 1000
IN_ORDER = np.repeat(np.arange(NUM_SHARDS), SHARD_SIZE)  # each shard holds one class


@pytest.mark.parametrize(
    ("sources", "batch_size", "expected"),
    [
        # Pairs of equal ones; of two drawn from AABB, two in three differ.
        (
            [0, 0, 1, 1],
            2,
            {
                "batch_entropy": 0, "uniform_batch_entropy": 2 / 3,
                "shards_per_batch": 1, "uniform_shards_per_batch": 1 + 2 / 3,
                "chi2_per_dof": 4, "same_source_next": 2 / 3, "uniform_same_source_next": 1 / 3,
            },
        ),
        # Dealt out in turn: more even than chance.
        ([0, 1, 0, 1], 2, {"batch_entropy": 1, "shards_per_batch": 2, "chi2_per_dof": 0, "same_source_next": 0}),
        # The fifth record is of no full batch. Blocks 010 and 01: 2 1 and 1 1 where 1.8 1.2 and 1.2 0.8 are expected.
        (
            [0, 1, 0, 0, 1],
            2,
            {"num_batches": 2, "batch_entropy": 0.5, "chi2_per_dof": 0.04 * (1 / 1.8 + 2 / 1.2 + 1 / 0.8)},
        ),
        # 1/4 and 3/4; one batch of everything is what a perfect shuffle gives, too.
        (
            [7, 7, 7, 9],
            4,
            {"batch_entropy": 2 - 0.75 * math.log2(3), "uniform_batch_entropy": 2 - 0.75 * math.log2(3)},
        ),
    ],
)  # fmt: skip
def test_small_orders_can_be_measured_by_hand(sources, batch_size, expected):
    """Sections 2 to 4."""
    found = measure_shuffle(np.array(sources), batch_size=batch_size).to_map()
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("batch_size", "num_replicas"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 2), (6, 4), (2, 3), (9, 4)]
)
def test_the_uniform_values_are_the_means_over_all_permutations(batch_size, num_replicas):
    """Exact, whatever the sizes of shards, parts and blocks; the chi-square's mean is N/(N - 1) (sections 2 to 4)."""
    orders = set(itertools.permutations([0, 0, 0, 1, 1, 2, 3]))  # equally likely, each of them
    found = [measure_shuffle(np.array(order), batch_size=batch_size, num_replicas=num_replicas) for order in orders]
    for name in ("batch_entropy", "shards_per_batch", "same_source_next", "replica_entropy"):
        if name != "replica_entropy" or num_replicas > 1:
            expected = getattr(found[0], f"uniform_{name}")
            assert statistics.fmean(getattr(each, name) for each in found) == pytest.approx(expected)
    assert statistics.fmean(each.chi2_per_dof for each in found) == pytest.approx(7 / 6)


@given(
    st.lists(st.integers(-3, 6), min_size=2, max_size=60), st.integers(1, 70), st.integers(1, 9), st.integers(1, 4)
)
def test_it_is_what_one_record_at_a_time_gives(sources, batch_size, num_replicas, num_classes):
    """A second implementation, from the formulas alone."""
    classes = [source % num_classes for source in sources]
    found = measure_shuffle(
        np.array(sources), batch_size=batch_size, num_replicas=num_replicas, classes=np.array(classes)
    ).to_map()
    size = min(batch_size, len(sources))
    num_batches = len(sources) // size
    starts = [size * batch for batch in range(num_batches)]
    parts = [(start, stop) for start, stop in even_ranges(size, num_replicas) if stop > start]
    expected = {
        "num_batches": num_batches,
        "batch_entropy": statistics.fmean(entropy(classes[start : start + size]) for start in starts),
        "uniform_batch_entropy": entropy_of_a_draw(classes, size),
        "shards_per_batch": statistics.fmean(len(set(sources[start : start + size])) for start in starts),
        "uniform_shards_per_batch": sum(
            1 - math.comb(len(sources) - count, size) / math.comb(len(sources), size)
            for count in Counter(sources).values()
        ),
    }
    if num_replicas > 1:
        expected["replica_entropy"] = statistics.fmean(
            entropy(classes[first + start : first + stop]) for first in starts for start, stop in parts
        )
        expected["uniform_replica_entropy"] = statistics.fmean(
            entropy_of_a_draw(classes, stop - start) for start, stop in parts
        )
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)


def entropy(labels: list[int]) -> float:
    """Bits, of the labels of one batch."""
    shares = [count / len(labels) for count in Counter(labels).values()]
    return -sum(share * math.log2(share) for share in shares)


def entropy_of_a_draw(labels: list[int], size: int) -> float:
    """Expected bits of `size` labels drawn without replacement, by whole binomial coefficients."""
    total = 0.0
    for count in Counter(labels).values():
        for k in range(1, min(count, size) + 1):
            chance = math.comb(count, k) * math.comb(len(labels) - count, size - k) / math.comb(len(labels), size)
            total -= chance * k / size * math.log2(k / size)
    return total


@pytest.mark.parametrize("seed", range(5))
def test_a_uniform_permutation_is_as_good_as_the_uniform_values_say(seed):
    """100,000 records of 100 classes in batches of 256: 6.33 bits (section 5)."""
    quality = measure_shuffle(np.random.default_rng(seed).permutation(IN_ORDER), batch_size=256, num_replicas=8)
    assert quality.uniform_batch_entropy == pytest.approx(6.333, abs=0.002)
    assert quality.batch_entropy == pytest.approx(quality.uniform_batch_entropy, abs=0.01)
    assert quality.replica_entropy == pytest.approx(quality.uniform_replica_entropy, abs=0.01)
    assert quality.shards_per_batch == pytest.approx(quality.uniform_shards_per_batch, abs=0.5)
    assert 0.9 < quality.chi2_per_dof < 1.1
    assert quality.num_blocks == NUM_SHARDS
    assert quality.same_source_next == pytest.approx(quality.uniform_same_source_next, abs=0.002)


def test_no_shuffle_is_seen_by_every_measure():
    """A batch lies in one shard or two, a block in one (section 5)."""
    quality = measure_shuffle(IN_ORDER, batch_size=256, num_replicas=8)
    assert quality.batch_entropy < 1
    assert quality.replica_entropy < 0.1
    assert quality.shards_per_batch < 1.5
    assert quality.chi2_per_dof > 1000
    assert quality.same_source_next > 0.99


def test_a_shuffle_buffer_is_clearly_worse_than_a_shuffle():
    """A buffer of 10,000 behind a stream mixes its neighbourhood only: 10 to 30 shards of 100 (section 5)."""
    quality = measure_shuffle(behind_a_buffer(IN_ORDER, 10_000, seed=1), batch_size=256)
    assert 3.2 < quality.batch_entropy < 4.9
    assert quality.batch_entropy < quality.uniform_batch_entropy - 1
    assert quality.chi2_per_dof > 20
    assert quality.same_source_next > 4 * quality.uniform_same_source_next


def behind_a_buffer(stream: np.ndarray, buffer_size: int, seed: int) -> np.ndarray:
    """What tf.data's shuffle(buffer_size) makes of a stream: each one drawn gives its place to the next one read."""
    chance = np.random.default_rng(seed)
    places = chance.integers(0, buffer_size, len(stream)).tolist()
    buffer = stream[:buffer_size].tolist()
    drawn = []
    for arriving, place in zip(stream[buffer_size:].tolist(), places):
        drawn.append(buffer[place])
        buffer[place] = arriving
    return np.array(drawn + chance.permutation(buffer).tolist())


def test_rank_correlation_calls_an_order_perfect_in_which_nothing_is_mixed():
    """Even shards upwards, then odd ones downwards: correlation 0, one class a batch (section 6)."""
    shards = np.concatenate([np.arange(0, NUM_SHARDS, 2), np.arange(NUM_SHARDS - 1, 0, -2)])
    records = (shards[:, None] * SHARD_SIZE + np.arange(SHARD_SIZE)).ravel()
    correlation = np.corrcoef(np.arange(len(records)), records)[0, 1]  # of ranks: the numbers are their own
    assert abs(correlation) < 0.02
    quality = measure_shuffle(records // SHARD_SIZE, batch_size=256)
    assert quality.batch_entropy < 0.2
    assert quality.chi2_per_dof > 1000


def test_an_order_dealt_out_in_turn_lies_below_one():
    """More even than chance, and no shuffle at all: these are measures of spread, not of chance (section 5)."""
    quality = measure_shuffle(np.tile(np.arange(NUM_SHARDS), SHARD_SIZE), batch_size=256)
    assert quality.batch_entropy > quality.uniform_batch_entropy
    assert quality.chi2_per_dof < 0.01


@pytest.mark.parametrize(
    ("sources", "batch_size", "none", "given"),
    [
        (
            [], 4,
            {"batch_entropy", "uniform_batch_entropy", "replica_entropy", "uniform_replica_entropy", "shards_per_batch",
             "uniform_shards_per_batch", "num_blocks", "chi2_per_dof", "same_source_next", "uniform_same_source_next"},
            {"num_records": 0, "num_sources": 0, "num_batches": 0},
        ),
        (
            [5], 4,
            {"num_blocks", "chi2_per_dof", "same_source_next", "uniform_same_source_next"},
            {"num_batches": 1, "batch_entropy": 0, "replica_entropy": 0, "uniform_replica_entropy": 0,
             "shards_per_batch": 1},
        ),
        (
            [3] * 1000, 64,
            {"num_blocks", "chi2_per_dof"},
            {"num_batches": 15, "batch_entropy": 0, "uniform_batch_entropy": 0, "uniform_shards_per_batch": 1,
             "same_source_next": 1, "uniform_same_source_next": 1},
        ),
        (
            [0, 1, 2, 3], 1000,  # larger than the set
            set(),
            {"num_batches": 1, "batch_entropy": 2, "uniform_batch_entropy": 2, "uniform_shards_per_batch": 4},
        ),
        (
            [0, 1, 1], 1,  # smaller than the replicas are many: those without a record do not count
            set(),
            {"num_batches": 3, "batch_entropy": 0, "replica_entropy": 0, "shards_per_batch": 1},
        ),
    ],
)  # fmt: skip
def test_what_means_nothing_is_none(sources, batch_size, none, given):
    """No record, one record, one source, a batch larger than the set (section 1)."""
    found = measure_shuffle(np.array(sources, np.int64), batch_size=batch_size, num_replicas=2).to_map()
    assert {name for name, value in found.items() if value is None} == none | {"num_classes"}
    assert {name: found[name] for name in given} == pytest.approx(given, abs=1e-12)


def test_entropies_are_of_classes_where_there_are_any():
    """Every shard holds all classes: an order that mixes no shards still mixes classes (section 1)."""
    quality = measure_shuffle(
        IN_ORDER, batch_size=256, num_replicas=2, classes=np.random.default_rng(0).integers(0, 10, len(IN_ORDER))
    )
    assert quality.num_classes == 10
    assert quality.batch_entropy == pytest.approx(quality.uniform_batch_entropy, abs=0.01)
    assert quality.replica_entropy == pytest.approx(quality.uniform_replica_entropy, abs=0.01)
    assert quality.shards_per_batch < 1.5
    assert quality.chi2_per_dof > 1000


@pytest.mark.parametrize(
    "names",
    [
        np.array([-128, 127, 0], np.int8),
        np.array([0, 2**64 - 1, 2**63], np.uint64),
        np.array([2**64 - 3, 2**64 - 1, 2**64 - 2], np.uint64),
        np.array([-(2**63), 2**63 - 1, 0]),
        np.array([2, 0, 1], np.uint16),
    ],
)
def test_sources_may_have_any_numbers(names):
    """Only which of them are equal matters."""
    places = np.random.default_rng(0).integers(0, 3, 500)
    found, expected = (measure_shuffle(numbers, batch_size=7).to_map() for numbers in (names[places], places))
    assert found == pytest.approx(expected)


def test_a_quality_is_plain_values():
    """For JSON and for other processes; one entry a field."""
    quality = measure_shuffle(np.array([0, 1, 1, 2]), batch_size=2)
    assert list(quality.to_map()) == [field.name for field in fields(ShuffleQuality)]
    assert ShuffleQuality(**json.loads(json.dumps(quality.to_map(), allow_nan=False))) == quality
    assert pickle.loads(pickle.dumps(quality)) == quality


def test_what_cannot_be_measured_is_an_error():
    """By whose fault it is: a wrong number, or a wrong type."""
    sources = np.arange(4)
    with pytest.raises(RequestError, match="batch_size is 0"):
        measure_shuffle(sources, batch_size=0)
    with pytest.raises(RequestError, match="num_replicas is -1"):
        measure_shuffle(sources, batch_size=2, num_replicas=-1)
    with pytest.raises(RequestError, match="3 classes were given for 4 sources"):
        measure_shuffle(sources, batch_size=2, classes=sources[:3])
    with pytest.raises(TypeError, match=r"sources are integers along one axis, not int64\[2, 2\]"):
        measure_shuffle(sources.reshape(2, 2), batch_size=2)
    with pytest.raises(TypeError, match="classes are integers along one axis, not float64"):
        measure_shuffle(sources, batch_size=2, classes=sources / 2)


def test_a_million_records_take_less_than_a_second():
    """Shards of a thousand sizes, replicas and classes; the best of three, since machines are shared."""
    sources = np.random.default_rng(0).permutation(np.repeat(np.arange(1400), np.arange(1400)))
    best_s = math.inf
    for _ in range(3):
        start = time.perf_counter()
        measure_shuffle(sources, batch_size=250, num_replicas=8, classes=sources % 1000)
        best_s = min(best_s, time.perf_counter() - start)
    print(f"{len(sources):,} records in {best_s:.2f} s")
    assert best_s < 1
