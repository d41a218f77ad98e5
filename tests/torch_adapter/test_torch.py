"""PyTorch: records and batches as tensors, in the process and in workers (spec/adapters.md, section 4)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader, RandomSampler  # noqa: E402  after the check that it is there

from recordio.adapters.ahead import MovedPasses  # noqa: E402
from recordio.adapters.torch import BatchSampler, TorchRecords  # noqa: E402
from recordio.spec import numpy_dtype  # noqa: E402

NUM_RECORDS = 203


def ids(batches: Any) -> list[int]:
    return [number for batch in batches for number in batch["id"].tolist()]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("collate", [None, TorchRecords.collate])
def test_a_dataloader_reads_records(path: Path, num_workers: int, collate: Any) -> None:
    """In its own order, with its own sampler, with its own collate function and with ours."""
    records = recordio.open(path).to_torch()
    assert len(records) == NUM_RECORDS and records[5]["id"] == 5
    sampler = RandomSampler(records)
    loader = DataLoader(records, batch_size=16, num_workers=num_workers, collate_fn=collate, sampler=sampler)
    batches = list(loader)
    assert sorted(ids(batches)) == list(range(NUM_RECORDS))
    assert all(batch["image"].dtype == torch.uint8 and batch["image"].shape[1:] == (2, 2) for batch in batches)


@pytest.mark.parametrize("context", ["fork", "spawn"])
@pytest.mark.parametrize("is_kept", [False, True])
def test_workers_share_the_batches_of_an_epoch(path: Path, context: str, is_kept: bool) -> None:
    """Two workers give together what one process gives, epoch after epoch, and after set_epoch."""
    def make() -> Any:
        return recordio.open(path).shuffle(seed=5).batch(16).to_torch()

    alone, shared = make(), make()
    own = [ids(alone) for _ in range(3)]
    assert len(set(map(tuple, own))) == 3
    loader = DataLoader(
        shared, batch_size=None, num_workers=2, multiprocessing_context=context, persistent_workers=is_kept
    )
    assert [ids(loader) for _ in range(2)] == own[:2]
    shared.set_epoch(1)
    assert ids(loader) == own[1]
    assert ids(loader) == own[2]


def test_batches_go_on_from_a_state(path: Path) -> None:
    """In the middle of an epoch, in another process's loader with another batch size."""
    first = recordio.open(path).shuffle(seed=5).batch(16).to_torch()
    iterator = iter(first)
    seen = ids(next(iterator) for _ in range(4))
    second = recordio.open(path).shuffle(seed=5).batch(10).to_torch()
    second.load_state_dict(first.state_dict())
    rest = ids(DataLoader(second, batch_size=None))
    assert sorted(seen + rest) == list(range(NUM_RECORDS))


def test_tensors_are_the_callers_own(path: Path) -> None:
    """They share the memory of the batch, which nobody else has: scribbling changes nothing that is read later."""
    loader = recordio.open(path).batch(64).to_torch()
    for batch in loader:
        batch["image"].fill_(7)
    again = torch.cat([batch["image"] for batch in loader])
    assert again.tolist() == recordio.open(path).batch(NUM_RECORDS)[0]["image"].tolist()


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_each_process_reads_its_part(path: Path, world_size: int) -> None:
    """Together every record once, in as many steps on each."""
    parts = [
        recordio.distribute(
            recordio.open(path).shuffle(seed=1).batch(32), recordio.InputContext(world_size, rank, world_size)
        ).to_torch()
        for rank in range(world_size)
    ]
    batches = [list(part) for part in parts]
    assert len({len(one) for one in batches}) == 1
    assert sorted(number for one in batches for number in ids(one)) == list(range(NUM_RECORDS))


