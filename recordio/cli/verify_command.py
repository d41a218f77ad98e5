"""recordio verify: every byte is checked, every damaged place is named."""

from __future__ import annotations

import click
from rich.console import Console
from rich.text import Text

from recordio.checks.verification import VerifyReport
from recordio.checks.verification import verify as verify_path
from recordio.cli.app import common_options
from recordio.cli.bars import shown_progress
from recordio.cli.console import answer_console, print_json, printable, side_console
from recordio.cli.failures import DATA_PROBLEM, where_of
from recordio.progress import format_duration, format_size

_EPILOG = """\b
Examples:
  recordio verify data/train
  recordio verify data/train/shard-00003-5e0c7f3a.rio
  recordio verify data/train --json | jq -r '.damages[].path'

JSON: path, ok, num_shards, num_chunks, num_frames, num_records, lost_records, raw_size, stored_size, duration_s,
damages: [{kind, message, path, shard, chunk, column, offset, records: [start, stop], advice}], notes: [text]
"""


@click.command(epilog=_EPILOG)
@click.argument("path", type=click.Path())
@click.option("--workers", type=click.IntRange(min=1), help="Threads; as many as there are processors by default.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
@common_options
def verify(path: str, workers: int | None, as_json: bool, quiet: bool, traceback: bool) -> int:
    """Check every byte of a data set, or of one shard.

    Checks headers, schemas, paddings, chunk tables, digests, the index against the shards, and every frame down to its
    values. Names shard, chunk, column, byte and records of every damaged place. Exit status 1 if there is one.
    """
    with shown_progress(quiet=quiet) as progress:
        report = verify_path(path, workers=workers, progress=progress)
    console = answer_console()
    if as_json:
        print_json(console, report.to_dict())
    else:
        print_report(console, report)
    if not quiet and not as_json:
        for note in report.notes:
            side_console().print(Text(f"note: {printable(note)}", style="dim"))
    return 0 if report.ok else DATA_PROBLEM


def print_report(console: Console, report: VerifyReport) -> None:
    """One line that says it all, then a paragraph for every damage."""
    name = printable(report.path)
    checked = (
        f"{counted(report.num_records, 'record')} in {counted(report.num_shards, 'shard')}, "
        f"{counted(report.num_chunks, 'chunk')} and {counted(report.num_frames, 'frame')} checked, "
        f"{format_size(report.stored_size)} in {format_duration(report.duration_s)}"
    )
    if report.ok:
        console.print(Text.assemble((f"{name}: ", "bold"), ("ok", "bold green"), f", {checked}"))
        return
    count = counted(len(report.damages), "damaged place")
    lost = f"{counted(report.lost_records, 'record')} lost" if report.lost_records else "no record lost"
    console.print(Text.assemble((f"{name}: ", "bold"), (count, "bold red"), f", {lost}; {checked}"))
    for damage in report.damages:
        console.print()
        console.print(Text.assemble((f"  {damage.kind}: ", "red"), printable(damage.message)))
        console.print(Text.assemble(("    where  ", "dim"), printable(where_of(damage))))


def counted(number: int, what: str) -> str:
    """A number and its thing: "1 shard", "12,000 records"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
