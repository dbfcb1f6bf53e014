"""A function of any pytrees as `φ: ℝⁿ → ℝ`: its arguments as one vector, its outputs projected.

The floating leaves of the chosen arguments are laid end to end in one float64 vector, a complex
number as its two parts. All else is held fixed. An output that is not a real scalar is projected
on random cotangents.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64, Inexact

from funcnet._jaxpr import positional_names
from funcnet.base import UsageError

Vector: TypeAlias = Float64[np.ndarray, "n"]  # one entry per number to differentiate by
Arrays: TypeAlias = Sequence[Float64[Array, "_"]]  # a vector: one flat array per leaf
Cotangents: TypeAlias = Sequence[Inexact[np.ndarray, "..."]]  # one array per floating output

SKIPPED = {jax.dtypes.prng_key: "a random key", jnp.integer: "an integer", jnp.bool_: "boolean"}
"""The dtypes of leaves that have no gradient."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leaf:
    """A leaf of the arguments, and its range in the vector."""

    path: str  # the argument's name, then the path as `jax.tree_util.keystr` writes it
    shape: tuple[int, ...]
    dtype: Any  # or the name of its type, if it is not an array
    start: int  # the index of its first number in the vector
    size: int  # how many real numbers it has; 0 if it is skipped
    skipped: str | None  # why it has no gradient

    @property
    def end(self) -> int:
        """The index after its last number in the vector."""
        return self.start + self.size

    @property
    def span(self) -> slice:
        """The range of its numbers in the vector."""
        return slice(self.start, self.end)

    @property
    def parts(self) -> int:
        """How many real numbers make one element."""
        return 2 if np.issubdtype(self.dtype, np.complexfloating) else 1

    def located(self, index: int) -> tuple[tuple[int, ...], str, int]:
        """Return the element at an index of the vector, its part, and the part's sign in JAX.

        The vector of a gradient holds `∂f/∂x` and `∂f/∂y`; `jax.grad` is `∂f/∂x − i ∂f/∂y`.
        """
        number, part = divmod(index - self.start, self.parts)
        element = tuple(int(i) for i in np.unravel_index(number, self.shape))
        signs = [("", 1)] if self.parts == 1 else [(".real", 1), (".imag", -1)]
        return element, *signs[part]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """Where a function is differentiated."""

    args: tuple  # as they came
    argnums: tuple[int, ...]
    leaves: tuple[Leaf, ...]  # of the arguments to differentiate with respect to
    vector: Vector  # the numbers of the floating leaves, end to end

    def arrays(self, factor: Any = 1.0) -> tuple[Float64[Array, "_"], ...]:
        """Return the vector times a factor, one float64 array per leaf."""
        moved = self.vector * factor
        return tuple(jnp.asarray(moved[leaf.span], jnp.float64) for leaf in self.leaves)

    def along(self, block: range, v: Any, ends: Any, t: Any) -> Arrays:
        """Return `x + t v` as arrays, v cut to `low ≤ index < high` and to leaves in the block."""
        arrays, (low, high) = list(self.arrays()), ends
        for number, leaf in enumerate(self.leaves):
            if leaf.size and leaf.start in block:
                indices = jnp.arange(leaf.start, leaf.end)
                inside = (low <= indices) & (indices < high)
                arrays[number] += jnp.where(inside, t * v[leaf.span], 0.0)
        return arrays


def point_at(function: Callable, args: tuple, argnums: tuple[int, ...]) -> Point:
    """Lay the floating leaves of the arguments end to end."""
    names = positional_names(function, len(args))
    leaves, numbers = [], [np.zeros(0)]
    for argnum in argnums:
        for path, value in jax.tree.leaves_with_path(args[argnum]):
            name = names[argnum] + jax.tree_util.keystr(path)
            leaves.append(leaf := _leaf(name, value, start=sum(map(len, numbers))))
            if leaf.size:
                numbers.append(_numbers(leaf, jnp.asarray(value)).view(np.float64))
    vector = np.concatenate(numbers)
    return Point(args=args, argnums=argnums, leaves=tuple(leaves), vector=vector)


def _leaf(path: str, value: Any, start: int) -> Leaf:
    try:
        dtype, shape = jnp.result_type(value), jnp.shape(value)
    except TypeError:
        dtype, shape, skipped = type(value).__name__, (), "not an array"
    else:
        why = [reason for kind, reason in SKIPPED.items() if jnp.issubdtype(dtype, kind)]
        skipped = next(iter(why), "empty" if 0 in shape else None)
    parts = 2 if np.iscomplexobj(value) else 1
    size = 0 if skipped else parts * math.prod(shape)
    return Leaf(path=path, shape=shape, dtype=dtype, start=start, size=size, skipped=skipped)


