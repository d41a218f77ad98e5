"""recordio inspect and verify: the answer on stdout, exit status, and text from files that does no harm."""

from __future__ import annotations

import json
import os
import shutil

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


def test_unfinished_is_status_5(invoke, work):
    """Inspect says how far it is; verify refuses it; both say how to go on."""
    (work / "train.py").write_text("def f(shard, num_shards):\n    1 / (shard < 2)\n    yield 1\n")
    result = invoke("convert", "train.py:f", "out", "--shards", 3)
    assert result.exit_code == 1 and "--resume" in result.stderr
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
        table = recordio.open(shard)._reader.shard(0)
        column = table.read_directory(1).columns[0]
        flip(shard, int(table.table.offsets[1]) + column.offset)
    result = invoke("verify", data)
    assert result.exit_code == 1 and "2 damaged places" in result.stdout and result.stderr == ""
    assert "shard 1, chunk 1, column 'image', byte" in result.stdout
    found = json.loads(invoke("verify", data, "--json").stdout)
    assert [damage["shard"] for damage in found["damages"]] == [0, 1] and not found["ok"]
    assert invoke("inspect", data, "--verify", "-q").exit_code == 1


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
    shard = recordio.open(work / "out")._reader.shard(0)
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


def test_group_has_help_and_version(invoke):
    """Commands, exit status, completion."""
    text = invoke("--help").stdout
    assert all(word in text for word in ("convert", "inspect", "verify", "Exit status", "_RECORDIO_COMPLETE"))
    assert recordio.__version__ in invoke("--version").stdout
