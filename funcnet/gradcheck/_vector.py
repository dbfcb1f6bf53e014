"""A function of any pytrees as `φ: ℝⁿ → ℝ`: its arguments as one vector, its outputs projected.

The floating leaves of the chosen arguments are laid end to end in one float64 vector, a complex
number as its two parts. All else is held fixed. An output that is not a real scalar is projected
on random cotangents.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64, Inexact

from funcnet._jaxpr import positional_names
from funcnet.base import UsageError

Vector: TypeAlias = Float64[np.ndarray, "n"]
"""One number for each number that the function is differentiated with respect to."""

Arrays: TypeAlias = Sequence[Float64[Array, "_"]]
"""A vector as JAX takes it: one flat array per leaf."""

Cotangents: TypeAlias = Sequence[Inexact[np.ndarray, "..."]]
"""One array per floating output, on which the output is projected."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leaf:
    """A leaf of the arguments, and its range in the vector.

    Attributes:
      path: the argument's name, then the path as `jax.tree_util.keystr` writes it.
      shape: its shape.
      dtype: its dtype, or the name of its type if it is not an array.
      start: the index of its first number in the vector.
      size: the count of its real numbers; 0 if it is skipped.
      skipped: why it has no gradient, or None.
    """

    path: str
    shape: tuple[int, ...]
    dtype: Any
    start: int
    size: int
    skipped: str | None

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

    @property
    def epsilon(self) -> float:
        """The relative precision of its numbers."""
        return float(jnp.finfo(self.dtype).eps) if self.size else 0.0

    def element(self, index: int) -> tuple[int, ...]:
        """Return the index in the leaf of the element at an index of the vector."""
        number = (index - self.start) // self.parts
        return tuple(int(i) for i in np.unravel_index(number, self.shape))

    def part(self, index: int) -> tuple[str, int]:
        """Return the part of a complex element at an index, and its sign in `jax.grad`.

        The vector of a gradient holds `∂f/∂x` and `∂f/∂y`; `jax.grad` is `∂f/∂x − i ∂f/∂y`.
        """
        if self.parts == 1:
            return "", 1
        return (".imag", -1) if (index - self.start) % 2 else (".real", 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """Where a function is differentiated.

    Attributes:
      args: the arguments, as they came.
      argnums: the arguments to differentiate with respect to.
      leaves: the leaves of those arguments.
      vector: the numbers of the floating leaves, end to end.
    """

    args: tuple
    argnums: tuple[int, ...]
    leaves: tuple[Leaf, ...]
    vector: Vector

    def arrays(self, factor: Any = 1.0) -> tuple[Float64[Array, "_"], ...]:
        """Return the vector times a factor, one float64 array per leaf."""
        moved = self.vector * factor
        return tuple(jnp.asarray(moved[leaf.span], jnp.float64) for leaf in self.leaves)


def point_at(function: Callable, args: tuple, argnums: tuple[int, ...]) -> Point:
    """Lay the floating leaves of the arguments end to end.

    >>> leaves = point_at(lambda params, n: 0.0, ({"w": np.ones([2, 3])}, 4), (0, 1)).leaves
    >>> [(leaf.path, leaf.size, leaf.skipped) for leaf in leaves]
    [("params['w']", 6, None), ('n', 0, 'an integer')]
    """
    names = positional_names(function, len(args))
    leaves: list[Leaf] = []
    numbers = [np.zeros(0)]
    for argnum in argnums:
        for path, value in jax.tree.leaves_with_path(args[argnum]):
            start = leaves[-1].end if leaves else 0
            leaves.append(_leaf(names[argnum] + jax.tree_util.keystr(path), value, start))
            if leaves[-1].size:
                numbers.append(_numbers(jnp.asarray(value), leaves[-1].parts).view(np.float64))
    vector = np.concatenate(numbers)
    return Point(args=args, argnums=argnums, leaves=tuple(leaves), vector=vector)


def _leaf(path: str, value: Any, start: int) -> Leaf:
    try:
        dtype, shape = jnp.result_type(value), jnp.shape(value)
    except TypeError:
        dtype, shape, skipped = type(value).__name__, (), "not an array"
    else:
        skipped = _why_skipped(dtype, shape)
    parts = 2 if not skipped and jnp.issubdtype(dtype, jnp.complexfloating) else 1
    size = 0 if skipped else parts * int(np.prod(shape))
    return Leaf(path=path, shape=shape, dtype=dtype, start=start, size=size, skipped=skipped)


def _why_skipped(dtype: Any, shape: tuple[int, ...]) -> str | None:
    reasons = {jax.dtypes.prng_key: "a random key", jnp.integer: "an integer", jnp.bool_: "boolean"}
    for kind, reason in reasons.items():
        if jnp.issubdtype(dtype, kind):
            return reason
    return "empty" if 0 in shape else None


def _numbers(value: Any, parts: int) -> Inexact[np.ndarray, "size"]:
    """Return the numbers of an array, flat, in float64 or complex128."""
    return np.ravel(np.asarray(value)).astype(np.complex128 if parts == 2 else np.float64)


def arguments(at: Point, arrays: Sequence[Any], *, wide: bool) -> tuple:
    """Return the arguments with these numbers: in float64 if `wide`, else in their own dtypes.

    If `wide`, the floating arrays that are held fixed become float64 as well.
    """
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
    """Return a floating array in float64, a complex array in complex128, all else as it is."""
    if not isinstance(value, jax.Array | np.ndarray | np.generic):
        return value
    if jnp.issubdtype(value.dtype, jnp.complexfloating):
        return jnp.asarray(value, jnp.complex128)
    return jnp.asarray(value, jnp.float64) if jnp.issubdtype(value.dtype, jnp.floating) else value


def cotangents(outputs: Any, rng: np.random.Generator) -> Cotangents:
    """Draw one cotangent per floating output; it is 1 if the output is one real scalar.

    Each cotangent is divided by the size of its output, so that small outputs count beside large.
    """
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(outputs) if _is_inexact(leaf)]
    if not leaves:
        raise UsageError(
            "function: expected an output with a floating point number in it; got "
            f"{jax.tree.map(jnp.shape, outputs)} without one."
        )
    if is_real_scalar(outputs):
        return [np.ones(())]
    return [_cotangent(leaf, rng) for leaf in leaves]


