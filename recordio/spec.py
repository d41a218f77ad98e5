"""Types of leaves: `TensorSpec` and `MsgpackSpec`, the data types, and what frameworks have for the same.

A signature is a nested tuple, list or dict with one spec per leaf. A spec knows its data type by *name*: a byte order,
a framework or an installed package never shows in it, and bfloat16 needs no ml_dtypes until an array is made.
How leaves become columns is in `recordio.schema`.

Spec: spec/format.md, sections 3 and 10.
"""

from __future__ import annotations

import difflib
import math
import operator
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from recordio.errors import RequestError, SignatureError, SignatureTypeError
from recordio.format.layout import MAX_DIM, MAX_FRAME_RAW_SIZE, MAX_RANK

Shape = tuple[int | None, ...] | None   # None as a dimension: it varies; None as the shape: the rank varies

# The name of every data type -> bytes of one value, or None where values differ in size.
DTYPES: dict[str, int | None] = {
    "bool": 1,
    "int8": 1, "int16": 2, "int32": 4, "int64": 8,
    "uint8": 1, "uint16": 2, "uint32": 4, "uint64": 8,
    "float16": 2, "float32": 4, "float64": 8,
    "complex64": 8, "complex128": 16,
    "bfloat16": 2,
    "float8_e3m4": 1, "float8_e4m3": 1, "float8_e4m3b11fnuz": 1, "float8_e4m3fn": 1, "float8_e4m3fnuz": 1,
    "float8_e5m2": 1, "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1,
    "str": None, "bytes": None, "msgpack": None,
}
ML_DTYPES = frozenset(name for name in DTYPES if name == "bfloat16" or name.startswith("float8_"))
STRING_LIKE = frozenset(name for name, itemsize in DTYPES.items() if itemsize is None)

_PYTHON_TYPES: dict[Any, str] = {
    bool: "bool", int: "int64", float: "float64", complex: "complex128", str: "str", bytes: "bytes",
}


@dataclass(frozen=True, init=False, repr=False)
class TensorSpec:
    """The type of one leaf: shape, data type, and whether it may be None.

    Attributes:
        shape: dimensions, None where one varies from record to record; None as a whole for unknown rank.
        dtype: canonical name, such as "int64", "str" or "bfloat16".
        name: name of the column; None takes the path of the leaf.
        optional: a record may hold None here.
    """

    shape: Shape
    dtype: str
    name: str | None
    optional: bool

    def __init__(self, shape: Any, dtype: Any, name: str | None = None, optional: bool = False) -> None:
        """Normalise and check.

        Args:
            shape: sequence of int or None, a framework's shape object, or None.
            dtype: name, Python type, or a data type of numpy, ml_dtypes, TensorFlow, PyTorch or JAX.
            name: name of the column.
            optional: whether None is a value.

        Raises:
            SignatureError: a dimension or a size out of limits.
            SignatureTypeError: no such data type, or an argument of the wrong type.
        """
        name_of_dtype = canonical_dtype(dtype)
        if name_of_dtype == "msgpack":
            raise SignatureError("dtype 'msgpack' has a spec of its own", advice="Use recordio.MsgpackSpec()")
        dims = canonical_shape(shape)
        if not isinstance(optional, bool | np.bool_):
            raise SignatureTypeError(f"optional is True or False, got {optional!r}")
        problem = shape_problem(dims, name_of_dtype, bool(optional))
        if problem is not None:
            raise SignatureError(problem)
        object.__setattr__(self, "shape", dims)
        object.__setattr__(self, "dtype", name_of_dtype)
        object.__setattr__(self, "name", _checked_name(name))
        object.__setattr__(self, "optional", bool(optional))

    def __repr__(self) -> str:
        name = "" if self.name is None else f", name={self.name!r}"
        optional = ", optional=True" if self.optional else ""
        return f"TensorSpec({self.shape!r}, {self.dtype!r}{name}{optional})"


@dataclass(frozen=True, init=False, repr=False)
class MsgpackSpec:
    """The type of a leaf that is any JSON-like object: None, bool, int, float, str, bytes, list, dict.

    Attributes:
        name: name of the column; None takes the path of the leaf.
    """

    name: str | None

    def __init__(self, name: str | None = None) -> None:
        """Check the name, as `TensorSpec` does."""
        object.__setattr__(self, "name", _checked_name(name))

    @property
    def shape(self) -> tuple[()]:
        """Always a scalar."""
        return ()

    @property
    def dtype(self) -> str:
        """Always "msgpack"."""
        return "msgpack"

    @property
    def optional(self) -> bool:
        """Always False: None is a value like another."""
        return False

    def __repr__(self) -> str:
        return "MsgpackSpec()" if self.name is None else f"MsgpackSpec(name={self.name!r})"


