"""What a wrong gradient looks like."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import funcnet as fn
from funcnet.gradcheck._diagnosis import looks_like
from funcnet.gradcheck._differences import Slopes
from funcnet.gradcheck._slopes import Measured
from funcnet.gradcheck._vector import point_at

TRUTH = np.array([1.0, 2.0, -3.0])


@pytest.mark.parametrize(
    ("claimed", "expected"),
    [
        (-TRUTH, "sign flipped"),
        (8 * TRUTH, "8 times too large: the mean's 1/m is missing"),
        (TRUTH + 0.5, "right up to a constant, 0.5"),
        (np.array([1.0, 2.0, -1.5]), "wrong at one element"),
    ],
)
def test_looks_like(claimed, expected):
    here = Measured(
        leaf=point_at(np.sum, (TRUTH,), (0,)).leaves[0],
        indices=np.arange(3),
        x=TRUTH,
        slopes=Slopes(TRUTH, 0 * TRUTH, TRUTH, TRUTH, TRUTH == 0, abs(TRUTH), 0 * TRUTH),
        checked="every element",
    )
    assert looks_like(here, claimed, claimed != TRUTH, [], [8]) == expected


@pytest.mark.slow
@given(
    shape=st.sampled_from([(3,), (2, 3)]),
    numbers=st.permutations([-2.0, -1.1, -0.5, 0.7, 1.5, 3.0]),
)
@settings(max_examples=10, deadline=None)
def test_swapped_leaves_are_named(shape, numbers):
    size = int(np.prod(shape))
    params = {"a": jnp.asarray(numbers[:size]).reshape(shape), "b": jnp.full(shape, 2.0)}
    report = fn.check_gradients(
        lambda p: jnp.sum(p["a"] ** 2) + 3 * jnp.sum(p["b"]),
        params,
        hand=lambda p: {"a": 3 + 0 * p["a"], "b": 2 * p["a"]},
    )
    assert [leaf.looks_like for leaf in report.leaves] == [
        "the gradient of p['b']",
        "the gradient of p['a']",
    ]