def test_a_loop_may_count_its_steps(path: Path) -> None:
    """As trainers do, which ask for no step after the last one: what comes is the next epoch, on every process."""
    loader = recordio.open(path).shuffle(seed=1).batch(32)
    expected = [sorted(ids([batch])) for _ in range(2) for batch in loader]
    parts = [recordio.distribute(loader, recordio.InputContext(2, rank, 2)).to_torch() for rank in range(2)]
    for part in parts:
        part.set_epoch(0)
    steps = []
    for _ in range(2):
        iterators = [iter(part) for part in parts]
        steps += [ids(map(next, iterators)) for _ in range(len(parts[0]))]
        del iterators
    assert [sorted(step) for step in steps] == expected
    assert {part.state_dict()["epoch"] for part in parts} == {2}


def test_what_torch_has_no_type_for_is_said(tmp_path: Path) -> None:
    """Ragged columns are to be padded; text comes as a list."""
    rows = [{"words": "ab" * n, "values": np.arange(n)} for n in range(5)]
    spec = {"words": recordio.TensorSpec((), "str"), "values": recordio.TensorSpec((None,), "int64")}
    recordio.convert(lambda: iter(rows), tmp_path / "set", output_signature=spec)
    ds = recordio.open(tmp_path / "set")
    with pytest.raises(recordio.RequestError, match=r"column 'values'.*padded_batch"):
        next(iter(ds.batch(5).to_torch()))
    batch = next(iter(ds.padded_batch(5).to_torch()))
    assert batch["values"].shape == (5, 4) and batch["words"][2] == "abab"


def test_small_floats_are_torchs_own(tmp_path: Path) -> None:
    """bfloat16 and float8, bit by bit, batched, moved and as single records; of those that torch lacks, its name."""
    names = ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e3m4"]
    values = np.linspace(-2, 2, 12).reshape(4, 3)
    records = {name: values.astype(numpy_dtype(name)) for name in names}
    recordio.convert(recordio.from_tensor_slices(records), tmp_path / "set")
    ds = recordio.open(tmp_path / "set")
    known = ds.select_columns(names[:3])
    batch = next(iter(known.batch(4).to_torch()))
    for name in names[:3]:
        assert batch[name].dtype == getattr(torch, name)
        assert batch[name].float().tolist() == records[name].astype(np.float32).tolist()
        assert known.to_torch()[2][name].float().tolist() == batch[name][2].float().tolist()
        assert next(iter(known.batch(4).to_torch(device="cpu")))[name].dtype == batch[name].dtype
    with pytest.raises(recordio.RequestError, match=r"torch has no float8_e3m4.*column 'float8_e3m4'"):
        next(iter(ds.batch(4).to_torch()))


@pytest.mark.parametrize("buffer_size", [0, 1, 3, 100])
def test_batches_are_moved_ahead_and_states_count_what_was_handed_out(path: Path, buffer_size: int) -> None:
    """To a device: the same batches, and a state at every step that goes on behind it, not behind what was moved."""
    loader = recordio.open(path).shuffle(seed=5).batch(16)
    expected = [batch["id"].tolist() for batch in loader]
    moved = loader.to_torch(device="cpu", buffer_size=buffer_size)
    moved.set_epoch(0)
    for step, batch in enumerate(moved):
        assert batch["id"].tolist() == expected[step]
        again = recordio.open(path).shuffle(seed=5).batch(16).to_torch(device="cpu")
        again.load_state_dict(moved.state_dict())
        if step % 4 == 0:
            assert [one["id"].tolist() for one in again] == expected[step + 1 :]
    assert moved.state_dict()["epoch"] == 1 and moved.state_dict()["consumed"] == 0
    abandoned = iter(moved)
    seen = ids(next(abandoned) for _ in range(5))
    del abandoned
    again.load_state_dict(moved.state_dict())
    assert sorted(seen + ids(again)) == list(range(NUM_RECORDS))


