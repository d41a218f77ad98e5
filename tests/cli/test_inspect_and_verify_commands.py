"""recordio inspect and verify: the answer on stdout, exit status, and text from files that does no harm."""

from __future__ import annotations

import json
import os
import shutil
import signal

import numpy as np
import pytest

import recordio
from tests.cli.running import flip, shards_of


def test_inspect_shows_what_is_there(invoke, data):
    """Kind, state, counts, columns and values."""
    result = invoke("inspect", data)
    assert result.exit_code == 0 and result.stderr == ""
    assert "data set, complete" in result.stdout and "200" in result.stdout
    image, text = result.stdout.splitlines()[-2:]
    assert image.split()[:4] == ["image", "uint8[4,", "4]", "zstd"] and "0 to 8, mean" in image
    assert '"text 0"' in text and "6 to 8 bytes" in text


def test_inspect_lists_shards_and_chunks(invoke, data):
    """A line for each."""
    shards = invoke("inspect", data, "--shards").stdout
    assert all(path.name in shards for path in shards_of(data))
    chunks = invoke("inspect", data, "--chunks").stdout
    assert len(chunks.splitlines()) > 10


def test_lists_fit_80_columns(invoke, work):
    """Millions of records in hundreds of megabytes too; --json has the rest."""
    recordio.convert(range(1_200_000), work / "many", num_shards=3, chunk_size=1 << 20)
    text = invoke("inspect", "many", "--shards", "--chunks").stdout
    lines = text[text.index("  file ") :].splitlines()
    assert max(map(len, lines)) <= 80 and shards_of(work / "many")[2].name in lines[3]
    assert lines[-1].split()[:2] == ["2", "3"] and lines[-1].split()[3:5] == ["1,193,216", "6,784"]
    found = json.loads(invoke("inspect", "many", "--shards", "--json").stdout)
    assert set(found["shards"][0]) >= {"shard", "name", "ratio", "digest", "state"}


def test_inspect_as_json(invoke, data):
    """One document; lists on demand; stdout holds nothing else."""
    found = json.loads(invoke("inspect", data, "--json", "--shards", "--chunks", "--verify", "--stats").stdout)
    assert found["verify"]["ok"] and len(found["shards"]) == 2 and found["exact_values"]
    assert "shards" not in json.loads(invoke("inspect", data, "--json").stdout)


def test_signature_goes_round(invoke, data, work):
    """What inspect prints as JSON is what convert --signature takes."""
    signature = json.loads(invoke("inspect", data, "--json").stdout)["signature"]
    assert invoke("convert", data, "again", "--signature", signature).exit_code == 0
    assert recordio.open(work / "again").element_spec == recordio.open(data).element_spec


def test_wrong_path_and_column_get_a_suggestion(invoke, data):
    """Status 3 for what is not there, 2 for a wrong name, 4 for what is not ours."""
    result = invoke("inspect", "dtaa")
    assert result.exit_code == 3 and "Did you mean data?" in result.stderr
    result = invoke("inspect", data, "--column", "imgae")
    assert result.exit_code == 2 and "'image'" in result.stderr
    for command in ("inspect", "verify"):
        result = invoke(command, "train.py")
        assert result.exit_code == 4 and "not a recordio" in result.stderr and result.stdout == ""


def test_verify_of_a_wrong_path_gets_a_suggestion(invoke, data):
    """Status 3; as for inspect."""
    for wrong, near in (("dtaa", "data"), ("data/index.rxi", "data/index.rix")):
        result = invoke("verify", wrong)
        assert result.exit_code == 3 and f"Did you mean {near}?" in result.stderr and wrong in result.stderr
        assert result.stdout == "" and "Traceback" not in result.stderr


@pytest.mark.parametrize(("args", "meant"), [
    (["inspect", "data", "--chnuks"], "--chunks"), (["inspect", "data", "--stast"], "--stats"),
    (["inspect", "data", "--jsno"], "--json"), (["inspect", "data", "--colum", "image"], "--column"),
    (["verify", "data", "--jsno"], "--json"), (["verify", "data", "--worker", "2"], "--workers"),
    (["verify", "data", "--queit"], "--quiet"),
])  # fmt: skip
def test_wrong_flags_get_a_suggestion(invoke, data, args, meant):
    """Status 2, and nothing on stdout."""
    result = invoke(*args)
    assert result.exit_code == 2 and result.stdout == "" and "Traceback" not in result.stderr
    wrong, _, near = result.stderr.partition("Did you mean")
    assert args[2] in wrong and meant in near.splitlines()[0]


