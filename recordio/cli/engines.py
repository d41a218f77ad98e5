"""Engines: where the shards of `recordio convert` are written. Here, or on the workers of a cluster of Dask's.

    --engine local                                    threads or processes of this machine
    --engine dask --address tcp://host:8786           the workers of that scheduler

Connecting, and what a worker needs, is in `recordio.convert.cluster`.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import partial

import click
import zstandard
from rich.text import Text

from recordio import __version__
from recordio.cli.console import side_console
from recordio.cli.scripts import known_scripts, set_up_elsewhere

ENGINES = ("local", "dask")


def check_engine(ctx: click.Context, engine: str, address: str | None, *, local: bool) -> None:
    """Refuse options that do not belong together.

    Args:
        local: options of local workers are given.

    Raises:
        click.UsageError: so they are, or Dask is not installed.
    """
    if engine == "local":
        if address is not None:
            raise click.UsageError("--address is given without --engine dask\nIt is that of a cluster's scheduler", ctx)
        return
    if address is None:
        raise click.UsageError(
            "--engine dask is given without --address\nGive the scheduler's: --address tcp://host:8786", ctx
        )
    if local:
        raise click.UsageError(
            "--workers, --processes and --threads are for workers of this machine\n"
            "Leave them out: a cluster has the workers that it has", ctx,
        )  # fmt: skip
    if importlib.util.find_spec("distributed") is None:
        raise click.UsageError("--engine dask needs Dask, which is not installed\npip install 'recordio[dask]'", ctx)


@contextmanager
def opened_engine(engine: str, address: str | None, *, quiet: bool) -> Iterator[Executor | None]:
    """Give the executor of an engine; None for this machine's own workers.

    Raises:
        OSError, WorkerError, RequestError: as `recordio.convert.cluster.connected`.
    """
    if engine == "local" or address is None:
        yield None
        return
    from recordio.convert.cluster import connected

    prepare = partial(set_up_elsewhere, known_scripts(), os.getcwd())
    with connected(address, prepare, versions) as executor:
        yield executor
        if not executor.num_tasks and not quiet:
            why = "all shards were there, or the source can only be read from the front"
            side_console().print(Text(f"note: nothing was sent to the cluster: {why}", style="yellow"))


def versions() -> dict[str, str]:
    """What decides the bytes, in the process that is asked."""
    return {"recordio": __version__, "zstd": ".".join(map(str, zstandard.ZSTD_VERSION))}
