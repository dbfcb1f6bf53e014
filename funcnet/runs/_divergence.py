"""Where a loss, a parameter or the optimiser's state stops being finite, and where that began.

stop   raise an error that names the step, its examples, the leaf, the operation and its line
skip   such steps change nothing: `training.skip_nonfinite`
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from funcnet import training
from funcnet.base import Examples, named_leaves
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
    config, examples, losses = setup.config, setup.dataset.train, np.asarray(info.loss)
    test_loss = after.rows[-1].test_loss if after.epoch > before.epoch else 0.0
    is_finite = training.is_finite_step((losses, test_loss), after.state)
    if config.on_nonfinite == "skip" or is_finite:
        return
    order = training.epoch_order(
        seed=config.seed, epoch=before.epoch, num_examples=len(examples.targets)
    )
    start, length = (config.batch_size * len(steps) for steps in (before.losses, losses))
    order = order[start : start + length]
    birth = replay(before.state, build_step(setup), examples, order, config.batch_size)
    headline = _headline(birth, before, losses, test_loss)
    advice = "Try a smaller learning rate, or --on-nonfinite skip."
    lines = [] if birth is None else _describe(birth, setup)
    raise DivergenceError("\n  ".join([f"{headline}. {advice}", *lines]))


def replay(
    state: training.TrainState,
    step: training.TrainStep,
    examples: Examples,
    order: np.ndarray,
    batch_size: int,
) -> Birth | None:
    """Take the steps of an epoch again, one at a time, up to the first that is not finite."""
    for index, start in enumerate(range(0, len(order), batch_size)):
        batch = order[start : start + batch_size]
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


def _headline(
    birth: Birth | None, before: training.Progress, losses: np.ndarray, test_loss: float
) -> str:
    """Return which number became what, and at which step."""
    if birth is None:  # the replay of single steps, which rounds differently, stayed finite
        bad = np.flatnonzero(~np.isfinite(losses))
        index, loss = (bad[0], losses[bad[0]]) if len(bad) else (len(losses) - 1, test_loss)
    else:
        index, loss = birth.index, birth.loss
    became = f"loss became {loss}"
    if birth is not None and np.isfinite(loss):
        became = f"{_spoilt(birth.after)[0]} became infinite or nan"
    in_epoch, in_all = len(before.losses) + index + 1, before.step + index + 1
    return f"the {became} at step {in_epoch} of epoch {before.epoch + 1} (step {in_all} in all)"


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
