"""Contestants of the benchmark: one training, as each library's own documentation teaches it.

Each module has one function,

    start(task, examples, weights) -> (train_epoch, accuracy)

where `train_epoch()` passes once over the training examples in an order of its own, by plain SGD on
the mean loss of each batch, the ragged last one included, and returns when the device is done;
`accuracy()` is the share of the test examples classified right. What is done before the first
step, conversions and compilation ahead of time, happens in `start` or in the first epoch.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


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
"""Of each layer W, `[outputs, features]`, and b: all contestants begin with the same."""

Contestant = tuple[Callable[[], None], Callable[[], float]]
"""`(train_epoch, accuracy)`."""


def batches(order: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """The order in batches, the last one ragged."""
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def is_right(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether each example's class is the one that the logits favour."""
    predicted = logits[:, 0] > 0 if logits.shape[1] == 1 else logits.argmax(axis=1)
    return predicted == labels
