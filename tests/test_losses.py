"""Losses against float64 NumPy and PyTorch: values, gradients, extremes."""

import inspect
import subprocess
import sys

import chex
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from funcnet import losses
from funcnet.chain_rule import LOSS_GRADIENTS
from funcnet.losses import LOSSES

BINARY = ("binary_cross_entropy", "sigmoid_squared_error")
MULTICLASS = ("softmax_cross_entropy", "softmax_squared_error")


def sigmoid64(z):
    return 1 / (1 + np.exp(-z))


def softmax64(z):
    return np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)


REFERENCES = {
    "squared_error": lambda z, y: (z - y) ** 2,
    "binary_cross_entropy": lambda z, y: (
        -y * np.log(sigmoid64(z)) - (1 - y) * np.log(1 - sigmoid64(z))
    ),
    "softmax_cross_entropy": lambda z, y: -np.log(softmax64(z)[np.arange(len(y)), y]),
    "sigmoid_squared_error": lambda z, y: (sigmoid64(z) - y) ** 2,
    "softmax_squared_error": lambda z, y: ((softmax64(z) - np.eye(z.shape[-1])[y]) ** 2).sum(-1),
}


def example(name, *, dtype=np.float64, seed=0, batch=6):
    """Logits and targets that fit the loss."""
    rng = np.random.default_rng(seed)
    if name in MULTICLASS:
        return rng.normal(scale=2, size=(batch, 4)).astype(dtype), rng.integers(4, size=batch)
    z = rng.normal(scale=2, size=batch).astype(dtype)
    return z, rng.integers(2, size=batch) if name in BINARY else rng.normal(size=batch)


@pytest.mark.parametrize("name", LOSSES)
@given(seed=st.integers(0, 1000))
def test_values_are_those_of_float64_numpy(name, seed):
    z, y = example(name, seed=seed)
    y32 = y.astype(np.int32 if y.dtype.kind == "i" else np.float32)
    value = LOSSES[name](z.astype(np.float32), y32)
    np.testing.assert_allclose(value, REFERENCES[name](z, y), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_values_and_gradients_are_those_of_pytorch(name, float64):
    torch = pytest.importorskip("torch", reason="PyTorch is in the extra [peers]")
    functional = torch.nn.functional
    peers = {
        "squared_error": lambda z, y: functional.mse_loss(z, y, reduction="none"),
        "binary_cross_entropy": lambda z, y: functional.binary_cross_entropy_with_logits(
            z, y.double(), reduction="none"
        ),
        "softmax_cross_entropy": lambda z, y: functional.cross_entropy(z, y, reduction="none"),
        "sigmoid_squared_error": lambda z, y: (torch.sigmoid(z) - y) ** 2,
        "softmax_squared_error": lambda z, y: (
            (functional.softmax(z, -1) - functional.one_hot(y, 4)) ** 2
        ).sum(-1),
    }
    z, y = example(name)
    z_torch = torch.tensor(z, requires_grad=True)
    value_torch = peers[name](z_torch, torch.tensor(y))
    value_torch.mean().backward()
    value, gradient = jax.value_and_grad(lambda z: LOSSES[name](z, y).mean())(z)
    np.testing.assert_allclose(value, value_torch.mean().item(), rtol=1e-12)
    np.testing.assert_allclose(gradient, z_torch.grad, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("name", [*BINARY, *MULTICLASS])
@pytest.mark.parametrize("size", [1e4, -1e4])
@pytest.mark.parametrize("label", [0, 1])
def test_finite_for_large_logits(name, size, label):
    z = jnp.array([0.0, size]) if name in MULTICLASS else jnp.array(size)
    value, gradient = jax.value_and_grad(LOSSES[name])(z, jnp.array(label))
    chex.assert_tree_all_finite((value, gradient))
    favoured = int(size > 0)
    wrong = 1e4 if name.endswith("entropy") else 2.0 if name in MULTICLASS else 1.0
    assert value == (0 if label == favoured else wrong)


def test_a_confident_right_answer_keeps_its_small_loss_and_gradient():
    value, gradient = jax.value_and_grad(losses.binary_cross_entropy)(jnp.array(20.0), jnp.array(1))
    np.testing.assert_allclose(value, np.log1p(np.exp(-20.0)), rtol=1e-6)
    np.testing.assert_allclose(gradient, -sigmoid64(-20.0), rtol=1e-6)


def test_binary_cross_entropy_takes_probabilities_as_labels():
    value = losses.binary_cross_entropy(jnp.array([0.0, 1.0]), jnp.array([0.3, 0.3]))
    expected = REFERENCES["binary_cross_entropy"](np.array([0.0, 1.0]), np.array([0.3, 0.3]))
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_a_label_outside_the_classes_is_nan_not_another_class():
    value = losses.softmax_cross_entropy(jnp.zeros([3, 3]), jnp.array([3, -1, 0]))
    assert np.isnan(value[:2]).all()
    np.testing.assert_allclose(value[2], np.log(3), rtol=1e-6)


@pytest.mark.parametrize("label", [3, -1])
def test_a_label_outside_the_classes_has_the_gradients_that_are_documented(label):
    z, y = jnp.array([1.0, 2.0, 3.0]), jnp.array(label)
    assert not jax.grad(losses.softmax_cross_entropy)(z, y).any()
    for name in MULTICLASS:
        p = softmax64(np.asarray(z, np.float64))
        g = 2 * p  # onehot(y) is 0
        expected = p if name == "softmax_cross_entropy" else p * (g - (p * g).sum())
        np.testing.assert_allclose(LOSS_GRADIENTS[name](z, y), expected, rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_targets_that_would_broadcast_are_refused(name):
    """In a process of its own, where no annotation refuses them first."""
    logits = "np.zeros([7, 3])" if name in MULTICLASS else "np.zeros(7)"
    code = f"""
import numpy as np, funcnet as fn
for shape in [(), (1,), (7, 1), (7, 7)]:
    try:
        fn.losses.{name}({logits}, np.zeros(shape, int))
    except ValueError as error:
        print(error)
"""
    printed = subprocess.check_output([sys.executable, "-c", code], text=True)
    outputs, targets = inspect.signature(LOSSES[name]).parameters
    assert printed.count(f"{targets}: expected one an example, shape (7,), for {outputs} of") == 4
