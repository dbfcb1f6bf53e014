"""In which precision φ is evaluated, and what rounding costs."""

import jax
import jax.numpy as jnp
import pytest

import funcnet as fn
from funcnet.gradcheck._precision import rounding, widened


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
