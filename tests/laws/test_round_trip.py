"""What comes back is what went in, whatever the types, the sizes and the way of asking."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import recordio
from recordio.spec import numpy_dtype
from tests.laws.data_sets import (
    EXAMPLES,
    Case,
    cases,
    files_of,
    fresh_directory,
    same_batch,
    same_record,
    same_records,
    scribble,
    write,
)

ANY_CASE = cases().filter(lambda case: _names_are_distinct(case))


def _names_are_distinct(case: Case) -> bool:
    try:
        return bool(case.schema.columns)
    except recordio.SignatureError:
        return False


@settings(max_examples=60 * EXAMPLES)
@given(case=ANY_CASE, data=st.data())
def test_records_come_back_as_they_went_in(case: Case, data: st.DataObject) -> None:
    """Structure, dtype and bytes, by every way of asking (spec/format.md as a whole; issue, item 2)."""
    schema, records = case.schema, case.records
    with fresh_directory() as directory:
        write(directory / "set", case, how=data.draw(st.sampled_from(["records", "batches", "mixed"])))
        ds = recordio.open(directory / "set", cache_size=data.draw(st.sampled_from([64 << 20, 2000, 0])))
        assert len(ds) == len(records)
        assert ds.schema == schema
        assert same_records(schema, records, list(ds))
        for copy in (ds, pickle.loads(pickle.dumps(ds))):
            for number in range(len(records)):
                assert same_record(schema, records[number], copy[number])
                assert same_record(schema, records[number], copy[number - len(records)])
        size = data.draw(st.integers(1, 30))
        batches = ds.batch(size)
        expected = [records[start : start + size] for start in range(0, len(records), size)]
        for found in (list(batches), [batches[number] for number in range(len(batches))]):
            assert len(found) == len(expected)
            assert all(same_batch(schema, wanted, batch) for wanted, batch in zip(expected, found, strict=True))
        if records:
            numbers = data.draw(st.lists(st.integers(-len(records), len(records) - 1), max_size=40))
            assert same_batch(schema, [records[number] for number in numbers], ds[numbers])
            assert same_batch(schema, [records[number] for number in numbers], ds[np.array(numbers, np.int32)])


@settings(max_examples=40 * EXAMPLES)
@given(case=ANY_CASE, data=st.data())
def test_views_show_what_slices_of_a_list_show(case: Case, data: st.DataObject) -> None:
    """Any slice of any slice, with any step: iteration, length, records and batches."""
    schema = case.schema
    bounds = st.none() | st.integers(-30, 30)
    with fresh_directory() as directory:
        ds = recordio.open(write(directory / "set", case))
        records = case.records
        for _ in range(2):
            cut = slice(
                data.draw(bounds), data.draw(bounds), data.draw(st.sampled_from([None, 1, 2, 3, 17, 20, -1, -2, -18]))
            )
            ds, records = ds[cut], records[cut]
            assert len(ds) == len(records)
            assert same_records(schema, records, list(ds))
            assert same_records(schema, records, [ds[number] for number in range(len(ds))])
            assert same_records(schema, records[::-1], list(reversed(ds)))
            assert same_records(schema, records, list(pickle.loads(pickle.dumps(ds))))
            found = list(ds.batch(3))
            assert all(same_batch(schema, records[3 * n : 3 * n + 3], batch) for n, batch in enumerate(found))
            assert len(found) == len(ds.batch(3)) == -(-len(records) // 3)
            assert len(list(ds.batch(3, drop_remainder=True))) == len(records) // 3


@settings(max_examples=40 * EXAMPLES)
@given(case=ANY_CASE, data=st.data())
def test_a_projection_shows_the_leaves_that_were_chosen(case: Case, data: st.DataObject) -> None:
    """select_columns, before or after a slice, gives these leaves of the same records."""
    schema = case.schema
    names = data.draw(st.lists(st.sampled_from([column.name for column in schema.columns]), min_size=1))
    projected, ordinals = schema.select(names)
    expected = [
        projected.unflatten([schema.flatten(record)[ordinal] for ordinal in ordinals]) for record in case.records
    ]
    with fresh_directory() as directory:
        path = write(directory / "set", case)
        for ds in (recordio.open(path, columns=names), recordio.open(path).select_columns(names)):
            assert ds.schema == projected
            assert same_records(projected, expected, list(ds))
            assert same_records(projected, expected, [ds[number] for number in range(len(ds))])
            assert same_records(projected, expected[1::2], list(ds[1::2]))
            assert all(same_batch(projected, expected[4 * n : 4 * n + 4], batch) for n, batch in enumerate(ds.batch(4)))
            assert same_batch(projected, expected[::-1], ds[list(range(len(ds)))[::-1]])


@settings(max_examples=40 * EXAMPLES)
@given(case=ANY_CASE)
def test_every_shard_opens_alone(case: Case) -> None:
    """A shard without its index holds the records that the index says it does (spec/format.md, section 7)."""
    schema = case.schema
    with fresh_directory() as directory:
        whole = recordio.open(write(directory / "set", case))
        for shard in whole.shards:
            alone = recordio.open(directory / "set" / shard.name)
            expected = case.records[shard.first_record : shard.first_record + shard.num_records]
            assert same_records(schema, expected, list(alone))
            assert same_records(schema, expected, [alone[number] for number in range(len(alone))])
            assert same_records(schema, expected, list(pickle.loads(pickle.dumps(alone))))
        assert sum(shard.num_records for shard in whole.shards) == len(case.records)


@settings(max_examples=60 * EXAMPLES)
@given(case=ANY_CASE)
def test_the_bytes_do_not_depend_on_how_records_arrive(case: Case) -> None:
    """write, write_batch and both by turns, one worker or four: every file is the same (design.md, section 3)."""
    with fresh_directory() as directory:
        expected = files_of(write(directory / "records", case, workers=1))
        for how in ("batches", "mixed"):
            assert files_of(write(directory / how, case, how=how, workers=4)) == expected


@settings(max_examples=40 * EXAMPLES)
@given(case=ANY_CASE, cache_size=st.sampled_from([64 << 20, 0]))
def test_scribbling_over_results_changes_no_later_read(case: Case, cache_size: int) -> None:
    """What is returned is writable and the caller's own, from the cache too (issue, item 6)."""
    schema, records = case.schema, case.records
    everything = list(range(len(records)))
    with fresh_directory() as directory:
        ds = recordio.open(write(directory / "set", case), cache_size=cache_size)
        for _ in range(2):
            results: list[Any] = [ds[number] for number in everything]
            assert same_records(schema, records, results)
            iterator = iter(ds)
            for number in everything:
                record = next(iterator)
                assert same_record(schema, records[number], record)
                scribble(record)
            for start, batch in zip(range(0, len(records), 5), ds.batch(5), strict=True):
                assert same_batch(schema, records[start : start + 5], batch)
                scribble(batch)
            twice = ds[everything + everything]
            assert same_batch(schema, records + records, twice)
            scribble(twice)
            scribble(results)


