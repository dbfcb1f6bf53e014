"""Local derivatives, derived by hand: one line a primitive, as on a page of calculus.

For `y = f(a, b, ...)` and the adjoint of the result, `ȳ = ∂L/∂y`, a rule says what an operand
receives: `ā = ȳ · ∂y/∂a`. Elementwise operations have a derivative that is an array, their *slope*;
the others are linear maps, and their rule is the transposed map. `jax` is used for its arrays
alone: nothing in this file differentiates.

Where a function has a kink the rules follow JAX, half to each operand at a tie of `max`, but for
two that follow PyTorch: `abs` has slope 0 at 0, where JAX has 1, and `a^b` has slope 0 by `a` where
`b` is 0, also at 0⁰, where JAX has NaN.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Shaped

Axes: TypeAlias = tuple[Any, ...]
"""Numbers of axes: of `int`, and under `vmap` of NumPy's integers."""


class Rule(NamedTuple):
    """What one operand receives from the adjoint of the result.

    Attributes:
      formula: the derivative, with `{y}` for the result and `{a}`, `{b}`, `{c}` for the operands;
        of a linear map what becomes of the adjoint, `ȳ`.
      pull: `pull(ȳ, y, *operands) -> ā`.
      elementwise: whether `∂y/∂a` is an array: each element depends on its own alone.
    """

    formula: str
    pull: Callable[..., Array]
    elementwise: bool


def slope(formula: str, derivative: Callable[..., Any]) -> Rule:
    """The rule of an elementwise operation: `ā = ȳ · derivative(y, *operands)`.

    >>> square = slope("2 {a}", lambda y, a: 2 * a)
    >>> square.pull(jnp.array(10.0), jnp.array(9.0), jnp.array(3.0))
    Array(60., dtype=float32, weak_type=True)
    """
    return Rule(
        formula=formula,
        pull=lambda ȳ, y, *operands: ȳ * _like(ȳ, derivative(y, *operands)),
        elementwise=True,
    )


def linear(formula: str, transposed: Callable[[Array], Array]) -> Rule:
    """The rule of a linear map: `ā = transposed(ȳ)`.

    >>> total = linear("ȳ, to each", lambda ȳ: jnp.broadcast_to(ȳ, (3,)))
    >>> total.pull(jnp.array(2.0), jnp.array(6.0), jnp.ones(3))
    Array([2., 2., 2.], dtype=float32, weak_type=True)
    """
    return Rule(formula=formula, pull=lambda ȳ, *_: transposed(ȳ), elementwise=False)


def _like(ȳ: Array, derivative: Any) -> Any:
    """Booleans as numbers of ȳ's type; numbers as they are."""
    dtype = getattr(derivative, "dtype", None)
    return derivative if dtype is None or dtype == ȳ.dtype else derivative.astype(ȳ.dtype)


def _share(a: Array, b: Array) -> Array:
    """1 where a is larger, 1/2 at a tie, 0 where b is."""
    return ((a > b).astype(a.dtype) + (a >= b).astype(a.dtype)) / 2


def _nonzero(a: Array) -> Array:
    return jnp.where(a == 0, jnp.ones_like(a), a)


