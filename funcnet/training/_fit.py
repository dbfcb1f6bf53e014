"""The host's loop: one compiled epoch after another, each followed by a look at what it learnt.

What the rest of a training depends on is one record, `Progress`: whoever keeps it can go on from
it, on a CPU to the same bits.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from funcnet.base import Examples
from funcnet.training._evaluation import Evaluation
from funcnet.training._step import (
    State,
    StepInfo,
    TrainEpoch,
    epoch_order,
    shuffled,
)

LONGEST = 50_000_000_000
"""How many products of a parameter and an example one call computes: a CPU's second or two."""

STEP_COST = 100_000
"""What a step costs apart from them, in the same unit."""


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
      skipped_steps: how many steps changed nothing, as they led to what is not finite.
      halvings: how often the learning rate had been halved, after a divergence.
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
    halvings: int = 0


class Progress(NamedTuple):
    """How far a training has come: all that the rest of it depends on.

    Attributes:
      state: what the next step needs.
      losses: of the steps taken in the epoch that it is in, `[steps]`; none at an epoch's start.
      rows: what there is to see of each epoch that is behind it.
      seconds: how long the steps of this epoch took.
      halvings: how often the learning rate was halved.
    """

    state: State
    losses: np.ndarray
    rows: tuple[Any, ...] = ()
    seconds: float = 0.0
    halvings: int = 0

    @property
    def epoch(self) -> int:
        """How many epochs are behind it."""
        return len(self.rows)


