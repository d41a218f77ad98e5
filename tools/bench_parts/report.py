"""The report: ratios of one run as Markdown, and which targets they reach.

Every number is how many times as fast (or as small) ours is as the peer, on the same records in the same run: above 1
is ours ahead. Speeds are medians of the repeats of a cell.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench_parts.environments import versions
from bench_parts.peers import Peer

OWN = {"compressed": "recordio", "raw": "recordio, raw"}
RECORD_BY_RECORD = ("TFRecord", "ArrayRecord", "MosaicML MDS", "WebDataset")
LARGE_RECORDS = ("large_images", "jpeg", "multimodal", "tokens")
LIMITS = ("numpy memmap",)  # no peer, but what the machine can do


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of thought: a measure, and which of its numbers.

    Attributes:
        value: of a result; smaller is better.
    """

    title: str
    measure: str
    threads: int
    value: Callable[[dict[str, Any]], float]


def _median(found: dict[str, Any]) -> float:
    return float(statistics.median(found["seconds"]))


def _of_pass(name: str, percentile: str) -> Callable[[dict[str, Any]], float]:
    def value(found: dict[str, Any]) -> float:
        number: float = found[name][percentile]
        return number

    return value


FIGURES = (
    Figure(title="Epoch in order, 1 thread", measure="in_order", threads=1, value=_median),
    Figure(title="Epoch in order, 2 threads", measure="in_order", threads=2, value=_median),
    Figure(title="Shuffled epoch, 1 thread", measure="shuffled", threads=1, value=_median),
    Figure(title="Shuffled epoch, 2 threads", measure="shuffled", threads=2, value=_median),
    Figure(title="Label column alone, in order", measure="project", threads=1, value=_median),
    Figure(title="Random batches of 256", measure="random_batches", threads=1, value=_median),
    Figure(title="Single records, first pass, p50", measure="singles", threads=1, value=_of_pass("first", "p50")),
    Figure(title="Single records, first pass, p99", measure="singles", threads=1, value=_of_pass("first", "p99")),
    Figure(title="Single records, second pass, p50", measure="singles", threads=1, value=_of_pass("second", "p50")),
    Figure(title="Single records, second pass, p99", measure="singles", threads=1, value=_of_pass("second", "p99")),
    Figure(
        title="Single records, cold page cache, p50", measure="singles_cold", threads=1, value=_of_pass("first", "p50")
    ),
    Figure(
        title="Single records, cold page cache, p99", measure="singles_cold", threads=1, value=_of_pass("first", "p99")
    ),
    Figure(title="Write from arrays, 1 thread", measure="write", threads=1, value=_median),
    Figure(title="Write from arrays, 2 threads", measure="write", threads=2, value=_median),
    Figure(title="Write record by record", measure="write_records", threads=1, value=_median),
    Figure(title="Process start to first batch", measure="first_batch", threads=1, value=_median),
    Figure(title="Open 1,024 shards and read a record", measure="open", threads=1, value=_median),
    Figure(title="Resume at 90 % of a shuffled epoch", measure="resume", threads=1, value=_median),
    Figure(title="Peak memory of a shuffled epoch", measure="memory", threads=1, value=lambda found: found["peak"]),
    Figure(title="Size of the files", measure="write", threads=1, value=lambda found: found["bytes"]),
)


