"""The graph's values, adjoints and names, against `jax.grad` and against the lecture's slide."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.experimental.ode import odeint

import funcnet as fn
from funcnet import activations, losses, models
from funcnet.graph._graph import gradient, trace


def rnn(w, xs):
    def step(h, x):
        h = jnp.tanh(w @ h + x)
        return h, jnp.sum(h)

    last, sums = jax.lax.scan(step, xs[0], xs, reverse=True)
    return jnp.sum(last) + jnp.sum(sums**2)


def attention(q, kv):
    scores = jnp.where(jnp.tri(4, dtype=bool), q @ kv.T, -jnp.inf)
    return jnp.sum(jax.nn.softmax(scores) @ kv)


def convolution(x, k):
    out = jax.lax.conv_general_dilated(x[None, None], k[None, None], (1, 1), "SAME")
    return jnp.sum(jnp.sin(out))


@jax.custom_vjp
def clipped(x):
    return x * x


clipped.defvjp(lambda x: (x * x, x), lambda x, g: (jnp.clip(2 * x * g, -0.5, 0.5),))


@jax.jit
def nested(x):
    return jax.jit(lambda y: jnp.where(y > 0, jnp.exp(y), y) * 2)(x)


def branch(x):
    return jax.lax.cond(jnp.sum(x) > 0, lambda t: jnp.sum(t**3), lambda t: -jnp.sum(t), x)


X = np.random.default_rng(0).normal(size=(4, 4))


Z = np.random.default_rng(1).normal(size=(4, 4))


LABELS = np.array([0, 3, 1, 2])


ELEMENTWISE = {
    name: lambda x, z, f=f: jnp.sum(f(x) * z)
    for name, f in {
        **activations.ACTIVATIONS,
        "maxout": lambda x: activations.maxout(x)[None],
        "softmax": activations.softmax,
        "log_softmax": activations.log_softmax,
        "jax_relu": jax.nn.relu,
        "gelu": jax.nn.gelu,
        "silu": jax.nn.silu,
        "softplus": jax.nn.softplus,
        "abs": jnp.abs,
        "erf": jax.scipy.special.erf,
        "log1p": lambda x: jnp.log1p(x**2),
        "power": lambda x: (x**2 + 1) ** 1.5,
        "sin": lambda x: jnp.sin(x) / jnp.cosh(x),
        "clip": lambda x: jnp.clip(x, -0.5, 0.5),
        "sqrt": lambda x: jnp.sqrt(x**2 + 1) + jax.lax.rsqrt(x**2 + 1),
        "cumsum": lambda x: jnp.cumsum(x, axis=0),
        "sort": lambda x: jnp.sort(x, axis=0),
        "stopped": lambda x: x * jax.lax.stop_gradient(x),
        "checkpoint": jax.checkpoint(jnp.sin),
        "custom_vjp": clipped,
        "nested_jit": nested,
        "min_max": lambda x: jnp.minimum(x, 0.1) * jnp.maximum(x, -x),
        "prod": lambda x: jnp.prod(x, axis=1, keepdims=True) * jnp.ones_like(x),
    }.items()
}


FUNCTIONS = ELEMENTWISE | {
    "squared_error": lambda x, z: losses.squared_error(x, z).mean(),
    "binary_cross_entropy": lambda x, z: losses.binary_cross_entropy(x, jax.nn.sigmoid(z)).mean(),
    "softmax_cross_entropy": lambda x, z: losses.softmax_cross_entropy(x @ z, LABELS).mean(),
    "sigmoid_squared_error": lambda x, z: losses.sigmoid_squared_error(x, z).mean(),
    "softmax_squared_error": lambda x, z: losses.softmax_squared_error(x @ z, LABELS).mean(),
    "optax_sigmoid": lambda x, z: optax.sigmoid_binary_cross_entropy(x, jnp.tanh(z)).mean(),
    "optax_softmax": lambda x, z: optax.softmax_cross_entropy(x, z).mean(),
    "optax_integer": lambda x, z: optax.softmax_cross_entropy_with_integer_labels(
        x @ z, LABELS
    ).mean(),
    "optax_huber": lambda x, z: optax.huber_loss(x, z).mean(),
    "optax_focal": lambda x, z: optax.sigmoid_focal_loss(x, jax.nn.sigmoid(z)).mean(),
    "optax_hinge": lambda x, z: optax.hinge_loss(x, jnp.sign(z)).mean(),
    "optax_divergence": lambda x, z: optax.kl_divergence(
        jax.nn.log_softmax(x), jax.nn.softmax(z)
    ).mean(),
    "optax_cosh": lambda x, z: optax.log_cosh(x, z).mean(),
    "linear": lambda x, z: jnp.sum(models.linear(4, 4).apply(models.Linear(x, x[0]), z) ** 2),
    "logistic_regression": lambda x, z: losses.binary_cross_entropy(
        models.logistic_regression(4).apply(models.Linear(x[:1], x[0, :1]), z), LABELS / 3
    ).mean(),
    "mlp": lambda x, z: losses.softmax_cross_entropy(
        models.mlp((4, 4, 4), activation="elu").apply([models.Linear(x, x[0])] * 2, z), LABELS
    ).mean(),
    "top_k": lambda x, z: jnp.sum(jax.lax.top_k(x, 2)[0] * z[:, :2]),
    "scatter": lambda x, z: jnp.sum(x.at[LABELS].add(z).at[0, 0].set(3.0) ** 2),
    "stack": lambda x, z: jnp.sum(jnp.stack([x, z, x], axis=1) ** 3),
    "solve": lambda x, z: jnp.sum(jnp.linalg.solve(x + 5 * jnp.eye(4), z)),
    "max_pool": lambda x, z: jnp.sum(
        jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (2, 2), (1, 1), "SAME") * z
    ),
    "logsumexp": lambda x, z: jnp.sum(jax.nn.logsumexp(x * z, axis=1)),
    "var": lambda x, z: jnp.var(x @ z),
    "max": lambda x, z: jnp.max(x * z) - jnp.min(x),
    "split": lambda x, z: jnp.sum(jnp.split(x, 2)[1] * z[:2]),
    "concatenate": lambda x, z: jnp.sum(jnp.concatenate([x, z, x]) ** 3),
    "gather": lambda x, z: jnp.sum(x[LABELS, ::-1] * z),
    "einsum": lambda x, z: jnp.einsum("ij,kj->", x, z),
    "rnn": rnn,
    "attention": attention,
    "convolution": convolution,
    "cond": lambda x, z: branch(x * z),
    "fori": lambda x, z: jnp.sum(jax.lax.fori_loop(0, 3, lambda i, c: c * z, x)),
}


def same(a, b):
    scale = max((float(np.abs(x).max()) for x in jax.tree.leaves(b)), default=1.0)
    chex.assert_trees_all_close(a, b, rtol=1e-12, atol=1e-12 * scale)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * name.startswith("optax_"))
        for name in FUNCTIONS
    ],
)
def test_adjoints_equal_jax_grad_and_contributions_sum_to_them(name):
    function = FUNCTIONS[name]
    graph = trace(function)(X, Z)
    expected = jax.grad(function, (0, 1))(X, Z)
    same(tuple(node.adjoint for node in graph.nodes[:2]), expected)
    same(gradient(function, (0, 1))(X, Z), expected)
    same(graph.output.value, function(jnp.asarray(X), jnp.asarray(Z)))
    for index, edges in graph.uses.items():
        if index not in graph.outputs:
            same(sum(edge.contribution for edge in edges), graph.nodes[index].adjoint)
    again = trace(function)(X, Z)
    assert [node.name for node in again.nodes] == [node.name for node in graph.nodes]


def test_at_least_forty_functions():
    assert len(FUNCTIONS) >= 40


def test_the_lecture(lecture):
    adjoints = {
        "w1": -15,
        "w2": -20,
        "w3": -5,
        "w4": -10,
        "a": -11,
        "b": -3,
        "c": -4,
        "d": -1,
        "L": 1,
    }
    assert {name: float(lecture[name].adjoint) for name in adjoints} == adjoints
    assert [float(lecture[name].value) for name in "bcdL"] == [5, 10, 55, -45]
    assert str(lecture.chain_rule("w1")) == "∂L/∂w1 = ∂L/∂d · ∂d/∂b · ∂b/∂w1 = (−1)(3)(5) = −15"
    assert str(lecture.chain_rule("w4")) == "∂L/∂w4 = ∂L/∂d · ∂d/∂w4 = (−1)(10) = −10"
    assert "(−1)(3)(1) + (−1)(4)(2)" in repr(lecture.chain_rule("a"))


QUICK = {"sigmoid", "tanh", "softmax_cross_entropy", "mlp", "rnn", "cond", "custom_vjp", "gather"}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FUNCTIONS],
)
def test_the_products_of_the_factors_sum_to_the_total(name):
    def scaled(t):
        cost = 3 * t + FUNCTIONS[name](t * X, t * Z)
        L = cost * t
        return L  # noqa: RET504

    graph = trace(scaled)(0.7)
    rule = graph.chain_rule("t")
    numbers = all(factor.is_number for path in rule.paths for factor in path)
    computed = (node for node in graph.nodes if node.part_of is None and not node.is_leaf)
    arrays = any(node.value.ndim for node in computed)  # variables of the function's own
    assert numbers == (not arrays and name != "custom_vjp")  # which clips what it is handed
    if numbers:
        products = [np.prod([float(factor.value) for factor in path]) for path in rule.paths]
        np.testing.assert_allclose(sum(products), rule.total, rtol=1e-9)


@jax.custom_vjp
def normalised(x):
    return x * 2


normalised.defvjp(lambda x: (x * 2, None), lambda _, ȳ: (ȳ / jnp.linalg.norm(ȳ),))


@jax.custom_jvp
def running_sum(x):
    return jax.lax.scan(lambda c, a: (c + a, c + a), jnp.zeros((), x.dtype), x)[1]


@running_sum.defjvp
def _(primals, tangents):
    return running_sum(*primals), running_sum(*tangents)


@jax.custom_vjp
def square(x):
    """A function called as a primitive is, with another derivative."""
    return x * x


square.defvjp(lambda x: (x * x, x), lambda x, ȳ: (10 * x * ȳ,))


@pytest.mark.parametrize("rule", [normalised, running_sum, square, clipped])
def test_a_contribution_is_adjoint_times_local_derivative(rule):
    x, z = jnp.array([1.0, -2.0, 3.0]), jnp.array([3.0, 1.0, 4.0])
    graph = trace(lambda x: jnp.sum(rule(x) * z))(x)
    (edge,) = graph.uses[0]
    np.testing.assert_allclose(edge.contribution, jax.grad(lambda x: jnp.sum(rule(x) * z))(x))
    assert edge.elementwise == (rule is square)
    if edge.elementwise:
        local = graph.nodes[edge.parent].adjoint * edge.local_derivative
        np.testing.assert_allclose(edge.contribution, local)
    else:
        assert edge.local_derivative == f"ȳ, by the vjp of {rule.__name__}"


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.complex64])
def test_rounding_is_no_other_rule(dtype):
    x, z = (jnp.linspace(-3, 2, 50).astype(dtype) for _ in range(2))
    soft = jax.custom_jvp(lambda x: x / (1 + x * x))
    soft.defjvps(lambda t, y, x: t * (1 - x * x) / (1 + x * x) ** 2)
    graph = trace(soft, cotangent=z)(x)
    (edge,) = graph.edges
    assert edge.elementwise
    (expected,) = jax.vjp(soft, x)[1](z)
    np.testing.assert_array_equal(edge.contribution, expected)


def test_a_function_may_be_called_as_an_operation_is():
    graph = trace(lambda x: square(x) * 2)(3.0)
    assert str(graph.chain_rule("x")) == "∂output/∂x = ∂output/∂v1 · ∂v1/∂x = (2)(30) = 60"
    assert graph["v1"].expression == "square(x)"
    for name in ("index", "integer_pow", "convert_element_type"):

        def sine(x):
            return jnp.sin(x)

        sine.__name__ = name
        function = jax.custom_jvp(sine)
        function.defjvps(lambda t, y, x: t * jnp.cos(x))
        named = trace(lambda x, function=function: function(x) * 2)(0.0)
        assert (named["v1"].expression, float(named["x"].adjoint)) == (f"{name}(x)", 2)


def test_what_a_rule_of_the_users_closes_over_receives_nothing():
    weights = jnp.array([1.0, 2.0, 3.0])

    @jax.custom_vjp
    def weighted(x):
        return jnp.sum(weights * x)

    weighted.defvjp(lambda x: (weighted(x), None), lambda _, ȳ: (ȳ * weights,))

    def looped(x):
        return jax.lax.scan(lambda c, _: (c + weighted(c * x), None), 0.1, length=3)[0]

    for function in (weighted, jax.jit(weighted), looped):
        graph = trace(function)(weights)
        np.testing.assert_allclose(graph.nodes[0].adjoint, jax.grad(function)(weights), rtol=1e-6)
        np.testing.assert_allclose(gradient(function)(weights), graph.nodes[0].adjoint)

    def depends(x, y):
        @jax.custom_vjp
        def product(y):
            return x * y

        product.defvjp(lambda y: (product(y), None), lambda _, ȳ: (ȳ * x,))
        return product(y)

    with pytest.raises(Exception, match="with respect to a closed-over value"):  # as jax.grad does
        trace(depends)(1.0, 2.0)


def test_a_rule_of_the_users_that_holds_what_is_computed_around_it():
    def function(x):
        k = jnp.arange(3.0)

        @jax.custom_vjp
        def weighted(x):
            return jnp.sum(k * x)

        weighted.defvjp(lambda x: (weighted(x), k), lambda k, ȳ: (ȳ * k,))
        return weighted(x)

    expected = "weighted: expected a rule that holds nothing computed around it"
    for look in (trace, gradient):  # the check of keys would meet the tracer first
        with pytest.raises(fn.UsageError, match=expected), jax.debug_key_reuse(False):
            look(function)(jnp.ones(3))
    opened = trace(function, expand=["weighted"])(jnp.ones(3))
    np.testing.assert_array_equal(opened["x"].adjoint, jax.grad(function)(jnp.ones(3)))


@pytest.mark.slow
def test_an_integrated_differential_equation():
    def end(k):
        ys = odeint(lambda y, t, k: -k * y, jnp.array(1.0), jnp.array([0.0, 1.0]), k)
        return ys[-1]

    np.testing.assert_allclose(gradient(end)(0.5), jax.grad(end)(0.5))
    np.testing.assert_allclose(gradient(end)(0.5), -np.exp(-0.5), rtol=1e-3)


def test_a_negative_number_between_signs_stands_in_brackets():
    graph = trace(lambda x: jnp.maximum((x - -3.0) / -2.0, -1.0) + x**2)(-1.0)
    assert [(node.expression, node.numbers) for node in graph.nodes[1:]] == [
        ("x − (−3)", "(−1) − (−3)"),
        ("v1 / (−2)", "2 / (−2)"),
        ("max(v2, −1)", "max(−1, −1)"),
        ("x²", "(−1)²"),
        ("v3 + v4", "(−1) + 1"),
    ]
    assert "1 / (−2) = −0.5" in map(str, graph.edges)


def test_a_loop_is_opened_by_turns():
    def function(c, xs):
        last, _ = jax.lax.scan(lambda h, x: (h * x, None), c, xs)
        return last

    xs = jnp.array([2.0, 3.0, 5.0])
    graph = trace(function)(1.0, xs)
    turn = graph.open("last", turn=1)  # c · 2, then this turn's · 3, then · 5
    assert float(turn.output.value) == 6
    assert float(turn.output.adjoint) == 5
    for node in turn.nodes:
        received = [edge.contribution for edge in turn.uses.get(node.index, ())]
        ends = [ȳ for i, ȳ in turn.cotangents.items() if i == node.index]
        np.testing.assert_allclose(sum(received + ends), node.adjoint)
    before = [node for node in turn.nodes if not node.turn or node.turn[0] != 1]
    assert {node.expression for node in before} == {"argument"}
    unrolled = trace(function, expand="scan")(1.0, xs)
    np.testing.assert_allclose(unrolled["xs"].adjoint, [15, 10, 6])
    with pytest.raises(fn.UsageError, match=r"expected 0 … 2; got 7"):
        graph.open("last", turn=7)
    with pytest.raises(fn.UsageError, match="expected a result of a scan"):
        graph.open("c")


def test_a_branch_may_return_a_number_of_the_source():
    def function(x):
        y = jax.lax.cond(x > 0, lambda x: 1.0, lambda x: x * 2, x)
        return y * x

    graph = trace(function)(2.0)
    assert float(graph.open("y").output.value) == 1
    assert float(graph.open("y").output.adjoint) == 2
    assert float(trace(function)(-1.0).open("y").output.value) == -2
    assert float(graph["x"].adjoint) == jax.grad(function)(2.0) == 1
    assert float(trace(lambda x: 3.0)(1.0).output.value) == 3


def test_local_jacobian():
    graph = trace(lambda x: jnp.sum(jnp.sin(x)))(jnp.array([0.0, 1.0]))
    edge = graph.uses[0][0]
    np.testing.assert_allclose(graph.local_jacobian(edge), np.diag(np.cos([0.0, 1.0])), rtol=1e-6)
    large = trace(lambda x: jnp.sum(x * x))(jnp.ones(2000))
    with pytest.raises(fn.UsageError, match=r"at most 1,000,000 elements"):
        large.local_jacobian(large.edges[-1])


@pytest.mark.usefixtures("float64")
def test_the_gradient_is_a_function_like_another():
    function = lambda w, x: jnp.sum(jnp.tanh(w @ x))  # noqa: E731
    args = jnp.eye(3), jnp.arange(3.0)
    compiled = jax.jit(gradient(function))(*args)  # fused, so it rounds differently
    np.testing.assert_allclose(compiled, gradient(function)(*args), rtol=1e-14)
    assert fn.check_gradients(function, *args, hand=gradient(function)).verdict == "pass"


@jax.custom_jvp
def wrongly_squared(x):
    return x * x


wrongly_squared.defjvps(lambda dx, y, x: 3 * x * dx)


def test_the_gradient_opens_a_function_whose_own_derivative_is_wrong():
    assert gradient(wrongly_squared)(2.0) == 6  # its own, as of jax.grad
    assert gradient(wrongly_squared, expand="wrongly_squared")(2.0) == 4
    with pytest.raises(fn.UsageError, match=r"expected one of .*wrongly_squared; got 'sigmoid'"):
        gradient(wrongly_squared, expand="sigmoid")(2.0)


def test_random_keys_and_complex_numbers():
    def function(key, x):
        y = x * jax.random.normal(key)
        z = jax.lax.complex(y, 2 * y)
        return jnp.abs(z)

    graph = trace(function)(jax.random.key(0), 2.0)
    assert graph["key"].adjoint is None
    assert "none: key<fry>" in str(graph)
    expected = jax.grad(function, 1)(jax.random.key(0), 2.0)
    np.testing.assert_allclose(graph["x"].adjoint, expected, rtol=1e-6)
    assert "complex64" in fn.render.page(graph)


def test_of_what_becomes_complex_the_real_part_is_handed_down():
    function = lambda x: jnp.real(jnp.exp(jnp.complex64(1j) * x.astype(jnp.complex64)))  # noqa: E731
    graph = trace(function)(jnp.float32(0.5))
    np.testing.assert_allclose(graph["x"].adjoint, -np.sin(0.5), rtol=1e-6)
    assert [edge.formula for edge in graph.uses[0]] == ["Re ȳ"]


def test_cotangent_of_an_array():
    graph = trace(jnp.sin, cotangent=jnp.array([1.0, 2.0]))(jnp.zeros(2))
    np.testing.assert_allclose(graph.nodes[0].adjoint, [1.0, 2.0])
