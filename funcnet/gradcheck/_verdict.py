"""From slopes with error bars to verdicts: on an element, and on a leaf."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np
from jaxtyping import Shaped

from funcnet.gradcheck._diagnosis import looks_like
from funcnet.gradcheck._differences import Slopes
from funcnet.gradcheck._precision import constant_shapes, epsilon_of
from funcnet.gradcheck._report import MOST_FINDINGS, Finding, LeafReport
from funcnet.gradcheck._slopes import Flags, Measured, PerIndex, Problem, differs, element_slopes
from funcnet.gradcheck._vector import Leaf, Vector

LOST = 256  # times the noise over the largest step: a slope up to this size is lost in the noise
WIDE = 0.05  # of a slope: an error bar of this share says nothing about the slope
FLAT = 2e-5  # of a leaf's largest slope: a slope of this share need not be told from 0

Verdicts: TypeAlias = Shaped[np.ndarray, "checked"]  # strings
GRAVEST_FIRST = ("nonfinite", "wrong", "undecided", "kink", "match")
REFUSED = ("wrong", "nonfinite")  # the verdicts on a leaf with which a check fails


def overall(leaves: Sequence[LeafReport]) -> str:
    """Return the verdict on a gradient, from those on its leaves."""
    verdicts = {leaf.verdict for leaf in leaves}
    if verdicts & {*REFUSED}:
        return "fail"
    return "undecided" if "undecided" in verdicts else "pass"


def verdicts_on(problem: Problem, claimed: PerIndex, slopes: Slopes) -> Verdicts:
    """Return a verdict for each element: its claimed gradient beside its numerical slope.

    nonfinite   infinite or NaN
    kink        between the slopes of both sides, which differ
    wrong       outside of the tolerance and the error bar
    match       inside, and the bar is narrow; or there is nothing to see: no slope at any step, or
                one that is lost in the noise
    undecided   inside of a wide bar
    """
    size = np.maximum(abs(slopes.value), abs(claimed))
    low, high = np.minimum(slopes.left, slopes.right), np.maximum(slopes.left, slopes.right)
    with np.errstate(all="ignore"):
        close = abs(claimed - slopes.value) <= problem.tolerance(size) + 2 * slopes.bar
        room = problem.tolerance(np.maximum(abs(low), abs(high))) + slopes.bar * slopes.kink
        between = (low - room <= claimed) & (claimed <= high + room)
    still = (claimed == 0) & (slopes.steepest == 0)
    lost = np.maximum(size, slopes.bar) <= LOST * slopes.floor
    verdicts = {
        "nonfinite": ~np.isfinite(claimed),
        "kink": slopes.kink & between,
        "wrong": ~close & np.isfinite(slopes.bar),
        "match": _is_narrow(problem, size, slopes) | still | close & lost,
    }
    return np.select([*verdicts.values()], [*verdicts], "undecided")


def _is_narrow(problem: Problem, size: PerIndex, slopes: Slopes) -> Flags:
    """Whether a bar is small beside the steepest slope of its element and of the whole leaf."""
    steep = np.maximum(size, slopes.steepest)
    in_leaf = np.max(abs(slopes.value[np.isfinite(slopes.bar)]), initial=0)
    share = np.clip(100 * problem.rtol, 1e-4, WIDE)
    beside_leaf = slopes.bar <= problem.atol + share * np.maximum(steep, in_leaf)
    return beside_leaf & (slopes.bar <= problem.atol + WIDE * np.maximum(steep, FLAT * in_leaf))


def skipped(leaf: Leaf) -> LeafReport:
    checked = f"not at all: {leaf.skipped}"
    return LeafReport(
        path=leaf.path, shape=leaf.shape, dtype=leaf.dtype, checked=checked, verdict="skipped"
    )


def leaf_report(problem: Problem, leaf: Leaf, measured: Mapping[Leaf, Measured]) -> LeafReport:
    """Return the report on a leaf: on the first gradient that is wrong, or on the last."""
    if leaf not in measured:
        return skipped(leaf)
    reports = [_report(problem, leaf, measured, name) for name in problem.claims.gradients]
    report = next((report for report in reports if report.verdict in REFUSED), reports[-1])
    return _compare_own(problem, leaf, _compare_forward(problem, leaf, report))


def _report(
    problem: Problem, leaf: Leaf, measured: Mapping[Leaf, Measured], name: str
) -> LeafReport:
    """Return the report on a leaf, from the verdicts on its elements in the gradient `name`."""
    here, claims = measured[leaf], problem.claims
    shown = claims.gradients[name]
    codes = verdicts_on(problem, shown[here.indices], here.slopes)
    right = hidden(problem, here) & ~differs(problem, leaf, name)[here.numbers]
    codes = np.where(right, "match", codes)
    verdict = next(code for code in GRAVEST_FIRST if (codes == code).any())
    bad = (codes == verdict) & (verdict != "match")
    first = np.flatnonzero(bad)[:MOST_FINDINGS]
    disagrees = name if verdict in REFUSED else "none"
    found = functools.partial(_finding, leaf, claims.gradients, disagrees)
    columns = here.indices[first], here.slopes.value[first], here.slopes.bar[first]
    apart = np.max(claims.apart(name, leaf)) / (np.max(abs(claims.first[leaf.span])) or 1.0)
    report = LeafReport(
        path=leaf.path,
        shape=leaf.shape,
        dtype=leaf.dtype,
        checked=here.checked,
        verdict=verdict,
        error=max(_error(here, codes, shown), float(apart)),
        findings=tuple(map(found, *columns)),
    )
    if verdict not in REFUSED:
        return report
    alike = [m for m in measured.values() if (m.leaf.shape, m.leaf.size) == (leaf.shape, leaf.size)]
    others = [m for m in alike if m is not here]
    why = looks_like(here, shown[leaf.span], bad, others, _batch_sizes(problem))
    return dataclasses.replace(report, looks_like=why)


def hidden(problem: Problem, here: Measured) -> Flags:
    """Whether a `stop_gradient` hides a slope: the gradient is wrong, and right without it."""

    def is_wrong(gradient: Vector) -> Flags:
        return verdicts_on(problem, gradient[here.indices], here.slopes) == "wrong"

    return is_wrong(problem.claims.first) & ~is_wrong(problem.claims.visible)


def _error(measured: Measured, codes: Verdicts, shown: Vector) -> float:
    """Return the largest visible difference from a numerical slope, over the leaf's largest."""
    slopes, claimed = measured.slopes, shown[measured.indices]
    gap = abs(claimed - slopes.value)
    seen = np.isfinite(gap) & np.isin(codes, ["match", "wrong"])
    seen &= abs(claimed) > LOST * slopes.floor
    largest = np.max(abs(slopes.value[np.isfinite(slopes.bar)]), initial=0) or 1.0
    return float(np.max(gap[seen], initial=0) / largest)


