"""Plans of an epoch: what each pipeline reads, evenly, and how well it is mixed (spec/order.md, 4 to 7)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio.plan.order import OrderParameters
from tests.laws.data_sets import fresh_directory

NUM_RECORDS, NUM_SHARDS = 1_000_003, 64


@pytest.fixture(scope="module")
def million() -> Iterator[Path]:
    """1,000,003 records in 64 shards, in chunks of 250."""
    with fresh_directory() as directory:
        source = recordio.from_tensor_slices({"id": np.arange(NUM_RECORDS)})
        recordio.convert(source, directory / "set", num_shards=NUM_SHARDS, chunk_size=2000, level=1)
        yield directory / "set"


@pytest.mark.parametrize("num_pipelines", [2, 4, 8, 16])
def test_each_pipeline_decodes_its_part_and_little_more(million: Path, num_pipelines: int) -> None:
    """At most 1.05 / P of all chunks' bytes under AUTO with a pooled shuffle, for G = 256; files likewise."""
    dataset = recordio.open(million).shuffle(seed=1, mode="pooled", pool=64 * 1500)
    plan = recordio.plan_reading(dataset.batch(256), num_pipelines)
    assert plan.steps == -(-NUM_RECORDS // 256)
    assert sum(one.records for one in plan.pipelines) == NUM_RECORDS
    for one in plan.pipelines:
        assert one.share <= 1.05 / num_pipelines
        assert one.amplification <= 1.05
        # Lanes are cut at records, shards are not of equal size: at each end a few records lie in a neighbour's shard.
        assert len(one.shards) <= NUM_SHARDS / num_pipelines + 2


@pytest.mark.timeout(300)
@pytest.mark.parametrize("batch_size", [96, 100, 200, 250, 1000])
def test_no_number_of_pipelines_is_awkward(million: Path, batch_size: int) -> None:
    """At most 1.3 / P for any P up to 16, though parts of batches do not end where lanes do; files likewise."""
    dataset = recordio.open(million).shuffle(seed=1, mode="pooled", pool=64 * 1500)
    shares = {}
    for num_pipelines in range(2, 17):
        plan = recordio.plan_reading(dataset.batch(batch_size), num_pipelines)
        shares[num_pipelines] = max(one.share for one in plan.pipelines) * num_pipelines
        assert max(len(one.shards) for one in plan.pipelines) <= 1.3 * NUM_SHARDS / num_pipelines + 2
    assert max(shares.values()) <= 1.3, shares


@pytest.mark.parametrize(("lanes", "most"), [(128, 1.25), (64, 1.41), (32, 1.79)])
def test_fewer_lanes_cost_awkward_numbers_of_pipelines_more(
    million: Path, monkeypatch: pytest.MonkeyPatch, lanes: int, most: float
) -> None:
    """What P times the share of the chunks comes to, that a pipeline decodes (spec/order.md, section 4)."""
    parameters = OrderParameters(mode="pooled", lanes=lanes, window=62)
    monkeypatch.setattr("recordio.loading.recipe.resolve", lambda *_args, **_options: parameters)
    dataset = recordio.open(million).shuffle(seed=1, mode="pooled")
    shares = [
        num_pipelines * one.share
        for batch_size in (100, 250)
        for num_pipelines in (11, 13, 14)
        for one in recordio.plan_reading(dataset.batch(batch_size), num_pipelines).pipelines
    ]
    assert max(shares) == pytest.approx(most, abs=0.01)


def test_plans_say_what_reading_does(million: Path, tmp_path: Path) -> None:
    """Files that are opened and bytes that are decoded by reading itself are those of the plan."""
    dataset = recordio.open(million)[:40_000].shuffle(seed=1, mode="pooled", pool=64 * 100)
    loader = dataset.batch(256)
    plan = recordio.plan_reading(loader, 3)
    for number in range(3):
        opened = recordio.open(million)[:40_000].shuffle(seed=1, mode="pooled", pool=64 * 100).batch(256)
        dist = recordio.distribute(opened, recordio.InputContext(3, number, 3))
        count = sum(len(step["id"].values[0]) for step in dist)
        reader: Any = opened.recipe.reader
        names = {Path(path).name for path in reader._files.get()._handles}
        assert names == {reader.shards[shard].name for shard in plan.pipelines[number].shards}
        assert count == plan.pipelines[number].records


def test_padding_idle_replicas_and_errors_are_told(million: Path) -> None:
    """And the plan of FILE is that of FILE."""
    dataset = recordio.open(million)[:1000]
    with pytest.warns(UserWarning, match="idle"):
        plan = recordio.plan_reading(dataset.batch(3), 2, 4, remainder="pad")
    assert plan.idle_replicas == 1 and plan.steps == 334
    assert sum(one.padding for one in plan.pipelines) == 334 * 4 - 1000
    found = recordio.plan_reading(recordio.open(million).batch(256), 4, policy="FILE")
    assert [one.shards for one in found.pipelines] == [tuple(range(number, 64, 4)) for number in range(4)]
    assert found.imbalance < 1.02 and max(one.amplification for one in found.pipelines) == 1
    with pytest.raises(recordio.RequestError, match="memory"):
        recordio.plan_reading(recordio.from_tensor_slices([1, 2]).batch(1))


def test_quality_is_that_of_the_batches(tmp_path: Path) -> None:
    """100,000 records in 100 class-pure shards, chunks of 50, pool of 10,000, batches of 256: the issue's figures."""
    source = recordio.from_tensor_slices({"label": np.repeat(np.arange(100), 1000)})
    recordio.convert(source, tmp_path / "set", num_shards=100, chunk_size=400)
    dataset = recordio.open(tmp_path / "set")
    pooled = recordio.shuffle_quality(dataset.shuffle(seed=0, pool=10_000).batch(256), classes="label")
    assert pooled.batch_entropy is not None and pooled.batch_entropy > 6.0
    assert pooled.chi2_per_dof is not None and pooled.chi2_per_dof < 6
    assert pooled.same_source_next is not None and pooled.same_source_next < 0.03
    exact = recordio.shuffle_quality(dataset.shuffle(seed=0, mode="exact").batch(256), num_replicas=4)
    assert exact.batch_entropy == pytest.approx(6.33, abs=0.01)
    assert exact.chi2_per_dof == pytest.approx(1.0, abs=0.1)
    assert exact.replica_entropy == pytest.approx(exact.uniform_replica_entropy, abs=0.02)
    none = recordio.shuffle_quality(dataset.batch(256))
    assert none.batch_entropy is not None and none.batch_entropy < 1
    for policy in ("AUTO", "FILE"):
        dist = recordio.distribute(dataset.shuffle(seed=0).batch(256), recordio.InputContext(4, 1, 4), policy=policy)
        found = recordio.shuffle_quality(dist, classes=np.repeat(np.arange(100), 1000))
        assert found.num_records == 100_000 and found.num_replicas == 4
        assert found.batch_entropy is not None and found.batch_entropy > 6.3
    with pytest.raises(TypeError, match="Batch it"):
        recordio.shuffle_quality(dataset)  # type: ignore[arg-type]
    with pytest.raises(recordio.RequestError, match="no column"):
        recordio.shuffle_quality(dataset.batch(4), classes="lable")


def test_what_has_no_plan_is_refused(million: Path) -> None:
    """Batches without a last one, and numbers that no key or array holds."""
    dataset = recordio.open(million)[:100]
    for ask in (
        lambda: recordio.shuffle_quality(dataset.shuffle(seed=0).repeat().batch(10)),
        lambda: recordio.plan_reading(dataset.repeat().batch(10), 2),
        lambda: recordio.shuffle_quality(dataset.batch(10), epoch=-1),
        lambda: recordio.plan_reading(dataset.batch(10), epoch=1 << 64),
        lambda: dataset.batch(10**21),
    ):
        with pytest.raises(recordio.RequestError, match=r"repeat|epoch|batch_size"):
            ask()
    found = recordio.plan_reading(dataset.batch(10).repeat(), np.int64(2), np.int32(4))  # type: ignore[arg-type]
    assert json.loads(json.dumps(found.to_map()))["num_replicas"] == 4
