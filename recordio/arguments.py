"""Arguments: whole numbers, as users give them."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from recordio.errors import RequestError

MAX_NUMBER = (1 << 62) - 1  # of records, or of anything that is counted: sums of two fit 64 bits


def whole_number(name: str, value: Any, *, least: int, most: int = MAX_NUMBER) -> int:
    """Take anything that is an int and no bool.

    Args:
        name: of the argument, for the error.

    Raises:
        RequestError: it is below the least, or above the most. TypeError: no int.
    """
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} is an int, not {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is an int, not {value!r}") from None
    if number < least:
        raise RequestError(f"{name} {number} is below {least}")
    if number > most:
        raise RequestError(f"{name} {number} is above {most}")
    return number
