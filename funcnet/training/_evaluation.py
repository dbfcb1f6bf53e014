"""An evaluation: parts are summed, and the sum is divided once; a mean of means is not the mean."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from funcnet.base import Examples, Params
from funcnet.training._epoch import check_examples
from funcnet.training._step import Apply, Loss


class Evaluation(NamedTuple):
    """The sum of some examples' losses, how many are classified right, and how many there are."""

    loss_sum: Float[Array, ""]
    correct: Int[Array, ""]
    examples: Int[Array, ""]

    @property
    def loss(self) -> float:
        """The mean loss."""
        return float(self.loss_sum) / int(self.examples)

    @property
    def accuracy(self) -> float:
        """The share of the examples classified correctly, 0 to 1."""
        return int(self.correct) / int(self.examples)


@functools.partial(jax.jit, static_argnames=("apply", "loss", "batch_size"))
def evaluate(
    apply: Apply, loss: Loss, params: Params, examples: Examples, *, batch_size: int = 1000
) -> Evaluation:
    """Evaluate a classifier on every example, the ragged end included.

    It predicts the class of the largest logit. A single logit is that of logistic regression, the
    log odds of class 1.

    Args:
      apply: `apply(params, inputs) -> logits`, called on one example, without a batch axis.
      loss: `loss(logits, label) -> loss`, called on one example. JAX compiles anew for each new
        `apply` and `loss`, so pass the same function objects again.
      params: the parameters.
      examples: inputs and integer labels.
      batch_size: examples that are evaluated at once. It bounds the memory and changes no count.

    >>> from funcnet.losses import softmax_cross_entropy
    >>> examples = Examples(inputs=jnp.eye(3), targets=jnp.array([0, 1, 1]))
    >>> result = evaluate(lambda w, x: w * x, softmax_cross_entropy, jnp.array(9.0), examples)
    >>> print(f"{result.correct} of {result.examples}, loss {result.loss:.4f}")
    2 of 3, loss 3.0002
    """
    check_examples(examples, batch_size)

    def evaluate_one(example: Examples) -> tuple[Array, Array]:
        logits, label = apply(params, example.inputs), example.targets
        predicted = logits.argmax() if logits.ndim else logits > 0
        return loss(logits, label), predicted.astype(label.dtype) == label

    losses, correct = jax.lax.map(evaluate_one, examples, batch_size=batch_size)
    count = jnp.array(len(correct))
    return Evaluation(loss_sum=losses.sum(), correct=correct.sum(), examples=count)
