"""Buffers: memory is used again only when nothing refers to it."""

from __future__ import annotations

import gc
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from recordio.buffers import Buffers

MB = 1 << 20


def address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


def test_what_nobody_holds_is_used_again() -> None:
    buffers = Buffers(64 * MB)
    first = buffers.take(MB)
    place = address(first)
    second = buffers.take(MB)
    assert address(second) != place
    del first
    assert address(buffers.take(MB - 1000)) == place


HOLDERS: dict[str, Callable[[Any], Any]] = {
    "a slice": lambda array: array[5:6],
    "a view of a view of another dtype": lambda array: array[64:128].view(np.float32).reshape(4, 4)[::2],
    "a memoryview": memoryview,
    "a slice of a memoryview": lambda array: memoryview(array)[3:4],
    "frombuffer": lambda array: np.frombuffer(memoryview(array)[8:16], np.int64),
    "a masked array": lambda array: np.ma.MaskedArray(array[:10], mask=False),
    "an array interface": lambda array: np.asarray(type("Holder", (), {"__array_interface__": array.__array_interface__,
                                                                      "array": array})()),
    "dlpack": lambda array: np.from_dlpack(array),
    "a closure": lambda array: (lambda: array),
}


@pytest.mark.parametrize("how", HOLDERS)
def test_what_is_held_in_any_way_is_not_used_again(how: str) -> None:
    """The promise that what a user got stays what it is."""
    buffers = Buffers(64 * MB)
    array = buffers.take(MB)
    lent = address(array)
    held = HOLDERS[how](array)
    del array
    taken = [buffers.take(MB) for _ in range(3)]
    for array in taken:
        array[:] = 1
    del array
    again = buffers.take(MB)
    places = {address(array) for array in [*taken, again]}
    assert len(places) == 4 and lent not in places
    del held, taken, again
    gc.collect()
    assert address(buffers.take(MB)) in {lent, *places}


@pytest.mark.framework
def test_a_tensor_holds_its_memory() -> None:
    torch = pytest.importorskip("torch")
    buffers = Buffers(64 * MB)
    array = buffers.take(MB)
    array[:] = 7
    tensor = torch.from_numpy(array)[10:20]
    del array
    for _ in range(3):
        buffers.take(MB)[:] = 1
    assert tensor.tolist() == [7] * 10


def test_small_and_huge_requests_are_not_kept() -> None:
    buffers = Buffers(4 * MB)
    assert buffers.take(100).base is None
    assert buffers.take(5 * MB).base is None
    assert buffers.take(0).shape == (0,)


def test_no_more_is_kept_than_the_limit() -> None:
    buffers = Buffers(4 * MB)
    held = [buffers.take(MB) for _ in range(10)]
    for number, array in enumerate(held):
        array[:] = number
    assert sum(map(len, buffers._kept)) <= 4 * MB
    assert [int(array[-1]) for array in held] == list(range(10))


@pytest.mark.parametrize("size", [1 << 17, (1 << 17) + 1, 1_000_003, 1 << 20, (1 << 23) - 1])
def test_little_more_is_taken_than_asked_for(size: int) -> None:
    buffers = Buffers(64 * MB)
    array = buffers.take(size)
    assert array.shape == (size,) and array.base is not None
    assert len(array.base) <= 1.26 * size


def test_empty_makes_arrays_of_any_shape_and_dtype() -> None:
    buffers = Buffers(64 * MB)
    array = buffers.empty((300, 100, 3), np.dtype(np.float64))
    assert array.shape == (300, 100, 3) and array.dtype == np.float64 and array.flags.writeable and array.flags.aligned
    assert buffers.empty((3, 0, 2), np.dtype(np.int8)).shape == (3, 0, 2)


def test_threads_never_share_a_buffer() -> None:
    """Every thread writes its own number and finds it again, while others take and drop."""
    buffers = Buffers(16 * MB)
    wrong: list[int] = []

    def work(number: int) -> None:
        held: deque[Any] = deque()
        for step in range(200):
            array = buffers.take(200_000 + 1000 * (step % 7))
            array[:: 4096] = number
            held.append(array)
            if len(held) > 3:
                oldest = held.popleft()
                if (oldest[:: 4096] != number).any():
                    wrong.append(number)
                del oldest
            del array

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
