"""Bytes that were changed by somebody who then made every checksum right: refused, or read, but nothing else.

No other exception, no allocation that a file asks for, no hang. The checksums say nothing here; the rules do.
"""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import recordio
from tests.damage.in_memory import SPEC, open_files, shard_names, tiny_records, write_files
from tests.damage.vocabulary import part, put, reseal
from tests.laws.data_sets import EXAMPLES

RECORDS = tiny_records(12)
POWERS = [1 << exponent for exponent in (0, 1, 3, 6, 7, 8, 16, 24, 30, 31, 32, 40, 63, 64)]
INTERESTING = sorted({0, *POWERS, *(power - 1 for power in POWERS), *(power + 1 for power in POWERS)})


@pytest.fixture(scope="module", params=["none", "zstd"])
def shard(request: pytest.FixtureRequest) -> tuple[str, bytes]:
    """Name and bytes of a shard of several chunks."""
    files = write_files(SPEC, RECORDS, codec=request.param, chunk_size=400, frame_size=150, level=1)
    (name,) = shard_names(files)
    return name, files[name]


def read_everything(name: str, data: bytes) -> bool:
    """Whether it was read at all; in order, as batches, by number, and skipping."""
    try:
        ds = open_files({name: data}, name)
        found = list(ds)
        assert len(found) == len(ds)
        list(ds.batch(5))
        if len(ds):
            ds[0], ds[-1], ds[[0, len(ds) - 1]]
    except recordio.RecordIOError as error:
        assert error.path is not None, error
        try:
            list(open_files({name: data}, name, on_corrupt="skip"))
        except recordio.RecordIOError:
            pass
        return False
    return True


def test_a_resealed_shard_is_the_shard(shard: tuple[str, bytes]) -> None:
    """The vocabulary itself: unchanged bytes come out unchanged."""
    _, whole = shard
    assert reseal(whole, whole) == whole


def test_changed_bytes_with_right_checksums(shard: tuple[str, bytes]) -> None:
    """Every byte of the file in turn, set to something else."""
    name, whole = shard
    random = np.random.default_rng(0)
    for offset in range(0, len(whole), 1 if EXAMPLES > 1 else 5):
        data = bytearray(whole)
        data[offset] = (data[offset] + int(random.choice([1, 127, 128, 255]))) % 256
        read_everything(name, reseal(bytes(data), whole))


def test_interesting_numbers_with_right_checksums(shard: tuple[str, bytes]) -> None:
    """Sizes, counts and dimensions that overflow, wrap around, or ask for all the memory there is."""
    name, whole = shard
    random = np.random.default_rng(1)
    tracemalloc.start()
    try:
        for offset in range(0, len(whole) - 8, 4 if EXAMPLES > 1 else 12):
            for _ in range(EXAMPLES):
                size = int(random.choice([1, 2, 4, 8]))
                number = INTERESTING[random.integers(len(INTERESTING))] % 2 ** (8 * size)
                data = bytearray(whole)
                data[offset : offset + size] = number.to_bytes(size, "little")
                read_everything(name, reseal(bytes(data), whole))
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_an_index_with_right_checksums() -> None:
    """Every byte of header and head, its checksums made right again."""
    files = write_files(SPEC, RECORDS, num_shards=3)
    whole = files["index.rix"]
    random = np.random.default_rng(2)
    numbers = [1, 2, 127, 128, 255]
    opened = 0
    for offset in range(part(whole, "chunk table").start):
        for number in numbers if EXAMPLES > 1 else [numbers[random.integers(len(numbers))]]:
            changed = put(whole, offset, bytes([(whole[offset] + number) % 256]))
            try:
                ds = open_files(files | {"index.rix": reseal(changed, whole)})
                opened += 1
                list(ds)
                ds[len(ds) - 1]
            except recordio.RecordIOError as error:
                assert error.path is not None
            except IndexError:
                assert not len(ds)
    assert opened
