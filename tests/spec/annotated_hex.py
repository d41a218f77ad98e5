"""The file of three records that format.md, section 14, shows byte by byte.

`tools/vectors` writes the block between the two markers; `test_annotated_hex` makes it anew and compares.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from recordio import TensorSpec
from tests.damage import vocabulary as v
from tests.spec.vector import shard_of

BEGIN = "<!-- annotated-hex:begin -->"
END = "<!-- annotated-hex:end -->"
_ROW = 16  # bytes in a line


def three_records() -> bytes:
    """The shard itself."""
    spec = {"id": TensorSpec((), "int32"), "word": TensorSpec((), "str")}
    records = [{"id": np.int32(i), "word": word} for i, word in ((1, "a"), (2, ""), (3, "né"))]
    return shard_of(spec, records, codec="none")


def annotated_hex() -> str:
    """Every byte of the file, with what it means."""
    data = three_records()
    lines: list[str] = []
    for part in v.parts(data):
        lines += _part(data, part)
    return "\n".join(["", "```text", *lines, "```", ""])


def replace_block(text: str) -> str:
    """The specification with the block made anew."""
    front, _, rest = text.partition(BEGIN)
    _, _, back = rest.partition(END)
    return front + BEGIN + annotated_hex() + END + back


def _part(data: bytes, part: v.Part) -> Iterator[str]:
    if part.kind == "padding":
        yield f"{part.start:06x}  {f'00 x {part.size}':<49}padding"
        return
    yield f"-- {_title(part)}"
    if part.kind in v.FIELDS:
        fields = v.FIELDS[part.kind]
        starts = [*(offset for offset, _ in fields.values()), part.size]
        for name, start, stop in zip(fields, starts, starts[1:], strict=False):
            value = v.get(data, part, name)
            shown = f"{value:#010x}" if name.endswith("_crc") else str(value) if isinstance(value, int) else ""
            yield from _bytes(data, part.start + start, part.start + stop, f"{name} {shown}".rstrip())
    elif part.kind == "chunk table":
        starts = [0, 8, 16, 20, 24, 28]  # one chunk
        for name, start, stop in zip(v.TABLE_ARRAYS, starts, starts[1:], strict=False):
            value = int.from_bytes(data[part.start + start : part.start + stop], "little")
            shown = f"{value:#010x}" if name.endswith("_crc") else str(value)
            yield from _bytes(data, part.start + start, part.start + stop, f"{name} of chunk 0: {shown}")
    elif part.kind == "frame" and part.column == 1:
        yield from _bytes(data, part.start, part.start + 3, "lengths 1, 0, 3")
        yield from _bytes(data, part.start + 3, part.stop, "values 'a', '', 'né'")
    elif part.kind == "frame":
        yield from _bytes(data, part.start, part.stop, "values 1, 2, 3")
    else:
        yield from _text(data, part)


def _title(part: v.Part) -> str:
    where = {"column": part.column, "frame": part.frame if part.kind != "column entry" else None}
    return ", ".join([part.kind, *(f"{name} {value}" for name, value in where.items() if value is not None)])


def _bytes(data: bytes, start: int, stop: int, meaning: str) -> Iterator[str]:
    for place in range(start, stop, _ROW):
        row = data[place : min(stop, place + _ROW)]
        yield f"{place:06x}  {row.hex(' '):<49}{meaning if place == start else ''}".rstrip()


def _text(data: bytes, part: v.Part) -> Iterator[str]:
    for place in range(part.start, part.stop, _ROW):
        row = data[place : min(part.stop, place + _ROW)]
        shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"{place:06x}  {row.hex(' '):<49}{shown}".rstrip()
