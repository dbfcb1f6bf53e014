"""The gradients that are checked."""

import gauntlet
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcnet as fn


def test_a_gradient_by_hand_stands_alone_where_jax_has_no_derivative():
    function, gradient = gauntlet.UNTRACEABLE["a callback"]
    x = jnp.array([0.3, -1.2, 2.0])
    worst = fn.check_gradients(function, x, hand=lambda x: 2 * gradient(x)).worst
    assert (worst.disagrees, np.isnan(worst.jax)) == ("hand", True)
    assert worst.hand == pytest.approx(2 * worst.numerical)


def test_a_gradient_by_hand_may_know_one_dtype_alone():
    twos = jnp.full(3, 2, jnp.float32)
    x = jnp.array([0.3, -1.2, 2.0])
    report = fn.check_gradients(lambda x: jnp.sum(x**2), x, hand=lambda x: jax.lax.mul(x, twos))
    assert report.verdict == "pass"


@pytest.mark.parametrize(
    ("hand", "message"),
    [
        (lambda x: {"x": x}, "hand: expected the structure of the arguments"),
        (lambda x: x[:1], r"hand: expected shape \(3,\) for x; got \(1,\)"),
    ],
)
def test_says_which_gradient_by_hand_was_expected(hand, message):
    with pytest.raises(fn.UsageError, match=message):
        fn.check_gradients(lambda x: jnp.sum(x**2), jnp.arange(3.0), hand=hand)


def test_needs_a_derivative():
    with pytest.raises(fn.UsageError, match=r"function: expected one that jax\.grad can differ"):
        fn.check_gradients(lambda x: jnp.sum(gauntlet.sine_by_numpy(x)), jnp.arange(3.0))


def test_a_gradient_by_hand_needs_a_scalar_function():
    with pytest.raises(fn.UsageError, match="hand: expected a function with one real number"):
        fn.check_gradients(jnp.sin, jnp.arange(3.0), hand=jnp.cos)


@pytest.mark.parametrize("pack", [tuple, list])
def test_gradients_by_hand_with_respect_to_two_arguments(pack):
    report = fn.check_gradients(
        lambda x, y: x * y, 2.0, 3.0, argnums=(0, 1), hand=lambda x, y: pack([y, x])
    )
    assert report.verdict == "pass"
