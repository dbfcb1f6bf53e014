"""From slopes with error bars to verdicts: on an element, and on a leaf."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import jax
import numpy as np
from jaxtyping import Bool, Int, Shaped

from funcnet.gradcheck import _diagnosis as diagnosis
from funcnet.gradcheck import _differences as numerical
from funcnet.gradcheck import _vector as roads
from funcnet.gradcheck._report import MOST_FINDINGS, Finding, LeafReport
from funcnet.gradcheck._slopes import Elements, Problem, element_slopes, lost_slopes

LOST = 256
"""A slope of so many times the noise over the largest step is lost in it."""

WIDE = 0.05
"""A bar of this share of a slope, or more, says nothing about it."""

FLAT = 2e-5
"""A slope of this share of its leaf's largest, or less, is flat: it need not be told from 0."""

Gradients: TypeAlias = Mapping[str, roads.Vector]
"""A gradient by the name of its road, "jax.grad" or "hand"."""

Verdicts: TypeAlias = Shaped[np.ndarray, "places"]
"""A verdict, a string, for each of the places that are looked at."""

GRAVEST_FIRST = ("nonfinite", "wrong", "undecided", "kink", "match")
"""A leaf's verdict is the gravest of its elements'."""

REFUSED = ("wrong", "nonfinite")
"""What a check does not pass with."""


class Look(NamedTuple):
    """A leaf, and the numerical slopes of those of its numbers that were looked at.

    Attributes:
      leaf: the leaf.
      places: which numbers, by their places in the vector.
      slopes: their slopes.
      hidden: which of them the function hides behind a `stop_gradient`.
      checked: how they were chosen, in words.
    """

    leaf: roads.Leaf
    places: Int[np.ndarray, "places"]
    slopes: numerical.Slopes
    hidden: Bool[np.ndarray, "places"]
    checked: str


def judge(problem: Problem, claimed_here: Elements, slopes: numerical.Slopes) -> Verdicts:
    """A verdict for each element: what a claimed gradient is, seen from its numerical slopes.

    nonfinite   infinite or NaN
    kink        between the slopes of both sides, which differ
    wrong       outside of the tolerance and the error bar
    match       inside, and the bar is narrow; or there is nothing to see: no slope at any step, or
                one that is lost in the noise
    undecided   inside of a wide bar
    """
    close = _is_close(problem, claimed_here, slopes)
    still = (claimed_here == 0) & (slopes.steepest == 0)
    decided = (
        _is_narrow(problem, claimed_here, slopes) | still | close & _is_lost(claimed_here, slopes)
    )
    return np.select(
        [
            ~np.isfinite(claimed_here),
            slopes.kink & _is_between(problem, claimed_here, slopes),
            ~close & np.isfinite(slopes.bar),
            decided,
        ],
        ["nonfinite", "kink", "wrong", "match"],
        "undecided",
    )


def _size(claimed_here: Elements, slopes: numerical.Slopes) -> Elements:
    """Of an element: its numerical slope or its claimed one, whichever is the larger."""
    return np.maximum(abs(slopes.value), abs(claimed_here))


def _is_close(
    problem: Problem, claimed_here: Elements, slopes: numerical.Slopes
) -> Bool[np.ndarray, "places"]:
    tolerance = problem.atol + problem.rtol * _size(claimed_here, slopes)
    with np.errstate(all="ignore"):
        return abs(claimed_here - slopes.value) <= tolerance + 2 * slopes.bar


def _is_between(
    problem: Problem, claimed_here: Elements, slopes: numerical.Slopes
) -> Bool[np.ndarray, "places"]:
    left, right = slopes.left, slopes.right
    with np.errstate(all="ignore"):
        tolerance = problem.atol + problem.rtol * np.maximum(abs(left), abs(right))
        room = tolerance + slopes.bar * slopes.kink
        return (np.minimum(left, right) - room <= claimed_here) & (
            claimed_here <= np.maximum(left, right) + room
        )


def _is_narrow(
    problem: Problem, claimed_here: Elements, slopes: numerical.Slopes
) -> Bool[np.ndarray, "places"]:
    """Whether a bar is small beside the steepest slope of its element and of the whole leaf.

    It may be a hundred tolerances of the larger of them, and `WIDE` of the element's own, or, for
    one that is nearly flat, of what is `FLAT` in its leaf.
    """
    steep = np.maximum(_size(claimed_here, slopes), slopes.steepest)
    in_leaf = np.max(abs(slopes.value[np.isfinite(slopes.bar)]), initial=0)
    share = np.clip(100 * problem.rtol, 1e-4, WIDE)
    beside_leaf = slopes.bar <= problem.atol + share * np.maximum(steep, in_leaf)
    return beside_leaf & (slopes.bar <= problem.atol + WIDE * np.maximum(steep, FLAT * in_leaf))


