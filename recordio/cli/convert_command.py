"""recordio convert: a source becomes a data set; interrupted, it says how to go on."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import threading
from typing import Any, Literal

import click
from rich.console import Console
from rich.text import Text

import recordio
from recordio.checks.verification import verify as verify_path
from recordio.chunks.encoding import DEFAULT_FRAME_SIZE, WriteOptions
from recordio.cli.app import common_options, program_name
from recordio.cli.bars import shown_progress
from recordio.cli.console import answer_console, print_json, printable, side_console
from recordio.cli.dry_run import Plan, make_plan
from recordio.cli.failures import DATA_PROBLEM, INTERRUPTED, from_source
from recordio.cli.sources import KINDS, open_source
from recordio.cli.values import Signature, Size, parse_metadata
from recordio.cli.verify_command import counted, print_report
from recordio.convert.report import ConversionReport
from recordio.format.codec import DEFAULT_LEVEL, MAX_LEVEL
from recordio.job_paths import JobPaths
from recordio.progress import format_duration, format_size
from recordio.storage import LOCAL
from recordio.values.signature_text import format_signature

_MAX_SKIPPED_SHOWN = 10

_FORMS = "\n".join(f"  {kind.form:<22} {kind.what}" for kind in KINDS)
_EPILOG = f"""\b
SRC is one of:
{_FORMS}

\b
Examples:
  recordio convert train.py:records data/train --shards 8
  recordio convert train.py:records data/train --dry-run
  recordio convert my.package:Photos data/p --workers 4 --processes --check
  recordio convert images.npz data/images --shard-size 256MiB --level 9
  recordio convert train.py:records data/out --signature '{{"x": float32[28]}}'

Signatures: dtype, dtype[28,28], ? for a dimension that varies, [...] for unknown rank, ? behind for what may be None,
in {{"key": ...}}, (tuples,) and [lists]. Data types are those of numpy, bfloat16, float8_*, str, bytes and msgpack.

\b
  {{"image": uint8[28,28], "words": str[?], "extra": msgpack, "opt": float32?}}

