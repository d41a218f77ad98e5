"""recordio inspect: what a data set, an index or a shard is, and what it holds."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from recordio.checks.column_summary import ColumnSummary
from recordio.checks.inspected import ColumnInspection, Inspection, json_ready
from recordio.checks.inspection import inspect as inspect_path
from recordio.checks.verification import verify as verify_path
from recordio.cli.app import common_options
from recordio.cli.bars import shown_progress
from recordio.cli.console import answer_console, print_json, print_table, printable, side_console
from recordio.cli.failures import DATA_PROBLEM, UNFINISHED, print_error, where_of
from recordio.cli.verify_command import counted, print_report
from recordio.progress import format_size

_EXCERPT_WIDTH = 48
_METADATA_WIDTH = 72
_STATE_STYLES = {"complete": "green", "incomplete": "bold red", "torn": "bold red", "unfinished": "yellow"}

_EPILOG = """\b
Examples:
  recordio inspect data/train
  recordio inspect data/train --stats --column label
  recordio inspect data/train/shard-00003-5e0c7f3a.rio --chunks
  recordio inspect data/a --json | jq -r .signature > a.txt
  recordio convert other.py:records data/b --signature @a.txt

JSON: path, kind (data set, shard, index), state (complete, incomplete, unfinished, torn), resumable, writer,
format_version, num_records, num_shards, num_finished_shards, num_chunks, raw_size, stored_size, ratio, fingerprint,
signature, metadata, options, exact_sizes, exact_values, notes: [text], columns: [{name, type, dtype, shape, optional,
codecs, raw_size, stored_size, ratio, values: {num_rows, num_none, num_nan, min, max, mean, std, lengths: {min, max,
mean}, excerpt}}], problems: as the damages of recordio verify. With --shards, --chunks, --verify also shards: [{shard,
name, first_record, num_records, num_chunks, raw_size, stored_size, ratio, digest, state}], chunks: [{shard, chunk,
offset, first_record, num_records, raw_size, stored_size, ratio}], verify: as recordio verify.

