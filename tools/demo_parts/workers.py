"""Worker processes that train together, and the parent that sums their gradients.

    worker 0: its part of step s -> gradient \\             / -> weights of step s + 1, the same in all
    worker 1: its part of step s -> gradient  -> parent: mean
    worker 2: ...                            /             \\

What a worker reads is decided by `recordio.distribute` alone. Nobody waits for ever: a worker that dies is an error at
once, and one that says nothing for PATIENCE_S is one, too. Which claims hold is checked in `train`.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import numpy as np
from softmax import Floats, first_weights, gradient_sum

import recordio

BATCH_SIZE = 64         # records of a global batch
LEARNING_RATE = 0.5     # on pixels scaled to 0..1
HELD_OUT = 5            # every fifth record
PATIENCE_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What all workers of a run do."""

    path: str               # of the data set
    num_workers: int        # input pipelines, each with one replica
    policy: recordio.AutoShardPolicy
    num_epochs: int
    checkpoint: Path | None = None      # written after every step
    resumes: bool = False               # begin at the checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One worker's part of one step."""

    epoch: int
    seen: tuple[int, ...]       # record numbers
    state: dict[str, Any]       # of the data set, after this step
    gradient: Floats            # summed over the records
    count: int                  # records; zero is allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A worker's end."""

    num_steps: int      # since the very beginning, those of the checkpoint included
    weights: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """When the parent kills its workers: so long after it has answered that many steps."""

    num_steps: int
    delay_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What the parent saw; no outcomes from workers that it killed."""

    steps: list[list[Report]]       # step by step, in worker order
    outcomes: list[Outcome]


def training_records(num_records: int) -> list[int]:
    """Numbers of the records that are not held out."""
    return [number for number in range(num_records) if number % HELD_OUT]


def distributed(job: Job, worker: int) -> recordio.DistributedDataset:
    """What one worker reads."""
    dataset = recordio.open(job.path)
    loader = dataset.subset(training_records(len(dataset))).shuffle(seed=0).batch(BATCH_SIZE)
    context = recordio.InputContext(
        num_input_pipelines=job.num_workers, input_pipeline_id=worker, num_replicas_in_sync=job.num_workers
    )
    return recordio.distribute(loader, context, policy=job.policy)


def save_checkpoint(path: Path, num_steps: int, weights: Floats, state: dict[str, Any]) -> None:
    """Replace the checkpoint in one go: whoever is killed here leaves the old one or the new one."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps({"num_steps": num_steps, "weights": weights.tolist(), "state": state}))
    os.replace(unfinished, path)


def load_checkpoint(path: Path) -> tuple[int, Floats, dict[str, Any]]:
    """Steps, weights and state; JSON gives back the very same float64."""
    saved = json.loads(path.read_text())
    return saved["num_steps"], np.array(saved["weights"]), saved["state"]


def train(job: Job, worker: int, parent: Connection) -> None:
    """One worker: read our part of every step, and apply the mean gradient over all parts."""
    dist = distributed(job, worker)
    num_steps, weights = 0, first_weights()
    if job.checkpoint and job.resumes:
        num_steps, weights, state = load_checkpoint(job.checkpoint)
        dist.load_state_dict(state)
    for epoch in range(dist.state_dict()["epoch"], job.num_epochs):
        for step in dist:
            (batch,) = recordio.experimental_local_results(step)
            state = dist.state_dict()
            gradient, seen = gradient_sum(weights, batch), tuple(batch["id"].tolist())
            parent.send(Report(epoch=epoch, seen=seen, state=state, gradient=gradient, count=len(seen)))
            if not parent.poll(PATIENCE_S):
                raise TimeoutError(f"worker {worker}: no mean gradient for {PATIENCE_S} s")
            weights = weights - LEARNING_RATE * parent.recv()
            num_steps += 1
            # The states of all workers are equal, and so are the weights: one of them saves for all.
            if job.checkpoint and worker == 0:
                save_checkpoint(job.checkpoint, num_steps, weights, state)
    parent.send(Outcome(num_steps=num_steps, weights=weights))


def run(job: Job, kill: Kill | None = None) -> Run:
    """Start the workers and serve them to their end, or until they are killed."""
    context = multiprocessing.get_context("spawn")
    processes: list[SpawnProcess] = []
    connections: list[Connection] = []
    try:
        for worker in range(job.num_workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=train, args=(job, worker, theirs), name=f"worker {worker}")
            process.start()
            theirs.close()      # so that reading from a worker that died ends instead of waiting
            processes.append(process)
            connections.append(ours)
        found = _serve(processes, connections, kill)
        if not found.outcomes:
            for process in processes:
                process.kill()
        for process in processes:
            process.join(PATIENCE_S)
            expected = 0 if found.outcomes else -signal.SIGKILL
            if process.exitcode != expected:
                sys.exit(f"FAILED: {process.name} ended with status {process.exitcode}, not {expected}")
        return found
    finally:
        for process in processes:
            process.kill()
            process.join()


def _serve(processes: Sequence[SpawnProcess], connections: list[Connection], kill: Kill | None) -> Run:
    steps: list[list[Report]] = []
    while kill is None or len(steps) < kill.num_steps:
        messages = _gathered(processes, connections)
        reports = [message for message in messages if isinstance(message, Report)]
        outcomes = [message for message in messages if isinstance(message, Outcome)]
        if not reports:
            return Run(steps=steps, outcomes=outcomes)
        if outcomes:
            sys.exit(f"FAILED: {len(outcomes)} workers are done after {len(steps)} steps, {len(reports)} go on")
        steps.append(reports)
        # Summed in worker order, whoever was first, and weighted by records: parts differ in size.
        mean = sum(report.gradient for report in reports) / sum(report.count for report in reports)
        for process, connection in zip(processes, connections, strict=True):
            try:
                connection.send(mean)
            except OSError:
                _fail(process)
    time.sleep(kill.delay_s)
    return Run(steps=steps, outcomes=[])


def _gathered(processes: Sequence[SpawnProcess], connections: list[Connection]) -> list[Report | Outcome]:
    """One message of every worker, in worker order."""
    messages: dict[int, Report | Outcome] = {}
    until = time.monotonic() + PATIENCE_S
    while len(messages) < len(connections):
        missing = {connection: worker for worker, connection in enumerate(connections) if worker not in messages}
        ready = wait(list(missing), timeout=max(0.0, until - time.monotonic()))
        if not ready:
            sys.exit(f"FAILED: workers {sorted(missing.values())} said nothing for {PATIENCE_S} s")
        for connection in ready:
            assert isinstance(connection, Connection)
            worker = missing[connection]
            try:
                messages[worker] = connection.recv()
            except (EOFError, OSError):
                _fail(processes[worker])
    return [messages[worker] for worker in range(len(connections))]


def _fail(process: SpawnProcess) -> None:
    process.join(PATIENCE_S)
    sys.exit(f"FAILED: {process.name} ended with status {process.exitcode}")


def random_kill(seed: int, num_epochs: int, epoch_steps: int) -> Kill:
    """Somewhere within an epoch, neither the first nor the last one: some of its records were read, some are left."""
    chance = random.Random(seed)
    epoch, step = chance.randrange(1, num_epochs - 1), chance.randrange(2, epoch_steps - 1)
    return Kill(num_steps=epoch * epoch_steps + step, delay_s=chance.uniform(0, 0.005))