SLOPES: Mapping[str, tuple[Rule, ...]] = MappingProxyType(
    {
        # arithmetic
        "add": (slope("1", lambda y, a, b: 1), slope("1", lambda y, a, b: 1)),
        "add_any": (slope("1", lambda y, a, b: 1), slope("1", lambda y, a, b: 1)),
        "sub": (slope("1", lambda y, a, b: 1), slope("−1", lambda y, a, b: -1)),
        "mul": (slope("{b}", lambda y, a, b: b), slope("{a}", lambda y, a, b: a)),
        "div": (
            slope("1 / {b}", lambda y, a, b: 1 / b),
            slope("−{y} / {b}", lambda y, a, b: -y / b),
        ),
        "neg": (slope("−1", lambda y, a: -1),),
        # powers
        "pow": (
            slope("{b} {a}^({b} − 1)", lambda y, a, b: b * a ** jnp.where(b == 0, 1, b - 1)),
            slope("{y} log {a}", lambda y, a, b: y * jnp.log(_nonzero(a))),
        ),
        "square": (slope("2 {a}", lambda y, a: 2 * a),),
        "sqrt": (slope("1 / (2 {y})", lambda y, a: 0.5 / y),),
        "rsqrt": (slope("−{y} / (2 {a})", lambda y, a: -0.5 * y / a),),
        "cbrt": (slope("{y} / (3 {a})", lambda y, a: y / (3 * a)),),
        # exponentials and logarithms
        "exp": (slope("{y}", lambda y, a: y),),
        "exp2": (slope("{y} log 2", lambda y, a: y * math.log(2)),),
        "expm1": (slope("{y} + 1", lambda y, a: y + 1),),
        "log": (slope("1 / {a}", lambda y, a: 1 / a),),
        "log1p": (slope("1 / (1 + {a})", lambda y, a: 1 / (1 + a)),),
        "logistic": (slope("{y} (1 − {y})", lambda y, a: y * (1 - y)),),
        "erf": (slope("2/√π e^(−{a}²)", lambda y, a: 2 / math.sqrt(math.pi) * jnp.exp(-a * a)),),
        "erfc": (slope("−2/√π e^(−{a}²)", lambda y, a: -2 / math.sqrt(math.pi) * jnp.exp(-a * a)),),
        # trigonometry
        "sin": (slope("cos {a}", lambda y, a: jnp.cos(a)),),
        "cos": (slope("−sin {a}", lambda y, a: -jnp.sin(a)),),
        "tan": (slope("1 + {y}²", lambda y, a: 1 + y * y),),
        "asin": (slope("1 / √(1 − {a}²)", lambda y, a: lax.rsqrt(1 - a * a)),),
        "acos": (slope("−1 / √(1 − {a}²)", lambda y, a: -lax.rsqrt(1 - a * a)),),
        "atan": (slope("1 / (1 + {a}²)", lambda y, a: 1 / (1 + a * a)),),
        "atan2": (
            slope("{b} / ({a}² + {b}²)", lambda y, a, b: b / (a * a + b * b)),
            slope("−{a} / ({a}² + {b}²)", lambda y, a, b: -a / (a * a + b * b)),
        ),
        "sinh": (slope("cosh {a}", lambda y, a: jnp.cosh(a)),),
        "cosh": (slope("sinh {a}", lambda y, a: jnp.sinh(a)),),
        "tanh": (slope("1 − {y}²", lambda y, a: (1 - y) * (1 + y)),),
        # kinks and steps
        "max": (
            slope("[{a} > {b}]", lambda y, a, b: _share(a, b)),
            slope("[{b} > {a}]", lambda y, a, b: _share(b, a)),
        ),
        "min": (
            slope("[{a} < {b}]", lambda y, a, b: _share(b, a)),
            slope("[{b} < {a}]", lambda y, a, b: _share(a, b)),
        ),
        "abs": (slope("sign {a}", lambda y, a: jnp.sign(a)),),
        "sign": (slope("0", lambda y, a: jnp.zeros_like(a)),),
        "floor": (slope("0", lambda y, a: jnp.zeros_like(a)),),
        "ceil": (slope("0", lambda y, a: jnp.zeros_like(a)),),
        "round": (slope("0", lambda y, a: jnp.zeros_like(a)),),
        # identities
        "copy": (slope("1", lambda y, a: 1),),
        "copy_p": (slope("1", lambda y, a: 1),),
    }
)
"""Elementwise operations: one slope an operand, in the order of the operands."""


def _integer_pow(a: Array, *, y: int) -> tuple[Rule, ...]:
    n = y
    if n == 0:
        return (slope("0", lambda _, a: jnp.zeros_like(a)),)  # 0 · a⁻¹ would be NaN at 0
    formula = {2: "2 {a}", 3: "3 {a}²", -1: "−{y} / {a}"}.get(n, f"{n} {{a}}^{n - 1}")
    return (slope(formula.replace("-", "−"), lambda _, a: n * a ** (n - 1)),)


def _select_n(which: Array, *cases: Array) -> tuple[Rule, ...]:
    """Zeros are put where another case was chosen: 0 · ∞ would be NaN."""

    def chosen(k: int) -> Rule:
        return Rule(
            formula=f"[{{a}} = {bool(k) if which.dtype == bool else k}]",
            pull=lambda ȳ, *_: jnp.where(
                which == jnp.asarray(k, which.dtype), ȳ, jnp.zeros_like(ȳ)
            ),
            elementwise=which.shape == cases[k].shape,
        )

    return (slope("0", lambda *_: 0), *(chosen(k) for k in range(len(cases))))


def _clamp(low: Array, a: Array, high: Array) -> tuple[Rule, ...]:
    return (
        slope("[{a} > {b}]", lambda *_: (low > a) & (low < high)),
        slope("[{a} < {b} < {c}]", lambda *_: (low < a) & (a < high)),
        slope("[{c} < {b}]", lambda *_: high < a),
    )


