"""recordio convert: sources, options, reports; errors that say what, where and what to do."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import recordio
from recordio.cli.convert_command import resume_command
from recordio.cli.sources import KINDS
from recordio.cli.values import Size
from tests.cli.running import files_of, flip, flip_after_commit, shards_of


def test_script_becomes_data_set(invoke, work):
    """`script.py:name`; stdout is one line, hints are on stderr."""
    result = invoke("convert", "train.py:records", "out", "--shards", 3, "--check", "--metadata", "split=train")
    assert result.exit_code == 0, result.stderr
    first, second = result.stdout.splitlines()
    assert first.startswith("out: 300 records in 3 shards") and second.startswith("out: ok")
    assert """--signature '{"x": float32, "word": str}'""" in result.stderr
    dataset = recordio.open(work / "out")
    assert dataset[7] == {"x": np.float32(7), "word": "word 7"} and len(dataset.shards) == 3
    assert dataset.metadata == {"split": "train"}


def test_module_becomes_data_set(invoke, work):
    """`module:name`, found from the current directory."""
    assert invoke("convert", "train:records", "out").exit_code == 0
    assert len(recordio.open(work / "out")) == 300


def test_module_in_a_package_becomes_data_set(invoke, work):
    """`package.module:name`; the name may be dotted too."""
    (work / "photos_of" / "birds").mkdir(parents=True)
    (work / "photos_of" / "__init__.py").touch()
    (work / "photos_of" / "birds" / "__init__.py").touch()
    (work / "photos_of" / "birds" / "small.py").write_text(
        "def finches():\n    yield from range(7)\n\nclass Of:\n    tits = staticmethod(finches)\n"
    )
    for name, path in (("finches", "a"), ("Of.tits", "b")):
        result = invoke("convert", f"photos_of.birds.small:{name}", path)
        assert result.exit_code == 0, result.stderr
        assert list(recordio.open(work / path)) == list(range(7))


def test_signature_of_a_file(invoke, work):
    """`--signature @FILE`; the type is what the file says, not what would be inferred."""
    (work / "types.txt").write_text('{"x": float64,\n "word": str}\n')
    result = invoke("convert", "train.py:records", "out", "--signature", "@types.txt")
    assert result.exit_code == 0 and "inferred" not in result.stderr
    assert recordio.open(work / "out").element_spec == {
        "x": recordio.TensorSpec((), "float64"), "word": recordio.TensorSpec((), "str")
    }  # fmt: skip
    result = invoke("convert", "train.py:records", "other", "--signature", "@tpyes.txt")
    assert result.exit_code == 3 and "types.txt?" in result.stderr and not (work / "other").exists()


def test_shard_size(invoke, work):
    """Raw bytes of a shard."""
    np.save(work / "a.npy", np.arange(1000))
    assert invoke("convert", "a.npy", "out", "--shard-size", "2KiB").exit_code == 0
    assert [shard.num_records for shard in recordio.open(work / "out").shards] == [256, 256, 256, 232]


def test_level(invoke, work):
    """Of zstd: other bytes, the same records."""
    (work / "words.py").write_text("def f():\n    for n in range(20_000):\n        yield f'word {n}'\n")
    for level in (1, 19):
        assert invoke("convert", "words.py:f", level, "--level", level, "-q").exit_code == 0
    low, high = recordio.open(work / "1"), recordio.open(work / "19")
    assert high.shards[0].stored_size < 0.95 * low.shards[0].stored_size
    assert list(low) == list(high)


def test_quiet_says_the_answer_only(invoke):
    """-q: nothing on stderr."""
    result = invoke("convert", "train.py:records", "out", "-q")
    assert result.stderr == "" and len(result.stdout.splitlines()) == 1


@pytest.mark.parametrize("options", [
    ["--workers", 1, "--threads"], ["--workers", 4, "--threads"], [], ["--workers", 2, "--processes", "--shards", 3],
])  # fmt: skip
def test_pydataset_class_of_a_script_in_any_workers(run, work, options):
    """A class is made; worker processes, spawned, find the script; the bytes are the same."""
    result = run("convert", "train.py:Photos", "out", *options)
    assert result.returncode == 0, result.stderr
    images, labels = recordio.open(work / "out")[list(range(48))]
    np.testing.assert_array_equal(labels, np.arange(48))
    np.testing.assert_array_equal(images[:, 0, 0], np.arange(48) // 8)


def test_shardable_generator_of_a_script_in_processes(run, work):
    """Processes give the bytes that one thread gives."""
    assert run("convert", "train.py:in_shards", "one", "--shards", 4).returncode == 0
    result = run("convert", "train.py:in_shards", "two", "--shards", 4, "--workers", 2, "--processes")
    assert result.returncode == 0, result.stderr
    assert files_of(work / "one") == files_of(work / "two")


def test_array_files(invoke, work):
    """Rows of .npy; columns of .npz; fields of a structured array; text."""
    array = np.arange(600, dtype=np.int16).reshape(50, 3, 4)
    np.save(work / "a.npy", array)
    assert invoke("convert", "a.npy", "a", "--shards", 2).exit_code == 0
    np.testing.assert_array_equal(recordio.open(work / "a")[list(range(50))], array)
    np.savez_compressed(work / "b.npz", image=array, name=np.array([f"n{i}" for i in range(50)]))
    assert invoke("convert", "b.npz", "b").exit_code == 0
    assert recordio.open(work / "b")[49]["name"] == "n49"
    assert invoke("convert", "b.npz", "c", "--signature", "{image: int32[3,4], name: str}").exit_code == 0
    assert recordio.open(work / "c").element_spec["image"].dtype == "int32"
    fields = np.array([(1, 2.0), (3, 4.0)], dtype=[("id", "u4"), ("value", "f4")])
    np.save(work / "d.npy", fields)
    assert invoke("convert", "d.npy", "d").exit_code == 0
    assert recordio.open(work / "d")[1] == {"id": 3, "value": np.float32(4)}


def test_array_file_in_processes(run, work):
    """Each worker opens the file itself."""
    np.save(work / "a.npy", np.arange(1000))
    result = run("convert", "a.npy", "out", "--shards", 4, "--workers", 2, "--processes")
    assert result.returncode == 0, result.stderr
    np.testing.assert_array_equal(recordio.open(work / "out")[list(range(1000))], np.arange(1000))


@pytest.mark.parametrize(("arrays", "words"), [
    ({"a": np.zeros(3), "b": np.zeros(4)}, "differ in length"),
    ({"a": np.float32(3)}, "is a scalar"),
    ({"a": np.array([{}], dtype=object)}, "Python objects"),
    ({}, "holds no array"),
])  # fmt: skip
def test_array_file_that_is_no_table(invoke, work, arrays, words):
    """What cannot be cut into records says why; nothing is ever unpickled."""
    np.savez(work / "a.npz", **arrays)
    result = invoke("convert", "a.npz", "out")
    assert result.exit_code == 1 and words in result.stderr and not (work / "out").exists()


def test_data_set_is_written_anew(invoke, data, work):
    """Other shards, another level; the same records."""
    assert invoke("convert", data, "again", "--shards", 5, "--level", 9, "--chunk-size", "4KiB").exit_code == 0
    again = recordio.open(work / "again")
    assert len(again.shards) == 5 and list(again)[199]["text"] == "text 199"


def test_report_as_json(invoke, work):
    """stdout is one JSON document with the keys that --help lists."""
    result = invoke("convert", "train.py:unfit", "out", "--on-error", "skip", "--check", "--json")
    found = json.loads(result.stdout)
    assert set(found) >= {
        "path", "num_records", "num_shards", "num_resumed_shards", "raw_size", "stored_size", "ratio", "duration_s",
        "element_spec", "signature", "fingerprint", "shards", "skipped", "verify",
    }  # fmt: skip
    assert found["num_records"] == 301 and found["skipped"][0]["record"] == 300 and found["verify"]["ok"]
    assert found["signature"] == '{"x": int64}'


@pytest.mark.parametrize("how", [[], ["--json"]])
def test_check_finds_what_changed_on_its_way_to_the_disk(invoke, work, monkeypatch, how):
    """Exit status 1, and where; without --check nobody looks."""
    flip_after_commit(monkeypatch, shard=1, chunk=0)
    assert invoke("convert", "train.py:in_shards", "unchecked", "--shards", 3, *how).exit_code == 0
    result = invoke("convert", "train.py:in_shards", "out", "--shards", 3, "--check", *how)
    name = shards_of(work / "out")[1].name
    assert result.exit_code == 1 and name in result.stdout + result.stderr and "Traceback" not in result.stderr
    if how:
        (damage,) = json.loads(result.stdout)["verify"]["damages"]
        assert (damage["shard"], damage["chunk"], damage["column"]) == (1, 0, "x")
    else:
        assert f"{name}, shard 1, chunk 0, column 'x', byte " in result.stdout + result.stderr


def test_dry_run_writes_nothing(invoke, work):
    """What was understood, and an estimate from the first records."""
    result = invoke("convert", "train.py:records", "out", "--dry-run")
    assert result.exit_code == 0 and "{\"x\": float32, \"word\": str} (inferred)" in result.stdout
    assert not (work / "out").exists()
    found = json.loads(invoke("convert", "train.py:Photos", "out", "--dry-run", "--shards", 2, "--json").stdout)
    assert (found["num_records"], found["num_shards"], found["inferred"]) == (48, 2, True)
    assert found["raw_size"] == 48 * (16 + 8)
    real = json.loads(invoke("convert", "train.py:Photos", "out", "--shards", 1, "--threads", "--json").stdout)
    assert found["raw_size"] == real["raw_size"]


def test_dry_run_estimates_what_it_does_not_read(invoke, work):
    """A large file is not read to its end; the estimate is near."""
    np.save(work / "a.npy", np.tile(np.arange(1024, dtype=np.int64), (20_000, 1)))
    found = json.loads(invoke("convert", "a.npy", "out", "--dry-run", "--json").stdout)
    assert found["sample_records"] < 10_000 and found["num_records"] == 20_000
    assert found["raw_size"] == pytest.approx(20_000 * 8192, rel=0.02)


def test_dry_run_says_what_is_there(invoke, data):
    """A data set that would have to be replaced."""
    assert "--overwrite" in invoke("convert", "train.py:records", data, "--dry-run").stdout


@pytest.mark.parametrize(("args", "status", "words"), [
    (["convert", "train.py:recrods", "out"], 2, ["train.py:records?"]),
    (["convert", "tain.py:records", "out"], 3, ["no such file", "train.py?"]),
    (["convert", "trian:records", "out"], 2, ["no module", "train:records?"]),
    (["convert", "encodings.utf8_sig:f", "out"], 2, ["no module 'encodings.utf8_sig'", "encodings.utf_8_sig:f?"]),
    (["convert", "encodingz.ascii:f", "out"], 2, ["encodings.ascii:f?"]),
    (["convert", "train.py", "out"], 2, ["train.py:records", "train.py:Photos"]),
    (["convert", "train.py:NeedsDirectory", "out"], 2, ["directory", "train = NeedsDirectory(...)"]),
    (["convert", "nonsense", "out"], 2, ["script.py:name"]),
    (["convert", "train.py:records", "out", "--shrads", "3"], 2, ["--shards"]),
    (["convert", "train.py:records", "out", "--shard-size", "many"], 2, ["256MiB"]),
    (["convert", "train.py:records", "out", "--shards", "2", "--shard-size", "1MB"], 2, ["one of them"]),
    (["convert", "train.py:records", "out", "--signature", "{x: flaot32}"], 2, ["character 5", "float32"]),
    (["convert", "train.py:records", "out", "--metadata", "what"], 2, ["key=value"]),
    (["convert", "train.py:records", "out", "--metadata", "{what"], 2, ["JSON"]),
    (["convert", "train.py:records", "train.py"], 2, ["is a directory"]),
    (["convert", "train.py:records", "data"], 2, ["--overwrite"]),
    (["convert", "train.py:BadRecord", "out"], 2, ["is a class", "A source is a generator function"]),
    (["convert", "train.py:SCALE", "out"], 2, ["float objects", "A source is a generator function"]),
    (["convert", "train.py:np", "out"], 2, ["is a module"]),
    (["convert", "train.py:columns", "out"], 2, ["hold the columns", "from_tensor_slices"]),
    (["convert", "train.py:needs_two", "out"], 2, ["missing a required argument: 'first'"]),
    (["convert", "train.py:records", "out", "--signature", "{x: int64, word: str}", "--level", "99"], 2, ["level"]),
    (["converr", "train.py:records", "out"], 2, ["convert?"]),
    (["convert"], 2, ["SRC"]),
    (["convert", "train.py:records", ""], 2, ["OUT is empty"]),
    (["convert", "train.py:records", "", "--dry-run"], 2, ["OUT is empty"]),
    (["convert", "train.py:whole", "out"], 1, ["gives a dict", "from_tensor_slices"]),
])  # fmt: skip
def test_wrong_usage_says_what_was_meant(invoke, data, work, args, status, words):
    """Message, suggestion, exit status; no traceback, nothing on stdout, nothing written."""
    result = invoke(*args)
    assert result.exit_code == status, result.stderr
    assert all(word in result.stderr for word in words), result.stderr
    assert result.stdout == "" and "Traceback" not in result.stderr
    assert not (work / "out").exists()


def test_record_that_does_not_match_is_named(invoke):
    """Exit status 1; record number, column, expected and got."""
    result = invoke("convert", "train.py:unfit", "out")
    assert result.exit_code == 1 and "record 300" in result.stderr and "expected int64, got 2.5" in result.stderr
    assert "Traceback" not in result.stderr


def test_record_that_does_not_match_an_inferred_type_says_so(invoke):
    """And what to give; nothing of the kind where the type was given. A dry run says the same."""
    for more in ([], ["--dry-run"]):
        result = invoke("convert", "train.py:unfit", "out", *more)
        assert result.exit_code == 1 and "record 300" in result.stderr
        assert "inferred from the first records" in result.stderr and "a --signature that all" in result.stderr
        result = invoke("convert", "train.py:unfit", "out", *more, "--signature", "{x: int64}")
        assert result.exit_code == 1 and "inferred" not in result.stderr


def test_first_batches_that_cannot_be_had_are_skipped(invoke, work):
    """In a dry run too; where none can be had, the source's own error and how many were tried."""
    result = invoke("convert", "train.py:no_first_photos", "out", "--on-error", "skip", "--threads")
    assert result.exit_code == 0 and "1 skipped" in result.stdout and "skipped batch 0" in result.stderr
    planned = json.loads(
        invoke("convert", "train.py:no_first_photos", "other", "--on-error", "skip", "--dry-run", "--json").stdout
    )
    assert planned["num_records"] == 40
    result = invoke("convert", "train.py:no_photos", "other", "--on-error", "skip")
    assert result.exit_code == 1 and "raised BadRecord at batch 0" in result.stderr
    assert "none of the first 6 items" in result.stderr


