"""Losses: one value an example, on logits where that is the stable form.

The mean over examples is taken once, where a loss is used: `loss(logits, labels).mean()`. Values
and gradients are finite for logits of any size that occurs, ±1e4 included. Targets whose shape does
not fit raise a `ValueError`.

The functions are those of *Fundamentals of Deep Learning* (Buduma, 2017) and of the lecture on it:
the squared error, also of probabilities (its L0), and the cross entropy.
"""

from collections.abc import Callable
from types import MappingProxyType

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from funcnet.activations import log_softmax, sigmoid, softmax


def squared_error(
    predictions: Float[ArrayLike, "*batch"], targets: Float[ArrayLike, "*batch"]
) -> Float[Array, "*batch"]:
    """The squared error, `(ŷ − y)²`. Its mean is the MSE.

    An example with several outputs has a value for each: sum them, `.sum(axis=-1)`.

    >>> squared_error(jnp.array([1.0, 2.0]), jnp.array([1.0, 5.0]))
    Array([0., 9.], dtype=float32)
    """
    _check_shapes(predictions=predictions, targets=targets)
    return jnp.square(jnp.asarray(predictions) - jnp.asarray(targets))


def binary_cross_entropy(
    logits: Float[ArrayLike, "*batch"],
    labels: Int[ArrayLike, "*batch"] | Float[ArrayLike, "*batch"],
) -> Float[Array, "*batch"]:
    """The cross entropy of two classes, `−y log σ(z) − (1 − y) log σ(−z)`.

    Args:
      logits: z, the log odds of class 1.
      labels: y, 0 or 1, or the probability of class 1.

    The gradient with respect to z is `σ(z) − y`.

    >>> binary_cross_entropy(jnp.array([0.0, 1e4]), jnp.array([1, 0]))
    Array([6.931e-01, 1.000e+04], dtype=float32)
    """
    _check_shapes(logits=logits, labels=labels)
    z = jnp.asarray(logits)
    y = jnp.asarray(labels, z.dtype)
    return y * jnp.logaddexp(0, -z) + (1 - y) * jnp.logaddexp(0, z)


def softmax_cross_entropy(
    logits: Float[ArrayLike, "*batch classes"], labels: Int[ArrayLike, "*batch"]
) -> Float[Array, "*batch"]:
    """The cross entropy of many classes, `−log p_y` with `p = softmax(z)`.

    Args:
      logits: z, one a class.
      labels: y, the index of the right class; one outside the classes gives NaN.

    The gradient with respect to z is `p − onehot(y)`; beside a NaN, `jax.grad` gives 0.

    >>> softmax_cross_entropy(jnp.array([[0.0, 0.0], [0.0, 1e4]]), jnp.array([0, 0]))
    Array([6.931e-01, 1.000e+04], dtype=float32)
    """
    _check_shapes(logits=logits, labels=labels, classes=True)
    log_p = log_softmax(logits)
    y = jnp.asarray(labels)[..., None]
    y = jnp.where(y < 0, log_p.shape[-1], y)  # else -1 would mean the last class
    return -jnp.take_along_axis(log_p, y, axis=-1, mode="fill")[..., 0]


def sigmoid_squared_error(
    logits: Float[ArrayLike, "*batch"],
    labels: Int[ArrayLike, "*batch"] | Float[ArrayLike, "*batch"],
) -> Float[Array, "*batch"]:
    """The squared error of a probability, `(σ(z) − y)²`: the lecture's L0 before its mean.

    Args:
      logits: z, the log odds of class 1.
      labels: y, 0 or 1, or the probability of class 1.

    The gradient with respect to z is `2 (σ − y) σ (1 − σ)`; it vanishes for a confident mistake,
    which is what the cross entropy mends.

    >>> sigmoid_squared_error(jnp.array([0.0, 1e4]), jnp.array([1, 0]))
    Array([0.25, 1.  ], dtype=float32)
    """
    _check_shapes(logits=logits, labels=labels)
    p = sigmoid(logits)
    return squared_error(p, jnp.asarray(labels, p.dtype))


def softmax_squared_error(
    logits: Float[ArrayLike, "*batch classes"], labels: Int[ArrayLike, "*batch"]
) -> Float[Array, "*batch"]:
    """The squared error of probabilities, `Σₖ (pₖ − onehot(y)ₖ)²` with `p = softmax(z)`.

    This is Brier's score (*Verification of Forecasts Expressed in Terms of Probability*, 1950),
    between 0 and 2.

    Args:
      logits: z, one a class.
      labels: y, the index of the right class.

    A label outside the classes is none of them: `onehot(y)` is 0.

    >>> softmax_squared_error(jnp.array([[0.0, 0.0], [0.0, 1e4]]), jnp.array([0, 0]))
    Array([0.5, 2. ], dtype=float32)
    """
    _check_shapes(logits=logits, labels=labels, classes=True)
    p = softmax(logits)
    onehot = jax.nn.one_hot(jnp.asarray(labels), p.shape[-1], dtype=p.dtype)
    return squared_error(p, onehot).sum(axis=-1)


LOSSES: MappingProxyType[str, Callable[..., Array]] = MappingProxyType(
    {
        "squared_error": squared_error,
        "binary_cross_entropy": binary_cross_entropy,
        "softmax_cross_entropy": softmax_cross_entropy,
        "sigmoid_squared_error": sigmoid_squared_error,
        "softmax_squared_error": softmax_squared_error,
    }
)
"""The losses, by name."""


def _check_shapes(*, classes: bool = False, **arrays: ArrayLike) -> None:
    """Refuses shapes that would broadcast: a loss has one value an example.

    Args:
      classes: whether the last axis of the outputs counts classes.
      **arrays: the outputs and the targets, by the names that the caller gave them.
    """
    (outputs, output_shape), (targets, target_shape) = (
        (name, jnp.shape(array)) for name, array in arrays.items()
    )
    shape = output_shape[:-1] if classes else output_shape
    if target_shape != shape:
        raise ValueError(
            f"{targets}: expected one an example, shape {shape}, for {outputs} of shape "
            f"{output_shape}; got shape {target_shape}."
        )
