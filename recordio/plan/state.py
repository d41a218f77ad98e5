"""States: where reading stands, as a count of records that were handed out.

    {"version": 1, "fingerprint": ..., "epoch": 3, "consumed": 51200, ...}       JSON, the same on every pipeline

What a state says is compared field by field with what the loader reads; where they differ, the field is named.

Spec: spec/order.md, section 9.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from recordio.errors import StateError

VERSION = 1
MAX_STATE_SIZE = 1000  # bytes of JSON

_ADVICE = {
    "fingerprint": "The data set was written anew, or is another one; a position in the old one means nothing in it",
    "view": "Take the same records (take, skip, shard, subset, slices) as when the state was saved",
    "records": "Take the same records (take, skip, shard, subset, slices) as when the state was saved",
    "split": "Distribute with the policy that the state was saved under; AUTO, DATA and no distribution are alike",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Where reading stands; fields as in spec/order.md, section 9."""

    fingerprint: str
    view: str
    records: int
    seed: int | None
    mode: str
    lanes: int | None
    window: int | None
    pool: int | None
    split: str
    first_epoch: int
    epoch: int
    consumed: int
    pipelines: int | None = None
    replicas: int | None = None
    batch_size: int | None = None
    step: int | None = None

    def to_map(self) -> dict[str, Any]:
        """Plain values for JSON, without those that mean nothing here."""
        found = asdict(self)
        for name in _OWN:
            if found[name] is None:
                del found[name]
        return {"version": VERSION, **found}


_OWN = ("pipelines", "replicas", "batch_size", "step")  # of a stream that each pipeline has for itself
_POSITION = ("first_epoch", "epoch", "consumed", "step")  # what differs from state to state of one loader
_TEXTS = ("fingerprint", "view", "mode", "split")
_OPTIONAL = ("seed", "lanes", "window", "pool", *_OWN)
_NAMES = tuple(field.name for field in fields(State))


def read_state(value: Any) -> State:
    """Read one state from an untrusted value.

    Raises:
        StateError: it is none, or of another version.
    """
    if not isinstance(value, Mapping):
        raise StateError(f"a state is what state_dict() gave, not {type(value).__name__}")
    if value.get("version") != VERSION:
        raise StateError(
            f"the state has version {value.get('version')!r}, this recordio reads version {VERSION}",
            advice="Load it with the recordio that saved it, or begin the epoch again with set_epoch",
        )
    extra = sorted(map(str, value.keys() - {"version", *_NAMES}))
    missing = [name for name in _NAMES if name not in value and name not in _OWN]
    if extra or missing:
        raise StateError(f"a state that lacks {missing} and holds {extra}: it is no state of a loader")
    for name in _NAMES:
        found = value.get(name)
        if found is None and name in _OPTIONAL:
            continue
        is_right = (
            type(found) is str and len(found) <= 64
            if name in _TEXTS
            else type(found) is int and 0 <= found < 1 << 64
        )
        if not is_right:
            raise StateError(f"{name} of the state is {_shown(found)}")
    values: dict[str, Any] = {name: value.get(name) for name in _NAMES}
    return State(**values)


def agreed(states: list[State]) -> State:
    """The one state that those of all pipelines are.

    Raises:
        StateError: they differ; with the position of each.
    """
    first = states[0]
    if all(state == first for state in states):
        return first
    for name in _NAMES:
        if name not in _POSITION and len({getattr(state, name) for state in states}) > 1:
            values = ", ".join(_shown(getattr(state, name)) for state in states)
            raise StateError(f"the states differ in {name}: {values}", advice="Load states of one training run")
    cursors = ", ".join(
        f"pipeline {number} at record {state.consumed:,} of epoch {state.epoch}" for number, state in enumerate(states)
    )
    raise StateError(
        f"the pipelines were saved at different steps: {cursors}",
        advice="Load one of the states alone, for all pipelines: the model was saved at one of them",
    )


def check_same(state: State, own: State) -> None:
    """Refuse a state of something else.

    Args:
        own: the state of the loader at its beginning.

    Raises:
        StateError: which field differs, and how.
    """
    for name in _NAMES:
        if name in _POSITION:
            continue
        saved, here = getattr(state, name), getattr(own, name)
        if saved != here:
            advice = _ADVICE.get(name)
            if name in ("pipelines", "replicas", "batch_size"):
                advice = f"Under {state.split.upper()} these stay as they were; AUTO and DATA restore with any"
            raise StateError(
                f"{name} is {_shown(saved)} in the state, {_shown(here)} here",
                advice=advice or "Give shuffle the arguments that it had when the state was saved",
            )


def check_size(state: State) -> dict[str, Any]:
    """The plain form of a state, which is always small."""
    found = state.to_map()
    assert len(json.dumps(found)) < MAX_STATE_SIZE
    return found


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"a {type(value).__name__}"
