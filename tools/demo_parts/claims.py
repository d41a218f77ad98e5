"""What the demo says, it checks: a claim that does not hold ends it with exit status 1."""

from __future__ import annotations

import sys

import recordio


def check(holds: bool, claim: str) -> None:
    """Print the claim if it holds, else end the demo."""
    if not holds:
        sys.exit(f"FAILED: {claim}")
    print(f"  ok: {claim}")


def print_report(report: recordio.ConversionReport) -> None:
    """One line on what a conversion did."""
    print(
        f"  {report.num_records} records in {report.num_shards} shards, {report.raw_size:,} bytes raw, "
        f"{report.stored_size:,} stored ({report.ratio:.1f} : 1), {report.duration_s:.2f} s, "
        f"fingerprint {report.fingerprint}"
    )
