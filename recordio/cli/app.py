"""The group of commands, and what is the same for all of them: errors, exit status, interrupts, suggestions.

A command is imported when it is named, so that help and completion are quick.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, TypeVar

import click

from recordio import __version__
from recordio.cli.suggestions import near_name

Function = TypeVar("Function", bound=Callable[..., Any])

# Name -> module below recordio.cli, command in it, what help says of it. Commands are added here.
_COMMANDS = {
    "convert": ("convert_command", "convert", "Write a source as a sharded data set."),
    "index": ("index_command", "index", "Complete a data set that several tasks have written."),
    "inspect": ("inspect_command", "inspect", "Show what a data set or a shard holds."),
    "plan": ("plan_command", "plan", "Show who reads what in an epoch, and how well it is mixed."),
    "verify": ("verify_command", "verify", "Check every byte; name every damaged place."),
}

_EPILOG = """\b
Examples:
  recordio convert train.py:records data/train --shards 8
  recordio inspect data/train
  recordio plan data/train --pipelines 4 --batch 256
  recordio verify data/train

\b
Exit status:
  0  all is well                   3  a file cannot be read or written
  1  damaged or unfit data         4  no recordio file, or a newer one
  2  wrong usage                   5  unfinished, can be gone on with
                                 130  interrupted

\b
Completion in the shell (bash; zsh and fish likewise):
  eval "$(_RECORDIO_COMPLETE=bash_source recordio)"
"""


class Application(click.Group):
    """Knows the commands without importing them, and turns every exception into a message and an exit status."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name, _ = _COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(f"recordio.cli.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # click would import every command to ask it for its help.
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in _COMMANDS and not name.startswith("-"):
            near = near_name(name, _COMMANDS)
            hint = f"Did you mean {near}?" if near else f"Commands: {', '.join(_COMMANDS)}"
            raise click.UsageError(f"there is no command {name!r}\n{hint}", ctx)
        return super().resolve_command(ctx, args)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        given = list(sys.argv[1:] if args is None else args)
        # Closed streams (`>&-`) are None: without stderr nobody listens; without stdout there is nothing to work for.
        if sys.stderr is None:
            sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  until the process ends
        try:
            if sys.stdout is None:
                raise OSError(errno.EBADF, "stdout is closed, so that the answer cannot be written")
            status = super().main(
                given, prog_name or program_name(), complete_var, standalone_mode=False, obj=given,
                windows_expand_args=windows_expand_args, **extra,
            )  # fmt: skip
            status = status if isinstance(status, int) else 0
        except BaseException as error:  # whatever it is: a message and a status
            if isinstance(error, SystemExit | GeneratorExit):
                raise
            status = _report(error, given)
        if not standalone_mode:
            return status
        try:
            if sys.stdout is not None:
                _flush(sys.stdout)
        except OSError as error:  # the answer was still in the buffer
            status = _report(error, given)
        _flush(sys.stderr)
        sys.exit(status)


def _report(error: BaseException, args: list[str]) -> int:
    from recordio.cli.failures import exit_status, report

    with_traceback = "--traceback" in args or os.environ.get("RECORDIO_TRACEBACK", "") not in ("", "0")
    report(error, with_traceback=with_traceback)
    return exit_status(error)


def _flush(stream: Any) -> None:
    from recordio.cli.console import PatientStream

    PatientStream(stream).flush()


def program_name() -> str:
    """How this program was called: "recordio", or "python -m recordio"."""
    called = os.path.basename(sys.argv[0] if sys.argv else "")
    return "python -m recordio" if called in ("__main__.py", "-m") else "recordio"


def common_options(function: Function) -> Function:
    """Options that every command has."""
    function = click.option(
        "--traceback", is_flag=True, help="Show the whole traceback of an error (or set RECORDIO_TRACEBACK=1)."
    )(function)
    return click.option("-q", "--quiet", is_flag=True, help="No progress and no hints on stderr.")(function)


@click.group(
    cls=Application, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, "-V", "--version", prog_name="recordio")
@click.option("--traceback", is_flag=True, help="Show the whole traceback of an error (or set RECORDIO_TRACEBACK=1).")
def application(traceback: bool) -> None:
    """Sharded, checksummed, compressed record files for training data."""
