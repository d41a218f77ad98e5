"""Rows by number: the same whether few or many of a frame are asked for, in any order, with a cache or without."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import recordio
from recordio.schema import Schema
from tests.laws.data_sets import fresh_directory, make_records, same_batch, same_record, same_records, scribble

NUM_RECORDS = 3000
SPEC = {
    "scalar": recordio.TensorSpec((), "int64"),
    "narrow": recordio.TensorSpec((), "int32"),
    "flag": recordio.TensorSpec((), "bool"),
    "half": recordio.TensorSpec((), "float16"),
    "image": recordio.TensorSpec((3, 5), "float32"),
    "nothing": recordio.TensorSpec((0,), "int16"),
    "perhaps": recordio.TensorSpec((2,), "int8", optional=True),
    "text": recordio.TensorSpec((), "str"),
    "data": recordio.TensorSpec((), "bytes"),
    "words": recordio.TensorSpec((None,), "str"),
    "pair": recordio.TensorSpec((2,), "bytes"),
    "tokens": recordio.TensorSpec((None,), "int32"),
    "rows": recordio.TensorSpec((None, 2), "float64"),
    "any": recordio.TensorSpec(None, "uint8"),
    "object": recordio.MsgpackSpec(),
    "absent": recordio.TensorSpec((), "str", optional=True),
}


SCHEMA = Schema.from_signature(SPEC)
RECORDS = make_records(SPEC, NUM_RECORDS, seed=5)


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    """Three shards of many chunks of many frames."""
    with fresh_directory() as directory:
        with recordio.Writer(directory / "set", SPEC, num_shards=3, chunk_size=40_000, frame_size=1000) as writer:
            for record in RECORDS:
                writer.write(record)
        yield directory / "set"


NUMBERS: dict[str, list[int]] = {
    "few of a frame": np.random.default_rng(0).integers(0, NUM_RECORDS, 200).tolist(),
    "few in order": sorted(set(np.random.default_rng(1).integers(0, NUM_RECORDS, 100).tolist())),
    "many of a frame": np.random.default_rng(2).permutation(600).tolist(),
    "all, backwards": list(range(NUM_RECORDS - 1, -1, -1)),
    "one": [1234],
    "one again and again": [7] * 50,
    "the ends": [NUM_RECORDS - 1, 0, 999, 1000, 1999, 2000],
}


@pytest.mark.parametrize("cache_size", [0, 1 << 15, 64 << 20])
@pytest.mark.parametrize("kind", NUMBERS)
def test_rows_are_those_of_the_numbers(path: Path, kind: str, cache_size: int) -> None:
    """Of every type of column; a batch holds what the records hold."""
    ds = recordio.open(path, cache_size=cache_size)
    numbers = NUMBERS[kind]
    expected = [RECORDS[number] for number in numbers]
    assert same_records(SCHEMA, expected[:100], [ds[number] for number in numbers[:100]])
    assert same_batch(SCHEMA, expected, ds[numbers])


def test_what_comes_back_is_the_callers_own(path: Path) -> None:
    """Scribbling over it changes no later read, from the cache or not."""
    ds = recordio.open(path)
    numbers = [100, 2500, 101]
    for _ in range(2):
        batch, records = ds[numbers], [ds[number] for number in numbers]
        assert same_batch(SCHEMA, [RECORDS[number] for number in numbers], batch)
        assert same_records(SCHEMA, [RECORDS[number] for number in numbers], records)
        for leaf in [*batch.values(), *(leaf for one in records for leaf in one.values())]:
            scribble(leaf)


def test_threads_share_a_cache_that_lets_go_all_the_time(path: Path) -> None:
    """What one thread uses another may have just let go."""
    ds = recordio.open(path, cache_size=20_000)
    failures: list[BaseException] = []

    def read(seed: int) -> None:
        try:
            for number in np.random.default_rng(seed).integers(0, NUM_RECORDS, 300).tolist():
                found = ds[number]
                assert same_record(SCHEMA, RECORDS[number], found)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
