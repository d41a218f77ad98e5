"""Timing: candidates taken in turn, A B A B, and the median of the ratios of neighbours.

The speed of a shared machine drifts; two runs side by side drift together, so that a ratio means more than two medians.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence


def seconds(run: Callable[[], object]) -> float:
    """Time of one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def interleave(
    runs: Sequence[Callable[[], object]], repeats: int, prepare: Callable[[], object] = lambda: None
) -> list[list[float]]:
    """Run all in turn, `repeats` times after one unmeasured round; gives the seconds of each, round by round.

    Args:
        prepare: called before every run, and not measured.
    """
    times: list[list[float]] = [[] for _ in runs]
    for number in range(repeats + 1):
        for run, taken in zip(runs, times, strict=True):
            prepare()
            gc.collect()
            took = seconds(run)
            if number:
                taken.append(took)
    return times


def speed_ratio(own: Sequence[float], peer: Sequence[float]) -> float:
    """How fast `own` is, relative to `peer`, on the same work: the median over the rounds."""
    return statistics.median(b / a for a, b in zip(own, peer, strict=True))
