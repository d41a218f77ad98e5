"""Arguments: whole numbers, as users give them."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from recordio.errors import RequestError


def whole_number(name: str, value: Any, *, least: int) -> int:
    """Take anything that is an int and no bool.

    Args:
        name: of the argument, for the error.

    Raises:
        RequestError: it is below the least. TypeError: no int.
    """
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} is an int, not {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is an int, not {value!r}") from None
    if number < least:
        raise RequestError(f"{name} {number} is below {least}")
    return number
