"""Models: constructors that close over their options and return a `Model(init, apply)`.

| model | logits of an input x | parameters |
| --- | --- | --- |
| `linear` | `W x + b`: outputs, for regression | `Linear` |
| `logistic_regression` | `wᵀ x + b`: one number, two classes | `Linear` with one output |
| `softmax_regression` | `W x + b`: one number per class | `Linear` |
| `mlp` | affine maps with an activation between them | a tuple of `Linear` |

`init(key)` makes the first parameters, the same ones for the same key. `apply(params, inputs)`
takes inputs with any leading batch axes, floats of the parameters' dtype, or `uint8` intensities,
which it scales to [0, 1]. Models stop at logits: losses take logits, and `activations.sigmoid` or
`softmax` makes probabilities of them. `FITTING_LOSSES` says which losses fit which model.

A `UsageError` refuses a size that is not a positive integer, and inputs with a different number of
features.
"""

import itertools
import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from funcnet.activations import ACTIVATIONS
from funcnet.base import Inputs, Key, Linear, Model, Size, UsageError, one_of, to_float

_BINARY = {"cross_entropy": "binary_cross_entropy", "squared_error": "sigmoid_squared_error"}
_MULTICLASS = {"cross_entropy": "softmax_cross_entropy", "squared_error": "softmax_squared_error"}
FITTING_LOSSES: Mapping[str, Mapping[str, str]] = {
    "linear": {"squared_error": "squared_error"},
    "logistic_regression": _BINARY,
    "softmax_regression": _MULTICLASS,
    "mlp": _MULTICLASS,
}
"""The losses that fit each model: the name in a lecture, and the function in `losses.LOSSES`."""

WEIGHT_SCALES: Mapping[str, float] = {
    "linear": 1.0,  # LeCun et al., Efficient BackProp (1998): Var W = 1 / fan-in
    "tanh": 1.0,  # the same
    "sigmoid": 16.0,  # the same for σ(x) = (1 + tanh(x/2)) / 2: 4 times tanh's deviation
    "relu": 2.0,  # He et al., Delving Deep into Rectifiers (2015): Var W = 2 / fan-in
    "leaky_relu": 2 / (1 + 0.1**2),  # the same, for its slope
    "elu": 1.55,  # He's argument: 1 / E[elu(z)²] for z ~ N(0, 1)
}
"""`Var W · fan-in` of the first weights, by the activation that follows, with its source.

The fan-in is the number of features of a layer. `maxout_scale` computes the scale of a maxout.
"""


def maxout_scale(pieces: Size) -> float:
    """Return `Var W · fan-in` for a maxout of k pieces: He's argument, `1 / E[max(z₁, …, zₖ)²]`.

    The pieces are independent, `z ~ N(0, 1)`, and the density of the largest is
    `k Φ(z)ᵏ⁻¹ φ(z)`, with the density φ and the distribution function Φ of N(0, 1). One piece and
    two have exactly 1.

    >>> [round(maxout_scale(pieces), 4) for pieces in (1, 2, 3, 8)]
    [1.0, 1.0, 0.7839, 0.4167]
    """
    from scipy.special import ndtr
    from scipy.stats import norm

    # norm.expect multiplies by φ(z).
    square = norm.expect(lambda z: z**2 * pieces * ndtr(z) ** (pieces - 1), epsabs=0, epsrel=1e-12)
    return 1 / round(float(square), 12)


def linear(num_features: Size, num_outputs: Size) -> Model:
    """Return the affine map `f(x) = W x + b`, a model for regression.

    `W: [outputs, features]` is the weight and `b: [outputs]` the bias, as in `torch.nn.Linear`. W
    begins as normal numbers with the variance `1 / features`, and b as 0. The model has
    `init(key) -> Linear` and `apply: [*batch, features] -> [*batch, outputs]`.

    >>> model = linear(num_features=3, num_outputs=2)
    >>> jax.tree.map(jnp.shape, model.init(jax.random.key(0)))
    Linear(weight=(2, 3), bias=(2,))
    >>> params = Linear(weight=jnp.array([[1.0, 2.0, 0.0], [0.0, 0.0, 3.0]]), bias=jnp.ones(2))
    >>> model.apply(params, jnp.array([1.0, 10.0, 100.0]))
    Array([ 22., 301.], dtype=float32)
    """
    _check_sizes(num_features=num_features, num_outputs=num_outputs)

    def init(key: Key) -> Linear:
        return _init_layer(key, (int(num_outputs), int(num_features)), WEIGHT_SCALES["linear"])

    def apply(params: Linear, inputs: Inputs) -> Float[Array, "*batch outputs"]:
        W, b = params
        x = _features(params, inputs)
        # Outputs first: XLA's product is a quarter faster with few rows than with few columns.
        z = jnp.tensordot(W, x, axes=[1, -1]) + jnp.expand_dims(b, range(1, x.ndim))
        return jnp.moveaxis(z, 0, -1)

    return Model(init=init, apply=apply)


def logistic_regression(num_features: Size) -> Model:
    """Return logistic regression, a model for two classes: the logit `z = wᵀ x + b`.

    z is the log odds of class 1: `sigmoid(z)` is its probability, and the model predicts it where
    `z > 0`. The parameters are those of `linear` with one output, `w: [1, features]`, `b: [1]`.
    `softmax_regression` with two classes has twice the parameters and learns the same boundary. The
    model has `init(key) -> Linear` and `apply: [*batch, features] -> [*batch]`.

    >>> model = logistic_regression(num_features=3)
    >>> params = Linear(weight=jnp.array([[1.0, 0.0, -1.0]]), bias=jnp.array([0.5]))
    >>> model.apply(params, jnp.array([[1.0, 5.0, 1.0], [0.0, 5.0, 2.0]]))
    Array([ 0.5, -1.5], dtype=float32)
    """
    model = linear(num_features, num_outputs=1)

    def apply(params: Linear, inputs: Inputs) -> Float[Array, "*batch"]:
        return model.apply(params, inputs).squeeze(axis=-1)

    return Model(init=model.init, apply=apply)


