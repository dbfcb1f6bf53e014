"""Numerical differentiation with an error bar."""

import numpy as np

from funcnet.gradcheck._differences import extrapolate, noise_of, steps


def test_steps_are_eighths():
    assert steps(4, 3).tolist() == [1 / 16, 1 / 128, 1 / 1024]


def test_the_error_bar_covers_the_error():
    t = steps(4, 4)
    precision = {"noise": 1e-16, "rounding": 1e-16, "epsilon": 1e-16}
    slopes = extrapolate(np.exp([[t, -t]]), 1.0, t, **precision)
    assert abs(slopes.value[0] - 1) < slopes.bar[0] < 1e-11
    assert not slopes.kink[0]


def test_a_kink_has_two_sides():
    t = steps(4, 4)
    precision = {"noise": 1e-16, "rounding": 1e-16, "epsilon": 1e-16}
    slopes = extrapolate(np.array([[2 * t, t]]), 0.0, t, **precision)
    assert slopes.kink[0]
    assert (slopes.left[0], slopes.right[0], slopes.value[0]) == (-1.0, 2.0, 0.5)


def test_noise_is_told_from_curvature():
    assert noise_of(np.linspace(0, 1, 9)[None] ** 2) < 1e-15
    noisy = np.round(np.random.default_rng(0).uniform(size=[3, 9]), 3)
    assert 0.05 < noise_of(noisy) < 1
