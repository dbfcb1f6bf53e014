"""Numerical slopes of φ."""

import gauntlet
import jax.numpy as jnp
import numpy as np
import pytest

import funcnet as fn
from funcnet.gradcheck import _slopes
from funcnet.gradcheck._differences import Slopes

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


def test_a_slope_that_was_rejected_is_not_held_against_a_later_one(monkeypatch):
    """Of two that contradict each other, the one from smaller steps wins."""

    def slopes(value, bar):
        value, bar = np.array([value]), np.array([bar])
        kink = np.array([False])
        return Slopes(value, bar, value, value, kink, abs(value), 0 * value)

    rejected = slopes(1.0, 0.2)  # from the smallest steps: it agrees, with a wider bar
    measured = iter([slopes(1.0, 0.1), rejected, slopes(5.0, 1e-6), slopes(5.0, 1e-5)])
    monkeypatch.setattr(_slopes, "_along_elements", lambda *_: next(measured))
    assert fn.check_gradients(lambda x: 5 * x, 1.0).verdict == "pass"
