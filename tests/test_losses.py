"""Losses against float64 NumPy and PyTorch: values, gradients, extremes."""

import inspect

import chex
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from funcnet import UsageError, losses
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
@settings(max_examples=20)
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


@pytest.mark.parametrize("shape", [(), (1,), (7, 1), (7, 7)])
@pytest.mark.parametrize("name", LOSSES)
def test_targets_that_would_broadcast_are_refused(name, shape):
    loss = inspect.unwrap(LOSSES[name])  # else an annotation refuses them first
    outputs, targets = inspect.signature(loss).parameters
    message = rf"{targets}: expected one per example, shape \(7,\), for {outputs} of"
    with pytest.raises(UsageError, match=message):
        loss(np.zeros([7, 3] if name in MULTICLASS else 7), np.zeros(shape, int))


@pytest.mark.parametrize("dtype", [np.float32, bool])
@pytest.mark.parametrize("name", MULTICLASS)
def test_labels_that_are_no_indices_are_refused(name, dtype):
    with pytest.raises(UsageError, match=r"labels: expected integers.*Try labels.astype\(int\)"):
        inspect.unwrap(LOSSES[name])(np.zeros([2, 3], np.float32), np.array([0, 1], dtype))


@pytest.mark.parametrize("name", [*BINARY, *MULTICLASS])
def test_infinite_logits_are_as_documented(name):
    inf, nan = np.inf, np.nan
    if name in BINARY:
        z, y = np.float32([inf, -inf, inf, -inf]), np.array([1, 0, 0, 1])
        expected = [nan, nan, inf, inf] if name.endswith("entropy") else [0, 0, 1, 1]
    else:
        z = np.float32([[0, -inf], [0, -inf], [0, inf], [-inf, -inf]])
        y = np.array([0, 1, 1, 0])
        largest = np.finfo(np.float32).max if name.endswith("entropy") else 2
        expected = [0, largest, nan, nan]
    np.testing.assert_array_equal(LOSSES[name](z, y), np.float32(expected))


def test_two_classes_are_one_logit():
    z, y = np.float32([-3, 0.5, 2]), np.array([0, 1, 0])
    both = np.stack([np.zeros(3, np.float32), z], axis=-1)
    cross_entropy = losses.softmax_cross_entropy(both, y)
    np.testing.assert_allclose(cross_entropy, losses.binary_cross_entropy(z, y), rtol=1e-6)
    brier = losses.softmax_squared_error(both, y)
    np.testing.assert_allclose(brier, 2 * losses.sigmoid_squared_error(z, y), rtol=1e-6)
