"""From an exception to a message and an exit status.

    0    all is well
    1    the data: damaged, or a record that does not match, or the source raised
    2    usage: a wrong argument, or something is there already
    3    a file cannot be read or written: missing, no permission, disk full, somebody else is writing; or a cluster
         cannot be reached
    4    no recordio file, or one that needs a newer recordio
    5    unfinished, and can be gone on with
    130  interrupted
"""

from __future__ import annotations

import os
import re
import traceback
from typing import Any

import click
from rich.console import Console
from rich.text import Text

import recordio
from recordio.cli.console import printable, side_console
from recordio.convert.pieces import SOURCE_NOTE
from recordio.errors import (
    IncompleteError,
    LockedError,
    NotRecordIOError,
    RecordIOError,
    RequestError,
    TooNewError,
)
from recordio.job_paths import JobPaths
from recordio.storage import LOCAL

DATA_PROBLEM, USAGE, CANNOT_ACCESS, NOT_RECORDIO, UNFINISHED, INTERRUPTED = 1, 2, 3, 4, 5, 130

_PACKAGE = os.path.dirname(os.path.abspath(recordio.__file__)) + os.sep
_MACHINERY = (os.path.dirname(click.__file__), os.path.join("concurrent", "futures"), "<frozen ", "<string>")
# Notes of ours in a traceback; what they say is said in the error itself.
_OUR_NOTE = "recordio: "

# Advice is written for Python; here it must name options. These phrases are replaced, as they stand, and no words.
_GO_ON = "convert(..., resume=True)"
_OPTIONS = {
    _GO_ON: "recordio convert ... --resume",
    "resume=True": "--resume",
    "recordio.merge_shards(path)": "recordio index OUT --merge",
    "recordio.merge_shards(path, check=True)": "recordio index OUT --merge --check",
    "without resume": "without --resume",
    "overwrite=True": "--overwrite",
    "use_multiprocessing=False": "--threads",
    "an output_signature": "a --signature",
    "recordio.MsgpackSpec() stands": "msgpack in it stands",
    "declare TensorSpec(..., optional=True)": "put ? behind its type in --signature",
    "or open with on_corrupt='skip' to lose": "or read it with recordio.open(..., on_corrupt='skip') and lose",
}
_TASK = re.compile(r"convert\(\.\.\., task=\(([^,()]+), ([^,()]+)\)\)")
_TASK_OPTION = r"recordio convert ... --task \1/\2"
# Code and quoted names are the user's or Python's, and stay: `x`, 'x', "x", f(...), also with brackets inside.
_CODE = r"""`[^`]*`|(?<!\w)'[^']*'|(?<!\w)"[^"]*"|\w+\((?:[^()]|\([^()]*\))*\)"""
_PHRASES = re.compile("|".join([*(rf"(?<![\w.]){re.escape(phrase)}(?!\w)" for phrase in _OPTIONS), _CODE]))


def exit_status(error: BaseException) -> int:
    """The exit status that an exception means."""
    if isinstance(error, click.ClickException):
        return USAGE
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return INTERRUPTED
    if from_source(error):
        return DATA_PROBLEM
    if isinstance(error, NotRecordIOError | TooNewError):
        return NOT_RECORDIO
    if isinstance(error, IncompleteError):
        return UNFINISHED if _resumable(error.path) else DATA_PROBLEM
    if isinstance(error, RequestError):
        return USAGE
    if isinstance(error, LockedError | OSError):
        return CANNOT_ACCESS
    return DATA_PROBLEM


def from_source(error: BaseException) -> bool:
    """Whether the user's own code raised this."""
    return any(note.startswith(SOURCE_NOTE) for note in getattr(error, "__notes__", ()))


def report(error: BaseException, *, with_traceback: bool) -> None:
    """Say on stderr what happened, where, and what to do."""
    console = side_console()
    if with_traceback and not isinstance(error, click.Abort | KeyboardInterrupt):
        for line in traceback.format_exception(error):
            console.print(Text(_lines(line.rstrip("\n"))))
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message())  # `recordio` alone: not wrong, only not enough
    elif isinstance(error, click.UsageError):
        _report_usage(console, error)
    elif isinstance(error, click.ClickException):
        print_error(console, error.format_message())
    elif isinstance(error, KeyboardInterrupt | click.Abort):
        console.print(Text("interrupted", style="yellow"))
    elif from_source(error):
        _report_source(console, error, shown=with_traceback)
    elif isinstance(error, RecordIOError):
        print_error(console, error.message, where=where_of(error), advice=error.advice)
        _print_notes(console, error)
    elif isinstance(error, OSError):
        _report_os_error(console, error)
        _print_notes(console, error)
    else:
        what = f"{type(error).__name__}: {error}"
        print_error(console, what, advice="This should not happen; `--traceback` shows where it did")


