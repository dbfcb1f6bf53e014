"""Models: constructors that close over their options and return a `Model(init, apply)`.

Every model takes inputs with any leading batch axes; `uint8` inputs are intensities and are scaled
to [0, 1]. An mlp is written for one example, `f(x) = W x + b`, and `jnp.vectorize` carries it over
the batch: XLA sees the one matrix product that it would see in `X Wᵀ + b`.
"""

import itertools
import math
from collections.abc import Sequence
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, UInt8

from funcnet.activations import ACTIVATIONS
from funcnet.base import Key, Linear, Model, Size, one_of, to_float

WEIGHT_SCALES: MappingProxyType[str, float] = MappingProxyType(
    {
        "linear": 1.0,  # LeCun et al., Efficient BackProp (1998): Var W = 1 / fan-in
        "tanh": 1.0,  # the same
        "sigmoid": 16.0,  # the same for σ(x) = (1 + tanh(x/2)) / 2: 4 times tanh's deviation
        "relu": 2.0,  # He et al., Delving Deep into Rectifiers (2015): Var W = 2 / fan-in
        "leaky_relu": 2 / (1 + 0.1**2),  # the same, for its slope
        "elu": 1.55,  # He's argument: 1 / E[elu(z)²] for z ~ N(0, 1)
    }
)
"""`Var W · fan-in` at the start, by the activation that follows, with its source."""


_BINARY = MappingProxyType(
    {"cross_entropy": "binary_cross_entropy", "squared_error": "sigmoid_squared_error"}
)
_MULTICLASS = MappingProxyType(
    {"cross_entropy": "softmax_cross_entropy", "squared_error": "softmax_squared_error"}
)
FITTING_LOSSES: MappingProxyType[str, MappingProxyType[str, str]] = MappingProxyType(
    {
        "linear": MappingProxyType({"squared_error": "squared_error"}),
        "logistic_regression": _BINARY,
        "softmax_regression": _MULTICLASS,
        "mlp": _MULTICLASS,
    }
)
"""The losses that fit each model: the name in a lecture, and the function in `losses.LOSSES`."""


def maxout_scale(pieces: Size) -> float:
    """`Var W · fan-in` before a maxout: He's argument, `1 / E[max(z₁, …, zₖ)²]` of k pieces.

    The pieces are independent, `z ~ N(0, 1)`; the density of the largest is `k Φ(z)ᵏ⁻¹ φ(z)`, and
    the integral is taken by the trapezoid rule, which is exact to rounding for it. One piece and
    two have exactly 1.

    >>> [round(maxout_scale(pieces), 4) for pieces in (1, 2, 3, 8)]
    [1.0, 1.0, 0.7839, 0.4167]
    """
    step = 0.01
    z = np.arange(-10, 10, step)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    below = np.array([(1 + math.erf(x / math.sqrt(2))) / 2 for x in z])
    mean_square = np.sum(z**2 * pieces * below ** (pieces - 1) * density) * step
    return 1 / round(float(mean_square), 12)


def linear(num_features: Size, num_outputs: Size) -> Model:
    """The affine map `f(x) = W x + b`, `[*batch, features] -> [*batch, outputs]`.

    >>> model = linear(num_features=3, num_outputs=2)
    >>> params = model.init(jax.random.key(0))
    >>> jax.tree.map(jnp.shape, params)
    Linear(weight=(2, 3), bias=(2,))
    >>> model.apply(params, jnp.ones([5, 3])).shape
    (5, 2)

    Raises:
      ValueError: a size is not a positive integer; or, from `apply`, the inputs have another
        number of features.
    """
    _check_sizes(num_features=num_features, num_outputs=num_outputs)

    def init(key: Key) -> Linear:
        shape = (int(num_outputs), int(num_features))
        return _init_layer(key, shape, WEIGHT_SCALES["linear"])

    def apply(
        params: Linear,
        inputs: Float[ArrayLike, "*batch features"] | UInt8[ArrayLike, "*batch features"],
    ) -> Float[Array, "*batch outputs"]:
        W, b = params
        x = _features(params, inputs)
        # Outputs first: XLA's product is a quarter faster with few rows than with few columns.
        z = jnp.tensordot(W, x, axes=[1, -1]) + jnp.expand_dims(b, range(1, x.ndim))
        return jnp.moveaxis(z, 0, -1)

    return Model(init=init, apply=apply)


def logistic_regression(num_features: Size) -> Model:
    """Two classes and no hidden layer: the logit `z = wᵀ x + b`, `[*batch, features] -> [*batch]`.

    `sigmoid(z)` is the probability of class 1, `z > 0` its prediction. The parameters are those
    of `linear` with one output.

    >>> model = logistic_regression(num_features=3)
    >>> params = model.init(jax.random.key(0))
    >>> jax.tree.map(jnp.shape, params)
    Linear(weight=(1, 3), bias=(1,))
    >>> model.apply(params, jnp.ones([5, 3])).shape
    (5,)

    Raises:
      ValueError: as `linear`.
    """
    model = linear(num_features, num_outputs=1)

    def apply(
        params: Linear,
        inputs: Float[ArrayLike, "*batch features"] | UInt8[ArrayLike, "*batch features"],
    ) -> Float[Array, "*batch"]:
        return model.apply(params, inputs).squeeze(axis=-1)

    return Model(init=model.init, apply=apply)


