"""What is done where a loss, a parameter or the optimiser stops being finite, and where that began.

stop       raise, and say: the step, its examples, the parameter, the operation and its line
skip       such steps change nothing: `training.skip_nonfinite`
rollback   back to the last good state, and on with half the learning rate
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from funcnet.base import Examples
from funcnet.graph import _graph as graph
from funcnet.runs import _artifacts as artifacts
from funcnet.training._fit import Progress
from funcnet.training._step import (
    Apply,
    Loss,
    TrainState,
    TrainStep,
    is_finite,
    is_finite_step,
    mean_loss,
)

MOST_HALVINGS = 10
"""How often the learning rate is halved before a run gives up."""


class DivergenceError(ArithmeticError):
    """A loss, a parameter or the optimiser's state stopped being finite."""


class Birth(NamedTuple):
    """The first step that led to what is not finite.

    Attributes:
      step: its number among those replayed, from 0.
      batch: the indices of its examples.
      before: the state that it began with, which is finite.
      after: the state that it led to.
      loss: its loss.
    """

    step: int
    batch: np.ndarray
    before: TrainState
    after: TrainState
    loss: float


def replay(
    state: TrainState, step: TrainStep, examples: Examples, order: np.ndarray, batch_size: int
) -> Birth | None:
    """Takes the steps of an epoch again, one at a time, up to the first that is not finite.

    >>> import jax.numpy as jnp
    >>> from funcnet.training._step import StepInfo
    >>> def step(state, batch):  # the loss is 1/x, the parameter stays
    ...     return state, StepInfo(loss=1 / batch.inputs.sum())
    >>> state = TrainState(params=jnp.array(1.0), opt_state=(), step=jnp.array(0))
    >>> examples = Examples(inputs=jnp.array([1.0, 2.0, 0.0]), targets=jnp.zeros(3))
    >>> replay(state, step, examples, np.array([1, 0, 2]), batch_size=1).step
    2
    """
    for number, start in enumerate(range(0, len(order), batch_size)):
        batch = order[start : start + batch_size]
        after, info = step(state, jax.tree.map(lambda a, batch=batch: a[batch], examples))
        if not is_finite_step(info.loss, after):
            return Birth(step=number, batch=batch, before=state, after=after, loss=float(info.loss))
        state = after
    return None


def describe(birth: Birth, apply: Apply, loss: Loss, examples: Examples) -> Iterator[str]:
    """The batch, the first parameter and the first operation that are not finite, a line each."""
    yield f"batch: the examples {', '.join(map(str, birth.batch))}"
    what, tree = _spoilt(birth.after)
    yield f"{what} after it: {_first_leaf(tree)}"
    x, y = (leaf[birth.batch] for leaf in examples)
    born = graph.trace(mean_loss(apply, loss))(birth.before.params, x, y).first_nonfinite()
    if born is None:
        yield "first operation: the update; the loss and its gradient are finite"
    else:
        what = "value" if born.phase == "forward" else "derivative"
        where = born.node.source or "an unknown line"
        yield f"first operation: the {what} of {born.node.name} = {born.node.expression}, {where}"


def make_judge(
    policy: str,
    *,
    step: Callable[[int], TrainStep],
    apply: Apply,
    loss: Loss,
    examples: Examples,
    order: Callable[[int], np.ndarray],
    batch_size: int,
    say: Callable[[str], None],
) -> Callable[[Progress, Progress, np.ndarray], Progress]:
    """What `fit` asks after each segment: where to go on from.

    Args:
      policy: `stop`, `skip` or `rollback`.
      step: `halvings -> step`.
      apply: `apply(params, inputs) -> logits`.
      loss: `loss(logits, targets) -> one value an example`.
      examples: that are learnt from.
      order: `epoch -> indices`.
      batch_size: examples a step.
      say: takes a line about each rollback.

    Raises:
      DivergenceError, by the judge: the run has to stop, and why.
    """

    def judge(before: Progress, after: Progress, losses: np.ndarray) -> Progress:
        test_loss = after.rows[-1].test_loss if after.epoch > before.epoch else 0.0
        if policy == "skip" or is_finite_step((losses, test_loss), after.state):
            return after
        taken = len(before.losses) * batch_size
        indices = order(before.epoch)[taken : taken + len(losses) * batch_size]
        birth = replay(before.state, step(before.halvings), examples, indices, batch_size)
        what = _headline(birth, before, losses, test_loss)
        if policy == "rollback" and before.halvings < MOST_HALVINGS:
            say(f"{what}: back to step {before.state.step}, and on with half the learning rate")
            return before._replace(halvings=before.halvings + 1)
        advice = "Try a smaller learning rate, or --on-nonfinite skip or rollback."
        if policy == "rollback":
            advice = f"The learning rate was halved {MOST_HALVINGS} times. Look at the data."
        lines = [] if birth is None else describe(birth, apply, loss, examples)
        raise DivergenceError("\n  ".join([f"{what}. {advice}", *lines]))

    return judge


def _headline(birth: Birth | None, before: Progress, losses: np.ndarray, test_loss: float) -> str:
    """What became what, and when."""
    if birth is None:  # the replay of single steps, which rounds differently, stayed finite
        bad = np.flatnonzero(~np.isfinite(losses))
        step, value = (bad[0], losses[bad[0]]) if len(bad) else (len(losses) - 1, test_loss)
        became = f"the loss became {value}"
    elif np.isfinite(birth.loss):
        what, _ = _spoilt(birth.after)
        step, became = birth.step, f"the {what} became infinite or nan"
    else:
        step, became = birth.step, f"the loss became {birth.loss}"
    in_epoch = len(before.losses) + step + 1
    in_all = int(before.state.step) + step + 1
    return f"{became} at step {in_epoch} of epoch {before.epoch + 1} (step {in_all} in all)"


def _spoilt(after: TrainState) -> tuple[str, Any]:
    """What of a state is named: the parameters, unless the optimiser's state alone isn't finite."""
    is_optimizer = is_finite(after.params) and not is_finite(after.opt_state)
    return ("optimiser's state", after.opt_state) if is_optimizer else ("parameters", after.params)


def _first_leaf(tree: Any) -> str:
    for name, leaf in artifacts.named_leaves(tree).items():
        bad = int((~np.isfinite(np.asarray(leaf))).sum())
        if bad:
            return f"{name or 'all'}, {bad:,} of {leaf.size:,} elements not finite"
    return "all finite"
