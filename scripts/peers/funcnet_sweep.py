"""funcnet: many softmax models, each from first parameters of its own, in one compiled program."""

import jax
import optax

import funcnet as fn
from funcnet.runs._process import use_every_core
from peers import MODELS, Contestant, Data, Task, Weights
from peers.funcnet_epoch import epochs, weights_of


def start(task: Task, data: Data, weights: Weights) -> Contestant:
    """The models differ in their seeds; all have the task's learning rate."""
    del weights
    use_every_core()
    _ = fn.devices.select_device(task.device)
    divided, whole = fn.devices.across_devices("models")
    model, loss = fn.models.softmax_regression(*task.sizes), fn.losses.softmax_cross_entropy
    settings = fn.sweep.combinations([task.learning_rate], range(MODELS))
    state = jax.device_put(fn.sweep.init_sweep(model, settings, optax.sgd), divided)
    step = fn.sweep.make_sweep_step(model, loss, optax.sgd)
    train_epoch, reached = epochs(step, state, data, task, place=whole)
    return train_epoch, lambda: weights_of(reached().models.params)
