"""Flax (nnx), with a jitted step in a Python loop.

The loop over NumPy arrays is the one of its MNIST tutorial. The step is the "functional training
loop" of its guide "Performance considerations", a tenth faster than `nnx.cached_partial`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from benchmark.workloads import Contestant, Data, Task, Weights, batches


class Network(nnx.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, weights: Weights, rngs: nnx.Rngs) -> None:
        """Make layers of these weights."""
        self.layers = nnx.List([nnx.Linear(*W.shape[::-1], rngs=rngs) for W, _ in weights])
        for layer, (W, b) in zip(self.layers, weights, strict=True):
            layer.kernel[...] = jnp.array(W.T)
            layer.bias[...] = jnp.array(b)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the logits."""
        for layer in self.layers[:-1]:
            x = nnx.relu(layer(x))
        return self.layers[-1](x)


def start(task: Task, data: Data, weights: Weights) -> Contestant:
    """Run the training loop of Flax's MNIST tutorial, with `optax.sgd`."""
    model = Network(weights, nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.sgd(task.learning_rate), wrt=nnx.Param)
    x_train, y_train = data.x_train.astype(np.float32) / 255, data.y_train
    rng = np.random.default_rng(0)

    def loss(model: Network, x: jax.Array, y: jax.Array) -> jax.Array:
        logits = model(x)
        if task.sizes[-1] == 1:
            return optax.sigmoid_binary_cross_entropy(logits[:, 0], y).mean()
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    graphdef, state = nnx.split((model, optimizer))

    @jax.jit
    def train_step(
        graphdef: nnx.GraphDef, state: nnx.State, x: jax.Array, y: jax.Array
    ) -> nnx.State:
        model, optimizer = nnx.merge(graphdef, state)
        optimizer.update(model, nnx.grad(loss)(model, x, y))
        return nnx.state((model, optimizer))

    def train_epoch() -> None:
        nonlocal state
        for batch in batches(rng.permutation(len(x_train)), task.batch_size):
            state = train_step(graphdef, state, x_train[batch], y_train[batch])
        _ = jax.block_until_ready(state)

    def learned() -> Weights:
        model, _ = nnx.merge(graphdef, state)
        return [(np.array(layer.kernel).T, np.array(layer.bias)) for layer in model.layers]

    return train_epoch, learned
