"""What a job was asked for: whether two requests are equal, and how they differ, in words.

A request is JSON, as `job.json` has it: what decides the bytes. What the job is known by is in the same file, and no
part of it.

Spec: spec/format.md, section 9.
"""

from __future__ import annotations

from typing import Any

from recordio.errors import RequestError, SourceError

# Keys that the source decides, and not whoever asks for the conversion.
_SOURCE_KEYS = frozenset({"source", "source_identity", "num_records"})
# What a job is known by, and into how many tasks it was begun: decides no byte.
_JOB_KEYS = frozenset({"job_id", "num_tasks"})
_CONTEXT = 40  # characters of a long option, around the place where it differs


def check_equal(begun: dict[str, Any], asked: dict[str, Any], path: str) -> None:
    """Refuse to go on with a job of another request, and say what differs.

    Raises:
        SourceError: the source does. RequestError: the options do.
    """
    every = differing(begun, asked)
    # Of a source that changed, other things follow; and the schema says what the element_spec does, in bytes.
    for keys in (every & _SOURCE_KEYS, every - {"schema"}, every):
        if keys:
            old, new = ({key: noted.get(key) for key in keys} for noted in (begun, asked))
            raise (SourceError if keys <= _SOURCE_KEYS else RequestError)(
                f"the unfinished conversion was begun with {differences(old, new)}", path=path,
                advice="Give the same source and options, or start again with overwrite=True, without resume",
            )  # fmt: skip


def differing(begun: dict[str, Any], asked: dict[str, Any]) -> set[str]:
    """The keys in which two requests differ."""
    every = (begun.keys() | asked.keys()) - _JOB_KEYS
    return {key for key in every if begun.get(key) != asked.get(key)}


def differences(begun: dict[str, Any], asked: dict[str, Any]) -> str:
    """What differs between two maps of options, in words: "level = 3, not 9". Maps in them are looked into."""
    found = []
    for key in sorted(begun.keys() | asked.keys(), key=str):
        old, new = begun.get(key), asked.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found.append(differences(old, new))
        elif old != new:
            found.append("{} = {}, not {}".format(key, *_parted(_shown(old), _shown(new))))
    return "; ".join(filter(None, found))


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def _parted(old: str, new: str) -> list[str]:
    """Two long texts around the place where they begin to differ."""
    same = next((place for place, (a, b) in enumerate(zip(old, new)) if a != b), min(len(old), len(new)))
    start = max(0, same - _CONTEXT)
    stop = start + 4 * _CONTEXT
    return ["..." * (start > 0) + text[start:stop] + "..." * (len(text) > stop) for text in (old, new)]
