"""Gradients derived by hand: the chain rule, walked backwards. This file uses no autodiff.

Backward, each step multiplies the gradient that comes in from above by its own, local derivative:

    new_input_grad = input_grad * local_grad

`x_grad` is `∂L/∂x` throughout: the gradient of the one number L with respect to x, in the shape of
x. `lecture_forward` and `lecture_backward` write out every step of the lecture's example. For the
networks, `value_and_gradient` puts together the derivative of each activation (`DERIVATIVES`), the
gradient of each loss (`LOSS_GRADIENTS`), and the three products of an affine layer.

Where a formula has several forms, the lecture writes the first and the code computes the last: the
first loses its digits. In float32, `1 − σ(x)` is 0 from x = 17 on, `1 − tanh²(x)` from x = 9 on.

These formulas are a second road, which checks `jax.grad` of `activations` and `losses`: they share
the forward functions, and no derivative. The derivations are those of *Fundamentals of Deep
Learning* (Buduma, 2017), chapter 2, and of the lecture on chapter 3; Goodfellow, Bengio and
Courville, *Deep Learning* (2016), section 6.5, give them in full. At a kink, where no derivative
exists, each function returns the one that `activations` documents.
"""

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp
from jax.nn import one_hot
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Real

from funcnet.activations import ACTIVATIONS, sigmoid, softmax
from funcnet.base import Inputs, Linear, Params, one_of, to_float
from funcnet.losses import LOSSES
from funcnet.models import FITTING_LOSSES

LectureGraph = namedtuple("LectureGraph", "a w1 w2 w3 w4 b c d L")
"""One number per node of the lecture's graph: its value, or its gradient."""


def lecture_forward(
    a: ArrayLike, w1: ArrayLike, w2: ArrayLike, w3: ArrayLike, w4: ArrayLike
) -> LectureGraph:
    """Compute the lecture's example forward: `b = w1·a, c = w2·a, d = w3·b + w4·c, L = 10 − d`.

    >>> lecture_forward(a=2.0, w1=3.0, w2=4.0, w3=5.0, w4=6.0)
    LectureGraph(a=2.0, w1=3.0, w2=4.0, w3=5.0, w4=6.0, b=6.0, c=8.0, d=78.0, L=-68.0)
    """
    b = w1 * a
    c = w2 * a
    d = w3 * b + w4 * c
    L = 10 - d
    return LectureGraph(a=a, w1=w1, w2=w2, w3=w3, w4=w4, b=b, c=c, d=d, L=L)


def lecture_backward(values: LectureGraph) -> LectureGraph:
    """Compute the lecture's example backward: `∂L/∂·` of every node, from L to the leaves.

    The node a has two uses: its gradient is the sum of what comes back along both.

    >>> lecture_backward(lecture_forward(a=2.0, w1=3.0, w2=4.0, w3=5.0, w4=6.0))
    LectureGraph(a=-39.0, w1=-10.0, w2=-12.0, w3=-6.0, w4=-8.0, b=-5.0, c=-6.0, d=-1.0, L=1.0)
    """
    a, w1, w2, w3, w4, b, c, _, _ = values
    L_grad = 1.0
    # L = 10 − d:  ∂L/∂d = −1
    d_grad = -L_grad
    # d = w3·b + w4·c:  ∂d/∂w3 = b,  ∂d/∂b = w3,  ∂d/∂w4 = c,  ∂d/∂c = w4
    w3_grad = d_grad * b
    b_grad = d_grad * w3
    w4_grad = d_grad * c
    c_grad = d_grad * w4
    # c = w2·a:  ∂c/∂w2 = a,  ∂c/∂a = w2
    w2_grad = c_grad * a
    # b = w1·a:  ∂b/∂w1 = a,  ∂b/∂a = w1
    w1_grad = b_grad * a
    a_grad = b_grad * w1 + c_grad * w2
    return LectureGraph(a_grad, w1_grad, w2_grad, w3_grad, w4_grad, b_grad, c_grad, d_grad, L_grad)


