"""The bytes that the specification shows are the bytes that are written."""

from __future__ import annotations

from pathlib import Path

from spec import reference_reader
from tests.spec.annotated_hex import annotated_hex, replace_block, three_records

FORMAT = Path(__file__).parents[2] / "spec" / "format.md"


def test_annotated_file_is_the_one_that_is_written():
    """spec/format.md, section 14, byte for byte; `tools/vectors` writes it."""
    text = FORMAT.read_text("utf-8")
    assert replace_block(text) == text


def test_annotated_file_shows_every_byte_once():
    """Lines follow one another without a gap, from the first byte to the last."""
    data = three_records()
    place = 0
    for line in annotated_hex().splitlines():
        if not line or line.startswith(("```", "--")):
            continue
        offset, shown = int(line[:6], 16), line[8:57].strip()
        assert offset == place
        row = bytes(int(shown.removeprefix("00 x "))) if " x " in shown else bytes.fromhex(shown)
        assert data[place : place + len(row)] == row
        place += len(row)
    assert place == len(data)


def test_annotated_file_holds_the_three_records():
    """By the reader that was written from the specification."""
    records = reference_reader.read_shard(three_records())
    assert [(int(record["id"]), record["word"]) for record in records] == [(1, "a"), (2, ""), (3, "né")]
