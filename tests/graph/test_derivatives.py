"""Every line of the table of derivatives: against `jax.vjp`, and numerically."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jax import lax

from funcnet.graph import derivatives, gradient, trace

RNG = np.random.default_rng(0)
OWN = {"add_any", "copy", "copy_p", "index", "stack", "expand_dims", "stop_gradient"}
"""What `jax.lax` does not offer as one primitive, or gives another derivative on purpose."""


def as_vector(array):
    return np.asarray(array, np.float64).reshape(-1)


def check_against_vjp(rules, function, operands, rtol=1e-10):
    y, vjp = jax.vjp(function, *operands)
    g = jnp.asarray(np.linspace(-2, 3, y.size).reshape(y.shape), y.dtype)
    for rule, operand, expected in zip(rules, operands, vjp(g), strict=True):
        if expected.dtype != jax.dtypes.float0:
            received = derivatives.match_operand(rule.pull(g, y, *operands), operand)
            np.testing.assert_allclose(received, expected, rtol=rtol, atol=1e-12)
            assert received.dtype == operand.dtype


def check_numerically(rules, function, operands, h=2.0**-17):
    """One element after another: the difference of the values against the derivative."""
    y = function(*operands)
    g = jnp.asarray(np.linspace(-2, 3, y.size).reshape(y.shape), y.dtype)
    for k, (rule, operand) in enumerate(zip(rules, operands, strict=True)):
        if not jnp.issubdtype(operand.dtype, jnp.floating):
            continue
        received = derivatives.match_operand(rule.pull(g, y, *operands), operand)
        for i, slope in enumerate(as_vector(received)):

            def moved(step, k=k, i=i, operand=operand):
                other = operand.reshape(-1).at[i].add(step).reshape(operand.shape)
                return as_vector(function(*operands[:k], other, *operands[k + 1 :]))

            difference = as_vector(g) @ (moved(h) - moved(-h)) / (2 * h)
            np.testing.assert_allclose(slope, difference, rtol=1e-6, atol=1e-6)


def positive(x):
    return np.abs(x)


def small(x):
    return x / 4


DOMAINS = {
    **dict.fromkeys(["log", "sqrt", "rsqrt", "cbrt", "log1p"], (positive,)),
    **dict.fromkeys(["asin", "acos", "tan"], (small,)),
    "pow": (positive, small),
}
SLOPES = sorted(set(derivatives.SLOPES) - OWN - {"clamp"})


def operands_of(name, numbers):
    """A few numbers for each operand, away from the kinks, within the function's domain."""
    count = len(derivatives.SLOPES[name])
    inside = (*DOMAINS.get(name, ()), *[lambda x: x] * count)
    away = [numbers[k] / 8 + 1 / 16 + k / 64 for k in range(count)]
    return tuple(jnp.asarray(f(x)) for f, x in zip(inside, away, strict=False))


@pytest.mark.parametrize("name", SLOPES)
@given(numbers=hnp.arrays(int, (2, 3), elements=st.integers(-20, 20)))
@settings(max_examples=5)
def test_a_slope_is_that_of_the_values(name, numbers):
    with jax.enable_x64(True):
        operands = operands_of(name, numbers)
        check_against_vjp(derivatives.SLOPES[name], getattr(lax, name), operands)
        check_numerically(derivatives.SLOPES[name], getattr(lax, name), operands)


@pytest.mark.parametrize("name", ["max", "min", "sign", "atan2", "pow"])
def test_a_slope_at_a_kink_or_a_tie_is_that_of_jax(name):
    at = {"atan2": ([0.0, 1.0], [2.0, 0.0]), "pow": ([2.0, 3.0], [0.0, 1.0])}
    both = at.get(name, ([0.0, 1.0], [0.0, 1.0]))
    with jax.enable_x64(True):
        rules = derivatives.SLOPES[name]
        check_against_vjp(rules, getattr(lax, name), tuple(map(jnp.array, both))[: len(rules)])


TAILS = {  # σ′ and tanh′ by e^−|x|, which cannot overflow
    "logistic": lambda x: np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))) ** 2,
    "tanh": lambda x: 4 * np.exp(-2 * np.abs(x)) / (1 + np.exp(-2 * np.abs(x))) ** 2,
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", TAILS)
def test_a_slope_keeps_its_tail(name, dtype):
    with jax.enable_x64(True):
        x = np.array([-40.0, -20.0, -1.0, 0.0, 3.0, 20.0, 40.0], dtype)
        (rule,) = derivatives.SLOPES[name]
        slope = rule.pull(jnp.ones(7, dtype), getattr(lax, name)(jnp.asarray(x)), jnp.asarray(x))
        assert slope.dtype == dtype
        rtol = 100 * float(np.finfo(dtype).eps)
        np.testing.assert_allclose(slope, TAILS[name](x.astype(float)), rtol=rtol)
        far = jnp.asarray([-1e3, -800.0, 800.0, 1e3], dtype)  # eˣ overflows
        assert rule.pull(jnp.ones(4, dtype), getattr(lax, name)(far), far).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(("name", "function"), [("logistic", jax.nn.sigmoid), ("tanh", jnp.tanh)])
