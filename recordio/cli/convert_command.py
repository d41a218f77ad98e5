"""recordio convert: a source becomes a data set; interrupted, it says how to go on.

What is printed of it afterwards is in `recordio.cli.conversion_report`, where else than here it can run in
`recordio.cli.engines`.
"""

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
from recordio.chunks.encoding import DEFAULT_FRAME_SIZE, WriteOptions
from recordio.cli.app import common_options
from recordio.cli.bars import shown_progress
from recordio.cli.console import answer_console, print_json, printable, side_console
from recordio.cli.conversion_report import show_report
from recordio.cli.dry_run import Plan, make_plan
from recordio.cli.engines import ENGINES, check_engine, opened_engine
from recordio.cli.failures import INTERRUPTED, from_source
from recordio.cli.sources import KINDS, open_source
from recordio.cli.values import Signature, Size, Task, parse_metadata
from recordio.cli.verify_command import counted
from recordio.format.codec import DEFAULT_LEVEL, MAX_LEVEL
from recordio.job_paths import JobPaths
from recordio.progress import format_size
from recordio.storage import LOCAL

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
  recordio convert train.py:in_shards data/big --shards 64 \\
    --engine dask --address tcp://host:8786
  recordio convert train.py:in_shards data/big --shards 64 --task 3/16

On a cluster, OUT is a directory that every machine sees under the same path, and the source must be one that can be
cut: a generator function with parameters shard and num_shards, a PyDataset, arrays, a data set. With --engine dask, the
script named in SRC is sent along; what it imports must be installed on the workers, or lie beside it there. Without any
engine, --task i/N writes share i of the shards, i from 0 to N - 1; the N tasks run on any machines, at once or in any
order, and a task that is run again writes what is missing of its share. `recordio index OUT --merge` completes the data
set. The bytes are always those of one machine. With Slurm:

\b
  sbatch --array=0-15 --wrap 'recordio convert train.py:in_shards data/big \\
    --shards 64 --task $SLURM_ARRAY_TASK_ID/16'
  recordio index data/big --merge

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
@click.option("--engine", type=click.Choice(ENGINES), default="local", show_default=True,
              help="Where shards are written: here, or on the workers of a cluster.")  # fmt: skip
@click.option("--address", metavar="URL", help="Of the scheduler, for --engine dask: tcp://host:8786.")
@click.option("--task", type=Task(), metavar="i/N", help="Write only share i of N, and no index.")
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
    processes: bool | None, engine: str, address: str | None, task: tuple[int, int] | None, resume: bool,
    overwrite: bool, on_error: Literal["stop", "skip"], check: bool, dry_run: bool, as_json: bool, quiet: bool,
    traceback: bool,
) -> int:  # fmt: skip
    """Write the records of SRC as a sharded data set in the directory OUT.

    The same source and options give the same bytes, however many workers there are. Interrupted with Ctrl-C, or killed,
    it keeps the finished shards and goes on from them with --resume; Ctrl-C again does not wait for workers.
    """
    if num_shards is not None and shard_size is not None:
        raise click.UsageError("--shards and --shard-size are both given\nGive one of them", ctx)
    if not path:
        raise click.UsageError("OUT is empty\nName the directory of the data set; '.' is the current one", ctx)
    check_engine(ctx, engine, address, local=workers is not None or processes is not None)
    if task is not None:
        _check_task(ctx, sized=num_shards is not None or shard_size is not None, engine=engine, check=check)
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
        with opened_engine(engine, address, quiet=quiet) as executor, shown_progress(quiet=quiet) as progress:
            report = recordio.convert(
                opened.source, path, num_shards=num_shards, shard_size=shard_size, chunk_size=chunk_size, codec=codec,
                level=level, metadata=carried or None, workers=workers, use_multiprocessing=processes,
                executor=executor, task=task, resume=resume, overwrite=overwrite, on_error=on_error, progress=progress,
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
        given = list(ctx.obj or [])
        _print_interrupted(side_console(), path, resume_command(given) if task is None else again_command(given))
        _leave_stuck_threads()
        return INTERRUPTED
    return show_report(report, inferred=inferred, check=check, as_json=as_json, quiet=quiet)


def _check_task(ctx: click.Context, *, sized: bool, engine: str, check: bool) -> None:
    if not sized:
        raise click.UsageError("--task is given without a number of shards\nGive the same --shards to every task", ctx)
    if engine != "local":
        both = f"--task and --engine {engine} are both given"
        raise click.UsageError(f"{both}\nGive one of them: tasks need no engine", ctx)
    if check:
        raise click.UsageError(
            "--check reads a whole data set, and a task writes a part of one\n"
            "Check when all tasks have ended: recordio index OUT --merge --check", ctx,
        )  # fmt: skip


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
    return again_command(args)


def again_command(args: list[str]) -> str:
    """The command line itself, to be given once more."""
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
