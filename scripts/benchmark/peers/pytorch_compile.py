"""PyTorch, with the examples in memory, and the forward and backward pass compiled.

As in its "Introduction to torch.compile", a function is compiled in the default mode. The
optimiser's step stays as it is.
"""

import torch

from benchmark.peers.pytorch_in_memory import cost, network, synchronise, tensors, weights_of
from benchmark.workloads import Contestant, Data, Task, Weights


def start(task: Task, data: Data, weights: Weights) -> Contestant:
    """Compile the cost; a smaller last batch is compiled too."""
    net = network(task, weights)
    optimizer = torch.optim.SGD(net.parameters(), lr=task.learning_rate)
    x, y = tensors(task, data.x_train, data.y_train)
    compiled = torch.compile(lambda x, y: cost(task, net(x), y))

    def train_epoch() -> None:
        for indices in torch.randperm(len(x), device=x.device).split(task.batch_size):
            optimizer.zero_grad()
            compiled(x[indices], y[indices]).backward()
            optimizer.step()
        synchronise(task)

    return train_epoch, lambda: weights_of(net)
