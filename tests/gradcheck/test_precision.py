"""In which precision φ is evaluated, and what rounding costs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcnet as fn
from funcnet.gradcheck._precision import (
    compiled,
    constant_shapes,
    largest_array,
    lowest_precision,
    rounding,
    widened,
)


def offset(x):
    return (x + 1e6) - 1e6


with_jvp, with_vjp = jax.custom_jvp(offset), jax.custom_vjp(offset)
with_jvp.defjvps(lambda t, y, x: t)
with_vjp.defvjp(lambda x: (offset(x), None), lambda _, g: (g,))
CALLS = {
    "jit": jax.jit(offset),
    "checkpoint": jax.checkpoint(offset),
    "custom_jvp": with_jvp,
    "custom_vjp": with_vjp,
}


@pytest.mark.parametrize("kind", CALLS)
def test_calls_are_opened_by_both_interpreters(kind, float64):
    expand = ["offset"] if kind.startswith("custom") else []
    graph = fn.trace(CALLS[kind], expand=expand)(0.5)
    assert [node.operation for node in graph.nodes] == ["argument", "add", "sub"]
    inside, plain = (jax.make_jaxpr(function)(0.5) for function in (CALLS[kind], offset))
    assert rounding(inside, [jnp.array(0.5)]) == pytest.approx(
        rounding(plain, [jnp.array(0.5)]), rel=1e-6, abs=0
    )


def draw(x):
    with jax.threefry_partitionable(False):
        return x * jax.random.uniform(jax.random.key(0), (5,), jnp.float32)


def test_an_operation_keeps_the_settings_that_it_was_traced_under(float64):
    x = jnp.float32(2)
    (wide,) = widened(jax.make_jaxpr(draw)(x))(x)
    assert wide.astype(jnp.float32).tolist() == draw(x).tolist()


def test_constants_do_not_count_for_the_precision_of_a_jaxpr(float64):
    rounds = jax.make_jaxpr(lambda x: x.astype(jnp.float32) * 2)(1.0)
    adds = jax.make_jaxpr(lambda x: x + jnp.float32(1).astype(float))(1.0)
    found = lowest_precision(rounds.jaxpr), lowest_precision(adds.jaxpr)
    assert found == (np.finfo(np.float32).eps, np.finfo(np.float64).eps)


def test_the_sizes_of_arrays_in_a_jaxpr():
    assert largest_array(jax.make_jaxpr(lambda x: jnp.outer(x, x).sum())(jnp.ones(5)).jaxpr) == 25
    holds = jax.make_jaxpr(lambda x: jnp.sum(x * np.ones([5, 1], np.float32)))(1.0)
    assert constant_shapes(holds.jaxpr) - {()} == {(5, 1)}


def test_rounding_beside_an_offset(float64):
    assert 2e-10 < rounding(jax.make_jaxpr(offset)(1.0), [jnp.ones(())]) < 4e-10


def test_widening_undoes_a_rounding(float64):
    rounds = jax.make_jaxpr(lambda x: x.astype(jnp.bfloat16) * 3)(1.0)
    assert widened(rounds)(0.1)[0].item() == 3 * 0.1


def test_widening_takes_complex_numbers_along():
    def function(z):
        narrow = z.astype(jnp.complex64)
        return jnp.sum(jnp.abs(jax.lax.complex(jnp.sin(narrow.real), narrow.imag) * narrow) ** 2)

    z = jnp.array([0.3 + 1j, -1.2 - 0.5j], jnp.complex64)
    assert fn.check_gradients(function, z).verdict == "pass"


def test_what_cannot_be_compiled_runs_as_it_is():
    assert compiled(lambda x: x if x > 0 else -x, -2.0)[1] == 2.0


def test_a_function_that_refuses_float64_is_checked_in_its_own_dtype():
    def function(x):
        assert x.dtype == jnp.float32
        return jnp.sum(x**2)

    assert fn.check_gradients(function, jnp.arange(3.0)).verdict == "pass"


class Mistake(TypeError):
    pass


def test_what_the_function_itself_raises_comes_through():
    def function(x):
        raise Mistake("dot_general: of the caller")

    with pytest.raises(Mistake, match="of the caller"):
        fn.check_gradients(function, 1.0)
