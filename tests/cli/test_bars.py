"""Progress on stderr: what stands beside the bar of a terminal, and the lines where there is none."""

from __future__ import annotations

from functools import partial

import pytest

from recordio.cli.bars import bar_text
from recordio.progress import plain_reporter
from tests.test_progress import progress


def test_bar_says_how_far_how_fast_and_how_long():
    """Records a second, bytes a second, ratio, time left; since an earlier moment if there is one."""
    text = bar_text(progress(), None).plain
    assert text.split("  ") == [
        "25%", "500/2,000 records", "1/4 shards", "250/s", "5.0 MB/s", "ratio 4.00", "6.0 s left",
    ]  # fmt: skip
    earlier = progress(done_records=400, raw_size=9_000_000, elapsed_s=1.0)
    assert bar_text(progress(), earlier).plain.split("  ")[3:] == ["100/s", "1.0 MB/s", "ratio 4.00", "15 s left"]


@pytest.mark.parametrize(("known", "last"), [({}, "2.0 s"), ({"expected_records": 1000}, "2.0 s left")])
def test_bar_leaves_out_what_is_not_known(known, last):
    """No percentage without a length; the time that has passed where what is left is not known."""
    text = bar_text(progress(total_records=None, total_shards=None, stored_size=0, **known), None).plain
    assert text.split("  ") == ["500 records", "250/s", "5.0 MB/s", last]


def test_without_a_terminal_progress_is_plain_lines_on_stderr(invoke, work, monkeypatch):
    """How far, how fast; one line each, no sign that moves the cursor, nothing of it on stdout."""
    monkeypatch.setattr("recordio.cli.bars.plain_reporter", partial(plain_reporter, interval_s=0))
    result = invoke("convert", "train.py:in_shards", "out", "--shards", 4, "--check")
    assert result.exit_code == 0
    lines = [line for line in result.stderr.splitlines() if not line.startswith("note: ")]
    converted = [line for line in lines if line.startswith("convert: ")]
    verified = [line for line in lines if line.startswith("verify: ")]
    assert lines == converted + verified and len(converted) >= 4 and verified
    assert converted[-1].startswith("convert: 400 records, 4 of 4 shards, ")
    assert all(word in line for line in converted for word in (" records/s, ", "B/s, ", " elapsed"))
    assert " ratio " in converted[-1]
    assert result.stderr.isascii() and "\x1b" not in result.stderr and "\r" not in result.stderr
    assert "records/s" not in result.stdout
    assert invoke("convert", "train.py:in_shards", "again", "--shards", 4, "-q").stderr == ""