class Results:
    """All cells of one run."""

    def __init__(self, results: Sequence[dict[str, Any]], peers: Sequence[Peer]) -> None:
        self.results = results
        self.peers = peers
        self._found = {(r["workload"], r["peer"], r["measure"], r["threads"]): r for r in results}
        self.workloads = list(dict.fromkeys(result["workload"] for result in results))

    def value(self, figure: Figure, workload: str, peer: str) -> float | None:
        """None: not measured, not possible, or failed."""
        found = self._found.get((workload, peer, figure.measure, figure.threads))
        if found is None or "error" in found or "missing" in found:
            return None
        return figure.value(found)

    def ratio(self, figure: Figure, workload: str, peer: str, own: str) -> float | None:
        """How many times as good ours is."""
        ours, theirs = (self.value(figure, workload, name) for name in (own, peer))
        return None if ours is None or theirs is None else theirs / ours

    def failures(self) -> Iterator[str]:
        """What could not be measured, and why."""
        for result in self.results:
            if "error" in result:
                yield (
                    f"{result['peer']}, {result['workload']}, {result['measure']}, {result['threads']} threads: "
                    f"{result['error'][:200]}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What we want to reach against some peers, workload by workload.

    Attributes:
        kind: which of ours; compressed or raw.
        peers: that count.
        least: the ratio to reach, by workload.
    """

    what: str
    titles: tuple[str, ...]
    kind: str = "compressed"
    peers: Callable[[Peer], bool]
    least: Callable[[str], float]


def _is_compressed(peer: Peer) -> bool:
    return peer.kind == "compressed"


def _copies(peer: Peer) -> bool:
    return peer.kind == "raw" and peer.name not in LIMITS


def _is_named(*names: str) -> Callable[[Peer], bool]:
    return lambda peer: peer.name.startswith(names)


def _always(least: float) -> Callable[[str], float]:
    return lambda workload: least


_EPOCHS = tuple(figure.title for figure in FIGURES if figure.measure in ("in_order", "shuffled"))
_SHUFFLED = tuple(figure.title for figure in FIGURES if figure.measure == "shuffled")
TARGETS = (
    Target(what="epochs, best compressing peer", titles=_EPOCHS, peers=_is_compressed, least=_always(1.0)),
    Target(
        what="epochs, formats that go record by record", titles=_EPOCHS, peers=_is_named(*RECORD_BY_RECORD),
        least=lambda workload: 2.0 if workload in LARGE_RECORDS else 5.0,
    ),
    Target(what="size, smallest peer", titles=("Size of the files",), peers=_is_compressed, least=_always(1 / 1.05)),
    Target(
        what="write from arrays, fastest compressing peer", peers=_is_compressed, least=_always(1.0),
        titles=("Write from arrays, 1 thread", "Write from arrays, 2 threads"),
    ),
    Target(
        what="write record by record, TFRecord", titles=("Write record by record",), peers=_is_named("TFRecord + "),
        least=_always(2.0),
    ),
    Target(what="random batches", titles=("Random batches of 256",), peers=_is_compressed, least=_always(1.5)),
    Target(
        what="single records, ArrayRecord + Grain", titles=("Single records, first pass, p50",),
        peers=_is_named("ArrayRecord"), least=_always(1.0),
    ),
    Target(
        what="single records again, Bagz", titles=("Single records, second pass, p50",), peers=_is_named("Bagz"),
        least=_always(0.5),
    ),
    Target(
        what="opening 1,024 shards", titles=("Open 1,024 shards and read a record",), peers=_is_compressed,
        least=_always(1.0),
    ),
    Target(what="raw epochs, peers that copy", titles=_EPOCHS, kind="raw", peers=_copies, least=_always(1.0)),
    Target(
        what="raw epochs, views that nobody verified", titles=_EPOCHS, kind="raw",
        peers=lambda peer: peer.kind == "views", least=_always(0.6),
    ),
    Target(
        what="raw shuffled, memmap with take", titles=_SHUFFLED, kind="raw", peers=_is_named(*LIMITS),
        least=_always(0.7),
    ),
)  # fmt: skip
FIRST_BATCH_MARGIN_S = 0.1
MEMORY_LIMIT = 400e6


@dataclass(frozen=True, slots=True)
class Verdict:
    """One target on one workload: the worst of its figures."""

    what: str
    workload: str
    ratio: float
    least: float
    detail: str

    @property
    def is_reached(self) -> bool:
        return self.ratio >= self.least


def verdicts(results: Results) -> Iterator[Verdict]:
    """Every target, workload by workload, as far as it was measured."""
    figures = {figure.title: figure for figure in FIGURES}
    for target in TARGETS:
        own = OWN[target.kind]
        for workload in results.workloads:
            worst: tuple[float, str] | None = None
            for title in target.titles:
                for peer in results.peers:
                    if peer.name in OWN.values() or not target.peers(peer):
                        continue
                    ratio = results.ratio(figures[title], workload, peer.name, own)
                    if ratio is not None and (worst is None or ratio < worst[0]):
                        worst = ratio, f"{peer.name}; {title}"
            if worst is not None:
                yield Verdict(target.what, workload, worst[0], target.least(workload), worst[1])
    first, memory = (figures[title] for title in ("Process start to first batch", "Peak memory of a shuffled epoch"))
    for workload in results.workloads:
        ours = results.value(first, workload, OWN["compressed"])
        theirs = [
            value for peer in results.peers
            if peer.name not in OWN.values() and _is_compressed(peer)
            and (value := results.value(first, workload, peer.name)) is not None
        ]  # fmt: skip
        if ours is not None and theirs:
            margin = (min(theirs) + FIRST_BATCH_MARGIN_S) / ours
            yield Verdict("first batch, best compressing peer and 0.1 s", workload, margin, 1.0, "process start")
        peak = results.value(memory, workload, OWN["compressed"])
        if peak is not None:
            yield Verdict("peak memory under 400 MB", workload, MEMORY_LIMIT / peak, 1.0, f"{peak / 1e6:.0f} MB")


def markdown(results: Results, header: dict[str, str], scaling: Sequence[str]) -> str:
    """The whole report; `scaling` are the lines of that section."""
    lines = ["# What the benchmark found", "", *_introduction(header), ""]
    lines += ["## Targets", "", *_target_table(results), ""]
    for kind, title in (("compressed", "Compressed"), ("raw", "Raw")):
        peers = [
            peer for peer in results.peers
            if peer.name not in OWN.values() and (peer.kind == "compressed") == (kind == "compressed")
        ]  # fmt: skip
        lines += [f"## {title}: {OWN[kind]} against", ""]
        for figure in FIGURES:
            table = list(_figure_table(results, figure, peers, OWN[kind]))
            if table:
                lines += [f"### {figure.title}", "", *table, ""]
    lines += scaling
    lines += ["## Formats, versions, settings", "", *_peer_table(results.peers), ""]
    failures = list(results.failures())
    lines += ["## What could not be measured", "", *([f"- {one}" for one in failures] or ["Nothing."])]
    return "\n".join(lines) + "\n"


def _introduction(header: dict[str, str]) -> list[str]:
    return [
        "Made by the command below; nothing here is written by hand. Each number says how many times as fast (as "
        "small, as little) ours is as that peer, on the same records in the same run: above 1 is ours ahead, "
        "below 1 the peer. `-`: the format does not do it. Each cell ran in a process of its own, and every epoch "
        "was checked to deliver every record once. Ours verifies every checksum in all of them. Shuffles differ: "
        "ours, Bagz, LMDB, ArrayRecord and memmap give any record any place; Parquet, Lance, Hugging Face, "
        "TFRecord, WebDataset, MDS and LitData mix within pools or buffers, which costs less.",
        "",
        *(f"- {name}: {value}" for name, value in header.items()),
    ]


def _target_table(results: Results) -> Iterator[str]:
    found = list(verdicts(results))
    reached = sum(one.is_reached for one in found)
    yield f"{reached} of {len(found)} reached. The worst cell of each target and workload, and the peer it is against:"
    yield ""
    yield "| target | workload | ratio | wanted | | against |"
    yield "|---|---|---|---|---|---|"
    for one in found:
        mark = "reached" if one.is_reached else "**missed**"
        yield f"| {one.what} | {one.workload} | {one.ratio:.2f} | {one.least:.2f} | {mark} | {one.detail} |"


def _figure_table(results: Results, figure: Figure, peers: Sequence[Peer], own: str) -> Iterator[str]:
    rows = []
    for peer in peers:
        ratios = [results.ratio(figure, workload, peer.name, own) for workload in results.workloads]
        if any(ratio is not None for ratio in ratios):
            rows.append((peer.name, ratios))
    if not rows:
        return
    yield f"| | {' | '.join(results.workloads)} |"
    yield f"|---|{'---|' * len(results.workloads)}"
    for name, ratios in rows:
        yield f"| {name} | {' | '.join('-' if one is None else _number(one) for one in ratios)} |"


def _number(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:,.0f}"


def _peer_table(peers: Sequence[Peer]) -> Iterator[str]:
    yield "| format | versions | stored | verified while reading | settings |"
    yield "|---|---|---|---|---|"
    for peer in peers:
        found = versions(peer.environment, peer.distributions)
        yield f"| {peer.name} | {found} | {peer.kind} | {'yes' if peer.verifies else 'no'} | {peer.settings} |"
