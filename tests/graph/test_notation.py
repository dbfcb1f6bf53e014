"""How numbers, formulas, equations and names are written, and where nodes are drawn."""

import re

import jax.numpy as jnp
import numpy as np

from funcnet.graph import trace
from funcnet.graph._nodes import statistics
from funcnet.graph._notation import (
    Operand,
    call,
    derivative,
    expression,
    fraction,
    number,
    summary,
)
from funcnet.graph._tape import named_arguments
from funcnet.graph.draw._equations import backward, forward
from funcnet.graph.draw._layout import layered


def test_numbers_and_arrays():
    numbers = [-0.5, 22500.0, 1e-7, True, float("inf")]
    assert list(map(number, numbers)) == ["−0.5", "22500", "1e−07", "True", "∞"]
    assert summary(np.array(-15.0)) == "−15"
    assert summary(np.array([[1.0, 2.5]])) == "[1, 2] 1 … 2.5"


def test_the_statistics_are_of_the_finite_elements():
    found = statistics(np.array([3.0, -4.0, np.nan]))
    assert (found.shape, found.min, found.max) == ((3,), -4, 3)
    assert (found.mean, found.norm, found.nonfinite) == (-0.5, 5, 1)
    assert statistics(np.array([np.nan])) is None
    assert statistics(np.array(1j)) is None


def test_operations_and_derivatives():
    a = Operand("−5")
    assert (f"x − {a}", f"max(x, {a!s})") == ("x − (−5)", "max(x, −5)")
    assert expression("mul", ["w1", "a"], {}) == "w1 · a"
    assert expression("integer_pow", ["x"], {"y": -2}) == "x⁻²"
    assert expression("sub", ["x", "−3"], {}) == "x − (−3)"
    assert expression("max", ["x", "−3"], {}) == "max(x, −3)"
    assert call("sigmoid", ["z"]) == "sigmoid(z)"
    assert call("concatenate", list("abcdefg")) == "concatenate(a, b, c, …)"
    assert fraction("L", "w1") == ("∂L", "∂w1")
    assert fraction("a + b", "w1") == ("∂(a + b)", "∂w1")
    assert derivative("L", "x", "d") == "dL/dx"


def test_equations():
    def written(equation):
        return re.sub("<.*?>", "", equation)

    output = trace(lambda x: 10 - x)(55.0).output
    assert written(forward(output)) == "output=10 − x=10 − 55=−45"
    graph = trace(lambda x: x * 3)(2.0)
    expected = "∂output∂x=∂output∂output·∂output∂x=(1)(3)=3"
    assert written(backward(graph, graph["x"])) == expected


def test_the_incoming_adjoint_stands_in_the_formula_of_a_linear_map():
    def written(function, name):
        graph = trace(function)(np.ones([2, 3]), np.ones([3, 4]))
        equation = re.sub("<.*?>", "", backward(graph, graph[name]))
        return equation.replace("\N{NO-BREAK SPACE}", " ").split("=")[2]

    product = lambda ȳ, k: jnp.sum(ȳ @ k)  # noqa: E731  # a name like the mark of the adjoint
    assert written(product, "ȳ") == "∂output∂v1 kᵀ"
    assert written(product, "k") == "ȳᵀ ∂output∂v1"
    assert written(lambda x, _: jnp.sum(x.T), "x") == "(∂output∂v1)ᵀ"


def test_names_of_arguments():
    names = named_arguments(lambda w, *x, y: w, ({"b": 1.0}, 2.0, 3.0), {"y": 4.0})
    assert list(names) == ["w['b']", "x[0]", "x[1]", "y"]


def test_positions():
    layout = layered(3, [(0, 2), (1, 2)])
    assert layout.positions == {0: (0, 0), 1: (0, 1), 2: (1, 0.5)}
