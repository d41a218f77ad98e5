"""Casts that preserve the value: numbers of any kind to one numpy dtype, or a refusal that says which element and why.

    as_array    what numpy makes of a value, without numpy's own silent promotions inside lists
    cast        that array under the declared dtype

A cast is made only if nothing changes: an integer comes back as it was, a float may be rounded but stays finite, NaN or
infinite as it was, and bool is no number. Where numpy would promote silently (`[2**63, -1]` becomes float64,
`[True, 2]` becomes int64) the elements are looked at one by one. Shapes, None, strings and the place of a record are
the business of `recordio.values.signature`.

Spec: spec/format.md, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recordio.values.tensors import is_tensor, read_tensor

# What a user's `__array__`, or numpy on a strange object, raises when there is no array in it.
_NO_ARRAY = (TypeError, ValueError, RuntimeError, OverflowError, BufferError)

# Every integer up to 2**digits is exact in these. 8-bit floats are absent: theirs are checked each time.
_EXACT_DIGITS = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}


class Refusal(Exception):
    """A value that a cast would change; the caller adds the column, the record and the declared type.

    Attributes:
        got: what stands there.
        why: the reason, or "".
        index: place of the element in row-major order, None if the value as a whole is meant.
        wrong_type: the kind is wrong, not only the value.
        advice: what the user can do, or None.
    """

    def __init__(
        self, got: str, why: str = "", *, index: int | None = None, wrong_type: bool = False, advice: str | None = None
    ) -> None:
        super().__init__(got, why)
        self.got = got
        self.why = why
        self.index = index
        self.wrong_type = wrong_type
        self.advice = advice


def number_kind(dtype: np.dtype[Any]) -> str:
    """Say what a dtype holds: "b", "i", "u", "f" or "c", for ml_dtypes' types too; "" for all that is no number."""
    if dtype.type.__module__ == "ml_dtypes":
        # numpy calls most of them void ("V").
        name = dtype.name
        return "f" if "float" in name else "u" if name.startswith("uint") else "i" if name.startswith("int") else ""
    return dtype.kind if dtype.kind in "biufc" else ""


def as_array(value: Any) -> np.ndarray[Any, Any]:
    """Turn a scalar, list, array or object with `__array__` into an array that holds the same values; it may be a view.

    Raises:
        Refusal: numpy finds no rectangular array there, or an element is masked.
    """
    if isinstance(value, np.ndarray):
        return _plain(value)
    if isinstance(value, (list, tuple)):
        return _sequence_as_array(value)
    return _read(value)


