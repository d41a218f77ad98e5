"""Lists in a batch without a signature: rows of one leaf, or leaves of their own.

    ([1, 2, 3], ...)              scalars, strings, None, or lists of these: rows
    [{"a": x}, {"a": y}]          a dict, a tuple or a Ragged is no row: the list is structure
    ([x1, x2], y)                 arrays: rows if y has as many rows as there are arrays; leaves, such as the inputs of
                                  a Keras model, if y has as many as each array; refused if both, or neither, is true
    [x1, x2, x3]                  arrays, and nothing else that says how many rows there are: rows, as
                                  tf.data.Dataset.from_tensor_slices stacks lists

A coincidence of sizes never decides: it is refused. What is decided for the first batch of a source is part of the
signature, under which all its batches are read; there, and under a signature that the user gives, nothing is left to
decide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice, product
from typing import Any, Literal

from recordio.errors import SignatureError
from recordio.spec import canonical_dtype
from recordio.structure import CONTAINERS, Parts, children, leaf_name
from recordio.values.observed import SCALARS, check_depth, is_plain_list
from recordio.values.ragged import Ragged
from recordio.values.tensors import has_array, is_ragged_tensor, read_tensor

LoneLists = Literal["rows", "refuse"]

_WHICH_ADVICE = "Make it a tuple if these are leaves, numpy.stack(...) if they are rows; or give an output_signature"


@dataclass(frozen=True, slots=True)
class _ArrayList:
    """A list of arrays, whose meaning is open."""

    parts: Parts
    arrays: list[Any]
    size: int | None    # the first dimension that all arrays have in common

    def readings(self, num_rows: int) -> list[bool]:
        """Of a batch of so many rows: True, the list is rows; False, it is leaves."""
        return [is_rows for is_rows, size in ((True, len(self.arrays)), (False, self.size)) if size == num_rows]


@dataclass(slots=True)
class _Survey:
    """What a batch holds."""

    structure: set[Parts] = field(default_factory=set)      # lists that cannot be rows
    sizes: set[int] = field(default_factory=set)            # rows of the leaves that are certain
    open: list[_ArrayList] = field(default_factory=list)


def lists_of_leaves(batch: Any, lone_lists: LoneLists) -> set[Parts]:
    """Decide for every list of a batch; all that are not among the returned paths are rows of one leaf.

    Args:
        lone_lists: what lists of arrays mean where nothing else says how many rows there are and they can be either:
            rows, or nothing that can be told.

    Raises:
        SignatureError: a list can be read in two ways, or in none.
    """
    survey = _Survey()
    _look(batch, (), survey)
    if not survey.open:
        return survey.structure
    if len(survey.sizes) > 1:
        return survey.structure     # no batch at all; whoever compares the leaves says so
    if survey.sizes:
        (num_rows,) = survey.sizes
        decided = [_read(one, num_rows) for one in survey.open]
    else:
        decided = _read_alone(survey.open, lone_lists)
    return survey.structure | {one.parts for one, is_rows in zip(survey.open, decided) if not is_rows}


def _look(node: Any, parts: Parts, survey: _Survey) -> None:
    check_depth(parts)
    if isinstance(node, list) and not _holds_structure(node, parts):
        _look_at_list(node, parts, survey)
    elif isinstance(node, CONTAINERS):
        if isinstance(node, list):
            survey.structure.add(parts)
        for part, child in children(node):
            _look(child, (*parts, part), survey)
    else:
        shape = (len(node),) if isinstance(node, Ragged) else _shape(node)
        if shape:
            survey.sizes.add(shape[0])


def _look_at_list(values: list[Any], parts: Parts, survey: _Survey) -> None:
    arrays = [value for value in values if not (value is None or isinstance(value, SCALARS))]
    for value in arrays:
        if isinstance(value, list) and not is_plain_list(value, parts):
            raise SignatureError(
                "lists of arrays inside a list", column=leaf_name(parts),
                advice="Use tuples where leaves are meant, numpy.stack(...) where one array is meant",
            )
    lists = [value for value in arrays if isinstance(value, list)]
    shapes = [(len(value),) if isinstance(value, list) else _shape(value) for value in arrays]
    # A value without an axis is a row, whatever stands beside it; so are lists of numbers among themselves.
    if len(arrays) < len(values) or len(lists) == len(values) or not all(shapes):
        survey.sizes.add(len(values))
        return
    sizes = {shape[0] for shape in shapes if shape}
    survey.open.append(_ArrayList(parts, values, sizes.pop() if len(sizes) == 1 else None))


def _holds_structure(values: list[Any], parts: Parts) -> bool:
    """Whether something in a list, or in the lists inside it, can be no row."""
    check_depth(parts)
    return any(
        isinstance(value, (tuple, dict, Ragged))
        or is_ragged_tensor(type(value))
        or (isinstance(value, list) and _holds_structure(value, (*parts, place)))
        for place, value in enumerate(values)
    )


def _read(one: _ArrayList, num_rows: int) -> bool:
    readings = one.readings(num_rows)
    if len(readings) == 1:
        return readings[0]
    if readings:
        raise _two_readings(one)
    count = len(one.arrays)
    first = "arrays of different length" if one.size is None else f"arrays of length {one.size}"
    raise SignatureError(
        f"a list of {count} {first}, and {num_rows} rows in the other leaves: neither rows nor leaves would be as many",
        column=leaf_name(one.parts), advice="All leaves of a batch need the same number of rows",
    )  # fmt: skip


def _read_alone(lists: list[_ArrayList], lone_lists: LoneLists) -> list[bool]:
    counts = {len(one.arrays) for one in lists}
    if lone_lists == "rows" and len(counts) == 1:
        for one in lists:
            ranks = {len(_shape(array) or ()) for array in one.arrays}
            if one.size is not None and len(ranks) > 1:
                raise SignatureError(
                    f"{len(one.arrays)} arrays of one length, but of rank {' and '.join(map(str, sorted(ranks)))}: as "
                    "rows, they would have no common rank",
                    column=leaf_name(one.parts), advice=_WHICH_ADVICE,
                )  # fmt: skip
        return [True] * len(lists)
    ways = list(islice(_ways(lists), 2))    # there may be very many
    if len(ways) == 1:
        return ways[0]
    if ways:
        raise _two_readings(next(one for place, one in enumerate(lists) if len({way[place] for way in ways}) > 1))
    raise SignatureError(
        "no number of rows fits all lists of arrays: "
        + ", ".join(f"{leaf_name(one.parts)!r} has {_count(one)}" for one in lists),
        column=leaf_name(lists[0].parts), advice=_WHICH_ADVICE,
    )  # fmt: skip


def _ways(lists: list[_ArrayList]) -> Iterator[list[bool]]:
    """The readings of all lists together under which all have the same number of rows."""
    numbers = {size for one in lists for size in (len(one.arrays), one.size) if size is not None}
    for num_rows in sorted(numbers):
        readings = [one.readings(num_rows) for one in lists]
        yield from map(list, product(*readings))


def _two_readings(one: _ArrayList) -> SignatureError:
    array, count = one.arrays[0], len(one.arrays)
    shape = (len(array),) if isinstance(array, list) else _shape(array) or ()
    return SignatureError(
        f"a list of {count} arrays can be {count} rows of {_describe(array, shape)}, or {count} leaves of "
        f"{_describe(array, shape[1:])}",
        column=leaf_name(one.parts), advice=_WHICH_ADVICE,
    )  # fmt: skip


def _count(one: _ArrayList) -> str:
    return f"{len(one.arrays)} arrays" + ("" if one.size is None else f" of length {one.size}")


def _describe(array: Any, shape: tuple[int, ...]) -> str:
    dims = f"[{','.join(map(str, shape))}]" if shape else ""
    try:
        return f"{canonical_dtype(array.dtype)}{dims}"
    except (AttributeError, SignatureError):
        return f"shape {list(shape)}"


def _shape(value: Any) -> tuple[int, ...] | None:
    """The shape of an array or a tensor; None if it has none that is known."""
    if is_ragged_tensor(type(value)):
        return (int(value.shape[0]),)
    try:
        shape = getattr(value, "shape", None)
        if shape is None and has_array(value):
            shape = read_tensor(value).shape
        return None if shape is None else tuple(int(dim) for dim in shape)
    except (TypeError, ValueError, RuntimeError, AttributeError):
        return None     # what is wrong with it is found when it is looked at
