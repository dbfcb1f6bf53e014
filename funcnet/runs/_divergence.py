"""A number that is not finite: the step, the examples, the leaf and the operation it began with."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from funcnet import training
from funcnet.base import named_leaves
from funcnet.runs._build import Setup, build_step


class DivergenceError(ArithmeticError):
    """A loss, a parameter or the optimiser's state stopped being finite."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Birth:
    """The first step that led from a finite state to a number that is not finite."""

    index: int  # how many steps were replayed before it
    batch: np.ndarray  # the indices of its examples
    before: training.TrainState
    after: training.TrainState
    loss: float


def check_finite(
    setup: Setup, before: training.Progress, after: training.Progress, info: training.StepInfo
) -> None:
    """Raise if the steps of a segment led to a number that is not finite; say where it began."""
    test_losses = [row.test_loss for row in after.rows[before.epoch :]]  # one if the epoch is whole
    losses = np.append(info.loss, test_losses)
    if setup.config.on_nonfinite == "skip" or training.is_finite_step(losses, after.state):
        return
    steps = len(info.loss)
    birth = _replay(setup, before, steps)
    if birth is None:  # single steps round differently, and stayed finite
        first = int([*np.flatnonzero(~np.isfinite(losses)), steps - 1][0])
        lines = [_headline(before, min(first, steps - 1), float(losses[first]), after.state)]
    else:
        headline = _headline(before, birth.index, birth.loss, birth.after)
        lines = [headline, *_describe(birth, setup)]
    raise DivergenceError("\n  ".join(lines))


def _headline(
    before: training.Progress, index: int, loss: float, after: training.TrainState
) -> str:
    """Return which number became what, and at which step."""
    became = f"loss became {loss}"
    if np.isfinite(loss):
        became = f"{_spoilt(after)[0]} became infinite or nan"
    in_epoch, in_all = len(before.losses) + index + 1, before.step + index + 1
    return (
        f"the {became} at step {in_epoch} of epoch {before.epoch + 1} (step {in_all} in all). "
        "Try a smaller learning rate, or --on-nonfinite skip."
    )


def _replay(setup: Setup, progress: training.Progress, steps: int) -> Birth | None:
    """Take the next steps again, one at a time, up to the first that is not finite."""
    config, examples, state = setup.config, setup.dataset.train, progress.state
    order = training.epoch_order(
        seed=config.seed, epoch=progress.epoch, num_examples=len(examples.targets)
    )
    step = build_step(setup)
    for index in range(steps):
        start = config.batch_size * (len(progress.losses) + index)
        batch = order[start : start + config.batch_size]
        after, info = step(state, jax.tree.map(lambda a, batch=batch: a[batch], examples))
        if not training.is_finite_step(info.loss, after):
            return Birth(index=index, batch=batch, before=state, after=after, loss=float(info.loss))
        state = after
    return None


def _describe(birth: Birth, setup: Setup) -> Iterator[str]:
    """Yield a line each about the batch, the first leaf and the first operation."""
    from funcnet import graph

    yield f"batch: the examples {', '.join(map(str, birth.batch))}"
    name, tree = _spoilt(birth.after)
    yield f"{name} after it: {_first_leaf(tree)}"
    x, y = (leaf[birth.batch] for leaf in setup.dataset.train)
    cost = training.mean_loss(setup.model.apply, setup.loss)
    born = graph.trace(cost)(birth.before.params, x, y).first_nonfinite()
    if born is None:
        yield "first operation: the update; the loss and its gradient are finite"
        return
    what = "value" if born.phase == "forward" else "derivative"
    line = born.node.source or "an unknown line"
    yield f"first operation: the {what} of {born.node.name} = {born.node.expression}, {line}"


def _spoilt(after: training.TrainState) -> tuple[str, Any]:
    """Return the part of a state that is not finite, and its name."""
    is_optimizer = training.is_finite(after.params) and not training.is_finite(after.opt_state)
    return ("optimiser's state", after.opt_state) if is_optimizer else ("parameters", after.params)


def _first_leaf(tree: Any) -> str:
    for name, leaf in named_leaves(tree).items():
        bad = int((~np.isfinite(np.asarray(leaf))).sum())
        if bad:
            return f"{name or 'all'}, {bad:,} of {leaf.size:,} elements not finite"
    return "all finite"