RESCUE = """
import recordio

strict = recordio.open("data")
damaged = recordio.open("data", on_corrupt="skip")
"""


def test_damaged_data_set_is_rescued_with_its_losses(invoke, data, work):
    """By a script that opens it with on_corrupt="skip": how many, which and why; otherwise the damage is an error."""
    (work / "rescue.py").write_text(RESCUE)
    shard = shards_of(data)[1]
    table = recordio.open(shard)._recipe.reader.shard(0)
    image = table.read_directory(1).columns[0]
    flip(shard, int(table.table.offsets[1]) + image.offset)
    first = 100 + int(table.table.first_records[1])
    stop = first + image.frames[0].num_records
    for source in ("data", "rescue.py:strict"):
        result = invoke("convert", source, "out", "--on-error", "skip")
        assert result.exit_code == 1 and "source raised" not in result.stderr
        assert f"records {first} to {stop}" in result.stderr and "on_corrupt='skip'" in result.stderr
    result = invoke("convert", "rescue.py:damaged", "out", "--shards", 3, "--check")
    assert result.exit_code == 0 and f", {stop - first} lost," in result.stdout and "skipped" not in result.stdout
    assert f"lost records {first} to {stop}: frame checksum is" in result.stderr
    assert "[shard 1, chunk 1, column 'image']" in result.stderr
    found = json.loads(invoke("convert", "rescue.py:damaged", "other", "--json").stdout)
    assert found["skipped"][0]["records"] == [first, stop] and found["skipped"][0]["record"] is None
    assert found["num_records"] == 200 - (stop - first)


