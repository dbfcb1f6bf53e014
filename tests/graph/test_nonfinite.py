"""Where a NaN or an infinity was born: forward, backward, in a loop, in a cotangent."""

import jax
import jax.numpy as jnp
import numpy as np

from funcnet.graph._graph import trace


def attention(q, kv):
    scores = jnp.where(jnp.tri(4, dtype=bool), q @ kv.T, -jnp.inf)
    return jnp.sum(jax.nn.softmax(scores) @ kv)


@jax.custom_vjp
def square(x):
    """A function called as a primitive is, with another derivative."""
    return x * x


square.defvjp(lambda x: (x * x, x), lambda x, ȳ: (10 * x * ȳ,))


def network(layers, x, y, broken):
    """An MLP whose second layer is `broken`."""
    h1 = jnp.tanh(x @ layers[0])
    h2 = broken(h1 @ layers[1])
    z = h2 @ layers[2]
    return jnp.mean((z - y) ** 2)


def born(broken):
    """Where the first NaN of that network is born."""
    layers = [jnp.eye(3), jnp.eye(3), jnp.ones((3, 1))]
    x = jnp.array([[0.0, 0.5, 1.0], [1.0, 2.0, 3.0]])
    return trace(lambda layers, x, y: network(layers, x, y, broken))(layers, x, jnp.ones((2, 1)))


def log_of_shifted(z):
    shifted = z - 0.1
    scaled = 2 * jnp.log(shifted)  # of a negative number: NaN
    return scaled  # noqa: RET504


def root_of_square(z):
    square = z**2
    norm = jnp.sqrt(square)  # 0 at 0; its derivative is ∞, and ∞ · 0 is NaN
    return norm  # noqa: RET504


def test_a_nan_in_the_middle_of_a_forward_pass_is_named():
    graph = born(log_of_shifted)
    found = graph.first_nonfinite()
    assert found.phase == "forward"
    assert found.node.operation == "log"
    assert found.node.source.text.startswith("scaled = 2 * jnp.log(shifted)")
    assert found.node.source.function == "log_of_shifted"
    assert [x.name for x in found.inputs] == ["shifted"]
    assert np.isnan(graph.output.value)
    assert str(found).startswith(f"forward: the value of {found.node.name} = log(shifted) is not")
    assert f"at test_nonfinite.py:{found.node.source.line} in log_of_shifted: scaled" in str(found)
    assert "shifted = [2, 3] −0.1 … " in str(found)


def test_a_nan_in_the_backward_pass_alone_is_named():
    graph = born(root_of_square)
    found = graph.first_nonfinite()
    assert np.isfinite(graph.output.value)
    assert all(np.isfinite(node.value).all() for node in graph.nodes)
    assert np.isnan(graph["layers[1]"].adjoint).any()
    assert found.phase == "backward"
    assert found.node.operation == "sqrt"
    assert found.node.name == "h2"  # as the caller calls it
    assert found.node.source.text.startswith("norm = jnp.sqrt(square)")
    assert [x.name for x in found.inputs] == ["square"]
    assert str(found).startswith("backward: the derivative of h2 = √square is not finite\n")


def test_nothing_is_found_where_all_is_finite():
    assert born(jnp.tanh).first_nonfinite() is None
    assert trace(jnp.sin)(1.0).first_nonfinite() is None


def test_a_nan_among_the_arguments_is_named():
    found = trace(lambda x, y: x * y)(1.0, jnp.nan).first_nonfinite()
    assert str(found) == "forward: the argument y is not finite"


def test_a_mask_of_infinities_is_not_an_error():
    def attention(x):
        return jnp.sum(jax.nn.softmax(jnp.where(x > 0, x, -jnp.inf)))

    assert trace(attention)(jnp.array([1.0, -1.0, 2.0])).first_nonfinite() is None
    mask = jnp.array([0.0, -jnp.inf, 0.0])
    masked = trace(lambda x: jnp.sum(jax.nn.softmax(x + mask)))(jnp.ones(3))
    assert masked.first_nonfinite() is None


def test_an_infinity_of_the_source_that_reaches_the_output_is_named():
    found = trace(lambda x: (x + jnp.inf) * 2)(1.0).first_nonfinite()
    assert str(found).startswith(
        "forward: the value of v1 = x + ∞ is not finite\n  at test_nonfinite.p"
    )
    assert str(found).endswith("\n  x = 1")
    mask = jnp.array([0.0, jnp.nan])
    found = trace(lambda x: jnp.sum(x * mask))(jnp.ones(2)).first_nonfinite()
    assert str(found) == "forward: the constant v1 is not finite"
    found = trace(lambda x: (x + jnp.inf) * jnp.log(x - 2))(1.0).first_nonfinite()
    assert found.node.expression == "log(v2)"  # the reason that nobody wrote comes first


def test_an_adjoint_of_which_only_the_sum_is_not_finite_is_named():
    def function(x):
        b = 3e38 * x
        c = 3e38 * x
        L = b + c
        return L  # noqa: RET504

    graph = trace(function)(1e-3)
    assert all(np.isfinite(edge.contribution) for edge in graph.edges)
    found = graph.first_nonfinite()
    assert (found.phase, found.what, found.node.name) == ("backward", "adjoint", "x")
    first, b, c = str(found).splitlines()
    assert first == "backward: the adjoint of x is not finite, a sum of finite parts"
    assert b.startswith("  of b at test_nonfinite.py:")
    assert b.endswith("function: b = 3e38 * x")
    assert c.endswith("function: c = 3e38 * x")


def test_a_cotangent_that_is_not_finite_is_named():
    found = trace(lambda x: 2 * x, cotangent=jnp.nan)(1.0).first_nonfinite()
    assert repr(found) == str(found) == "backward: the cotangent of output is not finite"


def test_a_nan_inside_a_loop_is_named():
    def function(x):
        def step(c, _):
            c = jnp.log(c)
            return c, None

        return jax.lax.scan(step, x, length=3)[0]

    found = trace(function)(2.0).first_nonfinite()
    assert found.node.source.text == "c = jnp.log(c)"
    assert found.node.turn == (2,)  # log log 2 is negative
