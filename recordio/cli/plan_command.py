"""recordio plan: who reads what in an epoch of distributed training, at what cost, and how well it is mixed."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console
from rich.text import Text

from recordio.cli.app import common_options
from recordio.cli.bars import shown_progress
from recordio.cli.console import answer_console, print_json, print_table, printable
from recordio.cli.verify_command import counted
from recordio.distributed.options import AutoShardPolicy
from recordio.distributed.planning import ReadingPlan, plan_reading, shuffle_quality
from recordio.doors import open_dataset
from recordio.plan.quality import ShuffleQuality
from recordio.plan.splitting import REMAINDERS
from recordio.progress import format_size

_EPILOG = """\b
Examples:
  recordio plan data/train --pipelines 4 --batch 256
  recordio plan data/train --pipelines 4 --replicas 8 --batch 1024 --policy FILE
  recordio plan data/train --batch 256 --shuffle pooled --pool 10000 --shuffle-report --classes label
  recordio plan data/train --pipelines 2 --batch 64 --json | jq '.pipelines[].amplification'

JSON: path, num_records, num_shards, num_chunks, num_pipelines, num_replicas, batch_size, policy, remainder, epoch,
mode, lanes, window, steps, imbalance, idle_replicas, pipelines: [{pipeline, shards: [ordinal], chunks, records,
raw_size, decoded_size, stored_size, amplification, share, padding}]. With --shuffle-report also quality: {num_records,
batch_size, num_replicas, num_sources, num_classes, num_batches, batch_entropy, uniform_batch_entropy, replica_entropy,
uniform_replica_entropy, shards_per_batch, uniform_shards_per_batch, num_blocks, chi2_per_dof, same_source_next,
uniform_same_source_next}.

