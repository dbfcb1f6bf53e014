"""The names of values: assignments of every kind, loops, called functions, pytrees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcnet as fn
from funcnet.graph._graph import trace


def test_names_of_many_kinds_of_assignment():
    def function(x):
        (a, b), c = (x + 1, x * 2), jnp.sin(x)
        d = a * b if c.ndim == 0 else c
        e: jax.Array = (f := d + c) * 2
        e += f
        return e

    names = [node.name for node in trace(function)(0.5).nodes]
    assert names == ["x", "a", "b", "c", "d", "f", "e", "e#2"]


START = fn.base.Linear(1.0, 2.0)


def scans(x, xs):
    last, _ = jax.lax.scan(lambda c, a: (c * a * x, None), 1.0, xs)
    (w, b), ys = jax.lax.scan(lambda c, a: ((c[0] * a * x, c[1] + a), c[0]), (1.0, 2.0), xs)
    carry, _ = jax.lax.scan(lambda c, a: (fn.base.Linear(c.bias * x, c.weight + a), c), START, xs)
    first = jax.lax.scan(lambda c, a: (c * a, c), x, xs)[0]
    return last * w * b * jnp.sum(ys) * carry.weight * first


def other_loops(x, xs):
    i, power = jax.lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * x), (0, 1.0))
    y = jax.lax.fori_loop(0, 3, lambda i, c: c * x, 1.0)
    z = jax.lax.fori_loop(0, i, lambda i, c: c * x, 1.0)
    a, b = jax.lax.cond(x > 0, lambda x: (x * 2, x * 3), lambda x: (x, x), x)
    p, *_ = jax.lax.map(lambda a: (a * x, a + x), xs)
    return power * y * z * a * b * jnp.sum(p)


def helper(x, xs):
    return jax.lax.scan(lambda c, a: ((c[0] * a * x, c[1] + a), c[0]), (1.0, 2.0), xs)[0]


def through_a_helper(x, xs):
    w, b = helper(x, xs)  # what it returns is not what its loop does
    return w * b


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (scans, ["last", "w", "b", "ys", "carry.weight", "carry.bias", "first"]),
        (other_loops, ["i", "power", "y", "z", "a", "b", "p"]),
        (through_a_helper, []),
    ],
)
def test_the_results_of_a_loop_are_called_as_they_are_unpacked(function, names):
    graph = trace(function)(2.0, jnp.array([1.0, 2.0]))
    assert [n.name for n in graph.nodes[2:-1] if not n.name.startswith("v")] == names
    loops = ("scan", "while", "cond")
    assert all(graph.open(name).nodes for name in names if graph[name].operation in loops)


def test_the_results_of_a_loop_under_vmap():
    def function(xs):
        last, ys = jax.lax.scan(lambda c, a: (c * a, c), 1.0, xs)
        return last + jnp.sum(ys)

    graph = trace(lambda xs: jnp.sum(jax.vmap(function)(xs)))(jnp.ones((3, 2)))
    assert graph["ys"].value.tolist() == [[1, 1, 1]] * 2
    assert graph["last"].operation == "scan"


def test_the_results_of_a_loop_have_their_own_names():
    graph = trace(scans)(2.0, jnp.array([1.0, 2.0]))
    expected = {"last": 8, "w": 8, "b": 5, "carry.weight": 4, "carry.bias": 6, "first": 4}
    assert {name: float(graph[name].value) for name in expected} == expected
    assert graph["ys"].value.tolist() == [1, 2]
    graph = trace(other_loops)(2.0, jnp.array([1.0, 2.0]))
    expected = {"i": 3, "power": 8, "y": 8, "z": 8, "a": 4, "b": 6}
    assert {name: float(graph[name].value) for name in expected} == expected
    assert graph["p"].value.tolist() == [2, 4]


def apply(weights, x):
    for w in weights:
        x = jnp.tanh(w * x)
    return x


def test_a_library_function_that_converts_twice_assigns_once():
    def function(x):
        y = jnp.sum(x * 2)  # in float32, from bfloat16 and back
        return y * 3

    names = [node.name for node in trace(function)(jnp.ones(2, jnp.bfloat16)).nodes]
    assert names == ["x", "v1", "v2", "v3", "y", "function"]


def test_an_element_of_an_array_is_not_the_array():
    def function(x):
        first = jnp.sin(x)[0]
        largest = jax.lax.top_k(x, 2)[0]
        return first * jnp.sum(largest)

    graph = trace(function)(jnp.array([1.0, 2.0, 3.0]))
    assert float(graph["first"].value) == pytest.approx(np.sin(1.0))
    assert graph["largest"].value.tolist() == [3, 2]


def test_a_variable_that_is_assigned_again_is_numbered():
    def function(w):
        w = w * 2
        w += 1
        return w

    graph = trace(function)(1.0)
    assert [node.name for node in graph.nodes] == ["w", "w#2", "w#3"]
    assert [float(graph[name].value) for name in ("w", "w#2", "w#3")] == [1, 2, 3]


def test_the_names_of_a_called_function_find_what_the_caller_calls_otherwise():
    def layer(x):
        h = jnp.tanh(x)
        return h  # noqa: RET504

    def network(x):
        y = layer(x)
        z = layer(y)
        return layer(z)

    graph = trace(network)(1.0)
    assert [node.name for node in graph.nodes] == ["x", "y", "z", "h"]
    assert graph["h"] is graph.output
    graph = trace(lambda x: network(x) * 2)(1.0)
    assert graph["y"].index == 1
    graph = trace(lambda x: (y := layer(x)) * (z := layer(y)) * z)(1.0)
    assert graph["h"] is graph["y"]
    assert graph.chain_rule("h").variable == "y"
    assert trace(network)(1.0)["network"].name == "h"


def test_the_loop_of_a_called_function_is_not_the_callers():
    def once(weights, x):
        logits = apply(weights, x)
        return 2 * logits

    def often(weights, x):
        for w in weights:
            y = apply([w], x)
            x = y + x
        return x

    names = [node.name for node in trace(once)([1.0, 2.0], 3.0).nodes]
    assert names == ["weights[0]", "weights[1]", "x", "v1", "x#2", "v2", "logits", "once"]
    names = [node.name for node in trace(often)([1.0, 2.0], 3.0).nodes]
    assert names[2:] == ["x", "v1", "y", "x#2", "v2", "y#2", "x#3"]


def test_names_of_pytrees_and_integers():
    graph = trace(lambda p, i: p["w"].bias[i])({"w": fn.base.Linear(1.0, jnp.ones(2))}, 1)
    assert [n.name for n in graph.nodes[:3]] == ["p['w'].weight", "p['w'].bias", "i"]
    assert graph["i"].adjoint is None
    with pytest.raises(fn.UsageError, match="has no adjoint"):
        graph.chain_rule("i")
