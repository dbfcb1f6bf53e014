"""JAX's own miniature, `examples/mnist_classifier_fromscratch.py`.

It calls a jitted update for each batch. Its tanh is ReLU here, as everywhere in the benchmark.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmark.workloads import Contestant, Data, Task, Weights, batches


def start(task: Task, data: Data, weights: Weights) -> Contestant:
    """Keep parameters as a list of (w, b), targets one-hot, batches as NumPy arrays."""
    params = [(jnp.array(W.T), jnp.array(b)) for W, b in weights]
    x_train = data.x_train.astype(np.float32) / 255
    y_train = data.y_train.astype(np.float32)[:, None]
    if task.sizes[-1] > 1:
        y_train = np.eye(task.sizes[-1], dtype=np.float32)[data.y_train]
    rng = np.random.default_rng(0)

    def predict(params: list, inputs: jax.Array) -> jax.Array:
        activations = inputs
        for w, b in params[:-1]:
            activations = jax.nn.relu(jnp.dot(activations, w) + b)
        w, b = params[-1]
        return jnp.dot(activations, w) + b

    def loss(params: list, inputs: jax.Array, targets: jax.Array) -> jax.Array:
        logits = predict(params, inputs)
        if task.sizes[-1] == 1:
            return -jnp.mean(jax.nn.log_sigmoid((2 * targets - 1) * logits))
        return -jnp.mean(jnp.sum(jax.nn.log_softmax(logits) * targets, axis=1))

    @jax.jit
    def update(params: list, inputs: jax.Array, targets: jax.Array) -> list:
        gradients = jax.grad(loss)(params, inputs, targets)
        return jax.tree.map(lambda p, g: p - task.learning_rate * g, params, gradients)

    def train_epoch() -> None:
        nonlocal params
        for batch in batches(rng.permutation(len(x_train)), task.batch_size):
            params = update(params, x_train[batch], y_train[batch])
        _ = jax.block_until_ready(params)

    def learned() -> Weights:
        return [(np.asarray(w).T, np.asarray(b)) for w, b in params]

    return train_epoch, learned
