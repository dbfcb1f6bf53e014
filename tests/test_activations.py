"""Activations against float64 NumPy and PyTorch: values, gradients, kinks, tails, dtypes."""

import chex
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

from funcnet import activations
from funcnet.activations import ACTIVATIONS

ELEMENTWISE = {name: f for name, f in ACTIVATIONS.items() if name != "maxout"}
NORMALISERS = {"softmax": activations.softmax, "log_softmax": activations.log_softmax}
ALL = {**ELEMENTWISE, **NORMALISERS, "maxout": activations.maxout}

REFERENCES = {
    "sigmoid": lambda x: np.where(
        x < 0, np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x))), 1 / (1 + np.exp(-np.abs(x)))
    ),
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.maximum(0.1 * x, x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
}
HARD = np.float32([-3e38, -1e4, -88, -20, -1, -1e-7, -1e-30, 0, 1e-30, 1e-7, 1, 20, 88, 1e4, 3e38])

floats = st.floats(-50, 50, width=32, allow_subnormal=False)
vectors = hnp.arrays(np.float32, 8, elements=floats)
matrices = hnp.arrays(np.float32, (3, 5), elements=floats)


@pytest.mark.parametrize("name", ELEMENTWISE)
@settings(max_examples=30)
@given(x=vectors)
def test_values_are_those_of_float64_numpy(name, x):
    expected = REFERENCES[name](x.astype(np.float64))
    np.testing.assert_allclose(ELEMENTWISE[name](x), expected, rtol=2e-6, atol=1e-37)


@pytest.mark.parametrize("name", ALL)
def test_values_and_gradients_are_finite_for_every_finite_input(name):
    x = np.stack([HARD, HARD[::-1]])
    values, pullback = jax.vjp(ALL[name], x)
    (gradient,) = pullback(jnp.ones_like(values))
    chex.assert_tree_all_finite((values, gradient))
    curvature = jax.grad(lambda x: jax.grad(lambda x: ALL[name](x).sum())(x).sum())(x)
    chex.assert_tree_all_finite(curvature)


@pytest.mark.parametrize("name", ALL)
def test_nan_stays_nan(name):
    assert np.isnan(ALL[name](np.full([2, 3], np.nan, np.float32))).all()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64])
@pytest.mark.parametrize("name", ALL)
def test_dtype_is_kept(name, dtype, float64):
    x = jnp.array([[-1.0, 0.0, 2.0], [0.5, 1.0, -3.0]], dtype)
    value, pullback = jax.vjp(ALL[name], x)
    assert value.dtype == dtype
    assert pullback(value)[0].dtype == dtype
    tolerance = 4 * float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(
        np.float64(value), np.float64(ALL[name](np.float64(x))), rtol=tolerance, atol=tolerance
    )


def torch_functions(torch):
    functional = torch.nn.functional
    return {
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "relu": torch.relu,
        "leaky_relu": lambda x: functional.leaky_relu(x, negative_slope=0.1),
        "elu": functional.elu,
        "maxout": lambda x: torch.amax(x, dim=-2),
        "softmax": lambda x: functional.softmax(x, dim=-1),
        "log_softmax": lambda x: functional.log_softmax(x, dim=-1),
    }


