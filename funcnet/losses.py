"""Losses: one value per example, computed from logits where that is the stable form.

| what the targets are | cross entropy | squared error |
| --- | --- | --- |
| measured numbers | | `squared_error` |
| two classes | `binary_cross_entropy` | `sigmoid_squared_error` |
| several classes | `softmax_cross_entropy` | `softmax_squared_error` |

Classify with a cross entropy: the more confident a mistake, the larger its gradient, up to 1. The
squared errors of probabilities are bounded, so one wrong label costs little; but their gradient
vanishes for a confident mistake, and learning from it is slow. `models.FITTING_LOSSES` says which
losses fit a model.

Each function returns `[*batch]`, one value per example, in the dtype of its first argument, which
has any leading batch axes. The mean over the examples is taken once, where a loss is used:
`loss(logits, labels).mean()`. Values and gradients are finite for finite logits up to ±1e4 and
beyond; NaN stays NaN. Targets are never broadcast: a `UsageError` refuses a shape that does not
fit, and class indices that are no integers.

The functions are those of *Fundamentals of Deep Learning* (Buduma, 2017) and of the lecture on it:
the squared error, also of probabilities (its L0), and the cross entropy. Goodfellow, Bengio and
Courville, *Deep Learning* (2016), section 6.2.2, derive them as negative log-likelihoods.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Real

from funcnet.activations import log_softmax, sigmoid, softmax
from funcnet.base import UsageError


def squared_error(
    predictions: Float[ArrayLike, "*batch"], targets: Float[ArrayLike, "*batch"]
) -> Float[Array, "*batch"]:
    """Return the squared error of each prediction, `(ŷ − y)²`, for regression.

    Its mean is the mean squared error. Its gradient with respect to ŷ is `2 (ŷ − y)`: an outlier
    counts in proportion to its distance. An example with several outputs has one value for each:
    add them, `.sum(axis=-1)`. The value is infinite where the square of the difference overflows.

    Args:
      predictions: ŷ, `[*batch]`, what a model says.
      targets: y, `[*batch]`, what was measured.

    >>> values = squared_error(jnp.array([1.0, 2.0]), jnp.array([1.0, 5.0]))
    >>> values, values.mean()
    (Array([0., 9.], dtype=float32), Array(4.5, dtype=float32))
    """
    _check_shapes(predictions=predictions, targets=targets)
    return jnp.square(jnp.asarray(predictions) - jnp.asarray(targets))


def binary_cross_entropy(
    logits: Float[ArrayLike, "*batch"], labels: Real[ArrayLike, "*batch"]
) -> Float[Array, "*batch"]:
    """Return the cross entropy of two classes, `−y log p − (1 − y) log(1 − p)` with `p = σ(z)`.

    It measures how many nats the probability p is worse than certainty: `log 2 = 0.6931` for a
    coin's guess. It is computed as `y log(1 + e⁻ᶻ) + (1 − y) log(1 + eᶻ)`, which neither overflows
    nor rounds a small loss to 0. The gradient with respect to z is `σ(z) − y`. An infinite logit
    gives NaN for the label that it favours (`0 · ∞`), and ∞ for the opposite one.

    `sigmoid_squared_error` is its bounded sibling. `softmax_cross_entropy` with the logits `[0, z]`
    gives the same values, for labels that are integers.

    Args:
      logits: z, `[*batch]`, the log odds of class 1. Not probabilities: `log(p / (1 − p))` is z.
      labels: y, `[*batch]`, 0 or 1, or floats: the probability of class 1. Numbers outside of
        [0, 1] are taken as they are, and then the loss can be negative.

    >>> binary_cross_entropy(jnp.array([0.0, 2.0, 2.0, 1e4]), jnp.array([1, 1, 0, 0])).round(4)
    Array([6.931e-01, 1.269e-01, 2.127e+00, 1.000e+04], dtype=float32)
    >>> binary_cross_entropy(jnp.array([0.0, 2.0]), jnp.array([0.3, 0.3]))  # probabilities
    Array([0.6931, 1.5269], dtype=float32)
    """
    _check_shapes(logits=logits, labels=labels)
    z = jnp.asarray(logits)
    y = jnp.asarray(labels, z.dtype)
    return y * jnp.logaddexp(0, -z) + (1 - y) * jnp.logaddexp(0, z)


def softmax_cross_entropy(
    logits: Float[ArrayLike, "*batch classes"], labels: Int[ArrayLike, "*batch"]
) -> Float[Array, "*batch"]:
    """Return the cross entropy of several classes, `−log p_y` with `p = softmax(z)`.

    It measures how many nats the probability of the right class is worse than certainty: `log K`
    for a guess among K classes. It is computed as `log Σⱼ exp(zⱼ) − z_y`, from logits less their
    maximum, so that no exponential overflows. The gradient with respect to z is `p − onehot(y)`.

    A label outside of the classes gives NaN; `jax.grad` gives 0 beside it. A class with the logit
    −∞ has probability 0, and as the right class it costs the largest finite number. A logit of +∞,
    or only logits of −∞, give NaN.

    `binary_cross_entropy` takes one logit for two classes. Here one class alone has `p = 1`, and
    its loss is 0. `softmax_squared_error` is the bounded sibling.

    Args:
      logits: z, `[*batch, classes]`, any number for each class.
      labels: y, `[*batch]`, the index of the right class: integers. One-hot labels are no indices:
        take `labels.argmax(axis=-1)`.

    >>> logits = jnp.array([[1.2, -0.8, -0.5], [0.9, -1.2, 1.1], [0.0, 0.0, 0.0]])
    >>> print(softmax_cross_entropy(logits, jnp.array([0, 1, 3])))
    [0.2761 2.9518 nan]
    >>> softmax_cross_entropy(jnp.array([0.0, 1e4]), jnp.array(0))
    Array(10000., dtype=float32)
    """
    _check_shapes(logits=logits, labels=labels, classes=True)
    log_p = log_softmax(logits)
    y = jnp.asarray(labels)[..., None]
    y = jnp.where(y < 0, log_p.shape[-1], y)  # else -1 would mean the last class
    return -jnp.take_along_axis(log_p, y, axis=-1, mode="fill")[..., 0]


def sigmoid_squared_error(
    logits: Float[ArrayLike, "*batch"], labels: Real[ArrayLike, "*batch"]
) -> Float[Array, "*batch"]:
    """Return the squared error of a probability, `(σ(z) − y)²`: the lecture's L0 before its mean.

    It lies between 0 and 1. The gradient with respect to z is `2 (σ − y) σ (1 − σ)` with
    `σ = σ(z)`: it vanishes for a confident mistake, which is what `binary_cross_entropy` mends. An
    infinite logit is a probability of 0 or 1.

    Args:
      logits: z, `[*batch]`, the log odds of class 1.
      labels: y, `[*batch]`, 0 or 1, or floats: the probability of class 1.

    >>> sigmoid_squared_error(jnp.array([0.0, 2.0, 2.0, 1e4]), jnp.array([1, 1, 0, 0])).round(4)
    Array([0.25  , 0.0142, 0.7758, 1.    ], dtype=float32)
    """
    _check_shapes(logits=logits, labels=labels)
    p = sigmoid(logits)
    return squared_error(p, jnp.asarray(labels, p.dtype))


def softmax_squared_error(
    logits: Float[ArrayLike, "*batch classes"], labels: Int[ArrayLike, "*batch"]
) -> Float[Array, "*batch"]:
    """Return the squared error of probabilities, `Σₖ (pₖ − onehot(y)ₖ)²` with `p = softmax(z)`.

    This is Brier's score (*Verification of Forecasts Expressed in Terms of Probability*, 1950),
    between 0 and 2. It sums over the classes k. With two classes it is twice the
    `sigmoid_squared_error` of `z₁ − z₀`. A label outside of the classes has `onehot(y) = 0`.
    Infinite logits act as in `softmax_cross_entropy`, but a right class of probability 0 costs at
    most 2.

    Args:
      logits: z, `[*batch, classes]`, any number for each class.
      labels: y, `[*batch]`, the index of the right class: integers.

    >>> logits = jnp.array([[1.2, -0.8, -0.5], [0.9, -1.2, 1.1], [0.0, 0.0, 0.0]])
    >>> softmax_squared_error(logits, jnp.array([0, 1, 3])).round(4)
    Array([0.088 , 1.3518, 0.3333], dtype=float32)
    """
    _check_shapes(logits=logits, labels=labels, classes=True)
    p = softmax(logits)
    onehot = jax.nn.one_hot(labels, p.shape[-1], dtype=p.dtype)
    return squared_error(p, onehot).sum(axis=-1)


LOSSES: Mapping[str, Callable[..., Array]] = {
    "squared_error": squared_error,
    "binary_cross_entropy": binary_cross_entropy,
    "softmax_cross_entropy": softmax_cross_entropy,
    "sigmoid_squared_error": sigmoid_squared_error,
    "softmax_squared_error": softmax_squared_error,
}
"""The losses, by name."""


def _check_shapes(*, classes: bool = False, **arrays: ArrayLike) -> None:
    """Refuse targets that would broadcast, or, if the last axis counts classes, that are none."""
    (outputs, z), (targets, y) = arrays.items()
    shape = jnp.shape(z)[:-1] if classes else jnp.shape(z)
    if jnp.shape(y) != shape:
        raise UsageError(
            f"{targets}: expected one per example, shape {shape}, for {outputs} of shape "
            f"{jnp.shape(z)}; got shape {jnp.shape(y)}."
        )
    dtype = jnp.result_type(y)
    if classes and not jnp.issubdtype(dtype, jnp.integer):
        raise UsageError(
            f"{targets}: expected integers, the index of each example's class; got {dtype}. "
            f"Try {targets}.astype(int)."
        )