Sizes are bytes. A column's sizes are scaled up from some chunks unless exact_sizes, its values are a sample unless
exact_values: both are exact with --stats.
"""


@click.command(epilog=_EPILOG)
@click.argument("path", type=click.Path())
@click.option("--column", "columns", multiple=True, metavar="NAME", help="Only this column; may be given again.")
@click.option("--shards", is_flag=True, help="List the shards.")
@click.option("--chunks", is_flag=True, help="List the chunks.")
@click.option("--stats", is_flag=True, help="Read all values: exact sizes, least, largest, mean, deviation.")
@click.option("--verify", "also_verify", is_flag=True, help="Check every byte too, as `recordio verify` does.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with stable keys (below).")
@common_options
def inspect(
    path: str, columns: tuple[str, ...], shards: bool, chunks: bool, stats: bool, also_verify: bool, as_json: bool,
    quiet: bool, traceback: bool,
) -> int:  # fmt: skip
    """Show what a data set, finished or not, an index or a shard holds.

    Reads the index, a few directories and a few frames; --stats and --verify read everything. Exit status 1 if
    something is damaged or missing, 5 if it is unfinished and can be gone on with.
    """
    with shown_progress(quiet=quiet or not stats) as progress:
        found = inspect_path(path, columns=columns or None, stats=stats, progress=progress)
    report = None
    if also_verify and found.state in ("complete", "incomplete", "torn") and found.schema is not None:
        with shown_progress(quiet=quiet) as progress:
            report = verify_path(path, progress=progress)
    console = answer_console()
    if as_json:
        answer = found.to_dict(shards=shards, chunks=chunks)
        if also_verify:
            answer["verify"] = None if report is None else report.to_dict()
        print_json(console, answer)
    else:
        _print(console, found)
        if shards and found.shards:
            console.print()
            _print_shards(console, found)
        if chunks and found.num_chunks:
            console.print()
            _print_chunks(console, found)
        if report is not None:
            console.print()
            print_report(console, report)
    _print_problems(found, quiet=quiet)
    if found.state == "unfinished":
        return UNFINISHED if found.resumable else DATA_PROBLEM
    return DATA_PROBLEM if found.problems or (report is not None and not report.ok) else 0


def _print(console: Console, found: Inspection) -> None:
    title = Text.assemble((printable(found.path), "bold"), f"  {found.kind}, ")
    title.append(found.state, style=_STATE_STYLES[found.state])
    if found.writer is not None:
        title.append(f", {printable(found.writer)} is writing", style="yellow")
    console.print(title)
    console.print()
    for pair in _facts(found):
        line = Text("  ")
        for place, (label, value) in enumerate(pair):
            line.append(f"{label:<12}", style="dim")
            line.append(value if place == len(pair) - 1 else f"{value:<16}")
        console.print(line)
    if found.columns:
        console.print()
        _print_columns(console, found)


def _facts(found: Inspection) -> list[list[tuple[str, str]]]:
    """Label and value, one or two to a line."""

    def number(value: int | None) -> str:
        return "?" if value is None else f"{value:,}"

    if found.state == "unfinished":
        shards = f"{number(found.num_finished_shards)} finished"
        facts = [[("shards", shards + (f" of {found.num_shards:,}" if found.num_shards is not None else ""))]]
    elif found.state == "torn":
        stored = "?" if found.stored_size is None else format_size(found.stored_size)
        facts = [
            [("whole chunks", number(found.num_chunks)), ("records", number(found.num_records))],
            [("file size", stored)],
        ]
    elif found.raw_size is None or found.stored_size is None:
        facts = [[("shards", number(found.num_shards))]]
    else:
        ratio = "" if found.ratio is None else f"{found.ratio:.2f}"
        facts = [
            [("records", number(found.num_records)), ("raw size", format_size(found.raw_size))],
            [("shards", number(found.num_shards)), ("stored size", format_size(found.stored_size))],
            [("chunks", number(found.num_chunks)), ("ratio", ratio)],
        ]
    if found.options:
        facts.append([("options", printable(_options(found.options)))])
    if found.metadata:
        text = json.dumps(json_ready(found.metadata), ensure_ascii=False)
        facts.append([("metadata", printable(text, _METADATA_WIDTH))])
    if found.fingerprint is not None:
        facts.append([("fingerprint", f"{found.fingerprint}, format {found.format_version}")])
    return facts


def _options(options: dict[str, Any]) -> str:
    codec = str(options.get("codec", "?"))
    if "level" in options:
        codec += f" level {options['level']}"
    kinds = [what for what in ("chunk", "frame") if f"{what}_size" in options]
    sizes = [f"{what}s of {_binary(options[f'{what}_size'])}" for what in kinds]
    return ", ".join([codec, *sizes])


def _binary(size: Any) -> str:
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if isinstance(size, int) and size >= factor and size % factor == 0:
            return f"{size // factor} {unit}"
    return f"{size:,} B" if isinstance(size, int) else str(size)


def _print_columns(console: Console, found: Inspection) -> None:
    if all(column.stored_size is None for column in found.columns):
        rows = [[printable(column.name, 40), column.type] for column in found.columns]
        print_table(console, ["column", "type"], rows, indent=2)
        return
    about = "" if found.exact_sizes else "~"
    num_rows = max((column.summary.num_rows for column in found.columns if column.summary is not None), default=0)
    what = f"values of {'all' if found.exact_values else 'a sample of'} {counted(num_rows, 'record')}"
    rows_of_text: list[list[str | Text]] = [
        [
            printable(column.name, 40), column.type, ", ".join(column.codecs) or "-", _size(column.stored_size, about),
            _size(column.raw_size, about), "-" if column.ratio is None else f"{column.ratio:.2f}", _values(column),
        ]
        for column in found.columns
    ]  # fmt: skip
    headers = ["column", "type", "codec", "stored", "raw", "ratio", what]
    print_table(console, headers, rows_of_text, right=(3, 4, 5), indent=2)


def _size(size: int | None, about: str) -> str:
    return "?" if size is None else about + format_size(size)


def _values(column: ColumnInspection) -> Text:
    """Least, largest and mean, or lengths and an excerpt."""
    values = column.summary
    if values is None or not values.num_rows:
        return Text("-", style="dim")
    parts = []
    if values.minimum is not None:
        parts.append(f"{_shown(values.minimum)} to {_shown(values.maximum)}")
    if values.mean is not None:
        parts.append(f"mean {_shown(values.mean)}" + (f" ± {_shown(values.std)}" if values.std is not None else ""))
    if values.num_nan:
        parts.append(f"{values.num_nan:,} NaN")
    if values.lengths is not None:
        least, largest = values.lengths.minimum, values.lengths.maximum
        span = f"{least:,}" if least == largest else f"{least:,} to {largest:,}"
        string_like = column.dtype in ("str", "bytes", "msgpack")
        parts.append(f"{span} {'bytes' if string_like else 'elements'}")
    if values.num_none:
        parts.append(f"{_share(values)} None")
    text = Text(", ".join(parts))
    if values.minimum is None and values.excerpt is not None:
        quoted = printable(values.excerpt, _EXCERPT_WIDTH)
        is_text = column.dtype == "str" and column.shape == ()
        text = Text(f'"{quoted}"  {text.plain}' if is_text else f"{quoted}  {text.plain}")
    return text


def _share(values: ColumnSummary) -> str:
    return f"{values.num_none / values.num_rows:.0%}" if values.num_none < values.num_rows else "all"


def _shown(value: int | float | None) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 10**15 else f"{value:.4g}"
    return "?" if value is None else f"{value:.4g}"


def _print_shards(console: Console, found: Inspection) -> None:
    # The ordinal is in the name of the file; with the ratio it would be more than 80 columns.
    headers = ["file", "first", "records", "chunks", "raw", "stored", "state"]
    rows: list[list[str | Text]] = [
        [
            printable(shard.name), f"{shard.first_record:,}", f"{shard.num_records:,}", f"{shard.num_chunks:,}",
            format_size(shard.raw_size), format_size(shard.stored_size),
            Text(shard.state, style="" if shard.state == "ok" else "bold red"),
        ]
        for shard in found.shards
    ]  # fmt: skip
    print_table(console, headers, rows, right=(1, 2, 3, 4, 5), middle=0, indent=2)


def _print_chunks(console: Console, found: Inspection) -> None:
    headers = ["shard", "chunk", "offset", "first", "records", "raw", "stored", "ratio"]
    # The largest that each can be; a chunk is never looked at twice.
    largest_shard, records = max((shard.stored_size for shard in found.shards), default=0), found.num_records or 0
    largest = ("shard", found.num_chunks or 0, largest_shard, records, records, "999.9 MB", "999.9 MB", "999.99")
    widths = [
        max(len(header), len(value if isinstance(value, str) else f"{value:,}"))
        for header, value in zip(headers, largest, strict=True)
    ]
    rows = (
        [
            str(chunk.shard), f"{chunk.chunk:,}", f"{chunk.offset:,}", f"{chunk.first_record:,}",
            f"{chunk.num_records:,}", format_size(chunk.raw_size), format_size(chunk.stored_size),
            f"{chunk.raw_size / chunk.stored_size:.2f}",
        ]
        for chunk in found.chunks()
    )  # fmt: skip
    print_table(console, headers, rows, right=range(8), widths=widths, indent=2)


def _print_problems(found: Inspection, *, quiet: bool) -> None:
    side = side_console()
    if found.problems and side.is_terminal:
        side.print()
    for problem in found.problems:
        print_error(side, problem.message, where=where_of(problem), advice=problem.advice)
    if quiet:
        return
    if found.problems and found.state != "unfinished":
        side.print(Text(f"  recordio verify {printable(found.path)} names every damaged place", style="dim"))
    for note in found.notes:
        side.print(Text(f"note: {printable(note)}", style="dim"))
    if found.state == "unfinished" and found.resumable and found.writer is None:
        side.print(Text("note: go on with it: the same `recordio convert` command with --resume", style="dim"))
