"""What is printed of a conversion, or of the merge of one, that has ended well."""

from __future__ import annotations

import shlex

from rich.console import Console
from rich.text import Text

from recordio.checks.verification import verify as verify_path
from recordio.cli.app import program_name
from recordio.cli.bars import shown_progress
from recordio.cli.console import answer_console, print_json, printable, side_console
from recordio.cli.failures import DATA_PROBLEM
from recordio.cli.verify_command import counted, print_report
from recordio.convert.report import ConversionReport
from recordio.progress import format_duration, format_size
from recordio.values.signature_text import format_signature

_MAX_SKIPPED_SHOWN = 10


def show_report(
    report: ConversionReport, *, check: bool, as_json: bool, quiet: bool, inferred: bool = False, merged: bool = False
) -> int:
    """Print a report, with what a check finds now if there is to be one; gives the exit status.

    Args:
        inferred: nobody had given a signature.
        merged: the shards were there before.
    """
    console, side = answer_console(), side_console()
    verified = None
    if check:
        with shown_progress(quiet=quiet) as progress:
            verified = verify_path(report.path, progress=progress)
    signature = format_signature(report.element_spec)
    is_complete = report.num_resumed_shards == report.num_shards  # of an earlier run
    if as_json:
        answer = {**report.to_dict(), "signature": signature}
        if verified is not None:
            answer["verify"] = verified.to_dict()
        print_json(console, answer)
    else:
        _print_done(console, report, merged=merged)
        if verified is not None:
            print_report(console, verified)
    if not quiet:
        for found in report.skipped[:_MAX_SKIPPED_SHOWN]:
            verb = "skipped" if found.records is None else "lost"
            side.print(Text(f"{verb} {printable(found.label)}: {printable(found.error)}", style="yellow"))
        more = len(report.skipped) - _MAX_SKIPPED_SHOWN
        if more > 0:
            side.print(Text(f"and {more:,} more: --json lists all", style="yellow"))
    if not quiet and not as_json:
        if inferred and not is_complete:
            option = f"--signature {shlex.quote(printable(signature))}"
            side.print(Text(f"note: the signature was inferred: {option}", style="dim"))
        path = shlex.quote(printable(report.path))
        if report.fingerprint:
            side.print(Text(f"note: {program_name()} inspect {path} shows it", style="dim"))
        else:
            side.print(Text(f"note: when all tasks have ended: {program_name()} index {path} --merge", style="dim"))
    return DATA_PROBLEM if verified is not None and not verified.ok else 0


def _print_done(console: Console, report: ConversionReport, *, merged: bool) -> None:
    line = Text.assemble((printable(report.path), "bold"), ": ")
    if report.task is not None:
        line.append(f"task {report.task[0]}/{report.task[1]}, ")
    line.append(f"{counted(report.num_records, 'record')} in {counted(report.num_shards, 'shard')}")
    if report.num_resumed_shards and not merged:
        line.append(f" ({report.num_resumed_shards:,} finished before)")
    num_skipped = sum(found.records is None for found in report.skipped)
    num_lost = sum(found.records[1] - found.records[0] for found in report.skipped if found.records is not None)
    for number, what in ((num_skipped, "skipped"), (num_lost, "lost")):
        if number:
            line.append(f", {number:,} {what}", style="yellow")
    speed = report.raw_size / report.duration_s if report.duration_s else 0
    line.append(f", {format_size(report.raw_size)} raw, {format_size(report.stored_size)} stored")
    line.append(f", ratio {report.ratio:.2f}")
    if report.num_resumed_shards < report.num_shards:
        line.append(f", {format_duration(report.duration_s)}, {format_size(speed)}/s")
    elif not merged:
        line.append("; it was complete, and the source was not read", style="yellow")
    console.print(line)
