"""recordio index: the index of shards that are there already."""

from __future__ import annotations

import click

import recordio
from recordio.cli.app import common_options
from recordio.cli.conversion_report import show_report

_EPILOG = """\b
Examples:
  recordio convert train.py:in_shards data/big --shards 64 --task 0/2
  recordio convert train.py:in_shards data/big --shards 64 --task 1/2
  recordio index data/big --merge

Shards that are missing are named, with the tasks that write them (exit status 5); so are tasks that still run (3),
and shards that are there twice or are of another conversion (1). Then nothing is changed. Where all has been merged
before, nothing is left to do (0).

JSON: path, num_records, num_shards, num_resumed_shards, task, raw_size, stored_size, ratio, duration_s, element_spec,
signature, fingerprint, shards: [{name, first_record, num_records, raw_size, stored_size, num_chunks}],
skipped: [{label, record, records, error}]; with --check also verify: as recordio verify.
"""


@click.command(epilog=_EPILOG)
@click.argument("path", metavar="OUT", type=click.Path())
@click.option("--merge", is_flag=True, help="Complete what `recordio convert ... --task i/N` has written.")
@click.option("--check", is_flag=True, help="Read everything back and check it.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
@common_options
@click.pass_context
def index(
    ctx: click.Context, /, path: str, merge: bool, check: bool, as_json: bool, quiet: bool, traceback: bool
) -> int:
    """Write the index of a data set whose shards are there.

    With --merge: checks that every shard of the conversion is there exactly once, complete and of the same
    conversion, and writes the index last, by renaming it into place.
    """
    if not merge:
        raise click.UsageError("what is to be done is not said\nGive --merge when the tasks have ended", ctx)
    if not path:
        raise click.UsageError("OUT is empty\nName the directory of the data set; '.' is the current one", ctx)
    try:
        report = recordio.merge_shards(path)
    except OSError as error:
        if error.filename is None:
            error.filename = path
        raise
    return show_report(report, check=check, as_json=as_json, quiet=quiet, merged=True)