def test_fewer_batches_than_shards(invoke, work):
    """Six batches in nine shards: as even as records can be."""
    found = json.loads(invoke("convert", "train.py:Photos", "out", "--shards", 9, "--threads", "--json").stdout)
    assert [shard["num_records"] for shard in found["shards"]] == [6, 6, 6, 5, 5, 5, 5, 5, 5]


def test_resume_with_other_options_names_what_differs(invoke, work):
    """Of an unfinished conversion, and of a complete one; each option, old and new, and no other."""
    (work / "fails.py").write_text("def f(shard, num_shards):\n    1 / (shard < 2)\n    yield 1\n")
    assert invoke("convert", "fails.py:f", "out", "--shards", 3).exit_code == 1
    result = invoke("convert", "fails.py:f", "out", "--shards", 3, "--resume", "--level", 5, "--chunk-size", "4KiB")
    assert result.exit_code == 2 and "with chunk_size = 2097152, not 4096; level = 1, not 5\n" in result.stderr
    assert "--overwrite, without --resume" in result.stderr and "frame_size" not in result.stderr
    assert invoke("convert", "train.py:records", "whole").exit_code == 0
    result = invoke("convert", "train.py:records", "whole", "--resume", "--metadata", "a=1")
    assert result.exit_code == 2 and "with metadata = {}, not {'a': 1}\n" in result.stderr


