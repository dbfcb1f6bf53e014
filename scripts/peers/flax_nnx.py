"""Flax (nnx), with a jitted step in a Python loop and the examples on the device."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from peers import Contestant, Data, Task, Weights, batches


class Network(nnx.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, weights: Weights, rngs: nnx.Rngs) -> None:
        """Layers of these weights."""
        self.layers = nnx.List([nnx.Linear(*W.shape[::-1], rngs=rngs) for W, _ in weights])
        for layer, (W, b) in zip(self.layers, weights, strict=True):
            layer.kernel[...] = jnp.array(W.T)
            layer.bias[...] = jnp.array(b)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The logits."""
        for layer in self.layers[:-1]:
            x = nnx.relu(layer(x))
        return self.layers[-1](x)


def start(task: Task, data: Data, weights: Weights) -> Contestant:
    """The training loop of Flax's MNIST tutorial, with its `nnx.cached_partial`."""
    model = Network(weights, nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.sgd(task.learning_rate), wrt=nnx.Param)
    x_train, y_train = jnp.array(data.x_train, jnp.float32) / 255, jnp.array(data.y_train)
    rng = np.random.default_rng(0)

    def loss(model: Network, x: jax.Array, y: jax.Array) -> jax.Array:
        logits = model(x)
        if task.sizes[-1] == 1:
            return optax.sigmoid_binary_cross_entropy(logits[:, 0], y).mean()
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    @nnx.jit
    def train_step(model: Network, optimizer: nnx.Optimizer, x: jax.Array, y: jax.Array) -> None:
        optimizer.update(model, nnx.grad(loss)(model, x, y))

    step = nnx.cached_partial(train_step, model, optimizer)

    def train_epoch() -> None:
        for batch in batches(rng.permutation(len(x_train)), task.batch_size):
            step(x_train[batch], y_train[batch])
        _ = jax.block_until_ready(nnx.state(model))

    def learned() -> Weights:
        return [(np.array(layer.kernel).T, np.array(layer.bias)) for layer in model.layers]

    return train_epoch, learned