def test_the_gradient_of_a_graph_keeps_the_tail(name, function):
    for x in (20.0, -20.0, 40.0, -40.0):
        np.testing.assert_allclose(gradient(function)(x), TAILS[name](x), rtol=1e-5)
        (edge,) = trace(function)(x).edges
        assert edge.formula == {"logistic": "sigmoid (1 − sigmoid)", "tanh": "1 − tanh²"}[name]


def test_the_slope_of_abs_at_0_is_that_of_pytorch():
    (rule,) = derivatives.SLOPES["abs"]
    assert rule.pull(jnp.ones(3), jnp.ones(3), jnp.array([-1.0, 0.0, 1.0])).tolist() == [-1, 0, 1]


def test_the_slopes_of_0_to_the_0_are_those_of_pytorch():
    assert gradient(lambda x, y: x**y, (0, 1))(0.0, 0.0) == (0, 0)  # where JAX has (nan, 0)
    assert gradient(lambda x: lax.integer_pow(x, 0))(0.0) == 0
    torch = pytest.importorskip("torch", reason="PyTorch is in the extra [peers]")
    x, y = (torch.tensor(0.0, requires_grad=True) for _ in range(2))
    (x**y).backward()
    assert (x.grad, y.grad) == (0, 0)


def array(*shape):
    """Numbers that differ from each other by at least 1/16, in a random order."""
    return RNG.permutation(np.arange(np.prod(shape, dtype=int)) / 16 - 0.4).reshape(shape)


X, Y = array(3, 4), array(4, 2)
WHICH = np.array([True, False, True])
PRODUCTS = {
    "matrices": ((2, 3), (3, 4), (((1,), (0,)), ((), ()))),
    "transposed": ((3, 2), (4, 3), (((0,), (1,)), ((), ()))),
    "batch": ((2, 3, 4), (2, 4, 3), (((2,), (1,)), ((0,), (0,)))),
    "two axes": ((2, 3, 4), (4, 5, 3), (((1, 2), (2, 0)), ((), ()))),
    "batch last": ((3, 2), (4, 3, 2), (((0,), (1,)), ((1,), (2,)))),
    "outer": ((2,), (3,), (((), ()), ((), ()))),
    "inner": ((3,), (3,), (((0,), (0,)), ((), ()))),
}
STRUCTURED = {
    **{
        f"integer_pow {n}": (lambda x, n=n: lax.integer_pow(x, n), (X + 2,))
        for n in (-2, -1, 2, 3, 5)
    },
    "select_n": (lax.select_n, (WHICH, array(3), array(3))),
    "select_n scalar": (lax.select_n, (np.array(True), array(3), array(3))),
    "select_n of three": (lax.select_n, (np.array([2, 0, 1], np.int32), *[array(3)] * 3)),
    "clamp": (lax.clamp, (array(5) * 0 - 0.3, array(5), array(5) * 0 - 0.2)),
    "convert_element_type": (lambda x: x.astype(jnp.float32), (X,)),
    **{
        f"dot_general {name}": (lambda a, b, n=n: lax.dot_general(a, b, n), (array(*s), array(*t)))
        for name, (s, t, n) in PRODUCTS.items()
    },
    "reduce_sum": (lambda x: lax.reduce_sum(x, (1,)), (X,)),
    "reduce_sum of all": (lambda x: lax.reduce_sum(x, (0, 1)), (X,)),
    "reduce_max": (lambda x: lax.reduce_max(x, (0,)), (X,)),
    "reduce_min": (lambda x: lax.reduce_min(x, (0, 1)), (X,)),
    "broadcast_in_dim": (lambda x: lax.broadcast_in_dim(x, (2, 3, 4), (1, 2)), (X,)),
    "broadcast_in_dim of 1": (lambda x: lax.broadcast_in_dim(x, (2, 4), (0, 1)), (array(2, 1),)),
    "broadcast_in_dim of ()": (lambda x: lax.broadcast_in_dim(x, (2, 4), ()), (array(),)),
    "reshape": (lambda x: lax.reshape(x, (2, 6)), (X,)),
    "squeeze": (lambda x: lax.squeeze(x, (1,)), (array(3, 1, 2),)),
    "transpose": (lambda x: lax.transpose(x, (2, 0, 1)), (array(2, 3, 4),)),
    "concatenate": (lambda *x: lax.concatenate(x, 1), (X, array(3, 2), array(3, 1))),
    "stack": (lambda *x: jnp.stack(x, axis=1), (X, X + 1)),
    "slice": (lambda x: lax.slice(x, (0, 1), (3, 4), (2, 2)), (X,)),
    "slice without strides": (lambda x: lax.slice(x, (1, 0), (3, 2)), (X,)),
    "gather rows twice": (lambda x: x[jnp.array([2, 0, 2])], (X,)),
    "gather elements": (lambda x: x[jnp.array([2, 0]), jnp.array([1, 1])], (X,)),
    "gather from Y": (lambda y: jnp.take(y, jnp.array([[3, 0]]), axis=0), (Y,)),
    "cumsum": (lambda x: lax.cumsum(x, axis=1), (X,)),
    "cumsum reverse": (lambda x: lax.cumsum(x, axis=0, reverse=True), (X,)),
    "rev": (lambda x: lax.rev(x, (0, 1)), (X,)),
}