def is_real_scalar(outputs: Any) -> bool:
    """Whether an output is one real number, as `jax.grad` wants it."""
    leaves = jax.tree.leaves(outputs)
    return len(leaves) == 1 and jnp.shape(leaves[0]) == () and not np.iscomplexobj(leaves[0])


def _is_inexact(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def _cotangent(
    leaf: Inexact[np.ndarray, "*shape"], rng: np.random.Generator
) -> Inexact[np.ndarray, "*shape"]:
    def draw() -> Float64[np.ndarray, "..."]:
        return rng.uniform(0.5, 1.5, leaf.shape) * rng.choice([-1.0, 1.0], leaf.shape)

    finite = abs(leaf[np.isfinite(leaf)]).astype(np.float64)
    size = finite.max() if finite.size and finite.max() > 0 else 1.0
    return (draw() + 1j * draw()) / size if np.iscomplexobj(leaf) else draw() / size


def project(outputs: Any, onto: Cotangents) -> Float[Array, ""]:
    """Return `Σ Re(c̄ · y)` over the floating outputs y and their cotangents c."""
    leaves = [leaf for leaf in jax.tree.leaves(outputs) if _is_inexact(leaf)]
    if len(leaves) == 1 and is_real_scalar(outputs) and np.shape(onto[0]) == ():
        return jnp.asarray(leaves[0])
    terms = [
        jnp.sum(jnp.real(jnp.asarray(y) * jnp.asarray(np.conj(c), jnp.result_type(y))))
        for y, c in zip(leaves, onto, strict=True)
    ]
    dtype = jnp.result_type(*terms)
    return sum((term.astype(dtype) for term in terms), jnp.zeros((), dtype))


def as_vector(at: Point, gradient: Any) -> Vector:
    """Return a gradient, in the structure of `jax.grad(function, at.argnums)`, as a vector.

    For a complex argument `x + iy` a gradient holds `∂f/∂x − i ∂f/∂y`, JAX's convention.
    """
    both = zip(at.leaves, jax.tree.leaves(gradient), strict=True)
    numbers = [np.conj(_numbers(value, leaf.parts)) for leaf, value in both if leaf.size]
    return np.concatenate([array.view(np.float64) for array in numbers])
