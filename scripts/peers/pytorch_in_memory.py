"""PyTorch, with all examples as one tensor on the device, indexed by a permutation.

The step is that of its tutorial "Optimizing Model Parameters"; like its "What is torch.nn really?"
it takes its batches from the tensor. Threads, `zero_grad` and SGD are at their defaults.
"""

import torch
from torch import nn
from torch.nn import functional as F

from peers import Contestant, Data, Task, Weights


def network(task: Task, weights: Weights) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for W, b in weights:
        linear = nn.Linear(W.shape[1], W.shape[0])
        linear.load_state_dict({"weight": torch.from_numpy(W), "bias": torch.from_numpy(b)})
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1]).to(place(task))


def place(task: Task) -> torch.device:
    """The device of a task."""
    return torch.device("cuda" if task.device == "gpu" else "cpu")


def tensors(task: Task, x: object, y: object) -> tuple[torch.Tensor, torch.Tensor]:
    """Intensities from 0 to 1, and labels as the loss wants them."""
    labels = torch.tensor(y, device=place(task))
    labels = labels.float() if task.sizes[-1] == 1 else labels.long()
    return torch.tensor(x, device=place(task)).float() / 255, labels


def cost(task: Task, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The mean cross entropy of a batch."""
    if task.sizes[-1] == 1:
        return F.binary_cross_entropy_with_logits(logits[:, 0], labels)
    return F.cross_entropy(logits, labels)


def weights_of(net: nn.Sequential) -> Weights:
    """What a network has learned."""
    layers = [layer for layer in net if isinstance(layer, nn.Linear)]
    return [(layer.weight.numpy(force=True), layer.bias.numpy(force=True)) for layer in layers]


def synchronise(task: Task) -> None:
    """Waits until the device is done."""
    if task.device == "gpu":
        torch.cuda.synchronize()


def start(task: Task, data: Data, weights: Weights) -> Contestant:
    """A step a batch of the permutation."""
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
