"""Is this gradient right; if not, where; and what does it look like?

For any function of any pytrees, three roads to its gradient are compared: `jax.grad` (reverse and
forward mode), a gradient derived by hand, and numerical differentiation in float64 with an error
bar. Every element of a small leaf is looked at; of a large one a sample, and random directions, in
which a wrong element is found by bisection.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from funcnet import _jaxpr as programs
from funcnet.gradcheck import _vector as roads
from funcnet.gradcheck._report import GradientReport, LeafReport, whole
from funcnet.gradcheck._slopes import (
    DIRECTIONS,
    SMALL_LEAF,
    Precision,
    Problem,
    compiled,
    element_slopes,
    lost_slopes,
    precision_of,
    problem_at,
    suspects,
)
from funcnet.gradcheck._verdict import (
    Look,
    finding,
    hold_own_precision,
    judge,
    judge_leaf,
    name_swaps,
    skipped,
)

SAMPLE = 64
"""So many elements of a leaf that is not looked at element by element are."""


def check_gradients(
    function: Callable,
    *args: Any,
    hand: Callable | None = None,
    argnums: int | tuple[int, ...] = 0,
    order: int = 1,
    seed: int = 0,
    rtol: float | None = None,
    atol: float | None = None,
) -> GradientReport:
    """Compares `jax.grad`, a gradient derived by hand, and numerical differentiation.

    Args:
      function: any JAX function; an output that is no real scalar is projected on random
        cotangents.
      *args: where to differentiate it: any pytrees.
      hand: a gradient with the signature of `jax.grad(function, argnums)`.
      argnums: which arguments to differentiate with respect to, as in `jax.grad`.
      order: 2 checks the gradient of the gradient as well.
      seed: of the samples, directions and cotangents.
      rtol: the relative difference that counts as none, beyond the error bar. By default the root
        of the coarsest precision that the function computes in, and at least 1e-7: 3.5e-4 for one
        of float32, 1e-7 for one of float64.
      atol: the absolute difference that counts as none; by default 0.

    >>> report = check_gradients(lambda x: jnp.sum(x**2), jnp.arange(3.0), hand=lambda x: -2 * x)
    >>> report.verdict, report.leaves[0].looks_like
    ('fail', 'sign flipped')
    >>> report.worst.index, report.worst.road
    ((1,), 'hand')

    Raises:
      TypeError: the function or the gradient by hand is not callable.
      ValueError: an argnum out of range, an order other than 1 and 2, a negative tolerance, an
        output or arguments without floating point numbers, or a gradient by hand of another
        structure than the arguments.
    """
    numbers = _check_arguments(function, args, hand, argnums, order, rtol, atol)
    report = _first_order(function, args, hand, numbers, seed, rtol, atol)
    if order == 1 or report.verdict == "fail":
        return report
    slope = functools.wraps(function)(_slope_function(function, args, numbers, seed))
    return _first_order(slope, args, None, numbers, seed, rtol, atol)


def _slope_function(
    function: Callable, args: tuple, numbers: tuple[int, ...], seed: int
) -> Callable[..., Any]:
    """The gradient of a function, projected on random cotangents as a function is."""
    rng = np.random.default_rng(seed)

    def gradient(*args: Any) -> Any:
        return jax.grad(
            lambda *args: roads.project(function(*args), onto), numbers, allow_int=True
        )(*args)

    with roads.own_precision():
        onto = roads.cotangents(function(*args), rng)
        onto_gradient = roads.cotangents(gradient(*args), rng)
    return lambda *args: roads.project(gradient(*args), onto_gradient)


def assert_gradients(function: Callable, *args: Any, **options: Any) -> None:
    """Raises an `AssertionError`, the report its message, unless `check_gradients` passes.

    >>> assert_gradients(jnp.sin, 1.0, hand=jnp.cos)

    Raises:
      AssertionError: the verdict is not "pass".
    """
    report = check_gradients(function, *args, **options)
    if report.verdict != "pass":
        raise AssertionError(str(report))


def _check_arguments(
    function: Any, args: tuple, hand: Any, argnums: Any, order: Any, rtol: Any, atol: Any
) -> tuple[int, ...]:
    if not callable(function):
        raise TypeError(f"function: expected a function; got {function!r}.")
    if hand is not None and not callable(hand):
        raise TypeError(f"hand: expected a function, as jax.grad returns, or None; got {hand!r}.")
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    if not numbers or not all(isinstance(n, int) and -len(args) <= n < len(args) for n in numbers):
        raise ValueError(
            f"argnums: expected positions among the {len(args)} arguments; got {argnums!r}."
        )
    if order not in (1, 2):
        raise ValueError(f"order: expected 1 or 2; got {order!r}.")
    for name, value in {"rtol": rtol, "atol": atol}.items():
        if value is not None and not value >= 0:
            raise ValueError(f"{name}: expected a number of at least 0; got {value!r}.")
    return tuple(n % len(args) for n in numbers)


class Claims(NamedTuple):
    """The gradients that are to be checked, in float64.

    Attributes:
      gradient: φ's, as a function of the pieces; None where JAX cannot differentiate φ.
      claimed: what it says at the point; where it is None, the gradient by hand.
      hand: the gradient by hand, or None.
      visible: `jax.grad` with every `stop_gradient` taken out, or None where there is none.
    """

    gradient: Callable[[roads.Pieces], roads.Vector] | None
    claimed: roads.Vector
    hand: roads.Vector | None
    visible: roads.Vector | None


def _first_order(
    function: Callable,
    args: tuple,
    hand: Callable | None,
    numbers: tuple[int, ...],
    seed: int,
    rtol: float | None,
    atol: float | None,
) -> GradientReport:
    """The report on the gradient: first in float64, then in the dtypes of the arguments."""
    at = roads.point(function, args, numbers)
    if not at.vector.size:
        return _without_numbers(at)
    rng = np.random.default_rng(seed)
    with roads.own_precision():
        outputs = function(*args)
        onto = roads.cotangents(outputs, rng)
    if hand is not None and not roads.is_real_scalar(outputs):
        raise ValueError("hand: expected a function with one real number as output to check it by.")
    precision = precision_of(function, at, onto)
    with precision.context():
        problem = problem_at(function, at, onto, precision, rtol, atol, rng)
        claims = _claims(problem, hand, precision)
        looks = [_look(problem, leaf, claims, rng) for leaf in at.leaves if leaf.size]
        reports = _reports(problem, looks, claims, rng)
        moved = _moved(claims, at, rng)
    own = _own_gradients(function, hand, at, onto, claims)
    held = (
        hold_own_precision(problem, report, look.leaf, claims.claimed, own, moved)
        for report, look in zip(reports, looks, strict=True)
    )
    leaves = tuple(next(held) if leaf.size else skipped(leaf) for leaf in at.leaves)
    return GradientReport(verdict=whole(leaves), leaves=leaves, remarks=_remarks(looks, claims))


def _claims(problem: Problem, hand: Callable | None, precision: Precision) -> Claims:
    gradient = _reverse(problem)
    by_hand = None if hand is None else _by_hand(hand, problem, precision)
    claimed = by_hand if gradient is None else gradient(problem.pieces)
    if claimed is None:
        raise ValueError(
            "function: expected one that jax.grad can differentiate, or hand= to be checked."
        )
    visible = None if gradient is None else _visible_gradient(problem)
    return Claims(gradient=gradient, claimed=claimed, hand=by_hand, visible=visible)


def _reports(
    problem: Problem, looks: list[Look], claims: Claims, rng: np.random.Generator
) -> list[LeafReport]:
    """The verdicts on the leaves in float64."""
    reports = [judge_leaf(problem, look, claims.claimed, claims.hand) for look in looks]
    reports = name_swaps(looks, reports, claims.claimed, claims.hand)
    if claims.gradient is None:
        return reports
    return _hold_forward(problem, looks, reports, claims.claimed, rng)


def _remarks(looks: list[Look], claims: Claims) -> tuple[str, ...]:
    remarks = []
    hidden = ", ".join(look.leaf.path for look in looks if look.hidden.any())
    if hidden:
        remarks.append(f"this function hides part of its derivative at {hidden}: stop_gradient")
    if claims.gradient is None:
        remarks.append("jax.grad cannot differentiate this function: by hand and numerical only")
    return tuple(remarks)


def _without_numbers(at: roads.Point) -> GradientReport:
    if not at.leaves or any(leaf.skipped != "empty" for leaf in at.leaves):
        found = ", ".join(f"{leaf.path} ({leaf.skipped})" for leaf in at.leaves) or "no leaves"
        raise ValueError(
            f"args: expected a floating point number to differentiate with respect to; got {found}."
        )
    return GradientReport(verdict="pass", leaves=tuple(map(skipped, at.leaves)))


def _reverse(problem: Problem) -> Callable[[roads.Pieces], roads.Vector] | None:
    """`jax.grad` of φ; in forward mode where reverse mode cannot (a while loop)."""
    tries = [jax.jit(jax.grad(problem.phi)), jax.grad(problem.phi)]
    if len(problem.at.vector) <= SMALL_LEAF:
        tries.append(jax.jacfwd(problem.phi))
    for gradient in tries:
        try:
            _ = gradient(problem.pieces)
        except roads.UNTRACEABLE:
            continue
        return lambda pieces, gradient=gradient: _vector(gradient(pieces))
    return None


def _moved(claims: Claims, at: roads.Point, rng: np.random.Generator) -> roads.Vector:
    """By how much the gradient moves when the numbers are rounded to the dtypes of their leaves."""
    if claims.gradient is None:
        return np.zeros_like(at.vector)
    epsilon = np.concatenate([np.full(leaf.size, leaf.epsilon) for leaf in at.leaves])
    here = claims.gradient(at.pieces())
    with np.errstate(invalid="ignore"):
        moved = [
            abs(claims.gradient(at.pieces(1 + epsilon * signs)) - here)
            for signs in rng.choice([-1.0, 1.0], [2, len(epsilon)])
        ]
    return np.maximum(*moved)


def _vector(pieces: Any) -> roads.Vector:
    return np.concatenate([np.asarray(piece, np.float64) for piece in pieces])


def _by_hand(hand: Callable, problem: Problem, precision: Precision) -> roads.Vector:
    """The gradient by hand in float64, or in its own precision where it cannot."""
    at = problem.at
    try:
        _, gradient = compiled(hand, *roads.arguments(at, problem.pieces, wide=precision.wide))
    except TypeError:
        _, gradient = compiled(hand, *roads.arguments(at, problem.pieces, wide=False))
    return _hand_vector(at, gradient)


def _hand_vector(at: roads.Point, gradient: Any) -> roads.Vector:
    """A gradient by hand as a vector; for `argnums=(0,)` it may come in a tuple of one."""
    if len(at.argnums) == 1 and isinstance(gradient, tuple) and len(gradient) == 1:
        structure = jax.tree.structure(at.args[at.argnums[0]])
        if jax.tree.structure(gradient) != structure:
            gradient = gradient[0]
    return roads.as_vector(at, gradient, "hand")


def _visible_gradient(problem: Problem) -> roads.Vector | None:
    """The gradient with every `stop_gradient` taken out; None where there is none."""
    try:
        program = jax.make_jaxpr(problem.phi)(problem.pieces)
        if not programs.hides_something(program.jaxpr):
            return None
        shown = program.replace(jaxpr=programs.without_stop_gradient(program.jaxpr))
        run = jex.jaxpr_as_fun(shown)
        return _vector(jax.grad(lambda pieces: run(*pieces)[0])(problem.pieces))
    except roads.UNTRACEABLE:
        return None


def _look(problem: Problem, leaf: roads.Leaf, claims: Claims, rng: np.random.Generator) -> Look:
    """The slopes of a leaf's elements: of all, or of a sample and what bisection suspects."""
    claimed, visible = claims.claimed, claims.visible
    if leaf.size <= SMALL_LEAF:
        places = leaf.start + np.arange(leaf.size)
        checked = "every element"
    else:
        sample = leaf.start + np.sort(rng.choice(leaf.size, SAMPLE, replace=False))
        suspected = suspects(problem, leaf, claimed if visible is None else visible, rng)
        places = np.union1d(sample, suspected)
        checked = f"{DIRECTIONS} directions, {len(places)} elements"
    slopes = element_slopes(problem, leaf, places, claimed)
    hidden = np.zeros(len(places), bool)
    if visible is not None:
        refused = judge(problem, claimed[places], slopes) == "wrong"
        hidden = refused & (judge(problem, visible[places], slopes) != "wrong")
    return Look(leaf=leaf, places=places, slopes=slopes, hidden=hidden, checked=checked)


