"""Hugging Face datasets: shuffled, mapped and batched by it, read from recordio:   python huggingface.py --data digits

In a run of many processes, each takes its part: split_dataset_by_node(records, rank, world_size).
"""

from __future__ import annotations

import torch
from digits_data import CLASSES, SIZE, arguments, open_digits
from torch.utils.data import DataLoader


def main() -> None:
    options = arguments(__doc__, epochs=20)
    torch.manual_seed(0)
    train, test = open_digits(options.data)
    records = train.to_hf_iterable().shuffle(seed=0, buffer_size=2000).with_format("torch")
    layers = (torch.nn.Flatten(), torch.nn.Linear(SIZE * SIZE, 128), torch.nn.ReLU(), torch.nn.Linear(128, CLASSES))
    model = torch.nn.Sequential(*layers)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for epoch in range(options.epochs):
        records.set_epoch(epoch)  # another order
        for batch in DataLoader(records, batch_size=64, num_workers=2):
            loss = torch.nn.functional.cross_entropy(model(batch["image"] / 16), batch["label"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    right = 0
    for batch in test.to_hf_iterable().with_format("torch").iter(batch_size=250):
        right += int((model(batch["image"] / 16).argmax(1) == batch["label"]).sum())
    print(f"huggingface: test accuracy {right / len(test):.4f}")


if __name__ == "__main__":
    main()
