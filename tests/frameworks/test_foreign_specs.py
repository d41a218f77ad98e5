"""What frameworks have for a spec, a shape, a dtype or a tensor is understood as they mean it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from jax.experimental.sparse import BCOO

import recordio
from recordio.errors import SignatureError, SignatureTypeError
from recordio.schema import Schema, TensorSpec
from recordio.values.infer import infer_batch_signature, infer_signature
from recordio.values.leaves import record_leaves
from recordio.values.ragged import Ragged
from recordio.values.ragged_tensors import as_numpy
from recordio.values.signature import RecordBuffer, cast_batch

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
    (tf.ragged.constant([[1, 4], [2, 3]]), T((2, None), "int32")),
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


# ---- what is a spec is a value ----


def rows_of(batch: Any, signature: Any = None) -> list[Any]:
    """The records of a batch of one leaf, under the signature that is inferred from it."""
    schema = Schema.from_signature(infer_batch_signature(batch) if signature is None else signature)
    _, (rows,) = cast_batch(schema, batch)
    return record_leaves(schema.columns[0], rows)


def record_of(value: Any) -> Any:
    """A value as a record comes back from, under the signature that is inferred from it."""
    schema = Schema.from_signature(infer_signature([value]))
    buffer = RecordBuffer(schema)
    buffer.append(value, 0)
    return record_leaves(schema.columns[0], buffer.take()[0])[0]


def with_splits(bits: int) -> Any:
    """Row splits may have either width."""
    return tf.RaggedTensor.from_row_splits(tf.constant(range(5), tf.int16), tf.constant([0, 2, 2, 5], f"int{bits}"))


@pytest.mark.parametrize(("batch", "spec", "rows"), [
    (tf.ragged.constant([[1], [], [2, 3]]), T((None,), "int32"), [[1], [], [2, 3]]),
    (with_splits(32), T((None,), "int16"), [[0, 1], [], [2, 3, 4]]),
    (with_splits(64), T((None,), "int16"), [[0, 1], [], [2, 3, 4]]),
    (tf.RaggedTensor.from_row_splits(np.arange(6.0).reshape(3, 2), [0, 1, 3]), T((None, 2), "float64"),
     [[[0, 1]], [[2, 3], [4, 5]]]),
    (tf.RaggedTensor.from_row_splits(np.zeros((3, 0)), [0, 1, 3]), T((None, 0), "float64"), [[[]], [[], []]]),
    (tf.ragged.constant([["a\0", "b"], []]), T((None,), "bytes"), [[b"a\0", b"b"], []]),
    (tf.RaggedTensor.from_row_splits(tf.constant([["a", "b"], ["c", "d"]]), [0, 0, 2]), T((None, 2), "bytes"),
     [np.zeros((0, 2)).tolist(), [[b"a", b"b"], [b"c", b"d"]]]),
    (tf.ragged.constant([[[1, 2], [3, 4]], [[5]], []]), T((None, None), "int32"), [[[1, 2], [3, 4]], [[5]], []]),
    (tf.ragged.constant([[[[1], [2]]], [[[3], [4]], [[5], [6]]]]), T((None, None, None), "int32"),
     [[[[1], [2]]], [[[3], [4]], [[5], [6]]]]),
    (tf.RaggedTensor.from_uniform_row_length(tf.ragged.constant([[1, 2], [3, 4], [], []]), 2), T((None, None), "int32"),
     [[[1, 2], [3, 4]], [[], []]]),
    (tf.ragged.constant([[1], []], dtype=tf.bfloat16), T((None,), "bfloat16"), [[1], []]),
    (tf.ragged.constant([], ragged_rank=1, dtype=tf.int8), T((None,), "int8"), []),
    (tf.compat.v1.ragged.constant_value([[1], [2, 3]], dtype=np.int8), T((None,), "int8"), [[1], [2, 3]]),
])  # fmt: skip
def test_a_ragged_tensor_is_a_batch(batch: Any, spec: Any, rows: list[Any]):
    """Its row splits are the offsets of a Ragged."""
    assert infer_batch_signature(batch) == spec
    assert type(as_numpy(batch)) is Ragged
    for signature in (None, spec, T(None, spec.dtype)):
        assert [row.tolist() for row in rows_of(batch, signature)] == rows
    both = (batch, np.arange(len(rows)))
    assert infer_batch_signature(both) == (spec, T((), "int64"))


def test_a_row_that_is_ragged_inside_is_no_array():
    """Named by its record, by inference and by the cast."""
    batch = tf.ragged.constant([[[1, 2], [3, 4]], [[5], [6, 7]], []])
    for refuse in (infer_batch_signature, lambda batch: rows_of(batch, T((None, None), "int32"))):
        with pytest.raises(SignatureError, match="ragged inside") as caught:
            refuse(batch)
        assert (caught.value.record, caught.value.column) == (1, "value")


def test_a_ragged_tensor_is_a_record_if_it_is_an_array():
    """A record's leaf has one shape; what has none is refused by inference and by the cast alike."""
    assert record_of(tf.ragged.constant([[1, 2], [3, 4]])).tolist() == [[1, 2], [3, 4]]
    assert record_of(tf.ragged.constant([["a"], ["b"]])).tolist() == [[b"a"], [b"b"]]
    jagged = tf.ragged.constant([[1], [2, 3]])
    with pytest.raises(SignatureError, match="differ in length"):
        infer_signature([{"x": jagged}])
    with pytest.raises(SignatureError, match="differ in length"):
        RecordBuffer(Schema.from_signature(T((2, None), "int32"))).append(jagged, 0)


