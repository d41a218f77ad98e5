"""Options of reading: how much is done at once, and where; never what is read.

The names are those of `keras.utils.PyDataset`. Nothing here changes a batch.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from recordio.arguments import whole_number
from recordio.errors import RequestError
from recordio.execute.pool import default_workers

AUTOTUNE = -1
# Shuffled rows are gathered in blocks of so many raw bytes: one that is much smaller loses to numpy's calls.
MAX_BLOCK_SIZE = 18 << 20
_MEMORY_PARTS = 8  # a block takes no more than this part of a budget
DEFAULT_QUEUE_SIZE = 10  # batches, as PyDataset has it
# What is mapped and waits, where no memory is given: bytes in all, or for each worker if that is more.
_MAP_SIZE = 256 << 20
_MAP_SIZE_OF_WORKER = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a loader works.

    Attributes:
        workers: threads that read, decode and map; or, with use_multiprocessing, processes that map. None: as many as
            there are processors. 0: the caller's own thread, and nothing is read ahead.
        use_multiprocessing: `map` functions run in processes of their own.
        max_queue_size: batches that are ready, or in work, ahead of the caller; None: 10.
        memory: bytes that decoded records may take, those handed out apart; three quarters of what the order leaves
            are for what `map` makes. At least one batch is always under way. None: what the order needs, some blocks of
            24 MiB, and for `map` 256 MiB, or 64 MiB a worker if that is more.
        replace_workers: a worker process that dies is replaced, and its work done again; else it is an error.
    """

    workers: int | None = None
    use_multiprocessing: bool = False
    max_queue_size: int | None = None
    memory: int | None = None
    replace_workers: bool = False

    def changed(self, **changes: Any) -> Options:
        """These options with some of them changed, and checked.

        Raises:
            RequestError: no such option, or a number below its least. TypeError: no number.
        """
        names = [field.name for field in fields(self)]
        for name, value in changes.items():
            if name not in names:
                raise RequestError(f"there is no option {name!r}", advice=f"Options: {', '.join(names)}")
            if name in ("use_multiprocessing", "replace_workers"):
                if not isinstance(value, bool):
                    raise TypeError(f"{name} is True or False, not {value!r}")
            elif value is not None:
                changes[name] = _number(name, value)
        return replace(self, **changes)

    @property
    def num_workers(self) -> int:
        """Threads or processes."""
        return default_workers() if self.workers is None else self.workers

    @property
    def num_threads(self) -> int:
        """Threads that read and decode."""
        return default_workers() if self.workers is None or self.use_multiprocessing else self.workers

    @property
    def block_size(self) -> int:
        """Raw bytes of what is gathered at once."""
        return MAX_BLOCK_SIZE if self.memory is None else max(1, min(MAX_BLOCK_SIZE, self.memory // _MEMORY_PARTS))

    def rooms(self, held: int, *, maps: bool) -> tuple[int | None, int]:
        """Bytes for what is read ahead, None without a limit, and for what is mapped and waits.

        Args:
            held: bytes that the order needs.
        """
        if self.memory is None:
            return None, max(_MAP_SIZE, _MAP_SIZE_OF_WORKER * self.num_workers)
        room = max(4, self.memory - held)
        return (room // 4, room - room // 4) if maps else (room, 0)

    @property
    def queue_size(self) -> int:
        """Batches ahead."""
        return DEFAULT_QUEUE_SIZE if self.max_queue_size is None else self.max_queue_size


_LEAST = {"workers": 0, "max_queue_size": 1, "memory": 1}


def _number(name: str, value: Any) -> int | None:
    can_be_tuned = name in ("workers", "max_queue_size")
    number = whole_number(name, value, least=min(_LEAST[name], AUTOTUNE) if can_be_tuned else _LEAST[name])
    if number == AUTOTUNE:
        return None
    return whole_number(name, number, least=_LEAST[name])


def least_memory(held: int) -> int:
    """The smallest budget that holds so many bytes, and two blocks."""
    return min(held + 2 * MAX_BLOCK_SIZE, held * _MEMORY_PARTS // (_MEMORY_PARTS - 2) + _MEMORY_PARTS)