class Stopped(Exception):
    """The training was asked to stop before its end.

    Attributes:
      progress: where it stopped.
      folder: where that is saved, if it is.
    """

    def __init__(self, progress: Any, folder: Path | None = None) -> None:
        """`progress`: where; `folder`: where that is saved."""
        super().__init__(f"stopped in epoch {progress.epoch + 1}")
        self.progress, self.folder = progress, folder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A training: the compiled steps, the examples, and how the examples are portioned out.

    Attributes:
      train: `(state, examples) -> (state, info)`, the compiled steps over a segment of an epoch.
      observe: `progress -> row`, called at the end of an epoch: what a person wants to see of it.
      examples: the examples to learn from, of NumPy on a CPU, else of JAX.
      batch_size: examples per step.
      seed: of the examples' order; epoch e's order is a function of `(seed, e)` alone.
      segment: the largest number of examples that `train` takes at once, as `segment_size` says.
      place: the device or sharding that a segment is put on; by default JAX's default device.
    """

    train: Callable[[State, Examples], tuple[State, StepInfo]]
    observe: Callable[[Progress], Any]
    examples: Examples
    batch_size: int
    seed: int
    segment: int
    place: Any = None

    @property
    def num_examples(self) -> int:
        """Examples per epoch."""
        return len(self.examples.targets)


def train_epochs(
    task: Task, progress: Progress, *, epochs: int
) -> Iterator[tuple[Progress, StepInfo]]:
    """Train up to an epoch; yield the progress after each segment, and the losses of its steps.

    A segment is a whole epoch, or a share of a long one. Between two segments the caller can look,
    save, and stop. The next segment is put in order while the device works on this one.

    Args:
      task: what is trained.
      progress: where to begin: `begin(state)`, or where an earlier training stopped.
      epochs: how many epochs are behind at the end, those before `progress` included.

    >>> import jax.numpy as jnp
    >>> def train(state, examples):  # halves the parameter, and calls it the loss
    ...     return state / 2, StepInfo(loss=state[None])
    >>> task = Task(
    ...     train=train,
    ...     observe=lambda progress: progress.losses.item(),
    ...     examples=Examples(inputs=np.zeros([2, 1]), targets=np.zeros(2)),
    ...     batch_size=2, seed=0, segment=2,
    ... )
    >>> for progress, info in train_epochs(task, begin(jnp.array(4.0)), epochs=2):
    ...     print(progress.epoch, progress.rows)
    1 (4.0,)
    2 (4.0, 2.0)
    """
    first = len(progress.losses) * task.batch_size
    schedule = [
        (epoch, start)
        for epoch in range(progress.epoch, epochs)
        for start in range(first if epoch == progress.epoch else 0, task.num_examples, task.segment)
    ]
    if not schedule:
        return
    examples = _segment(task, *schedule[0])
    for (_, start), upcoming in zip(schedule, [*schedule[1:], None], strict=True):
        clock = time.perf_counter()
        state, info = task.train(progress.state, examples)
        if upcoming is not None:
            examples = _segment(task, *upcoming)  # while the device works
        losses = np.concatenate([progress.losses, np.asarray(info.loss)])
        seconds = progress.seconds + time.perf_counter() - clock
        progress = progress._replace(state=state, losses=losses, seconds=seconds)
        if start + task.segment >= task.num_examples:
            progress = _next_epoch(progress, task.observe(progress))
        yield progress, info


def _segment(task: Task, epoch: int, start: int) -> Examples:
    """The examples of an epoch, in its order, from `start` on."""
    order = epoch_order(seed=task.seed, epoch=epoch, num_examples=task.num_examples)
    return jax.device_put(shuffled(task.examples, order[start : start + task.segment]), task.place)


def compile_segments(
    train_epoch: TrainEpoch, state: State, examples: Examples, *, batch_size: int, segment: int
) -> Callable[[State, Examples], tuple[State, StepInfo]]:
    """Compile `task.train` ahead of its first call: for whole segments, and for a shorter last one.

    Args:
      train_epoch: as `make_train_epoch` returns it.
      state: the state, or its shapes and dtypes.
      examples: those of an epoch, or their shapes and dtypes.
      batch_size: examples per step.
      segment: examples per segment.
    """
    count = len(examples.targets)
    programs = {
        size: train_epoch.lower(
            state, jax.tree.map(lambda a, size=size: a[:size], examples), batch_size=batch_size
        ).compile()
        for size in {min(segment, count), count % segment} - {0}
    }
    return lambda state, examples: programs[len(examples.targets)](state, examples)


def begin(state: State, *models: int) -> Progress:
    """The progress before the first step; `models`: how many there are, of a sweep.

    >>> begin(state=()).epoch
    0
    """
    return Progress(state=state, losses=np.zeros([0, *models], np.float32))


def fit(
    progress: Progress,
    *,
    train: Callable[[Progress, Examples], tuple[State, StepInfo]],
    see: Callable[[Progress], Any],
    examples: Callable[[int, int], Examples],
    num_examples: int,
    epochs: int,
    batch_size: int,
    judge: Callable[[Progress, Progress, np.ndarray], Progress] = lambda before, after, losses: (
        after
    ),
    save: Callable[[Progress], None] = lambda progress: None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Progress]:
    """Trains an epoch at a time; yields the progress after each.

    Args:
      progress: where to begin: `begin(state)`, or where a training was stopped.
      train: `(progress, examples) -> (state, info)`: the steps over these.
      see: `progress -> row`, at the end of an epoch: what a person wants to see of it.
      examples: `(epoch, start) -> examples`, those of a call of `train` that begins at this one of
        an epoch, as `training.make_segments` gives them. They are asked for while the device works.
      num_examples: how many an epoch has.
      epochs: how many, with those that are behind.
      batch_size: how many examples a step of `train` takes.
      judge: `(before, after, losses) -> progress` after each segment, with the losses of its steps:
        where to go on from. It may raise.
      save: takes the progress after each segment.
      stop: whether to stop, asked before each segment.

    >>> import jax.numpy as jnp
    >>> def train(progress, examples):  # halves the parameter, and calls it the loss
    ...     return progress.state / 2, StepInfo(loss=progress.state[None])
    >>> def see(progress):
    ...     return (progress.epoch + 1, progress.losses.item())
    >>> two = Examples(inputs=np.zeros([2, 1]), targets=np.zeros(2))
    >>> epochs = fit(
    ...     begin(jnp.array(4.0)), train=train, see=see, examples=lambda epoch, start: two,
    ...     num_examples=2, epochs=2, batch_size=2,
    ... )
    >>> [progress.rows[-1] for progress in epochs]
    [(1, 4.0), (2, 2.0)]

    Raises:
      Stopped: `stop` said so; it has the progress.
    """
    examples = functools.lru_cache(maxsize=2)(examples)
    while progress.epoch < epochs:
        if stop():
            raise Stopped(progress)
        start = len(progress.losses) * batch_size
        now = examples(progress.epoch, start)
        end = start + len(now.targets)
        is_whole = end == num_examples
        clock = time.perf_counter()
        state, info = train(progress, now)
        if progress.epoch + is_whole < epochs:  # put in order while the device works
            _ = examples(*((progress.epoch + 1, 0) if is_whole else (progress.epoch, end)))
        losses = np.asarray(info.loss)
        after = progress._replace(
            state=state,
            losses=np.concatenate([progress.losses, losses]),
            seconds=progress.seconds + time.perf_counter() - clock,
        )
        if is_whole:
            after = _next_epoch(after, see(after))
        progress = judge(progress, after, losses)
        save(progress)
        if is_whole and progress is after:
            yield progress


def _next_epoch(progress: Progress, row: Any) -> Progress:
    return progress._replace(losses=progress.losses[:0], seconds=0.0, rows=(*progress.rows, row))


def segment_size(*, num_examples: int, batch_size: int, num_params: int) -> int:
    """How many examples are learnt from in one call: all, or of a long epoch equal shares.

    Between two calls a run can be stopped and saved. Where they lie is a function of the arguments
    alone, so that a run that was interrupted takes the very calls of one that was not.

    >>> segment_size(num_examples=60_000, batch_size=128, num_params=101_770)  # MNIST, an mlp
    60032
    >>> segment_size(num_examples=60_000, batch_size=128, num_params=10_000_000)
    4736
    """
    num_steps = math.ceil(num_examples / batch_size)
    cost = num_examples * num_params + num_steps * STEP_COST
    num_segments = min(math.ceil(cost / LONGEST), num_steps)
    return math.ceil(num_steps / num_segments) * batch_size


def epoch_info(
    progress: Progress, test: Evaluation, *, num_examples: int, batch_size: int
) -> EpochInfo:
    """What there is to see of an epoch, from the losses of its steps and an evaluation after it.

    Steps that were skipped, whose loss is NaN, count in no mean.
    """
    sizes = np.diff([*range(0, num_examples, batch_size), num_examples])
    taken = ~np.isnan(progress.losses)
    mean = np.average(progress.losses[taken], weights=sizes[taken]) if taken.any() else math.nan
    return EpochInfo(
        epoch=progress.epoch + 1,
        train_loss=float(mean),
        test_loss=test.loss,
        test_accuracy=test.accuracy,
        test_correct=int(test.correct),
        test_examples=int(test.examples),
        seconds=progress.seconds,
        examples_per_second=num_examples / progress.seconds,
        skipped_steps=int((~taken).sum()),
        halvings=progress.halvings,
    )