LOW_PRECISION = [
    getattr(torch, name)
    for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")
]


@pytest.mark.parametrize("dtype", LOW_PRECISION)
def test_torch_numbers_that_numpy_lacks_are_values(dtype: Any):
    """Bit by bit, whatever the strides and the rank; in records, batches and lists."""
    name = str(dtype).removeprefix("torch.")
    tensor = torch.tensor([[1.0, 2.0, 4.0], [0.5, 8.0, 16.0]]).to(dtype)
    for given in (tensor, tensor.T, tensor[:, ::2], tensor[0], tensor[1, 2], tensor[:0]):
        expected = given.to(torch.float32).tolist()
        array = as_numpy(given)
        assert (array.dtype.name, array.shape) == (name, tuple(given.shape))
        assert array.astype(np.float32).tolist() == expected
        assert record_of(given).astype(np.float32).tolist() == expected
    assert [row.astype(np.float32).tolist() for row in rows_of(tensor)] == tensor.to(torch.float32).tolist()
    assert [float(row) for row in rows_of([tensor[0, 0], tensor[0, 1]])] == [1, 2]
    assert rows_of(tensor, T((3,), "float64"))[0].tolist() == [1, 2, 4]


@pytest.mark.parametrize("tensor", [
    torch.tensor([1.0, 2.0], requires_grad=True), torch.nn.Parameter(torch.tensor([1.0, 2.0])),
    torch.tensor([1.0, 2.0], requires_grad=True).to(torch.bfloat16),
    torch.tensor([1 - 1j, 2]).conj(), torch.tensor([1 - 1j, 2 - 2j]).conj().imag,
])  # fmt: skip
def test_a_tensor_that_has_to_be_resolved_is_read_as_what_it_shows(tensor: Any):
    """Gradients, and bits that torch keeps beside the memory, are torch's own business."""
    expected = tensor.detach().clone().resolve_conj().resolve_neg().tolist()
    assert as_numpy(tensor).tolist() == record_of(tensor).tolist() == expected
    assert [row.item() for row in rows_of(tensor)] == expected


@pytest.mark.parametrize("make", [
    lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
    lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)], layout=torch.jagged),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_nested_tensors_are_refused_with_advice(make: Any):
    """As specs and as values."""
    value = make()
    for refuse in (Schema.from_signature, lambda value: infer_signature([value]), infer_batch_signature):
        with pytest.raises(SignatureTypeError, match="unbind"):
            refuse({"x": value})


def test_a_list_of_tensors_is_rows_or_inputs_as_of_arrays():
    inputs = ([torch.zeros(4, 2), torch.zeros(4)], torch.zeros(4, dtype=torch.int64))
    assert infer_batch_signature(inputs) == ([T((2,), "float32"), T((), "float32")], T((), "int64"))
    with pytest.raises(SignatureError, match=r"numpy\.stack"):
        infer_batch_signature(([tf.zeros([2, 2]), tf.zeros([2, 2])], tf.zeros([2])))


@pytest.mark.parametrize("leaf", [1, "a", b"a", None, [1], np.zeros(1), np.float32(1), Ragged.from_rows([[1]], "int8")])
def test_what_is_no_tensor_stays_itself(leaf: Any):
    assert as_numpy(leaf) is leaf


# ---- wherever ours are taken ----

TF_SPEC = {
    "image": tf.TensorSpec((2, 3), tf.uint8), "label": tf.TensorSpec([], tf.int64),
    "word": tf.TensorSpec((), tf.string), "tokens": tf.RaggedTensorSpec([None], tf.int32),
    "pair": (tf.RaggedTensorSpec([2, None], tf.float32), tf.TensorSpec(tf.TensorShape([None, 2]), tf.bfloat16)),
}  # fmt: skip
OWN_SPEC = {
    "image": T((2, 3), "uint8"), "label": T((), "int64"), "word": T((), "bytes"), "tokens": T((None,), "int32"),
    "pair": (T((2, None), "float32"), T((None, 2), "bfloat16")),
}  # fmt: skip


