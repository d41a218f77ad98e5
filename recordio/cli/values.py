"""Values of options: sizes like 256MiB, tasks like 3/64, metadata, signatures."""

from __future__ import annotations

import json
import re
from typing import Any

import click

from recordio.errors import SignatureError
from recordio.values.signature_text import parse_signature

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)", re.ASCII)
_TASK = re.compile(r"([0-9]{1,9})/([0-9]{1,9})", re.ASCII)
# As coreutils has them: K and KiB are 1,024, kB and KB are 1,000.
_FACTORS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgtp", 1):
    _FACTORS[_letter] = _FACTORS[f"{_letter}ib"] = 1024**_power
    _FACTORS[f"{_letter}b"] = 1000**_power


class Size(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic in newer ones only
    """Bytes: 65536, 64KiB, 256MiB, 1GB, 1.5G."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = _SIZE.fullmatch(str(value).strip())
        factor = None if found is None else _FACTORS.get(found[2].lower())
        if found is None or factor is None:
            self.fail(f"{value!r} is no size. Write for example 65536, 256MiB (a power of 1,024) or 1GB (of 1,000)")
        size = int(float(found[1]) * factor) if "." in found[1] else int(found[1]) * factor
        if size < 1:
            self.fail(f"{value!r} is no size: it is below one byte")
        return size


class Task(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic in newer ones only
    """Which of how many: 3/64 is the fourth, 63/64 the last."""

    name = "task"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        found = _TASK.fullmatch(str(value).strip())
        if found is None:
            self.fail(
                f"{value!r} is no task. Write i/N, such as 3/64, or in a Slurm array $SLURM_ARRAY_TASK_ID/64 "
                "(is the variable set?)"
            )
        task, num_tasks = int(found[1]), int(found[2])
        if task >= num_tasks:
            last = max(0, num_tasks - 1)
            self.fail(f"there is no task {value}: {num_tasks} tasks are 0 to {last}. With Slurm: --array=0-{last}")
        return task, num_tasks


class Signature(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic in newer ones only
    """A signature as text, or @FILE that holds it."""

    name = "signature"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return parse_signature(read_at(value).strip())
        except SignatureError as error:
            self.fail(f"{error.message}{chr(10) + error.advice if error.advice else ''}")


def parse_metadata(values: tuple[str, ...]) -> dict[str, Any]:
    """key=value pairs and JSON objects, later ones over earlier ones; a value is JSON if it can be, else text."""
    found: dict[str, Any] = {}
    for value in values:
        text = read_at(value).strip()
        if text.startswith("{"):
            try:
                found.update(json.loads(text))
            except ValueError as error:
                raise click.BadParameter(f"this is no JSON object: {error}", param_hint="'--metadata'") from None
            continue
        key, equals, text = text.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{value!r} is neither key=value nor a JSON object", param_hint="'--metadata'")
        try:
            found[key] = json.loads(text)
        except ValueError:
            found[key] = text
    return found


def read_at(value: str) -> str:
    """The text itself, or of the file that @FILE names."""
    if not value.startswith("@"):
        return value
    with open(value[1:], encoding="utf-8") as file:
        return file.read()
