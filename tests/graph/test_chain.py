"""The chain rule written out: paths, factors, sums, and the numbers in place of symbols."""

import jax
import jax.numpy as jnp
import numpy as np

from funcnet.graph._graph import trace


def products(rule):
    """Of every path the product of its factors, as they are printed."""
    return [np.prod([float(factor.value) for factor in path]) for path in rule.paths]


def test_a_factor_through_an_array_is_a_number():
    xs = jnp.array([1.0, 2.0, 3.0])

    def function(b, swapped):
        d = jnp.sum(b * xs) + 3.0 * b if swapped else 3.0 * b + jnp.sum(b * xs)
        L = d * 2.0
        return L  # noqa: RET504

    for swapped in (False, True):
        rule = trace(lambda b, swapped=swapped: function(b, swapped))(2.0).chain_rule("b")
        assert str(rule) == "∂L/∂b = ∂L/∂d · ∂d/∂b = (2)(9) = 18"


def test_a_factor_1_on_the_way_is_not_said():
    def function(x):
        y = jnp.sum(((1.0 + x) * 2).astype(jnp.bfloat16) + jnp.bfloat16(1))
        return y  # noqa: RET504

    legend = str(trace(function)(jnp.ones(2)).chain_rule("x")).splitlines()[-1]
    assert legend == "  ∂y/∂x: ȳ, to each, then 2  [] → [2]"


@jax.custom_jvp
def running_sum(x):
    return jax.lax.scan(lambda c, a: (c + a, c + a), jnp.zeros((), x.dtype), x)[1]


@running_sum.defjvp
def _(primals, tangents):
    return running_sum(*primals), running_sum(*tangents)


def paths_of(doublings):
    """A function whose output has 2 ** doublings paths to x."""

    def function(x):
        for _ in range(doublings):
            y = jnp.sin(x)
            z = jnp.cos(x)
            x = y * z
        return x

    return function


def test_few_paths_are_written_and_many_counted():
    assert trace(lambda x: jnp.sin(x) * jnp.cos(x))(1.0).chain_rule("x").num_paths == 2
    rule = trace(paths_of(3))(0.5).chain_rule("x")
    assert rule.num_paths == len(rule.paths) == 8
    np.testing.assert_allclose(sum(products(rule)), jax.grad(paths_of(3))(0.5), rtol=1e-5)
    rule = trace(paths_of(10))(0.5).chain_rule("x")
    assert rule.num_paths == 1024
    assert rule.paths == ()
    np.testing.assert_allclose(rule.total, jax.grad(paths_of(10))(0.5), rtol=1e-5)
    assert rule.steps[0] == "a sum over 1,024 paths"
    assert str(rule).startswith("∂x#11/∂x = a sum over 1,024 paths\n")


def test_the_way_without_a_step_between_is_not_taken_for_the_sum():
    def function(x, y):
        b = x * y
        L = b + x
        return L  # noqa: RET504

    lines = str(trace(function)(2.0, 3.0).chain_rule("x")).splitlines()
    assert lines[0] == "dL/dx = ∂L/∂x + ∂L/∂b · ∂b/∂x"
    assert [line.strip() for line in lines[1:]] == ["= (1) + (1)(3)", "= (1) + (3)", "= 4"]


def test_one_factor_alone_is_said_by_its_formula():
    assert str(trace(jnp.sin)(0.0).chain_rule("x")) == "∂sin/∂x = cos x = 1"
    assert str(trace(lambda x: 3 * x)(2.0).chain_rule("x")) == "∂output/∂x = 3"
    rule = trace(lambda x: jnp.sum(x))(jnp.ones(2)).chain_rule("x")
    assert str(rule) == "∂output/∂x = [2] 1 … 1\n  ∂output/∂x: ȳ, to each  [] → [2]"


def test_a_path_of_hundreds_of_factors():
    def function(x):
        for _ in range(600):
            x = 1.001 * x
        return x

    rule = trace(function)(1.0).chain_rule("x")
    (path,) = rule.paths
    assert len(path) == 600
    np.testing.assert_allclose(path[0].value, 1.001, rtol=1e-6)
    symbols, numbers, total = rule.steps
    assert symbols.startswith("∂x#601/∂x#600 · ∂x#600/∂x#599 · ")
    assert " · ∂x#596/∂x#595 · … 588 more … · ∂x#7/∂x#6 · " in symbols
    assert symbols.endswith(" · ∂x#2/∂x")
    assert numbers == "(1.001)" * 6 + "(… 588 more …)" + "(1.001)" * 6
    assert total == "1.822"
    lines = str(trace(lambda x: jnp.sum(function(x)))(jnp.ones(2)).chain_rule("x")).splitlines()
    assert lines[8] == "  … 589 more …"
    assert len(lines) == 2 + 12 + 1


def test_a_variable_without_a_path():
    assert trace(lambda x, y: x * 2)(1.0, 2.0).chain_rule("y").steps == (
        "0: output does not depend on y",
    )


def test_a_variable_that_one_assignment_reads_twice():
    rule = trace(lambda x: x * x)(3.0).chain_rule("x")
    assert str(rule) == "∂output/∂x = x + x = 6"

    def cost(x, y):
        L = x**2 + 3 * x * y + y
        return L  # noqa: RET504

    assert str(trace(cost)(3.0, 2.0).chain_rule("x")) == "∂L/∂x = (y, then 3) + 2 x = 12"


def test_with_cotangents_the_chain_rule_begins_with_them():
    def function(x):
        y = 2 * x
        z = jnp.sin(x)
        return y, z

    rule = trace(function, cotangent=(3.0, 5.0))(0.0).chain_rule("x")
    assert rule.symbols == ("∂(ȳ · function)/∂y · ∂y/∂x + ∂(ȳ · function)/∂z · ∂z/∂x")
    assert rule.steps[1:] == ("(3)(2) + (5)(1)", "(6) + (5)", "11")
    assert str(trace(lambda x: 3 * x, cotangent=2.0)(1.0).chain_rule("x")).endswith("(2)(3) = 6")