def test_exception_of_the_source_shows_its_own_traceback(invoke):
    """The user's frames, without ours; where it happened; the whole on demand."""
    result = invoke("convert", "train.py:broken", "out")
    assert result.exit_code == 1
    assert "in broken" in result.stderr and "in fail" in result.stderr and "KeyError: 'nothing here'" in result.stderr
    assert "recordio/" not in result.stderr.replace(str(result), "") and "click" not in result.stderr
    assert "error: the source raised KeyError at record 2" in result.stderr
    whole = invoke("convert", "train.py:broken", "out", "--traceback")
    assert "recordio/convert/" in whole.stderr and whole.exit_code == 1


def test_exception_in_a_worker_process_shows_its_traceback_there(run):
    """With its type, and with control characters made visible."""
    result = run("convert", "train.py:bad_photos", "out")
    assert result.returncode == 1
    assert "in __getitem__" in result.stderr and "BadRecord: record 4 is bad: no \\x1b[31mcolour" in result.stderr
    assert "\x1b" not in result.stderr and "recordio/convert" not in result.stderr
    assert "the source raised BadRecord at batch 4" in result.stderr


def test_script_that_does_not_load_says_why(invoke, work):
    """A syntax error, a missing import, an exit: the script's fault, exit status 1 or 2."""
    for text, words, status in (
        ("def f(:\n", "SyntaxError", 1), ("import nonexistent_thing\n", "nonexistent_thing", 1), ("exit(3)", "ended", 2)
    ):  # fmt: skip
        (work / "bad.py").write_text(text)
        result = invoke("convert", "bad.py:f", "out")
        assert result.exit_code == status and words in result.stderr, result.stderr


