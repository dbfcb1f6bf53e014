"""funcnet: 64 softmax models with learning rates of their own, in one compiled program."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import funcnet as fn
from peers import Contestant, Data, Task, Weights

MODELS = 64


def start(task: Task, data: Data, weights: Weights) -> Contestant:
    """Each model begins with its own parameters; all have the task's learning rate."""
    del weights
    fn.devices.use_every_core()
    model, loss = fn.models.softmax_regression(*task.sizes), fn.losses.softmax_cross_entropy
    settings = fn.sweep.combinations([task.learning_rate], range(MODELS))
    step = fn.sweep.make_sweep_step(model, loss, optax.sgd)
    train = fn.Examples(inputs=data.x_train, targets=data.y_train)
    test = fn.Examples(inputs=data.x_test, targets=data.y_test)
    _ = fn.devices.select_device(task.device)
    divided, whole = fn.devices.across_devices("models")
    state = jax.device_put(fn.sweep.init_sweep(model, settings, optax.sgd), divided)
    train, test = (train, test) if task.device == "cpu" else jax.device_put((train, test), whole)
    train_epoch = fn.training.make_train_epoch(step)
    count = len(data.y_train)
    examples = fn.training.make_segments(
        train,
        order=lambda epoch: fn.training.epoch_order(seed=0, epoch=epoch, num_examples=count),
        size=count,
        place=whole,
    )
    epoch, now = 0, examples(0, 0)

    def train_one_epoch() -> None:
        nonlocal state, epoch, now
        state, info = train_epoch(state, now, batch_size=task.batch_size)
        epoch, now = epoch + 1, examples(epoch + 1, 0)  # put in order while the device works
        _ = np.asarray(info.loss)

    def accuracy() -> float:
        """The mean over the models."""
        judge = jax.vmap(lambda p: fn.training.evaluate(model.apply, loss, p, test).correct)
        return float(jnp.mean(judge(state.models.params)) / len(data.y_test))

    return train_one_epoch, accuracy
