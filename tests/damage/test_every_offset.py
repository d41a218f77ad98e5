"""One flipped bit, or one cut, anywhere in any file: a located error or the very same records; no third outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest

import recordio
from recordio.schema import Schema
from tests.damage.in_memory import SPEC, open_files, shard_names, tiny_records, write_files
from tests.damage.vocabulary import cut, flip, part, put, zero
from tests.laws.data_sets import EXAMPLES, same_records

RECORDS = tiny_records(6)
SCHEMA = Schema.from_signature(SPEC)


@pytest.fixture(scope="module", params=["none", "zstd"])
def files(request: pytest.FixtureRequest) -> dict[str, bytes]:
    """One shard of two chunks, with several frames in a column, and its index."""
    found = write_files(SPEC, RECORDS, codec=request.param, chunk_size=200, frame_size=50, metadata={"a": 1})
    assert len(found) == 2
    assert open_files(found).shards[0].num_chunks == 2
    return found


@pytest.fixture(scope="module")
def bits(files: dict[str, bytes]) -> Callable[[int], list[int]]:
    """Which bits of the byte at an offset are flipped: all; with codec none, in a quick run, one, by turns."""
    compressed = any(b"\x28\xb5\x2f\xfd" in data for data in files.values())
    return lambda offset: list(range(8)) if compressed or EXAMPLES > 1 else [offset % 8]


def outcome(files: Mapping[str, bytes], name: str = "", **options: Any) -> recordio.RecordIOError | None:
    """None if every record came back the same; the error if one was raised. Anything else is a failure."""
    try:
        found = list(open_files(files, name, **options))
    except recordio.RecordIOError as error:
        assert error.path is not None
        assert str(error).count(str(error.path)) == 1
        return error
    assert same_records(SCHEMA, RECORDS, found)
    return None


def outcome_by_number(files: Mapping[str, bytes], name: str = "") -> None:
    """Every record that can be had by number is the same; the others raise a located error."""
    try:
        ds = open_files(files, name)
    except recordio.RecordIOError:
        return
    assert len(ds) == len(RECORDS)
    for number, expected in enumerate(RECORDS):
        try:
            found = ds[number]
        except recordio.RecordIOError as error:
            assert error.path is not None and error.records is not None
            assert error.records[0] <= number < error.records[1]
        else:
            assert same_records(SCHEMA, [expected], [found])


def flips(
    data: bytes, bits: Callable[[int], list[int]], start: int = 0, stop: int | None = None
) -> Iterator[tuple[int, bytes]]:
    for offset in range(len(data))[start:stop]:
        for bit in bits(offset):
            yield offset, flip(data, 8 * offset + bit)


def test_no_flipped_bit_of_a_chunk_goes_unnoticed(files: dict[str, bytes], bits: Callable[[int], list[int]]) -> None:
    """Through the index (spec/format.md, section 8: the chain that binds every byte that is returned)."""
    (name,) = shard_names(files)
    front, end = (part(files[name], kind).start for kind in ("chunk header", "footer head"))
    unnoticed = {
        offset for offset, damaged in flips(files[name], bits, front, end) if outcome(files | {name: damaged}) is None
    }
    # Only padding may change unseen: it is zero, and ends at a multiple of 64.
    assert all(not any(files[name][offset : -(-(offset + 1) // 64) * 64]) for offset in unnoticed)
    for outside in (*range(front), *range(end, len(files[name]))):
        if outside % 16 == 0:
            assert outcome(files | {name: flip(files[name], 8 * outside)}) is None


def test_no_flipped_bit_of_a_shard_goes_unnoticed(files: dict[str, bytes], bits: Callable[[int], list[int]]) -> None:
    """Alone, where header, schema, footer and trailer count as well."""
    (name,) = shard_names(files)
    unnoticed = {offset for offset, damaged in flips(files[name], bits) if outcome({name: damaged}, name) is None}
    assert all(not any(files[name][offset : -(-(offset + 1) // 64) * 64]) for offset in unnoticed)


def test_no_flipped_bit_of_an_index_goes_unnoticed(files: dict[str, bytes]) -> None:
    """The header, the head and the chunk tables."""
    whole = files["index.rix"]
    unnoticed = {
        offset
        for offset, damaged in flips(whole, lambda _: list(range(8)))
        if outcome(files | {"index.rix": damaged}) is None
    }
    assert all(not any(whole[offset : -(-(offset + 1) // 64) * 64]) for offset in unnoticed)


def test_no_flipped_bit_goes_unnoticed_by_number(files: dict[str, bytes]) -> None:
    """Damage costs the records that its error names, and no other (spec/format.md, section 12)."""
    (name,) = shard_names(files)
    for file in (name, "index.rix"):
        for _, damaged in flips(files[file], lambda offset: [offset % 8] if offset % 3 == 0 or EXAMPLES > 1 else []):
            outcome_by_number(files | {file: damaged})


def test_no_cut_goes_unnoticed(files: dict[str, bytes]) -> None:
    """Every length of every file that is shorter than the whole is an error."""
    (name,) = shard_names(files)
    for size in range(len(files[name])):
        assert outcome(files | {name: cut(files[name], size)}) is not None
        assert outcome({name: cut(files[name], size)}, name) is not None
    for size in range(len(files["index.rix"])):
        assert outcome(files | {"index.rix": cut(files["index.rix"], size)}) is not None


@pytest.mark.parametrize("extra", [b"\x00", bytes(64), b"\xff" * 100])
def test_bytes_after_the_end_are_noticed(files: dict[str, bytes], extra: bytes) -> None:
    """A file that is longer than it was is not the file that was written."""
    (name,) = shard_names(files)
    assert outcome(files | {name: files[name] + extra}) is not None
    assert outcome({name: files[name] + extra}, name) is not None
    assert outcome(files | {"index.rix": files["index.rix"] + extra}) is not None


def test_no_moved_or_zeroed_range_goes_unnoticed(files: dict[str, bytes]) -> None:
    """Sectors that were lost, exchanged, or written twice."""
    random = np.random.default_rng(0)
    for file in files:
        data = files[file]
        for _ in range(100 * EXAMPLES):
            size = int(random.choice([64, 100, 512]))
            first, second = sorted(random.integers(0, len(data) - size, 2).tolist())
            left, right = data[first : first + size], data[second : second + size]
            for damaged in (
                zero(data, first, first + size),
                put(data, second, left),
                put(data, first, right),
                data[:first] + data[first + size :],
                data[:second] + left + data[second:],
                put(put(data, first, right), second, left),
            ):
                outcome(files | {file: damaged})
                if file != "index.rix":
                    outcome({file: damaged}, file)
                    outcome_by_number(files | {file: damaged})
