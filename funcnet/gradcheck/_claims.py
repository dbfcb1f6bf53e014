"""The gradients that are checked, as vectors: by `jax.grad`, by hand, and in forward mode."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from funcnet.base import UsageError
from funcnet.gradcheck._precision import Phi, attempt, compiled, epsilon_of, visible_gradient
from funcnet.gradcheck._vector import Leaf, Point, Vector, arguments, as_vector, random_numbers

Gradients: TypeAlias = Mapping[str, Vector]  # by name: "jax.grad" and "hand"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claims:
    """The gradients of φ at the point."""

    gradients: Gradients  # in float64; "jax.grad" before "hand"; one of them may be missing
    visible: Vector  # the first, with every `stop_gradient` taken out
    v: Vector  # a random direction
    forward: Callable[[int, int], float] | None  # (low, high) ↦ J v, v cut to this range
    own: Gradients  # in the dtypes of the arguments
    moved: Vector  # the first's change when the point is rounded to the dtypes of its leaves

    @property
    def first(self) -> Vector:
        """The gradient by `jax.grad`; by hand where JAX has no derivative."""
        return next(iter(self.gradients.values()))

    def apart(self, name: str, leaf: Leaf) -> Vector:
        """Return how far a gradient is from the first, for each number of a leaf."""
        with np.errstate(invalid="ignore"):  # NaN between two infinite numbers
            return abs(self.gradients[name] - self.first)[leaf.span]


def claims_at(
    at: Point, phi: Phi, hand: Callable | None, own: Gradients, rng: np.random.Generator
) -> Claims:
    """Evaluate the gradients that are to be checked."""
    if phi.gradient is None and hand is None:
        raise UsageError(
            "function: expected one that jax.grad can differentiate, or hand= to be checked."
        )
    v = random_numbers(rng, at.vector.shape)
    gradients, forward, moved = {}, None, np.zeros_like(v)
    if phi.gradient is not None:
        gradients["jax.grad"] = reverse = np.concatenate(phi.gradient(at.arrays()))
        forward, moved = _forward_mode(at, phi, v), _moved(at, phi.gradient, reverse, rng)
    if hand is not None:
        try:
            gradients["hand"] = _by_hand(hand, at, arguments(at, at.arrays(), wide=phi.wide))
        except TypeError:  # it refuses float64
            gradients["hand"] = _by_hand(hand, at, arguments(at, at.arrays(), wide=False))
    first = next(iter(gradients.values()))
    visible = np.concatenate(visible_gradient(phi, at.arrays()) or [first])
    return Claims(gradients=gradients, visible=visible, v=v, forward=forward, own=own, moved=moved)


def _by_hand(hand: Callable, at: Point, args: tuple) -> Vector:
    """Return the gradient by hand as a vector; for `argnums=(0,)` it may be a tuple of one."""
    _, gradient = compiled(hand, *args)
    chosen = [at.args[argnum] for argnum in at.argnums]
    in_tuple = len(chosen) > 1 or jax.tree.structure(gradient) == jax.tree.structure((chosen[0],))
    values = list(gradient) if in_tuple and isinstance(gradient, tuple | list) else [gradient]
    expected, got = ([jax.tree.structure(tree) for tree in trees] for trees in (chosen, values))
    if got != expected:
        raise UsageError(f"hand: expected the structure of the arguments, {expected}; got {got}.")
    for leaf, value in zip(at.leaves, jax.tree.leaves(values), strict=True):
        if leaf.size and jnp.shape(value) != leaf.shape:
            raise UsageError(
                f"hand: expected shape {leaf.shape} for {leaf.path}; got {jnp.shape(value)}."
            )
    return as_vector(at, values)


def _forward_mode(at: Point, phi: Phi, v: Vector) -> Callable[[int, int], float] | None:
    def slope(v: Any, low: Any, high: Any) -> Any:
        line = functools.partial(at.along, range(len(v)), v, (low, high))
        return jax.jvp(lambda t: phi.function(line(t)), (0.0,), (1.0,))[1]

    direction = jnp.asarray(v, jnp.float64)
    found = attempt(compiled, slope, direction, 0, len(v))
    return found and (lambda low, high: float(found[0](direction, low, high)))


def _moved(at: Point, gradient: Callable, here: Vector, rng: np.random.Generator) -> Vector:
    floating = [leaf for leaf in at.leaves if leaf.size]
    epsilon = np.concatenate([np.full(leaf.size, epsilon_of(leaf)) for leaf in floating])
    signs = rng.choice([-1.0, 1.0], [2, len(epsilon)])
    there = [np.concatenate(gradient(at.arrays(1 + epsilon * sign))) for sign in signs]
    with np.errstate(invalid="ignore"):
        return np.max(abs(np.array(there) - here), axis=0)


def own_gradients(function: Callable, hand: Callable | None, at: Point, phi: Phi) -> Gradients:
    """Return the gradients as the caller gets them, in the dtypes of the arguments."""
    if all(leaf.dtype in (np.float64, np.complex128) for leaf in at.leaves if leaf.size):
        return {}
    args = jax.tree.map(lambda a: jnp.asarray(a) if isinstance(a, np.ndarray) else a, at.args)
    gradients = {}
    if phi.gradient is not None:
        reverse = jax.grad(function, at.argnums, allow_int=True)
        if found := attempt(compiled, reverse, *args):  # a while loop has none
            gradients["jax.grad"] = as_vector(at, found[1])
    if hand is not None:
        gradients["hand"] = _by_hand(hand, at, args)
    return gradients