def _hold_forward(
    problem: Problem,
    looks: list[Look],
    reports: list[LeafReport],
    claimed: roads.Vector,
    rng: np.random.Generator,
) -> list[LeafReport]:
    """Forward mode along a direction against reverse mode, leaf by leaf: `J v` and `g · v`.

    Where they differ, bisection finds an element at which they do.
    """
    at = problem.at
    v = rng.uniform(0.5, 1.5, len(at.vector)) * rng.choice([-1.0, 1.0], len(at.vector))
    forward = _forward_along(problem, v)
    if forward is None:
        return reports
    lost = np.concatenate([lost_slopes(problem, leaf) for leaf in at.leaves if leaf.size])

    def off(low: int, high: int) -> bool:
        terms, rounding = claimed[low:high] * v[low:high], np.linalg.norm(lost[low:high])
        bar = problem.atol + rounding + 10 * problem.rtol * np.linalg.norm(terms)
        return bool(abs(forward(low, high) - terms.sum()) > bar)

    def held(look: Look, report: LeafReport) -> LeafReport:
        low, high = look.leaf.start, look.leaf.start + look.leaf.size
        if report.verdict not in ("match", "kink") or not off(low, high):
            return report
        place = _bisected(off, low, high)
        by_forward = claimed.copy()
        by_forward[place] = forward(place, place + 1) / v[place]
        return _forward_differs(problem, look.leaf, report, place, claimed, by_forward)

    return [held(look, report) for look, report in zip(looks, reports, strict=True)]


