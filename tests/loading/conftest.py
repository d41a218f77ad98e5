"""Data sets that tests of loading share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import recordio
from tests.laws.data_sets import fresh_directory


@pytest.fixture(scope="module")
def thousand() -> Iterator[Path]:
    """1,000 records x = 0, 1, ... in 4 shards."""
    with fresh_directory() as directory:
        source = recordio.from_tensor_slices({"x": np.arange(1000)})
        recordio.convert(source, directory / "set", num_shards=4, chunk_size=256)
        yield directory / "set"
