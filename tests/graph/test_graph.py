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


def lecture(w1, w2, w3, w4, a):
    b = w1 * a
    c = w2 * a
    d = w3 * b + w4 * c
    L = 10 - d
    return L  # noqa: RET504


LECTURE = (1.0, 2.0, 3.0, 4.0, 5.0)


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
@pytest.mark.parametrize("name", FUNCTIONS)
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


def test_the_lecture():
    graph = trace(lecture)(*LECTURE)
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
    assert {name: float(graph[name].adjoint) for name in adjoints} == adjoints
    assert [float(graph[name].value) for name in "bcdL"] == [5, 10, 55, -45]
    assert str(graph.chain_rule("w1")) == "∂L/∂w1 = ∂L/∂d · ∂d/∂b · ∂b/∂w1 = (−1)(3)(5) = −15"
    assert str(graph.chain_rule("w4")) == "∂L/∂w4 = ∂L/∂d · ∂d/∂w4 = (−1)(10) = −10"
    assert "(−1)(3)(1) + (−1)(4)(2)" in repr(graph.chain_rule("a"))


def products(rule):
    """Of every path the product of its factors, as they are printed."""
    return [np.prod([float(factor.value) for factor in path]) for path in rule.paths]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", FUNCTIONS)
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
        np.testing.assert_allclose(sum(products(rule)), rule.total, rtol=1e-9)


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
        with pytest.raises(ValueError, match=expected), jax.debug_key_reuse(False):
            look(function)(jnp.ones(3))
    opened = trace(function, expand=["weighted"])(jnp.ones(3))
    np.testing.assert_array_equal(opened["x"].adjoint, jax.grad(function)(jnp.ones(3)))


def test_an_integrated_differential_equation():
    def end(k):
        ys = odeint(lambda y, t, k: -k * y, jnp.array(1.0), jnp.array([0.0, 1.0]), k)
        return ys[-1]

    np.testing.assert_allclose(gradient(end)(0.5), jax.grad(end)(0.5))
    np.testing.assert_allclose(gradient(end)(0.5), -np.exp(-0.5), rtol=1e-3)


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
    with pytest.raises(ValueError, match=r"expected 0 … 2; got 7"):
        graph.open("last", turn=7)
    with pytest.raises(ValueError, match="expected a result of a scan"):
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
    with pytest.raises(ValueError, match="Did you mean 'sigmoid'"):
        trace(function, expand="sigmiod")(x)


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
    assert f"at test_graph.py:{found.node.source.line} in log_of_shifted: scaled" in str(found)
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
        "forward: the value of v1 = x + ∞ is not finite\n  at test_graph.p"
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
    assert b.startswith("  of b at test_graph.py:")
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


def test_names_of_pytrees_and_integers():
    graph = trace(lambda p, i: p["w"].bias[i])({"w": fn.base.Linear(1.0, jnp.ones(2))}, 1)
    assert [n.name for n in graph.nodes[:3]] == ["p['w'].weight", "p['w'].bias", "i"]
    assert graph["i"].adjoint is None
    with pytest.raises(ValueError, match="has no adjoint"):
        graph.chain_rule("i")


def test_local_jacobian():
    graph = trace(lambda x: jnp.sum(jnp.sin(x)))(jnp.array([0.0, 1.0]))
    edge = graph.uses[0][0]
    np.testing.assert_allclose(graph.local_jacobian(edge), np.diag(np.cos([0.0, 1.0])), rtol=1e-6)
    large = trace(lambda x: jnp.sum(x * x))(jnp.ones(2000))
    with pytest.raises(ValueError, match=r"at most 1,000,000 elements"):
        large.local_jacobian(large.edges[-1])


def test_the_gradient_is_a_function_like_another():
    function = lambda w, x: jnp.sum(jnp.tanh(w @ x))  # noqa: E731
    args = jnp.eye(3), jnp.arange(3.0)
    np.testing.assert_allclose(jax.jit(gradient(function))(*args), gradient(function)(*args))
    assert fn.check_gradients(function, *args, hand=gradient(function)).verdict == "pass"


@jax.custom_jvp
def wrongly_squared(x):
    return x * x


wrongly_squared.defjvps(lambda dx, y, x: 3 * x * dx)


def test_the_gradient_opens_a_function_whose_own_derivative_is_wrong():
    assert gradient(wrongly_squared)(2.0) == 6  # its own, as of jax.grad
    assert gradient(wrongly_squared, expand="wrongly_squared")(2.0) == 4
    with pytest.raises(ValueError, match=r"expected one of .*wrongly_squared; got 'sigmoid'"):
        gradient(wrongly_squared, expand="sigmoid")(2.0)


