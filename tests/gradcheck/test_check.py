"""The gauntlet, and what a check refuses."""

import inspect

import gauntlet
import jax
import jax.numpy as jnp
import numpy as np
import pytest

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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"argnums": 3}, "argnums: expected positions among the 1 arguments; got 3"),
        ({"order": 3}, "order: expected 1 or 2; got 3"),
        ({"seed": -1}, "seed: expected a number of at least 0; got -1"),
        ({"atol": -1.0}, "atol: expected a number of at least 0; got -1.0"),
        ({"rtol": -1.0}, "rtol: expected a number of at least 0"),
    ],
)
def test_says_what_was_expected(options, message):
    with pytest.raises(fn.UsageError, match=message):
        fn.check_gradients(lambda x: jnp.sum(x**2), jnp.arange(3.0), **options)


@pytest.mark.parametrize("value", [3, 0, ""])
def test_needs_functions(value):
    check = inspect.unwrap(fn.check_gradients)  # as it is outside of the tests: no beartype
    with pytest.raises(fn.UsageError, match=f"function: expected a function; got {value!r}"):
        check(value, 1.0)
    with pytest.raises(fn.UsageError, match=f"hand: expected a function.* or None; got {value!r}"):
        check(jnp.sin, 1.0, hand=value)


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