def canonical_dtype(dtype: Any) -> str:
    """Name a data type as spec/format.md, section 3, does.

    Raises:
        SignatureTypeError: there is no column of this type; the advice says what to use instead.
    """
    if isinstance(dtype, str):
        return _dtype_of_text(dtype)
    if isinstance(dtype, np.dtype):
        return _dtype_of_numpy(dtype)
    if isinstance(dtype, type):
        if dtype in _PYTHON_TYPES:
            return _PYTHON_TYPES[dtype]
        # numpy takes every class that it does not know for object.
        return _dtype_of_numpy(_numpy_or_refuse(dtype))
    name = getattr(dtype, "name", None)
    if hasattr(dtype, "as_datatype_enum") and isinstance(name, str):   # tf.DType
        return "bytes" if name == "string" else _known(name, dtype)
    text = str(dtype)
    if text.startswith("torch."):
        return _known(text.removeprefix("torch."), dtype)
    if isinstance(getattr(dtype, "dtype", None), np.dtype):
        return _dtype_of_numpy(dtype.dtype)
    raise SignatureTypeError(f"{dtype!r} is no data type", advice="Give a name such as 'float32', 'str' or 'bytes'")


def canonical_shape(shape: Any) -> Shape:
    """Make a tuple of int or None, or None for unknown rank, of whatever a framework calls a shape.

    Raises:
        SignatureError: a negative dimension.
        SignatureTypeError: not a sequence of int or None.
    """
    if shape is None:
        return None
    if hasattr(shape, "as_list"):   # tf.TensorShape: of unknown rank it can be neither listed nor iterated
        if shape.rank is None:
            return None
        shape = shape.as_list()
    if isinstance(shape, int | np.integer):
        raise SignatureTypeError(f"shape is {shape!r}, not a sequence", advice=f"Write ({shape},) for one dimension")
    if isinstance(shape, str | bytes | dict | set | frozenset) or not hasattr(shape, "__iter__"):
        raise SignatureTypeError(
            f"shape is {shape!r}, not a sequence of dimensions", advice="Write for example (28, 28), () or (None,)"
        )
    return tuple(_dimension(dim, shape) for dim in shape)


def shape_problem(shape: Shape, dtype: str, optional: bool) -> str | None:
    """Say which limit of spec/format.md, section 10, a shape of non-negative dimensions breaks, or None."""
    if shape is None:
        return None
    if len(shape) > MAX_RANK:
        return f"shape has rank {len(shape)}, the limit is {MAX_RANK}"
    # Zeros left out: numpy refuses a product that is too large even beside a zero.
    known = [dim for dim in shape if dim]
    if known and max(known) > MAX_DIM:
        return f"a dimension is {max(known)}, the limit is {MAX_DIM}"
    size = math.prod(known) * (DTYPES[dtype] or 1)
    if optional and DTYPES[dtype] is not None and not {None, 0}.intersection(shape):
        size += 1   # whether there is a value; rows that vary in size are measured one by one
    if size > MAX_FRAME_RAW_SIZE:
        return f"one row of shape {shape} and dtype {dtype} has {size} bytes, the limit is {MAX_FRAME_RAW_SIZE}"
    return None


@cache
def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """The numpy data type that holds values of a canonical dtype; uint8 for string-like ones.

    Raises:
        RequestError: bfloat16 or float8 without the ml_dtypes package.
    """
    if dtype in STRING_LIKE:
        return np.dtype(np.uint8)
    if dtype not in ML_DTYPES:
        return np.dtype(dtype)
    try:
        import ml_dtypes
    except ImportError:
        raise RequestError(f"{dtype} needs the ml_dtypes package", advice="pip install ml_dtypes") from None
    found = getattr(ml_dtypes, dtype, None)
    if found is None:
        raise RequestError(
            f"ml_dtypes {ml_dtypes.__version__} has no {dtype}", advice="pip install --upgrade ml_dtypes"
        )
    dtype_of_package: np.dtype[Any] = np.dtype(found)
    return dtype_of_package


