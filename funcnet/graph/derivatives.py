"""Local derivatives, derived by hand: one line per primitive, as on a page of calculus.

For `y = f(a, b, ...)` and the adjoint of the result, `ȳ = ∂L/∂y`, a rule gives the contribution to
the adjoint of an operand: `ā = ȳ · ∂y/∂a`. An elementwise operation has a derivative that is an
array, its *slope*. The rest are linear maps, and their rule is the transposed map. `jax` is used
for its arrays alone: nothing in this file differentiates.

At a kink the rules follow JAX: half to each operand at a tie of `max`. Two follow PyTorch: `abs`
has slope 0 at 0, where JAX has 1; and `a^b` has slope 0 by `a` where `b` is 0, also at 0⁰, where
JAX has NaN.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Shaped

from funcnet.graph._notation import number


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """The local derivative of a result by one operand.

    Attributes:
      symbols: the derivative as a template, with `{y}`, `{a}`, `{b}`, `{c}` for the result and the
        operands; that of a linear map has `{ȳ}` for the adjoint it acts on.
      pull: `pull(ȳ, y, *operands) -> ā`.
      elementwise: whether `∂y/∂a` is an array: each element depends on its own alone.
    """

    symbols: str
    pull: Callable[..., Array]
    elementwise: bool


Rules: TypeAlias = tuple[Rule, ...]
"""One rule per operand, in the order of the operands."""


def slope(symbols: str, derivative: Callable[..., Any]) -> Rule:
    """Return the rule of an elementwise operation: `ā = ȳ · derivative(y, *operands)`.

    >>> square = slope("2 {a}", lambda y, a: 2 * a)
    >>> square.pull(jnp.array(10.0), jnp.array(9.0), jnp.array(3.0))
    Array(60., dtype=float32)
    """
    return Rule(
        symbols=symbols,
        pull=lambda ȳ, y, *operands: ȳ * jnp.asarray(derivative(y, *operands), ȳ.dtype),
        elementwise=True,
    )


def linear(symbols: str, transposed: Callable[[Array], Array]) -> Rule:
    """Return the rule of a linear map: `ā = transposed(ȳ)`.

    >>> total = linear("{ȳ}, to each", lambda ȳ: jnp.broadcast_to(ȳ, (3,)))
    >>> total.pull(jnp.array(2.0), jnp.array(6.0), jnp.ones(3))
    Array([2., 2., 2.], dtype=float32, weak_type=True)
    """
    return Rule(symbols=symbols, pull=lambda ȳ, *_: transposed(ȳ), elementwise=False)


def _share(a: Array, b: Array) -> Array:
    """Return 1 where a is larger, 1/2 at a tie, 0 where b is larger."""
    return ((a > b).astype(a.dtype) + (a >= b).astype(a.dtype)) / 2


def _bell(a: Array) -> Array:
    """Return σ′(a) with its tail: `σ(a) (1 − σ(a))` is 0 where σ(a) rounds to 1."""
    return 1 / (2 + (jnp.exp(a) + jnp.exp(-a)))


def _gaussian(a: Array) -> Array:
    return 2 / math.sqrt(math.pi) * jnp.exp(-a * a)


ONE = slope("1", lambda *_: 1)
MINUS_ONE = slope("−1", lambda *_: -1)
ZERO = Rule(symbols="0", pull=lambda ȳ, *_: jnp.zeros_like(ȳ), elementwise=True)  # 0 · ∞ is NaN

SLOPES: Mapping[str, Rules] = {
    # arithmetic
    "add": (ONE, ONE),
    "add_any": (ONE, ONE),
    "sub": (ONE, MINUS_ONE),
    "mul": (slope("{b!s}", lambda y, a, b: b), slope("{a!s}", lambda y, a, b: a)),
    "div": (slope("1 / {b}", lambda y, a, b: 1 / b), slope("−{y} / {b}", lambda y, a, b: -y / b)),
    "neg": (MINUS_ONE,),
    # powers
    "pow": (
        slope("{b} {a}^({b} − 1)", lambda y, a, b: b * a ** jnp.where(b == 0, 1, b - 1)),
        slope("{y} log {a}", lambda y, a, b: y * jnp.log(jnp.where(a == 0, 1, a))),
    ),
    "square": (slope("2 {a}", lambda y, a: 2 * a),),
    "sqrt": (slope("1 / (2 {y})", lambda y, a: 0.5 / y),),
    "rsqrt": (slope("−{y} / (2 {a})", lambda y, a: -0.5 * y / a),),
    "cbrt": (slope("{y} / (3 {a})", lambda y, a: y / (3 * a)),),
    # exponentials and logarithms
    "exp": (slope("{y!s}", lambda y, a: y),),
    "exp2": (slope("{y} log 2", lambda y, a: y * math.log(2)),),
    "expm1": (slope("{y} + 1", lambda y, a: y + 1),),
    "log": (slope("1 / {a}", lambda y, a: 1 / a),),
    "log1p": (slope("1 / (1 + {a})", lambda y, a: 1 / (1 + a)),),
    "logistic": (slope("{y} (1 − {y})", lambda y, a: _bell(a)),),
    "erf": (slope("2/√π e^(−{a}²)", lambda y, a: _gaussian(a)),),
    "erfc": (slope("−2/√π e^(−{a}²)", lambda y, a: -_gaussian(a)),),
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
    "tanh": (slope("1 − {y}²", lambda y, a: 4 * _bell(2 * a)),),
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
    "clamp": (
        slope("[{a} > {b}]", lambda y, low, x, high: (low > x) & (low < high)),
        slope("[{a} < {b} < {c}]", lambda y, low, x, high: (low < x) & (x < high)),
        slope("[{c} < {b}]", lambda y, low, x, high: high < x),
    ),
    **dict.fromkeys(("sign", "floor", "ceil", "round"), (ZERO,)),
    # identities
    "stop_gradient": (dataclasses.replace(ZERO, symbols="0, as told"),),
    **dict.fromkeys(("copy", "copy_p"), (ONE,)),
}
"""Elementwise operations: one slope per operand."""


def _integer_pow(a: Array, *, y: int) -> Rules:
    if y == 0:
        return (ZERO,)  # 0 · a⁻¹ would be NaN at 0
    written = {2: "2 {a}", 3: "3 {a}²", -1: "−{y} / {a}"}
    general = f"{number(y)} {{a}}^{number(y - 1)}"
    return (slope(written.get(y, general), lambda _, a: y * a ** (y - 1)),)


def _select_n(which: Array, *cases: Array) -> Rules:
    """Put zeros where another case was chosen: 0 · ∞ would be NaN."""

    def chosen(k: int) -> Rule:
        case = bool(k) if which.dtype == bool else k
        return Rule(
            symbols=f"[{{a}} = {case}]",
            pull=lambda ȳ, *_: jnp.where(which == case, ȳ, jnp.zeros_like(ȳ)),
            elementwise=which.shape == cases[k].shape,
        )

    return (ZERO, *map(chosen, range(len(cases))))


def _convert_element_type(a: Array, *, new_dtype: Any, **_: Any) -> Rules:
    """Take the real part of the adjoint of a number that becomes complex."""
    if jnp.issubdtype(new_dtype, jnp.complexfloating):
        return (linear("Re {ȳ}", lambda ȳ: ȳ.real.astype(a.dtype)),)
    return (dataclasses.replace(ONE, pull=lambda ȳ, *_: ȳ.astype(a.dtype)),)


def _dot_general(a: Array, b: Array, *, dimension_numbers: Any, precision: Any, **_: Any) -> Rules:
    """Sum over letters as the product itself does, with different letters summed."""
    (a_contract, b_contract), (a_batch, b_batch) = dimension_numbers
    A = list(range(a.ndim))
    B = list(range(a.ndim, a.ndim + b.ndim))
    for i, j in zip((*a_contract, *a_batch), (*b_contract, *b_batch), strict=True):
        B[j] = A[i]
    result = [A[i] for i in a_batch] + [i for i in A if i not in B] + [j for j in B if j not in A]

    def product(ȳ: Array, factor: Array, letters: list[int], operand: Array, to: list[int]) -> Any:
        factor = factor.astype(ȳ.dtype)
        return jnp.einsum(ȳ, result, factor, letters, to, precision=precision).astype(operand.dtype)

    return (
        linear("{ȳ} {b}ᵀ", lambda ȳ: product(ȳ, b, B, a, A)),
        linear("{a}ᵀ {ȳ}", lambda ȳ: product(ȳ, a, A, b, B)),
    )


def _reduce_extremum(a: Array, *, axes: Any, **_: Any) -> Rules:
    """Give the adjoint to the largest (or smallest) elements, in equal shares."""

    def shared(ȳ: Array, y: Array, a: Array) -> Array:
        winners = (a == jnp.expand_dims(y, axes)).astype(ȳ.dtype)
        return winners * jnp.expand_dims(ȳ / winners.sum(axes), axes)

    return (Rule(symbols="{ȳ}, to where {a} = {y}", pull=shared, elementwise=False),)


def _broadcast_in_dim(a: Array, *, shape: Any, broadcast_dimensions: Any, **_: Any) -> Rules:
    new = tuple(i for i in range(len(shape)) if i not in broadcast_dimensions)
    return (linear("Σ {ȳ}", lambda ȳ: match_operand(ȳ.sum(new), a)),)


def _concatenate(*operands: Array, dimension: Any) -> Rules:
    ends = np.cumsum([a.shape[dimension] for a in operands]).tolist()

    def part(start: int, end: int) -> Rule:
        return linear("its part of {ȳ}", lambda ȳ: lax.slice_in_dim(ȳ, start, end, axis=dimension))

    return tuple(map(part, [0, *ends[:-1]], ends))


def _slice(a: Array, *, start_indices: Any, limit_indices: Any, strides: Any) -> Rules:
    where = tuple(map(slice, start_indices, limit_indices, strides or (1,) * a.ndim))
    return (linear("{ȳ}, in its place", lambda ȳ: jnp.zeros_like(a).at[where].set(ȳ)),)


def _gather(a: Array, indices: Array, *, dimension_numbers: Any, mode: Any, **_: Any) -> Rules:
    """Add up what was read several times."""
    d = dimension_numbers
    numbers = lax.ScatterDimensionNumbers(
        update_window_dims=d.offset_dims,
        inserted_window_dims=d.collapsed_slice_dims,
        scatter_dims_to_operand_dims=d.start_index_map,
        operand_batching_dims=d.operand_batching_dims,
        scatter_indices_batching_dims=d.start_indices_batching_dims,
    )

    def added(ȳ: Array) -> Array:
        return lax.scatter_add(jnp.zeros_like(a), indices, ȳ, numbers, mode=mode)

    return (linear("{ȳ}, added where it was read", added), ZERO)


def _stack(*operands: Array, axis: int = 0) -> Rules:
    def part(k: int) -> Rule:  # dynamic: one compiled program for all k
        part_of = functools.partial(lax.dynamic_index_in_dim, index=k, axis=axis, keepdims=False)
        return linear("its part of {ȳ}", part_of)

    return tuple(map(part, range(len(operands))))


STRUCTURED: Mapping[str, Callable[..., Rules]] = {
    "integer_pow": _integer_pow,
    "select_n": _select_n,
    "convert_element_type": _convert_element_type,
    "dot_general": _dot_general,
    # reductions and their opposites
    "reduce_sum": lambda a, *, axes, **_: (
        linear("{ȳ}, to each", lambda ȳ: jnp.broadcast_to(jnp.expand_dims(ȳ, axes), a.shape)),
    ),
    **dict.fromkeys(("reduce_max", "reduce_min"), _reduce_extremum),
    "broadcast_in_dim": _broadcast_in_dim,
    "cumsum": lambda a, *, axis, reverse: (
        linear("Σ {ȳ} from here on", lambda ȳ: lax.cumsum(ȳ, axis, not reverse)),
    ),
    # other shapes, other orders
    **dict.fromkeys(
        ("reshape", "squeeze", "expand_dims"),
        lambda a, **_: (linear("{ȳ}, reshaped", lambda ȳ: ȳ.reshape(a.shape)),),
    ),
    "transpose": lambda a, *, permutation: (
        linear("{ȳ}ᵀ", lambda ȳ: ȳ.transpose(np.argsort(permutation))),
    ),
    "rev": lambda a, *, dimensions: (linear("{ȳ}, reversed", lambda ȳ: lax.rev(ȳ, dimensions)),),
    # parts and wholes
    "concatenate": _concatenate,
    "stack": _stack,  # also the results of a scan's turns, put together
    "slice": _slice,
    "gather": _gather,
    "index": lambda a, *, at: (  # the part of an array that one turn of a scan reads
        linear("{ȳ}, in its place", lambda ȳ: jnp.zeros_like(a).at[at].set(ȳ)),
    ),
}
"""Operations whose rules depend on shapes or parameters: `rule(*operands, **parameters)`."""


def rules(
    operation: str, operands: tuple[Shaped[Array, "..."], ...], parameters: Mapping[str, Any]
) -> Rules | None:
    """Return the hand-derived rules of an operation, one per operand; `None` if there are none.

    Complex numbers have none: there a derivative is not one number.

    >>> by_w, by_x = rules("mul", (jnp.array(2.0), jnp.array(3.0)), {})
    >>> by_w.symbols, by_x.symbols
    ('{b!s}', '{a!s}')
    >>> rules("conv_general_dilated", (jnp.array(2.0), jnp.array(3.0)), {}) is None
    True
    """
    if any(jnp.issubdtype(a.dtype, jnp.complexfloating) for a in operands):
        return None
    if operation in STRUCTURED:
        return STRUCTURED[operation](*operands, **parameters)
    return SLOPES.get(operation)


def match_operand(
    contribution: Shaped[Array, "..."], operand: Shaped[Array, "..."]
) -> Shaped[Array, "..."]:
    """Return a contribution in its operand's shape: an operand that was stretched gets the sum.

    >>> match_operand(jnp.ones(3), jnp.array(2.0))
    Array(3., dtype=float32)
    """
    if contribution.shape == operand.shape:
        return contribution
    new = tuple(range(contribution.ndim - operand.ndim))
    total = contribution.sum(new)
    stretched = tuple(i for i, size in enumerate(operand.shape) if size != total.shape[i])
    return total.sum(stretched, keepdims=True)