def _is_lost(claimed_here: Elements, slopes: numerical.Slopes) -> Bool[np.ndarray, "places"]:
    return np.maximum(_size(claimed_here, slopes), slopes.bar) <= LOST * slopes.floor


def skipped(leaf: roads.Leaf) -> LeafReport:
    """The record of a leaf without numbers."""
    return LeafReport(
        path=leaf.path,
        shape=leaf.shape,
        dtype=leaf.dtype,
        checked=f"not at all: {leaf.skipped}",
        verdict="skipped",
    )


def judge_leaf(
    problem: Problem, look: Look, claimed: roads.Vector, hand: roads.Vector | None
) -> LeafReport:
    """The verdict on a leaf: of the elements looked at, and of hand against `jax.grad` on all."""
    codes = np.where(look.hidden, "match", judge(problem, claimed[look.places], look.slopes))
    gradients = {"jax.grad": claimed} | ({} if hand is None else {"hand": hand})
    report = _leaf_report(problem, look, codes, "jax.grad", gradients)
    if hand is None or hand is claimed or report.verdict in REFUSED:
        return report
    cut, places = look.leaf.places, look.places
    gap, slope = abs(hand[cut] - claimed[cut]), abs(claimed[cut])
    largest = np.max(slope)
    off = ~(gap <= problem.atol + problem.rtol * np.maximum(slope, 1e-6 * largest))
    codes = judge(problem, hand[places], look.slopes)
    codes = np.where(look.hidden & ~off[places - look.leaf.start], "match", codes)
    if off.any() and not (codes == "wrong").any():
        extra = look.leaf.start + np.flatnonzero(off)[:MOST_FINDINGS]
        more = element_slopes(problem, look.leaf, extra, hand)
        look = _with_elements(look, extra, more)
        codes = np.concatenate([codes, judge(problem, hand[extra], more)])
    report = _leaf_report(problem, look, codes, "hand", gradients)
    return report._replace(error=max(report.error, float(np.max(gap) / (largest or 1.0))))


def _with_elements(look: Look, places: Int[np.ndarray, "extra"], slopes: numerical.Slopes) -> Look:
    return look._replace(
        places=np.concatenate([look.places, places]),
        slopes=numerical.Slopes._make(map(np.concatenate, zip(look.slopes, slopes, strict=True))),
    )


def _leaf_report(
    problem: Problem, look: Look, codes: Verdicts, road: str, gradients: Gradients
) -> LeafReport:
    """The record of a leaf, from the verdicts on its elements: of the gradient by this road."""
    shown = gradients[road]
    verdict = next(code for code in GRAVEST_FIRST if (codes == code).any())
    bad = (codes == verdict) & (verdict != "match")
    refused = verdict in REFUSED
    return LeafReport(
        path=look.leaf.path,
        shape=look.leaf.shape,
        dtype=look.leaf.dtype,
        checked=look.checked,
        verdict=verdict,
        error=_error(look, codes, shown),
        looks_like=diagnosis.looks_like(_evidence(problem, look, shown, bad)) if refused else None,
        findings=tuple(
            finding(
                look.leaf,
                int(look.places[i]),
                gradients,
                slope=float(look.slopes.value[i]),
                bar=float(look.slopes.bar[i]),
                road=road if refused else "none",
            )
            for i in np.flatnonzero(bad)[:MOST_FINDINGS]
        ),
    )


def _error(look: Look, codes: Verdicts, shown: roads.Vector) -> float:
    """The largest difference from a numerical slope that can be seen, over the leaf's largest."""
    slopes, claimed = look.slopes, shown[look.places]
    gap = abs(claimed - slopes.value)
    seen = np.isfinite(gap) & np.isin(codes, ["match", "wrong"])
    seen &= abs(claimed) > LOST * slopes.floor
    largest = np.max(abs(slopes.value[np.isfinite(slopes.bar)]), initial=0) or 1.0
    return float(np.max(gap[seen], initial=0) / largest)


