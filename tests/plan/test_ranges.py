"""Even ranges cover everything once, and differ by one at most."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordio.plan.ranges import even_ranges


@pytest.mark.parametrize(
    ("total", "num_parts", "expected"),
    [
        (0, 2, [(0, 0), (0, 0)]),
        (5, 2, [(0, 3), (3, 5)]),  # the first takes the odd one
        (2, 3, [(0, 1), (1, 2), (2, 2)]),
    ],
)
def test_the_larger_ranges_come_first(total, num_parts, expected):
    """Floor and ceil, larger first."""
    assert even_ranges(total, num_parts) == expected


@given(st.integers(0, 10_000), st.integers(1, 100))
def test_ranges_cover_everything_once(total, num_parts):
    """One after the other, nothing between them, sizes differing by one at most."""
    ranges = even_ranges(total, num_parts)
    assert [number for start, stop in ranges for number in range(start, stop)] == list(range(total))
    sizes = [stop - start for start, stop in ranges]
    assert len(sizes) == num_parts
    assert max(sizes) - min(sizes) <= 1
