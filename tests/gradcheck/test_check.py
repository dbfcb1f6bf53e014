"""The gauntlet, and the promises of the report."""

import inspect

import gauntlet
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import funcnet as fn


def as_parameter(case):
    large = any(np.size(leaf) > 100_000 for leaf in jax.tree.leaves(case.args))
    return pytest.param(case, id=case.name, marks=[pytest.mark.slow] * large)


@pytest.mark.parametrize("case", [*map(as_parameter, gauntlet.CASES)])
def test_gauntlet(case):
    report = fn.check_gradients(case.function, *case.args, hand=case.hand, order=case.order)
    assert report.verdict == ("pass" if case.right else "fail"), str(report)
    if case.looks_like:
        assert any(case.looks_like in (leaf.looks_like or "") for leaf in report.leaves)
    if not case.right:
        assert_located(case, report)


def assert_located(case, report):
    """The first finding is an element whose gradient is wrong, with its true value beside it.

    The oracle is a central difference in float64 of the case's function, or of its slope.
    """
    found = report.worst
    assert case.index in (None, found.index)
    paths = [leaf.path for leaf in report.leaves if leaf.verdict in ("wrong", "nonfinite")]
    assert found.path == paths[0]
    if case.order == 2 or any(map(jnp.iscomplexobj, jax.tree.leaves(case.args))):
        return
    leaves, structure = jax.tree.flatten(case.args[0])
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(case.args[0])]
    (place,) = [i for i, name in enumerate(names) if found.path.endswith(name)]
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        wide = [np.asarray(leaf, np.float64) for leaf in leaves]
        step = 1e-4 * abs(wide[place][found.index]) or 1e-4
        slopes = []
        for t in (-step, step):
            moved = [leaf.copy() for leaf in wide]
            moved[place][found.index] += t
            args = jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in moved])
            slopes.append(float(case.function(args)) / t)
    truth = sum(slopes) / 2
    claimed = found.jax if found.hand is None else found.hand
    assert not abs(claimed - truth) <= 1e-4 * abs(truth)
    if case.name != "outside a kink":
        assert found.numerical == pytest.approx(truth, rel=1e-5)


def test_nine_of_ten_wrong_cases_are_expected_to_be_explained():
    wrong = [case for case in gauntlet.CASES if not case.right]
    assert sum(bool(case.looks_like) for case in wrong) >= 0.9 * len(wrong)


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


UNTRACEABLE = {
    "a Python if": (lambda x: jnp.sum(x**2) if x[1] < 0 else x[0], lambda x: 2 * x),
    "a mask": (lambda x: jnp.sum(x[x > 0] ** 2), lambda x: 2 * jnp.maximum(x, 0)),
    "a while loop": (
        lambda x: jax.lax.while_loop(lambda y: y[0] < 9, lambda y: 2 * y, x).sum(),
        lambda x: jnp.full_like(x, 32),
    ),
    "a callback": (lambda x: jnp.sum(gauntlet.sine_by_numpy(x)), jnp.cos),
    "no rule": (lambda x: jnp.sum(jax.lax.nextafter(x, 2 * x)), jnp.ones_like),
}


@pytest.mark.parametrize("kind", UNTRACEABLE)
def test_what_jax_cannot_trace_is_checked_all_the_same(kind):
    function, gradient = UNTRACEABLE[kind]
    x = jnp.array([0.3, -1.2, 2.0])
    assert fn.check_gradients(function, x, hand=gradient).verdict == "pass"
    wrong = fn.check_gradients(function, x, hand=lambda x: 2 * gradient(x))
    assert wrong.leaves[0].looks_like == "a constant factor, 2"


@pytest.mark.parametrize("kind", ["a callback", "no rule"])
def test_a_gradient_by_hand_stands_alone_where_jax_has_no_derivative(kind):
    function, gradient = UNTRACEABLE[kind]
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
    ("options", "message"),
    [
        ({"argnums": 3}, "argnums: expected positions among the 1 arguments; got 3"),
        ({"order": 3}, "order: expected 1 or 2; got 3"),
        ({"seed": -1}, "seed: expected a number of at least 0; got -1"),
        ({"atol": -1.0}, "atol: expected a number of at least 0; got -1.0"),
        ({"hand": lambda x: {"x": x}}, "hand: expected the structure of the arguments"),
        ({"rtol": -1.0}, "rtol: expected a number of at least 0"),
        ({"hand": lambda x: x[:1]}, r"hand: expected shape \(3,\) for x; got \(1,\)"),
    ],
)
def test_says_what_was_expected(options, message):
    with pytest.raises(fn.UsageError, match=message):
        fn.check_gradients(lambda x: jnp.sum(x**2), jnp.arange(3.0), **options)


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


@pytest.mark.parametrize("value", [3, 0, ""])
def test_needs_functions(value):
    check = inspect.unwrap(fn.check_gradients)  # as it is outside of the tests: no beartype
    with pytest.raises(fn.UsageError, match=f"function: expected a function; got {value!r}"):
        check(value, 1.0)
    with pytest.raises(fn.UsageError, match=f"hand: expected a function.* or None; got {value!r}"):
        check(jnp.sin, 1.0, hand=value)


def test_assert_gradients_shows_the_report():
    with pytest.raises(AssertionError, match="looks like: sign flipped"):
        fn.assert_gradients(jnp.sin, 1.0, hand=lambda x: -jnp.cos(x))


def test_is_deterministic():
    reports = [fn.check_gradients(jnp.sin, np.float32(1.0), seed=3) for _ in range(2)]
    assert str(reports[0]) == str(reports[1])


class Mistake(TypeError):
    pass


def test_what_the_function_itself_raises_comes_through():
    def function(x):
        raise Mistake("dot_general: of the caller")

    with pytest.raises(Mistake, match="of the caller"):
        fn.check_gradients(function, 1.0)


@pytest.mark.parametrize(
    "place",
    ["_precision.project", "_precision.arguments", "_precision.interpret", "_claims.as_vector"],
)
def test_a_defect_of_the_checker_comes_through(place, monkeypatch):
    def mistaken(*args, **options):
        raise TypeError("dot_general: of the checker")

    monkeypatch.setattr(f"funcnet.gradcheck.{place}", mistaken)
    with pytest.raises(TypeError, match="of the checker"):
        fn.check_gradients(lambda x: jnp.sum(x**2), jnp.arange(3.0), hand=lambda x: 2 * x)


def test_a_function_that_refuses_float64_is_checked_in_its_own_dtype():
    def function(x):
        assert x.dtype == jnp.float32
        return jnp.sum(x**2)

    assert fn.check_gradients(function, jnp.arange(3.0)).verdict == "pass"


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