Sizes are bytes, entropies bits. Amplification is what is decoded over what is handed out; in stored order it is that of
whole frames of the largest column. With an exact shuffle each pipeline holds all that is in view.
"""


@click.command(epilog=_EPILOG)
@click.argument("path", type=click.Path())
@click.option("--batch", "batch_size", type=click.IntRange(min=1), required=True, help="Records of a global batch.")
@click.option("--pipelines", type=click.IntRange(min=1), default=1, show_default=True, help="Processes that read.")
@click.option("--replicas", type=click.IntRange(min=1), help="Model copies in all; one for each pipeline by default.")
@click.option(
    "--policy", type=click.Choice([one.name for one in AutoShardPolicy], case_sensitive=False), default="AUTO",
    show_default=True, help="How records are dealt out.",
)  # fmt: skip
@click.option("--remainder", type=click.Choice(REMAINDERS), help="What is done with steps that are not full.")
@click.option(
    "--shuffle", "mode", type=click.Choice(["auto", "exact", "pooled", "none"]), default="auto", show_default=True,
    help="The order.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the shuffle.")
@click.option("--pool", type=click.IntRange(min=1), help="Records that a pooled shuffle holds.")
@click.option("--epoch", type=click.IntRange(min=0), default=0, show_default=True, help="Which one.")
@click.option("--shuffle-report", is_flag=True, help="Measure how well the batches are mixed.")
@click.option("--classes", metavar="COLUMN", help="Measure classes by this column, not only shards.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with stable keys (below).")
@common_options
def plan(
    path: str, batch_size: int, pipelines: int, replicas: int | None, policy: str, remainder: Any, mode: Any,
    seed: int, pool: int | None, epoch: int, shuffle_report: bool, classes: str | None, as_json: bool, quiet: bool,
    traceback: bool,
) -> int:  # fmt: skip
    """Show who reads which shards and chunks in an epoch, how many steps there are, and what it costs.

    Everything follows from the index; no record is read, but for the column of --classes.
    """
    dataset = open_dataset(path)
    if mode != "none":
        dataset = dataset.shuffle(seed=seed, mode=mode, pool=pool)
    loader = dataset.batch(batch_size)
    with shown_progress(quiet=quiet) as progress:
        found = plan_reading(
            loader, pipelines, replicas, policy=policy, remainder=remainder, epoch=epoch, progress=progress
        )
    quality = None
    if shuffle_report or classes is not None:
        quality = shuffle_quality(loader, classes=classes, num_replicas=found.num_replicas, epoch=epoch)
    console = answer_console()
    if as_json:
        answer = found.to_map()
        if quality is not None:
            answer["quality"] = quality.to_map()
        print_json(console, answer)
        return 0
    _print_plan(console, found)
    if quality is not None:
        console.print()
        _print_quality(console, quality)
    return 0


def _print_plan(console: Console, found: ReadingPlan) -> None:
    order = "stored order" if found.mode == "none" else f"{found.mode} shuffle"
    if found.lanes is not None and found.window is not None:
        order += f", {counted(found.lanes, 'lane')}, windows of {counted(found.window, 'record')}"
    console.print(Text.assemble((printable(found.path), "bold"), f"  epoch {found.epoch}, {order}"))
    console.print()
    replicas = counted(found.num_replicas, "replica")
    where = f"{counted(found.num_shards, 'shard')}, {counted(found.num_chunks, 'chunk')}"
    facts = [
        ("records", f"{found.num_records:,} in {where}"),
        ("steps", f"{found.steps:,} of {found.batch_size:,} records, remainder {found.remainder}"),
        ("split", f"{found.policy} over {counted(found.num_pipelines, 'input pipeline')}, {replicas}"),
        ("imbalance", f"{found.imbalance:.3f}, the most bytes over the mean"),
    ]  # fmt: skip
    if found.idle_replicas:
        facts.append(("idle", f"{counted(found.idle_replicas, 'replica')} get no record"))
    for label, value in facts:
        console.print(Text.assemble((f"  {label:<12}", "dim"), value))
    console.print()
    rows = [
        [
            str(one.pipeline), _ordinals(one.shards), f"{len(one.shards):,}", f"{one.chunks:,}", f"{one.records:,}",
            format_size(one.stored_size), f"{one.share:.1%}", f"{one.amplification:.2f}", f"{one.padding:,}",
        ]
        for one in found.pipelines
    ]  # fmt: skip
    headers = ["pipeline", "shards", "files", "chunks", "records", "read", "of all", "amplification", "padding"]
    print_table(console, headers, rows, right=(0, 2, 3, 4, 5, 6, 7, 8), indent=2)


def _ordinals(shards: tuple[int, ...]) -> str:
    """Ordinals as ranges: "0-3, 7"; the first few of them."""
    ranges: list[list[int]] = []
    for shard in shards:
        if ranges and ranges[-1][1] == shard - 1:
            ranges[-1][1] = shard
        else:
            ranges.append([shard, shard])
    texts = [str(low) if low == high else f"{low}-{high}" for low, high in ranges]
    return ", ".join(texts[:6]) + (", ..." if len(texts) > 6 else "") or "-"


def _print_quality(console: Console, quality: ShuffleQuality) -> None:
    what = "shard" if quality.num_classes is None else "class"

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:,.3f}"

    rows = [
        [f"{what} entropy of a batch, bits", number(quality.batch_entropy), number(quality.uniform_batch_entropy)],
        ["distinct shards in it", number(quality.shards_per_batch), number(quality.uniform_shards_per_batch)],
        ["chi-square per degree of freedom", number(quality.chi2_per_dof), "1.000"],
        ["next record of the same shard", number(quality.same_source_next), number(quality.uniform_same_source_next)],
    ]  # fmt: skip
    if quality.replica_entropy is not None:
        row = [f"{what} entropy of a replica's part", number(quality.replica_entropy),
               number(quality.uniform_replica_entropy)]  # fmt: skip
        rows.insert(1, row)
    headers = ["how well it is mixed", "this order", "perfect"]
    print_table(console, headers, rows, right=(1, 2), indent=2)