def tf_records() -> Iterator[Any]:
    """As a generator of tf.data gives them: tensors, ragged ones among them, and what becomes a tensor."""
    for number in range(7):
        yield {
            "image": tf.fill((2, 3), tf.cast(number, tf.uint8)), "label": number, "word": tf.constant(f"w{number}"),
            "tokens": tf.range(number, dtype=tf.int32),
            "pair": (tf.ragged.constant([[0.5] * number] * 2), tf.zeros((number % 3, 2), tf.bfloat16)),
        }  # fmt: skip


class TfBatches(keras.utils.PyDataset):
    """The same records as batches, but for what no tensor holds."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Any:
        return {"label": tf.range(7, dtype=tf.int64), "word": tf.constant([f"w{number}" for number in range(7)])}


def check_tf_records(dataset: Any) -> None:
    assert dataset.element_spec == OWN_SPEC
    assert len(dataset) == 7
    for number, record in enumerate(dataset):
        assert record["image"].tolist() == [[number] * 3] * 2
        assert (int(record["label"]), record["word"]) == (number, f"w{number}".encode())
        assert record["tokens"].tolist() == list(range(number))
        assert record["pair"][0].tolist() == [[0.5] * number] * 2
        assert record["pair"][1].shape == (number % 3, 2)


@pytest.mark.parametrize("convert", [
    lambda path: recordio.convert(tf_records, path, output_signature=TF_SPEC, num_shards=2),
    lambda path: recordio.convert(list(tf_records()), path, output_signature=TF_SPEC, num_shards=2),
    lambda path: recordio.convert(recordio.from_generator(tf_records, TF_SPEC), path),
    lambda path: recordio.convert(recordio.from_generator(tf_records, output_signature=TF_SPEC), path, num_shards=3),
    lambda path: recordio.convert(tf_records, path, output_signature=tf.data.Dataset.from_generator(
        tf_records, output_signature=TF_SPEC
    ).element_spec),
])  # fmt: skip
def test_a_signature_of_tensorflow_is_converted_with(convert: Callable[[Path], Any], tmp_path: Path):
    """`convert` and `from_generator`, with the output_signature that tf.data's from_generator takes."""
    convert(tmp_path / "set")
    check_tf_records(recordio.open(tmp_path / "set"))


def test_a_signature_of_tensorflow_is_written_with(tmp_path: Path):
    with recordio.Writer(tmp_path / "set", TF_SPEC) as writer:
        for record in tf_records():
            writer.write(record)
    check_tf_records(recordio.open(tmp_path / "set"))


def test_a_signature_of_tensorflow_is_mapped_to():
    """By `map`, whose function may give tensors."""
    numbers = recordio.from_tensor_slices({"label": np.arange(7)})
    rows = list(tf_records())
    mapped = numbers.map(lambda record: rows[int(record["label"])], output_signature=TF_SPEC)
    check_tf_records(mapped)


def test_signatures_of_tensorflow_describe_what_is_in_memory_and_batches(tmp_path: Path):
    """from_tensors, from_tensor_slices, and a PyDataset, which gives batches of such records."""
    slices = {"label": np.arange(7), "word": [f"w{number}".encode() for number in range(7)]}
    spec = {"label": TF_SPEC["label"], "word": TF_SPEC["word"]}
    own = {"label": OWN_SPEC["label"], "word": OWN_SPEC["word"]}
    assert recordio.from_tensors({"label": 1, "word": b"a"}, output_signature=spec).element_spec == own
    source = recordio.from_pydataset(TfBatches(), output_signature=spec)
    recordio.convert(source, tmp_path / "set")
    for dataset in (recordio.from_tensor_slices(slices, output_signature=spec), recordio.open(tmp_path / "set")):
        assert dataset.element_spec == own
        assert [(int(record["label"]), record["word"]) for record in dataset] == [
            (number, f"w{number}".encode()) for number in range(7)
        ]


def test_a_record_that_breaks_a_signature_of_tensorflow_is_refused(tmp_path: Path):
    """By its number and column, as for a signature of ours."""
    records = [{"x": np.zeros(2, np.float32)}, {"x": np.zeros(3, np.float32)}]
    with pytest.raises(SignatureError) as caught:
        recordio.convert(records, tmp_path / "set", output_signature={"x": tf.TensorSpec((2,), tf.float32)})
    assert (caught.value.record, caught.value.column) == (1, "x")