def _batch_sizes(problem: Problem) -> list[int]:
    """Return the leading axes, and the sizes, of the arrays that a function takes or holds."""
    jaxpr = problem.phi.jaxpr
    shapes = {leaf.shape for leaf in jax.tree.leaves(problem.at.args) if hasattr(leaf, "shape")}
    shapes |= constant_shapes(jaxpr.jaxpr) if jaxpr else set()
    return sorted({shape[0] for shape in shapes if shape} | {math.prod(s) for s in shapes})


def _finding(
    leaf: Leaf, gradients: Mapping[str, Any], disagrees: str, index: Any, slope: Any, bar: Any
) -> Finding:
    """Return the gradients at an index of the vector; a complex one as JAX conjugates it."""
    element, part, sign = leaf.located(int(index))
    values = {name: sign * float(gradient[index]) for name, gradient in gradients.items()}
    return Finding(
        path=leaf.path,
        index=element,
        part=part,
        jax=values.get("jax.grad", math.nan),
        hand=values.get("hand"),
        numerical=sign * float(slope),
        bar=float(bar),
        disagrees=disagrees,
    )


def _compare_forward(problem: Problem, leaf: Leaf, report: LeafReport) -> LeafReport:
    """Compare `J v` with `g · v` on a leaf; bisection finds an element at which they differ."""
    claims = problem.claims
    forward, claimed, v = claims.forward, claims.first, claims.v
    if forward is None or report.verdict not in ("match", "kink"):
        return report
    lost = problem.lost(leaf)

    def off(low: int, high: int) -> bool:
        terms = claimed[low:high] * v[low:high]
        rounding = np.linalg.norm(lost[low - leaf.start : high - leaf.start])
        bar = problem.atol + rounding + 10 * problem.rtol * np.linalg.norm(terms)
        return bool(abs(forward(low, high) - terms.sum()) > bar)

    if not off(leaf.start, leaf.end):
        return report
    index = bisected(off, leaf.start, leaf.end)
    by_forward = {index: forward(index, index + 1) / v[index]}
    slopes = element_slopes(problem, leaf, np.array([index]))
    element = index, slopes.value[0], slopes.bar[0]
    found = _finding(leaf, {"jax.grad": by_forward}, "forward mode", *element)
    why = "forward mode differs from reverse mode"
    return dataclasses.replace(report, verdict="wrong", looks_like=why, findings=(found,))


def bisected(off: Callable[[int, int], bool], low: int, high: int) -> int:
    """Return an index of `low ≤ index < high` that is off, as the whole range is."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if off(low, middle) else (middle, high)
    return low


def _compare_own(problem: Problem, leaf: Leaf, report: LeafReport) -> LeafReport:
    """Compare the gradients in the leaf's own dtype with the first in float64."""
    if report.verdict in REFUSED:
        return report
    claims, claimed = problem.claims, problem.claims.first
    largest = np.max(abs(claimed[leaf.span]))
    epsilon = max(epsilon_of(leaf), problem.phi.epsilon)
    lost = problem.lost(leaf) * epsilon / problem.phi.epsilon
    rounding = 16 * claims.moved[leaf.span] + 4 * np.sqrt(epsilon) * largest
    size = max(largest, np.max(lost)) or 1.0
    for name, gradient in claims.own.items():
        gap = abs(gradient[leaf.span] - claimed[leaf.span])
        bad = np.flatnonzero(~(gap <= rounding + lost))
        if bad.size:
            index = leaf.start + bad[0]
            there = {**claims.gradients, **claims.own}
            found = _finding(leaf, there, name, index, claimed[index], 0.0)
            verdict = "wrong" if np.isfinite(gradient[index]) else "nonfinite"
            why = f"right in float64, not in {leaf.dtype}"
            return dataclasses.replace(report, verdict=verdict, looks_like=why, findings=(found,))
        report = dataclasses.replace(report, error=max(report.error, float(np.max(gap) / size)))
        lost = np.minimum(lost, 8 * np.max(gap) + lost / 1024)  # by hand no worse than jax.grad
    return report
