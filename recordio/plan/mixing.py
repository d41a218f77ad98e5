"""Mixing: keys by a real hash, and permutations by arithmetic, so that the order of an epoch needs no list of it.

    key(seed, epoch, stage) -> four round keys        permute(x, n, key) -> another place below n, one to one

No numpy `Generator`: its streams may change between releases, and an order must not.

Spec: spec/order.md, section 1.
"""

from __future__ import annotations

import hashlib
import math
import struct
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
    found = np.empty(len(x), np.int64)
    for start in range(0, len(x), _STRIDE):
        part = slice(start, start + _STRIDE)
        found[part] = _permute(
            np.asarray(x[part], np.uint64), n[part] if isinstance(n, np.ndarray) else n, keys,
            tweak[part] if isinstance(tweak, np.ndarray) else np.uint64(tweak),
        )  # fmt: skip
    return found


def _permute(x: Array, n: int | Array, keys: Key, tweak: Any) -> Array:
    width: Any
    height: Any
    bound: Any
    if isinstance(n, np.ndarray):
        width = _ceil_sqrt(n)
        height = (-(-n // width)).astype(np.uint64)
        width, bound = width.astype(np.uint64), n.astype(np.uint64)
    else:
        root = math.isqrt(max(n - 1, 0)) + 1
        width, height, bound = np.uint64(root), np.uint64(-(-n // root)), np.uint64(n)
    permuted = _rounds(x, width, height, keys, tweak)
    outside = np.flatnonzero(permuted >= bound)
    while len(outside):

        def at(value: Any, places: Array = outside) -> Any:
            return value[places] if isinstance(value, np.ndarray) else value

        again = _rounds(permuted[outside], at(width), at(height), keys, at(tweak))
        permuted[outside] = again
        outside = outside[again >= at(bound)]
    return permuted


def _rounds(x: Array, width: Any, height: Any, keys: Key, tweak: Any) -> Array:
    left = x // height
    right = x - left * height
    scratch = np.empty_like(x)
    value = np.empty_like(x)
    has_tweak = isinstance(tweak, np.ndarray) or int(tweak) != 0
    with np.errstate(over="ignore"):
        for number in range(_ROUNDS):
            modulus = height if number % 2 else width
            np.add(right, np.uint64(keys[number]), out=value)
            if has_tweak:
                value ^= tweak
            value *= _GOLDEN
            np.right_shift(value, _HALF, out=scratch)
            value ^= scratch
            value *= _MULTIPLIER
            value >>= _HALF
            value *= modulus
            value >>= _HALF
            value += left
            # (left + value) % modulus, both of them below it; what is smaller wraps around to a huge number.
            np.subtract(value, modulus, out=scratch)
            np.minimum(value, scratch, out=value)
            left, right, value = right, value, left
        left *= height
    left += right
    permuted: Array = left
    return permuted


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
