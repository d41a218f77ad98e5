"""How time and memory grow with the data set: 10 and 100 times as many records, chunks and shards.

    records    in 8 shards, in chunks of the usual size
    chunks     a million records, in more and more of them
    shards     a million records, in more and more files
    index      an index alone, of up to a billion records in a million chunks, whose shards would not fit here

Everything is measured in a process of its own for each point. Nothing may grow faster than the data set; what comes
before the first batch should hardly grow at all.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FACTORS = (1, 10, 100)
STEEPEST = 1.25  # of linear growth: the machine is shared
_BATCH_SIZE = 256
_REPEATS = 5
_INDEX_CHUNKS, _CHUNK_RECORDS = 1000, 1000  # of a shard, of a chunk

UNITS = {
    "write": "s", "open": "s", "first batch": "s", "first shuffled batch": "s", "plan of a shuffled batch": "s",
    "resume at 90 %": "s", "epoch in order": "s", "shuffled epoch": "s", "peak memory": "bytes",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A data set on one of the axes.

    Attributes:
        factor: how many times as large as the first one of its axis.
        chunk_size: raw bytes; None: as usual.
    """

    axis: str
    factor: int
    num_records: int
    num_shards: int
    chunk_size: int | None = None

    def what(self) -> str:
        """In words, for the table."""
        count = {"records": self.num_records, "index": self.num_records, "shards": self.num_shards}
        amount = count.get(self.axis, 100 * self.factor)
        return f"{amount:,} {'records (index alone)' if self.axis == 'index' else self.axis}"