def test_an_index_alone_is_inspected(invoke, data):
    """The same data set, called an index."""
    result = invoke("inspect", data / "index.rix")
    assert result.exit_code == 0 and result.stderr == "" and "index, complete" in result.stdout
    found, whole = (json.loads(invoke("inspect", path, "--json").stdout) for path in (data / "index.rix", data))
    assert (found["kind"], whole["kind"]) == ("index", "data set")
    for key in ("state", "num_records", "num_shards", "fingerprint", "signature", "stored_size"):
        assert found[key] == whole[key]


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_ctrl_c_is_status_130(invoke, data, monkeypatch, command):
    """Said in a word, without a traceback."""

    def interrupted(*args, **kwargs):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(f"recordio.cli.{command}_command.{command}_path", interrupted)
    for options in ([], ["--json"]):
        result = invoke(command, data, *options)
        assert (result.exit_code, result.stdout, result.stderr.strip()) == (130, "", "interrupted")


def test_newer_file_is_status_4(invoke, data):
    """A major version that this reader does not know."""
    from recordio.format.checksum import crc

    shard = shards_of(data)[0]
    content = bytearray(shard.read_bytes())
    content[8] = 9
    content[60:64] = crc(content[:60]).to_bytes(4, "little")
    shard.write_bytes(content)
    for command in ("inspect", "verify"):
        result = invoke(command, shard)
        assert result.exit_code == 4 and "Update recordio" in result.stderr


def test_start_of_a_name_is_completed(invoke, data):
    """The digest in the name of a shard is nothing to remember."""
    assert f"Did you mean {shards_of(data)[1]}?" in invoke("inspect", data / "shard-00001").stderr


def test_unfinished_is_status_5(invoke, work):
    """Inspect says how far it is; verify refuses it; both say how to go on."""
    (work / "train.py").write_text("def f(shard, num_shards):\n    1 / (shard < 2)\n    yield 1\n")
    result = invoke("convert", "train.py:f", "out", "--shards", 3)
    assert result.exit_code == 1 and "--resume" in result.stderr
    (work / "out" / ".unfinished" / "mine.done").touch()
    (work / "out" / ".unfinished" / "shard-00002.done").touch()
    result = invoke("inspect", "out")
    assert result.exit_code == 5 and "unfinished" in result.stdout and "2 finished of 3" in result.stdout
    assert "--resume" in result.stderr
    result = invoke("verify", "out")
    assert result.exit_code == 5 and "--resume" in result.stderr and result.stdout == ""
    (work / "train.py").write_text("def f(shard, num_shards):\n    yield 1\n")
    assert invoke("convert", "train.py:f", "out", "--shards", 3, "--resume").exit_code == 0
    assert invoke("inspect", "out").exit_code == 0


def test_torn_shard_is_status_1(invoke, data):
    """It says what stands before the cut."""
    shard = shards_of(data)[0]
    os.truncate(shard, shard.stat().st_size - 300)
    result = invoke("inspect", shard)
    assert result.exit_code == 1 and "shard, torn" in result.stdout and "no trailer" in result.stderr
    result = invoke("inspect", data)
    assert result.exit_code == 1 and "incomplete" in result.stdout


def test_verify_names_every_damaged_place(invoke, data):
    """Status 1; shard, chunk, column, byte and records; also as JSON."""
    assert invoke("verify", data).stdout.startswith(f"{data}: ok, 200 records in 2 shards")
    for shard in shards_of(data):
        table = recordio.open(shard)._recipe.reader.shard(0)
        column = table.read_directory(1).columns[0]
        flip(shard, int(table.table.offsets[1]) + column.offset)
    result = invoke("verify", data)
    assert result.exit_code == 1 and "2 damaged places" in result.stdout and result.stderr == ""
    assert "shard 1, chunk 1, column 'image', byte" in result.stdout
    found = json.loads(invoke("verify", data, "--json").stdout)
    assert [damage["shard"] for damage in found["damages"]] == [0, 1] and not found["ok"]
    assert invoke("inspect", data, "--verify", "-q").exit_code == 1


