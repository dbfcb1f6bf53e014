"""The roads to a gradient, each as a vector: a function of any pytrees, seen as `φ: ℝⁿ → ℝ`.

The floating leaves of the chosen arguments are laid end to end into one float64 vector (a complex
number as its two parts); everything else is held fixed. An output that is no real scalar is
projected on random cotangents. What is left for `gradcheck` to do is arithmetic on vectors.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64, Inexact

from funcnet._jaxpr import positional_names

Vector: TypeAlias = Float64[np.ndarray, "n"]
"""A number for each of the numbers that a function is differentiated with respect to."""

Pieces: TypeAlias = Sequence[Float64[Array, "_"]]
"""The numbers of a point as JAX takes them: an array a leaf, flat."""

Cotangents: TypeAlias = Sequence[Inexact[np.ndarray, "..."]]
"""What a function's outputs are projected on: an array an output of floating point numbers."""


class Leaf(NamedTuple):
    """A leaf of the arguments, and where it lies in the vector.

    Attributes:
      path: from the argument's name, as `jax.tree_util.keystr` writes it.
      shape: its shape.
      dtype: its dtype, or the type of what is no array.
      start: the place of its first number in the vector.
      size: how many real numbers it has; 0 if it is skipped.
      skipped: why it has no gradient, or None.
    """

    path: str
    shape: tuple[int, ...]
    dtype: Any
    start: int
    size: int
    skipped: str | None

    @property
    def places(self) -> slice:
        """Where its numbers lie in the vector."""
        return slice(self.start, self.start + self.size)

    def element(self, place: int) -> tuple[int, ...]:
        """Which element a place in the vector belongs to."""
        number = (place - self.start) // self.parts
        return tuple(int(i) for i in np.unravel_index(number, self.shape))

    def part(self, place: int) -> tuple[str, int]:
        """Which part of a complex element is at a place, and the sign of that part of `jax.grad`.

        The vector of a gradient holds `∂f/∂x` and `∂f/∂y`; `jax.grad` is `∂f/∂x − i ∂f/∂y`.
        """
        if self.parts == 1:
            return "", 1
        return (".imag", -1) if (place - self.start) % 2 else (".real", 1)

    @property
    def epsilon(self) -> float:
        """The relative precision of its numbers."""
        return float(jnp.finfo(self.dtype).eps) if self.size else 0.0

    @property
    def parts(self) -> int:
        """How many real numbers make one element."""
        return 2 if np.issubdtype(self.dtype, np.complexfloating) else 1


class Point(NamedTuple):
    """Where a function is differentiated.

    Attributes:
      args: the arguments, as they came.
      argnums: which of them to differentiate with respect to.
      leaves: their leaves.
      vector: the floating ones, end to end.
    """

    args: tuple
    argnums: tuple[int, ...]
    leaves: tuple[Leaf, ...]
    vector: Vector

    def pieces(self, factor: Any = 1.0) -> tuple[Float64[Array, "_"], ...]:
        """The numbers times a factor, a float64 array a leaf."""
        moved = self.vector * factor
        return tuple(jnp.asarray(moved[leaf.places], jnp.float64) for leaf in self.leaves)


UNTRACEABLE = (TypeError, ValueError, NotImplementedError, jax.errors.JAXIndexError)
"""What JAX raises for a function that it cannot batch, compile or differentiate.

In this order: a Python `if`, or a derivative that only the other mode has; a callback, or a while
loop in reverse mode; an operation without a rule; a mask in square brackets.
"""


@contextmanager
def own_precision() -> Iterator[None]:
    """JAX as the caller set it, but that a key may be used for every evaluation."""
    with jax.debug_key_reuse(False):
        yield


@contextmanager
def wide_arguments() -> Iterator[None]:
    """JAX as the caller set it, but that float64 is let in, beside constants of float32.

    What the function makes for itself, random numbers above all, stays what it was. A constant out
    of float32's range, such as the lowest float64, becomes infinite.
    """
    before = jax.config.values["jax_explicit_x64_dtypes"]
    jax.config.update("jax_explicit_x64_dtypes", "allow")
    try:
        with own_precision(), jax.numpy_dtype_promotion("standard"), np.errstate(over="ignore"):
            yield
    finally:
        jax.config.update("jax_explicit_x64_dtypes", before)


@contextmanager
def double_precision() -> Iterator[None]:
    """JAX with float64 as its default, for a function that holds its own arrays to its inputs'."""
    with jax.enable_x64(True), wide_arguments():
        yield


def point(function: Callable, args: tuple, argnums: tuple[int, ...]) -> Point:
    """The arguments as a vector, with a record of what lies where.

    >>> leaves = point(lambda params, n: 0.0, ({"w": np.ones([2, 3])}, 4), (0, 1)).leaves
    >>> [(leaf.path, leaf.size, leaf.skipped) for leaf in leaves]
    [("params['w']", 6, None), ('n', 0, 'an integer')]
    """
    names = positional_names(function, len(args))
    leaves, pieces, start = [], [], 0
    for number in argnums:
        for path, value in jax.tree_util.tree_leaves_with_path(args[number]):
            leaf = _leaf(names[number] + jax.tree_util.keystr(path), value, start)
            leaves.append(leaf)
            if leaf.size:
                pieces.append(_real_parts(value))
            start += leaf.size
    vector = np.concatenate(pieces) if pieces else np.zeros(0)
    return Point(args=args, argnums=argnums, leaves=tuple(leaves), vector=vector)


