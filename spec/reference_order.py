"""A second account of the order of records, written from order.md: one number at a time, in the order of the spec.

`python reference_order.py` prints order_vectors.json: what these functions give for the cases at the end.
A view is a list of shards, each a list of chunks, each a list of the record numbers that are in view, ascending.
"""
import hashlib
import itertools
import json
import math
from collections import namedtuple

View = list[list[list[int]]]
Key = tuple[int, int, int, int]
Order = namedtuple("Order", "mode lanes window rows")       # rows[p]: the row at position p
WRAP = 2**64

# ---- Section 1: arithmetic.
def even(n: int, k: int) -> list[int]:
    return [n // k + (part < n % k) for part in range(k)]

def reverse(c: int, lanes: int) -> int:
    return int(f"{c:0{lanes.bit_length() - 1}b}"[::-1], 2) if lanes > 1 else c

def mix(x: int) -> int:
    for _ in range(2):
        x = (x ^ x >> 32) * 0xD6E8FEB86659FD93 % WRAP
    return x ^ x >> 32

def key(seed: int, epoch: int, stage: str, a: int = 0, b: int = 0) -> Key:
    numbers = [n.to_bytes(8, "little") for n in (seed, epoch, a, b)]
    message = numbers[0] + numbers[1] + stage.encode("ascii").ljust(8, b"\0") + numbers[2] + numbers[3]
    digest = hashlib.blake2b(message, digest_size=32, person=b"recordio.order").digest()
    k0, k1, k2, k3 = (int.from_bytes(digest[at:at + 8], "little") for at in (0, 8, 16, 24))
    return k0, k1, k2, k3

def permute(x: int, n: int, k: Key, t: int = 0) -> int:
    w = math.isqrt(n - 1) + 1
    h = -(-n // w)
    while True:
        left, right = divmod(x, h)
        for r in range(4):
            v = ((right + k[r]) % WRAP ^ t) * 0x9E3779B97F4A7C15 % WRAP
            v = (v ^ v >> 32) * 0xD6E8FEB86659FD93 % WRAP >> 32
            m = h if r % 2 else w
            left, right = right, (left + (v * m >> 32)) % m
        x = left * h + right
        if x < n:
            return x

# ---- Section 3: exact.
def exact_rows(n: int, seed: int, epoch: int, a: int = 0, b: int = 0) -> list[int]:
    k = key(seed, epoch, "exact", a, b)
    return [permute(p, n, k) for p in range(n)]

# ---- Section 4: pooled.
def tape_of(view: View, k: Key) -> list[tuple[int, int, int, int]]:
    """Shard, chunk, first row and number of rows of each chunk that holds a row, as they lie on the tape."""
    ends = itertools.accumulate((len(chunk) for shard in view for chunk in shard), initial=0)
    chunks = [[(s, c, next(ends), len(chunk)) for c, chunk in enumerate(shard)] for s, shard in enumerate(view)]
    chunks = [sorted(shard, key=lambda chunk: mix(k[1] ^ chunk[1])) for shard in chunks]
    shards = sorted(range(len(view)), key=lambda s: mix(k[0] ^ s))
    return [chunk for s in shards for chunk in chunks[s] if chunk[3]]

def lanes_of(tape: list[int], lanes: int) -> list[list[int]]:
    n = len(tape)
    ends = [*itertools.accumulate((n // lanes + (reverse(c, lanes) < n % lanes) for c in range(lanes)), initial=0)]
    return [tape[start:stop] for start, stop in itertools.pairwise(ends)]

def windows_of(lane: list[int], number: int, lanes: int, window: int) -> list[list[int]]:
    first = max(1, (reverse(number, lanes) + 1) * window // lanes)
    return [lane[max(0, at):at + window] for at in range(first - window, len(lane), window)]

def pooled_rows(view: View, lanes: int, window: int, seed: int, epoch: int, a: int = 0, b: int = 0) -> list[int]:
    tape = [row for _, _, start, n in tape_of(view, key(seed, epoch, "tape", a, b)) for row in range(start, start + n)]
    k = key(seed, epoch, "window", a, b)
    mixed = []
    for number, lane in enumerate(lanes_of(tape, lanes)):
        windows = windows_of(lane, number, lanes, window)
        tweaks = [mix(number << 40 | q) for q in range(len(windows))]
        mixed.append([w[permute(j, len(w), k, t)] for w, t in zip(windows, tweaks) for j in range(len(w))])
    return [mixed[reverse(p % lanes, lanes)][p // lanes] for p in range(len(tape))]

def parameters(
    n: int, num_chunks: int, mode: str, pool: int | None, raw_size: int = 1
) -> tuple[str, int | None, int | None]:
    most_exact = 2**28 * n // raw_size if pool is None else pool
    if mode == "exact" or (mode == "auto" and n <= 2**20 and n <= most_exact):
        return "exact", None, None
    lanes_of_chunk = 4 if pool is None else 1
    pool = max(1, 2**25 * n // raw_size) if pool is None else pool
    chunk = -(-n // num_chunks)
    lanes = max(1 << e for e in range(8) if 1 << e <= max(1, min(128, n, lanes_of_chunk * pool // chunk)))
    return "pooled", lanes, max(1, pool // lanes)

def order_of(view: View, mode: str, pool: int, seed: int, epoch: int, a: int = 0, b: int = 0) -> Order:
    counts = [len(chunk) for shard in view for chunk in shard if chunk]
    found, lanes, window = parameters(sum(counts), len(counts), mode, pool)
    if found == "exact":
        return Order(found, None, None, exact_rows(sum(counts), seed, epoch, a, b))
    return Order(found, lanes, window, pooled_rows(view, lanes, window, seed, epoch, a, b))

# ---- Section 5: batches, of positions in the whole of `epochs` epochs; lanes is 1 unless the order is pooled.
def batches_of(n: int, size: int, lanes: int, epochs: int = 1, start: int = 0) -> list[list[int]]:
    def place(q: int) -> tuple[int, int, int]:
        return q // n, reverse(q % n % lanes, lanes), q

    return [sorted(range(c, min(c + size, n * epochs)), key=place) for c in range(start, n * epochs, size)]

# ---- Section 6: splitting. A slot is [start, stop) in a stream; slots are given as [step][pipeline][r].
def parts_of(batch: list[int], lanes: int, replicas: int) -> list[int]:
    """Sizes of the parts of a batch that lies in one epoch; lanes is 1 unless the order is pooled."""
    smaller, left = divmod(len(batch), replicas)
    if lanes == 1:
        return even(len(batch), replicas)
    sizes: list[int] = []
    for k in range(replicas):
        below = sum(reverse(p % lanes, lanes) * replicas < (k + 1) * lanes for p in batch)
        larger = left == replicas - k or (left > 0 and below > sum(sizes) + smaller)
        left -= larger
        sizes.append(smaller + larger)
    return sizes

def shared_slots(
    policy: str, total: int, size: int, pipelines: int, replicas: int, lanes: int,
) -> list[list[list[list[int]]]]:
    local = replicas // pipelines
    steps = []
    for batch in batches_of(total, size, lanes):
        c, n = min(batch), len(batch)
        if policy == "AUTO":
            ends = [*itertools.accumulate(parts_of(batch, lanes, replicas), initial=c)]
            parts = [[[*ends[i * local + r:i * local + r + 2]] for r in range(local)] for i in range(pipelines)]
        else:
            b = -(-n // replicas)
            parts = [[[c + min(n, j * b), c + min(n, j * b + b)] for j in range(i, replicas, pipelines)]
                     for i in range(pipelines)]
        steps.append(parts)
    return steps

def own_slots(totals: list[int], size: int, replicas: int, num_steps: int) -> list[list[list[list[int]]]]:
    """Under OFF and FILE: totals has one number of records for each pipeline."""
    pipelines, sizes = len(totals), even(size, replicas)
    local = replicas // pipelines
    steps: list[list[list[list[int]]]] = [[[] for _ in totals] for _ in range(num_steps)]
    for i, total in enumerate(totals):
        at = 0
        for s, r in itertools.product(range(num_steps), range(local)):
            end = at + sizes[(i * local + s * local + r) % replicas]
            steps[s][i].append([min(at, total), min(end, total)])
            at = end
    return steps

def shards_of(view: View, i: int, pipelines: int) -> View:
    """Under FILE: what is in view for pipeline i; the other shards are there, but empty, so that ordinals stay."""
    holding = [s for s, shard in enumerate(view) if any(shard)]
    if len(holding) < pipelines:
        raise ValueError(f"{len(holding)} shards for {pipelines} pipelines")
    return [shard if s in holding[i::pipelines] else [] for s, shard in enumerate(view)]

# ---- Section 7: ends. totals: of one stream under AUTO and DATA, else one for each pipeline.
def num_steps(policy: str, remainder: str, totals: list[int], size: int, replicas: int) -> int | None:
    """None: an error."""
    if policy in ("AUTO", "DATA"):
        full, all_ = totals[0] // size, -(-totals[0] // size)
    else:
        def taken(steps: int) -> list[int]:     # by each pipeline, if it had records without end
            sizes, local = even(size, replicas), replicas // len(totals)
            return [sum(sizes[(i * local + t) % replicas] for t in range(steps * local)) for i in range(len(totals))]

        full = next(s for s in itertools.count() if any(n > total for n, total in zip(taken(s + 1), totals)))
        all_ = next(s for s in itertools.count() if all(n >= total for n, total in zip(taken(s), totals)))
    if remainder == "error":
        return full if full == all_ else None
    return full if remainder == "drop" else all_

# ---- The cases of order_vectors.json.
SEEDS = [(0, 1), (1, 0), (2**64 - 1, 3)]
LAYOUTS = [     # records of each chunk, shard by shard; step: only every such record of all is in view; pool
    ([[1]], 1, 1), ([[5, 5, 2]], 1, 7), ([[1], [], [3, 0, 2], [40]], 1, 8), ([[9, 9, 9, 4]] * 5, 1, 60),
    ([[64] * 4, [64] * 4, [17]], 1, 300), ([[50] * 6] * 3, 3, 100), ([[2] * 40] * 6, 1, 1000),
    ([[300], [7], [90, 11]], 1, 20), ([[8] * 12] * 3, 1, 40),
]
SPLITS = [      # P, R, G, pool
    (1, 1, 4, 12), (1, 2, 5, 12), (2, 2, 7, 12), (2, 4, 10, 12), (3, 6, 8, 12), (2, 4, 3, 12), (4, 4, 2, 12),
    (2, 4, 10, 64), (3, 6, 20, 64), (5, 5, 13, 64),
]


def view_of(layout: list[list[int]], step: int = 1) -> View:
    numbers = itertools.count()
    return [[[n for n in itertools.islice(numbers, size) if n % step == 0] for size in shard] for shard in layout]

def vectors() -> dict[str, object]:
    xs = [0, 1, 2, 255, 2**32 - 1, 2**32, 2**63, 2**64 - 1]
    k, sizes = key(7, 2, "exact"), (1, 2, 3, 10, 257, 1000, 10**6 + 3, 2**40 + 15)
    keys = [(s, e, stage, a, b) for s, e in SEEDS for stage in ("exact", "tape", "window") for a, b in [(0, 0), (3, 2)]]
    out: dict[str, object] = {
        "mix": [[x, mix(x)] for x in xs],
        "key": [[*arguments, key(*arguments)] for arguments in keys],
        "permute": {"key": k, "cases": [
            [n, t, [[x, permute(x, n, k, t)] for x in sorted({0, 1 % n, n // 3, n // 2, n - 1})]]
            for n in sizes for t in (0, mix(5 << 40 | 3))]},
        "exact": [[n, s, e, a, b, exact_rows(n, s, e, a, b)]
                  for n in (1, 2, 7, 100) for s, e in SEEDS for a, b in ((0, 0), (3, 2))],
    }
    pooled, batches, splits = [], [], []
    for layout, step, pool in LAYOUTS:
        view = view_of(layout, step)
        for mode, (s, e) in [("pooled", SEEDS[0]), ("pooled", SEEDS[1]), ("auto", SEEDS[2])]:
            order = order_of(view, mode, pool, s, e)
            case = {"layout": layout, "step": step, "pool": pool, "mode": mode, "seed": s, "epoch": e}
            pooled.append({**case, "resolved": order[:3], "rows": order.rows})
    for n, size, lanes, epochs, start in [
        (100, 8, 8, 1, 0), (103, 10, 8, 1, 0), (37, 16, 32, 1, 0), (20, 6, 4, 3, 0), (5, 8, 4, 4, 0), (50, 9, 1, 2, 0),
        (100, 10, 16, 1, 37),
    ]:
        batches.append([n, size, lanes, epochs, start, batches_of(n, size, lanes, epochs, start)])
    view = view_of([[9, 7], [], [8], [6, 6, 1], [12], [3, 3]])
    total = sum(map(len, itertools.chain(*view)))
    for p, r, g, pool in SPLITS:
        for policy in ("AUTO", "DATA", "OFF", "FILE"):
            shared = policy in ("AUTO", "DATA")
            views = [shards_of(view, i, p) for i in range(p)] if policy == "FILE" else [view] * (1 if shared else p)
            streams = []
            for i, own in enumerate(views):
                order = order_of(own, "pooled", pool, 1, 0, *((p, i + 1) if policy == "FILE" else (0, 0)))
                places = itertools.chain(*batches_of(len(order.rows), g, order.lanes))
                numbers = sorted(itertools.chain(*itertools.chain(*own)))
                streams.append({"resolved": order[:3], "records": [numbers[order.rows[q]] for q in places]})
            totals = [len(stream["records"]) for stream in streams]
            steps = {name: num_steps(policy, name, totals, g, r) for name in ("empty", "pad", "drop", "error")}
            slots = (shared_slots(policy, total, g, p, r, order.lanes or 1) if shared
                     else own_slots(totals, g, r, steps["empty"]))
            case = {"policy": policy, "P": p, "R": r, "G": g, "pool": pool, "streams": streams}
            splits.append({**case, "slots": slots, "steps": steps})
    names, ends = ("empty", "pad", "drop", "error"), []
    for p, r, g, _ in SPLITS:
        cases = [(policy, [n] * p) for policy in ("AUTO", "OFF") for n in (0, 1, g - 1, g, g * p, 3 * g * p + 1, 120)]
        for policy, totals in [*cases, ("FILE", [9, 20, 3, 11, 7, 30][:p]), ("FILE", [40] * p)]:
            ends.append([policy, p, r, g, totals, [num_steps(policy, name, totals, g, r) for name in names]])
    # FILE with G < R: steps whose slots are all of size 0 are full as well.
    for p, r, g, totals in [(2, 4, 1, [3, 1]), (2, 6, 1, [42, 1]), (3, 3, 1, [2, 1, 1]), (2, 4, 2, [5, 2])]:
        ends.append(["FILE", p, r, g, totals, [num_steps("FILE", name, totals, g, r) for name in names]])
    return {**out, "pooled": pooled, "batches": batches, "splits": splits, "steps": ends}


if __name__ == "__main__":
    print(json.dumps(vectors(), separators=(",", ":")))