def test_bad_input():
    with pytest.raises(TypeError, match="function"):
        trace(3)
    with pytest.raises(TypeError, match="x: expected an array or a number; got str"):
        trace(lambda x: x)("a")
    with pytest.raises(ValueError, match=r"scalar output; it returned float32\[3\]"):
        trace(lambda x: x)(jnp.ones(3))
    with pytest.raises(TypeError, match="expected an output of floats; it is int32"):
        trace(lambda x: x)(1)
    with pytest.raises(TypeError, match="expected an output of floats; it is complex64"):
        trace(lambda x: x)(1j)
    with pytest.raises(TypeError, match="x: expected an array or a number; got an array of <U1"):
        trace(lambda x: x)(np.array(["a"]))
    with pytest.raises(TypeError, match="cotangent: expected an array or a number; got str"):
        trace(lambda x: x, cotangent="a")(1.0)
    with pytest.raises(ValueError, match="cotangent: expected arrays like the output, float32"):
        trace(lambda x: x, cotangent=1j)(1.0)
    with pytest.raises(ValueError, match=r"expected argnums below 1, .*; got 7"):
        gradient(lambda x: x, 7)(1.0)
    with pytest.raises(ValueError, match=r"gradient: .* returned float32\[3\].*jnp.mean\.$"):
        gradient(lambda x: x)(jnp.ones(3))
    with pytest.raises(TypeError, match="gradient: expected an output of floats; it is int32"):
        gradient(lambda x: 3)(1.0)
    with pytest.raises(TypeError, match=r"a while decides by them; inside jit, .* without jit"):
        jax.jit(gradient(lambda x: jax.lax.while_loop(lambda c: c < 9, lambda c: c * x, x)))(2.0)
    with pytest.raises(TypeError, match="where a cond decides"):
        jax.jit(gradient(lambda x: branch(x[None])))(2.0)
    with pytest.raises(TypeError, match="inside jit, grad or vmap there are none"):
        jax.jit(lambda x: trace(jnp.sin)(x).output.adjoint)(1.0)
    with pytest.raises(TypeError, match="missing 1 required positional argument") as raised:
        trace(lambda x: x)()
    assert raised.value.__notes__[-1] == "output was traced with no arguments."
    with pytest.raises(ZeroDivisionError) as raised:
        trace(lambda x: x / (1 // 0))(1.0)
    assert raised.value.__notes__[-1] == "output was traced with x: float32[]."
    with pytest.raises(ValueError, match="expected a pure function; pure_callback"):
        trace(lambda x: jax.pure_callback(np.sin, jax.ShapeDtypeStruct((), jnp.float32), x))(1.0)
    with pytest.raises(ValueError, match="cotangent: expected arrays like the output"):
        trace(lambda x: x, cotangent=jnp.ones(2))(jnp.ones(3))
    with pytest.raises(ValueError, match="expected a pure function; debug"):
        trace(lambda x: (jax.debug.print("{}", x), x)[1])(1.0)
    with pytest.raises(KeyError, match=r"no variable 'w9'. Nearest: w"):
        trace(lecture)(*LECTURE)["w9"]
    with pytest.raises(
        TypeError, match=r"floats in argument 0; got int32.*Write 1\.0 instead of 1"
    ):
        gradient(lambda i, x: x * i)(2, 1.0)
    with pytest.raises(TypeError) as raised:
        trace(lambda x, y: x @ y)(jnp.ones((2, 3)), jnp.ones((2, 3)))
    assert "x: float32[2, 3], y: float32[2, 3]" in raised.value.__notes__[-1]


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


def test_with_cotangents_the_chain_rule_begins_with_them():
    def function(x):
        y = 2 * x
        z = jnp.sin(x)
        return y, z

    rule = trace(function, cotangent=(3.0, 5.0))(0.0).chain_rule("x")
    assert rule.symbols == ("∂(ȳ · function)/∂y · ∂y/∂x + ∂(ȳ · function)/∂z · ∂z/∂x")
    assert rule.steps[1:] == ("(3)(2) + (5)(1)", "(6) + (5)", "11")
    assert str(trace(lambda x: 3 * x, cotangent=2.0)(1.0).chain_rule("x")).endswith("(2)(3) = 6")


def test_cotangent_of_an_array():
    graph = trace(jnp.sin, cotangent=jnp.array([1.0, 2.0]))(jnp.zeros(2))
    np.testing.assert_allclose(graph.nodes[0].adjoint, [1.0, 2.0])