def all_points(share: float) -> Iterator[Point]:
    """The points, smallest first; `share` of the records of a full run."""
    million = max(10_000, int(1_000_000 * share))
    for factor in FACTORS:
        yield Point(axis="records", factor=factor, num_records=million // 20 * factor, num_shards=8)
    for factor in FACTORS:
        size = max(1, 16 * million // (100 * factor))
        yield Point(axis="chunks", factor=factor, num_records=million, num_shards=4, chunk_size=size)
    for factor in FACTORS:
        yield Point(axis="shards", factor=factor, num_records=million, num_shards=10 * factor)
    for factor in FACTORS:
        shards = 10 * factor
        yield Point(
            axis="index", factor=factor, num_records=shards * _INDEX_CHUNKS * _CHUNK_RECORDS, num_shards=shards
        )


def measure(point: Point, path: str) -> dict[str, Any]:
    """Seconds and bytes of one point, in this process; the data set is removed again."""
    try:
        found = _measure_index(point, path) if point.axis == "index" else _measure_files(point, path)
    finally:
        shutil.rmtree(path, ignore_errors=True)
    return {**asdict(point), "found": {**found, "peak memory": float(_peak())}}


def _measure_files(point: Point, path: str) -> dict[str, float]:
    import numpy as np

    import recordio

    spec = {"x": recordio.TensorSpec((2,), "int32"), "id": recordio.TensorSpec((), "int64")}
    found: dict[str, float] = {}

    def write() -> None:
        size = 1 << 16
        with recordio.Writer(path, spec, num_shards=point.num_shards, chunk_size=point.chunk_size) as writer:
            for start in range(0, point.num_records, size):
                ids = np.arange(start, min(start + size, point.num_records))
                writer.write_batch({"id": ids, "x": np.stack([ids % 1009, ids * 7919 % 65_537], 1).astype(np.int32)})

    found["write"] = _seconds(write)
    _forget_peak()
    found["open"] = _median(lambda: recordio.open(path))

    def first(shuffles: bool, consumed: int = 0) -> None:
        dataset = recordio.open(path)
        loader = (dataset.shuffle(seed=1) if shuffles else dataset).batch(_BATCH_SIZE)
        if consumed:
            loader.load_state_dict({**loader.state_dict(), "consumed": consumed})
        iterator = iter(loader)
        next(iterator)
        iterator.close()

    found["first batch"] = _median(lambda: first(False))
    found["first shuffled batch"] = _median(lambda: first(True))
    found["resume at 90 %"] = _median(lambda: first(True, point.num_records * 9 // 10))

    def epoch(shuffles: bool) -> None:
        dataset = recordio.open(path)
        loader = (dataset.shuffle(seed=1) if shuffles else dataset).batch(_BATCH_SIZE)
        total = sum([int(batch["id"].sum()) for batch in loader])
        if total != point.num_records * (point.num_records - 1) // 2:
            raise ValueError("an epoch that does not deliver every record once")

    found["epoch in order"] = _median(lambda: epoch(False), 2)
    found["shuffled epoch"] = _median(lambda: epoch(True), 2)
    return found


def _measure_index(point: Point, path: str) -> dict[str, float]:
    import numpy as np

    import recordio

    _write_index(point, path)
    _forget_peak()
    found = {"open": _median(lambda: recordio.open(path))}

    def plan() -> None:
        loader = recordio.open(path).shuffle(seed=1).batch(_BATCH_SIZE)
        if len(loader) != -(-point.num_records // _BATCH_SIZE):
            raise ValueError("another number of steps")
        share = loader.recipe.whole
        for position in (0, point.num_records * 9 // 10):
            share.want(3, np.arange(position, position + _BATCH_SIZE))

    found["plan of a shuffled batch"] = _median(plan)
    return found


def _write_index(point: Point, path: str) -> None:
    """What a writer would leave, without the shards."""
    from recordio import TensorSpec
    from recordio.format.checksum import crc
    from recordio.format.footer import ChunkEntry, encode_metadata, make_footer
    from recordio.format.index import ShardEntry, encode_index, shard_name
    from recordio.schema import Schema

    schema, metadata = Schema.from_signature({"id": TensorSpec((), "int64")}).encode(), encode_metadata({}, {})
    chunks = [ChunkEntry(4096, 8 * _CHUNK_RECORDS, _CHUNK_RECORDS, 64, 1)] * _INDEX_CHUNKS
    shards, tables = [], []
    for shard_id in range(point.num_shards):
        file_id = shard_id.to_bytes(16, "little")
        last = shard_id == point.num_shards - 1
        footer = make_footer(
            file_id=file_id, schema=schema, shard_id=shard_id, last=last, chunks=chunks, metadata=metadata
        )
        tables.append(footer.chunk_table)
        shards.append(
            ShardEntry(
                name=shard_name(shard_id, footer.digest), file_id=file_id, digest=footer.digest, file_size=1 << 23,
                num_records=footer.num_records, raw_size=footer.raw_size, num_chunks=footer.num_chunks,
                table_crc=crc(footer.chunk_table),
            )
        )  # fmt: skip
    os.makedirs(path)
    Path(path, "index.rix").write_bytes(
        encode_index(schema=schema, metadata=metadata, shards=shards, chunk_tables=tables)
    )


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _median(run: Callable[[], object], repeats: int = _REPEATS) -> float:
    """After one that is not counted."""
    run()
    return statistics.median(_seconds(run) for _ in range(repeats))


def _forget_peak() -> None:
    """From here on, the peak is that of reading (proc(5), clear_refs)."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) << 10


# ---- the report ----


def growths(points: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str, list[float]]]:
    """Axis, measure, and how many times as much each point takes as the first one of its axis."""
    axes = list(dict.fromkeys(point["axis"] for point in points))
    for axis in axes:
        own = [point["found"] for point in points if point["axis"] == axis and "found" in point]
        for name in UNITS:
            values = [found[name] for found in own if name in found]
            if len(values) > 1:
                yield axis, name, [value / values[0] for value in values]


def steeper_than_linear(points: Sequence[dict[str, Any]]) -> list[str]:
    """What grows faster than the data set does."""
    return [
        f"{name} by {axis}: {grown[-1]:.0f} times"
        for axis, name, grown in growths(points)
        if grown[-1] > STEEPEST * FACTORS[len(grown) - 1]
    ]


def section(points: Sequence[dict[str, Any]], plot: str | None) -> list[str]:
    """As Markdown: what each measure takes at 10 and 100 times the size, of what it takes at the first."""
    lines = ["## Scaling", "", *([f"![How time and memory grow with the data set]({plot})", ""] if plot else [])]
    lines += [
        "How many times as much as with the smallest data set of the table; "
        "memory is that of reading. The first shuffled batch of what fits its pool decodes all of it, and so grows "
        "with the data set until the pool is full:",
        "",
    ]
    for axis in dict.fromkeys(point["axis"] for point in points):
        own = [Point(**{k: v for k, v in point.items() if k not in ("found", "error")}) for point in points]
        titles = [point.what() for point in own if point.axis == axis]
        lines += [f"| | {' | '.join(titles)} |", f"|---|{'---|' * len(titles)}"]
        for of_axis, name, grown in growths(points):
            if of_axis == axis:
                lines.append(f"| {name} | {' | '.join(f'{value:.1f}' for value in grown)} |")
        lines.append("")
    steep = steeper_than_linear(points)
    lines.append("Faster than the data set grows: " + ("; ".join(steep) if steep else "nothing") + ".")
    failed = [f"{point['axis']} × {point['factor']}: {point['error']}" for point in points if "error" in point]
    return [*lines, *(["", "Not measured: " + "; ".join(failed)] if failed else []), ""]


def draw(points: Sequence[dict[str, Any]], path: str) -> None:
    """The plot, as SVG: a panel an axis, both scales logarithmic."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "recordio"  # the same numbers give the same file
    from matplotlib import pyplot as plt

    axes = list(dict.fromkeys(axis for axis, _, _ in growths(points)))
    figure, panels = plt.subplots(1, len(axes), figsize=(4 * len(axes), 4), sharey=True, squeeze=False)
    colors = dict(zip(UNITS, mpl.colormaps["tab10"].colors, strict=False))
    for panel, axis in zip(panels[0], axes, strict=True):
        for of_axis, name, grown in growths(points):
            if of_axis == axis:
                panel.loglog(FACTORS[: len(grown)], grown, marker="o", label=name, color=colors[name])
        panel.loglog(FACTORS, FACTORS, color="gray", linestyle=":", label="linear")
        panel.set_title(axis)
        panel.set_xlabel("times as many")
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("times as much")
    handles = {label: handle for panel in panels[0] for handle, label in zip(*panel.get_legend_handles_labels())}
    figure.legend(handles.values(), handles.keys(), loc="lower center", ncol=5, frameon=False)
    figure.tight_layout(rect=(0, 0.14, 1, 1))
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    """One point, or with two arguments the plot of those on standard input."""
    if sys.argv[1] == "draw":
        draw(json.load(sys.stdin), sys.argv[2])
        return
    request = json.loads(sys.argv[1])
    print(json.dumps(measure(Point(**request["point"]), request["path"])))


if __name__ == "__main__":
    main()
