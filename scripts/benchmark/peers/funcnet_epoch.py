"""funcnet: the epoch is one compiled program."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

import funcnet as fn
from benchmark.private import suit_threads
from benchmark.workloads import Contestant, Data, Task, Weights


def start(task: Task, data: Data, weights: Weights) -> Contestant:
    """Put model and loss together as `scripts/train.py` does."""
    model, loss, params = put_together(task, weights)
    suit_threads(task.batch_size * max(m * n for m, n in itertools.pairwise(task.sizes)))
    device = fn.devices.select_device(task.device)
    sgd = optax.sgd(task.learning_rate)
    state = jax.device_put(fn.training.init_state(params, sgd), device)
    step = fn.training.make_train_step(model.apply, loss, sgd)
    train_epoch, reached = epochs(step, state, data, task, place=device)
    return train_epoch, lambda: weights_of(reached().params)


def put_together(task: Task, weights: Weights) -> tuple[fn.Model, fn.training.Loss, fn.base.Params]:
    """Return `(model, loss, params)` of a task."""
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
    """Return `(train_epoch, reached)`; `reached()` is the state after the last epoch."""
    examples = fn.Examples(inputs=data.x_train, targets=data.y_train)
    if task.device != "cpu":  # they are put in order there
        examples = jax.device_put(examples, place)

    def in_order(epoch: int) -> fn.Examples:
        order = fn.training.epoch_order(seed=0, epoch=epoch, num_examples=len(data.y_train))
        return jax.device_put(fn.training.shuffled(examples, order), place)

    program = fn.training.make_train_epoch(step)
    epoch, current = 0, in_order(0)

    def train_epoch() -> None:
        nonlocal state, epoch, current
        state, info = program(state, current, batch_size=task.batch_size)
        epoch, current = epoch + 1, in_order(epoch + 1)  # while the device works
        _ = np.asarray(info.loss)

    return train_epoch, lambda: state


def weights_of(params: fn.base.Params) -> Weights:
    """Return the layers of one model, or of many models that are stacked."""
    layers = jax.tree.leaves(params, is_leaf=lambda node: isinstance(node, fn.Linear))
    return [(np.asarray(layer.weight), np.asarray(layer.bias)) for layer in layers]
