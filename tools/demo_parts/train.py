"""Two worker processes read disjoint shares of the digits, average their gradients and train one softmax classifier.

    shards 0, 2 -> worker 0 \\
                              gradients, exchanged every step -> the same weights in both
    shards 1, 3 -> worker 1 /

Every fifth record is held out; the parent measures the accuracy on those, which no worker trained on. The number of
steps follows from the index alone, so both workers take the same and neither waits for ever. Plain multiprocessing and
numpy: what recordio gives here is the reading.
"""

from __future__ import annotations

import multiprocessing
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from claims import check
from numpy.typing import NDArray

import recordio

NUM_WORKERS = 2
NUM_EPOCHS = 20
BATCH_SIZE = 32         # records a worker and step
LEARNING_RATE = 0.5     # on pixels scaled to 0..1
HELD_OUT = 5            # every fifth record
NUM_PIXELS = 64
NUM_CLASSES = 10
PATIENCE_S = 60         # a worker whose peer is silent for longer ends with an error, and does not hang

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one worker reads: whole shards, and the numbers of their training records."""

    worker: int
    shards: tuple[str, ...]     # names of the record files
    records: tuple[int, ...]    # global record numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one worker did, sent to the parent at the end."""

    num_steps: int
    seen: tuple[int, ...]   # record numbers trained on in the last epoch
    weights: Floats         # float64[pixels + 1, classes]


def deal_shards(dataset: Any) -> list[Share]:
    """Shard i belongs to worker i mod 2; held-out records belong to nobody."""
    shares = []
    for worker in range(NUM_WORKERS):
        shards = dataset.shards[worker::NUM_WORKERS]
        numbers = (
            number
            for shard in shards
            for number in range(shard.first_record, shard.first_record + shard.num_records)
            if number % HELD_OUT
        )
        shares.append(Share(worker=worker, shards=tuple(shard.name for shard in shards), records=tuple(numbers)))
    return shares


def with_bias(images: NDArray[Any]) -> Floats:
    """float64[B, pixels + 1]: flat pixels in 0..1 and a one."""
    flat = images.reshape(len(images), NUM_PIXELS) / 16.0
    return np.concatenate([flat, np.ones((len(images), 1))], axis=1)


def gradient_sum(weights: Floats, images: NDArray[Any], labels: NDArray[Any]) -> Floats:
    """Sum over the batch of the gradient of softmax cross-entropy; zeros for an empty batch."""
    inputs = with_bias(images)
    logits = inputs @ weights
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    odds /= odds.sum(axis=1, keepdims=True)
    odds[np.arange(len(labels)), labels] -= 1
    total: Floats = inputs.T @ odds
    return total


def average(peer: Connection, worker: int, mine: Floats, count: int) -> Floats:
    """Mean gradient over the records of both workers; summed in worker order, so that both get the very same bits."""
    peer.send((mine, count))
    if not peer.poll(PATIENCE_S):
        raise TimeoutError(f"worker {worker}: no gradient from the other worker for {PATIENCE_S} s")
    theirs, their_count = peer.recv()
    first, second = (mine, theirs) if worker == 0 else (theirs, mine)
    mean: Floats = (first + second) / (count + their_count)
    return mean


def train(path: str, share: Share, num_batches: int, peer: Connection, parent: Connection) -> None:
    """One worker: open the data set, read this share once per epoch in a new order, step together with the peer."""
    dataset = recordio.open(path)
    weights = np.zeros((NUM_PIXELS + 1, NUM_CLASSES))
    num_steps = 0
    for epoch in range(NUM_EPOCHS):
        seen: list[int] = []
        order = np.random.default_rng((epoch, share.worker)).permutation(share.records)
        for numbers in np.array_split(order, num_batches):
            batch = dataset[numbers]
            mine = gradient_sum(weights, batch["image"], batch["label"])
            weights -= LEARNING_RATE * average(peer, share.worker, mine, len(numbers))
            seen.extend(numbers.tolist())
            num_steps += 1
    parent.send(Outcome(num_steps=num_steps, seen=tuple(seen), weights=weights))


def run_workers(path: str, shares: list[Share], num_batches: int) -> list[Outcome]:
    """Start both workers, and collect what they did; one that dies is an error at once."""
    context = multiprocessing.get_context("spawn")
    peers = context.Pipe()
    processes, answers = [], []
    for share, peer in zip(shares, peers, strict=True):
        answer, parent = context.Pipe(duplex=False)
        arguments = (path, share, num_batches, peer, parent)
        process = context.Process(target=train, args=arguments, name=f"worker {share.worker}")
        process.start()
        parent.close()      # the worker's end: when the worker dies, reading here ends instead of waiting
        processes.append(process)
        answers.append(answer)
    for peer in peers:
        peer.close()
    outcomes = []
    for process, answer in zip(processes, answers, strict=True):
        try:
            outcomes.append(answer.recv())
        except EOFError:
            process.join()
            sys.exit(f"FAILED: {process.name} ended with status {process.exitcode}")
    for process in processes:
        process.join()
    return outcomes


def main(path: str) -> None:
    """Deal the shards, train, and measure on the held-out records."""
    dataset = recordio.open(path)
    shares = deal_shards(dataset)
    num_batches = -(-max(len(share.records) for share in shares) // BATCH_SIZE)
    held_out = list(range(0, len(dataset), HELD_OUT))

    outcomes = run_workers(path, shares, num_batches)

    for share, outcome in zip(shares, outcomes, strict=True):
        print(
            f"  worker {share.worker}: {len(outcome.seen)} records an epoch from {len(share.shards)} shards "
            f"({', '.join(share.shards)}), {outcome.num_steps} steps"
        )
    seen = [number for outcome in outcomes for number in outcome.seen]
    check(len(set(seen)) == len(seen), "the workers' shares are disjoint")
    check(sorted(seen + held_out) == list(range(len(dataset))), "with the held-out records they are the whole data set")
    check(len({outcome.num_steps for outcome in outcomes}) == 1, f"both workers took {outcomes[0].num_steps} steps")
    check(np.array_equal(outcomes[0].weights, outcomes[1].weights), "both workers hold the very same weights")

    batch = dataset[held_out]
    accuracy = float(np.mean((with_bias(batch["image"]) @ outcomes[0].weights).argmax(axis=1) == batch["label"]))
    check(accuracy > 0.90, f"accuracy on {len(held_out)} held-out digits is {accuracy:.1%}, over 90 %")


if __name__ == "__main__":
    main(sys.argv[1])
