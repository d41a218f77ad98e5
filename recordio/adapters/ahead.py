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
from recordio.loading.loader import abandoned
from recordio.plan.state import State, check_size


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


class MovedPasses:
    """Passes over a loader whose batches are moved ahead, and where they stand.

    Args:
        move: begins a transfer, and gives what will be there.
        arrive: makes of that what is handed out.
        buffer_size: batches that were begun when one is handed out, besides that one.
    """

    def __init__(
        self,
        loader: Batches | DistributedDataset,
        move: Callable[[Any], Any],
        buffer_size: int,
        arrive: Callable[[Any], Any] | None = None,
    ) -> None:
        self._loader, self._move, self._buffer_size, self._arrive = loader, move, buffer_size, arrive
        self._number = 0  # of the loader's pass that was begun last; others have no say in the state
        self._state: State | None = None  # of that pass, as long as it is not over

    def __iter__(self) -> Iterator[Any]:
        """The moved batches of the next pass.

        Raises:
            RequestError: the last one was left before its end, and others wait for our steps.
        """
        if self._current is not None and self._loader.loader.has_peers:
            raise abandoned()
        iterator = iter(self._loader)
        number = self._number = self._loader.loader.place.number
        self._state = iterator.state()
        begun: deque[tuple[Any, State]] = deque()
        num_left = iterator.steps_left
        try:
            with iterator:
                failure: Exception | None = None
                while True:
                    try:
                        batch = next(iterator)
                        begun.append((self._move(batch), iterator.state()))
                    except StopIteration:
                        break
                    except Exception as error:  # noqa: BLE001  raised below, after the batches in front of it
                        failure = error
                        break
                    del batch
                    if len(begun) > self._buffer_size:
                        num_left = None if num_left is None else num_left - 1
                        yield self._handed_out(number, begun.popleft())
                while begun:
                    num_left = None if num_left is None else num_left - 1
                    yield self._handed_out(number, begun.popleft())
                if failure is not None:
                    raise failure
            num_left = 0
        finally:
            # Over is what was handed out to its end, whether or not one more was asked for.
            if number == self._number and num_left == 0:
                self._state = None

    @property
    def is_over(self) -> bool:
        """Whether no pass is under way."""
        return self._current is None

    @property
    def _current(self) -> State | None:
        """The state of the pass that is under way; none where an epoch or a state was set since."""
        return self._state if self._loader.loader.place.number == self._number else None

    def set_epoch(self, epoch: int) -> None:
        """Make `epoch` the one that comes next."""
        self._loader.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Behind the batch that was handed out last, or in front of the next pass."""
        current = self._current
        return self._loader.state_dict() if current is None else check_size(current)

    def load_state_dict(self, states: Any) -> None:
        """Go on from a state."""
        self._loader.load_state_dict(states)

    def _handed_out(self, number: int, begun: tuple[Any, State]) -> Any:
        batch, state = begun
        if number == self._number:
            self._state = state
        return batch if self._arrive is None else self._arrive(batch)
