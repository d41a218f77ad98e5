"""Whether a value can go to another process, found out before a process is started."""

from __future__ import annotations

import pickle


def sending_problem(value: object) -> Exception | None:
    """What pickle says of a value that it cannot carry, or None."""
    try:
        pickle.dumps(value)
    except Exception as error:  # noqa: BLE001  whatever a user's __reduce__ raises, it is the answer
        return error
    return None