def _forward_along(problem: Problem, v: roads.Vector) -> Callable[[int, int], float] | None:
    """`(low, high) -> J v` in forward mode, v cut to `low ≤ place < high`; None where it has none.

    A function whose `custom_vjp` tells no derivative for it, for example.
    """

    def slope(v: Any, low: Any, high: Any) -> Any:
        places = jnp.arange(len(v))
        v = jnp.where((low <= places) & (places < high), v, 0.0)
        tangents = tuple(v[leaf.places] for leaf in problem.at.leaves)
        return jax.jvp(problem.phi, (problem.pieces,), (tangents,))[1]

    direction = jnp.asarray(v, jnp.float64)
    try:
        slope, _ = compiled(slope, direction, 0, len(v))
    except roads.UNTRACEABLE:
        return None
    return lambda low, high: float(slope(direction, low, high))


def _forward_differs(
    problem: Problem,
    leaf: roads.Leaf,
    report: LeafReport,
    place: int,
    claimed: roads.Vector,
    by_forward: roads.Vector,
) -> LeafReport:
    """The record of a leaf whose gradient in forward mode differs at a place."""
    slopes = element_slopes(problem, leaf, np.array([place]), claimed)
    found = finding(
        leaf,
        place,
        {"jax.grad": by_forward},
        slope=float(slopes.value[0]),
        bar=float(slopes.bar[0]),
        road="forward mode",
    )
    return report._replace(
        verdict="wrong",
        looks_like="forward mode differs from reverse mode",
        findings=(found,),
    )