def _print_notes(console: Console, error: BaseException) -> None:
    """What convert has to say besides: what is kept, how many items failed."""
    for note in getattr(error, "__notes__", ()):
        if note.startswith(_OUR_NOTE) and not note.startswith(SOURCE_NOTE):
            text = note.removeprefix(_OUR_NOTE).replace(_GO_ON, _OPTIONS[_GO_ON])  # a path in it stays what it is
            text = _TASK.sub(_TASK_OPTION, text)
            console.print(Text.assemble(("  note    ", "dim"), printable(text)))


def print_error(console: Console, message: str, *, where: str | None = None, advice: str | None = None) -> None:
    """An error as all of them look; what stands in a file may be quoted in it."""
    first, *more = message.split("\n")
    text = Text("error: ", style="bold red")
    text.append(printable(first), style="not bold default")
    console.print(text)
    for line in more:
        console.print(Text("  " + printable(line)))
    if where:
        console.print(Text.assemble(("  where   ", "dim"), printable(where)))
    if advice:
        console.print(Text.assemble(("  advice  ", "dim"), printable(_as_options(advice))))


def _as_options(advice: str) -> str:
    """Arguments of the library, as the command line calls them."""
    return _PHRASES.sub(lambda found: _OPTIONS.get(found[0], _TASK.sub(_TASK_OPTION, found[0])), advice)


def where_of(error: Any) -> str:
    """The location of an error, or of a damage, in words."""
    parts = [] if error.path is None else [str(error.path)]
    for name in ("shard", "chunk", "column", "record", "offset"):
        value = getattr(error, name, None)
        if value is not None:
            label = "byte" if name == "offset" else name
            parts.append(f"{label} {value!r}" if name == "column" else f"{label} {value}")
    if error.records is not None:
        parts.append(f"records {error.records[0]} to {error.records[1]}")
    return ", ".join(parts)


def _report_usage(console: Console, error: click.UsageError) -> None:
    print_error(console, error.format_message())
    if error.ctx is not None:
        console.print(Text(f"  {error.ctx.command_path} --help shows what can be said", style="dim"))


def _report_os_error(console: Console, error: OSError) -> None:
    from recordio.cli.suggestions import near_path

    message = error.strerror or str(error)
    advice = None
    if isinstance(error, FileNotFoundError) and error.filename:
        message = "there is no such file or directory"
        near = near_path(str(error.filename))
        advice = f"Did you mean {near}?" if near else None
    files = [str(name) for name in (error.filename, error.filename2) if name is not None]
    kind = "" if type(error) in (FileNotFoundError, OSError) else f"{type(error).__name__}: "
    print_error(console, f"{kind}{message}", where=", ".join(files) or None, advice=advice)


def _report_source(console: Console, error: BaseException, *, shown: bool) -> None:
    """The traceback of the user's own code, without ours."""
    if not shown:
        for line in _users_traceback(error):
            console.print(Text(printable(line)))
    notes = [note for note in getattr(error, "__notes__", ()) if note.startswith(SOURCE_NOTE)]
    place = notes[0].removeprefix(SOURCE_NOTE).strip()
    print_error(console, f"the source raised {type(error).__name__} {place}")
    _print_notes(console, error)


def _chain(error: traceback.TracebackException | None) -> list[traceback.TracebackException]:
    return [] if error is None else [error, *_chain(error.__cause__), *_chain(error.__context__)]


def _users_traceback(error: BaseException) -> list[str]:
    """Lines of a traceback without frames of recordio and click, and without our notes."""
    if type(error.__cause__).__name__ == "_WorkerTraceback":
        text = str(error.__cause__).strip("\n")  # what it was in the worker process
    else:
        whole = traceback.TracebackException.from_exception(error)
        for part in _chain(whole):
            part.stack = traceback.StackSummary.from_list([frame for frame in part.stack if _is_users(frame.filename)])
        text = "".join(whole.format())
    kept: list[str] = []
    skipping = False
    for line in text.splitlines():
        if line.startswith('  File "'):
            skipping = not _is_users(line.split('"')[1])
        elif not line.startswith("    "):
            skipping = line.startswith(_OUR_NOTE)
        if not skipping:
            kept.append(line)
    return kept


def _is_users(filename: str) -> bool:
    return not filename.startswith(_PACKAGE) and not any(part in filename for part in _MACHINERY)


def _lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def _resumable(path: str | None) -> bool:
    if path is None or not os.path.isdir(path):
        return False
    return bool((JobPaths(LOCAL, path).request() or {}).get("resumable"))
