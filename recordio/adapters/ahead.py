"""Batches on their way to a device while an earlier one is trained on.

Whoever moves a batch starts a transfer and does not wait for it; so the next ones are begun before the current one is
handed out. States count what was handed out, not what is on its way.

Spec: spec/adapters.md, section 1. Source: tf.distribute.InputOptions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from recordio.batches import Batches
from recordio.distributed.dataset import DistributedDataset
from recordio.errors import RequestError
from recordio.loading.passes import LoaderIterator

State = dict[str, Any]


def buffer_size_of(loader: Batches | DistributedDataset, given: int | None) -> int:
    """How many batches are begun ahead: as asked for, or as the `InputOptions` of what is distributed say.

    Raises:
        RequestError: a negative number. TypeError: no int.
    """
    if given is None:
        options = loader.input_options if isinstance(loader, DistributedDataset) else None
        if options is None:
            return 1
        return options.experimental_per_replica_buffer_size if options.experimental_fetch_to_device else 0
    if isinstance(given, bool) or not isinstance(given, int):
        raise TypeError(f"buffer_size is an int, not {given!r}")
    if given < 0:
        raise RequestError(f"buffer_size {given} is below 0")
    return given


def moved_ahead(
    iterator: LoaderIterator, move: Callable[[Any], Any], buffer_size: int
) -> Iterator[tuple[Any, State]]:
    """Moved batches, each with the state behind it.

    Args:
        move: begins a transfer, and gives what will be there.
        buffer_size: batches that were begun when one is handed out, besides that one.
    """
    begun: deque[tuple[Any, State]] = deque()
    with iterator:
        for batch in iterator:
            begun.append((move(batch), iterator.state_dict()))
            if len(begun) > buffer_size:
                yield begun.popleft()
        yield from begun