def _evidence(
    problem: Problem, look: Look, shown: roads.Vector, wrong: Bool[np.ndarray, "places"]
) -> diagnosis.Evidence:
    return diagnosis.Evidence(
        claimed=shown[look.places],
        truth=look.slopes.value,
        wrong=wrong,
        x=problem.at.vector[look.places],
        numbers=look.places - look.leaf.start,
        whole=shown[look.leaf.places],
        shape=look.leaf.shape,
        batch_sizes=_batch_sizes(problem),
    )


def finding(
    leaf: roads.Leaf, place: int, gradients: Gradients, *, slope: float, bar: float, road: str
) -> Finding:
    """What the roads say at a place of the vector; of a complex gradient as JAX conjugates it."""
    part, sign = leaf.part(place)
    by_jax, by_hand = gradients.get("jax.grad"), gradients.get("hand")
    return Finding(
        path=leaf.path,
        index=leaf.element(place),
        part=part,
        jax=float("nan") if by_jax is None else sign * float(by_jax[place]),
        hand=None if by_hand is None else sign * float(by_hand[place]),
        numerical=sign * slope,
        bar=bar,
        road=road,
    )


def name_swaps(
    looks: Sequence[Look],
    reports: Sequence[LeafReport],
    claimed: roads.Vector,
    hand: roads.Vector | None,
) -> list[LeafReport]:
    """The reports, and of a wrong leaf whether it has the gradient of another leaf instead."""

    def named(look: Look, report: LeafReport) -> LeafReport:
        explained = not (report.looks_like or "").startswith("wrong")
        if report.verdict != "wrong" or explained:
            return report
        shown = hand if hand is not None and report.findings[0].road == "hand" else claimed
        for other in looks:
            if other is look or other.leaf.shape != look.leaf.shape:
                continue
            truth = other.slopes.value
            there = shown[other.places - other.leaf.start + look.leaf.start]
            if truth.any() and np.max(abs(there - truth)) <= 1e-3 * np.max(abs(truth)):
                return report._replace(looks_like=f"the gradient of {other.leaf.path}")
        return report

    return [named(look, report) for look, report in zip(looks, reports, strict=True)]


def _batch_sizes(problem: Problem) -> list[int]:
    """The leading axes, and the sizes, of the arrays that a function takes or holds."""
    arrays = [leaf for leaf in jax.tree.leaves(problem.at.args) if hasattr(leaf, "shape")]
    shapes = [*map(np.shape, arrays), *problem.held]
    return sorted({shape[0] for shape in shapes if shape} | {int(np.prod(s)) for s in shapes})


def hold_own_precision(
    problem: Problem,
    report: LeafReport,
    leaf: roads.Leaf,
    claimed: roads.Vector,
    own: Gradients,
    moved: roads.Vector,
) -> LeafReport:
    """A gradient in the leaf's own dtype against the one in float64, which was checked.

    What rounding the arguments moves the gradient by is no error of its own.
    """
    if report.verdict in REFUSED:
        return report
    largest = np.max(abs(claimed[leaf.places]))
    epsilon = max(leaf.epsilon, problem.epsilon)
    lost = lost_slopes(problem, leaf) * epsilon / problem.epsilon
    rounding = 16 * moved[leaf.places] + 4 * np.sqrt(epsilon) * largest
    size = max(largest, np.max(lost)) or 1.0
    for road, gradient in own.items():
        gap = abs(gradient[leaf.places] - claimed[leaf.places])
        bad = ~(gap <= rounding + lost)
        if bad.any():
            place = leaf.start + int(np.flatnonzero(bad)[0])
            return _rounded(report, leaf, place, road, claimed, own)
        report = report._replace(error=max(report.error, float(np.max(gap) / size)))
        lost = np.minimum(lost, 8 * np.max(gap) + lost / 1024)  # by hand no worse than jax.grad
    return report


def _rounded(
    report: LeafReport,
    leaf: roads.Leaf,
    place: int,
    road: str,
    claimed: roads.Vector,
    own: Gradients,
) -> LeafReport:
    """The record of a leaf whose gradient is right in float64 only."""
    finite = bool(np.isfinite(own[road][place]))
    there = {"jax.grad": claimed, **own}
    found = finding(leaf, place, there, slope=float(claimed[place]), bar=0.0, road=road)
    return report._replace(
        verdict="wrong" if finite else "nonfinite",
        looks_like=f"right in float64, not in {leaf.dtype}",
        findings=(found,),
    )