def test_full_disk_is_status_3(invoke, monkeypatch, work):
    """What the operating system refuses is no data problem."""

    def create(self, path, *, keep=0):
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr("recordio.storage.LocalStorage.create", create)
    result = invoke("convert", "train.py:records", "out")
    assert result.exit_code == 3 and "No space left on device" in result.stderr and "Traceback" not in result.stderr


def test_full_disk_says_where(invoke, monkeypatch, work):
    """A write that fails does not know the name of its file."""

    def write(self, parts):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("recordio.shards.shard_writer.ShardWriter.write", write)
    result = invoke("convert", "train.py:records", "out")
    assert result.exit_code == 3 and "error: No space left on device\n  where   out\n" in result.stderr


def test_resume_of_a_finished_conversion_says_that_it_has_not_looked(invoke, work):
    """Whatever the source would give now; no speed, and no signature that was never inferred."""
    assert "B/s" in invoke("convert", "train.py:records", "out").stdout
    (work / "broken.py").write_text("def records():\n    raise ValueError\n    yield\n")
    result = invoke("convert", "broken.py:records", "out", "--resume")
    assert result.exit_code == 0 and "it was complete, and the source was not read" in result.stdout
    assert "B/s" not in result.stdout and "inferred" not in result.stderr


def test_resume_of_a_finished_conversion_does_nothing(invoke, work):
    """The command that goes on can be given again."""
    assert invoke("convert", "train.py:records", "out", "--resume").exit_code == 0
    before = {path: path.stat().st_mtime_ns for path in shards_of(work / "out")}
    assert invoke("convert", "train.py:records", "out", "--resume").exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in shards_of(work / "out")} == before