def test_transfers_are_begun_before_the_batch_in_front_is_handed_out() -> None:
    """So many of them as the buffer holds; the options of a distributed data set say how many."""
    from recordio.adapters.ahead import MovedPasses, buffer_size_of

    loader = recordio.from_tensor_slices({"id": np.arange(40)}).batch(8)
    begun: list[int] = []

    def move(batch: Any) -> Any:
        begun.append(int(batch["id"][0]))
        return batch

    for buffer_size, expected in ((0, [1, 2, 3, 4, 5]), (1, [2, 3, 4, 5, 5]), (2, [3, 4, 5, 5, 5])):
        begun.clear()
        assert [len(begun) for _ in MovedPasses(loader, move, buffer_size)] == expected
    for options, size in (
        (None, 1),
        (recordio.InputOptions(experimental_per_replica_buffer_size=3), 3),
        (recordio.InputOptions(experimental_fetch_to_device=False, experimental_per_replica_buffer_size=3), 0),
    ):
        part = recordio.distribute(loader, recordio.InputContext(), input_options=options)
        assert buffer_size_of(part, None) == size and buffer_size_of(part, 2) == 2
    with pytest.raises(recordio.RequestError, match="below 0"):
        loader.to_torch(buffer_size=-1)
    with pytest.raises(recordio.RequestError, match="Batch first"):
        recordio.from_tensor_slices(np.arange(4)).to_torch(device="cpu")


def test_pinning_without_an_accelerator_is_said(path: Path) -> None:
    """And the batches come all the same."""
    loader = recordio.open(path).batch(16)
    if torch.accelerator.is_available():
        assert next(iter(loader.to_torch(pin_memory=True)))["id"].is_pinned()
        return
    with pytest.warns(UserWarning, match="pin_memory without an accelerator"):
        batches = loader.to_torch(pin_memory=True)
    assert ids(batches) == list(range(NUM_RECORDS))


@pytest.mark.parametrize("mode", ["exact", "pooled"])
@pytest.mark.parametrize(("world_size", "num_workers"), [(1, 0), (2, 2), (3, 0)])
def test_a_sampler_gives_our_order_to_torchs_workers(path: Path, mode: Any, world_size: int, num_workers: int) -> None:
    """The batches of every epoch are those of the loader, after set_epoch as well, and from a step on."""
    def parts() -> list[Any]:
        loader = recordio.open(path).shuffle(seed=5, mode=mode, pool=400).batch(32)
        return [
            recordio.distribute(loader, recordio.InputContext(world_size, rank, world_size), remainder="drop")
            for rank in range(world_size)
        ]

    def through(sampler: Any) -> list[list[int]]:
        loader = DataLoader(
            sampler.records, batch_sampler=sampler, collate_fn=TorchRecords.collate, num_workers=num_workers
        )
        assert len(loader) == len(sampler)
        return [batch["id"].tolist() for batch in loader]

    for part, sampler in zip(parts(), map(BatchSampler, parts()), strict=True):
        expected = [[batch["id"].tolist() for batch in part.to_torch()] for _ in range(2)]
        assert [through(sampler), through(sampler)] == expected and expected[0] != expected[1]
        sampler.set_epoch(1, first_step=4)
        assert through(sampler) == expected[1][4:]


def test_a_sampler_goes_on_from_a_state(path: Path) -> None:
    """Which was loaded into the loader, and stands between two batches; the next epoch is whole."""
    loader = recordio.open(path).shuffle(seed=5).batch(16)
    expected = [[batch["id"].tolist() for batch in loader] for _ in range(2)]
    loader.load_state_dict(loader.state_after(recordio.open(path).shuffle(seed=5).batch(16).state_dict(), 5))
    sampler = BatchSampler(loader)
    found = [[recordio.open(path)[numbers]["id"].tolist() for numbers in sampler] for _ in range(2)]
    assert found == [expected[0][5:], expected[1]]
    other = recordio.open(path).shuffle(seed=5).batch(10)
    other.load_state_dict(loader.state_after(recordio.open(path).shuffle(seed=5).batch(16).state_dict(), 1))
    with pytest.raises(recordio.RequestError, match="6 records behind a batch of 10"):
        BatchSampler(other)
    for first_step in (-1, 14):
        with pytest.raises(recordio.RequestError, match="first_step"):
            sampler.set_epoch(0, first_step)