@settings(max_examples=40 * EXAMPLES)
@given(case=ANY_CASE, data=st.data())
def test_data_sets_in_memory_are_the_same_as_on_disk(case: Case, data: st.DataObject) -> None:
    """from_tensor_slices: iteration, numbers, batches, views and pickles as from files."""
    from tests.laws.data_sets import make_batch

    schema, records = case.schema, case.records
    assume(records)
    batch = make_batch(schema, records, np.random.default_rng(case.seed))
    ds = recordio.from_tensor_slices(batch, output_signature=case.spec)
    cut = slice(*data.draw(st.tuples(st.integers(-9, 9), st.integers(-30, 30), st.sampled_from([1, 2, -1, -19]))))
    for view, wanted in ((ds, records), (ds[cut], records[cut]), (pickle.loads(pickle.dumps(ds[cut])), records[cut])):
        for _ in range(2):
            assert len(view) == len(wanted)
            found = list(view)
            assert same_records(schema, wanted, found)
            scribble(found)
            found = [view[number] for number in range(len(view))]
            assert same_records(schema, wanted, found)
            scribble(found)
            whole = view[list(range(len(view)))]
            assert same_batch(schema, wanted, whole)
            scribble(whole)


def test_none_is_stored_as_zero_bytes() -> None:
    """What a None row holds in a fixed column (spec/format.md, section 6), by write as by write_batch."""
    spec = recordio.TensorSpec((), "float8_e8m0fnu", optional=True)
    with fresh_directory() as directory:
        for how in ("records", "batches"):
            write(directory / how, Case(spec, [None], {"codec": "none"}, seed=0), how=how)
        assert files_of(directory / "records") == files_of(directory / "batches")


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [("bfloat16", "f3ff"), ("float8_e5m2", "fd"), ("float32", "010080ff"), ("complex64", "0000807f010080ff")],
)
def test_a_nan_keeps_its_bits(dtype: str, bits: str) -> None:
    """A scalar NaN comes back with the bits that went in, by write as by write_batch."""
    values = np.frombuffer(bytes.fromhex(bits), numpy_dtype(dtype))
    spec = recordio.TensorSpec((), dtype)
    with fresh_directory() as directory:
        with recordio.Writer(directory / "set", spec) as writer:
            writer.write(values[0])
            writer.write_batch(values)
        assert [value.tobytes().hex() for value in recordio.open(directory / "set")] == [bits, bits]
