"""What is left of the processes of a test."""

from __future__ import annotations

import psutil


def children() -> list[psutil.Process]:
    """Processes of this one; but for the tracker of multiprocessing, which belongs to the interpreter, and stays."""
    found = []
    for child in psutil.Process().children():
        try:
            is_tracker = "resource_tracker" in " ".join(child.cmdline())
        except psutil.ZombieProcess:
            is_tracker = False  # it has ended, and nobody has waited for it
        except psutil.NoSuchProcess:
            continue
        if not is_tracker:
            found.append(child)
    return found
