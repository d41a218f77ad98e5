"""Errors: what, where, what to do; and the whole of it on the other side of a pickle."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

import recordio
from recordio.errors import RecordIOError

WHERE: dict[str, Any] = {
    "path": "data/train/shard-00003-5e0c7f3a.rio", "shard": 3, "chunk": 7, "column": "image", "records": (8192, 8448),
    "record": 8200, "offset": 8388608, "advice": "Restore the file",
}  # fmt: skip


def all_kinds(kind: type[RecordIOError] = RecordIOError) -> list[type[RecordIOError]]:
    return [
        kind,
        *(
            found
            for below in kind.__subclasses__()
            for found in all_kinds(below)
            if found.__module__ == "recordio.errors"
        ),
    ]


@pytest.mark.parametrize("kind", sorted(set(all_kinds()), key=lambda kind: kind.__name__))
def test_every_error_survives_pickle(kind: type[RecordIOError]) -> None:
    """Type, message, every part of the location, and notes (style.md, section 6)."""
    error = kind("frame checksum is 0x1, the directory says 0x2", **WHERE)
    error.add_note("while record 5 was made")
    for found in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(found) is kind and str(found) == str(error) and found.args == error.args
        assert {field: getattr(found, field) for field in WHERE} == WHERE
        assert found.__notes__ == ["while record 5 was made"]
    bare = pickle.loads(pickle.dumps(kind("x")))
    assert str(bare) == "x" and not hasattr(bare, "__notes__") and bare.location() == {}


def test_the_text_says_what_where_and_what_to_do() -> None:
    """Found and expected values, all of the location, the advice."""
    text = str(recordio.ChecksumError("frame checksum is 0x1, the directory says 0x2", **WHERE))
    assert text == (
        "frame checksum is 0x1, the directory says 0x2 [data/train/shard-00003-5e0c7f3a.rio, shard 3, chunk 7, "
        "column 'image', record 8200, offset 8388608, records 8192 to 8448]. Restore the file"
    )


def test_a_location_is_filled_in_from_the_inside_out() -> None:
    """What is known first stays; what is not known is added."""
    error = recordio.DataError("x", column="image").locate(column="other", path="p", shard=0)
    assert (error.column, error.path, error.shard) == ("image", "p", 0)
    assert error.location() == {"column": "image", "path": "p", "shard": 0}
    with pytest.raises(TypeError):
        error.locate(place=3)


@pytest.mark.parametrize(
    ("kind", "also"),
    [
        ("RequestError", ValueError), ("SignatureError", ValueError), ("SignatureTypeError", TypeError),
        ("SourceError", ValueError), ("ChecksumError", recordio.DataError), ("TooNewError", recordio.DataError),
    ],
)  # fmt: skip
def test_the_class_says_whose_fault_it_is(kind: str, also: type[Exception]) -> None:
    """A bad request is a ValueError as well, a bad type a TypeError (design.md, section 6)."""
    assert issubclass(getattr(recordio, kind), also)
