"""What is trained: the workloads, their data, and the weights that every contestant begins with."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

Weights: TypeAlias = list[tuple[np.ndarray, np.ndarray]]
"""W, `[outputs, features]`, and b, `[outputs]`, of each layer; perhaps with a leading axis of
models."""

Contestant: TypeAlias = tuple[Callable[[], None], Callable[[], Weights]]
"""`(train_epoch, learned)`, as `start` of each module in `peers` returns it."""

MODELS = 64
"""How many softmax models funcnet trains together in its sweep."""

SEED = 0
"""The seed of the first weights."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """What a contestant trains.

    Attributes:
      sizes: features, hidden units of each layer, outputs; one output is a logistic regression.
      batch_size: examples per step.
      learning_rate: the step size of plain SGD.
      device: "cpu" or "gpu".
    """

    sizes: tuple[int, ...]
    batch_size: int = 128
    learning_rate: float = 0.1
    device: str = "cpu"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """MNIST: intensities `[examples, 784]`, `uint8`, and labels `[examples]`, `int32`."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


SOFTMAX = "softmax, batch 128"
WORKLOADS = {
    SOFTMAX: Task(sizes=(784, 10)),
    "softmax, batch 32": Task(sizes=(784, 10), batch_size=32),
    "softmax, batch 1024": Task(sizes=(784, 10), batch_size=1024),
    "logistic, batch 128": Task(sizes=(784, 1)),
    "mlp 784-128-10": Task(sizes=(784, 128, 10)),
    "mlp 784-512-512-10": Task(sizes=(784, 512, 512, 10)),
}
QUICK = (SOFTMAX, "mlp 784-128-10")
"""The workloads of `--quick`."""


def save(data: Data, path: Path) -> Path:
    """Write the data where contestants read them; return the path."""
    np.savez(path, **vars(data))
    return path


def load(path: Path) -> Data:
    """Read what `save` wrote."""
    with np.load(path) as arrays:
        return Data(**arrays)


def examples_of(task: Task, data: Data) -> Data:
    """Return the data; for a single output, a label is 1 if the class is 0, else 0."""
    if task.sizes[-1] > 1:
        return data
    y_train, y_test = ((y == 0).astype(np.int32) for y in (data.y_train, data.y_test))
    return dataclasses.replace(data, y_train=y_train, y_test=y_test)


def first_weights(sizes: Sequence[int]) -> Weights:
    """Return He's initial weights, the same for all contestants; linear models begin at 0."""
    rng = np.random.default_rng(SEED)
    scale = [math.sqrt(2 / m) if len(sizes) > 2 else 0.0 for m in sizes[:-1]]
    return [
        ((s * rng.normal(size=(n, m))).astype(np.float32), np.zeros(n, np.float32))
        for s, (m, n) in zip(scale, itertools.pairwise(sizes), strict=True)
    ]


def batches(order: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cut an order into batches; the last one may be smaller."""
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def accuracy(weights: Weights, x: np.ndarray, y: np.ndarray) -> float:
    """Return the share of examples, of all models together, whose class has the largest logit."""

    def affine(layer: tuple[np.ndarray, np.ndarray], x: np.ndarray) -> np.ndarray:
        W, b = layer
        return x @ np.swapaxes(W, -1, -2) + b[..., None, :]

    *hidden, last = weights
    values = x.astype(np.float32) / 255
    for layer in hidden:
        values = np.maximum(affine(layer, values), 0)
    logits = affine(last, values)
    predicted = logits[..., 0] > 0 if logits.shape[-1] == 1 else logits.argmax(axis=-1)
    return float((predicted == y).mean())