def sigmoid_derivative(x: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """Return `σ'(x) = σ(x) (1 − σ(x)) = 1 / (2 + eˣ + e⁻ˣ)`.

    >>> sigmoid_derivative(jnp.array([0.0, 20.0]))
    Array([2.5000e-01, 2.0612e-09], dtype=float32)
    """
    x = jnp.asarray(x)
    return 1 / (2 + (jnp.exp(x) + jnp.exp(-x)))


def tanh_derivative(x: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """Return `tanh'(x) = 1 − tanh²(x) = 4 / (2 + e²ˣ + e⁻²ˣ) = 4 σ'(2x)`.

    >>> tanh_derivative(jnp.array([0.0, 10.0]))
    Array([1.0000e+00, 8.2446e-09], dtype=float32)
    """
    return 4 * sigmoid_derivative(2 * jnp.asarray(x))


def relu_derivative(x: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """Return `relu'(x) = 0 for x ≤ 0, else 1`.

    >>> relu_derivative(jnp.array([-2.0, 0.0, 3.0]))
    Array([0., 0., 1.], dtype=float32)
    """
    x = jnp.asarray(x)
    return jnp.where(x <= 0, 0, jnp.ones_like(x))


def leaky_relu_derivative(
    x: Float[ArrayLike, "*shape"], *, negative_slope: float = 0.1
) -> Float[Array, "*shape"]:
    """Return `leaky_relu'(x) = negative_slope for x ≤ 0, else 1`.

    >>> leaky_relu_derivative(jnp.array([-2.0, 0.0, 3.0]))
    Array([0.1, 0.1, 1. ], dtype=float32)
    """
    x = jnp.asarray(x)
    return jnp.where(x <= 0, negative_slope, jnp.ones_like(x))


def elu_derivative(x: Float[ArrayLike, "*shape"], *, alpha: float = 1.0) -> Float[Array, "*shape"]:
    """Return `elu'(x) = α eˣ for x ≤ 0, else 1`.

    >>> elu_derivative(jnp.array([-2.0, 0.0, 3.0]))
    Array([0.1353, 1.    , 1.    ], dtype=float32)
    """
    x = jnp.asarray(x)
    return jnp.where(x <= 0, alpha * jnp.exp(x), jnp.ones_like(x))


def maxout_derivative(
    x: Float[ArrayLike, "*batch pieces features"],
) -> Float[Array, "*batch pieces features"]:
    """Return `∂ maxⱼ xⱼ / ∂xᵢ = 1 for the largest piece, else 0`; several largest share the 1.

    >>> maxout_derivative(jnp.array([[1.0, 2.0], [0.0, 2.0]]))
    Array([[1. , 0.5],
           [0. , 0.5]], dtype=float32)
    """
    x = jnp.asarray(x)
    largest = (x == jnp.max(x, axis=-2, keepdims=True)).astype(x.dtype)
    return largest / jnp.sum(largest, axis=-2, keepdims=True)


DERIVATIVES: Mapping[str, Callable[..., Array]] = {
    "sigmoid": sigmoid_derivative,
    "tanh": tanh_derivative,
    "relu": relu_derivative,
    "leaky_relu": leaky_relu_derivative,
    "elu": elu_derivative,
    "maxout": maxout_derivative,
}
"""The derivative of each activation, a function of the activation's input."""


def squared_error_gradient(
    predictions: Float[ArrayLike, "*batch"], targets: Float[ArrayLike, "*batch"]
) -> Float[Array, "*batch"]:
    """Return `∂/∂ŷ (ŷ − y)² = 2 (ŷ − y)`.

    >>> squared_error_gradient(jnp.array([1.0, 2.0]), jnp.array([1.0, 5.0]))
    Array([ 0., -6.], dtype=float32)
    """
    return 2 * (jnp.asarray(predictions) - jnp.asarray(targets))


def binary_cross_entropy_gradient(
    logits: Float[ArrayLike, "*batch"], labels: Real[ArrayLike, "*batch"]
) -> Float[Array, "*batch"]:
    """Return `∂/∂z (−y log σ(z) − (1 − y) log σ(−z)) = σ(z) − y = −y σ(−z) + (1 − y) σ(z)`.

    >>> binary_cross_entropy_gradient(jnp.array([0.0, 20.0]), jnp.array([0, 1]))
    Array([ 5.0000e-01, -2.0612e-09], dtype=float32)
    """
    z = jnp.asarray(logits)
    y = jnp.asarray(labels, z.dtype)
    return -y * sigmoid(-z) + (1 - y) * sigmoid(z)


def softmax_cross_entropy_gradient(
    logits: Float[ArrayLike, "*batch classes"], labels: Int[ArrayLike, "*batch"]
) -> Float[Array, "*batch classes"]:
    """Return `∂/∂z (−log p_y) = p − onehot(y)` with `p = softmax(z)`.

    For a label outside of the classes `onehot(y)` is 0. The loss is NaN there, without a gradient.

    >>> softmax_cross_entropy_gradient(jnp.array([0.0, 0.0]), jnp.array(1))
    Array([ 0.5, -0.5], dtype=float32)
    """
    p = softmax(logits)
    return p - one_hot(labels, p.shape[-1], dtype=p.dtype)


def sigmoid_squared_error_gradient(
    logits: Float[ArrayLike, "*batch"], labels: Real[ArrayLike, "*batch"]
) -> Float[Array, "*batch"]:
    """Return `∂/∂z (σ − y)² = 2 (σ − y) σ'(z)` with `σ = σ(z)`: the gradient of the lecture's L0.

    >>> sigmoid_squared_error_gradient(jnp.array([0.0, 0.0]), jnp.array([0, 1]))
    Array([ 0.25, -0.25], dtype=float32)
    """
    p = sigmoid(logits)
    return squared_error_gradient(p, jnp.asarray(labels, p.dtype)) * sigmoid_derivative(logits)


def softmax_squared_error_gradient(
    logits: Float[ArrayLike, "*batch classes"], labels: Int[ArrayLike, "*batch"]
) -> Float[Array, "*batch classes"]:
    """Return `∂/∂zᵢ Σₖ (pₖ − tₖ)² = pᵢ (gᵢ − Σⱼ pⱼ gⱼ)` with `t = onehot(y)`, `g = 2 (p − t)`.

    g is the gradient that comes in, with respect to `p = softmax(z)`. The rest is the local
    derivative of the softmax, `∂pⱼ/∂zᵢ = pⱼ (δᵢⱼ − pᵢ)`.

    >>> softmax_squared_error_gradient(jnp.array([0.0, 0.0]), jnp.array(1))
    Array([ 0.5, -0.5], dtype=float32)
    """
    p = softmax(logits)
    g = squared_error_gradient(p, one_hot(labels, p.shape[-1], dtype=p.dtype))
    return p * (g - jnp.sum(p * g, axis=-1, keepdims=True))


LOSS_GRADIENTS: Mapping[str, Callable[..., Array]] = {
    "squared_error": squared_error_gradient,
    "binary_cross_entropy": binary_cross_entropy_gradient,
    "softmax_cross_entropy": softmax_cross_entropy_gradient,
    "sigmoid_squared_error": sigmoid_squared_error_gradient,
    "softmax_squared_error": softmax_squared_error_gradient,
}
"""The gradient of each loss with respect to its first argument, the logits or predictions."""


def value_and_gradient(
    model: str, loss: str, *, activation: str = "relu"
) -> Callable[[Params, ArrayLike, ArrayLike], tuple[Array, Params]]:
    """Return `(params, inputs, targets) -> (loss, gradients)`: a model's mean loss and gradient.

    The function takes and returns the same as

        jax.value_and_grad(lambda params, x, y: loss(model.apply(params, x), y).mean())

    Forward, each layer keeps its input. Backward, each layer turns the gradient of its output into
    the gradients of its parameters and of its input.

    Args:
      model: a name in `FITTING_LOSSES`, the constructor in `models` that made the parameters.
      loss: one of the losses in `FITTING_LOSSES[model]`.
      activation: a name in `DERIVATIVES`, which `mlp` alone uses.

    >>> params = Linear(weight=jnp.zeros([1, 2]), bias=jnp.zeros(1))
    >>> gradient = value_and_gradient("logistic_regression", "binary_cross_entropy")
    >>> gradient(params, jnp.array([[1.0, 2.0], [3.0, 6.0]]), jnp.array([1, 0]))
    (Array(0.6931, dtype=float32),
     Linear(weight=Array([[0.5, 1. ]], dtype=float32), bias=Array([0.], dtype=float32)))

    Raises:
      UsageError: an unknown model, loss or activation, or a loss that does not fit the model.
    """
    fitting = FITTING_LOSSES[one_of("model", model, FITTING_LOSSES)].values()
    loss_values = LOSSES[one_of(f"loss of {model}", loss, fitting)]
    loss_gradient = LOSS_GRADIENTS[loss]
    g = ACTIVATIONS[one_of("activation", activation, DERIVATIVES)]
    g_derivative = DERIVATIVES[activation]

    def layers_gradient(
        layers: Sequence[Linear], x: Float[Array, "*batch features"], targets: ArrayLike
    ) -> tuple[Array, tuple[Linear, ...], Array]:
        """Return the loss, the gradients of these layers, and `x_grad`, that of their input.

            z = W x + b,  h = g(z),  and the layers above turn h into L
            z_grad = h_grad * g'(z)

        Above the last layer is the loss, `L = 1/m Σ loss(z, y)`, with `z_grad = 1/m ∂loss/∂z`.
        """
        layer, *above = layers
        z = affine(layer, x)
        if above:
            value, above_grads, h_grad = layers_gradient(above, g(z), targets)
            if h_grad.ndim < z.ndim:  # a maxout layer: the same for each of its pieces
                h_grad = h_grad[..., None, :]
            z_grad = h_grad * g_derivative(z)
        else:
            losses = loss_values(z, targets)
            value, above_grads = jnp.mean(losses), ()
            z_grad = loss_gradient(z, targets) / losses.size
        layer_grad, x_grad = affine_backward(layer, x, z_grad)
        return value, (layer_grad, *above_grads), x_grad

    def gradient(params: Params, inputs: Inputs, targets: ArrayLike) -> tuple[Array, Params]:
        layers = params if model == "mlp" else [params]
        x = to_float(inputs, layers[0].weight.dtype)
        if model == "logistic_regression":  # one output: [*batch] as [*batch, 1]
            targets = jnp.asarray(targets)[..., None]
        value, grads, _ = layers_gradient(layers, x, targets)
        return value, grads if model == "mlp" else grads[0]

    return gradient


def affine(
    layer: Linear, x: Float[Array, "*batch features"]
) -> Float[Array, "*batch_pieces outputs"]:
    """Return `z = W x + b` for each example, and for each piece of a maxout layer.

    >>> layer = Linear(weight=jnp.array([[1.0, 2.0]]), bias=jnp.array([10.0]))
    >>> affine(layer, jnp.array([[1.0, 1.0], [0.0, 3.0]]))
    Array([[13.],
           [16.]], dtype=float32)
    """
    W, b = layer
    Wx = jnp.tensordot(x, W, axes=(-1, -1))
    return Wx + jnp.broadcast_to(b, Wx.shape)


def affine_backward(
    layer: Linear, x: Float[Array, "*batch features"], z_grad: Float[Array, "*batch_pieces outputs"]
) -> tuple[Linear, Float[Array, "*batch features"]]:
    """Return the gradients of a layer and of its input, from the gradient of `z = W x + b`.

        W_grad = Σ z_grad xᵀ,    b_grad = Σ z_grad,    x_grad = Wᵀ z_grad

    The sums are over the examples, which share W and b. The first sum is one matrix product.

    >>> layer = Linear(weight=jnp.array([[1.0, 2.0]]), bias=jnp.array([10.0]))
    >>> affine_backward(layer, jnp.array([[1.0, 1.0], [0.0, 3.0]]), jnp.array([[1.0], [2.0]]))
    (Linear(weight=Array([[1., 7.]], dtype=float32), bias=Array([3.], dtype=float32)),
     Array([[1., 2.],
            [2., 4.]], dtype=float32))
    """
    W, b = layer
    batch = tuple(range(x.ndim - 1))
    W_grad = jnp.tensordot(z_grad, x, axes=(batch, batch))
    b_grad = jnp.sum(z_grad, axis=batch)
    x_grad = jnp.tensordot(z_grad, W, axes=b.ndim)
    return Linear(weight=W_grad, bias=b_grad), x_grad
