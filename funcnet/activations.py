"""Activations: elementwise non-linearities, maxout, and the softmax.

| activation | values | take it |
| --- | --- | --- |
| `sigmoid` | 0 to 1 | for a probability; as a hidden layer it saturates on both sides |
| `tanh` | −1 to 1 | where hidden units should be centred on 0; it saturates too |
| `relu` | 0 to ∞ | by default; a unit whose input stays below 0 learns nothing |
| `leaky_relu`, `elu` | −∞ to ∞, −1 to ∞ | where such units are to learn |
| `maxout` | −∞ to ∞ | to let the layer learn its own convex activation |

Each function takes floats of any dtype and returns the same dtype. With the default options, values
and gradients are finite for every finite input. NaN stays NaN. At a kink, where no derivative
exists, the gradient is PyTorch's: the lecture draws these functions with PyTorch. The table of
tangents at the end has the derivatives in a form that keeps its digits far from 0.

The functions are those of *Fundamentals of Deep Learning* (Buduma, 2017), chapter 3, and of the
lecture on it. `chain_rule` derives their gradients by hand.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float


@jax.custom_jvp
def sigmoid(x: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """Return the logistic function, `σ(x) = 1 / (1 + e⁻ˣ)`, between 0 and 1.

    >>> sigmoid(jnp.array([0.0, 20.0]))
    Array([0.5, 1. ], dtype=float32)
    >>> jax.grad(sigmoid)(20.0)
    Array(2.0612e-09, dtype=float32, weak_type=True)
    """
    return jax.lax.logistic(jnp.asarray(x))


@jax.custom_jvp
def tanh(x: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """Return the hyperbolic tangent, `(eˣ − e⁻ˣ) / (eˣ + e⁻ˣ) = 2σ(2x) − 1`, between −1 and 1.

    >>> tanh(jnp.array([-1.0, 0.0, 1.0])).round(4)
    Array([-0.7616,  0.    ,  0.7616], dtype=float32)
    >>> jax.grad(tanh)(10.0)
    Array(8.2446e-09, dtype=float32, weak_type=True)
    """
    return jnp.tanh(x)


def relu(x: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """Return the rectifier, `max(0, x)`. Its gradient is 1 above 0 and 0 below; at 0 it is 0.

    Nair and Hinton, *Rectified Linear Units Improve Restricted Boltzmann Machines* (2010).

    >>> relu(jnp.array([-2.0, 0.0, 3.0]))
    Array([0., 0., 3.], dtype=float32)
    >>> jax.vmap(jax.grad(relu))(jnp.array([-2.0, 0.0, 3.0]))
    Array([0., 0., 1.], dtype=float32)
    """
    x = jnp.asarray(x)
    return jnp.where(x <= 0, 0, x)


def leaky_relu(
    x: Float[ArrayLike, "*shape"], *, negative_slope: ArrayLike = 0.1
) -> Float[Array, "*shape"]:
    """Return the leaky rectifier: x, or `negative_slope · x` below 0.

    The lecture writes `max(0.1 x, x)`. The gradient at 0 is `negative_slope`, as in PyTorch
    (`jax.nn.leaky_relu` has 1 there).

    Maas, Hannun and Ng, *Rectifier Nonlinearities Improve Neural Network Acoustic Models* (2013).

    >>> leaky_relu(jnp.array([-2.0, 0.0, 3.0]))
    Array([-0.2,  0. ,  3. ], dtype=float32)
    >>> jax.vmap(jax.grad(leaky_relu))(jnp.array([-2.0, 0.0, 3.0]))
    Array([0.1, 0.1, 1. ], dtype=float32)
    """
    x = jnp.asarray(x)
    return jnp.where(x <= 0, jnp.asarray(negative_slope, x.dtype) * x, x)


def elu(x: Float[ArrayLike, "*shape"], *, alpha: ArrayLike = 1.0) -> Float[Array, "*shape"]:
    """Return the exponential linear unit: x, or `α (eˣ − 1)` below 0, which tends to −α.

    The gradient at 0 is α, as in PyTorch. With the default, α = 1, there is no kink.

    Clevert, Unterthiner and Hochreiter, *Fast and Accurate Deep Network Learning by Exponential
    Linear Units* (2015).

    >>> elu(jnp.array([-2.0, 0.0, 3.0])).round(4)
    Array([-0.8647,  0.    ,  3.    ], dtype=float32)
    """
    x = jnp.asarray(x)
    # The inner `where` keeps e^x finite on the side that the outer one drops: without it, the
    # gradient would be 0 · inf = NaN there.
    return jnp.where(x <= 0, jnp.asarray(alpha, x.dtype) * _expm1(jnp.where(x <= 0, x, 0)), x)


def maxout(x: Float[ArrayLike, "*batch pieces features"]) -> Float[Array, "*batch features"]:
    """Return the largest of several linear pieces: the maximum over the second to last axis.

    The gradient goes to the largest piece. At a tie the largest share it equally, as in
    `torch.amax`.

    Goodfellow, Warde-Farley, Mirza, Courville and Bengio, *Maxout Networks* (2013).

    >>> maxout(jnp.array([[1.0, -5.0], [0.0, 2.0]]))
    Array([1., 2.], dtype=float32)
    """
    return jnp.max(jnp.asarray(x), axis=-2)


@jax.custom_jvp
def softmax(x: Float[ArrayLike, "*batch classes"]) -> Float[Array, "*batch classes"]:
    """Return the probabilities of logits, `pᵢ = exp(xᵢ) / Σⱼ exp(xⱼ)`, over the last axis.

    The logits are taken less their maximum: p stays the same, and no exponential overflows. A logit
    of −∞ has the probability 0; one of +∞ gives NaN. For a loss, take `log_softmax`.

    >>> softmax(jnp.log(jnp.array([1.0, 2.0, 5.0]))).round(4)
    Array([0.125, 0.25 , 0.625], dtype=float32)
    """
    x = jnp.asarray(x)
    e = jnp.exp(x - jnp.max(x, axis=-1, keepdims=True))
    return e / jnp.sum(e, axis=-1, keepdims=True)


@jax.custom_jvp
def log_softmax(x: Float[ArrayLike, "*batch classes"]) -> Float[Array, "*batch classes"]:
    """Return the logarithm of the softmax, `xᵢ − log Σⱼ exp(xⱼ)`, over the last axis.

    It keeps its accuracy where the softmax rounds to 0 or 1. A result below the lowest finite
    number of the dtype is that number.

    >>> log_softmax(jnp.array([0.0, 1000.0]))
    Array([-1000.,     0.], dtype=float32)
    """
    x = jnp.asarray(x)
    lowest = jnp.finfo(x.dtype).min
    shifted = jnp.maximum(x - jnp.max(x, axis=-1, keepdims=True), lowest)
    log_sum = jnp.log(jnp.sum(jnp.exp(shifted), axis=-1, keepdims=True))
    return jnp.maximum(shifted - log_sum, lowest)


@jax.custom_jvp
def _bell(x: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """Return `4 / (2 + eˣ + e⁻ˣ) = 4 σ'(x) = tanh'(x/2)`, accurate in both tails, and at most 1."""
    x = jnp.asarray(x)
    return 4 / (2 + (jnp.exp(x) + jnp.exp(-x)))


_expm1 = jax.custom_jvp(jnp.expm1)  # eˣ − 1, accurate near 0

# The tangents f'(x) dx, from dx, y = f(x) and x. The textbook's σ (1 − σ) and 1 − tanh², and JAX's
# (eˣ − 1) + 1, round to 0 in float32: where |x| is at least 17, 9, and 17.
sigmoid.defjvps(lambda dx, y, x: _bell(x) / 4 * dx)
tanh.defjvps(lambda dx, y, x: _bell(2 * jnp.asarray(x)) * dx)
_bell.defjvps(lambda dx, y, x: -y * tanh(jnp.asarray(x) / 2) * dx)  # finite where eˣ is not
_expm1.defjvps(lambda dx, y, x: jnp.exp(x) * dx)
softmax.defjvps(lambda dx, p, x: p * (dx - jnp.sum(p * dx, axis=-1, keepdims=True)))
log_softmax.defjvps(lambda dx, y, x: dx - jnp.sum(softmax(x) * dx, axis=-1, keepdims=True))

ACTIVATIONS: Mapping[str, Callable[..., Array]] = {
    f.__name__: f for f in (sigmoid, tanh, relu, leaky_relu, elu, maxout)
}
"""The activations of a hidden layer, by name."""