def _leaf(path: str, value: Any, start: int) -> Leaf:
    try:
        dtype, shape = jnp.result_type(value), jnp.shape(value)
    except TypeError:
        return Leaf(path, (), type(value).__name__, start, 0, "not an array")
    reason = _why_skipped(dtype, shape)
    parts = 2 if jnp.issubdtype(dtype, jnp.complexfloating) else 1
    size = 0 if reason else parts * int(np.prod(shape))
    return Leaf(path=path, shape=shape, dtype=dtype, start=start, size=size, skipped=reason)


def _why_skipped(dtype: Any, shape: tuple[int, ...]) -> str | None:
    reasons = {jax.dtypes.prng_key: "a random key", jnp.integer: "an integer", jnp.bool_: "boolean"}
    for kind, reason in reasons.items():
        if jnp.issubdtype(dtype, kind):
            return reason
    return "empty" if 0 in shape else None


def _real_parts(value: Any) -> Float64[np.ndarray, "size"]:
    """The numbers of an array as float64, the two parts of a complex one side by side."""
    array = np.asarray(jnp.asarray(value))
    if np.iscomplexobj(array):
        return np.ravel(array).astype(np.complex128).view(np.float64)
    return np.ravel(array).astype(np.float64)


def arguments(at: Point, pieces: Sequence[Any], *, wide: bool) -> tuple:
    """The arguments with these numbers, an array a leaf: in float64 if `wide`, else as they came.

    The floating arrays that are held fixed are made float64 as well, if `wide`.
    """
    rest = iter(zip(at.leaves, pieces, strict=True))

    def from_piece(value: Any) -> Any:
        leaf, numbers = next(rest)
        if not leaf.size:
            return value
        if leaf.parts == 2:
            numbers = jax.lax.complex(numbers[0::2], numbers[1::2])
        numbers = jnp.reshape(numbers, leaf.shape)
        return numbers if wide else numbers.astype(leaf.dtype)

    args = [jax.tree.map(_widened, value) if wide else value for value in at.args]
    for number in at.argnums:
        args[number] = jax.tree.map(from_piece, at.args[number])
    return tuple(args)


def _widened(value: Any) -> Any:
    """A floating array in float64, a complex one in complex128, anything else as it is."""
    if not isinstance(value, jax.Array | np.ndarray | np.generic):
        return value
    if jnp.issubdtype(value.dtype, jnp.complexfloating):
        return jnp.asarray(value, jnp.complex128)
    return jnp.asarray(value, jnp.float64) if jnp.issubdtype(value.dtype, jnp.floating) else value


def cotangents(outputs: Any, rng: np.random.Generator) -> Cotangents:
    """What to project the outputs on: 1 for a real scalar, else random numbers of either sign.

    Each array is weighed by its size, so that small outputs are not lost beside large ones.
    """
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(outputs) if _is_inexact(leaf)]
    if not leaves:
        raise ValueError(
            "function: expected an output with a floating point number in it; got "
            f"{jax.tree.map(jnp.shape, outputs)} without one."
        )
    if is_real_scalar(outputs):
        return [np.ones(())]
    return [_cotangent(leaf, rng) for leaf in leaves]


def is_real_scalar(outputs: Any) -> bool:
    """Whether an output is what `jax.grad` wants: one real floating point number."""
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
    """`Σ Re(c̄ · y)` over the floating outputs y."""
    leaves = [leaf for leaf in jax.tree.leaves(outputs) if _is_inexact(leaf)]
    if len(leaves) == 1 and is_real_scalar(outputs) and np.shape(onto[0]) == ():
        return jnp.asarray(leaves[0])
    terms = [
        jnp.sum(jnp.real(jnp.asarray(y) * jnp.asarray(np.conj(c), jnp.result_type(y))))
        for y, c in zip(leaves, onto, strict=True)
    ]
    wide = jnp.result_type(*terms)
    return sum((term.astype(wide) for term in terms), jnp.zeros((), wide))


def as_vector(at: Point, gradient: Any, source: str) -> Vector:
    """A gradient, in the structure of the arguments, as a vector.

    For a complex argument `x + iy` it holds `∂f/∂x − i ∂f/∂y`, JAX's convention.

    Raises:
      ValueError: it has another structure, or a leaf another shape, than the arguments.
    """
    values = [gradient] if len(at.argnums) == 1 else list(gradient)
    pieces = []
    expected = [jax.tree.structure(at.args[number]) for number in at.argnums]
    if [jax.tree.structure(value) for value in values] != expected:
        got = [jax.tree.structure(value) for value in values]
        raise ValueError(
            f"{source}: expected the structure of the arguments, {expected}; got {got}."
        )
    for leaf, value in zip(at.leaves, itertools.chain(*map(jax.tree.leaves, values)), strict=True):
        if not leaf.size:
            continue
        if jnp.shape(value) != leaf.shape:
            raise ValueError(
                f"{source}: expected shape {leaf.shape} for {leaf.path}; got {jnp.shape(value)}."
            )
        numbers = np.asarray(value)
        numbers = numbers.astype(np.complex128 if leaf.parts == 2 else np.float64)
        pieces.append(np.ravel(np.conj(numbers)).view(np.float64))
    return np.concatenate(pieces)
