"""Equinox, with a jitted step in a Python loop.

As on its page "All of Equinox", the model holds arrays alone, so that `jax.jit` and `jax.grad` take
it as it is; `eqx.filter_jit` does the same in twice the time per step. Batches are NumPy arrays,
as in its MNIST tutorial.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmark.workloads import Contestant, Data, Task, Weights, batches


class Network(eqx.Module):
    """Linear layers with ReLU between them."""

    layers: list[eqx.nn.Linear]

    def __init__(self, weights: Weights) -> None:
        """Make layers of these weights."""
        self.layers = [
            eqx.tree_at(
                lambda layer: (layer.weight, layer.bias),
                eqx.nn.Linear(*W.shape[::-1], key=jax.random.key(0)),
                (jnp.array(W), jnp.array(b)),
            )
            for W, b in weights
        ]

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the logits of one example."""
        for layer in self.layers[:-1]:
            x = jax.nn.relu(layer(x))
        return self.layers[-1](x)


def start(task: Task, data: Data, weights: Weights) -> Contestant:
    """Run the training loop of Equinox's MNIST tutorial, with `optax.sgd`."""
    model = Network(weights)
    optimizer = optax.sgd(task.learning_rate)
    opt_state = optimizer.init(model)
    x_train, y_train = data.x_train.astype(np.float32) / 255, data.y_train
    rng = np.random.default_rng(0)

    def loss(model: Network, x: jax.Array, y: jax.Array) -> jax.Array:
        logits = jax.vmap(model)(x)
        if task.sizes[-1] == 1:
            return optax.sigmoid_binary_cross_entropy(logits[:, 0], y).mean()
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    @jax.jit
    def train_step(
        model: Network, opt_state: optax.OptState, x: jax.Array, y: jax.Array
    ) -> tuple[Network, optax.OptState]:
        gradients = jax.grad(loss)(model, x, y)
        updates, opt_state = optimizer.update(gradients, opt_state)
        return eqx.apply_updates(model, updates), opt_state

    def train_epoch() -> None:
        nonlocal model, opt_state
        for batch in batches(rng.permutation(len(x_train)), task.batch_size):
            model, opt_state = train_step(model, opt_state, x_train[batch], y_train[batch])
        _ = jax.block_until_ready(model)

    def learned() -> Weights:
        return [(np.asarray(layer.weight), np.asarray(layer.bias)) for layer in model.layers]

    return train_epoch, learned
