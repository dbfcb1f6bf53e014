"""The text of a gradient check."""

import jax.numpy as jnp
import numpy as np
import pytest

import funcnet as fn


def test_assert_gradients_shows_the_report():
    with pytest.raises(AssertionError, match="looks like: sign flipped"):
        fn.assert_gradients(jnp.sin, 1.0, hand=lambda x: -jnp.cos(x))


def test_is_deterministic():
    reports = [fn.check_gradients(jnp.sin, np.float32(1.0), seed=3) for _ in range(2)]
    assert str(reports[0]) == str(reports[1])