def foreign_spec(value: Any) -> TensorSpec | None:
    """The spec of anything with a shape and a data type: another framework's spec, or an array as an example.

    Returns:
        None if the value has no shape or no dtype. Only the name of a tf.TensorSpec is kept: Keras makes names up.

    Raises:
        SignatureError, SignatureTypeError: as `TensorSpec`; or the value is sparse.
    """
    kind = type(value).__name__
    if getattr(value, "is_nested", False) is True:  # torch: before its shape, which it may refuse to show
        raise SignatureTypeError(
            f"{kind} is nested: its rows have shapes of their own", advice="Give a list of its rows: tensor.unbind()"
        )
    if isinstance(value, type) or not (hasattr(value, "shape") and hasattr(value, "dtype")):
        return None
    # TensorFlow, JAX: a class; torch: layout torch.sparse_coo and others; Keras: a flag; scipy: a method.
    if (
        any("Sparse" in base.__name__ for base in type(value).__mro__)
        or "sparse" in str(getattr(value, "layout", ""))
        or getattr(value, "sparse", False) is True
        or hasattr(value, "tocsr")
    ):
        raise SignatureTypeError(
            f"{kind} is sparse, and there is no sparse column",
            advice="Store it dense, or its indices and values as two columns of shape (None, ...)",
        )
    shape = canonical_shape(value.shape)
    ragged_rank = getattr(value, "ragged_rank", None)
    if shape is not None and isinstance(ragged_rank, int):   # tf: dimensions 1 to ragged_rank have row splits
        shape = tuple(None if 1 <= axis <= ragged_rank else dim for axis, dim in enumerate(shape))
    # A framework's "string" (Keras names it, tf.DType is treated in canonical_dtype) is bytes.
    dtype = "bytes" if isinstance(value.dtype, str) and value.dtype == "string" else value.dtype
    is_tf_spec = any(base.__name__ == "TensorSpec" for base in type(value).__mro__)
    name = getattr(value, "name", None) if is_tf_spec else None
    return TensorSpec(shape, dtype, name=name if isinstance(name, str) else None)


def is_text(value: str) -> bool:
    """Whether a string can be stored as UTF-8: it has no lone surrogate."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _checked_name(name: str | None) -> str | None:
    if name is None:
        return None
    if not isinstance(name, str):
        raise SignatureTypeError(f"name is {name!r}, not a str")
    if not is_text(name):
        raise SignatureError(f"name {name!r} has a lone surrogate, which UTF-8 cannot hold")
    return str.__str__(name)   # of a subclass (numpy.str_, a str Enum) only the text


def _dimension(dim: Any, shape: Any) -> int | None:
    dim = getattr(dim, "value", dim) if type(dim).__name__ == "Dimension" else dim   # tf.compat.v1
    if dim is None:
        return None
    if isinstance(dim, bool | np.bool_):
        raise SignatureTypeError(f"a dimension is an int or None, got {dim!r} in {shape!r}")
    try:
        size = operator.index(dim)
    except TypeError:
        raise SignatureTypeError(f"a dimension is an int or None, got {dim!r} in {shape!r}") from None
    if size < 0:
        raise SignatureError(f"dimension {size} in {shape!r}", advice="Write None for a dimension that varies")
    return size


def _known(name: str, dtype: Any) -> str:
    if name in DTYPES:
        return name
    raise SignatureTypeError(f"there is no column of dtype {dtype!r}", advice="Convert it to one of numpy's types")


def _dtype_of_text(text: str) -> str:
    if text in DTYPES:
        return text
    if text == "string":
        raise SignatureTypeError("dtype 'string' is not clear", advice="Say 'str' for text (UTF-8) or 'bytes'")
    try:
        return _dtype_of_numpy(np.dtype(text))
    except (TypeError, ValueError, SyntaxError) as error:
        if isinstance(error, SignatureTypeError):
            raise
    close = difflib.get_close_matches(text, DTYPES, n=1)
    advice = f"Did you mean {close[0]!r}?" if close else f"One of {', '.join(DTYPES)}"
    raise SignatureTypeError(f"there is no dtype {text!r}", advice=advice)


def _numpy_or_refuse(kind: type) -> np.dtype[Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")   # numpy < 2.4 makes float64 of np.floating, with a warning
            return np.dtype(kind)
    except (TypeError, ValueError, DeprecationWarning):
        raise SignatureTypeError(f"{kind!r} is no data type", advice="Give a name such as 'float32'") from None


def _dtype_of_numpy(dtype: np.dtype[Any]) -> str:
    if dtype.kind in "UT":
        return "str"
    if dtype.kind == "S":
        return "bytes"
    # By class: where long double is as wide as double its *name* is float64, and files must not depend on that.
    is_long = dtype.type in (np.longdouble, np.clongdouble)
    if dtype.name in DTYPES and not is_long:
        return dtype.name
    if is_long:
        advice = f"Long doubles have no portable bytes: use {'float64' if dtype.kind == 'f' else 'complex128'}"
    elif dtype.kind in "mM":
        advice = "Store an int64, and put the unit in the metadata"
    elif dtype.kind == "O":
        advice = "Use 'str' or 'bytes' for text, recordio.MsgpackSpec() for JSON-like objects, (None,) for ragged"
    elif dtype.names is not None:
        advice = "Make every field a column of its own: a dict of specs"
    elif dtype.subdtype is not None:
        advice = f"Put the dimensions {dtype.subdtype[1]} into the shape"
    else:
        advice = "Convert it to a type that spec/format.md, section 3, lists"
    raise SignatureTypeError(f"there is no column of dtype {dtype}", advice=advice)
