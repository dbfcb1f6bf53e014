"""A training on the host: one compiled segment after another, and a look at each whole epoch.

    for progress, info in train_epochs(task, Progress(state=state), epochs=10):
        ...  # look, save, stop

The rest of a training depends on its `Progress` alone: on a CPU it goes on from one to the same
bits.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int

from funcnet.base import Examples
from funcnet.training._epoch import epoch_order, shuffled
from funcnet.training._evaluation import Evaluation
from funcnet.training._step import State, StepInfo, TrainStep


class EpochInfo(NamedTuple):
    """The part of an epoch that a person wants to see.

    Attributes:
      epoch: its number, from 1.
      train_loss: the mean loss over its examples, each before the step that learns from it.
      test_loss, test_accuracy, test_correct, test_examples: `Evaluation`'s, after the epoch.
      seconds: how long the training took, evaluation apart.
      examples_per_second: training examples over seconds.
      skipped_steps: how many steps changed nothing, because their result was not finite.
    """

    epoch: int
    train_loss: float
    test_loss: float
    test_accuracy: float
    test_correct: int
    test_examples: int
    seconds: float
    examples_per_second: float
    skipped_steps: int = 0


class Progress(NamedTuple):
    """How far a training has come: all that the rest of it depends on."""

    state: State  # the state that the next step needs
    losses: np.ndarray = np.zeros([0], np.float32)  # of the steps taken in the current epoch
    rows: tuple[Any, ...] = ()  # one per whole epoch, as `Task.observe` returns it
    seconds: float = 0.0  # how long the steps of the current epoch took
    step: int = 0  # how many steps were taken in all epochs

    @property
    def epoch(self) -> int:
        """How many epochs are whole."""
        return len(self.rows)

    @property
    def is_between_epochs(self) -> bool:
        """Whether the last epoch is whole and the next has not begun."""
        return not len(self.losses)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A training: the compiled steps, the examples, and how the examples are portioned out."""

    steps: Mapping[int, TrainStep]  # the compiled steps of a segment, by its number of examples
    observe: Callable[[Progress], Any]  # at the end of an epoch: the row that a person wants to see
    examples: Examples  # to learn from; of NumPy on a CPU, else of JAX
    batch_size: int  # examples per step
    seed: int  # of the examples' order: epoch e's is a function of `(seed, e)` alone
    place: Any = None  # the device or sharding of a segment; by default JAX's default device

    @property
    def num_examples(self) -> int:
        """Examples per epoch."""
        return len(self.examples.targets)

    @property
    def batch_sizes(self) -> Int[np.ndarray, "steps"]:
        """How many examples each step of an epoch learns from."""
        return np.diff([*range(0, self.num_examples, self.batch_size), self.num_examples])


def train_epochs(
    task: Task, progress: Progress, *, epochs: int
) -> Iterator[tuple[Progress, StepInfo]]:
    """Train up to an epoch; yield the progress after each segment, and the losses of its steps.

    Args:
      task: the training.
      progress: where to begin: `Progress(state=state)`, or where an earlier training stopped.
      epochs: how many epochs are whole at the end, those before `progress` included.

    >>> import jax.numpy as jnp
    >>> def train(state, examples):  # halves the parameter, and calls it the loss
    ...     return state / 2, StepInfo(loss=state[None])
    >>> task = Task(
    ...     steps={2: train}, observe=lambda progress: progress.losses.item(), batch_size=2,
    ...     examples=Examples(inputs=np.zeros([2, 1]), targets=np.zeros(2)), seed=0,
    ... )
    >>> for progress, info in train_epochs(task, Progress(state=jnp.array(4.0)), epochs=2):
    ...     print(progress.epoch, progress.rows)
    1 (4.0,)
    2 (4.0, 2.0)
    """
    segments = _segments(task, progress, epochs)
    upcoming = next(segments, None)
    while (examples := upcoming) is not None:
        clock = time.perf_counter()
        state, info = task.steps[len(examples.targets)](progress.state, examples)
        upcoming = next(segments, None)  # while the device works
        losses = np.asarray(info.loss)
        progress = progress._replace(
            state=state,
            losses=np.concatenate([progress.losses, losses]),
            seconds=progress.seconds + time.perf_counter() - clock,
            step=progress.step + len(losses),
        )
        if len(progress.losses) == len(task.batch_sizes):
            rows = (*progress.rows, task.observe(progress))
            progress = progress._replace(losses=progress.losses[:0], rows=rows, seconds=0.0)
        yield progress, info


def _segments(task: Task, progress: Progress, epochs: int) -> Iterator[Examples]:
    """Yield the examples of each segment that is left."""
    first, longest = len(progress.losses) * task.batch_size, max(task.steps)
    for epoch in range(progress.epoch, epochs):
        order = epoch_order(seed=task.seed, epoch=epoch, num_examples=task.num_examples)
        for start in range(first, task.num_examples, longest):
            examples = shuffled(task.examples, order[start : start + longest])
            yield jax.device_put(examples, task.place)
        first = 0


def epoch_info(task: Task, progress: Progress, test: Evaluation) -> EpochInfo:
    """Return the row of an epoch; skipped steps, whose loss is NaN, are not part of the mean."""
    taken, sizes = ~np.isnan(progress.losses), task.batch_sizes
    mean = np.average(progress.losses[taken], weights=sizes[taken]) if taken.any() else math.nan
    return EpochInfo(
        epoch=progress.epoch + 1,
        train_loss=float(mean),
        test_loss=test.loss,
        test_accuracy=test.accuracy,
        test_correct=int(test.correct),
        test_examples=int(test.examples),
        seconds=progress.seconds,
        examples_per_second=task.num_examples / progress.seconds,
        skipped_steps=int((~taken).sum()),
    )