def softmax_regression(num_features: Size, num_classes: Size) -> Model:
    """Many classes and no hidden layer: the logits `z = W x + b`, one a class.

    `softmax(z)` are the probabilities of the classes, the largest logit is the prediction. The
    parameters are those of `linear`.

    >>> model = softmax_regression(num_features=64, num_classes=10)
    >>> params = model.init(jax.random.key(0))
    >>> model.apply(params, jnp.ones([5, 64])).shape
    (5, 10)

    Raises:
      ValueError: as `linear`.
    """
    _check_sizes(num_features=num_features, num_classes=num_classes)
    return linear(num_features, num_outputs=num_classes)


def mlp(sizes: Sequence[Size], *, activation: str = "relu", pieces: Size = 2) -> Model:
    """A multilayer perceptron: affine maps with an activation `g` after each but the last.

        h₀ = x,    hₗ = g(Wₗ hₗ₋₁ + bₗ),    z = W_L h_{L−1} + b_L

    Args:
      sizes: the number of features, of each layer's hidden units, and of classes: `[784, 128, 10]`.
      activation: a name in `ACTIVATIONS`.
      pieces: how many affine maps a maxout layer takes the largest of. The others have one.

    The weights begin as normal numbers with the variance that suits the activation, as
    `WEIGHT_SCALES` and `maxout_scale` have it; the biases begin as 0.

    >>> model = mlp([64, 32, 10], activation="maxout", pieces=3)
    >>> params = model.init(jax.random.key(0))
    >>> [layer.weight.shape for layer in params]
    [(3, 32, 64), (10, 32)]
    >>> model.apply(params, jnp.ones([5, 64])).shape
    (5, 10)

    Raises:
      ValueError: an unknown activation, fewer than two sizes, or a size that is not a positive
        integer; or, from `apply`, the inputs have another number of features.
    """
    g = ACTIVATIONS[one_of("activation", activation, ACTIVATIONS)]
    if len(sizes) < 2:
        raise ValueError(f"sizes: expected [features, ..., classes], two or more; got {sizes}.")
    _check_sizes(pieces=pieces, **{f"sizes[{i}]": size for i, size in enumerate(sizes)})
    scale = maxout_scale(pieces) if activation == "maxout" else WEIGHT_SCALES[activation]

    def init(key: Key) -> tuple[Linear, ...]:
        *hidden_keys, last_key = jax.random.split(key, len(sizes) - 1)
        *hidden_shapes, last_shape = [(int(n), int(m)) for m, n in itertools.pairwise(sizes)]
        if activation == "maxout":
            hidden_shapes = [(int(pieces), *shape) for shape in hidden_shapes]
        hidden = zip(hidden_keys, hidden_shapes, strict=True)
        return (
            *(_init_layer(key, shape, scale) for key, shape in hidden),
            _init_layer(last_key, last_shape, WEIGHT_SCALES["linear"]),
        )

    def apply(
        params: Sequence[Linear],
        inputs: Float[ArrayLike, "*batch features"] | UInt8[ArrayLike, "*batch features"],
    ) -> Float[Array, "*batch classes"]:
        *hidden, last = params

        def network(x: Float[Array, "features"]) -> Float[Array, "classes"]:
            h = x
            for layer in hidden:
                h = g(_affine(layer, h))
            return _affine(last, h)

        x = _features(params[0], inputs)
        return jnp.vectorize(network, signature="(features)->(classes)")(x)

    return Model(init=init, apply=apply)


def _affine(layer: Linear, x: Float[Array, "features"]) -> Float[Array, "*pieces outputs"]:
    """`W x + b`, for a maxout layer each of its pieces."""
    W, b = layer
    return W @ x + b


def _init_layer(key: Key, shape: tuple[int, ...], scale: float) -> Linear:
    """Weights of `shape`, with a variance of the scale over the fan-in, and biases of 0."""
    deviation = math.sqrt(scale / shape[-1])
    return Linear(weight=deviation * jax.random.normal(key, shape), bias=jnp.zeros(shape[:-1]))


def _features(
    first: Linear,
    inputs: Float[ArrayLike, "*batch features"] | UInt8[ArrayLike, "*batch features"],
) -> Float[Array, "*batch features"]:
    """The inputs as floats, checked against the layer that takes them."""
    x = to_float(inputs, first.weight.dtype)
    num_features = first.weight.shape[-1]
    if x.shape[-1:] != (num_features,):
        raise ValueError(
            f"inputs: expected {num_features} features in the last axis, as the first weight has; "
            f"got shape {x.shape}. Images are flattened first: x.reshape(len(x), -1)."
        )
    return x


def _check_sizes(**sizes: Size) -> None:
    for name, size in sizes.items():
        if not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{name}: expected a positive integer; got {size!r}.")