def cast(array: np.ndarray[Any, Any], target: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Return the same values as `array` under `target`, which is a number or bool; the very array if nothing is to do.

    Raises:
        Refusal: the first element, in row-major order, that would change; or the kind of all of them.
    """
    source = array.dtype
    if source == target:
        return array
    if source.kind == "O":
        return _cast_objects(array, target)
    source_kind, target_kind = number_kind(source), number_kind(target)
    if not source_kind:
        raise Refusal(_dtype_name(source), index=0 if array.size else None, wrong_type=True)
    if source_kind == target_kind == "b":
        return array.astype(target)
    if "b" in (source_kind, target_kind):
        raise Refusal(
            _show(array, 0) if array.size else source.name,
            "bool is no number",
            index=0 if array.size else None,
            wrong_type=True,
            advice="Convert it in the source if that is what you mean",
        )
    if source.type.__module__ == "ml_dtypes":
        # Exact: all of them are subsets of float32 or int8.
        with np.errstate(all="ignore"):  # of a signalling NaN
            array = array.astype(np.float32 if source_kind == "f" else np.int8 if source_kind == "i" else np.uint8)
        return cast(array, target)
    if array.size == 0:
        return array.astype(target)
    if source_kind == "c" and target_kind != "c":
        raise Refusal(_show(array, 0), "complex is no real number", index=0, wrong_type=True)
    if target_kind == "c":
        return _cast_to_complex(array, target)
    if target_kind == "f":
        return _round(array, target) if source_kind == "f" else _int_to_float(array, target)
    return _float_to_int(array, target) if source_kind == "f" else _int_to_int(array, target)


# ---- one kind of number to another ----


def _int_to_int(array: np.ndarray[Any, Any], target: np.dtype[Any]) -> np.ndarray[Any, Any]:
    if not np.can_cast(array.dtype, target, "safe"):
        limits = np.iinfo(target)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            bad = (array < limits.min) | (array > limits.max)
            raise _refuse_first(array, bad, f"{target.name} holds {limits.min} to {limits.max}")
    return array.astype(target)


def _int_to_float(array: np.ndarray[Any, Any], target: np.dtype[Any]) -> np.ndarray[Any, Any]:
    bits = array.dtype.itemsize * 8 - (array.dtype.kind == "i")
    digits = _EXACT_DIGITS.get(target.name, 0)
    with np.errstate(all="ignore"):
        result = array.astype(target)
        if bits <= digits or (digits and -(1 << digits) <= int(array.min()) and int(array.max()) <= 1 << digits):
            return result
        back = result.astype(np.float64)
    # The bounds are powers of two, so exact as floats; outside them a cast to integer is undefined in C.
    wide = np.iinfo(np.uint64 if array.dtype.kind == "u" else np.int64)
    inside = (back >= float(wide.min)) & (back < float(wide.max))  # float(max) rounds up, to 2**63 or 2**64
    same = inside & (np.where(inside, back, 0.0).astype(wide.dtype) == array)
    if not same.all():
        raise _refuse_first(array, ~same, f"{target.name} has no such value")
    return result


def _float_to_int(array: np.ndarray[Any, Any], target: np.dtype[Any]) -> np.ndarray[Any, Any]:
    wide = array if array.dtype.itemsize >= 8 else array.astype(np.float64)
    limits = np.iinfo(target)
    with np.errstate(all="ignore"):
        # Half-open at the top, since 2**63 - 1 is no float64 and 2**63 is one.
        good = (wide >= float(limits.min)) & (wide < float(limits.max + 1)) & (np.trunc(wide) == wide)
    if not good.all():
        raise _refuse_first(array, ~good, f"no whole number from {limits.min} to {limits.max}")
    return array.astype(target)


def _round(array: np.ndarray[Any, Any], target: np.dtype[Any]) -> np.ndarray[Any, Any]:
    with np.errstate(all="ignore"):
        result = array.astype(target)
        if target.kind == "f" and target.isbuiltin == 1:
            if np.can_cast(array.dtype, target, "safe") or np.isfinite(result).all():
                return result
        back = result.astype(np.float64)
        # What is finite must stay so, and the other way round; 8-bit types may lack infinity, sign or zero.
        finite = np.isfinite(array)
        same = (finite == np.isfinite(back)) & (np.isnan(array) == np.isnan(back)) & (finite | (back == array))
        # NaN is equal to nothing, itself included.
        same |= np.isnan(array) & np.isnan(back)
    if not same.all():
        raise _refuse_first(array, ~same, f"{target.name} has nothing near it")
    return result


def _cast_to_complex(array: np.ndarray[Any, Any], target: np.dtype[Any]) -> np.ndarray[Any, Any]:
    part = np.dtype(np.float32 if target == np.complex64 else np.float64)
    if array.dtype.kind != "c":
        return cast(array, part).astype(target)
    refusals = []
    for component in (array.real, array.imag):
        try:
            _round(component, part)
        except Refusal as refusal:
            refusals.append(refusal)
    if refusals:
        first = min(refusals, key=_place)
        raise Refusal(_show(array, _place(first)), first.why, index=first.index)
    with np.errstate(all="ignore"):
        return array.astype(target)


# ---- Python objects, one by one ----


def _cast_objects(array: np.ndarray[Any, Any], target: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Cast an array of Python objects: by type, so that each is judged as what it is."""
    flat = array.ravel().tolist()
    result = np.zeros(len(flat), target)
    places: dict[type, list[int]] = {}
    for index, value in enumerate(flat):
        places.setdefault(type(value), []).append(index)
    refusals = []
    for kind, indices in places.items():
        try:
            result[indices] = _cast_alike(kind, [flat[index] for index in indices], target)
        except Refusal as refusal:
            refusal.index = indices[_place(refusal)]
            refusals.append(refusal)
    if refusals:
        raise min(refusals, key=_place)
    return result.reshape(array.shape)


def _cast_alike(kind: type, values: list[Any], target: np.dtype[Any]) -> np.ndarray[Any, Any]:
    if issubclass(kind, (bool, np.bool_)):
        return cast(np.array(values, np.bool_), target)
    if issubclass(kind, int):
        try:
            return cast(np.array(values, np.int64), target)
        except OverflowError:
            return _cast_large_ints(values, target)
    if issubclass(kind, float):
        return cast(np.array(values, np.float64), target)
    if issubclass(kind, complex):
        return cast(np.array(values, np.complex128), target)
    if not is_tensor(kind):
        raise Refusal(show_value(values[0]), index=0, wrong_type=True)
    result = np.zeros(len(values), target)
    for index, value in enumerate(values):
        read = _read(value)
        if read.ndim or read.dtype.kind == "O":
            raise Refusal(describe_array(read), index=index, wrong_type=True)
        try:
            result[index] = cast(read, target)
        except Refusal as refusal:
            refusal.index = index
            raise
    return result


def _cast_large_ints(values: list[int], target: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Cast Python integers of any size."""
    kind = number_kind(target)
    if kind in ("b", "i", "u"):
        low, high = (0, 1) if kind == "b" else (int(np.iinfo(target).min), int(np.iinfo(target).max))
        for index, value in enumerate(values):
            if not low <= value <= high:
                why = f"{target.name} holds {low} to {high}"
                raise Refusal(show_value(value), why, index=index, wrong_type=kind == "b")
        return np.array(values, target)
    floats = []
    for index, value in enumerate(values):
        try:
            close = float(value)
            # Whatever is no float64 is no narrower float either; and a float64 must be one of the target's values.
            with np.errstate(over="ignore"):
                exact = int(close) == value and complex(target.type(close)) == close
        except OverflowError:
            exact = False
        if not exact:
            raise Refusal(show_value(value), f"{target.name} has no such value", index=index)
        floats.append(close)
    return np.array(floats, np.float64).astype(target)


# ---- reading what the user gave ----


def _sequence_as_array(value: Sequence[Any]) -> np.ndarray[Any, Any]:
    """Read a list or tuple, nested or not; as objects wherever numpy's common dtype could change an element."""
    kinds: set[Any] = set()
    try:
        _gather_kinds(value, kinds)
        if object in kinds:
            value = _read_within(value)
            kinds.clear()
            _gather_kinds(value, kinds)
        array = np.asarray(value)
        if not kinds and array.size == 0:
            return array.astype(object)  # nothing in it has a type
        if all(_kept(kind, array.dtype) for kind in kinds):
            return array
        return np.array(value, dtype=object)
    except _NO_ARRAY as error:
        raise Refusal("lists of unequal length or depth") from error


def _gather_kinds(value: Sequence[Any], kinds: set[Any]) -> None:
    """Collect the types of the leaves; for numpy values their dtypes, and `object` for all that only numpy can read."""
    for kind in set(map(type, value)):
        if issubclass(kind, (list, tuple)):
            for inner in value:
                if type(inner) is kind:
                    _gather_kinds(inner, kinds)
        elif issubclass(kind, (np.ndarray, np.generic)):
            alike = [inner for inner in value if type(inner) is kind]
            kinds.update({_plain(inner).dtype if isinstance(inner, np.ndarray) else inner.dtype for inner in alike})
        elif is_tensor(kind):
            kinds.add(object)
        else:
            kinds.add(kind)


def _read_within(value: Sequence[Any]) -> list[Any]:
    return [
        _read_within(inner)
        if isinstance(inner, (list, tuple))
        else _read(inner)
        if is_tensor(type(inner)) and not isinstance(inner, (np.ndarray, np.generic))
        else inner
        for inner in value
    ]


_KINDS_KEPT = {bool: "b", int: "iu", float: "f", complex: "c"}


def _kept(kind: Any, common: np.dtype[Any]) -> bool:
    """Tell whether values of this type come through numpy's common dtype unchanged."""
    if isinstance(kind, np.dtype):
        return number_kind(kind) == number_kind(common) != "" and np.can_cast(kind, common, "safe")
    return common.kind in _KINDS_KEPT.get(kind, ())


def _read(value: Any) -> np.ndarray[Any, Any]:
    try:
        return _plain(read_tensor(value))
    except _NO_ARRAY as error:
        why = f"no array can be made of it: {error}"
        raise Refusal(show_value(value), why, wrong_type=True) from error


def _plain(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if type(array) is np.ndarray:
        return array
    if isinstance(array, np.ma.MaskedArray):
        mask = np.ma.getmaskarray(array)
        if mask.any():
            raise Refusal("a masked element", index=int(np.flatnonzero(mask)[0]), advice="Fill it before writing")
    return np.asarray(array)


# ---- words ----


def describe_array(array: np.ndarray[Any, Any]) -> str:
    """Name dtype and shape, as in `int64[3]`."""
    return f"{_dtype_name(array.dtype)}[{','.join(map(str, array.shape))}]" if array.ndim else _dtype_name(array.dtype)


def show_value(value: Any) -> str:
    """Name a value in a few words: itself if it is small, else its type."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an integer of {value.bit_length()} bits"  # Python refuses to print very long ones
    if value is None or isinstance(value, (bool, int, float, complex)):
        text = repr(value)
        return text if len(text) <= 40 else f"{text[:18]}…{text[-18:]}"
    if isinstance(value, (str, bytes)):
        kind = "str" if isinstance(value, str) else "bytes"
        return f"{kind} {value!r}" if len(value) <= 20 else f"{kind} of length {len(value)}"
    return type(value).__name__


def _dtype_name(dtype: np.dtype[Any]) -> str:
    return {"U": "str", "S": "bytes", "T": "str"}.get(dtype.kind, dtype.name)


def _show(array: np.ndarray[Any, Any], index: int) -> str:
    return str(array[np.unravel_index(index, array.shape)])


def _place(refusal: Refusal) -> int:
    return refusal.index or 0


def _refuse_first(array: np.ndarray[Any, Any], bad: np.ndarray[Any, Any], why: str) -> Refusal:
    index = int(np.flatnonzero(bad)[0])
    return Refusal(_show(array, index), why, index=index)
