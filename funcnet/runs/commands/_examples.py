"""The functions that `trace` can draw by name: the lecture's, and the costs of three models."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax

from funcnet import losses, models
from funcnet.base import Model
from funcnet.data import load

NUM_IMAGES = 4  # images of digits that a cost is the mean over

Example: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function and its arguments."""


def lecture(w1: Any, w2: Any, w3: Any, w4: Any, a: Any) -> Any:
    """The lecture's example."""
    b = w1 * a
    c = w2 * a
    d = w3 * b + w4 * c
    L = 10 - d
    return L  # noqa: RET504


def _cost(model: Model, loss: Callable[..., Any], target: Callable = lambda y: y) -> Example:
    """The mean loss of a model as a function of its parameters, and arguments for it."""

    def cost(params: Any, x: Any, y: Any) -> Any:
        z = model.apply(params, x)
        losses = loss(z, y)
        return losses.mean()

    batch = load("digits").train
    x, y = batch.inputs[:NUM_IMAGES], batch.targets[:NUM_IMAGES]
    return cost, (model.init(jax.random.key(0)), x, target(y))


EXAMPLES: dict[str, Callable[[], Example]] = {
    "lecture": lambda: (lecture, (1.0, 2.0, 3.0, 4.0, 5.0)),
    "logistic": lambda: _cost(  # is the digit a 3?
        models.logistic_regression(num_features=64),
        losses.binary_cross_entropy,
        lambda y: (y == 3).astype("float32"),
    ),
    "softmax": lambda: _cost(  # which digit is it?
        models.softmax_regression(num_features=64, num_classes=10), losses.softmax_cross_entropy
    ),
    "mlp": lambda: _cost(models.mlp((64, 16, 10), activation="tanh"), losses.softmax_cross_entropy),
}
