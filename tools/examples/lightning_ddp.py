"""Lightning:   python lightning_ddp.py --data digits --devices 2   and again, to go on; with another number, too"""

from __future__ import annotations

import gc
import os

import lightning
import torch
from digits_data import CLASSES, SIZE, arguments, open_digits
from lightning.pytorch.callbacks import ModelCheckpoint

import recordio


class Digits(lightning.LightningDataModule):
    def __init__(self, train: recordio.Dataset) -> None:
        super().__init__()
        self.train = train

    def train_dataloader(self) -> object:
        # This process's part. A checkpoint says where that stands in an epoch; after the end of one, its number counts.
        batches = recordio.distribute(self.train.shuffle(seed=0).batch(64)).to_torch()
        batches.set_epoch(self.trainer.fit_loop.epoch_progress.current.processed)
        return batches


class Classifier(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        layers = (torch.nn.Flatten(), torch.nn.Linear(SIZE * SIZE, 128), torch.nn.ReLU(), torch.nn.Linear(128, CLASSES))
        self.model = torch.nn.Sequential(*layers)

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(self.model(batch["image"] / 16), batch["label"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 3e-3)


def main() -> None:
    options = arguments(__doc__, epochs=20, devices=1, checkpoints="lightning", stop_after=-1)
    last = f"{options.checkpoints}/last.ckpt"
    train, test = open_digits(options.data)
    trainer = lightning.Trainer(
        max_epochs=options.epochs, max_steps=options.stop_after, accelerator="cpu", devices=options.devices,
        strategy="ddp" if options.devices > 1 else "auto", logger=False, enable_progress_bar=False,
        callbacks=[ModelCheckpoint(options.checkpoints, every_n_train_steps=10, save_last=True)],
    )  # fmt: skip
    model = Classifier()
    trainer.fit(model, Digits(train), ckpt_path=last if os.path.exists(last) else None)
    right = sum(int((model.model(b["image"] / 16).argmax(1) == b["label"]).sum()) for b in test.batch(250).to_torch())
    print(f"{trainer.global_step} steps: test accuracy {right / len(test):.4f}")
    if torch.distributed.is_initialized():
        gc.collect()  # as in torch_ddp.py
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
