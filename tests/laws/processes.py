"""What is left of the processes of a test."""

from __future__ import annotations

import psutil

_STAY = ("resource_tracker", "forkserver")  # of multiprocessing: they belong to the interpreter


def children() -> list[psutil.Process]:
    """Processes of this one that should have ended."""
    found = []
    for child in psutil.Process().children():
        try:
            stays = any(name in " ".join(child.cmdline()) for name in _STAY)
        except psutil.ZombieProcess:
            stays = False  # it has ended, and nobody has waited for it
        except psutil.NoSuchProcess:
            continue
        if not stays:
            found.append(child)
    return found
