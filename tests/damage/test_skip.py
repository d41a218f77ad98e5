"""on_corrupt="skip": exactly the undamaged records come back, what is lost is said, and record numbers stay."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

import recordio
from recordio.schema import Schema
from tests.damage.in_memory import SPEC, DictStorage, open_files, shard_names, tiny_records, write_files
from tests.damage.vocabulary import flip
from tests.laws.data_sets import same_batch, same_record, same_records

RECORDS = tiny_records(40)
SCHEMA = Schema.from_signature(SPEC)


@pytest.fixture(scope="module", params=["none", "zstd"])
def files(request: pytest.FixtureRequest) -> dict[str, bytes]:
    """Four shards of several chunks, with several frames in most columns."""
    return write_files(SPEC, RECORDS, codec=request.param, num_shards=4, chunk_size=300, frame_size=60)


def shard_reader(files: dict[str, bytes], shard_id: int) -> Any:
    """Where things lie, from the undamaged files."""
    return open_files(files)._recipe.reader.shard(shard_id)  # type: ignore[union-attr]


def damage(data: bytes, offset: int) -> bytes:
    return flip(data, 8 * offset)


def check(
    files: dict[str, bytes], lost: Iterable[range], *, found: list[tuple[int, int, str | None]] | None = None
) -> recordio.Dataset:
    """Iteration, batches, views and access by number agree on what is lost; `found` is what `lost` must say."""
    gone = {number for numbers in lost for number in numbers}
    kept = [number for number in range(len(RECORDS)) if number not in gone]
    ds = open_files(files, on_corrupt="skip")
    assert len(ds) == len(RECORDS)
    assert ds.lost == ()
    assert same_records(SCHEMA, [RECORDS[number] for number in kept], list(ds))
    ranges = [(one.start, one.stop) for one in ds.lost]
    assert {number for start, stop in ranges for number in range(start, stop)} == gone
    assert list(ds) and ranges == [(one.start, one.stop) for one in ds.lost]  # a second pass adds nothing
    if found is not None:
        assert [(one.start, one.stop, one.column) for one in ds.lost] == found
    for size in (1, 7):
        batches = list(ds.batch(size))
        parts = [kept[start : start + size] for start in range(0, len(kept), size)]
        assert len(batches) == len(parts)
        for part, batch in zip(parts, batches, strict=True):
            assert same_batch(SCHEMA, [RECORDS[number] for number in part], batch)
    for cut in (slice(3, 33), slice(None, None, 3), slice(None, None, -1), slice(35, 2, -19)):
        wanted = [number for number in range(len(RECORDS))[cut] if number not in gone]
        assert same_records(SCHEMA, [RECORDS[number] for number in wanted], list(ds[cut]))
    fresh = open_files(files, on_corrupt="skip")
    for number in range(len(RECORDS)):
        if number in gone:
            with pytest.raises(recordio.DataError) as caught:
                fresh[number]
            assert caught.value.records is not None
            assert caught.value.records[0] <= number < caught.value.records[1]
            assert caught.value.path is not None and caught.value.shard is not None
        else:
            assert same_record(SCHEMA, RECORDS[number], fresh[number])
    assert same_batch(SCHEMA, [RECORDS[number] for number in kept[::-1]], fresh[kept[::-1]])
    if gone:
        with pytest.raises(recordio.DataError):
            list(open_files(files))
        with pytest.raises(recordio.DataError):
            fresh[[min(gone)]]
    return ds


def test_without_damage_nothing_is_lost(files: dict[str, bytes]) -> None:
    """Skipping costs nothing where there is nothing to skip."""
    check(files, [], found=[])


def test_a_damaged_frame_costs_its_records(files: dict[str, bytes]) -> None:
    """Every frame of every column in turn; other columns of these records still read (spec/format.md, section 12)."""
    name = shard_names(files)[1]
    shard = shard_reader(files, 1)
    directory = shard.read_directory(1)
    for ordinal, column in enumerate(directory.columns):
        place = int(shard.table.offsets[1]) + column.offset
        first = shard.first_record + int(shard.table.first_records[1])
        for frame in column.frames:
            lost = range(first, first + frame.num_records)
            if frame.stored_size:
                damaged = files | {name: damage(files[name], place + frame.stored_size // 2)}
                column_name = SCHEMA.columns[ordinal].name
                check(damaged, [lost], found=[(lost.start, lost.stop, column_name)])
                others = [column.name for column in SCHEMA.columns if column.name != column_name]
                assert len(list(open_files(damaged, columns=others))) == len(RECORDS)
            place += frame.stored_size
            first += frame.num_records


def test_damage_in_two_columns_and_two_shards_adds_up(files: dict[str, bytes]) -> None:
    """Lost ranges are listed one by one, in order."""
    names = shard_names(files)
    damaged, lost, found = dict(files), [], []
    for shard_id, ordinals in ((0, (0, 1)), (3, (2,))):
        shard = shard_reader(files, shard_id)
        columns = shard.read_directory(0).columns
        for ordinal in ordinals:
            damaged[names[shard_id]] = damage(
                damaged[names[shard_id]], int(shard.table.offsets[0]) + columns[ordinal].offset
            )
            numbers = range(shard.first_record, shard.first_record + columns[ordinal].frames[0].num_records)
            lost.append(numbers)
            found.append((numbers.start, numbers.stop, SCHEMA.columns[ordinal].name))
    check(damaged, lost, found=sorted(found))


@pytest.mark.parametrize("place", [0, 30, 62, 64 + 20, 64 + 200])
def test_a_damaged_header_or_directory_costs_its_chunk(files: dict[str, bytes], place: int) -> None:
    """Sync word, fields, checksum of the header; head and entries of the directory."""
    shard = shard_reader(files, 2)
    name = shard_names(files)[2]
    first, last = (shard.first_record + int(shard.table.first_records[step]) for step in (1, 2))
    check(
        files | {name: damage(files[name], int(shard.table.offsets[1]) + place)},
        [range(first, last)], found=[(first, last, None)],
    )  # fmt: skip


def test_a_missing_shard_costs_its_records(files: dict[str, bytes]) -> None:
    """Numbers of the records behind it do not move."""
    name = shard_names(files)[1]
    left = {key: data for key, data in files.items() if key != name}
    ds = check(left, [range(10, 20)])
    assert {one.shard for one in ds.lost} == {1}


def test_a_cut_shard_keeps_the_chunks_before_the_cut(files: dict[str, bytes]) -> None:
    """Every frame that is whole still reads, as long as the rest of its records does (section 12)."""
    shard = shard_reader(files, 1)
    name = shard_names(files)[1]
    num_chunks = len(shard.table)
    assert num_chunks >= 3
    for chunk_id in range(num_chunks):
        stop = int(shard.table.offsets[chunk_id + 1])
        first_lost = shard.first_record + int(shard.table.first_records[chunk_id + 1])
        for size in (stop, stop + 20):
            check(files | {name: files[name][:size]}, [range(first_lost, 20)])
        # Cut inside the first column of the chunk: nothing of the chunk is left.
        inside = int(shard.table.offsets[chunk_id]) + shard.read_directory(chunk_id).columns[0].offset
        first_lost = shard.first_record + int(shard.table.first_records[chunk_id])
        check(files | {name: files[name][:inside]}, [range(first_lost, 20)])
    check(files | {name: b""}, [range(10, 20)])


def test_a_shard_that_is_too_long_is_another_one(files: dict[str, bytes]) -> None:
    """Only a file that is too short is read in part (section 8)."""
    name = shard_names(files)[1]
    check(files | {name: files[name] + b"\0"}, [range(10, 20)])


def test_a_damaged_chunk_table_costs_its_shard(files: dict[str, bytes]) -> None:
    """Tables stand at the end of the index; the data set opens all the same, and the shard alone."""
    reader = open_files(files)._recipe.reader
    tables = reader.source.index.chunk_tables  # type: ignore[union-attr]
    after = sum(map(len, tables[2:]))
    index = files["index.rix"]
    damaged = files | {"index.rix": damage(index, len(index) - after - 1)}
    check(damaged, [range(10, 20)], found=[(10, 20, None)])
    assert same_records(SCHEMA, RECORDS[10:20], list(open_files(damaged, shard_names(files)[1])))


def test_lost_records_of_a_view_are_those_in_view(files: dict[str, bytes]) -> None:
    """A view that does not touch the damage loses nothing."""
    left = {key: data for key, data in files.items() if key != shard_names(files)[1]}
    ds = open_files(left, on_corrupt="skip")
    assert len(list(ds[25:])) == 15 and ds.lost == ()
    assert len(list(ds[15:25])) == 5
    assert {number for one in ds.lost for number in range(one.start, one.stop)} == set(range(15, 20))


def test_what_is_lost_is_in_view_and_counted_once(files: dict[str, bytes]) -> None:
    """Views with steps, backwards too, scan more than they show; several views of one data set meet the same damage."""
    shard = shard_reader(files, 1)
    directory = shard.read_directory(1)
    frame = directory.columns[0].frames[0]
    first = shard.first_record + int(shard.table.first_records[1])
    gone = range(first, first + frame.num_records)
    name = shard_names(files)[1]
    place = int(shard.table.offsets[1]) + directory.columns[0].offset
    broken = {**files, name: damage(files[name], place)}
    steps = [slice(None, None, step) for step in (3, -1, 17, -20)]
    for key in (*steps, slice(gone[0])):
        ds = open_files(broken, on_corrupt="skip")
        rows = range(len(RECORDS))[key]
        assert len(list(ds[key])) == len(rows) - len({*rows} & {*gone})
        assert bool(ds.lost) == bool({*rows} & {*gone})
    ds = open_files(broken, on_corrupt="skip")
    for key in (slice(gone[0] + 1, None), slice(0, gone[-1]), slice(None)):
        list(ds[key])
    assert [(lost.start, lost.stop) for lost in ds.lost] == [(gone.start, gone.stop)]


def test_a_projection_loses_only_what_its_own_columns_lost(files: dict[str, bytes]) -> None:
    """Damage in a column that is not read is not met."""
    shard = shard_reader(files, 0)
    name = shard_names(files)[0]
    damaged = files | {
        name: damage(files[name], int(shard.table.offsets[0]) + shard.read_directory(0).columns[1].offset)
    }
    kept = open_files(damaged, columns="id", on_corrupt="skip")
    assert [record["id"] for record in kept] == list(range(40)) and kept.lost == ()
    assert len(list(open_files(damaged, columns="word", on_corrupt="skip"))) < 40


def test_any_damage_is_skipped_or_refused(files: dict[str, bytes]) -> None:
    """Random damage anywhere: what comes back is right, and what does not is listed."""
    random = np.random.default_rng(0)
    for _ in range(60):
        damaged = dict(files)
        for _ in range(int(random.integers(1, 4))):
            name = list(files)[random.integers(len(files))]
            data = bytearray(damaged[name])
            start = int(random.integers(max(1, len(data))))
            kind = random.integers(3)
            if kind == 0:
                data[start : start + 100] = bytes(len(data[start : start + 100]))
            elif kind == 1:
                data[start:] = b""
            else:
                data[start] ^= 1 << int(random.integers(8))
            damaged[name] = bytes(data)
        try:
            ds = open_files(damaged, on_corrupt="skip")
        except recordio.DataError:
            continue
        found = list(ds)
        gone = {number for one in ds.lost for number in range(one.start, one.stop)}
        assert same_records(SCHEMA, [record for number, record in enumerate(RECORDS) if number not in gone], found)


def test_a_single_shard_skips_too(files: dict[str, bytes]) -> None:
    """Without the index: frames and chunks; not the trailer, which it needs."""
    shard = shard_reader(files, 0)
    name = shard_names(files)[0]
    first, last = (int(shard.table.first_records[step]) for step in (1, 2))
    damaged = damage(files[name], int(shard.table.offsets[1]) + 70)
    ds = recordio.open(f"set/{name}", on_corrupt="skip", _storage=DictStorage({name: damaged}))
    assert same_records(SCHEMA, RECORDS[:first] + RECORDS[last:10], list(ds))
    assert [(one.start, one.stop, one.shard) for one in ds.lost] == [(first, last, 0)]