def _convert_element_type(a: Array, *, new_dtype: Any, **_: Any) -> tuple[Rule, ...]:
    """Of a number that becomes complex only the real part of the adjoint is a derivative by it."""
    if jnp.issubdtype(new_dtype, jnp.complexfloating):
        return (linear("Re ȳ", lambda ȳ: ȳ.real.astype(a.dtype)),)
    return (Rule(formula="1", pull=lambda ȳ, *_: ȳ.astype(a.dtype), elementwise=True),)


def _stop_gradient(a: Array) -> tuple[Rule, ...]:
    return (Rule(formula="0, as told", pull=lambda ȳ, *_: jnp.zeros_like(ȳ), elementwise=True),)


def _dot_general(
    a: Array, b: Array, *, dimension_numbers: Any, precision: Any, **_: Any
) -> tuple[Rule, ...]:
    """Both are the same sum over letters as the product itself, with other letters to sum."""
    (a_contract, b_contract), (a_batch, b_batch) = dimension_numbers
    A = list(range(a.ndim))
    B = list(range(a.ndim, a.ndim + b.ndim))
    for i, j in zip((*a_contract, *a_batch), (*b_contract, *b_batch), strict=True):
        B[j] = A[i]
    batch = [A[i] for i in a_batch]
    free = [i for i in A if i not in B] + [j for j in B if j not in A]

    def product(ȳ: Array, other: Array, letters: list[int], target: list[int]) -> Array:
        return jnp.einsum(
            ȳ, batch + free, other.astype(ȳ.dtype), letters, target, precision=precision
        )

    return (
        linear("ȳ {b}ᵀ", lambda ȳ: product(ȳ, b, B, A).astype(a.dtype)),
        linear("{a}ᵀ ȳ", lambda ȳ: product(ȳ, a, A, B).astype(b.dtype)),
    )


def _reduce_sum(a: Array, *, axes: Axes, **_: Any) -> tuple[Rule, ...]:
    return (linear("ȳ, to each", lambda ȳ: jnp.broadcast_to(jnp.expand_dims(ȳ, axes), a.shape)),)


def _reduce_extremum(a: Array, *, axes: Axes, **_: Any) -> tuple[Rule, ...]:
    """The largest (or smallest) receive the adjoint, in equal shares."""

    def shared(ȳ: Array, y: Array, a: Array) -> Array:
        winners = (a == jnp.expand_dims(y, axes)).astype(ȳ.dtype)
        return winners * jnp.expand_dims(ȳ / winners.sum(axes), axes)

    return (Rule(formula="ȳ, to where {a} = {y}", pull=shared, elementwise=False),)


def _broadcast_in_dim(
    a: Array,
    *_: Any,
    shape: tuple[int, ...],
    broadcast_dimensions: Axes,
    **__: Any,
) -> tuple[Rule, ...]:
    new = tuple(i for i in range(len(shape)) if i not in broadcast_dimensions)
    stretched = tuple(i for i, j in enumerate(broadcast_dimensions) if a.shape[i] != shape[j])
    return (linear("Σ ȳ", lambda ȳ: ȳ.sum(new).sum(stretched, keepdims=True)),)


def _reshape(a: Array, *_: Any, **__: Any) -> tuple[Rule, ...]:
    return (linear("ȳ, reshaped", lambda ȳ: ȳ.reshape(a.shape)),)


def _transpose(a: Array, *, permutation: Axes) -> tuple[Rule, ...]:
    back = tuple(int(i) for i in np.argsort(permutation))
    return (linear("ȳᵀ", lambda ȳ: ȳ.transpose(back)),)


def _concatenate(*operands: Array, dimension: Any) -> tuple[Rule, ...]:
    ends = np.cumsum([a.shape[dimension] for a in operands]).tolist()
    bounds = zip([0, *ends], ends, strict=False)

    def part(start: int, end: int) -> Rule:
        return linear("its part of ȳ", lambda ȳ: lax.slice_in_dim(ȳ, start, end, axis=dimension))

    return tuple(part(start, end) for start, end in bounds)


def _slice(a: Array, *, start_indices: Any, limit_indices: Any, strides: Any) -> tuple[Rule, ...]:
    where = tuple(
        slice(start, limit, stride)
        for start, limit, stride in zip(
            start_indices, limit_indices, strides or (1,) * a.ndim, strict=True
        )
    )
    return (linear("ȳ, in its place", lambda ȳ: jnp.zeros_like(a).at[where].set(ȳ)),)