def last_equation(function, operands):
    """The equation that makes the result, opened from `jit`."""
    equation = jax.make_jaxpr(function)(*operands).jaxpr.eqns[-1]
    while equation.primitive.name in ("jit", "pjit"):
        equation = equation.params["jaxpr"].jaxpr.eqns[-1]
    return equation


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("case", STRUCTURED)
def test_a_linear_map_is_that_of_the_values(case):
    function, operands = STRUCTURED[case]
    operands = tuple(map(jnp.asarray, operands))
    equation = last_equation(function, operands)
    name = case.split()[0]
    assert equation.primitive.name == name
    indices = [_indices(function, operands)] if name == "gather" else []
    rules = derivatives.rules(name, (*operands, *indices), equation.params)[: len(operands)]
    h = 2.0**-10 if name == "convert_element_type" else 2.0**-17
    check_against_vjp(rules, function, operands)
    check_numerically(rules, function, operands, h=h)


def _indices(function, operands):
    """The second operand of a gather, which is computed before it."""
    tape = trace(lambda *x: jnp.sum(function(*x)))(*operands)
    (read,) = [node for node in tape.nodes if node.operation == "gather"]
    return tape.nodes[read.inputs[1]].value


@pytest.mark.usefixtures("float64")
def test_the_shares_of_a_tie_are_those_of_jax():
    x = jnp.array([[1.0, 2.0, 2.0], [2.0, 2.0, 0.0]])
    for name, reduce in {"reduce_max": lax.reduce_max, "reduce_min": lax.reduce_min}.items():
        function = lambda x, reduce=reduce: reduce(x, (0, 1))  # noqa: E731
        parameters = last_equation(function, [x]).params
        check_against_vjp(derivatives.rules(name, (x,), parameters), function, (x,))


@pytest.mark.usefixtures("float64")
def test_operations_of_our_own():
    identity = lambda *x: x[0]  # noqa: E731
    for name in ("copy", "copy_p"):
        check_numerically(derivatives.SLOPES[name], identity, (jnp.asarray(X),))
    check_numerically(derivatives.SLOPES["add_any"], jnp.add, (jnp.asarray(X), jnp.asarray(X)))
    (index,) = derivatives.STRUCTURED["index"](jnp.asarray(X), at=1)
    check_numerically((index,), lambda x: x[1], (jnp.asarray(X),))
    pair = jnp.asarray(X[0]), jnp.asarray(X[1])
    check_numerically(derivatives.STRUCTURED["stack"](*pair), lambda *x: jnp.stack(x), pair)
    (expand,) = derivatives.STRUCTURED["expand_dims"](jnp.asarray(X))
    check_numerically((expand,), lambda x: x[:, None], (jnp.asarray(X),))
    (stop,) = derivatives.SLOPES["stop_gradient"]
    assert not stop.pull(jnp.ones(2), jnp.ones(2), jnp.ones(2)).any()


def test_every_rule_is_tested():
    tested = {*SLOPES, *(case.split()[0] for case in STRUCTURED), *OWN}
    assert tested == {*derivatives.SLOPES, *derivatives.STRUCTURED}


UNARY = [jnp.sin, jnp.tanh, jnp.exp, jnp.square, lambda x: jnp.log1p(x * x), jax.nn.relu]
BINARY = [jnp.add, jnp.subtract, jnp.multiply, jnp.maximum, lambda x, y: x / (1 + y * y)]
STEP = st.tuples(st.integers(0, 1), st.integers(0, 100), st.integers(0, 100), st.integers(0, 100))


@given(steps=st.lists(STEP, min_size=1, max_size=10), x=st.floats(-2, 2), y=st.floats(-2, 2))
@settings(max_examples=12)
def test_the_backward_pass_through_any_program_is_that_of_jax(steps, x, y):
    """A program is a list of steps; each applies an operation to values before it."""

    def program(x, y):
        values = [jnp.asarray(x), jnp.asarray(y)]
        for unary, operation, i, j in steps:
            first, second = values[i % len(values)], values[j % len(values)]
            if unary:
                values.append(jnp.tanh(UNARY[operation % len(UNARY)](first)))
            else:
                values.append(BINARY[operation % len(BINARY)](first, second))
        return values[-1] + 0 * values[0]

    with jax.enable_x64(True):
        expected = jax.grad(program, (0, 1))(x, y)
        np.testing.assert_allclose(gradient(program, (0, 1))(x, y), expected, rtol=1e-9, atol=1e-12)
        graph = trace(program)(x, y)
        for index, edges in graph.uses.items():
            received = sum(edge.contribution for edge in edges)
            np.testing.assert_allclose(received, graph.nodes[index].adjoint, rtol=1e-12)
