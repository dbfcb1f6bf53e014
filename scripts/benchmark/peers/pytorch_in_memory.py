"""PyTorch, with all examples as one tensor on the device, indexed by a permutation.

The step is the one of its tutorial "Optimizing Model Parameters". Batches are taken from the
tensor, as in its tutorial "What is torch.nn really?". Threads, `zero_grad` and SGD are at their
defaults.
"""

import torch
from torch import nn
from torch.nn import functional as F

from benchmark.workloads import Contestant, Data, Task, Weights


def network(task: Task, weights: Weights) -> nn.Sequential:
    """Return linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for W, b in weights:
        linear = nn.Linear(W.shape[1], W.shape[0])
        linear.load_state_dict({"weight": torch.from_numpy(W), "bias": torch.from_numpy(b)})
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1]).to(place(task))


def place(task: Task) -> torch.device:
    """Return the device of a task."""
    return torch.device("cuda" if task.device == "gpu" else "cpu")


def tensors(task: Task, x: object, y: object) -> tuple[torch.Tensor, torch.Tensor]:
    """Return intensities from 0 to 1, and labels in the dtype that the loss takes."""
    labels = torch.tensor(y, device=place(task))
    labels = labels.float() if task.sizes[-1] == 1 else labels.long()
    return torch.tensor(x, device=place(task)).float() / 255, labels


def cost(task: Task, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean cross entropy of a batch."""
    if task.sizes[-1] == 1:
        return F.binary_cross_entropy_with_logits(logits[:, 0], labels)
    return F.cross_entropy(logits, labels)


def weights_of(net: nn.Sequential) -> Weights:
    """Return the weights of a network."""
    layers = [layer for layer in net if isinstance(layer, nn.Linear)]
    return [(layer.weight.numpy(force=True), layer.bias.numpy(force=True)) for layer in layers]


def synchronise(task: Task) -> None:
    """Wait until the device is done."""
    if task.device == "gpu":
        torch.cuda.synchronize()


def start(task: Task, data: Data, weights: Weights) -> Contestant:
    """Take one step per batch of the permutation."""
    net = network(task, weights)
    optimizer = torch.optim.SGD(net.parameters(), lr=task.learning_rate)
    x, y = tensors(task, data.x_train, data.y_train)

    def train_epoch() -> None:
        for indices in torch.randperm(len(x), device=x.device).split(task.batch_size):
            optimizer.zero_grad()
            cost(task, net(x[indices]), y[indices]).backward()
            optimizer.step()
        synchronise(task)

    return train_epoch, lambda: weights_of(net)
