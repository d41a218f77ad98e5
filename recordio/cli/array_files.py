"""`.npy` and `.npz` files as a data set: rows along the first axis, read from the file as they are needed.

A `.npy` file is mapped, not loaded; the arrays of an `.npz` file are loaded, one by one, since they may be compressed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from recordio.columns import Array, ColumnValues
from recordio.errors import SourceError
from recordio.schema import Schema
from recordio.spec import TensorSpec
from recordio.values.signature import cast_batch


class ArrayFile:
    """Records of arrays with a common first axis; what convert needs of a data set. Reopened where it is unpickled."""

    def __init__(self, path: str, start: int = 0, stop: int | None = None) -> None:
        self._path = path
        self._arrays, self._single = _load(path)
        lengths = {name: len(array) for name, array in self._arrays.items()}
        if len(set(lengths.values())) != 1:
            raise SourceError(
                f"the arrays differ in length: {', '.join(f'{name} {size:,}' for name, size in lengths.items())}",
                path=path, advice="Give arrays with the same first axis, or write a generator",
            )  # fmt: skip
        self._rows = range(*slice(start, stop).indices(next(iter(lengths.values()))))
        specs = {name: TensorSpec(array.shape[1:], array.dtype) for name, array in self._arrays.items()}
        self.schema = Schema.from_signature(specs[""] if self._single else specs)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: slice) -> ArrayFile:
        view = object.__new__(ArrayFile)
        view.__dict__.update(self.__dict__)
        view._rows = self._rows[rows]
        return view

    def __iter__(self) -> Iterator[Any]:
        for row in self._rows:
            yield self.schema.unflatten([array[row] for array in self._arrays.values()])

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process may be in another directory.
        return ArrayFile, (os.path.abspath(self._path), self._rows.start, self._rows.stop)

    def read_columns(self, start: int, stop: int) -> list[ColumnValues]:
        """Rows of the view, as columns; copies."""
        rows = self._rows[start:stop]
        batch = self.schema.unflatten([array[rows.start : rows.stop] for array in self._arrays.values()])
        return cast_batch(self.schema, batch, first_record=rows.start)[1]


def _load(path: str) -> tuple[dict[str, Array], bool]:
    """Arrays by name, and whether it is one without a name."""
    try:
        # No pickles: they could run anything.
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(loaded, np.ndarray):
            with loaded:
                arrays = {name: loaded[name] for name in loaded.files}
            single = False
        elif loaded.dtype.names is not None:
            arrays, single = {name: loaded[name] for name in loaded.dtype.names}, False
        else:
            arrays, single = {"": loaded}, True
    except (ValueError, EOFError) as error:
        # What is no array at all may be a pickle to numpy, and its advice is to load that.
        message, advice = f"no array can be read: {error}", "Save it again with numpy.save or numpy.savez"
        if "object" in message.lower():
            message, advice = "the file is no array file, or holds Python objects", "Python objects need a generator"
        raise SourceError(message, path=path, advice=advice) from None
    for name, array in arrays.items():
        if array.ndim == 0:
            what = f"array {name!r}" if name else "the array"
            raise SourceError(
                f"{what} is a scalar, and has no first axis to cut records from", path=path,
                advice="Leave it out of the file, or write a generator",
            )  # fmt: skip
    if not arrays:
        raise SourceError("the file holds no array", path=path, advice="Save at least one with numpy.savez")
    return arrays, single
