"""Numerical slopes of φ."""

import gauntlet
import jax.numpy as jnp
import pytest

import funcnet as fn

DEAR = ("a mask", "a callback", "no rule")


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[pytest.mark.slow] * (kind in DEAR))
        for kind in gauntlet.UNTRACEABLE
    ],
)
def test_what_jax_cannot_trace_is_checked_all_the_same(kind):
    function, gradient = gauntlet.UNTRACEABLE[kind]
    x = jnp.array([0.3, -1.2, 2.0])
    assert fn.check_gradients(function, x, hand=gradient).verdict == "pass"
    wrong = fn.check_gradients(function, x, hand=lambda x: 2 * gradient(x))
    assert wrong.leaves[0].looks_like == "a constant factor, 2"
