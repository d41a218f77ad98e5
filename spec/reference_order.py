"""A second implementation of spec/order.md, sections 1 to 6: one number at a time, from the text alone.

    python spec/reference_order.py > spec/order_vectors.json

It imports nothing from recordio; tests/spec/test_order_vectors.py compares the two.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct

MASK = (1 << 64) - 1


def mix(x):
    for _ in range(2):
        x ^= x >> 32
        x = x * 0xD6E8FEB86659FD93 & MASK
    return x ^ x >> 32


def key(seed, epoch, stage, a=0, b=0):
    message = struct.pack("<QQ8sQQ", seed, epoch, stage.encode(), a, b)
    return struct.unpack("<4Q", hashlib.blake2b(message, digest_size=32, person=b"recordio.order").digest())


def permute(x, n, k, t):
    w = math.isqrt(n - 1) + 1
    h = -(-n // w)
    while True:
        left, right = x // h, x % h
        for r in range(4):
            v = (right + k[r] & MASK) ^ t
            v = v * 0x9E3779B97F4A7C15 & MASK
            v ^= v >> 32
            v = v * 0xD6E8FEB86659FD93 & MASK
            v >>= 32
            m = h if r % 2 else w
            left, right = right, (left + (v * m >> 32)) % m
        x = left * h + right
        if x < n:
            return x


def reverse(c, lanes):
    bits = lanes.bit_length() - 1
    return int(f"{c:0{bits}b}"[::-1], 2) if bits else 0


def even(n, k):
    return [n // k + (part < n % k) for part in range(k)]


def resolve(n, num_chunks, mode, pool):
    if mode == "exact" or (mode == "auto" and n <= min(1 << 20, pool)):
        return "exact", None, None
    chunk = -(-n // num_chunks)
    lanes = 1
    while 2 * lanes <= min(128, n, pool // chunk):
        lanes *= 2
    return "pooled", lanes, max(1, pool // lanes)


def exact_order(n, seed, epoch):
    return [permute(p, n, key(seed, epoch, "exact"), 0) for p in range(n)]


def pooled_order(shards, lanes, window, seed, epoch):
    """Shards are lists of the numbers of rows that their chunks hold."""
    k = key(seed, epoch, "tape")
    chunks, row = [], 0
    for s, counts in enumerate(shards):
        for c, count in enumerate(counts):
            chunks.append((mix(k[0] ^ s), mix(k[1] ^ c), row, count))
            row += count
    tape = [first + place for _, _, first, count in sorted(chunks) for place in range(count)]
    n = len(tape)
    lengths = [n // lanes + (reverse(lane, lanes) < n % lanes) for lane in range(lanes)]
    keys = key(seed, epoch, "window")
    found = []
    for p in range(n):
        lane = reverse(p % lanes, lanes)
        missing = window - max(1, (reverse(lane, lanes) + 1) * window // lanes)
        place = p // lanes + missing
        q = place // window
        first, stop = max(q * window, missing), min((q + 1) * window, missing + lengths[lane])
        inside = permute(place - first, stop - first, keys, mix(lane << 40 | q))
        found.append(tape[sum(lengths[:lane]) + first + inside - missing])
    return found


def batches(total, n, size, lanes):
    """Positions of every batch, in the order in which it holds them."""
    found = []
    for c in range(0, total, size):
        positions = range(c, min(total, c + size))
        found.append(sorted(positions, key=lambda p: (p // n, reverse(p % n % lanes, lanes), p)))
    return found


def slots(policy, total, size, pipelines, replicas, pipeline):
    """Places of the stream that each slot of a pipeline gets, step by step, until the stream ends."""
    local = replicas // pipelines
    found = []
    if policy in ("OFF", "FILE"):
        sizes, place, t = even(size, replicas), 0, 0
        while place < total or t % local:
            found.append([place, min(total, place + sizes[(pipeline * local + t) % replicas])])
            place, t = found[-1][1], t + 1
        return [found[start : start + local] for start in range(0, len(found), local)]
    for base in range(0, total, size):
        n = min(size, total - base)
        step = []
        for r in range(local):
            if policy == "AUTO":
                start = sum(even(n, replicas)[: pipeline * local + r])
                stop = start + even(n, replicas)[pipeline * local + r]
            else:
                part, each = r * pipelines + pipeline, -(-n // replicas)
                start, stop = min(part * each, n), min((part + 1) * each, n)
            step.append([base + start, base + stop])
        found.append(step)
    return found


LAYOUTS = [
    [[3, 0, 4], [], [1], [5, 5]], [[1]], [[20] * 6, [20] * 6, [7, 9]], [[2, 1]] * 9, [[0, 3], [50], [1, 1, 1]],
]  # fmt: skip


def vectors():
    big = (1 << 64) - 1
    pooled = []
    for layout in LAYOUTS:
        n, chunks = sum(map(sum, layout)), sum(1 for shard in layout for count in shard if count)
        for pool in (1, 16, 60):
            _, lanes, window = resolve(n, chunks, "pooled", pool)
            for seed, epoch in ((0, 1), (1, 0)):
                rows = pooled_order(layout, lanes, window, seed, epoch)
                assert sorted(rows) == list(range(n))
                pooled.append({"shards": layout, "pool": pool, "lanes": lanes, "window": window, "seed": seed,
                               "epoch": epoch, "rows": rows})  # fmt: skip
    numbers = [0, 1, 2, 12345, 1 << 40, big]
    keys = [(0, 0, "exact", 0, 0), (0, 1, "exact", 0, 0), (1, 0, "tape", 0, 0), (big, 7, "window", 4, 2)]
    sizes = [1, 2, 3, 10, 257, 1000, 10**6 + 3, 2**40 + 15]
    return {
        "mix": [[x, mix(x)] for x in numbers],
        "key": [[*arguments, list(key(*arguments))] for arguments in keys],
        "permute": [
            [n, t, [[x, permute(x, n, key(3, 4, "exact"), t)] for x in sorted({0, 1 % n, n // 3, n // 2, n - 1})]]
            for n in sizes for t in (0, 99, big)
        ],
        "exact": [{"n": n, "seed": s, "epoch": e, "rows": exact_order(n, s, e)}
                  for n in (1, 2, 7, 40) for s, e in ((0, 1), (1, 0))],
        "pooled": pooled,
        "batches": [{"total": total, "n": n, "size": size, "lanes": lanes, "positions": batches(total, n, size, lanes)}
                    for total, n, size, lanes in ((50, 50, 16, 8), (50, 50, 20, 8), (60, 20, 16, 4), (9, 9, 4, 1))],
        "slots": [{"policy": policy, "total": total, "size": size, "pipelines": p, "replicas": r,
                   "slots": [slots(policy, total, size, p, r, i) for i in range(p)]}
                  for policy in ("AUTO", "DATA", "OFF") for total, size, p, r in
                  ((23, 7, 2, 4), (23, 7, 1, 1), (10, 3, 2, 4), (16, 8, 4, 4), (5, 9, 3, 3))],
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(vectors(), separators=(",", ":")))
