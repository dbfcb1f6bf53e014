"""The gradients that are checked, as vectors: by `jax.grad`, by hand, and in forward mode."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from funcnet.base import UsageError
from funcnet.gradcheck._precision import (
    NO_RULE,
    Phi,
    as_function,
    compiled,
    own_precision,
    without_stop_gradient,
)
from funcnet.gradcheck._vector import Cotangents, Point, Vector, arguments, as_vector, project

Gradients: TypeAlias = Mapping[str, Vector]
"""Gradients by their names, "jax.grad" and "hand"."""

Forward: TypeAlias = Callable[[int, int], float]
"""`(low, high) -> J v` in forward mode, v cut to `low ≤ index < high`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claims:
    """The gradients of φ at the point, in float64."""

    gradients: Gradients  # "jax.grad" before "hand"; one of them may be missing
    visible: Vector  # the first, with every `stop_gradient` taken out

    @property
    def first(self) -> Vector:
        """The gradient by `jax.grad`; by hand where JAX has no derivative."""
        return next(iter(self.gradients.values()))


def claims_at(at: Point, phi: Phi, hand: Callable | None) -> Claims:
    """Evaluate the gradients that are to be checked."""
    if phi.gradient is None and hand is None:
        raise UsageError(
            "function: expected one that jax.grad can differentiate, or hand= to be checked."
        )
    by_hand = {} if hand is None else {"hand": _by_hand(hand, at, phi)}
    if phi.gradient is None:
        return Claims(gradients=by_hand, visible=by_hand["hand"])
    by_jax = _flat(phi.gradient(at.arrays()))
    return Claims(gradients={"jax.grad": by_jax} | by_hand, visible=_visible(at, phi, by_jax))


def _flat(arrays: Sequence[Any]) -> Vector:
    return np.concatenate([np.asarray(array) for array in arrays])


def _by_hand(hand: Callable, at: Point, phi: Phi) -> Vector:
    """Return the gradient by hand in float64, or in its own precision where it refuses float64."""
    try:
        _, gradient = compiled(hand, *arguments(at, at.arrays(), wide=phi.wide))
    except TypeError:
        _, gradient = compiled(hand, *arguments(at, at.arrays(), wide=False))
    return _hand_vector(at, gradient)


def _hand_vector(at: Point, gradient: Any) -> Vector:
    """Return a gradient by hand as a vector; for `argnums=(0,)` it may be a tuple of one."""
    args = [at.args[argnum] for argnum in at.argnums]
    in_tuple = len(args) > 1 or jax.tree.structure(gradient) == jax.tree.structure((args[0],))
    values = list(gradient) if in_tuple and isinstance(gradient, tuple | list) else [gradient]
    expected, got = ([jax.tree.structure(tree) for tree in trees] for trees in (args, values))
    if got != expected:
        raise UsageError(f"hand: expected the structure of the arguments, {expected}; got {got}.")
    for leaf, value in zip(at.leaves, jax.tree.leaves(values), strict=True):
        if leaf.size and jnp.shape(value) != leaf.shape:
            raise UsageError(
                f"hand: expected shape {leaf.shape} for {leaf.path}; got {jnp.shape(value)}."
            )
    return as_vector(at, values)


def _visible(at: Point, phi: Phi, by_jax: Vector) -> Vector:
    """Return the gradient with every `stop_gradient` taken out."""
    shown = None if phi.jaxpr is None else without_stop_gradient(phi.jaxpr)
    if shown is None:
        return by_jax
    try:
        return _flat(jax.grad(as_function(shown))(at.arrays()))
    except NO_RULE:  # for what is hidden
        return by_jax


def forward_mode(at: Point, phi: Phi, v: Vector) -> Forward | None:
    """Return forward mode along v; None where JAX has none, as through a `custom_vjp`."""

    def slope(v: Any, low: Any, high: Any) -> Any:
        indices = jnp.arange(len(v))
        v = jnp.where((low <= indices) & (indices < high), v, 0.0)
        tangents = tuple(v[leaf.span] for leaf in at.leaves)
        return jax.jvp(phi.function, (at.arrays(),), (tangents,))[1]

    direction = jnp.asarray(v, jnp.float64)
    try:
        slope, _ = compiled(slope, direction, 0, len(v))
    except NO_RULE:
        return None
    return lambda low, high: float(slope(direction, low, high))


def rounding_shift(at: Point, phi: Phi, claimed: Vector, rng: np.random.Generator) -> Vector:
    """Return the change of φ's gradient when the point is rounded to the dtypes of its leaves."""
    if phi.gradient is None:
        return np.zeros_like(at.vector)
    epsilon = np.concatenate([np.full(leaf.size, leaf.epsilon) for leaf in at.leaves])
    signs = rng.choice([-1.0, 1.0], [2, len(epsilon)])
    there = [_flat(phi.gradient(at.arrays(1 + epsilon * sign))) for sign in signs]
    with np.errstate(invalid="ignore"):
        return np.max(abs(np.array(there) - claimed), axis=0)


def own_gradients(
    function: Callable, hand: Callable | None, at: Point, onto: Cotangents, phi: Phi
) -> Gradients:
    """Return the gradients as the caller gets them, in the dtypes of the arguments."""
    if all(leaf.dtype in (np.float64, np.complex128) for leaf in at.leaves if leaf.size):
        return {}

    def projected(*args: Any) -> Any:
        return project(function(*args), onto)

    args = jax.tree.map(lambda a: jnp.asarray(a) if isinstance(a, np.ndarray) else a, at.args)
    gradients = {}
    with own_precision():
        if phi.gradient is not None:
            try:
                _, gradient = compiled(jax.grad(projected, at.argnums, allow_int=True), *args)
            except NO_RULE:  # in reverse mode: a while loop
                pass
            else:
                gradients["jax.grad"] = as_vector(at, gradient)
        if hand is not None:
            gradients["hand"] = _hand_vector(at, compiled(hand, *args)[1])
    return gradients
