"""Files that are whole, but belong elsewhere: refused, or the very same records."""

from __future__ import annotations

from itertools import pairwise

import pytest

import recordio
from recordio.schema import Schema
from tests.damage.in_memory import SPEC, open_files, shard_names, tiny_records, write_files
from tests.laws.data_sets import same_records

SCHEMA = Schema.from_signature(SPEC)
OPTIONS = {"num_shards": 3, "chunk_size": 300, "codec": "none"}
RECORDS = tiny_records(30)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return write_files(SPEC, RECORDS, **OPTIONS)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def newer() -> dict[str, bytes]:
    """Another version: the same but for the last record of the second shard, so that the file ids are equal."""
    changed = [*RECORDS[:19], {**RECORDS[19], "word": RECORDS[19]["word"][::-1]}, *RECORDS[20:]]
    return write_files(SPEC, changed, **OPTIONS)  # type: ignore[arg-type]


def refused(files: dict[str, bytes], expected: list[object]) -> recordio.RecordIOError:
    """The error of reading everything; records that come before it are right."""
    found = []
    with pytest.raises(recordio.RecordIOError) as caught:
        for record in open_files(files):
            found.append(record)
    assert same_records(SCHEMA, expected[: len(found)], found)
    assert caught.value.path is not None
    return caught.value


def test_an_older_shard_in_place_of_a_newer_one_is_refused(files: dict[str, bytes], newer: dict[str, bytes]) -> None:
    """Under the newer one's name, of the same size, with the same file id: the chunk that differs is a mismatch."""
    old, new = shard_names(files)[1], shard_names(newer)[1]
    assert old != new and len(files[old]) == len(newer[new]) and files[old][24:40] == newer[new][24:40]
    error = refused(newer | {new: files[old]}, RECORDS[:10] + RECORDS[10:])
    assert isinstance(error, recordio.MismatchError)
    assert error.shard == 1


def test_shards_of_one_data_set_do_not_pass_for_each_other(files: dict[str, bytes]) -> None:
    """Exchanged, or one twice."""
    first, second, third = shard_names(files)
    for one, other in ((first, second), (second, third), (first, third)):
        for mixed in (files | {one: files[other], other: files[one]}, files | {one: files[other]}):
            assert isinstance(refused(mixed, RECORDS), (recordio.MismatchError, recordio.TruncatedError))


def test_shards_of_two_data_sets_do_not_mix(files: dict[str, bytes]) -> None:
    """Same schema, same options, other records."""
    others = write_files(SPEC, tiny_records(30, seed=1), **OPTIONS)  # type: ignore[arg-type]
    for mine, theirs in zip(shard_names(files), shard_names(others), strict=True):
        assert isinstance(
            refused(files | {mine: others[theirs]}, RECORDS), (recordio.MismatchError, recordio.TruncatedError)
        )


def test_an_index_of_another_data_set_finds_no_shards(files: dict[str, bytes], newer: dict[str, bytes]) -> None:
    """The shards that it names are not there, or they are the very same."""
    error = refused(files | {"index.rix": newer["index.rix"]}, RECORDS)
    assert isinstance(error, recordio.MismatchError) and error.shard == 1
    assert "not there" in error.message


def test_an_index_is_no_shard_and_a_shard_is_no_index(files: dict[str, bytes]) -> None:
    """A file that is something else says so."""
    name = shard_names(files)[0]
    with pytest.raises(recordio.NotRecordIOError):
        open_files(files | {"index.rix": files[name]})
    with pytest.raises(recordio.NotRecordIOError):
        open_files({name: b"PK\x03\x04 something else entirely" * 10}, name)
    with pytest.raises(recordio.TruncatedError):
        open_files({name: b""}, name)


@pytest.mark.parametrize(
    "change",
    [lambda d: d.replace(b"\r\n", b"\n"), lambda d: d.replace(b"\n", b"\r\n"), lambda d: bytes(b & 127 for b in d)],
)
def test_text_mode_transfer_is_named(files: dict[str, bytes], change: object) -> None:
    """CR LF made LF, LF made CR LF, seven bits: the error says what has happened (spec/format.md, section 1)."""
    name = shard_names(files)[0]
    with pytest.raises(recordio.NotRecordIOError, match="text-mode"):
        open_files({name: change(files[name])}, name)  # type: ignore[operator]


def test_a_chunk_in_the_wrong_place_is_refused(files: dict[str, bytes]) -> None:
    """A valid chunk copied over another of the same size: its checksum covers its offset (section 4)."""
    name = shard_names(files)[0]
    shard = open_files(files)._recipe.reader.shard(0)  # type: ignore[union-attr]
    offsets = shard.table.offsets.tolist()
    sizes = [end - start for start, end in pairwise(offsets)]
    pairs = [(a, b) for a in range(len(sizes)) for b in range(a + 1, len(sizes)) if sizes[a] == sizes[b]]
    assert pairs
    for a, b in pairs:
        data = bytearray(files[name])
        data[offsets[b] : offsets[b + 1]] = data[offsets[a] : offsets[a + 1]]
        refused(files | {name: bytes(data)}, RECORDS)
        with pytest.raises(recordio.DataError):
            list(open_files({name: bytes(data)}, name))
