"""funcnet: many softmax models, each with its own first parameters, in one compiled program."""

import jax
import optax

import funcnet as fn
from benchmark.peers.funcnet_epoch import epochs, weights_of
from benchmark.private import across_devices, use_every_core
from benchmark.workloads import MODELS, Contestant, Data, Task, Weights


def start(task: Task, data: Data, weights: Weights) -> Contestant:
    """Train models that differ in their seeds; all have the task's learning rate."""
    del weights
    use_every_core()
    _ = fn.devices.select_device(task.device)
    divided, whole = across_devices("models")
    model, loss = fn.models.softmax_regression(*task.sizes), fn.losses.softmax_cross_entropy
    settings = fn.training.sweep.combinations(
        learning_rates=[task.learning_rate], seeds=range(MODELS)
    )
    state = jax.device_put(fn.training.sweep.init_sweep(model, settings, optax.sgd), divided)
    step = fn.training.sweep.make_sweep_step(model, loss, optax.sgd)
    train_epoch, reached = epochs(step, state, data, task, place=whole)
    return train_epoch, lambda: weights_of(reached().params)