@pytest.mark.parametrize("name", ALL)
def test_values_and_gradients_are_those_of_pytorch(name, float64):
    torch = pytest.importorskip("torch", reason="PyTorch is in the extra [peers]")
    x = np.random.default_rng(0).normal(scale=3, size=(3, 2, 5))
    x[0] = 0  # the kinks, and the ties of maxout
    x_torch = torch.tensor(x, requires_grad=True)
    value_torch = torch_functions(torch)[name](x_torch)
    cotangent = np.random.default_rng(1).normal(size=value_torch.shape)
    value_torch.backward(torch.tensor(cotangent))
    value, pullback = jax.vjp(ALL[name], x)
    np.testing.assert_allclose(value, value_torch.detach().numpy(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(pullback(cotangent)[0], x_torch.grad, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("name", "at_zero"),
    [("sigmoid", 0.25), ("tanh", 1.0), ("relu", 0.0), ("leaky_relu", 0.1), ("elu", 1.0)],
)
def test_the_gradient_at_zero(name, at_zero):
    np.testing.assert_allclose(jax.grad(ELEMENTWISE[name])(0.0), at_zero, rtol=1e-7)


def test_a_tie_of_maxout_is_shared_equally():
    gradient = jax.grad(lambda x: activations.maxout(x).sum())(jnp.ones([4, 2]))
    chex.assert_trees_all_close(gradient, jnp.full([4, 2], 0.25))


def test_derivatives_keep_their_tails():
    x = np.float32([-40, -20, -10, 10, 20, 40])
    exact = {
        "sigmoid": np.exp(-np.abs(x, dtype=np.float64))
        / (1 + np.exp(-np.abs(x, dtype=np.float64))) ** 2,
        "tanh": 1 / np.cosh(x, dtype=np.float64) ** 2,
        "elu": np.exp(np.minimum(x, 0), dtype=np.float64),
    }
    for name, expected in exact.items():
        gradient = jax.vmap(jax.grad(ELEMENTWISE[name]))(np.float32(x))
        np.testing.assert_allclose(gradient, expected, rtol=2e-6, err_msg=name)


def test_higher_derivatives_are_those_of_the_formulas(float64):
    x = np.linspace(-3, 3, 25)  # 0 among them
    t, s = np.tanh(x), (1 + np.tanh(x / 2)) / 2
    second = {"sigmoid": s * (1 - s) * (1 - 2 * s), "tanh": -2 * t * (1 - t**2)}
    third = {
        "sigmoid": s * (1 - s) * (1 - 6 * s + 6 * s**2),
        "tanh": (1 - t**2) * (6 * t**2 - 2),
    }
    for order, exact in [(2, second), (3, third)]:
        for name, expected in exact.items():
            derivative = ELEMENTWISE[name]
            for _ in range(order):
                derivative = jax.grad(derivative)
            np.testing.assert_allclose(jax.vmap(derivative)(x), expected, rtol=1e-10, atol=1e-14)


def test_options_change_the_slope_below_zero():
    x = jnp.array([-2.0, 2.0])
    chex.assert_trees_all_close(
        activations.leaky_relu(x, negative_slope=0.25), jnp.array([-0.5, 2.0])
    )
    chex.assert_trees_all_close(
        activations.elu(x, alpha=3.0), jnp.array([3 * np.expm1(-2), 2.0], jnp.float32)
    )


def test_options_do_not_change_the_dtype():
    x = jnp.ones(2, jnp.float16)
    assert activations.leaky_relu(x, negative_slope=np.float32(0.1)).dtype == jnp.float16
    assert activations.elu(x, alpha=np.float64(2)).dtype == jnp.float16


@settings(max_examples=30)
@given(x=vectors)
def test_tanh_is_a_stretched_sigmoid(x):
    np.testing.assert_allclose(
        activations.tanh(x), 2 * activations.sigmoid(2 * x) - 1, rtol=1e-5, atol=2e-7
    )


@settings(max_examples=30)
@given(x=matrices, shift=st.floats(-100, 100, width=32))
def test_softmax_is_invariant_to_a_shift(x, shift):
    np.testing.assert_allclose(
        activations.softmax(x + np.float32(shift)), activations.softmax(x), rtol=1e-4, atol=1e-6
    )


@settings(max_examples=30)
@given(x=matrices)
def test_softmax_is_a_distribution_and_log_softmax_its_logarithm(x):
    p = activations.softmax(x)
    np.testing.assert_allclose(p.sum(axis=-1), 1, rtol=1e-6)
    assert (p >= 0).all()
    exact = x.astype(np.float64) - np.log(np.exp(x.astype(np.float64)).sum(-1, keepdims=True))
    np.testing.assert_allclose(activations.log_softmax(x), exact, rtol=1e-5, atol=2e-6)


@settings(max_examples=30)
@given(x=hnp.arrays(np.float32, (3, 4, 2), elements=floats))
def test_maxout_is_the_largest_piece(x):
    np.testing.assert_array_equal(activations.maxout(x), np.amax(x, axis=-2))


def test_the_second_derivative_of_sigmoid_is_accurate_near_0():
    curvature = jax.grad(jax.grad(activations.sigmoid))(1e-5)
    np.testing.assert_allclose(curvature, -1e-5 / 8, rtol=1e-6)  # σ″(x) ≈ −x/8
