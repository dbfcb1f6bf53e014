"""Train: pure functions from a step to a fitted model.

    step = make_train_step(model.apply, loss, optimizer)
    train_epoch = make_train_epoch(step)
    state, info = train_epoch(init_state(params, optimizer), examples, batch_size=128)
    accuracy = evaluate(model.apply, loss, state.params, test).accuracy

1. A step moves the parameters by the gradient of the mean loss of one batch (`_step`).
2. An epoch is a scan of exactly this step; its order is drawn on the host (`_epoch`).
3. An evaluation counts over every test example (`_evaluation`).
4. The host's loop trains epoch after epoch, and hands out its progress (`_fit`).
5. A sweep trains many models in one compiled epoch, one per setting (`_sweep`).
6. A progress, like any pytree, is saved in one file, whole or absent (`_checkpoint`).

Begin with `_step`.
"""

from funcnet.training import _checkpoint as checkpoint
from funcnet.training import _sweep as sweep
from funcnet.training._epoch import compile_segments, epoch_order, make_train_epoch, shuffled
from funcnet.training._evaluation import Evaluation, evaluate
from funcnet.training._fit import EpochInfo, Progress, Task, epoch_info, train_epochs
from funcnet.training._step import (
    Apply,
    Loss,
    State,
    StepInfo,
    TrainState,
    TrainStep,
    init_state,
    is_finite,
    make_gradient_step,
    make_train_step,
    mean_loss,
    skip_nonfinite,
)

__all__ = [
    "Apply", "EpochInfo", "Evaluation", "Loss", "Progress", "State", "StepInfo", "Task",
    "TrainState", "TrainStep", "checkpoint", "compile_segments", "epoch_info", "epoch_order",
    "evaluate", "init_state", "is_finite", "make_gradient_step", "make_train_epoch",
    "make_train_step", "mean_loss", "shuffled", "skip_nonfinite", "sweep", "train_epochs",
]  # fmt: skip
