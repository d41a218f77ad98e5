"""Lightning trains, and notes which records it saw: one run, which starts its other processes by itself.

    lightning_fit.py DATA_SET DIRECTORY NUM_PROCESSES NUM_WORKERS MAX_STEPS MAX_EPOCHS

It goes on from DIRECTORY/last.ckpt, if that is there, and appends what each process saw to DIRECTORY/seen-RANK: a line
for each step, `epoch number number ...`. NUM_WORKERS -1: Lightning is given the data set itself, not a DataLoader.
MAX_STEPS -1: no limit, and a checkpoint after every epoch instead of every step.
"""

import gc
import sys
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torchdata.stateful_dataloader import StatefulDataLoader

import recordio

BATCH_SIZE = 32


class Model(lightning.LightningModule):
    def __init__(self, directory):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.directory = directory

    def training_step(self, batch, _):
        with (self.directory / f"seen-{self.global_rank}").open("a") as file:
            print(self.current_epoch, *batch["id"].tolist(), file=file)
        return self.layer(batch["id"].float()[:, None]).mean() * 1e-6

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-6)


class Data(lightning.LightningDataModule):
    def __init__(self, path, num_workers):
        super().__init__()
        self.path, self.num_workers = path, num_workers

    def train_dataloader(self):
        part = recordio.distribute(recordio.open(self.path).shuffle(seed=3).batch(BATCH_SIZE)).to_torch()
        # Its number as Lightning tells it to samplers: after the end of an epoch, dataloaders are given no state, and
        # current_epoch is not right yet.
        part.set_epoch(self.trainer.fit_loop.epoch_progress.current.processed)
        if self.num_workers < 0:
            return part
        return StatefulDataLoader(part, batch_size=None, num_workers=self.num_workers)


def main(path, directory, num_processes, num_workers, max_steps, max_epochs):
    last = directory / "last.ckpt"
    every = {"every_n_train_steps": 1} if max_steps > 0 else {"every_n_epochs": 1}
    trainer = lightning.Trainer(
        max_epochs=max_epochs, max_steps=max_steps, accelerator="cpu", devices=num_processes, logger=False,
        strategy="ddp" if num_processes > 1 else "auto", enable_progress_bar=False, enable_model_summary=False,
        callbacks=[ModelCheckpoint(directory, save_last=True, save_top_k=1, **every)],
    )
    trainer.fit(Model(directory), Data(path, num_workers), ckpt_path=str(last) if last.exists() else None)
    if torch.distributed.is_initialized():
        gc.collect()  # as in torch_ddp.py
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
