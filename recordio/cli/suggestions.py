"""What was probably meant: near names of files, commands and attributes."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable


def near_name(name: str, names: Iterable[str]) -> str | None:
    """The nearest of some names, if one is near."""
    found = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return found[0] if found else None


def near_path(path: str) -> str | None:
    """A path that exists and differs from this one in one part."""
    parent, name = os.path.split(os.path.normpath(path))
    if parent and not os.path.isdir(parent):
        near_parent = near_path(parent)
        if near_parent is None:
            return None
        whole = os.path.join(near_parent, name)
        return whole if os.path.exists(whole) else near_path(whole)
    try:
        names = os.listdir(parent or ".")
    except OSError:
        return None
    longer = sorted(one for one in names if name and one.startswith(name))
    near = longer[0] if longer else near_name(name, names)
    return None if near is None else os.path.join(parent, near)