def _numbers(leaf: Leaf, value: Any) -> Inexact[np.ndarray, "size"]:
    """Return the numbers of an array, flat, in float64 or complex128."""
    return np.ravel(np.asarray(value)).astype(np.complex128 if leaf.parts == 2 else np.float64)


def arguments(at: Point, arrays: Sequence[Any], *, wide: bool) -> tuple:
    """Return the arguments with these numbers: all in float64 if `wide`, else in their dtypes."""
    rest = iter(zip(at.leaves, arrays, strict=True))

    def from_array(value: Any) -> Any:
        leaf, numbers = next(rest)
        if not leaf.size:
            return value
        if leaf.parts == 2:
            numbers = jax.lax.complex(numbers[0::2], numbers[1::2])
        numbers = jnp.reshape(numbers, leaf.shape)
        return numbers if wide else numbers.astype(leaf.dtype)

    args = [jax.tree.map(_widened, value) if wide else value for value in at.args]
    for argnum in at.argnums:
        args[argnum] = jax.tree.map(from_array, at.args[argnum])
    return tuple(args)


def _widened(value: Any) -> Any:
    return as_wide(value) if isinstance(value, jax.Array | np.ndarray | np.generic) else value


def as_wide(value: Any) -> Any:
    """Return a floating value in float64, a complex value in complex128, all else as it is."""
    if not _is_inexact(value):
        return value
    return jnp.asarray(value, np.promote_types(jnp.result_type(value), np.float64))


def cotangents(outputs: Any, rng: np.random.Generator) -> Cotangents:
    """Draw a cotangent per floating output, divided by the output's size; 1 for one real scalar."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(outputs) if _is_inexact(leaf)]
    if not leaves:
        raise UsageError(
            "function: expected an output with a floating point number in it; got "
            f"{jax.tree.map(jnp.shape, outputs)} without one."
        )
    return [np.ones(())] if is_real_scalar(outputs) else [_cotangent(y, rng) for y in leaves]


def is_real_scalar(outputs: Any) -> bool:
    """Whether an output is one real number, as `jax.grad` wants it."""
    leaves = jax.tree.leaves(outputs)
    return len(leaves) == 1 and jnp.shape(leaves[0]) == () and not np.iscomplexobj(leaves[0])


def _is_inexact(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def _cotangent(
    y: Inexact[np.ndarray, "*shape"], rng: np.random.Generator
) -> Inexact[np.ndarray, "*shape"]:
    size = np.max(abs(y[np.isfinite(y)]).astype(np.float64), initial=0) or 1.0
    cotangent = random_numbers(rng, y.shape)
    if np.iscomplexobj(y):
        cotangent = cotangent + 1j * random_numbers(rng, y.shape)
    return cotangent / size


def random_numbers(rng: np.random.Generator, shape: tuple[int, ...]) -> Float64[np.ndarray, "..."]:
    """Draw numbers between 0.5 and 1.5, of either sign."""
    return rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape)


def project(outputs: Any, onto: Cotangents) -> Float[Array, ""]:
    """Return `Σ Re(c̄ · y)` over the floating outputs y and their cotangents c."""
    leaves = [leaf for leaf in jax.tree.leaves(outputs) if _is_inexact(leaf)]
    if leaves and is_real_scalar(outputs):
        return jnp.asarray(leaves[0])
    terms = [
        jnp.sum(jnp.real(jnp.asarray(y) * jnp.asarray(np.conj(c), jnp.result_type(y))))
        for y, c in zip(leaves, onto, strict=True)
    ]
    dtype = jnp.result_type(*terms)
    return sum((term.astype(dtype) for term in terms), jnp.zeros((), dtype))


def projected(function: Callable, onto: Cotangents) -> Callable[..., Float[Array, ""]]:
    return lambda *args: project(function(*args), onto)


def as_vector(at: Point, gradient: Any) -> Vector:
    """Return a gradient, in the structure and the convention of `jax.grad`, as a vector."""
    both = zip(at.leaves, jax.tree.leaves(gradient), strict=True)
    numbers = [np.conj(_numbers(leaf, value)) for leaf, value in both if leaf.size]
    return np.concatenate([array.view(np.float64) for array in numbers])
