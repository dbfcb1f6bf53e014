"""python scripts/benchmark/peers/pytorch_cold.py MNIST_FOLDER

A program in PyTorch that does what `scripts/train.py --dataset mnist` does: softmax regression, ten
epochs, tested after each. The argument `--in-memory` leaves the DataLoader out.
"""

import gzip
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def read(folder: Path, name: str, header: int) -> torch.Tensor:
    """Return the array of an IDX file, without its header."""
    with gzip.open(folder / f"{name}.gz") as file:
        return torch.from_numpy(np.frombuffer(file.read(), np.uint8, offset=header).copy())


def main(folder: Path, *, in_memory: bool) -> None:
    """Train, and print the test accuracy after each epoch."""
    x_train = read(folder, "train-images-idx3-ubyte", 16).reshape(-1, 784).float() / 255
    y_train = read(folder, "train-labels-idx1-ubyte", 8).long()
    x_test = read(folder, "t10k-images-idx3-ubyte", 16).reshape(-1, 784).float() / 255
    y_test = read(folder, "t10k-labels-idx1-ubyte", 8).long()
    model = nn.Linear(784, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    loader = DataLoader(TensorDataset(x_train, y_train), batch_size=128, shuffle=True)
    for _ in range(10):
        batches = torch.randperm(len(x_train)).split(128)
        for x, y in ((x_train[b], y_train[b]) for b in batches) if in_memory else loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        with torch.no_grad():
            accuracy = (model(x_test).argmax(dim=1) == y_test).float().mean()
        print(f"test accuracy: {accuracy:.4f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), in_memory="--in-memory" in sys.argv)
