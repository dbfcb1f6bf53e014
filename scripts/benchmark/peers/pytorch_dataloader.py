"""PyTorch, with a `DataLoader` over a `TensorDataset`.

It follows the tutorial "What is torch.nn really?". The loader has its defaults: no process of its
own, which for examples in memory only adds work.
"""

import dataclasses

import torch
from torch.utils.data import DataLoader, TensorDataset

from benchmark.peers.pytorch_in_memory import cost, network, place, synchronise, tensors, weights_of
from benchmark.workloads import Contestant, Data, Task, Weights


def start(task: Task, data: Data, weights: Weights) -> Contestant:
    """Take one step per batch of the loader."""
    net = network(task, weights)
    optimizer = torch.optim.SGD(net.parameters(), lr=task.learning_rate)
    on_host = tensors(dataclasses.replace(task, device="cpu"), data.x_train, data.y_train)
    loader = DataLoader(TensorDataset(*on_host), batch_size=task.batch_size, shuffle=True)

    def train_epoch() -> None:
        for x, y in loader:
            optimizer.zero_grad()
            cost(task, net(x.to(place(task))), y.to(place(task))).backward()
            optimizer.step()
        synchronise(task)

    return train_epoch, lambda: weights_of(net)
