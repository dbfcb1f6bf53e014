"""The flow of a gradient check on one page: φ, claims, slopes, verdicts, report."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from funcnet.base import UsageError
from funcnet.gradcheck._claims import claims_at, own_gradients
from funcnet.gradcheck._precision import phi_at, wide_arguments
from funcnet.gradcheck._report import GradientReport
from funcnet.gradcheck._slopes import Measured, Problem, measured, problem_at
from funcnet.gradcheck._vector import Point, cotangents, is_real_scalar, point_at, projected
from funcnet.gradcheck._verdict import hidden, leaf_report, overall, skipped


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
    """Compare `jax.grad`, a gradient derived by hand, and numerical differentiation.

    Args:
      function: any JAX function. An output that is not a real scalar is projected on random
        cotangents.
      *args: the point at which to differentiate it: any pytrees.
      hand: a gradient with the signature of `jax.grad(function, argnums)`.
      argnums: the arguments to differentiate with respect to, as in `jax.grad`.
      order: 2 checks the gradient of the gradient as well.
      seed: the seed of samples, directions and cotangents.
      rtol: the relative difference that counts as none, beyond the error bar. By default the root
        of the coarsest precision that the function computes in, and at least 1e-7: 3.5e-4 for a
        function of float32, 1e-7 for one of float64.
      atol: the absolute difference that counts as none; by default 0.

    Returns:
      The verdict, with one report per leaf; `str(report)` is a table.

    >>> import jax.numpy as jnp
    >>> report = check_gradients(lambda x: jnp.sum(x**2), jnp.arange(3.0), hand=lambda x: -2 * x)
    >>> report.verdict, report.leaves[0].looks_like
    ('fail', 'sign flipped')
    >>> report.worst.index, report.worst.disagrees
    ((1,), 'hand')

    Raises:
      UsageError: an argument cannot be used: the function or the gradient by hand is not callable;
        an argnum is out of range; the order is not 1 or 2; a tolerance or the seed is negative; an
        output or the arguments have no floating point number; the gradient by hand has a different
        structure than the arguments. What the function itself raises comes through.
    """
    numbers = _check_arguments(function, args, hand, argnums, order)
    for name, value in (("seed", seed), ("rtol", rtol), ("atol", atol)):
        if value is not None and not value >= 0:
            raise UsageError(f"{name}: expected a number of at least 0; got {value!r}.")
    at = point_at(function, args, numbers)
    if not at.vector.size:
        return _without_numbers(at)
    with jax.debug_key_reuse(False):  # a random key serves for every evaluation
        report = _first_order(function, at, hand, seed, rtol, atol or 0.0)
        if order == 1 or report.verdict == "fail":
            return report
        return _first_order(_slope_function(function, at, seed), at, None, seed, rtol, atol or 0.0)


def assert_gradients(function: Callable, *args: Any, **options: Any) -> None:
    """Raise an `AssertionError`, with the report as its message, unless `check_gradients` passes.

    >>> import jax.numpy as jnp
    >>> assert_gradients(jnp.sin, 1.0, hand=jnp.cos)

    Raises:
      AssertionError: the verdict is not "pass".
    """
    report = check_gradients(function, *args, **options)
    if report.verdict != "pass":
        raise AssertionError(str(report))


def _check_arguments(
    function: Any, args: tuple, hand: Any, argnums: Any, order: Any
) -> tuple[int, ...]:
    if not callable(function):
        raise UsageError(f"function: expected a function; got {function!r}.")
    if hand is not None and not callable(hand):
        raise UsageError(f"hand: expected a function, as jax.grad returns, or None; got {hand!r}.")
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    if not numbers or not all(isinstance(n, int) and -len(args) <= n < len(args) for n in numbers):
        raise UsageError(
            f"argnums: expected positions among the {len(args)} arguments; got {argnums!r}."
        )
    if order not in (1, 2):
        raise UsageError(f"order: expected 1 or 2; got {order!r}.")
    return tuple(n % len(args) for n in numbers)


def _first_order(
    function: Callable, at: Point, hand: Callable | None, seed: int, rtol: float | None, atol: float
) -> GradientReport:
    """Return the report on one gradient, in float64 and in the dtypes of the arguments."""
    rng = np.random.default_rng(seed)
    outputs = function(*at.args)
    onto = cotangents(outputs, rng)
    if hand is not None and not is_real_scalar(outputs):
        raise UsageError("hand: expected a function with one real number as output to check it by.")
    phi = phi_at(function, at, onto)
    own = own_gradients(projected(function, onto), hand, at, phi)
    with wide_arguments(phi.double):
        claims = claims_at(at, phi, hand, own, rng)
        problem = problem_at(at, phi, claims, rtol, atol, rng)
        everywhere = {leaf: measured(problem, leaf, rng) for leaf in at.leaves if leaf.size}
        leaves = tuple(leaf_report(problem, leaf, everywhere) for leaf in at.leaves)
    remarks = _remarks(problem, everywhere.values())
    return GradientReport(verdict=overall(leaves), leaves=leaves, remarks=remarks)


def _without_numbers(at: Point) -> GradientReport:
    if not at.leaves or any(leaf.skipped != "empty" for leaf in at.leaves):
        found = ", ".join(f"{leaf.path} ({leaf.skipped})" for leaf in at.leaves) or "no leaves"
        raise UsageError(
            f"args: expected a floating point number to differentiate with respect to; got {found}."
        )
    return GradientReport(verdict="pass", leaves=tuple(map(skipped, at.leaves)))


def _remarks(problem: Problem, everywhere: Iterable[Measured]) -> tuple[str, ...]:
    remarks = []
    if paths := ", ".join(here.leaf.path for here in everywhere if hidden(problem, here).any()):
        remarks.append(f"this function hides part of its derivative at {paths}: stop_gradient")
    if problem.phi.gradient is None:
        remarks.append("jax.grad cannot differentiate this function: by hand and numerical only")
    return tuple(remarks)


def _slope_function(function: Callable, at: Point, seed: int) -> Callable[..., Any]:
    """Return the gradient of a function, projected on random cotangents."""
    rng = np.random.default_rng(seed)
    onto = cotangents(function(*at.args), rng)
    gradient = jax.grad(projected(function, onto), at.argnums, allow_int=True)
    return projected(gradient, cotangents(gradient(*at.args), rng))
