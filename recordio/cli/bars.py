"""Progress on stderr: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import progress as rich_progress
from rich.console import Console
from rich.text import Text

from recordio.cli.console import PatientStream, side_console
from recordio.progress import Progress, format_duration, format_size, pace, plain_reporter

_WINDOW_S = 5.0  # rates are those of the last seconds
_INTERVAL_S = 0.1


@contextmanager
def shown_progress(*, quiet: bool) -> Iterator[Callable[[Progress], None] | None]:
    """Give a function that takes progress, from any thread; None if nothing is to be shown."""
    console = side_console()
    if quiet:
        yield None
    elif console.is_terminal and not console.is_dumb_terminal:
        with _Bar(console) as bar:
            yield bar.update
    else:
        yield plain_reporter(PatientStream(sys.stderr))  # type: ignore[arg-type]  # all that print needs of a file


class _Bar:
    """One line: stage, bar, records, rates, ratio, time left. It goes when the work ends."""

    def __init__(self, console: Console) -> None:
        self._lock = threading.Lock()
        self._recent: deque[Progress] = deque()
        self._shown_s = -1.0
        self._bar = rich_progress.Progress(
            rich_progress.TextColumn("{task.description}"),
            rich_progress.BarColumn(
                bar_width=24, style="bright_black", complete_style="cyan", finished_style="cyan", pulse_style="cyan"
            ),
            rich_progress.TextColumn("{task.fields[text]}"),
            console=console, transient=True, refresh_per_second=8,
        )  # fmt: skip
        self._task = self._bar.add_task("starting", total=None, text="")

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, now: Progress) -> None:
        with self._lock:
            if self._recent and self._recent[-1].stage != now.stage:
                self._recent.clear()
                self._shown_s = -1.0
            if now.elapsed_s - self._shown_s < _INTERVAL_S and now.done_records != now.total_records:
                return
            self._shown_s = now.elapsed_s
            while len(self._recent) > 1 and now.elapsed_s - self._recent[0].elapsed_s > _WINDOW_S:
                self._recent.popleft()
            text = bar_text(now, self._recent[0] if self._recent else None)
            self._recent.append(now)
            done, total = now.done_records, now.total_records
            if total is None and (now.total_shards or 0) > 1:
                done, total = now.done_shards, now.total_shards
            self._bar.update(self._task, description=now.stage, total=total, completed=done, text=text.plain)


def bar_text(now: Progress, earlier: Progress | None) -> Text:
    """What stands beside the bar."""
    speed = pace(earlier, now)
    total = f"/{now.total_records:,}" if now.total_records else ""
    parts = [f"{now.done_records:,}{total} records"]
    if now.total_records:
        parts.insert(0, f"{now.done_records / now.total_records:.0%}")
    if now.total_shards and now.total_shards > 1:
        parts.append(f"{now.done_shards}/{now.total_shards} shards")
    parts += [f"{speed.records:,.0f}/s", f"{format_size(speed.raw_size)}/s"]
    if now.stored_size:
        parts.append(f"ratio {now.raw_size / now.stored_size:.2f}")
    parts.append(f"{format_duration(speed.left_s)} left" if speed.left_s else format_duration(now.elapsed_s))
    return Text("  ".join(parts))
