"""Progress: rates, and lines of text."""

from __future__ import annotations

import io
from typing import Any

import pytest

from recordio.progress import Progress, describe, format_duration, format_size, pace, plain_reporter


def progress(**values: Any) -> Progress:
    given: dict[str, Any] = {
        "done_records": 500, "total_records": 2000, "raw_size": 10_000_000, "stored_size": 2_500_000, "done_shards": 1,
        "total_shards": 4, "elapsed_s": 2.0, "stage": "convert",
    }  # fmt: skip
    return Progress(**{**given, **values})


def test_line_says_how_far_how_fast_and_how_long():
    """Records, shards, rates, ratio, time left."""
    assert describe(progress()) == (
        "convert: 500 of 2,000 records (25%), 1 of 4 shards, 250 records/s, 5.0 MB/s, ratio 4.00, "
        "2.0 s elapsed, 6.0 s left"
    )


def test_line_leaves_out_what_is_not_known():
    """A source without a length has no percentage and no end."""
    line = describe(progress(total_records=None, total_shards=None, done_shards=0, stored_size=0))
    assert line == "convert: 500 records, 250 records/s, 5.0 MB/s, 2.0 s elapsed"


def test_rates_are_those_since_an_earlier_moment():
    """Shards of an earlier run, counted at the start, do not show as speed."""
    earlier = progress(done_records=400, raw_size=9_000_000, elapsed_s=1.0)
    assert pace(earlier, progress()) == type(pace(None, progress()))(100.0, 1_000_000.0, 15.0)
    assert pace(progress(), progress()).left_s is None


def test_reporter_prints_now_and_then(monkeypatch):
    """A line every interval, and no more."""
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    stream = io.StringIO()
    report = plain_reporter(stream, interval_s=5)
    for now in range(12):
        report(progress(elapsed_s=float(now)))
    assert len(stream.getvalue().splitlines()) == 2


def test_reporter_outlives_its_stream(monkeypatch):
    """A closed stderr ends the lines, not the work."""
    stream = io.StringIO()
    stream.close()
    report = plain_reporter(stream, interval_s=0)
    report(progress())
    report(progress())


@pytest.mark.parametrize(("size", "text"), [
    (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_949, "999.9 kB"), (999_951, "1.0 MB"), (47_104_000, "47.1 MB"),
    (10**19, "10.0 EB"), (10**22, "10000.0 EB"),
])  # fmt: skip
def test_sizes_read_well(size, text):
    """Powers of 1,000, one decimal."""
    assert format_size(size) == text


@pytest.mark.parametrize(("seconds", "text"), [
    (0, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1:00 min"), (185, "3:05 min"), (3723, "1:02:03 h"),
])  # fmt: skip
def test_durations_read_well(seconds, text):
    """Seconds, minutes, hours."""
    assert format_duration(seconds) == text
