"""A number that is not finite: the step, the examples, the leaf and the operation it began with."""

from collections.abc import Iterator

import numpy as np

from funcnet import training
from funcnet.base import Examples, named_leaves
from funcnet.runs._build import Setup, build_step
from funcnet.training import Progress, StepInfo, TrainState, is_finite


class DivergenceError(ArithmeticError):
    """A loss, a parameter or the optimiser's state stopped being finite."""


def check_finite(setup: Setup, before: Progress, after: Progress, info: StepInfo) -> None:
    """Raise if the steps of a segment led to a number that is not finite; say where it began."""
    test_losses = [row.test_loss for row in after.rows[before.epoch :]]  # one if the epoch is whole
    losses = np.append(info.loss, test_losses)
    if setup.config.on_nonfinite == "skip" or is_finite((losses, after.state)):
        return
    steps = len(info.loss)
    lines = list(_replay(setup, before, steps))
    if not lines:  # single steps round differently, and stayed finite
        first = int([*np.flatnonzero(~np.isfinite(losses)), steps - 1][0])
        lines = [_headline(before, min(first, steps - 1), float(losses[first]), after.state)]
    raise DivergenceError("\n  ".join(lines))


def _replay(setup: Setup, progress: Progress, steps: int) -> Iterator[str]:
    """Take the next steps again, one at a time; yield lines about the first that is not finite."""
    config, examples, state = setup.config, setup.dataset.train, progress.state
    step, count = build_step(setup), len(examples.targets)
    order = training.epoch_order(seed=config.seed, epoch=progress.epoch, num_examples=count)
    for index in range(steps):
        start = config.batch_size * (len(progress.losses) + index)
        indices = order[start : start + config.batch_size]
        batch = training.shuffled(examples, indices)
        after, info = step(state, batch)
        if not is_finite((info.loss, after)):
            yield _headline(progress, index, float(info.loss), after)
            yield f"batch: the examples {', '.join(map(str, indices))}"
            yield "{} after it: {}".format(*_spoilt(after))
            yield f"first operation: {_first_operation(setup, state, batch)}"
            return
        state = after


def _headline(before: Progress, index: int, loss: float, after: TrainState) -> str:
    """Return which number became what, and at which step."""
    became = f"loss became {loss}"
    if np.isfinite(loss):
        became = f"{_spoilt(after)[0]} became infinite or nan"
    in_epoch, in_all = len(before.losses) + index + 1, before.step + index + 1
    return (
        f"the {became} at step {in_epoch} of epoch {before.epoch + 1} (step {in_all} in all). "
        "Try a smaller learning rate, or --on-nonfinite skip."
    )


def _spoilt(state: TrainState) -> tuple[str, str]:
    """Return which part of a state is not finite, and its first leaf that is not."""
    for part, tree in (("parameters", state.params), ("optimiser's state", state.opt_state)):
        for name, leaf in named_leaves(tree).items():
            if bad := int((~np.isfinite(np.asarray(leaf))).sum()):
                return part, f"{name or 'all'}, {bad:,} of {leaf.size:,} elements not finite"
    return "parameters", "all finite"


def _first_operation(setup: Setup, state: TrainState, batch: Examples) -> str:
    """Return the first operation of a step that is not finite, and its line."""
    from funcnet import graph

    cost = training.mean_loss(setup.model.apply, setup.loss)
    born = graph.trace(cost)(state.params, *batch).first_nonfinite()
    if born is None:
        return "the update; the loss and its gradient are finite"
    what = "value" if born.phase == "forward" else "derivative"
    line = born.node.source or "an unknown line"
    return f"the {what} of {born.node.name} = {born.node.expression}, {line}"
