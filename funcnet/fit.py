"""The host's loop: one compiled epoch after another, each followed by an evaluation."""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from funcnet.base import Examples, Params
from funcnet.metrics import Evaluation
from funcnet.training import StepInfo, TrainState


class EpochInfo(NamedTuple):
    """What a person wants to see of an epoch.

    Attributes:
      epoch: its number, from 1.
      train_loss: the mean loss over its examples, each before the step that learnt from it.
      test_loss: the mean loss over the test examples, after it.
      test_accuracy: the share of the test examples classified right, 0 to 1.
      test_correct: how many those are.
      test_examples: how many test examples there are.
      seconds: how long the training took, evaluation apart.
      examples_per_second: training examples over seconds.
    """

    epoch: int
    train_loss: float
    test_loss: float
    test_accuracy: float
    test_correct: int
    test_examples: int
    seconds: float
    examples_per_second: float


class DivergenceError(ArithmeticError):
    """The loss stopped being finite."""


def fit(
    state: TrainState,
    *,
    train_epoch: Callable[[TrainState, Examples], tuple[TrainState, StepInfo]],
    evaluate: Callable[[Params], Evaluation],
    examples: Iterator[Examples],
    epochs: int,
    batch_size: int,
) -> Iterator[tuple[TrainState, EpochInfo]]:
    """Trains an epoch at a time; yields the state after each, and what there is to see of it.

    Args:
      state: where to begin.
      train_epoch: `(state, examples) -> (state, info)`.
      evaluate: `params -> Evaluation`, on the test examples.
      examples: the training examples, in the order of one epoch after another.
      epochs: how many.
      batch_size: how many examples a step of `train_epoch` takes.

    >>> import itertools
    >>> import jax.numpy as jnp
    >>> def train_epoch(state, examples):  # halves the parameter, and calls it the loss
    ...     return state._replace(params=state.params / 2), StepInfo(loss=state.params[None])
    >>> def evaluate(params):
    ...     return Evaluation(loss_sum=params, correct=jnp.array(1), examples=jnp.array(2))
    >>> state = TrainState(params=jnp.array(4.0), opt_state=(), step=jnp.array(0))
    >>> examples = itertools.repeat(Examples(inputs=np.zeros([2, 1]), targets=np.zeros(2)))
    >>> epochs = fit(
    ...     state, train_epoch=train_epoch, evaluate=evaluate, examples=examples, epochs=2,
    ...     batch_size=2,
    ... )
    >>> [(info.epoch, info.train_loss, info.test_loss) for state, info in epochs]
    [(1, 4.0, 1.0), (2, 2.0, 0.5)]

    Raises:
      DivergenceError: a loss is not finite. What was yielded before remains good.
    """
    now = next(examples)
    num_examples = len(now.targets)
    for epoch in range(epochs):
        start = time.perf_counter()
        state, info = train_epoch(state, now)
        now = next(examples, now)  # put in order while the device works
        losses = np.asarray(info.loss)
        seconds = time.perf_counter() - start
        test = evaluate(state.params)
        _assert_finite(losses, test.loss, epoch)
        batch_sizes = np.full(len(losses), batch_size)
        batch_sizes[-1] = num_examples - batch_size * (len(losses) - 1)
        yield (
            state,
            EpochInfo(
                epoch=epoch + 1,
                train_loss=float(np.average(losses, weights=batch_sizes)),
                test_loss=test.loss,
                test_accuracy=test.accuracy,
                test_correct=int(test.correct),
                test_examples=int(test.examples),
                seconds=seconds,
                examples_per_second=num_examples / seconds,
            ),
        )


def _assert_finite(losses: np.ndarray, test_loss: float, epoch: int) -> None:
    """Names the first step whose loss is not finite; the last step's shows in the test loss."""
    bad = np.flatnonzero(~np.isfinite([*losses, test_loss]))
    if len(bad):
        step = min(bad[0], len(losses) - 1)
        loss = losses[step] if bad[0] < len(losses) else test_loss
        raise DivergenceError(
            f"the loss became {loss} at step {step + 1} of epoch {epoch + 1} (step "
            f"{epoch * len(losses) + step + 1} in all). Try a smaller learning rate."
        )
