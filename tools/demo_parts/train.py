"""Worker processes read the digits through `recordio.distribute`, average their gradients and train one classifier.

    AUTO    two workers, one global order
    FILE    two workers, each with its own shards
    killed  two workers, AUTO, SIGKILLed within an epoch; three others go on from the checkpoint of the last step

Every fifth record is held out; the parent measures the accuracy on those, which no worker trained on. The number of
steps follows from the index alone, so all workers take the same and none waits for ever. How they talk is in `workers`.

    train.py DATA_SET [SEED]        the seed says when the workers are killed; a random one by default
"""

from __future__ import annotations

import secrets
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from claims import check
from softmax import Floats, accuracy, first_weights, gradient_sum
from workers import Job, Report, Run, distributed, load_checkpoint, random_kill, run, training_records

import recordio

NUM_EPOCHS = 20
NUM_EPOCHS_FILE = 5


def check_epochs(steps: list[list[Report]], expected: list[int], num_epochs: int) -> None:
    """The steps hold every training record exactly once in each epoch."""
    seen: list[list[int]] = [[] for _ in range(num_epochs)]
    for reports in steps:
        for report in reports:
            seen[report.epoch].extend(report.seen)
    check(
        all(sorted(numbers) == expected for numbers in seen),
        f"parts are disjoint, and every one of {len(expected)} records was seen exactly once in each of "
        f"{num_epochs} epochs",
    )


def check_agreement(found: Run, num_steps: int) -> Floats:
    """All workers did the same number of steps and ended at the same place; their weights."""
    outcomes = found.outcomes
    check(
        {outcome.num_steps for outcome in outcomes} == {num_steps}
        and all(np.array_equal(outcome.weights, outcomes[0].weights) for outcome in outcomes),
        f"all {len(outcomes)} workers stand at step {num_steps} and hold the very same weights",
    )
    check_states(found)
    return outcomes[0].weights


def check_states(found: Run) -> None:
    """Pipelines need not tell each other where they are."""
    agree = all(report.state == reports[0].state for reports in found.steps for report in reports)
    check(agree, f"state_dict() was the same on all pipelines after each of {len(found.steps)} steps")


def check_accuracy(dataset: recordio.Dataset, weights: Floats) -> None:
    """On what no worker trained on."""
    training = set(training_records(len(dataset)))
    held_out = [number for number in range(len(dataset)) if number not in training]
    share = accuracy(weights, dataset[held_out])
    check(share > 0.90, f"accuracy on {len(held_out)} held-out digits is {share:.1%}, over 90 %")


def main(path: str, seed: int) -> None:
    """Three trainings, each with its claims."""
    dataset = recordio.open(path)
    expected = training_records(len(dataset))
    check(not gradient_sum(first_weights(), dataset[[]]).any(), "a part without records has a gradient of zeros")

    print("AUTO, 2 workers:")
    job = Job(path=path, num_workers=2, policy=recordio.AutoShardPolicy.AUTO, num_epochs=NUM_EPOCHS)
    epoch_steps = len(distributed(job, 0))
    found = run(job)
    check_epochs(found.steps, expected, NUM_EPOCHS)
    uninterrupted = check_agreement(found, NUM_EPOCHS * epoch_steps)
    check_accuracy(dataset, uninterrupted)

    print("FILE, 2 workers:")
    by_file = replace(job, policy=recordio.AutoShardPolicy.FILE, num_epochs=NUM_EPOCHS_FILE)
    found = run(by_file)
    check_epochs(found.steps, expected, NUM_EPOCHS_FILE)
    check_agreement(found, NUM_EPOCHS_FILE * len(distributed(by_file, 0)))

    kill = random_kill(seed, NUM_EPOCHS, epoch_steps)
    print(f"AUTO, 2 workers, killed after step {kill.num_steps} of {NUM_EPOCHS * epoch_steps} (seed {seed}):")
    with tempfile.TemporaryDirectory() as directory:
        job = replace(job, checkpoint=Path(directory) / "checkpoint.json")
        assert job.checkpoint is not None
        killed = run(job, kill)
        check_states(killed)
        saved_steps, _, state = load_checkpoint(job.checkpoint)
        check(
            0 < saved_steps <= len(killed.steps) and state == killed.steps[saved_steps - 1][0].state,
            f"SIGKILL left a whole checkpoint, of step {saved_steps}: epoch {state['epoch']}, "
            f"{state['consumed']} of {len(expected)} records",
        )
        print("resumed with 3 workers:")
        resumed = run(replace(job, num_workers=3, resumes=True))
    # Steps after the checkpoint are undone, and are taken again.
    check_epochs(killed.steps[:saved_steps] + resumed.steps, expected, NUM_EPOCHS)
    weights = check_agreement(resumed, NUM_EPOCHS * epoch_steps)
    check(np.allclose(weights, uninterrupted, rtol=1e-6, atol=1e-9), "to rounding, they are the uninterrupted run's")
    check_accuracy(dataset, weights)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else secrets.randbelow(2**32))
