"""Consecutive ranges: how records, or whatever comes in order, are dealt out evenly.

Pure arithmetic on counts; what is dealt out is its callers' business.
"""

from __future__ import annotations

from itertools import pairwise


def even_ranges(total: int, num_parts: int) -> list[tuple[int, int]]:
    """Cut range(total) into consecutive ranges [start, stop), floor and ceil, the larger ones first."""
    small, num_large = divmod(total, num_parts)
    return list(pairwise(part * small + min(part, num_large) for part in range(num_parts + 1)))