def _gather(
    a: Array, indices: Array, *, dimension_numbers: Any, mode: Any, **_: Any
) -> tuple[Rule, ...]:
    """What was read from one place by several is added up there."""
    d = dimension_numbers
    numbers = lax.ScatterDimensionNumbers(
        update_window_dims=d.offset_dims,
        inserted_window_dims=d.collapsed_slice_dims,
        scatter_dims_to_operand_dims=d.start_index_map,
        operand_batching_dims=d.operand_batching_dims,
        scatter_indices_batching_dims=d.start_indices_batching_dims,
    )
    return (
        linear(
            "ȳ, added where it was read",
            lambda ȳ: lax.scatter_add(jnp.zeros_like(a), indices, ȳ, numbers, mode=mode),
        ),
    )


def _cumsum(a: Array, *, axis: Any, reverse: bool) -> tuple[Rule, ...]:
    return (linear("Σ ȳ from here on", lambda ȳ: lax.cumsum(ȳ, axis=axis, reverse=not reverse)),)


def _rev(a: Array, *, dimensions: Axes) -> tuple[Rule, ...]:
    return (linear("ȳ, reversed", lambda ȳ: lax.rev(ȳ, dimensions)),)


def _index(a: Array, *, at: int) -> tuple[Rule, ...]:
    return (linear("ȳ, in its place", lambda ȳ: jnp.zeros_like(a).at[at].set(ȳ)),)


def _stack(*operands: Array, axis: int = 0) -> tuple[Rule, ...]:
    def part(k: int) -> Rule:  # dynamic: one program for all k
        return linear(
            "its part of ȳ", lambda ȳ: lax.dynamic_index_in_dim(ȳ, k, axis, keepdims=False)
        )

    return tuple(map(part, range(len(operands))))


STRUCTURED: Mapping[str, Callable[..., tuple[Rule, ...]]] = MappingProxyType(
    {
        "integer_pow": _integer_pow,
        "select_n": _select_n,
        "clamp": _clamp,
        "convert_element_type": _convert_element_type,
        "stop_gradient": _stop_gradient,
        "dot_general": _dot_general,
        "reduce_sum": _reduce_sum,
        "reduce_max": _reduce_extremum,
        "reduce_min": _reduce_extremum,
        "broadcast_in_dim": _broadcast_in_dim,
        "reshape": _reshape,
        "squeeze": _reshape,
        "expand_dims": _reshape,
        "transpose": _transpose,
        "concatenate": _concatenate,
        "slice": _slice,
        "gather": _gather,
        "cumsum": _cumsum,
        "rev": _rev,
        "index": _index,  # one step's part of what a scan reads
        "stack": _stack,  # also what the steps of a scan return, put together
    }
)
"""Operations whose rules depend on shapes or parameters: `rule(*operands, **parameters)`."""

ELEMENTWISE: frozenset[str] = frozenset(SLOPES) | {
    "integer_pow",
    "select_n",
    "clamp",
    "convert_element_type",
    "stop_gradient",
}
"""The operations of both tables that work on each element alone."""


def rules(
    operation: str, operands: tuple[Shaped[Array, "..."], ...], parameters: Mapping[str, Any]
) -> tuple[Rule, ...] | None:
    """The hand-derived rules of an operation, one an operand; `None` if there are none.

    Complex numbers have none: there a derivative is not one number.

    >>> [rule.formula for rule in rules("mul", (jnp.array(2.0), jnp.array(3.0)), {})]
    ['{b}', '{a}']
    >>> rules("conv_general_dilated", (jnp.array(2.0), jnp.array(3.0)), {}) is None
    True
    """
    if any(jnp.issubdtype(a.dtype, jnp.complexfloating) for a in operands):
        return None
    if operation in SLOPES:
        return SLOPES[operation]
    if operation in STRUCTURED:
        return STRUCTURED[operation](*operands, **parameters)
    return None


def match_operand(
    contribution: Shaped[Array, "..."], operand: Shaped[Array, "..."]
) -> Shaped[Array, "..."]:
    """A contribution in its operand's shape: what was stretched beside an array receives the sum.

    >>> match_operand(jnp.ones(3), jnp.array(2.0))
    Array(3., dtype=float32)
    """
    if contribution.shape == operand.shape:
        return contribution
    new = tuple(range(contribution.ndim - operand.ndim))
    total = contribution.sum(new)
    stretched = tuple(i for i, size in enumerate(operand.shape) if size != total.shape[i])
    return total.sum(stretched, keepdims=True)
