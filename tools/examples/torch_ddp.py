"""PyTorch, on any number of processes:   torchrun --nproc-per-node=2 torch_ddp.py --data digits --checkpoint ddp.pt

Stop it, or let it stop by itself (--stop-after 100), and start it again, with as many processes or another number: it
goes on with the very next record. Without torchrun it is one process.
"""

from __future__ import annotations

import argparse
import gc
import os

import torch
import torch.distributed as dist
from digits_data import CLASSES, SIZE, arguments, open_digits
from torch.nn.parallel import DistributedDataParallel

import recordio


def train_and_test(options: argparse.Namespace) -> None:
    torch.manual_seed(0)
    train, test = open_digits(options.data)
    # This process's part of every global batch of 64: parts differ by one record at most.
    batches = recordio.distribute(train.shuffle(seed=0).batch(64)).to_torch()
    layers = (torch.nn.Flatten(), torch.nn.Linear(SIZE * SIZE, 128), torch.nn.ReLU(), torch.nn.Linear(128, CLASSES))
    model = DistributedDataParallel(torch.nn.Sequential(*layers))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    step = 0
    if os.path.exists(options.checkpoint):
        saved = torch.load(options.checkpoint)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        batches.load_state_dict(saved["batches"])
        step = saved["step"]
        print(f"resumed after step {step}, at {saved['batches']['consumed']} records of its epoch")
    while batches.state_dict()["epoch"] < options.epochs:
        for batch in batches:
            loss = torch.nn.functional.cross_entropy(model(batch["image"] / 16), batch["label"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if dist.get_rank() == 0 and (step % 50 == 0 or step == options.stop_after):
                saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
                torch.save({**saved, "batches": batches.state_dict()}, options.checkpoint)
            if step == options.stop_after:
                return
    right = sum(int((model(one["image"] / 16).argmax(1) == one["label"]).sum()) for one in test.batch(250).to_torch())
    if dist.get_rank() == 0:
        print(f"{dist.get_world_size()} processes, {step} steps: test accuracy {right / len(test):.4f}")


if __name__ == "__main__":
    alone = {} if "RANK" in os.environ else {"rank": 0, "world_size": 1, "store": dist.HashStore()}
    dist.init_process_group("gloo", **alone)
    train_and_test(arguments(__doc__, epochs=20, checkpoint="ddp.pt", stop_after=0))
    gc.collect()  # the model before the group, or gloo may abort the process when it ends
    dist.destroy_process_group()