def _bisected(off: Callable[[int, int], bool], low: int, high: int) -> int:
    """A place of `low ≤ place < high` that is off, as the whole range is.

    >>> _bisected(lambda low, high: low <= 6 < high, 0, 10)
    6
    """
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if off(low, middle) else (middle, high)
    return low


def _own_gradients(
    function: Callable,
    hand: Callable | None,
    at: roads.Point,
    onto: roads.Cotangents,
    claims: Claims,
) -> dict[str, roads.Vector]:
    """The gradients as the caller gets them, in the dtypes of the arguments."""
    if all(leaf.dtype in (np.float64, np.complex128) for leaf in at.leaves if leaf.size):
        return {}
    args = jax.tree.map(lambda a: jnp.asarray(a) if isinstance(a, np.ndarray) else a, at.args)
    with roads.own_precision():
        by_jax = None if claims.gradient is None else _own_reverse(function, at, onto, args)
        by_hand = None if hand is None else _hand_vector(at, compiled(hand, *args)[1])
    gradients = {"jax.grad": by_jax, "hand": by_hand}
    return {road: gradient for road, gradient in gradients.items() if gradient is not None}


def _own_reverse(
    function: Callable, at: roads.Point, onto: roads.Cotangents, args: tuple
) -> roads.Vector | None:
    """`jax.grad` in the dtypes of the arguments; None where only forward mode can: a while loop."""
    slope = jax.grad(lambda *args: roads.project(function(*args), onto), at.argnums, allow_int=True)
    try:
        _, gradient = compiled(slope, *args)
    except roads.UNTRACEABLE:
        return None
    return roads.as_vector(at, gradient[0] if len(at.argnums) == 1 else gradient, "jax.grad")
