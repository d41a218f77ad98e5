"""A given number of shards of a source whose length is known only at its end: spool, then cut (design.md, 2)."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

import recordio
from recordio import TensorSpec, stream
from recordio.convert import writing
from tests.convert import given
from tests.convert.interrupting import Calls, Failure

# With RECORDIO_LONG_TESTS=1 every byte is tried.
STRIDE = 1 if os.environ.get("RECORDIO_LONG_TESTS") else 61

OPTIONS = {"output_signature": given.SPEC, "chunk_size": 2000, "level": 1}


@pytest.mark.parametrize(
    ("num_records", "num_shards", "expected"),
    [
        (0, 1, [0]),
        (0, 3, [0, 0, 0]),
        (2, 4, [1, 1, 0, 0]),
        (10, 4, [3, 3, 2, 2]),
        (1500, 7, [215, 215, 214, 214, 214, 214, 214]),
    ],
)
def test_shards_are_even_within_one_record(num_records, num_shards, expected, tmp_path):
    """Larger first; with fewer records than shards the last ones are empty, and still there."""
    report = recordio.convert(lambda: given.plain(num_records), tmp_path / "set", num_shards=num_shards, **OPTIONS)
    assert [shard.num_records for shard in report.shards] == expected
    assert [record["number"] for record in recordio.open(tmp_path / "set")] == list(range(num_records))
    assert not (tmp_path / "set" / ".unfinished").exists()


@pytest.mark.parametrize("num_shards", [1, 3, 7])
def test_only_chunks_at_a_boundary_are_compressed_again(num_shards, tmp_path, monkeypatch):
    """At most one chunk for each boundary, in two parts; the others are copied, and their bytes are the very same."""
    encoded = []
    original = stream.encode_chunk
    monkeypatch.setattr(stream, "encode_chunk", lambda *args: encoded.append(1) or original(*args))
    report = recordio.convert(given.plain, tmp_path / "set", num_shards=num_shards, **OPTIONS)
    assert len(encoded) <= 2 * (num_shards - 1)
    assert sum(shard.num_chunks for shard in report.shards) > 20


def test_the_cut_bytes_do_not_depend_on_who_compresses(tmp_path, monkeypatch):
    for name, threads in (("one", 1), ("five", 5)):
        monkeypatch.setattr(writing, "default_workers", lambda threads=threads: threads)
        recordio.convert(given.plain, tmp_path / name, num_shards=5, **OPTIONS)
    assert given.files(tmp_path / "one") == given.files(tmp_path / "five")


def test_the_spool_takes_as_much_disk_as_the_shards(tmp_path, monkeypatch):
    """As the documentation says: twice the compressed size for a while."""
    sizes = []
    commit = recordio.job.Job.commit

    def measured(self, **named):
        sizes.append(sum(f.stat().st_size for f in (tmp_path / "set").rglob("*") if f.is_file()))
        return commit(self, **named)

    monkeypatch.setattr(recordio.job.Job, "commit", measured)
    report = recordio.convert(given.plain, tmp_path / "set", num_shards=3, **OPTIONS)
    assert report.stored_size < sizes[0] < 2.1 * report.stored_size
    assert "twice on disk" in recordio.convert.__doc__


# ---- going on with a spool


@pytest.fixture(scope="module")
def torn(tmp_path_factory):
    """A small conversion that failed while it was spooled, its complete form, and a function that copies it."""
    root = tmp_path_factory.mktemp("torn")
    options = {"chunk_size": 600, "output_signature": TensorSpec((3,), "int32"), "codec": "none"}

    def source(stop=None):
        for number in range(1500):
            if number == stop:
                raise Failure
            yield np.full(3, number)

    recordio.convert(source, root / "undisturbed", num_shards=3, **options)
    with pytest.raises(Failure):
        recordio.convert(lambda: source(1400), root / "torn", num_shards=3, **options)

    def resume(path):
        recordio.convert(source, path, num_shards=3, resume=True, **options)
        return given.files(path)

    return root / "torn", given.files(root / "undisturbed"), resume


@pytest.mark.timeout(1800 if STRIDE == 1 else 120)
def test_a_spool_cut_anywhere_is_gone_on_with(torn, tmp_path):
    """At every byte around a boundary, and at many others."""
    unfinished, expected, resume = torn
    spool = (unfinished / ".unfinished" / "spool.rio").read_bytes()
    assert len(spool) > 3000
    for size in [*range(0, len(spool), STRIDE * 5), *range(0, 1400, STRIDE), len(spool)]:
        path = tmp_path / str(size)
        shutil.copytree(unfinished, path)
        (path / ".unfinished" / "spool.rio").write_bytes(spool[:size])
        assert resume(path) == expected, size
        shutil.rmtree(path)


@pytest.mark.timeout(1800 if STRIDE == 1 else 120)
def test_a_flipped_bit_in_a_spool_is_made_good(torn, tmp_path):
    """What follows the damage is written again; padding counts."""
    unfinished, expected, resume = torn
    spool = (unfinished / ".unfinished" / "spool.rio").read_bytes()
    for place in [*range(0, 1500, STRIDE), *range(1500, len(spool), 10 * STRIDE)]:
        path = tmp_path / str(place)
        shutil.copytree(unfinished, path)
        (path / ".unfinished" / "spool.rio").write_bytes(
            spool[:place] + bytes([spool[place] ^ 0x10]) + spool[place + 1 :]
        )
        assert resume(path) == expected, place
        shutil.rmtree(path)


@pytest.mark.parametrize("place", ["frame", "footer", "trailer", "note", "nothing"])
def test_a_complete_spool_that_was_damaged_is_made_good(place, tmp_path, monkeypatch):
    """The source is asked once more; shards that were cut already stay."""
    path = tmp_path / "set"
    recordio.convert(given.plain, tmp_path / "undisturbed", num_shards=6, **OPTIONS)
    original = stream.cut_spool

    def cut(target, num_shards, shard_id):
        if shard_id >= 2:
            raise Failure
        return original(target, num_shards, shard_id)

    with monkeypatch.context() as patch:
        patch.setattr(writing, "cut_spool", cut)
        with pytest.raises(Failure):
            recordio.convert(given.plain, path, num_shards=6, **OPTIONS)
    spool = path / ".unfinished" / "spool.rio"
    data = bytearray(spool.read_bytes())
    where = {"frame": len(data) - 4000, "footer": len(data) - 100, "trailer": len(data) - 10}
    if place == "note":
        (path / ".unfinished" / "spool.done").unlink()
    elif place in where:
        data[where[place]] ^= 1
    spool.write_bytes(data)
    report = recordio.convert(given.plain, path, num_shards=6, resume=True, **OPTIONS)
    assert report.num_resumed_shards == 2
    assert given.files(path) == given.files(tmp_path / "undisturbed")


def test_a_complete_spool_stands_for_its_source(tmp_path, monkeypatch):
    """Stopped while it was cut: the source is not asked again, and what it had left out is still reported."""
    path = tmp_path / "set"

    def source():
        for record in given.plain():
            yield {**record, "number": "no"} if record["number"] == 700 else record

    with monkeypatch.context() as patch:
        patch.setattr("recordio.job.encode_index", _fail)
        with pytest.raises(Failure):
            recordio.convert(source, path, num_shards=4, on_error="skip", **OPTIONS)
    again = Calls(None)
    report = recordio.convert(again.plain, path, num_shards=4, on_error="skip", resume=True, **OPTIONS)
    assert again.calls == []
    assert [skipped.label for skipped in report.skipped] == ["record 700"]
    assert report.num_records == 1499 and report.num_resumed_shards == 4


def _fail(**_):
    raise Failure


def test_an_iterator_can_be_spooled_once(tmp_path):
    """It is read from where it is, once; the records looked at for the signature are not lost."""
    report = recordio.convert(given.plain(), tmp_path / "set", num_shards=2)
    assert report.num_records == 1500
