"""funcnet: the epoch is one compiled program."""

import itertools

import jax
import numpy as np
import optax

import funcnet as fn
from peers import Contestant, Data, Task, Weights


def start(task: Task, data: Data, weights: Weights) -> Contestant:
    """The model and the loss of the task, as `scripts/train.py` would put them together."""
    if len(task.sizes) > 2:
        model = fn.models.mlp(task.sizes)
        params = tuple(fn.Linear(weight=W, bias=b) for W, b in weights)
    else:
        is_logistic = task.sizes[-1] == 1
        make = fn.models.logistic_regression if is_logistic else fn.models.softmax_regression
        model = make(*task.sizes[: 1 if is_logistic else 2])
        params = fn.Linear(weight=weights[0][0], bias=weights[0][1])
    losses = fn.losses
    loss = losses.binary_cross_entropy if task.sizes[-1] == 1 else losses.softmax_cross_entropy
    sgd = optax.sgd(task.learning_rate)
    step = fn.training.make_train_step(model.apply, loss, sgd)
    train = fn.Examples(inputs=data.x_train, targets=data.y_train)
    test = fn.Examples(inputs=data.x_test, targets=data.y_test)
    largest = max(m * n for m, n in itertools.pairwise(task.sizes))
    fn.devices.suit_threads(task.batch_size * largest)
    device = fn.devices.select_device(task.device)
    state, test = jax.device_put((fn.training.init_state(params, sgd), test), device)
    train = train if task.device == "cpu" else jax.device_put(train, device)
    train_epoch = fn.training.make_train_epoch(step)
    count = len(data.y_train)
    examples = fn.training.make_segments(
        train,
        order=lambda epoch: fn.training.epoch_order(seed=0, epoch=epoch, num_examples=count),
        size=count,
        place=device,
    )
    epoch, now = 0, examples(0, 0)

    def train_one_epoch() -> None:
        nonlocal state, epoch, now
        state, info = train_epoch(state, now, batch_size=task.batch_size)
        epoch, now = epoch + 1, examples(epoch + 1, 0)  # put in order while the device works
        _ = np.asarray(info.loss)

    def accuracy() -> float:
        return fn.training.evaluate(model.apply, loss, state.params, test).accuracy

    return train_one_epoch, accuracy