def test_overwrite_replaces(invoke, data, work):
    """The new data set stands where the old one was."""
    assert invoke("convert", "train.py:records", data, "--overwrite").exit_code == 0
    assert len(recordio.open(data)) == 300


@pytest.mark.parametrize(("args", "expected"), [
    (["convert", "a.py:f", "my out", "--shards", "3"], "recordio convert a.py:f 'my out' --shards 3 --resume"),
    (["convert", "--resume", "a.py:f", "out"], "recordio convert --resume a.py:f out"),
    (["convert", "--shards", "3", "--", "a.py:f", "-out"], "recordio convert --shards 3 --resume -- a.py:f -out"),
    (["convert", "a.py:f", "out", "--codec", "it's"], """recordio convert a.py:f out --codec 'it'"'"'s' --resume"""),
])  # fmt: skip
def test_command_that_goes_on(monkeypatch, tmp_path, args, expected):
    """The same command line with --resume, quoted for a shell."""
    program = tmp_path / "recordio"
    program.touch(mode=0o755)
    monkeypatch.setattr("sys.argv", [str(program)])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("recordio") == str(program)
    assert resume_command(args) == expected


@pytest.mark.parametrize(("text", "size"), [
    ("65536", 65536), ("64KiB", 65536), ("64k", 65536), ("64kB", 64000), ("1GB", 10**9), ("1.5 MiB", 3 << 19),
    ("2G", 2 << 30),
])  # fmt: skip
def test_sizes(text, size):
    """As coreutils reads them: KiB and K are 1,024, KB is 1,000."""
    assert Size().convert(text, None, None) == size


def test_every_kind_of_source_is_in_the_help(invoke):
    """The registry is what help shows."""
    text = invoke("convert", "--help").stdout
    assert all(kind.form in text for kind in KINDS)


@pytest.mark.parametrize("code", ["", "3"])
def test_a_source_that_ends_the_program_is_no_success(invoke, work, code):
    """sys.exit() in a generator: nothing was written, so the status is not its own, nor 0."""
    (work / "ends.py").write_text(f"import sys\n\ndef source():\n    yield {{'x': 1}}\n    sys.exit({code})\n")
    done = invoke("convert", "ends.py:source", "ended", "--signature", '{"x": int64}')
    assert done.exit_code == 1
    assert "sys.exit" in done.stderr
