"""Gradients that are right and fool checkers, and gradients that are wrong and pass them.

    python tests/gradcheck/gauntlet.py

runs the table through funcnet and through the checkers of JAX, chex and PyTorch, and counts.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads

import funcnet as fn


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    function: Callable
    args: tuple
    right: bool
    hand: Callable | None = None
    looks_like: str = ""
    index: tuple[int, ...] | None = None
    order: int = 1


def with_backward(function: Callable, backward: Callable) -> Callable:
    """A function of one array whose gradient is `backward(x)`, right or wrong."""
    wrapped = jax.custom_vjp(function)
    wrapped.defvjp(lambda x: (function(x), x), lambda x, g: (g * backward(x),))
    return wrapped


def with_forward(function: Callable, derivative: Callable) -> Callable:
    wrapped = jax.custom_jvp(function)
    wrapped.defjvps(lambda t, y, x: derivative(x, t))
    return wrapped


rng = np.random.default_rng(0)
x3 = np.array([0.3, -1.2, 2.0], np.float32)
x8 = rng.normal(size=8).astype(np.float32)
square = rng.normal(size=(4, 4)).astype(np.float32)
batch = rng.normal(size=(5, 3)).astype(np.float32)
big = rng.normal(size=1_000_000).astype(np.float32)
ramp = jnp.arange(5.0)
mixing = rng.normal(size=(4, 4)).astype(np.float32)
mixing16 = jnp.asarray(mixing, jnp.bfloat16)


def device(value: Any) -> Any:
    return jnp.asarray(value) if isinstance(value, np.ndarray | np.generic) else value


def cube(x: Any) -> Any:
    return jnp.sum(x**3)


def cube_grad(x: Any) -> Any:
    return 3 * x**2


def one_off(x: Any) -> Any:
    return (3 * x**2).at[777_777].multiply(2)


def quadratic(x: Any) -> Any:
    return jnp.sum((x @ mixing) ** 2)


def batch_norm(x: Any) -> Any:
    return jnp.sum((x - x.mean()) / x.std() * jnp.arange(8.0)) ** 2


def attention(q: Any) -> Any:
    """Scores of later places masked by -inf."""
    scores = jnp.where(jnp.tril(jnp.ones((4, 4), bool)), q @ q.T, -jnp.inf)
    return jax.nn.softmax(scores) @ q


def sine_by_numpy(x: Any) -> Any:
    return jax.pure_callback(
        lambda a: np.sin(np.asarray(a)), jax.ShapeDtypeStruct(x.shape, x.dtype), x
    )


labels = jnp.array([0, 1, 2, 3])
onehot = jax.nn.one_hot(labels, 4)


def cross_entropy(z: Any) -> Any:
    return jnp.mean(fn.losses.softmax_cross_entropy(z, labels))


def brier(z: Any) -> Any:
    return jnp.sum(fn.losses.softmax_squared_error(z, labels))


def network(p: Any) -> Any:
    h = jnp.tanh(batch @ p["w"].T + jnp.broadcast_to(p["b"], (5, 4)))
    return jnp.mean(jnp.sum(h**2, axis=1))


def network_grad(
    p: Any, derivative: Callable = lambda h: 1 - h**2, over: Callable = jnp.sum
) -> Any:
    h = jnp.tanh(batch @ p["w"].T + jnp.broadcast_to(p["b"], (5, 4)))
    z_grad = 2 * h / 5 * derivative(h)
    return {"w": z_grad.T @ batch, "b": over(z_grad, axis=0)}


weights = {"w": jnp.asarray(rng.normal(size=(4, 3)).astype(np.float32)), "b": jnp.ones(4)}
complex3 = (x3 + 1j * x3[::-1]).astype(np.complex64)


def right(name: str, function: Callable, *args: Any, **options: Any) -> Case:
    return Case(name, function, tuple(map(device, args)), True, **options)


def wrong(name: str, function: Callable, *args: Any, **options: Any) -> Case:
    return Case(name, function, tuple(map(device, args)), False, **options)


def wrong_cube(name: str, factor: Callable, looks_like: str, x: Any = x8, **options: Any) -> Case:
    return wrong(name, with_backward(cube, factor), x, looks_like=looks_like, **options)


CASES = [
    right("float32 inputs", lambda x: jnp.sum(jnp.sin(x) * x), x8),
    right("relu at 0", lambda x: jnp.sum(fn.activations.relu(x)), np.array([0.0, 1.0], np.float32)),
    right("relu at 1e-7", lambda x: jnp.sum(jax.nn.relu(x)), np.array([1e-7, -1e-7], np.float32)),
    right("abs at 0", lambda x: jnp.abs(x), np.float32(0)),
    right("a tie of a maximum", jnp.max, np.ones(3, np.float32)),
    right("maxout tie", lambda x: fn.activations.maxout(x).sum(), np.ones((2, 3), np.float32)),
    right("offset by 1e6", lambda x: 1e6 + jnp.sum(jnp.sin(x)), x3),
    right("values of 1e-20", lambda x: jnp.sum(x**2), x3 * np.float32(1e-15)),
    right("values of 1e20", lambda x: jnp.sum(jnp.sqrt(jnp.abs(x))), x3 * np.float32(1e20)),
    right("logsumexp at 1e4", jax.nn.logsumexp, np.array([1e4, -1e4, 1e4 - 1], np.float32)),
    right(
        "deep chain", lambda x: jnp.sum(jax.lax.fori_loop(0, 30, lambda _, y: jnp.sin(y), x)), x3
    ),
    right("scalar", jnp.exp, 1.5),
    right("empty", lambda t: jnp.sum(t["a"]) + jnp.sum(t["b"]), {"a": np.ones(0), "b": x3}),
    right(
        "dict of linear",
        lambda p: jnp.sum((p["l"].weight @ x3 + p["l"].bias) ** 2),
        {"l": fn.Linear(jnp.asarray(batch), jnp.ones(5)), "n": None},
    ),
    right("integer leaf", lambda p: p["x"] ** 2 * p["n"], {"x": 2.0, "n": 3}),
    right(
        "random key", lambda x, k: jnp.sum(x * jax.random.normal(k, x.shape)), x3, jax.random.key(0)
    ),
    right("bfloat16", lambda x: jnp.sum(jnp.tanh(x)), jnp.asarray(x3, jnp.bfloat16)),
    right("float16", lambda x: jnp.sum(jnp.tanh(x)), jnp.asarray(x3, jnp.float16)),
    right("astype float32 inside", lambda x: jnp.sum(jnp.sin(x.astype(jnp.float32))), x3),
    right("stop_gradient", lambda x: jnp.sum(x * jax.lax.stop_gradient(x)), x3),
    right("straight through", lambda x: jnp.sum(x + jax.lax.stop_gradient(jnp.round(x) - x)), x3),
    right("constant", lambda x: jnp.sum(x * 0 + 1), x3),
    right("softmax sums to 1", lambda x: jnp.sum(jax.nn.softmax(x)), x3),
    right("cube at 0", cube, np.zeros(3, np.float32)),
    right("sort", lambda x: jnp.sum(jnp.sort(x) * jnp.arange(3.0)), x3),
    right("clip", lambda x: jnp.sum(jnp.clip(x, -1, 1)), x3),
    right("floor", lambda x: jnp.sum(jnp.floor(x) * x), x3),
    right("sqrt at tiny x", lambda x: jnp.sum(jnp.sqrt(x)), np.array([1e-12, 1e-20], np.float32)),
    right(
        "log of many scales", lambda x: jnp.sum(jnp.log(x)), np.array([1e-20, 1, 1e20], np.float32)
    ),
    right("gammaln", lambda x: jnp.sum(jax.lax.lgamma(jnp.abs(x))), x3),
    right("erf", lambda x: jnp.sum(jax.lax.erf(x)), x3),
    right("cholesky", lambda a: jnp.sum(jnp.linalg.cholesky(a @ a.T + 4 * jnp.eye(4))), square),
    right("solve", lambda a: jnp.sum(jnp.linalg.solve(a + 5 * jnp.eye(4), jnp.ones(4))), square),
    right("fft", lambda x: jnp.sum(jnp.abs(jnp.fft.fft(x)) ** 2), x8),
    right(
        "complex",
        lambda z: jnp.sum(jnp.abs(z) ** 2 + jnp.real(z**2)),
        (x3 + 1j * x3[::-1]).astype(np.complex64),
    ),
    right("scan", lambda x: jax.lax.scan(lambda c, y: (c * y + y, c), 1.0, x)[0], x8),
    right("while", lambda x: jax.lax.while_loop(lambda y: y < 100.0, lambda y: y * y, x), 1.7),
    right("cond", lambda x: jax.lax.cond(x > 0, jnp.sin, jnp.cos, x), 0.4),
    right("python if", lambda x: x**2 if x > 0 else -x, 0.4),
    right("remat, vmap, jit", lambda x: jnp.sum(jax.jit(jax.vmap(jax.checkpoint(jnp.sin)))(x)), x8),
    right("array output", lambda x: {"a": jnp.sin(x), "b": jnp.outer(x, x)}, x3),
    right("custom_vjp", with_backward(cube, cube_grad), x8),
    right("custom_jvp", with_forward(lambda x: x**2, lambda x, t: 2 * x * t), 1.5),
    right("second order", lambda x: jnp.sum(jnp.sin(x) * x), x3, order=2),
    right("by hand", cube, x8, hand=cube_grad),
    right("a million", cube, big),
    right("batch norm", batch_norm, x8 + 100),
    right(
        "softmax cross entropy, sure",
        cross_entropy,
        np.diag([28.0, 30.0, 2.0, 1.0]).astype(np.float32),
    ),
    right("lost in rounding", lambda z: -jax.nn.log_softmax(z)[0], np.array([60.0, 0, 1])),
    right("gradient of rounding only", lambda x: jnp.sum(x - x.mean()), x8 + 100),
    right("attention with a mask", attention, square),
    right(
        "bfloat16 inside", lambda w: jnp.sum(jnp.tanh(w.astype(jnp.bfloat16) @ mixing16)), square
    ),
    right(
        "float16 of 30,000", lambda x: jnp.sum(x / 8), jnp.asarray([3e4, -2e4, 9.0], jnp.float16)
    ),
    right("1e5 terms", lambda x: jnp.sum(jnp.sin(x * jnp.arange(1e5))), np.float32(0.3)),
    right("sin of 1e5 x", lambda x: jnp.sum(jnp.sin(1e5 * x)), x3),
    right("chaos", lambda x: jax.lax.fori_loop(0, 20, lambda _, y: 3.9 * y * (1 - y), x), 0.3),
    right("vanishing", lambda x: jax.lax.fori_loop(0, 99, lambda _, y: jnp.tanh(y / 2), x), x3),
    right(
        "max pool",
        lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (2, 2), (2, 2), "VALID"),
        square,
    ),
    right("eigh", lambda a: jnp.linalg.eigvalsh(a + a.T) * jnp.arange(1.0, 5), square),
    right("interpolation at its knots", lambda x: jnp.interp(x, ramp, ramp**2), np.float32(2)),
    right("hinge at its kink", lambda x: jnp.sum(jnp.maximum(0, 1 - x)), np.array([1.0, 0.3])),
    right("jump", lambda x: x * jnp.floor(x), 2.0),
    right("pure_callback", with_backward(sine_by_numpy, jnp.cos), x3),
    right("second order of an array", jnp.sin, x3, order=2),
    right(
        "complex by hand", lambda z: jnp.sum(jnp.abs(z) ** 2), complex3, hand=lambda z: 2 * z.conj()
    ),
    wrong_cube("all zeros", lambda x: 0 * x, "zero"),
    wrong_cube("times 3", lambda x: 9 * x**2, "a constant factor, 3"),
    wrong_cube("sign", lambda x: -3 * x**2, "sign flipped"),
    wrong_cube("half", lambda x: 1.5 * x**2, "a constant factor, 0.5"),
    wrong_cube("1 % off", lambda x: 3.03 * x**2, "a constant factor, 1.01"),
    wrong_cube("up to a constant", lambda x: 3 * x**2 + 0.5, "right up to a constant"),
    wrong_cube("NaN", lambda x: (3 * x**2).at[2].set(jnp.nan), "NaN", index=(2,)),
    wrong_cube("one of a million", one_off, "one element", big, index=(777_777,)),
    wrong_cube("one of eight", lambda x: (3 * x**2).at[5].add(1), "one element", index=(5,)),
    wrong_cube("where x < 0", lambda x: jnp.where(x < 0, x, 3 * x**2), "argument is negative"),
    wrong_cube("off by one", lambda x: jnp.roll(3 * x**2, 1), "shifted by one"),
    wrong_cube("off by one in a slice", lambda x: (3 * x**2).at[-1].set(0), "zero", index=(7,)),
    wrong_cube(
        "one row",
        lambda x: (3 * x**2).at[2].multiply(jnp.array([3.0, 5, 7, 2])),
        "in row 2",
        square,
    ),
    wrong(
        "transposed",
        with_backward(quadratic, lambda x: (2 * x @ mixing @ mixing.T).T),
        square,
        looks_like="transposed",
    ),
    wrong(
        "mean's 1/m",
        lambda x: jnp.mean(jnp.sum(x**2, axis=1)),
        batch,
        hand=lambda x: 2 * x,
        looks_like="the mean's 1/m is missing",
    ),
    wrong(
        "swapped leaves",
        lambda p: jnp.sum(p["a"] ** 2) + 3 * jnp.sum(p["b"]),
        {"a": x3, "b": x3},
        hand=lambda p: {"a": 3 + 0 * p["a"], "b": 2 * p["b"]},
        looks_like="the gradient of p['b']",
    ),
    wrong(
        "values of 1e-20",
        with_backward(cube, lambda x: 4 * x**2),
        x3 * np.float32(1e-8),
        looks_like="a constant factor",
    ),
    wrong(
        "wrong branch",
        with_backward(
            lambda x: jnp.where(x > 0, jnp.sin(x), jnp.cos(x)),
            lambda x: jnp.where(x > 0, -jnp.sin(x), jnp.cos(x)),
        ),
        np.float32(0.4),
        looks_like="a constant factor",
    ),
    wrong(
        "beside a logsumexp",
        lambda x: jax.nn.logsumexp(x) + with_backward(cube, lambda x: x**2)(x),
        x8,
    ),
    wrong("outside a kink", with_backward(lambda x: jnp.abs(x), lambda x: 2 + x), np.float32(0)),
    wrong(
        "only forward",
        with_forward(lambda x: jnp.sum(x**2), lambda x, t: jnp.sum(2.5 * x * t)),
        x3,
        looks_like="a constant factor, 1.25",
    ),
    wrong(
        "second order",
        with_backward(cube, with_forward(cube_grad, lambda x, t: 5 * x * t)),
        x3,
        order=2,
        looks_like="a constant factor, 0.8333",
    ),
    wrong_cube("0.1 % off", lambda x: 3.003 * x**2, "a constant factor, 1.001"),
    wrong_cube("infinite", lambda x: (3 * x**2).at[3].set(jnp.inf), "infinite", index=(3,)),
    wrong_cube(
        "two of a million that cancel",
        lambda x: (3 * x**2).at[jnp.array([7, 900_000])].add(jnp.array([1.0, -1.0])),
        "wrong at 2",
        big,
    ),
    wrong_cube(
        "only in float32",
        lambda x: (6 if x.dtype == jnp.float32 else 3) * x**2,
        "right in float64, not in float32",
    ),
    wrong(
        "softmax without its other terms",
        brier,
        square,
        hand=lambda z: (p := jax.nn.softmax(z)) * (1 - p) * 2 * (p - onehot),
    ),
    wrong(
        "one class",
        cross_entropy,
        square,
        hand=lambda z: ((jax.nn.softmax(z) - onehot) / 4).at[:, 2].multiply(1.5),
        looks_like="a constant factor, 1.5 in column 2",
    ),
    wrong(
        "last example forgotten",
        cross_entropy,
        square,
        hand=lambda z: ((jax.nn.softmax(z) - onehot) / 4).at[-1].set(0),
        looks_like="zero in row 3",
    ),
    wrong(
        "onehot forgotten",
        cross_entropy,
        square,
        hand=lambda z: jax.nn.softmax(z) / 4,
        looks_like="right up to a constant, 0.25",
    ),
    wrong("activation' forgotten", network, weights, hand=lambda p: network_grad(p, jnp.ones_like)),
    wrong(
        "bias: mean for sum",
        network,
        weights,
        hand=lambda p: network_grad(p, over=jnp.mean),
        looks_like="5 times too small",
    ),
    wrong(
        "learning rate",
        network,
        weights,
        hand=lambda p: jax.tree.map(lambda g: 0.01 * g, network_grad(p)),
        looks_like="a constant factor, 0.01",
    ),
    wrong(
        "one leaf zero",
        network,
        weights,
        hand=lambda p: network_grad(p) | {"b": jnp.zeros(4)},
        looks_like="zero",
    ),
    wrong(
        "conjugated",
        lambda z: jnp.sum(jnp.abs(z) ** 2),
        complex3,
        hand=lambda z: 2 * z,
        looks_like="sign flipped in the imaginary parts",
    ),
    wrong(
        "imaginary parts forgotten",
        lambda z: jnp.sum(jnp.abs(z) ** 2),
        complex3,
        hand=lambda z: jax.lax.complex(2 * z.real, 0 * z.imag),
        looks_like="zero in the imaginary parts",
    ),
    wrong_cube(
        "sign where x < 0",
        lambda x: 3 * x * jnp.abs(x),
        "sign flipped where the argument is negative",
    ),
    wrong_cube("bfloat16", lambda x: 9 * x**2, "a constant factor, 3", x8.astype(jnp.bfloat16)),
    wrong("hand, sign", cube, x8, hand=lambda x: -3 * x**2, looks_like="sign flipped"),
    wrong("hand, a million", cube, big, hand=one_off, looks_like="one element", index=(777_777,)),
]


UNTRACEABLE = {
    "a Python if": (lambda x: jnp.sum(x**2) if x[1] < 0 else x[0], lambda x: 2 * x),
    "a mask": (lambda x: jnp.sum(x[x > 0] ** 2), lambda x: 2 * jnp.maximum(x, 0)),
    "a while loop": (
        lambda x: jax.lax.while_loop(lambda y: y[0] < 9, lambda y: 2 * y, x).sum(),
        lambda x: jnp.full_like(x, 32),
    ),
    "a callback": (lambda x: jnp.sum(sine_by_numpy(x)), jnp.cos),
    "no rule": (lambda x: jnp.sum(jax.lax.nextafter(x, 2 * x)), jnp.ones_like),
}
"""Functions that JAX cannot trace, differentiate or batch, with their gradients."""


def verdict_of_funcnet(case: Case) -> bool:
    report = fn.check_gradients(case.function, *case.args, hand=case.hand, order=case.order)
    return report.verdict == "pass"


def verdict_of_jax(case: Case) -> bool:
    if case.hand is not None:
        raise TypeError("check_grads: takes no gradient by hand")
    check_grads(case.function, case.args, order=case.order, modes=["rev"])
    return True


def verdict_of_chex(case: Case) -> bool:
    if case.hand is not None:
        raise TypeError("assert_numerical_grads: takes no gradient by hand")
    args = jax.tree.map(jnp.asarray, case.args)
    chex.assert_numerical_grads(case.function, args, order=case.order, modes=["rev"])
    return True


def verdict_of_torch(case: Case) -> bool:
    """`gradcheck` of the function as one of PyTorch's, its backward from JAX or by hand."""
    import torch

    (x,) = case.args
    if np.size(x) > 10_000:
        raise MemoryError("gradcheck: where it finds a difference it builds the whole Jacobian")
    backward = case.hand or jax.grad(case.function)

    class Wrapped(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return torch.from_numpy(np.array(case.function(jnp.asarray(x.numpy()))))

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (x,) = ctx.saved_tensors
            return torch.from_numpy(np.array(backward(jnp.asarray(x.numpy())))) * g

    argument = torch.from_numpy(np.array(x)).requires_grad_()
    checker = torch.autograd.gradcheck if case.order == 1 else torch.autograd.gradgradcheck
    return checker(Wrapped.apply, (argument,), raise_exception=False)


def count(verdict: Callable[[Case], bool]) -> dict[str, int]:
    """False alarms, misses, and the cases that the checker cannot take."""
    outcome = {"false alarms": 0, "misses": 0, "cannot take": 0}
    for case in CASES:
        try:
            passed = verdict(case)
        except AssertionError:
            passed = False
        except Exception:
            outcome["cannot take"] += 1
            continue
        outcome["false alarms"] += case.right and not passed
        outcome["misses"] += not case.right and passed
    return outcome


if __name__ == "__main__":
    print(f"{len(CASES)} cases")
    print("funcnet.check_gradients     ", count(verdict_of_funcnet))
    print("jax.test_util.check_grads   ", count(verdict_of_jax))
    print("chex.assert_numerical_grads ", count(verdict_of_chex))
    print("torch.autograd.gradcheck    ", count(verdict_of_torch))