def test_verify_counts_in_words(invoke, work):
    """One, several, none; a data set, its index alone, a shard alone."""
    for name, num_records, num_shards in (("one", 1, 1), ("none", 0, 2), ("two", 2, 2)):
        spec = recordio.TensorSpec((), "int64")
        recordio.convert(range(num_records), work / name, num_shards=num_shards, output_signature=spec)
    for path, words in (
        ("one", "ok, 1 record in 1 shard, 1 chunk and 1 frame checked, "),
        ("none", "ok, 0 records in 2 shards, 0 chunks and 0 frames checked, "),
        ("two", "ok, 2 records in 2 shards, 2 chunks and 2 frames checked, "),
        ("two/index.rix", "ok, 2 records in 2 shards, 2 chunks and 2 frames checked, "),
        (shards_of(work / "two")[0], "ok, 1 record in 1 shard, 1 chunk and 1 frame checked, "),
    ):
        result = invoke("verify", path)
        assert result.exit_code == 0 and result.stdout.startswith(f"{path}: {words}"), result.stdout
    flip(shards_of(work / "two")[0], 70)
    assert invoke("verify", "two").stdout.startswith("two: 1 damaged place, ")
    shards_of(work / "two")[1].unlink()
    result = invoke("verify", "two")
    assert result.exit_code == 1 and result.stdout.startswith("two: 2 damaged places, ")


def test_orphaned_shard_is_a_note(invoke, data):
    """On stderr; the status stays 0."""
    shutil.copy(shards_of(data)[0], data / "shard-00009-00000000.rio")
    result = invoke("verify", data)
    assert result.exit_code == 0 and "shard-00009-00000000.rio" in result.stderr


HOSTILE = "\x1b]0;gotcha\x07[red]\u202eevil\r\n\x9b"


@pytest.mark.parametrize("args", [[], ["--stats"], ["--json"], ["--chunks", "--shards", "--verify"]])
def test_text_from_files_does_no_harm(invoke, work, args):
    """Names, values and metadata: no control character, no override of direction, no markup."""
    spec = {HOSTILE: recordio.TensorSpec((), "str"), "b": recordio.TensorSpec((2,), "str"), "c": recordio.MsgpackSpec()}
    record = {HOSTILE: HOSTILE, "b": [HOSTILE, HOSTILE], "c": {HOSTILE: [HOSTILE]}}
    recordio.convert([record] * 3, work / "out", output_signature=spec, metadata={HOSTILE: HOSTILE})
    shard = recordio.open(work / "out")._recipe.reader.shard(0)
    result = invoke("inspect", work / "out", *args)
    assert result.exit_code == 0
    flip(shards_of(work / "out")[0], int(shard.table.offsets[0]) + shard.read_directory(0).columns[0].offset)
    damaged = invoke("inspect", work / "out", *args)
    verified = invoke("verify", work / "out", *(["--json"] if "--json" in args else []))
    assert damaged.exit_code == verified.exit_code == 1
    for text in (result.stdout, damaged.stdout, damaged.stderr, verified.stdout, verified.stderr):
        assert all(one.isprintable() or one == "\n" for one in text)
    if not args:
        assert "[red]" in result.stdout and "\\x1b]0;gotcha" in result.stdout


def test_very_many_columns_are_listed(invoke, work):
    """A wide record is shown as a whole where there is no terminal."""
    record = {f"column_{number:04d}": np.int8(number % 100) for number in range(1500)}
    recordio.convert([record] * 5, work / "wide")
    assert len(invoke("inspect", "wide").stdout.splitlines()) > 1500


@pytest.mark.parametrize("command", ["convert", "inspect", "verify"])
def test_every_command_has_help_with_examples(invoke, command):
    """And every option of it says what it does."""
    result = invoke(command, "--help")
    assert result.exit_code == 0 and "Examples:" in result.stdout and f"recordio {command}" in result.stdout
    assert "JSON:" in result.stdout


@pytest.mark.parametrize("args", [["-h"], ["convert", "-h"], ["inspect", "-h"], ["verify", "-h"]])
def test_help_fits_80_columns(invoke, args):
    """Examples and keys too."""
    assert max(map(len, invoke(*args).stdout.splitlines())) <= 80


def test_no_command_gives_help(invoke):
    """As click has it: the help, and status 2; no error."""
    result = invoke()
    assert (result.exit_code, result.stderr, result.stdout) == (2, "", invoke("--help").stdout)


def test_group_has_help_and_version(invoke):
    """Commands, exit status, completion."""
    text = invoke("--help").stdout
    assert all(word in text for word in ("convert", "inspect", "verify", "Exit status", "_RECORDIO_COMPLETE"))
    assert recordio.__version__ in invoke("--version").stdout
