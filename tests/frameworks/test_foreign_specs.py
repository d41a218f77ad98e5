"""What frameworks have for a spec, a shape, a dtype or a tensor is understood as they mean it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from jax.experimental.sparse import BCOO

from recordio.errors import SignatureError, SignatureTypeError
from recordio.schema import Schema, TensorSpec
from recordio.values.infer import infer_batch_signature, infer_signature

pytestmark = pytest.mark.framework

T = TensorSpec


def spec_of(value: Any) -> Any:
    return Schema.from_signature(value).element_spec


@pytest.mark.parametrize(("dtype", "name"), [
    (tf.string, "bytes"), (tf.half, "float16"), (tf.bfloat16, "bfloat16"), (tf.bool, "bool"),
    (tf.complex64, "complex64"),
    (torch.long, "int64"), (torch.bfloat16, "bfloat16"), (torch.float8_e4m3fn, "float8_e4m3fn"), (torch.bool, "bool"),
    (jnp.float32, "float32"), (jnp.bfloat16, "bfloat16"), (jnp.dtype("uint8"), "uint8"), (jnp.int32, "int32"),
])  # fmt: skip
def test_dtypes(dtype: Any, name: str):
    assert T((), dtype).dtype == name


@pytest.mark.parametrize("dtype", [
    tf.resource, tf.variant, tf.qint8, torch.complex32, torch.qint8, jax.random.key(0).dtype,
])  # fmt: skip
def test_dtypes_without_numpy_form_are_refused(dtype: Any):
    with pytest.raises(SignatureTypeError):
        T((), dtype)


@pytest.mark.parametrize(("shape", "expected"), [
    (tf.TensorShape([None, 3]), (None, 3)), (tf.TensorShape(None), None), (tf.TensorShape([]), ()),
    (torch.Size([2, 3]), (2, 3)), ([tf.compat.v1.Dimension(None), tf.compat.v1.Dimension(4)], (None, 4)),
])  # fmt: skip
def test_shapes(shape: Any, expected: Any):
    assert T(shape, "int8").shape == expected


@pytest.mark.parametrize(("value", "spec"), [
    (tf.TensorSpec([None, 3], tf.string, name="text"), T((None, 3), "bytes", name="text")),
    (tf.TensorSpec(None, tf.float32), T(None, "float32")),
    (tf.RaggedTensorSpec([2, None, 3], tf.int32, ragged_rank=1), T((2, None, 3), "int32")),
    (tf.RaggedTensorSpec([2, 3, 4], tf.int32, ragged_rank=1), T((2, None, 4), "int32")),
    (tf.RaggedTensorSpec(None, tf.int32, ragged_rank=1), T(None, "int32")),
    (jax.ShapeDtypeStruct((3,), jnp.bfloat16), T((3,), "bfloat16")),
    (keras.KerasTensor((None, 3), dtype="int32", name="made_up"), T((None, 3), "int32")),
    (keras.KerasTensor((2,), dtype="string"), T((2,), "bytes")),
    (torch.zeros(2, 3, dtype=torch.uint8), T((2, 3), "uint8")),
    (tf.zeros([2], tf.float64), T((2,), "float64")), (jnp.zeros((2, 1)), T((2, 1), "float32")),
])  # fmt: skip
def test_specs_and_tensors_in_a_signature(value: Any, spec: TensorSpec):
    assert spec_of(value) == spec
    assert spec_of({"a": (value,)}) == {"a": (spec,)}


@pytest.mark.parametrize("value", [
    tf.SparseTensorSpec([3], tf.int32), tf.sparse.from_dense([1, 0]), torch.ones(2).to_sparse(),
    keras.KerasTensor((2,), dtype="int32", sparse=True), BCOO.fromdense(jnp.ones(2)),
])  # fmt: skip
def test_sparse_tensors_are_refused(value: Any):
    for refuse in (Schema.from_signature, lambda value: infer_signature([value])):
        with pytest.raises(SignatureTypeError, match="sparse"):
            refuse({"x": value})


@pytest.mark.parametrize(("value", "spec"), [
    (tf.constant(["a"]), T((1,), "bytes")), (tf.constant(1), T((), "int32")),
    (tf.ragged.constant([[1], [2, 3]]), T((2, None), "int32")),
    (torch.tensor(1.5, requires_grad=True), T((), "float32")),
    (torch.zeros(2, dtype=torch.bfloat16), T((2,), "bfloat16")),
    (jnp.int8(3), T((), "int8")), (tf.Variable([1.0]), T((1,), "float32")), (keras.Variable([1.0]), T((1,), "float32")),
])  # fmt: skip
def test_tensors_in_a_record(value: Any, spec: TensorSpec):
    assert infer_signature([{"x": value}, {"x": value}]) == {"x": spec}


def test_tensors_of_several_frameworks_and_python_numbers_merge():
    assert infer_signature([tf.zeros([2], tf.int32), torch.zeros(3, dtype=torch.int64)]) == T((None,), "int64")


@pytest.mark.parametrize(("batch", "spec"), [
    (tf.zeros([4, 3]), T((3,), "float32")), (torch.zeros(4, dtype=torch.int64), T((), "int64")),
    (tf.ragged.constant([[1], [2, 3]]), T((None,), "int32")),
    ((jnp.zeros((4, 2)), np.zeros(4)), (T((2,), "float32"), T((), "float64"))),
    ([torch.zeros(2), torch.zeros(3)], T((None,), "float32")),
])  # fmt: skip
def test_tensors_in_a_batch(batch: Any, spec: Any):
    assert infer_batch_signature(batch) == spec


def test_a_keras_model_input_and_a_dataset_element_spec_are_signatures():
    dataset = tf.data.Dataset.from_tensor_slices({"x": np.zeros((4, 2)), "y": ["a", "b", "c", "d"]})
    assert spec_of(dataset.element_spec) == {"x": T((2,), "float64"), "y": T((), "bytes")}
    with pytest.raises(SignatureError):
        Schema.from_signature(tf.data.DatasetSpec(dataset.element_spec))
