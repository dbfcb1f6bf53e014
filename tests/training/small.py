"""A small classifier, its optimisers and its examples, with which the tests of training train."""

import jax
import numpy as np
import optax

from funcnet import Examples, losses, models
from funcnet.training import init_state

MODEL = models.mlp([5, 4, 3])
LOSS = losses.softmax_cross_entropy


def loosely(optimizer):
    """optax's Adam raises a float to an integer power, which strict promotion refuses."""

    def update(*args):
        with jax.numpy_dtype_promotion("standard"):
            return optimizer.update(*args)

    return optax.GradientTransformation(optimizer.init, update)


OPTIMIZERS = {
    "sgd": optax.sgd(0.1),
    "momentum": optax.sgd(0.1, momentum=0.9),
    "adam": loosely(optax.adam(0.01)),
}


def examples(count, *, seed=0):
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(count, 5)).astype(np.float32)
    return Examples(inputs=inputs, targets=rng.integers(3, size=count).astype(np.int32))


def first_state(optimizer, model=MODEL):
    return init_state(model.init(jax.random.key(0)), optimizer)