def softmax_regression(num_features: Size, num_classes: Size) -> Model:
    """Return softmax regression, a model for several classes: the logits `z = W x + b`.

    `softmax(z)` are the probabilities of the classes, and the model predicts the class of the
    largest logit. A constant added to all logits changes neither. The parameters are those of
    `linear`, one output per class. `mlp` with no hidden layer has the same logits. The model has
    `init(key) -> Linear` and `apply: [*batch, features] -> [*batch, classes]`.

    >>> model = softmax_regression(num_features=2, num_classes=3)
    >>> params = Linear(weight=jnp.array([[1.0, 0], [0, 1], [0, 0]]), bias=jnp.zeros(3))
    >>> logits = model.apply(params, jnp.array([[2.0, 0.0], [1.0, 3.0]]))
    >>> logits.argmax(axis=-1)
    Array([0, 1], dtype=int32)
    """
    _check_sizes(num_features=num_features, num_classes=num_classes)
    return linear(num_features, num_outputs=num_classes)


def mlp(sizes: Sequence[Size], *, activation: str = "relu", pieces: Size = 2) -> Model:
    """Return a multilayer perceptron: affine maps with an activation g after each but the last.

        h₀ = x,    hₗ = g(Wₗ hₗ₋₁ + bₗ),    z = W_L h_{L−1} + b_L

    hₗ are the hidden units of layer l, and z the logits. The first weights are normal numbers with
    the variance that suits the activation, `WEIGHT_SCALES` or `maxout_scale` over the fan-in: they
    keep the mean square of the signal from layer to layer. The biases begin as 0. A maxout layer
    has `W: [pieces, outputs, features]`, and keeps the largest piece of each output.

    Args:
      sizes: the number of features, of each layer's hidden units, and of classes: `[784, 128, 10]`.
      activation: g, a name in `ACTIVATIONS`.
      pieces: the number of affine maps of a maxout layer. Other layers have one.

    Returns:
      A model: `init(key) -> (Linear, ...)`, one per layer; `apply: [*batch, features] -> [*batch,
      classes]`.

    >>> model = mlp([64, 32, 10], activation="maxout", pieces=3)
    >>> params = model.init(jax.random.key(0))
    >>> [layer.weight.shape for layer in params]
    [(3, 32, 64), (10, 32)]
    >>> model.apply(params, jnp.ones([5, 64])).shape
    (5, 10)

    Raises:
      UsageError: an unknown activation, or fewer than two sizes.
    """
    g = ACTIVATIONS[one_of("activation", activation, ACTIVATIONS)]
    if len(sizes) < 2:
        raise UsageError(f"sizes: expected [features, ..., classes], two or more; got {sizes}.")
    _check_sizes(pieces=pieces, **{f"sizes[{i}]": size for i, size in enumerate(sizes)})
    scale = maxout_scale(pieces) if activation == "maxout" else WEIGHT_SCALES[activation]

    def init(key: Key) -> tuple[Linear, ...]:
        *keys, last_key = jax.random.split(key, len(sizes) - 1)
        *shapes, last_shape = [(int(n), int(m)) for m, n in itertools.pairwise(sizes)]
        if activation == "maxout":
            shapes = [(int(pieces), *shape) for shape in shapes]
        hidden = [_init_layer(k, shape, scale) for k, shape in zip(keys, shapes, strict=True)]
        return (*hidden, _init_layer(last_key, last_shape, WEIGHT_SCALES["linear"]))

    def apply(params: Sequence[Linear], inputs: Inputs) -> Float[Array, "*batch classes"]:
        *hidden, last = params

        def network(x: Float[Array, "features"]) -> Float[Array, "classes"]:
            h = x
            for layer in hidden:
                h = g(_affine(layer, h))
            return _affine(last, h)

        x = _features(params[0], inputs)
        # XLA sees the one matrix product per layer that it would see in X Wᵀ + b.
        return jnp.vectorize(network, signature="(features)->(classes)")(x)

    return Model(init=init, apply=apply)


def _affine(layer: Linear, x: Float[Array, "features"]) -> Float[Array, "*pieces outputs"]:
    return layer.weight @ x + layer.bias


def _init_layer(key: Key, shape: tuple[int, ...], scale: float) -> Linear:
    """Normal weights of `shape` with the variance `scale / fan-in`, and biases of 0."""
    deviation = math.sqrt(scale / shape[-1])
    return Linear(weight=deviation * jax.random.normal(key, shape), bias=jnp.zeros(shape[:-1]))


def _features(first: Linear, inputs: Inputs) -> Float[Array, "*batch features"]:
    """The inputs as floats, checked against the layer that takes them."""
    x = to_float(inputs, first.weight.dtype)
    num_features = first.weight.shape[-1]
    if x.shape[-1:] != (num_features,):
        raise UsageError(
            f"inputs: expected {num_features} features in the last axis, as the first weight has; "
            f"got shape {x.shape}. Images are flattened first: x.reshape(len(x), -1)."
        )
    return x


def _check_sizes(**sizes: Size) -> None:
    for name, size in sizes.items():
        if not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1:
            raise UsageError(f"{name}: expected a positive integer; got {size!r}.")
