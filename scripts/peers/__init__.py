"""Contestants of the benchmark: one training, as each library's own documentation teaches it.

Each module has one function,

    start(task, data, weights) -> (train_epoch, learned)

where `train_epoch()` passes once over the training examples in an order of its own, by plain SGD on
the mean loss of each batch, the ragged last one included, and returns when the device is done;
`learned()` are the weights by then. All begin with the same, and one function, `accuracy`, judges
them all. What is done before the first step, conversions and compilation ahead of time, happens in
`start` or in the first epoch.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

MODELS = 64
"""How many softmax models train together where funcnet's are many."""


class Task(NamedTuple):
    """What to train.

    Attributes:
      sizes: features, hidden units of each layer, outputs: one output is a logistic regression.
      batch_size: examples a step.
      learning_rate: of plain SGD.
      device: "cpu" or "gpu".
    """

    sizes: tuple[int, ...]
    batch_size: int = 128
    learning_rate: float = 0.1
    device: str = "cpu"


class Data(NamedTuple):
    """MNIST: `[examples, 784]` intensities, `uint8`, and labels, `int32`; 0 or 1 for one output."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


Weights = list[tuple[np.ndarray, np.ndarray]]
"""Of each layer W, `[outputs, features]`, and b, `[outputs]`; before them an axis of models, or
none."""

Contestant = tuple[Callable[[], None], Callable[[], Weights]]
"""`(train_epoch, learned)`."""


def batches(order: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """The order in batches, the last one ragged."""
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def accuracy(weights: Weights, x: np.ndarray, y: np.ndarray) -> float:
    """The share of the examples, of all models together, whose class the logits favour."""

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
