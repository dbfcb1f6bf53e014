"""The hand-derived gradients against closed forms in float64 NumPy, `jax.grad` and PyTorch.

The checks take the module as an argument, so that the last test can hand them mutants of it.
"""

import ast
import itertools
import pathlib
import types
from collections.abc import Iterator

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcnet import UsageError, activations, chain_rule, losses, models

SOURCE = pathlib.Path(chain_rule.__file__).read_text()
POINTS = np.array([-30.0, -10.0, -1.5, -1e-7, 0.0, 1e-7, 0.5, 3.0, 10.0, 30.0])
CLOSED_FORMS = {
    "sigmoid": lambda x: 0.25 / np.cosh(x / 2) ** 2,
    "tanh": lambda x: 1 / np.cosh(x) ** 2,
    "relu": lambda x: (x > 0) * 1.0,
    "leaky_relu": lambda x: np.where(x > 0, 1, 0.1),
    "elu": lambda x: np.exp(np.minimum(x, 0)),
}
CONSTRUCTORS = {
    "linear": lambda: models.linear(4, 3),
    "logistic_regression": lambda: models.logistic_regression(4),
    "softmax_regression": lambda: models.softmax_regression(4, 3),
}
FITTING = [(m, loss) for m, fitting in models.FITTING_LOSSES.items() for loss in fitting.values()]


def targets_for(model: str, rng: np.random.Generator, batch: tuple[int, ...]) -> np.ndarray:
    if model == "linear":
        return rng.normal(size=(*batch, 3))
    return rng.integers(2 if model == "logistic_regression" else 3, size=batch)


def assert_agrees_with_jax_grad(rules, model, loss, *, activation="relu", depth=2, batch=(3, 2)):
    sizes = [4, *[6] * (depth - 1), 3]
    constructors = CONSTRUCTORS | {"mlp": lambda: models.mlp(sizes, activation=activation)}
    network = constructors[model]()
    rng = np.random.default_rng(0)
    params = network.init(jax.random.key(0))
    params = jax.tree.map(lambda p: p + 0.1 * rng.normal(size=p.shape), params)
    x, y = rng.normal(size=(*batch, 4)), targets_for(model, rng, batch)
    by_hand = rules.value_and_gradient(model, loss, activation=activation)(params, x, y)
    mean_loss = jax.value_and_grad(lambda p: losses.LOSSES[loss](network.apply(p, x), y).mean())
    by_jax = mean_loss(params)
    chex.assert_trees_all_equal_structs(by_hand, by_jax)
    chex.assert_trees_all_close(by_hand, by_jax, rtol=1e-9, atol=1e-12)


def check_lecture(rules):
    values = rules.lecture_forward(2.0, 3.0, 5.0, 7.0, 11.0)
    a, w1, w2, w3, w4, b, c, d, L = values
    np.testing.assert_allclose((b, c, d, L), (6.0, 10.0, 152.0, -142.0))
    # L = 10 − (w3 w1 + w4 w2) a, differentiated as a whole
    closed = (-(w3 * w1 + w4 * w2), -w3 * a, -w4 * a, -w1 * a, -w2 * a, -w3, -w4, -1.0, 1.0)
    np.testing.assert_allclose(rules.lecture_backward(values), closed)


def check_derivatives(rules):
    for name, closed_form in CLOSED_FORMS.items():
        derivative = rules.DERIVATIVES[name]
        np.testing.assert_allclose(derivative(POINTS), closed_form(POINTS), rtol=1e-12)
    steeper = rules.leaky_relu_derivative(POINTS, negative_slope=0.3)
    np.testing.assert_allclose(steeper, np.where(POINTS > 0, 1, 0.3))
    np.testing.assert_allclose(rules.elu_derivative(-1.0, alpha=2.0), 2 * np.exp(-1.0))


def check_maxout(rules):
    pieces = np.array([[1.0, 2.0, 3.0], [0.0, 2.0, 3.0], [-1.0, 1.0, 3.0]])
    shares = [[1, 1 / 2, 1 / 3], [0, 1 / 2, 1 / 3], [0, 0, 1 / 3]]
    np.testing.assert_allclose(rules.maxout_derivative(pieces), shares)


def check_binary_losses(rules):
    for y in (0, 1):
        s = 1 / (1 + np.exp(-POINTS))
        labels = np.full(POINTS.shape, y)
        cross_entropy = rules.binary_cross_entropy_gradient(POINTS, labels)
        np.testing.assert_allclose(cross_entropy, s - y, atol=1e-15)
        squared = rules.sigmoid_squared_error_gradient(POINTS, labels)
        np.testing.assert_allclose(squared, 2 * (s - y) * s * (1 - s), atol=1e-15)