JSON: path, num_records, num_shards, num_resumed_shards, task, raw_size, stored_size, ratio, duration_s, element_spec,
signature, fingerprint, shards: [{{name, first_record, num_records, raw_size, stored_size, num_chunks}}],
skipped: [{{label, record, records, error}}], records being [start, stop) where a data set has lost them; with --check
also verify: as recordio verify. With --dry-run: source, path, signature, inferred, num_records, num_shards,
sample_records, sample_raw_size, sample_stored_size, ratio, raw_size, stored_size, there.
"""


@click.command(epilog=_EPILOG)
@click.argument("source", metavar="SRC")
@click.argument("path", metavar="OUT", type=click.Path())
@click.option("--signature", type=Signature(), metavar="TEXT|@FILE", help="Types of a record; inferred without it.")
@click.option("--shards", "num_shards", type=click.IntRange(min=1), metavar="N", help="Exactly so many shards.")
@click.option("--shard-size", type=Size(), metavar="SIZE", help="Raw bytes of a shard, such as 256MiB (the default).")
@click.option("--chunk-size", type=Size(), metavar="SIZE", help="Raw bytes of a chunk; 2MiB, or more of many columns.")
@click.option("--codec", type=click.Choice(["zstd", "none"]), default="zstd", show_default=True, help="Of frames.")
@click.option("--level", type=click.IntRange(1, MAX_LEVEL), default=DEFAULT_LEVEL, show_default=True, help="Of zstd.")
@click.option("--metadata", multiple=True, metavar="KEY=VALUE|JSON|@FILE", help="What the data set carries.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="How many produce records at once.")
@click.option("--processes/--threads", default=None, help="What the workers are; as the source says, or threads.")
@click.option("--resume", is_flag=True, help="Go on with an unfinished conversion; begin if there is none.")
@click.option("--overwrite", is_flag=True, help="Replace what is there, once the new data set is complete.")
@click.option("--on-error", type=click.Choice(["stop", "skip"]), default="stop", show_default=True,
              help="What to do with a record that does not fit.")  # fmt: skip
@click.option("--check", is_flag=True, help="Read everything back and check it after writing.")
@click.option("--dry-run", is_flag=True, help="Say what was understood and estimate the size; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
@common_options
@click.pass_context
def convert(
    ctx: click.Context, /, source: str, path: str, signature: Any, num_shards: int | None, shard_size: int | None,
    chunk_size: int | None, codec: Literal["zstd", "none"], level: int, metadata: tuple[str, ...], workers: int | None,
    processes: bool | None, resume: bool, overwrite: bool, on_error: Literal["stop", "skip"], check: bool,
    dry_run: bool, as_json: bool, quiet: bool, traceback: bool,
) -> int:  # fmt: skip
    """Write the records of SRC as a sharded data set in the directory OUT.

    The same source and options give the same bytes, however many workers there are. Interrupted with Ctrl-C, or killed,
    it keeps the finished shards and goes on from them with --resume; Ctrl-C again does not wait for workers.
    """
    if num_shards is not None and shard_size is not None:
        raise click.UsageError("--shards and --shard-size are both given\nGive one of them", ctx)
    if not path:
        raise click.UsageError("OUT is empty\nName the directory of the data set; '.' is the current one", ctx)
    carried = parse_metadata(metadata)
    opened = open_source(source, signature)
    if dry_run:
        options = WriteOptions(codec=codec, level=level, chunk_size=chunk_size, frame_size=DEFAULT_FRAME_SIZE)
        plan = make_plan(
            opened.source, opened.description, path, options=options, metadata=carried, num_shards=num_shards,
            shard_size=shard_size, on_error=on_error,
        )  # fmt: skip
        _print_plan(answer_console(), plan, as_json=as_json)
        return 0
    inferred = opened.source.signature is None
    try:
        with shown_progress(quiet=quiet) as progress:
            report = recordio.convert(
                opened.source, path, num_shards=num_shards, shard_size=shard_size, chunk_size=chunk_size, codec=codec,
                level=level, metadata=carried or None, workers=workers, use_multiprocessing=processes, resume=resume,
                overwrite=overwrite, on_error=on_error, progress=progress,
            )  # fmt: skip
    except SystemExit as error:
        # Let through, it would end the command with whatever status the source chose, and nothing written.
        ended = recordio.SourceError(
            f"the source ended the program: sys.exit({error.code!r})", path=path, advice="End the source with `return`"
        )
        for note in getattr(error, "__notes__", ()):
            ended.add_note(note)
        raise ended from error
    except OSError as error:
        if error.filename is None and not from_source(error):
            error.filename = path  # a write to a full disk does not say where
        raise
    except KeyboardInterrupt:
        _print_interrupted(side_console(), path, resume_command(list(ctx.obj or [])))
        _leave_stuck_threads()
        return INTERRUPTED
    return _finish(report, inferred=inferred, check=check, as_json=as_json, quiet=quiet)


def _finish(
    report: ConversionReport, *, inferred: bool, check: bool, as_json: bool, quiet: bool
) -> int:
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
        _print_done(console, report)
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
        look = f"{program_name()} inspect {shlex.quote(printable(report.path))}"
        side.print(Text(f"note: {look} shows it", style="dim"))
    return DATA_PROBLEM if verified is not None and not verified.ok else 0


def _print_done(console: Console, report: ConversionReport) -> None:
    line = Text.assemble((printable(report.path), "bold"), f": {counted(report.num_records, 'record')} in ")
    line.append(counted(report.num_shards, "shard"))
    if report.num_resumed_shards:
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
    else:
        line.append("; it was complete, and the source was not read", style="yellow")
    console.print(line)


def _print_plan(console: Console, plan: Plan, *, as_json: bool) -> None:
    if as_json:
        print_json(console, plan.to_dict())
        return
    about = "about " if plan.sample_records != plan.num_records else ""
    ratio = plan.sample_raw_size / max(1, plan.sample_stored_size)
    sample = f"{counted(plan.sample_records, 'record')}, {format_size(plan.sample_raw_size)} raw"
    per_record = plan.sample_raw_size / max(1, plan.sample_records)
    records, shards = (
        "known only at the end" if number is None else f"{about}{number:,}"
        for number in (plan.num_records, plan.num_shards)
    )
    facts = [
        ("source", plan.source),
        ("output", f"{plan.path}{'' if plan.there is None else f': {plan.there}'}"),
        ("signature", f"{plan.signature}{' (inferred)' if plan.inferred else ''}"),
        ("records", records),
        ("shards", f"{plan.num_shards:,}" if plan.exact_shards else shards),
        ("sample", f"{sample}, {format_size(per_record)} a record, ratio {ratio:.2f}"),
    ]
    if plan.raw_size is not None and plan.stored_size is not None:
        facts.append(("size", f"{about}{format_size(plan.raw_size)} raw, {format_size(plan.stored_size)} stored"))
    console.print(Text("dry run: nothing is written", style="bold"))
    console.print()
    for label, value in facts:
        console.print(Text.assemble((f"  {label:<11}", "dim"), printable(value)))


def _print_interrupted(console: Console, path: str, command: str) -> None:
    paths = JobPaths(LOCAL, path)
    finished = paths.num_finished()
    kept = "nothing was finished yet, nothing is kept"
    if finished:
        kept = f"{counted(finished, 'finished shard')} kept"
    elif LOCAL.exists(paths.spool):
        kept = "what was read is kept"
    console.print(Text.assemble(("interrupted", "bold yellow"), f": {kept}. To go on:"))
    console.print(Text(f"  {command}"))


def _leave_stuck_threads() -> None:
    """End at once where a second Ctrl-C came while a source, on a thread, would not give its next record.

    The interpreter would wait for that thread for ever. What is on disk is as after a kill: all finished shards.
    """
    stuck = [one for one in threading.enumerate() if one is not threading.main_thread() and not one.daemon]
    if stuck:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)


def resume_command(args: list[str]) -> str:
    """The command line that goes on with an interrupted one; `args` are what it was given."""
    if "--resume" not in args:
        # In front of what follows a "--", which would be taken for an argument.
        place = args.index("--") if "--" in args else len(args)
        args = [*args[:place], "--resume", *args[place:]]
    return shlex.join([*_program(), *args])


def _program() -> list[str]:
    """How this program can be called again, from the same directory."""
    called = sys.argv[0] if sys.argv else "recordio"
    name = os.path.basename(called)
    if name not in ("__main__.py", "-m"):
        found = shutil.which("recordio")
        return ["recordio" if found is not None and name == "recordio" and _same(found, called) else called]
    python = shutil.which("python")
    return ["python" if python is not None and _same(python, sys.executable) else sys.executable, "-m", "recordio"]


def _same(left: str, right: str) -> bool:
    return os.path.abspath(left) == os.path.abspath(right)