def test_a_sampler_of_some_records_and_its_refusals(path: Path) -> None:
    """Numbers are those of all records, whatever is in view."""
    some = recordio.open(path).subset(np.arange(100, 50, -2))
    sampler = BatchSampler(some.batch(10))
    read = DataLoader(sampler.records, batch_sampler=sampler, collate_fn=TorchRecords.collate)
    assert ids(read) == list(range(100, 50, -2))
    with pytest.raises(recordio.RequestError, match="rng=True"):
        BatchSampler(some.map(lambda record, rng: record, rng=True).batch(10))
    with pytest.raises(recordio.RequestError, match="without an end"):
        BatchSampler(some.batch(10).repeat())
    with pytest.raises(recordio.RequestError, match=r"Batch first: BatchSampler\(ds.batch"):
        BatchSampler(some)


def test_records_that_follow_the_epoch_are_refused(path: Path) -> None:
    """Read by their number, they would be those of one epoch for ever."""
    ds = recordio.open(path)
    with pytest.raises(recordio.RequestError, match="a DataLoader does not say"):
        ds.shuffle(seed=1).to_torch()
    with pytest.raises(recordio.RequestError, match="map with rng=True"):
        ds.map(lambda record, rng: record, rng=True).to_torch()
    fixed = ds.shuffle(seed=1, reshuffle_each_iteration=False)
    assert [one["id"] for one in fixed.to_torch()] == [one["id"] for one in fixed]


def test_a_process_may_end_while_batches_are_moved(path: Path) -> None:
    """Without a word."""
    code = (
        "import sys, recordio\n"
        "loader = recordio.open(sys.argv[1]).batch(9)\n"
        "left = [iter(loader.to_torch(**options)) for options in ({}, {'device': 'cpu'})]\n"
        "print(*(next(one)['id'].tolist() == list(range(9)) for one in left))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=100,
        env=os.environ | {"PYTHONPATH": str(Path(recordio.__file__).parents[1])},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "True True\n", "")


def test_states_of_what_is_moved_ahead_in_hard_cases(path: Path) -> None:
    """A failure before the first batch, two passes at once, steps that are counted, and peers that wait."""
    def make(**options: Any) -> Any:
        return recordio.open(path).shuffle(seed=5).batch(16, **options)

    def failing(record: Any) -> Any:
        if record["id"] == fails_at:
            raise ValueError("damaged")
        return record

    fails_at = int(make()[0]["id"][0])
    failed = recordio.open(path).shuffle(seed=5).map(failing).batch(16).to_torch(device="cpu", buffer_size=3)
    with pytest.raises(ValueError, match="damaged"):
        next(iter(failed))
    assert failed.state_dict()["consumed"] == 0

    def move(batch: Any) -> Any:
        if fails_at in batch["id"].tolist():
            raise ValueError("too large")
        return batch

    fails_at = int(make()[5]["id"][0])
    moved, seen = MovedPasses(make(), move, 3), 0
    with pytest.raises(ValueError, match="too large"):
        for _ in moved:
            seen += 1
    assert seen == 5 and moved.state_dict()["consumed"] == 5 * 16

    twice = make().to_torch(device="cpu", buffer_size=2)
    first, second = iter(twice), iter(twice)
    next(first)
    next(second)
    assert sum(1 for _ in first) == 12  # the first one ends, and has no say in the state
    assert twice.state_dict()["epoch"] == 1 and twice.state_dict()["consumed"] == 16
    twice.set_epoch(3)
    next(second)
    assert twice.state_dict()["epoch"] == 3 and twice.state_dict()["consumed"] == 0

    counted = make().to_torch(device="cpu", buffer_size=2)
    steps = iter(counted)
    for _ in range(len(counted)):
        next(steps)
    del steps
    assert counted.state_dict()["epoch"] == 1 and counted.state_dict()["consumed"] == 0

    part = recordio.distribute(make(), recordio.InputContext(2, 0, 2)).to_torch(device="cpu", buffer_size=50)
    left = iter(part)
    next(left)
    del left
    with pytest.raises(recordio.RequestError, match="not read to its end"):
        next(iter(part))
    part.set_epoch(1)
    assert sum(1 for _ in part) == len(part)
