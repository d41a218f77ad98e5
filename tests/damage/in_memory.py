"""A data set in a dict of files, so that thousands of damaged copies cost no disk.

files = write_files(spec, records, ...)      {"index.rix": ..., "shard-00000-....rio": ...}
read(files)                                  every record, or the located error
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import recordio
from recordio.errors import TruncatedError
from recordio.storage import LocalStorage, fill
from tests.laws.data_sets import files_of, fresh_directory

SPEC = {
    "id": recordio.TensorSpec((), "int32"),
    "word": recordio.TensorSpec((), "str"),
    "maybe": recordio.TensorSpec((2,), "float16", optional=True),
    "more": (
        recordio.TensorSpec((None,), "uint8"),
        [recordio.TensorSpec(None, "bytes", optional=True), recordio.MsgpackSpec()],
        recordio.TensorSpec((3,), "bool"),
    ),
}


def tiny_records(count: int, *, seed: int = 0) -> list[Any]:
    """Records of `SPEC` that compress."""
    random = np.random.default_rng(seed)
    blobs = [np.array(b"\x00", np.object_)[()], np.array([b"ab", b""], np.object_), None]
    return [
        {
            "id": np.int32(number),
            "word": f"né{number % 3}" * 4,
            "maybe": None if number % 4 == 3 else np.array([number, seed], np.float16),
            "more": (
                np.full(number % 5, number % 7, np.uint8),
                [blobs[number % 3], {"n": number, "seed": seed}],
                random.integers(0, 2, 3).astype(np.bool_),
            ),
        }
        for number in range(count)
    ]


class DictStorage(LocalStorage):
    """Reads from a dict; the path of a file is its name in the directory "set"."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = files

    def open(self, path: str) -> _DictHandle:  # type: ignore[override]
        name = path.removeprefix("set/")
        if name not in self.files:
            raise FileNotFoundError(2, "no such file", path)
        return _DictHandle(path, self.files[name])

    def exists(self, path: str) -> bool:
        return path.removeprefix("set/") in self.files

    def is_directory(self, path: str) -> bool:
        return path == "set"

    def list(self, path: str) -> list[str]:
        return sorted(self.files)


class _DictHandle:
    def __init__(self, path: str, data: bytes) -> None:
        self.path = path
        self.size = len(data)
        self._data = data

    def read(self, offset: int, size: int) -> memoryview:
        if offset + size > self.size:
            raise TruncatedError("the file ends before", path=self.path, offset=offset)
        return memoryview(bytearray(self._data[offset : offset + size]))

    def read_into(self, offset: int, buffers: Sequence[memoryview]) -> None:
        fill(buffers, self.read(offset, sum(map(len, buffers))))


def write_files(spec: Any, records: list[Any], **options: Any) -> dict[str, bytes]:
    """The files of a data set with these records."""
    with fresh_directory() as directory:
        with recordio.Writer(directory / "set", spec, workers=1, **options) as writer:
            for record in records:
                writer.write(record)
        return files_of(directory / "set")


def open_files(files: Mapping[str, bytes], name: str = "", **options: Any) -> recordio.Dataset:
    """The data set, or the shard of this name alone."""
    return recordio.open(f"set/{name}" if name else "set", _storage=DictStorage(files), **options)


def shard_names(files: Mapping[str, bytes]) -> list[str]:
    return sorted(name for name in files if name.endswith(".rio"))
