"""What is carried out: expanded functions, loops, and the mistakes that a user can mend."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcnet as fn
from funcnet.graph._graph import gradient, trace
from funcnet.graph._tape import on_tape


def test_a_loop_compiles_no_program_a_turn(caplog):
    def function(w, xs):
        last, ys = jax.lax.scan(lambda c, x: (c * w + x, c), 0.0, xs)
        return last + jnp.sum(ys)

    with jax.log_compiles():
        _ = trace(function)(0.5, jnp.ones(50))
    assert sum(record.message.startswith("Compiling") for record in caplog.records) < 25


def test_a_conversion_to_the_same_dtype_is_no_step():
    def function(w):
        def step(h, _):
            h = w * h
            return h, None

        return jax.lax.scan(step, jnp.float32(1), length=2)[0]

    names = [node.name for node in trace(function, expand="scan")(2.0).nodes]
    assert names == ["w", "h[0]", "h[1]"]
    converted = trace(lambda x: x.astype(jnp.bfloat16).astype(jnp.float32))(jnp.float32(2))
    assert [node.operation for node in converted.nodes][1:] == ["convert_element_type"] * 2


def test_custom_functions_are_one_node_until_expanded():
    function = lambda x: jnp.sum(fn.activations.sigmoid(x))  # noqa: E731
    x = jnp.array([0.0, 1.0])
    assert "sigmoid" in [node.operation for node in trace(function)(x).nodes]
    assert "logistic" in [n.operation for n in trace(function, expand="sigmoid")(x).nodes]
    with pytest.raises(fn.UsageError, match="Did you mean 'sigmoid'"):
        trace(function, expand="sigmiod")(x)


def test_bad_input(lecture):
    with pytest.raises(fn.UsageError, match=r"gradient: expected a function; got int"):
        on_tape("gradient", 3, ())
    with pytest.raises(fn.UsageError, match="x: expected an array or a number; got str"):
        trace(lambda x: x)("a")
    with pytest.raises(fn.UsageError, match=r"scalar output; it returned float32\[3\]"):
        trace(lambda x: x)(jnp.ones(3))
    with pytest.raises(fn.UsageError, match="expected an output of floats; it is int32"):
        trace(lambda x: x)(1)
    with pytest.raises(fn.UsageError, match="expected an output of floats; it is complex64"):
        trace(lambda x: x)(1j)
    with pytest.raises(
        fn.UsageError, match="x: expected an array or a number; got an array of <U1"
    ):
        trace(lambda x: x)(np.array(["a"]))
    with pytest.raises(fn.UsageError, match="cotangent: expected an array or a number; got str"):
        trace(lambda x: x, cotangent="a")(1.0)
    with pytest.raises(fn.UsageError, match="cotangent: expected arrays like the output, float32"):
        trace(lambda x: x, cotangent=1j)(1.0)
    with pytest.raises(fn.UsageError, match=r"expected argnums below 1, .*; got 7"):
        gradient(lambda x: x, 7)(1.0)
    with pytest.raises(fn.UsageError, match=r"gradient: .* returned float32\[3\].*jnp.mean\.$"):
        gradient(lambda x: x)(jnp.ones(3))
    with pytest.raises(fn.UsageError, match="gradient: expected an output of floats; it is int32"):
        gradient(lambda x: 3)(1.0)
    with pytest.raises(fn.UsageError, match=r"a while decides by them; inside jit, .* without jit"):
        jax.jit(gradient(lambda x: jax.lax.while_loop(lambda c: c < 9, lambda c: c * x, x)))(2.0)
    with pytest.raises(fn.UsageError, match="where a cond decides"):
        jax.jit(gradient(lambda x: jax.lax.cond(x > 0, jnp.sin, jnp.cos, x)))(2.0)
    with pytest.raises(fn.UsageError, match="inside jit, grad or vmap there are none"):
        jax.jit(lambda x: trace(jnp.sin)(x).output.adjoint)(1.0)
    with pytest.raises(TypeError, match="missing 1 required positional argument") as raised:
        trace(lambda x: x)()
    assert raised.value.__notes__[-1] == "output was traced with no arguments."
    with pytest.raises(ZeroDivisionError) as raised:
        trace(lambda x: x / (1 // 0))(1.0)
    assert raised.value.__notes__[-1] == "output was traced with x: float32[]."
    with pytest.raises(fn.UsageError, match="expected a pure function; pure_callback"):
        trace(lambda x: jax.pure_callback(np.sin, jax.ShapeDtypeStruct((), jnp.float32), x))(1.0)
    with pytest.raises(fn.UsageError, match="cotangent: expected arrays like the output"):
        trace(lambda x: x, cotangent=jnp.ones(2))(jnp.ones(3))
    with pytest.raises(fn.UsageError, match="expected a pure function; debug"):
        trace(lambda x: (jax.debug.print("{}", x), x)[1])(1.0)
    with pytest.raises(KeyError, match=r"no variable 'w9'. Nearest: w"):
        lecture["w9"]
    with pytest.raises(
        fn.UsageError, match=r"floats in argument 0; got int32.*Write 1\.0 instead of 1"
    ):
        gradient(lambda i, x: x * i)(2, 1.0)
    with pytest.raises(TypeError) as raised:
        trace(lambda x, y: x @ y)(jnp.ones((2, 3)), jnp.ones((2, 3)))
    assert "x: float32[2, 3], y: float32[2, 3]" in raised.value.__notes__[-1]
