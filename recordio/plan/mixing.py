"""Mixing: keys by a real hash, and permutations by arithmetic, so that the order of an epoch needs no list of it.

    key(seed, epoch, stage) -> four round keys        permute(x, n, key) -> another place below n, one to one

No numpy `Generator`: its streams may change between releases, and an order must not.

Spec: spec/order.md, section 1.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Key = tuple[int, int, int, int]

MAX_SEED = (1 << 64) - 1
_MULTIPLIER = np.uint64(0xD6E8FEB86659FD93)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)
_ROUNDS = 4
# So many numbers at a time: their intermediate arrays stay in a processor's own cache.
_STRIDE = 1 << 14
_MAX_ENTRIES = 1 << 16  # of a table of what a round makes of a half


@lru_cache(maxsize=256)
def key(seed: int, epoch: int, stage: str, a: int = 0, b: int = 0) -> Key:
    """Four round keys, different for different arguments.

    Args:
        seed, epoch, a, b: 0 to 2**64 - 1.
        stage: what the key is for; at most 8 ASCII characters.
    """
    message = struct.pack("<QQ8sQQ", seed, epoch, stage.encode("ascii"), a, b)
    k0, k1, k2, k3 = struct.unpack("<4Q", hashlib.blake2b(message, digest_size=32, person=b"recordio.order").digest())
    return k0, k1, k2, k3


def mix(x: Array) -> Array:
    """Map uint64 one to one, so that neighbours land anywhere; a new array."""
    mixed = np.array(x, np.uint64)
    with np.errstate(over="ignore"):
        for _ in range(2):
            mixed ^= mixed >> _HALF
            mixed *= _MULTIPLIER
        mixed ^= mixed >> _HALF
    return mixed


def permute(x: Array, n: int | Array, keys: Key, tweak: Array | int = 0) -> Array:
    """Permute range(n): where each x goes.

    Args:
        x: int64[m], from 0 below n.
        n: size of the domain, or int64[m], one for each x.
        keys: as `key` gives them.
        tweak: uint64[m] or one for all: another permutation for each.

    Returns:
        int64[m], new.
    """
    if isinstance(n, np.ndarray) or isinstance(tweak, np.ndarray):
        sizes = np.broadcast_to(np.asarray(n, np.int64), x.shape)
        domains = Domains(sizes, keys, np.broadcast_to(np.uint64(tweak), x.shape))
        return domains.permute(x, np.arange(len(x)))
    found = np.empty(len(x), np.int64)
    root = math.isqrt(max(n - 1, 0)) + 1
    domain = np.uint64(root), np.uint64(-(-n // root)), np.uint64(n)
    twist = np.uint64(tweak)
    rounds = _looked_up(_tables(root, keys, int(tweak), int(domain[1]))) if root <= _MAX_ENTRIES else _computed(keys)
    for start in range(0, len(x), _STRIDE):
        part = slice(start, start + _STRIDE)
        found[part] = _permute(np.asarray(x[part], np.uint64), domain, twist, rounds)
    return found


class Domains:
    """Several domains, each of which has a permutation of its own.

    Args:
        sizes: int64[d]; at least 1 where numbers are asked for.
        keys: as `key` gives them.
        tweaks: uint64[d].
        num_numbers: that are asked for in all, about.
    """

    def __init__(self, sizes: Array, keys: Key, tweaks: Array, num_numbers: int = 0) -> None:
        widths = _ceil_sqrt(np.maximum(sizes, 1))
        heights = -(-sizes // widths)
        self._rounds, self._tweaks = _computed(keys), tweaks
        if int(widths.sum()) * 2 <= num_numbers:  # a half is asked for several times
            halves, which = _places_of(widths)
            self._tweaks = np.cumsum(widths) - widths
            width, height = (array[which].astype(np.uint64) for array in (widths, heights))
            self._rounds = _looked_up_among(_made_tables(keys, halves, width, height, tweaks[which]))
        # Division by one number is several times faster than by many.
        is_one = len(sizes) > 0 and bool((sizes == sizes[0]).all())
        table = [array.astype(np.uint64) for array in (widths, heights, sizes)]
        self._domain = [array[0] if is_one else array for array in table]

    def permute(self, x: Array, which: Array) -> Array:
        """Where numbers go, each in its domain: int64[m] new, of int64[m] and the ordinals of the domains, int64[m]."""
        found = np.empty(len(x), np.int64)
        for start in range(0, len(x), _STRIDE):
            stop = start + _STRIDE
            part = which[start:stop]
            domain = [array[part] if isinstance(array, np.ndarray) else array for array in self._domain]
            numbers = np.asarray(x[start:stop], np.uint64)
            found[start:stop] = _permute(numbers, domain, self._tweaks[part], self._rounds)
        return found


def _permute(x: Array, domain: Sequence[Any], tweak: Any, rounds: Rounds) -> Array:
    """Go round until every number is within its domain: width, height and size, each one or one for each x."""
    permuted = _go_round(x, domain[0], domain[1], tweak, rounds)
    outside = np.flatnonzero(permuted >= domain[2])
    while len(outside):
        width, height, size, twist = (
            value[outside] if isinstance(value, np.ndarray) else value for value in (*domain, tweak)
        )
        again = _go_round(permuted[outside], width, height, twist, rounds)
        permuted[outside] = again
        outside = outside[again >= size]
    return permuted


def _go_round(x: Array, width: Any, height: Any, tweak: Any, rounds: Rounds) -> Array:
    left = x // height
    right = x - left * height
    scratch = np.empty_like(x)
    value = np.empty_like(x)
    for number in range(_ROUNDS):
        modulus = height if number % 2 else width
        rounds(number, right, modulus, tweak, value)
        value += left
        # (left + value) % modulus, both of them below it; what is smaller wraps around to a huge number.
        np.subtract(value, modulus, out=scratch)
        np.minimum(value, scratch, out=value)
        left, right, value = right, value, left
    left *= height
    left += right
    permuted: Array = left
    return permuted


# What a round adds to one half, made of the other: called with the number of the round, that half, the modulus, the
# tweak, and an array for the result.
Rounds = Callable[[int, Array, Any, Any, Array], None]


def _computed(keys: Key) -> Rounds:
    def mixed(number: int, half: Array, modulus: Any, tweak: Any, out: Array) -> None:
        with np.errstate(over="ignore"):
            np.add(half, np.uint64(keys[number]), out=out)
            out ^= tweak
            out *= _GOLDEN
            out ^= out >> _HALF
            out *= _MULTIPLIER
            out >>= _HALF
            out *= modulus
            out >>= _HALF

    return mixed


def _looked_up(tables: Sequence[Array]) -> Rounds:
    def mixed(number: int, half: Array, modulus: Any, tweak: Any, out: Array) -> None:
        del modulus, tweak
        tables[number].take(half.view(np.int64), out=out, mode="clip")

    return mixed


def _looked_up_among(tables: Sequence[Array]) -> Rounds:
    """Of several domains: what stands for the tweak is the first entry of the domain."""

    def mixed(number: int, half: Array, modulus: Any, first: Any, out: Array) -> None:
        del modulus
        tables[number].take(half.view(np.int64) + first, out=out, mode="clip")

    return mixed


@lru_cache(maxsize=4)
def _tables(root: int, keys: Key, tweak: int, height: int) -> Sequence[Array]:
    """What each round makes of every half, of a domain that is used for a whole epoch: uint64[root] each."""
    return _made_tables(keys, np.arange(root), np.uint64(root), np.uint64(height), np.uint64(tweak))


def _made_tables(keys: Key, halves: Array, width: Any, height: Any, tweak: Any) -> Sequence[Array]:
    """What each round makes of halves: uint64[m] each, of int64[m]."""
    tables = [np.empty(len(halves), np.uint64) for _ in range(_ROUNDS)]
    for number, table in enumerate(tables):
        _computed(keys)(number, halves.view(np.uint64), height if number % 2 else width, tweak, table)
    return tables


def _places_of(counts: Array) -> tuple[Array, Array]:
    """Ordinals within groups of so many, and the group of each: int64[sum of counts] each."""
    which = np.repeat(np.arange(len(counts)), counts)
    inside: Array = np.arange(len(which)) - (np.cumsum(counts) - counts)[which]
    return inside, which


def _ceil_sqrt(n: Array) -> Array:
    """The least whole w with w * w >= n, elementwise; n is below 2**62."""
    root = np.sqrt(n.astype(np.float64)).astype(np.int64)
    root += root * root < n
    root -= (root - 1) * (root - 1) >= n
    found: Array = np.maximum(root, 1)
    return found


def reverse_bits(num_lanes: int) -> Array:
    """For every number below a power of two, the number with its bits in reverse order: int64[num_lanes]."""
    reversed_: Array = np.zeros(1, np.int64)
    while len(reversed_) < num_lanes:
        reversed_ = np.concatenate([2 * reversed_, 2 * reversed_ + 1])
    return reversed_
