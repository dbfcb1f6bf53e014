"""The arguments of a function as one vector."""

import jax.numpy as jnp
import numpy as np
import pytest

import funcnet as fn
from funcnet.gradcheck._vector import point_at


def test_floating_leaves_are_laid_end_to_end():
    args = {"w": np.ones([2, 3]), "z": np.array([1 + 2j])}, 4, "name"
    at = point_at(lambda params, n, text: 0.0, args, (0, 1, 2))
    assert [(leaf.path, leaf.start, leaf.size, leaf.skipped) for leaf in at.leaves] == [
        ("params['w']", 0, 6, None),
        ("params['z']", 6, 2, None),
        ("n", 8, 0, "an integer"),
        ("text", 8, 0, "not an array"),
    ]
    assert at.vector.tolist() == [1.0] * 6 + [1.0, 2.0]
    assert at.leaves[0].located(4) == ((1, 1), "", 1)
    assert at.leaves[1].located(7) == ((0,), ".imag", -1)


@pytest.mark.parametrize(
    "function", [lambda w, *xs: w * xs[0]["a"], lambda *xs: xs[1]["a"] * xs[0]]
)
def test_arguments_have_the_names_that_a_graph_gives_them(function):
    args = 2.0, {"a": 3.0}
    report = fn.check_gradients(function, *args, argnums=(0, 1))
    graph = fn.trace(function)(*args)
    assert [leaf.path for leaf in report.leaves] == [
        node.name for node in graph.nodes if node.operation == "argument"
    ]


def test_needs_something_to_differentiate():
    with pytest.raises(fn.UsageError, match="args: expected a floating point number"):
        fn.check_gradients(lambda n: n * 1.0, 3)
    with pytest.raises(fn.UsageError, match="function: expected an output with a floating"):
        fn.check_gradients(lambda x: jnp.argmax(x), jnp.arange(3.0))
