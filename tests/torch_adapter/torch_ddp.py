"""One process of distributed training: run by torch.distributed.run, or alone. Stops after some steps, and goes on.

    torch_ddp.py DATA_SET CHECKPOINT STEPS_BEFORE_STOP
"""

import gc
import json
import os
import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import recordio

BATCH_SIZE, NUM_EPOCHS = 32, 2


def train(path, checkpoint, num_steps):
    world_size, rank = dist.get_world_size(), dist.get_rank()
    part = recordio.distribute(recordio.open(path).shuffle(seed=3).batch(BATCH_SIZE))
    assert part.context.detected_from == "torch.distributed", part.context.detected_from
    model = torch.nn.Linear(4, 1)
    torch.nn.init.constant_(model.weight, 0.5)
    torch.nn.init.constant_(model.bias, 0.0)
    batches = part.to_torch()
    if os.path.exists(checkpoint):
        saved = torch.load(checkpoint)
        model.load_state_dict(saved["model"])
        batches.load_state_dict(saved["batches"])
    model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    losses, seen, left = [], [], num_steps
    while left and part.state_dict()["epoch"] < NUM_EPOCHS:
        for batch in batches:
            count = torch.tensor([len(batch["id"])])
            dist.all_reduce(count)
            # DDP takes the mean of the processes' gradients: each weighs its part of the global batch.
            loss = ((model(batch["x"]) - batch["y"]) ** 2).sum() / count * world_size
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total = loss.detach().clone()
            dist.all_reduce(total)
            parts = [None] * world_size
            dist.all_gather_object(parts, batch["id"].tolist())
            losses.append(float(total) / world_size)
            seen.append([number for one in parts for number in one])
            left -= 1
            if not left:
                break
    if rank == 0:
        torch.save({"model": model.module.state_dict(), "batches": batches.state_dict()}, checkpoint)
        print(json.dumps({"losses": losses, "seen": seen}), flush=True)
    dist.barrier()


def main(path, checkpoint, num_steps):
    dist.init_process_group("gloo")
    train(path, checkpoint, num_steps)
    # The DDP model, which is in a cycle, before the group: else gloo may abort the process when it ends (torch 2.13:
    # one time in ten, under load).
    gc.collect()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
