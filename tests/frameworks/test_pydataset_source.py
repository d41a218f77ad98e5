"""The real keras.utils.PyDataset as a source."""

from __future__ import annotations

import os

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras")

import recordio  # noqa: E402
from recordio.convert.sources import PyDatasetSource, as_source, from_pydataset  # noqa: E402  after the backend is chosen
from recordio.errors import SourceError  # noqa: E402
from recordio.execute.pool import make_executor  # noqa: E402
from recordio.schema import TensorSpec  # noqa: E402

pytestmark = pytest.mark.framework


class Images(keras.utils.PyDataset):
    """As in the Keras documentation."""

    def __init__(self, num_records: int, batch_size: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.num_records, self.batch_size = num_records, batch_size
        self.epochs = 0

    def __len__(self) -> int:
        return -(-self.num_records // self.batch_size)

    def __getitem__(self, index: int):
        rows = np.arange(index * self.batch_size, min((index + 1) * self.batch_size, self.num_records))
        return np.broadcast_to(rows[:, None], (len(rows), 3)).astype("float32"), rows

    def on_epoch_end(self) -> None:
        self.epochs += 1


class Tensors(Images):
    def __getitem__(self, index: int):
        x, y = super().__getitem__(index)
        return {"x": keras.ops.convert_to_tensor(x), "y": keras.ops.convert_to_tensor(y, "int32")}


class Endless(keras.utils.PyDataset):
    num_batches = None

    def __getitem__(self, index: int):
        return np.full(2, index)


class Unsaid(keras.utils.PyDataset):
    def __getitem__(self, index: int):
        return np.full(2, index)


@pytest.mark.parametrize("use_multiprocessing", [False, True])
def test_a_pydataset_of_keras_is_converted_as_fit_would_read_it(use_multiprocessing):
    dataset = Images(10, 4, workers=2, use_multiprocessing=use_multiprocessing, max_queue_size=3)
    source = as_source(dataset)
    assert isinstance(source, PyDatasetSource)
    assert (source.workers, source.use_multiprocessing, source.max_queue_size) == (2, use_multiprocessing, 3)
    parts = source.split(num_shards=2)
    assert source.resolve_signature() == (TensorSpec((3,), "float32"), TensorSpec((), "int64"))
    initializer = source.worker_setup() if use_multiprocessing else (None, ())
    with make_executor(source.workers, source.use_multiprocessing, *initializer) as executor:
        batches = [piece.value for part in parts for piece in part.pieces(executor, source.max_queue_size)]
    source.finish()
    assert [len(y) for _, y in batches] == [4, 4, 2]
    assert np.concatenate([y for _, y in batches]).tolist() == list(range(10))
    assert dataset.epochs == 1


def test_tensors_of_the_backend_come_as_arrays():
    (first, second) = (piece.value for piece in as_source(Tensors(6, 3)).whole().pieces())
    assert type(first["x"]) is np.ndarray
    assert second["y"].tolist() == [3, 4, 5]
    assert second["y"].dtype == "int32"


@pytest.mark.parametrize("make", [Endless, Unsaid])
def test_without_a_number_of_batches_a_step_count_is_needed(make):
    with pytest.raises(SourceError, match="num_batches"):
        as_source(make())
    batches = [piece.value.tolist() for piece in from_pydataset(make(), num_batches=3).whole().pieces()]
    assert batches == [[0, 0], [1, 1], [2, 2]]


def test_the_class_is_refused():
    with pytest.raises(SourceError, match=r"Make an instance: Images\(\.\.\.\)"):
        as_source(Images)


@pytest.mark.parametrize("num_shards", [1, 3])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_pydataset_of_keras_becomes_a_data_set(workers, num_shards, tmp_path):
    """As it is, with its own workers: every row once, in order, and the epoch ends once."""
    dataset = Images(10, 4, workers=workers, max_queue_size=3)
    report = recordio.convert(dataset, tmp_path / "set", num_shards=num_shards, check=True)
    assert (report.num_records, report.num_shards, dataset.epochs) == (10, num_shards, 1)
    found = recordio.open(tmp_path / "set")
    assert found.element_spec == (TensorSpec((3,), "float32"), TensorSpec((), "int64"))
    assert [(x.tolist(), int(y)) for x, y in found] == [([float(row)] * 3, row) for row in range(10)]


def test_tensors_of_the_backend_become_a_data_set(tmp_path):
    """Their dtypes stay."""
    recordio.convert(Tensors(6, 3), tmp_path / "set")
    found = recordio.open(tmp_path / "set")
    assert found.element_spec == {"x": TensorSpec((3,), "float32"), "y": TensorSpec((), "int32")}
    assert [int(record["y"]) for record in found] == list(range(6))