def check_softmax_losses(rules):
    z = np.log([[1.0, 2.0, 5.0], [3.0, 4.0, 1.0]])
    p = np.array([[1.0, 2.0, 5.0], [3.0, 4.0, 1.0]]) / 8
    y = np.array([2, 0])
    t = np.eye(3)[y]
    np.testing.assert_allclose(rules.softmax_cross_entropy_gradient(z, y), p - t)
    jacobian = np.stack([np.diag(row) - np.outer(row, row) for row in p])
    brier = np.einsum("bij,bj->bi", jacobian, 2 * (p - t))
    np.testing.assert_allclose(rules.softmax_squared_error_gradient(z, y), brier)


def check_networks(rules):
    for model, loss in FITTING:
        assert_agrees_with_jax_grad(rules, model, loss)
    for activation in activations.ACTIVATIONS:
        assert_agrees_with_jax_grad(rules, "mlp", "softmax_cross_entropy", activation=activation)


CHECKS = [
    check_lecture,
    check_derivatives,
    check_maxout,
    check_binary_losses,
    check_softmax_losses,
    check_networks,
]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "check", [*CHECKS[:-1], pytest.param(check_networks, marks=pytest.mark.slow)]
)
def test_rules(check):
    check(chain_rule)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("batch", [(), (1,), (2, 3)])
@pytest.mark.parametrize("activation", ["tanh", "maxout"])
def test_networks_of_any_depth_and_batch(activation, batch, depth):
    assert_agrees_with_jax_grad(
        chain_rule,
        "mlp",
        "softmax_squared_error",
        activation=activation,
        depth=depth,
        batch=batch,
    )


@pytest.mark.usefixtures("float64")
@hypothesis.settings(deadline=None, max_examples=20)
@hypothesis.given(
    logits=st.lists(st.floats(-50, 50), min_size=3, max_size=3), label=st.integers(0, 2)
)
@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "softmax_squared_error"])
def test_gradients_of_softmax_losses_sum_to_zero(loss, logits, label):
    """Adding a constant to all logits changes nothing."""
    gradient = chain_rule.LOSS_GRADIENTS[loss](jnp.array(logits), label)
    np.testing.assert_allclose(jnp.sum(gradient), 0, atol=1e-12)


@pytest.mark.parametrize("activation", activations.ACTIVATIONS)
@hypothesis.settings(deadline=None, max_examples=20)
@hypothesis.given(x=st.floats(-80, 80, width=32, allow_subnormal=False))  # XLA flushes them to 0
def test_derivatives_stay_accurate_in_float32(activation, x):
    if activation == "maxout":
        expected = 1.0
        actual = chain_rule.maxout_derivative(np.array([[x]], np.float32))[0, 0]
    else:
        expected = CLOSED_FORMS[activation](np.float64(x))
        actual = chain_rule.DERIVATIVES[activation](np.float32(x))
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-37)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
@pytest.mark.parametrize("activation", activations.ACTIVATIONS)
def test_derivatives_keep_the_dtype(activation, dtype):
    assert chain_rule.DERIVATIVES[activation](jnp.ones([2, 3], dtype)).dtype == dtype


