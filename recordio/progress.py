"""Progress of long work: what is counted, and how it reads as a line of text.

Whoever works calls a function with a `Progress` from time to time; whoever shows it decides how. Plain lines are made
here; the bar of a terminal is in `recordio.cli`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far some work has come."""

    done_records: int
    total_records: int | None  # None: not known
    raw_size: int  # bytes done
    stored_size: int  # bytes of files that stand for them
    done_shards: int
    total_shards: int | None
    elapsed_s: float
    stage: str  # one word: "convert", "verify", ...
    expected_records: int | None = None  # about how many, where total_records is not known; for the time left alone

    @property
    def left_records(self) -> int | None:
        """How many are still to be done, or about so many; None: not known."""
        total = self.expected_records if self.total_records is None else self.total_records
        return None if total is None else max(0, total - self.done_records)


@dataclass(frozen=True, slots=True)
class Pace:
    """Rates between two moments of the same work."""

    records: float  # a second
    raw_size: float  # bytes a second
    left_s: float | None  # None: not known


def pace(earlier: Progress | None, now: Progress) -> Pace:
    """Rates since `earlier`, or since the beginning; the time left follows from them."""
    records, raw_size, elapsed = now.done_records, now.raw_size, now.elapsed_s
    if earlier is not None:
        records -= earlier.done_records
        raw_size -= earlier.raw_size
        elapsed -= earlier.elapsed_s
    if elapsed <= 0:
        return Pace(0.0, 0.0, None)
    rate = records / elapsed
    left = None if now.left_records is None or not rate else now.left_records / rate
    return Pace(rate, raw_size / elapsed, left)


def describe(progress: Progress, earlier: Progress | None = None) -> str:
    """One line of text; rates are those since `earlier`."""
    speed = pace(earlier, progress)
    done = f"{progress.done_records:,}"
    if progress.total_records:
        done += f" of {progress.total_records:,}"
    parts = [f"{progress.stage}: {done} records"]
    if progress.total_records:
        parts[0] += f" ({progress.done_records / progress.total_records:.0%})"
    if progress.total_shards:
        parts.append(f"{progress.done_shards} of {progress.total_shards} shards")
    elif progress.done_shards:
        parts.append(f"{progress.done_shards} shard{'s' if progress.done_shards > 1 else ''}")
    parts.append(f"{speed.records:,.0f} records/s")
    parts.append(f"{format_size(speed.raw_size)}/s")
    if progress.stored_size:
        parts.append(f"ratio {progress.raw_size / progress.stored_size:.2f}")
    parts.append(f"{format_duration(progress.elapsed_s)} elapsed")
    if speed.left_s:
        parts.append(f"{format_duration(speed.left_s)} left")
    return ", ".join(parts)


def plain_reporter(stream: TextIO, interval_s: float = 5.0) -> Callable[[Progress], None]:
    """A reporter that prints a line every `interval_s` seconds, and one when a new stage begins; for any thread.

    A stream that is gone ends the lines, not the work.
    """
    lock = threading.Lock()
    began = last = time.monotonic()
    shown: Progress | None = None
    gone = False

    def report(progress: Progress) -> None:
        nonlocal last, shown, gone
        with lock:
            now = time.monotonic()
            same_stage = shown is None or shown.stage == progress.stage
            if gone or (now - last < interval_s and (same_stage or now - began < interval_s)):
                return
            try:
                print(describe(progress, shown if same_stage else None), file=stream, flush=True)
            except (OSError, ValueError):
                gone = True
            last, shown = now, progress

    return report


def format_size(size: float) -> str:
    """Bytes for reading, in powers of 1,000: "12.3 MB"."""
    size = float(size)
    for unit in _UNITS:
        # 999.95 kB would be printed as "1000.0 kB".
        if abs(size) < (1000 if unit == "B" else 999.95) or unit == _UNITS[-1]:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError


def format_duration(seconds: float) -> str:
    """Time for reading: "0.4 s", "12 s", "3:05 min", "1:02:03 h"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d} h"
