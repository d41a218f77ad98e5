"""The data set that tests of torch read: 203 records in three shards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import recordio
from tests.laws.data_sets import fresh_directory

NUM_RECORDS = 203


@pytest.fixture(scope="session")
def path() -> Iterator[Path]:
    with fresh_directory() as directory:
        records = {
            "id": np.arange(NUM_RECORDS),
            "image": np.arange(NUM_RECORDS * 4, dtype=np.uint8).reshape(-1, 2, 2) % 251,
        }
        recordio.convert(recordio.from_tensor_slices(records), directory / "set", num_shards=3, chunk_size=300)
        yield directory / "set"
