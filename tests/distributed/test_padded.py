"""Padded batches that are split over replicas: padded as one batch, as tf.distribute has them."""

from __future__ import annotations

import pytest

import recordio
from recordio import InputContext, RequestError, distribute, experimental_local_results

ROWS = [[1], [2, 3], [4, 5, 6], [7], [8, 8, 8, 8]]


def test_the_slots_of_a_step_have_one_shape():
    """Also one without a record; put together they are the batch."""
    dataset = recordio.from_tensor_slices(ROWS, output_signature=recordio.TensorSpec((None,), "int64"))
    loader = dataset.padded_batch(4)
    for policy in ("AUTO", "DATA", "OFF", "FILE"):
        steps = [experimental_local_results(step) for step in distribute(loader, InputContext(1, 0, 2), policy)]
        assert [[value.shape for value in step] for step in steps] == [[(2, 3), (2, 3)], [(1, 4), (0, 4)]]
        assert [[row for value in step for row in value.tolist()] for step in steps] == [
            batch.tolist() for batch in loader
        ]
    (values, masks), *_ = distribute(loader, InputContext(1, 0, 2), remainder="pad")
    assert [value.shape for value in values.values] == [(2, 3), (2, 3)] and masks.values[0].all()


def test_over_several_pipelines_shapes_must_be_said():
    dataset = recordio.from_tensor_slices(ROWS, output_signature=recordio.TensorSpec((None,), "int64"))
    with pytest.raises(RequestError, match="padded_shapes"):
        distribute(dataset.padded_batch(4), InputContext(2, 0, 2))
    steps = [
        list(distribute(dataset.padded_batch(4, padded_shapes=(5,)), InputContext(2, number, 2)))
        for number in range(2)
    ]
    assert [[step.values[0].shape for step in own] for own in steps] == [[(2, 5), (1, 5)], [(2, 5), (0, 5)]]
