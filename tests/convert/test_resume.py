"""Going on with an unfinished conversion: what is asked again, what is compared, what is refused (design.md, 2)."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

import recordio
from recordio import TensorSpec
from recordio.job import describe_unfinished
from recordio.storage import LOCAL
from tests.convert import given
from tests.convert.interrupting import Calls, Failure, StoppingBatches, StoppingRecords
from tests.counting import CountingStorage

OPTIONS = {"output_signature": given.SPEC, "chunk_size": 2000, "level": 1}


@pytest.fixture
def undisturbed(tmp_path):
    """The files of a conversion from start to end."""

    def make(source, **options) -> dict[str, bytes]:
        path = tmp_path / "undisturbed"
        recordio.convert(source, path, **{**OPTIONS, **options})
        return given.files(path)

    return make


def interrupted(source, path, **options) -> int:
    """Convert until the source fails; gives the number of finished shards."""
    with pytest.raises(Failure):
        recordio.convert(source, path, **{**OPTIONS, **options})
    assert not (path / "index.rix").exists()
    return len(list(path.glob(".unfinished/shard-*.done")))


# ---- sources that can skip


def test_a_pydataset_is_asked_for_no_batch_of_a_finished_shard(undisturbed, tmp_path):
    """Nor for its first batch again: the signature and the size of a batch are remembered."""
    options = {"shard_size": 10_000, "output_signature": None}
    first, second = StoppingBatches(20), StoppingBatches(None)
    finished = interrupted(first, tmp_path / "set", **options)
    assert first.ended == 0
    report = recordio.convert(second, tmp_path / "set", resume=True, **{**OPTIONS, **options})
    assert report.num_resumed_shards == finished > 3
    assert sorted(second.asked) == list(range(report.shards[finished].first_record // 50, 30))
    assert second.ended == 1
    assert given.files(tmp_path / "set") == undisturbed(given.Batches(), **options)


def test_a_sequence_is_asked_for_no_record_of_a_finished_shard(undisturbed, tmp_path):
    finished = interrupted(StoppingRecords(1000), tmp_path / "set", num_shards=6)
    again = StoppingRecords(None)
    recordio.convert(again, tmp_path / "set", num_shards=6, resume=True, **OPTIONS)
    assert finished == 4 and again.asked == list(range(1000, 1500))
    assert given.files(tmp_path / "set") == undisturbed(StoppingRecords(None), num_shards=6)


def test_a_shardable_generator_is_not_called_for_a_finished_shard(undisturbed, tmp_path):
    finished = interrupted(Calls(1000).shardable, tmp_path / "set", num_shards=6)
    again = Calls(None)
    recordio.convert(again.shardable, tmp_path / "set", num_shards=6, resume=True, **OPTIONS)
    assert finished == 4 and again.calls == [4, 5]
    assert given.files(tmp_path / "set") == undisturbed(given.shardable, num_shards=6)


def test_the_lists_of_a_finished_shard_are_not_read_again(undisturbed, tmp_path):
    starts = list(range(0, 1500, 100))
    first, again = Calls(1000), Calls(None)

    def source(calls):
        return recordio.from_generator(calls.from_lists, args=(starts, 100))

    finished = interrupted(source(first), tmp_path / "set", num_shards=5)
    recordio.convert(source(again), tmp_path / "set", num_shards=5, resume=True, **OPTIONS)
    assert finished == 3 and again.calls == [starts[9:12], starts[12:]]
    assert given.files(tmp_path / "set") == undisturbed(source(Calls(None)), num_shards=5)


def test_a_data_set_is_asked_for_no_record_of_a_finished_shard(undisturbed, tmp_path):
    """The files that hold them may be gone."""
    source, path = tmp_path / "source", tmp_path / "set"
    recordio.convert(given.shardable, source, num_shards=4, **OPTIONS)
    first, second, third, fourth = sorted(source.glob("*.rio"))
    expected = undisturbed(recordio.open(source), num_shards=4)
    good = third.read_bytes()
    third.write_bytes(flip(good, len(good) // 2))
    with pytest.raises(recordio.DataError):
        recordio.convert(recordio.open(source), path, num_shards=4, **OPTIONS)
    third.write_bytes(good)
    first.unlink()
    second.unlink()
    storage = CountingStorage()
    report = recordio.convert(recordio.open(source, _storage=storage), path, num_shards=4, resume=True, **OPTIONS)
    assert report.num_resumed_shards == 2
    assert {read.path for read in storage.reads if read.path.endswith(".rio")} == {str(third), str(fourth)}
    assert given.files(path) == expected


def test_an_inferred_signature_is_not_inferred_again(tmp_path):
    """The first record would now give another one."""

    def source(shard, num_shards):
        yield {"x": np.int32(shard)}
        if shard == 2 and not fixed:
            raise Failure

    fixed = False
    options = {"num_shards": 4, "output_signature": None}
    assert interrupted(source, tmp_path / "set", **options) == 2
    fixed = True
    report = recordio.convert(source, tmp_path / "set", resume=True, **{**OPTIONS, **options})
    assert report.element_spec == {"x": TensorSpec((), "int32")}


# ---- sources that cannot


@pytest.mark.parametrize("options", [{"shard_size": 10_000}, {"num_shards": 6}])
def test_a_plain_generator_is_replayed_and_compared(options, undisturbed, tmp_path):
    interrupted(Calls(1400).plain, tmp_path / "set", **options)
    again = Calls(None)
    report = recordio.convert(again.plain, tmp_path / "set", resume=True, **{**OPTIONS, **options})
    assert again.calls == ["plain"]
    assert report.num_resumed_shards > 2 or "num_shards" in options
    assert given.files(tmp_path / "set") == undisturbed(given.plain, **options)


def finished_files(path) -> dict[str, bytes]:
    """Shards, their notes and the request; the spool may lose what was torn."""
    return {name: data for name, data in given.files(path).items() if not name.endswith(("spool.rio", ".tmp"))}


def changed_first():
    yield given.record(1)
    yield from list(given.plain())[1:]


def changed_middle():
    for record in given.plain():
        yield {**record, "number": -1} if record["number"] == 300 else record


def changed_order():
    records = list(given.plain())
    yield from [*records[:200], records[201], records[200], *records[202:]]


def shorter():
    yield from given.plain(350)


def none_at_all():
    yield from ()


def longer():
    yield from given.plain(1600)


@pytest.mark.parametrize("options", [{"shard_size": 10_000}, {"num_shards": 6}])
@pytest.mark.parametrize("source", [changed_first, changed_middle, changed_order, shorter, none_at_all])
def test_a_generator_that_changed_is_an_error_and_not_a_mixture(source, options, tmp_path):
    """And what is there stays as it is, so that it can still be gone on with when the source is restored."""
    path = tmp_path / "set"
    interrupted(Calls(1400).plain, path, **options)
    before = finished_files(path)
    with pytest.raises(recordio.SourceError, match=r"differ.* (shard-0000|the spool)") as caught:
        recordio.convert(source, path, resume=True, **{**OPTIONS, **options})
    assert caught.value.shard is not None and caught.value.chunk is not None
    # To go on with the changed source is no advice.
    (note,) = [note for note in caught.value.__notes__ if "resume=True" in note]
    assert "With the source as it was, go on with convert(..., resume=True)" in note
    assert before.items() <= finished_files(path).items()
    recordio.convert(given.plain, path, resume=True, **{**OPTIONS, **options})
    assert [record["number"] for record in recordio.open(path)] == list(range(1500))


def test_a_generator_that_became_longer_after_its_last_shard_is_an_error(tmp_path):
    """Killed between the last shard and the index: the last shard has said that it is the last."""
    path = tmp_path / "set"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recordio.job.encode_index", _fail)
        with pytest.raises(Failure):
            recordio.convert(given.plain, path, shard_size=10_000, **OPTIONS)
    with pytest.raises(recordio.SourceError, match="differ"):
        recordio.convert(longer, path, shard_size=10_000, resume=True, **OPTIONS)
    recordio.convert(given.plain, path, shard_size=10_000, resume=True, **OPTIONS)
    assert len(recordio.open(path)) == 1500


def _fail(**_):
    raise Failure


@pytest.mark.parametrize(("name", "text"), [
    ("shard-00009.done", b""), ("shard-00009.done", b"{}"), ("shard-00009.done", b"[]"), ("shard-x.done", None),
    ("shard-00009.done", None), ("shard-00002.done.done", None), ("notes.done", None), (".shard-00002.done", None),
])  # fmt: skip
def test_what_is_no_note_of_ours_is_no_finished_shard(name, text, tmp_path):
    """A note names a shard of its own number, which is there."""
    path = tmp_path / "set"
    interrupted(Calls(1000).shardable, path, num_shards=6)
    note = path / ".unfinished" / "shard-00002.done"
    (path / ".unfinished" / name).write_bytes(note.read_bytes() if text is None else text)
    assert describe_unfinished(LOCAL, str(path)) == "4 of 6 shards are finished"
    for shard in path.glob("shard-00002-*.rio"):
        shard.unlink()
    assert describe_unfinished(LOCAL, str(path)) == "3 of 6 shards are finished"


# ---- what has to be the same


@pytest.mark.parametrize(
    ("change", "named", "values"),
    [
        ({"level": 2}, "begun with level = 1, not 2 ", []),
        ({"chunk_size": 3000}, "begun with chunk_size = 2000, not 3000 ", []),
        ({"num_shards": 5}, "num_shards", ["6", "5"]),
        ({"metadata": {"a": 1}}, "metadata", ["'a'"]),
        ({"on_error": "skip"}, "on_error", ["stop", "skip"]),
        ({"output_signature": {**given.SPEC, "number": TensorSpec((), "int32")}}, "element_spec", ["int64", "int32"]),
        ({"num_shards": None, "shard_size": 10_000}, "num_shards", ["6"]),
    ],
)
def test_another_option_is_refused_by_name_with_both_values(change, named, values, tmp_path):
    path = tmp_path / "set"
    interrupted(Calls(1000).shardable, path, num_shards=6)
    before = given.files(path)
    with pytest.raises(recordio.RequestError, match=named) as caught:
        recordio.convert(given.shardable, path, resume=True, **{**OPTIONS, "num_shards": 6, **change})
    for value in values:
        assert value.replace("'", "") in str(caught.value).replace('"', "").replace("'", "")
    assert given.files(path) == before


def test_only_what_differs_is_named(tmp_path):
    """Of the options, all that differ and no other; of a long signature, the place where it differs."""
    path = tmp_path / "set"
    wide = {f"column {number}": TensorSpec((), "int64") for number in range(50)}

    def source(shard, num_shards):
        yield dict.fromkeys(wide, 1)
        if shard:
            raise Failure

    options = {"num_shards": 2, "output_signature": wide}
    interrupted(source, path, **options)
    with pytest.raises(recordio.RequestError) as caught:
        recordio.convert(source, path, resume=True, **{**OPTIONS, **options, "level": 4, "num_shards": 3})
    assert caught.value.message.endswith("was begun with num_shards = 2, not 3; level = 1, not 4")
    other = {**wide, "column 40": TensorSpec((), "int32")}
    with pytest.raises(recordio.RequestError) as caught:
        recordio.convert(source, path, resume=True, **{**OPTIONS, **options, "output_signature": other})
    assert all(word in caught.value.message for word in ("element_spec", "int64", "int32"))
    assert len(caught.value.message) < 500


@pytest.mark.parametrize(
    ("begun", "changed", "named"),
    [
        (StoppingRecords(1000), StoppingRecords(None, 1501), "num_records"),
        (StoppingBatches(20), StoppingBatches(None, num_batches=31), "num_batches"),
        (StoppingRecords(1000), StoppingBatches(None), "source"),
    ],
)
def test_a_source_whose_parts_would_be_cut_elsewhere_is_an_error_and_not_a_mixture(begun, changed, named, tmp_path):
    path = tmp_path / "set"
    interrupted(begun, path, num_shards=6)
    before = given.files(path)
    with pytest.raises(recordio.SourceError, match=named):
        recordio.convert(changed, path, num_shards=6, resume=True, **OPTIONS)
    assert given.files(path) == before


@pytest.mark.parametrize("starts", [[*range(0, 1500, 100), 1500], [100, 0, *range(200, 1500, 100)]])
def test_lists_of_other_length_or_content_are_an_error_and_not_a_mixture(starts, tmp_path):
    path = tmp_path / "set"
    begun = recordio.from_generator(Calls(1000).from_lists, args=(list(range(0, 1500, 100)), 100))
    interrupted(begun, path, num_shards=6)
    with pytest.raises(recordio.SourceError, match="source_identity"):
        recordio.convert(
            recordio.from_generator(given.from_lists, args=(starts, 100)), path, num_shards=6, resume=True, **OPTIONS
        )


def test_another_data_set_of_the_same_length_is_an_error_and_not_a_mixture(tmp_path):
    path = tmp_path / "set"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recordio.job.encode_index", _fail)
        with pytest.raises(Failure):
            recordio.convert(recordio.from_tensor_slices(np.arange(100)), path, num_shards=3)
    with pytest.raises(recordio.SourceError, match="fingerprint"):
        recordio.convert(recordio.from_tensor_slices(np.arange(100) + 1), path, num_shards=3, resume=True)
    report = recordio.convert(recordio.from_tensor_slices(np.arange(100)), path, num_shards=3, resume=True)
    assert report.num_resumed_shards == 3


def test_workers_may_differ(undisturbed, tmp_path):
    """They do not decide the bytes."""
    path = tmp_path / "set"
    interrupted(Calls(1000).shardable, path, num_shards=6)
    recordio.convert(given.shardable, path, num_shards=6, resume=True, workers=3, **OPTIONS)
    assert given.files(path) == undisturbed(given.shardable, num_shards=6)


# ---- beginnings and ends


def test_resume_with_nothing_there_begins(undisturbed, tmp_path):
    report = recordio.convert(given.plain, tmp_path / "set", resume=True, shard_size=10_000, **OPTIONS)
    assert report.num_resumed_shards == 0
    assert given.files(tmp_path / "set") == undisturbed(given.plain, shard_size=10_000)


def test_resume_of_a_complete_data_set_reports_it_and_asks_for_nothing(tmp_path):
    path = tmp_path / "set"
    first = recordio.convert(given.Batches(), path, num_shards=3, **OPTIONS)
    before = given.files(path)
    dataset = given.Batches()
    report = recordio.convert(dataset, path, num_shards=3, resume=True, **OPTIONS)
    assert dataset.asked == [] and given.files(path) == before
    assert (report.num_resumed_shards, report.fingerprint, report.num_records) == (3, first.fingerprint, 1500)


@pytest.mark.parametrize(
    ("change", "named"),
    [({"num_shards": 4}, "num_shards = 3, not 4"), ({"output_signature": TensorSpec((), "str")}, "element_spec")],
)
def test_resume_of_a_complete_data_set_that_is_another_one_is_refused(change, named, tmp_path):
    recordio.convert(given.shardable, tmp_path / "set", num_shards=3, **OPTIONS)
    with pytest.raises(recordio.RequestError, match=named):
        recordio.convert(given.shardable, tmp_path / "set", resume=True, **{**OPTIONS, "num_shards": 3, **change})


@pytest.mark.parametrize(
    ("metadata", "others"),
    [
        ({"n": float("nan")}, [{"n": 0.0}]),
        ({"n": [1, {"m": float("-inf")}]}, [{"n": [1, {"m": float("inf")}]}]),
        ({"n": 1}, [{"n": 1.0}, {"n": True}, {}]),
        ({"n": 0.0}, [{"n": -0.0}]),
    ],
)
def test_metadata_is_compared_as_it_is_stored(metadata, others, tmp_path):
    """Of a complete data set and of an unfinished one: nan is nan, and 1 is not 1.0."""
    options = {"num_shards": 3, "metadata": metadata}
    interrupted(Calls(1000).shardable, tmp_path / "unfinished", **options)
    recordio.convert(given.shardable, tmp_path / "complete", **OPTIONS, **options)
    for path in (tmp_path / "unfinished", tmp_path / "complete"):
        for other in others:
            with pytest.raises(recordio.RequestError, match="metadata = "):
                recordio.convert(given.shardable, path, resume=True, **OPTIONS, **{**options, "metadata": other})
        recordio.convert(given.shardable, path, resume=True, **OPTIONS, **options)
    assert given.files(tmp_path / "unfinished") == given.files(tmp_path / "complete")


def test_without_resume_an_unfinished_conversion_is_refused_and_overwrite_starts_again(undisturbed, tmp_path):
    path = tmp_path / "set"
    interrupted(Calls(1000).shardable, path, num_shards=6)
    with pytest.raises(recordio.RequestError, match="unfinished conversion is there: 4 of 6 shards are finished"):
        recordio.convert(given.shardable, path, num_shards=5, **OPTIONS)
    recordio.convert(given.shardable, path, num_shards=5, overwrite=True, **OPTIONS)
    assert given.files(path) == undisturbed(given.shardable, num_shards=5)


def test_what_a_killed_writer_has_left_is_no_conversion_to_go_on_with(undisturbed, tmp_path):
    """A Writer cannot be asked for its records again."""
    path = tmp_path / "set"
    writer = recordio.Writer(path, given.SPEC, shard_size=1000)
    writer.__enter__()
    for record in given.plain(500):
        writer.write(record)
    (path / ".unfinished" / "lock").unlink()        # as if its process was gone
    recordio.convert(given.plain, path, shard_size=10_000, resume=True, **OPTIONS)
    assert given.files(path) == undisturbed(given.plain, shard_size=10_000)


def test_a_killed_writer_that_overwrites_leaves_a_data_set_that_is_not_replaced_unasked(tmp_path):
    path = tmp_path / "set"
    recordio.convert(given.plain, path, shard_size=10_000, **OPTIONS)
    recordio.Writer(path, given.SPEC, overwrite=True).__enter__()
    (path / ".unfinished" / "lock").unlink()
    for arguments in ({}, {"resume": True, "num_shards": 2}):
        with pytest.raises(recordio.RequestError):
            recordio.convert(given.shardable, path, **{**OPTIONS, **arguments})
    assert len(recordio.open(path)) == 1500


# ---- damage to what is unfinished


def flip(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: b"",
        lambda data: flip(data, 10),
        lambda data: flip(data, len(data) // 3),
        lambda data: flip(data, len(data) - 10),
        None,
    ],
    ids=["halved", "cut", "longer", "emptied", "head", "frames", "trailer", "removed"],
)
@pytest.mark.parametrize("source", ["shardable", "plain"])
def test_a_damaged_finished_shard_is_written_again(damage, source, undisturbed, tmp_path):
    path = tmp_path / "set"
    options = {"num_shards": 6} if source == "shardable" else {"shard_size": 10_000}
    interrupted(getattr(Calls(1400), source), path, **options)
    shard = path / json.loads((path / ".unfinished" / "shard-00001.done").read_bytes())["name"]
    if damage is None:
        shard.unlink()
    else:
        shard.write_bytes(damage(shard.read_bytes()))
    recordio.convert(getattr(given, source), path, resume=True, **{**OPTIONS, **options})
    assert given.files(path) == undisturbed(getattr(given, source), **options)


def test_any_flipped_bit_of_a_finished_shard_is_made_good(tmp_path):
    """Padding too, which no checksum of a frame covers. With RECORDIO_LONG_TESTS=1, in every byte."""
    path = tmp_path / "set"
    source = recordio.from_tensor_slices({"a": np.arange(4), "b": ["x", "yy", "", "z"]})
    recordio.convert(source, tmp_path / "undisturbed", num_shards=2)
    expected = given.files(tmp_path / "undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recordio.job.encode_index", _fail)
        with pytest.raises(Failure):
            recordio.convert(source, path, num_shards=2)
    name = min(name for name in expected if name.endswith(".rio"))
    job = given.files(path)
    for place in range(0, len(expected[name]), 1 if os.environ.get("RECORDIO_LONG_TESTS") else 5):
        (path / ".unfinished").mkdir(exist_ok=True)
        for file, data in job.items():
            if data != b"<directory>":
                (path / file).write_bytes(data)
        (path / "index.rix").unlink(missing_ok=True)
        (path / name).write_bytes(flip(expected[name], place))
        recordio.convert(source, path, num_shards=2, resume=True)
        assert given.files(path) == expected, place


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b'{"name": "../../etc/passwd", "digest": "00", "last": true, "details": {}}']
)
def test_a_damaged_note_means_that_the_shard_is_written_again(text, undisturbed, tmp_path):
    path = tmp_path / "set"
    interrupted(Calls(1000).shardable, path, num_shards=6)
    (path / ".unfinished" / "shard-00001.done").write_bytes(text)
    recordio.convert(given.shardable, path, num_shards=6, resume=True, **OPTIONS)
    assert given.files(path) == undisturbed(given.shardable, num_shards=6)


def test_an_overwrite_makes_a_damaged_data_set_good(undisturbed, tmp_path):
    """The same records give the same names; a live file of the right name and wrong bytes is replaced."""
    path = tmp_path / "set"
    expected = undisturbed(given.shardable, num_shards=3)
    recordio.convert(given.shardable, path, num_shards=3, **OPTIONS)
    shard = min(path.glob("*.rio"))
    os.chmod(shard, 0o644)
    shard.write_bytes(flip(shard.read_bytes(), 1000))
    recordio.convert(given.shardable, path, num_shards=3, overwrite=True, **OPTIONS)
    assert given.files(path) == expected