@pytest.mark.slow
@pytest.mark.parametrize("activation", activations.ACTIVATIONS)
def test_agrees_with_jax_grad_on_mnist(mnist, activation):
    model = models.mlp([784, 32, 10], activation=activation)
    params = model.init(jax.random.key(0))
    x, y = mnist.test.inputs[:128], mnist.test.targets[:128]
    value_and_gradient = chain_rule.value_and_gradient(
        "mlp", "softmax_cross_entropy", activation=activation
    )
    by_hand = jax.jit(value_and_gradient)(params, x, y)
    by_jax = jax.value_and_grad(
        lambda p: losses.softmax_cross_entropy(model.apply(p, x), y).mean()
    )(params)
    chex.assert_trees_all_close(by_hand, by_jax, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("float64")
def test_agrees_with_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is in the extra [peers]")
    rng = np.random.default_rng(0)
    shapes = [(6, 4), (6,), (3, 6), (3,)]
    W1, b1, W2, b2 = (rng.normal(size=shape) for shape in shapes)
    x, y = rng.normal(size=(5, 4)), rng.integers(0, 3, 5)
    leaves = [torch.tensor(p, requires_grad=True) for p in (W1, b1, W2, b2)]
    hidden = torch.nn.functional.elu(torch.nn.functional.linear(torch.tensor(x), *leaves[:2]))
    logits = torch.nn.functional.linear(hidden, *leaves[2:])
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(y))
    expected = torch.autograd.grad(loss, leaves)
    gradient = chain_rule.value_and_gradient("mlp", "softmax_cross_entropy", activation="elu")
    value, layers = gradient((chain_rule.Linear(W1, b1), chain_rule.Linear(W2, b2)), x, y)
    np.testing.assert_allclose(value, loss.item(), rtol=1e-12)
    for ours, theirs in zip(jax.tree.leaves(layers), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_compiles_once():
    step = jax.jit(chex.assert_max_traces(chain_rule.value_and_gradient("mlp", LOSS), n=1))
    params = models.mlp([4, 3]).init(jax.random.key(0))
    values = [step(params, jnp.full([2, 4], i / 10), jnp.array([0, 1]))[0] for i in range(3)]
    assert len(set(map(float, values))) == 3


LOSS = "softmax_cross_entropy"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "mpl", "loss": LOSS}, "model: expected one of linear, .* Did you mean 'mlp'"),
        ({"model": "mlp", "loss": "squared_error"}, "loss of mlp: expected one of softmax_cross"),
        (
            {"model": "mlp", "loss": LOSS, "activation": "rleu"},
            "activation: .* Did you mean 'relu'",
        ),
    ],
)
def test_says_which_names_there_are(arguments, message):
    with pytest.raises(UsageError, match=message):
        chain_rule.value_and_gradient(**arguments)


def test_knows_no_autodiff():
    names = {
        name
        for node in ast.walk(ast.parse(SOURCE))
        for name in (
            getattr(node, "attr", None),
            getattr(node, "id", None),
            *(alias.name for alias in getattr(node, "names", []) if isinstance(alias, ast.alias)),
        )
    }
    autodiff = {"grad", "value_and_grad", "vjp", "jvp", "jacfwd", "jacrev", "jacobian", "hessian"}
    autodiff |= {"linearize", "linear_transpose", "custom_jvp", "custom_vjp", "custom_gradient"}
    assert not names & autodiff
    assert "jax" not in names  # jax.numpy and one_hot alone, which have none of these


SWAPS = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*"}
NO_MATTER = {"x", "largest", "fitting"}  # the function is even; it cancels; names, not numbers


def slips(node: ast.AST) -> Iterator[tuple[ast.expr, str]]:
    """An expression, and what could stand there by a slip: another sign, another factor."""
    match node:
        case ast.BinOp(left, operator, right) if type(operator) in SWAPS:
            yield node, f"(({ast.unparse(left)}) {SWAPS[type(operator)]} ({ast.unparse(right)}))"
        case ast.UnaryOp(ast.USub(), operand):
            yield node, f"({ast.unparse(operand)})"
        case ast.Constant(value) if type(value) in (int, float):
            yield node, f"(2 * {value} + 1)"
        case ast.Assign([ast.Name(name)]) if name in NO_MATTER:
            pass
        case ast.Assign(value=ast.expr() as value) | ast.Return(value=ast.expr() as value):
            yield value, f"-({ast.unparse(value)})"
            yield value, f"2 * ({ast.unparse(value)})"


def mutants() -> Iterator[tuple[str, str]]:
    """The source of the module with one slip, for each place in its functions; and the slip."""
    source = SOURCE.encode()
    starts = [0, *itertools.accumulate(map(len, source.splitlines(keepends=True)))]
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    for node in itertools.chain.from_iterable(map(ast.walk, functions)):
        for place, slip in slips(node):
            assert place.end_lineno is not None
            assert place.end_col_offset is not None
            start = starts[place.lineno - 1] + place.col_offset
            end = starts[place.end_lineno - 1] + place.end_col_offset
            title = f"line {place.lineno}: {source[start:end].decode()} as {slip}"
            yield title, (source[:start] + slip.encode() + source[end:]).decode()


def survives(source: str) -> bool:
    """Whether every check passes on a module of this source."""
    mutant = types.ModuleType("mutant")
    try:
        exec(source, vars(mutant))
        for check in CHECKS:
            check(mutant)
    except Exception:
        return False
    return True


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("part", [pytest.param(i, marks=pytest.mark.slow) for i in range(8)])
def test_every_slip_is_noticed(part):
    """A sign or a factor changed anywhere in the module fails a check."""
    slipped = list(mutants())
    assert survives(SOURCE)
    assert len(slipped) > 100
    assert [title for title, source in slipped[part::8] if survives(source)] == []
