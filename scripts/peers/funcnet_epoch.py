"""funcnet: the epoch is one compiled program."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

import funcnet as fn
from funcnet.runs._process import suit_threads
from peers import Contestant, Data, Task, Weights


def start(task: Task, data: Data, weights: Weights) -> Contestant:
    """The model and the loss of the task, as `scripts/train.py` would put them together."""
    model, loss, params = put_together(task, weights)
    largest = max(m * n for m, n in itertools.pairwise(task.sizes))
    suit_threads(task.batch_size * largest)
    device = fn.devices.select_device(task.device)
    sgd = optax.sgd(task.learning_rate)
    state = jax.device_put(fn.training.init_state(params, sgd), device)
    step = fn.training.make_train_step(model.apply, loss, sgd)
    train_epoch, reached = epochs(step, state, data, task, place=device)
    return train_epoch, lambda: weights_of(reached().params)


def put_together(task: Task, weights: Weights) -> tuple[fn.Model, fn.training.Loss, fn.base.Params]:
    """`(model, loss, params)` of a task."""
    layers = tuple(fn.Linear(weight=W, bias=b) for W, b in weights)
    if task.sizes[-1] == 1:
        model, loss = fn.models.logistic_regression(task.sizes[0]), fn.losses.binary_cross_entropy
    elif len(layers) == 1:
        model, loss = fn.models.softmax_regression(*task.sizes), fn.losses.softmax_cross_entropy
    else:
        return fn.models.mlp(task.sizes), fn.losses.softmax_cross_entropy, layers
    return model, loss, layers[0]


def epochs(
    step: fn.training.TrainStep, state: Any, data: Data, task: Task, *, place: Any
) -> tuple[Callable[[], None], Callable[[], Any]]:
    """`(train_epoch, reached)`: the epoch as one program, and the state after the last of them."""
    train = fn.Examples(inputs=data.x_train, targets=data.y_train)
    count = len(train.targets)
    examples = fn.training.make_segments(
        train if task.device == "cpu" else jax.device_put(train, place),
        order=lambda epoch: fn.training.epoch_order(seed=0, epoch=epoch, num_examples=count),
        size=count,
        place=place,
    )
    program = fn.training.make_train_epoch(step)
    epoch, now = 0, examples(0, 0)

    def train_epoch() -> None:
        nonlocal state, epoch, now
        state, info = program(state, now, batch_size=task.batch_size)
        epoch, now = epoch + 1, examples(epoch + 1, 0)  # put in order while the device works
        _ = np.asarray(info.loss)

    return train_epoch, lambda: state


def weights_of(params: fn.base.Params) -> Weights:
    """The layers of one model, or of many that are stacked."""
    layers = jax.tree.leaves(params, is_leaf=lambda node: isinstance(node, fn.Linear))
    return [(np.asarray(layer.weight), np.asarray(layer.bias)) for layer in layers]
