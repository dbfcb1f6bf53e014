"""Metrics: counts and sums over examples, never means of means.

A count over a whole data set is the sum of the counts over its parts, however they are cut; a mean
of means is not the mean. So parts are summed, and divided once, at the end.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int


class Evaluation(NamedTuple):
    """What a model got right on a set of examples.

    Attributes:
      loss_sum: the sum of the losses, one an example.
      correct: how many were classified right.
      examples: how many there were.
    """

    loss_sum: Float[Array, ""]
    correct: Int[Array, ""]
    examples: Int[Array, ""]

    @property
    def loss(self) -> float:
        """The mean loss."""
        return float(self.loss_sum) / int(self.examples)

    @property
    def accuracy(self) -> float:
        """The share classified right, 0 to 1."""
        return int(self.correct) / int(self.examples)


def is_correct(
    logits: Float[ArrayLike, "*batch_or_classes"], labels: Int[ArrayLike, "*batch"]
) -> Bool[Array, "*batch"]:
    """Whether each example's class is the one that the logits favour.

    Logits of the labels' shape are a logistic regression's, the log odds of class 1; with one axis
    more, that last axis counts the classes, and the largest is the prediction.

    >>> is_correct(jnp.array([[0.1, 3.0], [2.0, 0.0]]), jnp.array([1, 1]))
    Array([ True, False], dtype=bool)
    >>> is_correct(jnp.array([-0.2, 0.7]), jnp.array([1, 1]))
    Array([False,  True], dtype=bool)
    """
    z, y = jnp.asarray(logits), jnp.asarray(labels)
    predicted = z > 0 if z.ndim == y.ndim else jnp.argmax(z, axis=-1)
    return predicted.astype(y.dtype) == y
