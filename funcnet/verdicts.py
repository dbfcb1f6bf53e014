"""From slopes with error bars to verdicts: on an element, and on a leaf."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from funcnet import diagnosis, numerical, roads
from funcnet.probe import Problem, element_slopes
from funcnet.reports import MOST_FINDINGS, Finding, LeafReport


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
    places: np.ndarray
    slopes: numerical.Slopes
    hidden: np.ndarray
    checked: str


def judge(problem: Problem, claimed: np.ndarray, slopes: numerical.Slopes) -> np.ndarray:
    """A verdict for each element: "wrong" only outside tolerance and bar, "noisy" in a wide bar."""
    value, bar, left, right, kink, steepest = slopes
    atol, rtol = problem.atol, problem.rtol
    size = np.maximum(abs(value), abs(claimed))
    steep = np.maximum(size, steepest)
    in_leaf = np.max(abs(value[np.isfinite(bar)]), initial=0)
    rounding = 64 * problem.epsilon * max(abs(problem.middle), 1e-300) / problem.at.scale
    with np.errstate(all="ignore"):
        close = abs(claimed - value) <= atol + rtol * size + 2 * bar
        room = atol + rtol * np.maximum(abs(left), abs(right)) + bar * kink
        between = np.minimum(left, right) - room <= claimed
        between &= claimed <= np.maximum(left, right) + room
    narrow = bar <= atol + max(100 * rtol, 1e-4) * np.maximum(steep, 1e-2 * in_leaf)
    narrow &= bar <= atol + 0.05 * np.maximum(steep, in_leaf)
    still = (claimed == 0) & (steepest == 0)
    lost = (size <= rounding) & close
    return np.select(
        [~np.isfinite(claimed), kink & between, ~close & np.isfinite(bar), narrow | still | lost],
        ["nonfinite", "kink", "wrong", "match"],
        "noisy",
    )


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
    problem: Problem, look: Look, claimed: np.ndarray, hand: np.ndarray | None
) -> LeafReport:
    """The verdict on a leaf: of the elements looked at, and of hand against `jax.grad` on all."""
    codes = np.where(look.hidden, "match", judge(problem, claimed[look.places], look.slopes))
    report = _leaf_report(problem, look, codes, "jax.grad", claimed, claimed, hand)
    if hand is None or hand is claimed or report.verdict in ("wrong", "nonfinite"):
        return report
    cut, places = look.leaf.places, look.places
    gap, slope = abs(hand[cut] - claimed[cut]), abs(claimed[cut])
    largest = np.max(slope)
    off = ~(gap <= problem.atol + problem.rtol * np.maximum(slope, 1e-6 * largest))
    codes = judge(problem, hand[places], look.slopes)
    codes = np.where(look.hidden & ~off[places - look.leaf.start], "match", codes)
    if off.any() and not (codes == "wrong").any():
        extra = look.leaf.start + np.flatnonzero(off)[:MOST_FINDINGS]
        look = _with_elements(problem, look, extra, hand)
        codes = np.concatenate([codes, judge(problem, hand[extra], element_slopes_of(look, extra))])
    report = _leaf_report(problem, look, codes, "hand", hand, claimed, hand)
    return report._replace(error=max(report.error, float(np.max(gap) / (largest or 1.0))))


def element_slopes_of(look: Look, extra: np.ndarray) -> numerical.Slopes:
    """The slopes of the last elements of a look."""
    return numerical.Slopes._make(side[-len(extra) :] for side in look.slopes)


def _with_elements(problem: Problem, look: Look, extra: np.ndarray, claimed: np.ndarray) -> Look:
    more = element_slopes(problem, look.leaf, extra, claimed)
    return look._replace(
        places=np.concatenate([look.places, extra]),
        slopes=numerical.Slopes._make(map(np.concatenate, zip(look.slopes, more, strict=True))),
    )


def _leaf_report(
    problem: Problem,
    look: Look,
    codes: np.ndarray,
    road: str,
    shown: np.ndarray,
    claimed: np.ndarray,
    hand: np.ndarray | None,
) -> LeafReport:
    leaf, places, slopes = look.leaf, look.places, look.slopes
    order = ["nonfinite", "wrong", "noisy", "kink", "match"]
    verdict = next(code for code in order if (codes == code).any())
    refused = verdict in ("wrong", "nonfinite")
    bad = (codes == verdict) & (verdict != "match")
    gap = abs(shown[places] - slopes.value)
    gap = np.where(np.isfinite(gap) & np.isin(codes, ["match", "wrong"]), gap, 0)
    largest = np.max(abs(slopes.value[np.isfinite(slopes.bar)]), initial=0) or 1.0
    findings = tuple(
        Finding(
            path=leaf.path,
            index=leaf.element(int(places[i])),
            jax=float(claimed[places[i]]),
            hand=None if hand is None else float(hand[places[i]]),
            numerical=float(slopes.value[i]),
            bar=float(slopes.bar[i]),
            road=road if refused else "none",
        )
        for i in np.flatnonzero(bad)[:MOST_FINDINGS]
    )
    looks = diagnosis.looks_like(
        shown[places],
        slopes.value,
        bad,
        x=problem.at.vector[places],
        indices=(places - leaf.start) // leaf.parts,
        whole=shown[leaf.places],
        shape=leaf.shape,
        batch_sizes=_batch_sizes(problem.at.args),
    )
    return LeafReport(
        path=leaf.path,
        shape=leaf.shape,
        dtype=leaf.dtype,
        checked=look.checked,
        verdict=verdict,
        error=float(np.max(gap, initial=0) / largest),
        looks_like=looks if refused else None,
        findings=findings,
    )


def name_swaps(
    looks: Sequence[Look],
    reports: Sequence[LeafReport],
    claimed: np.ndarray,
    hand: np.ndarray | None,
) -> list[LeafReport]:
    """The reports, and of a wrong leaf whether it has the gradient of another leaf instead."""

    def named(look: Look, report: LeafReport) -> LeafReport:
        explained = report.looks_like is not None and not report.looks_like.endswith("are off")
        if report.verdict != "wrong" or explained:
            return report
        shown = hand if hand is not None and report.findings[0].road == "hand" else claimed
        for other in looks:
            if other is look or other.leaf.shape != look.leaf.shape:
                continue
            truth = other.slopes.value
            if truth.any() and diagnosis.close(shown[other.places + _offset(other, look)], truth):
                return report._replace(looks_like=f"the gradient of {other.leaf.path}")
        return report

    return [named(look, report) for look, report in zip(looks, reports, strict=True)]


def _offset(one: Look, other: Look) -> int:
    return other.leaf.start - one.leaf.start


def _batch_sizes(args: tuple) -> list[int]:
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(args) if hasattr(leaf, "shape")]
    return sorted({shape[0] for shape in shapes if shape} | {int(np.prod(s)) for s in shapes})


def hold_own_precision(
    problem: Problem,
    report: LeafReport,
    leaf: roads.Leaf,
    claimed: np.ndarray,
    own: Mapping[str, np.ndarray],
) -> LeafReport:
    """A gradient in the leaf's own dtype against the one in float64, which was checked."""
    if report.verdict not in ("match", "kink"):
        return report
    largest = np.max(abs(claimed[leaf.places]))
    epsilon = float(jnp.finfo(leaf.dtype).eps)
    rounding = 64 * epsilon * abs(problem.middle) / problem.at.scale
    for road, gradient in own.items():
        gap = abs(gradient[leaf.places] - claimed[leaf.places])
        bad = ~(gap <= rounding + 4 * np.sqrt(epsilon) * largest)
        if bad.any():
            place = leaf.start + int(np.flatnonzero(bad)[0])
            return _rounded(report, leaf, place, road, claimed, own)
        report = report._replace(error=max(report.error, float(np.max(gap) / (largest or 1.0))))
    return report


def _rounded(
    report: LeafReport,
    leaf: roads.Leaf,
    place: int,
    road: str,
    claimed: np.ndarray,
    own: Mapping[str, np.ndarray],
) -> LeafReport:
    """The record of a leaf whose gradient is right in float64 only."""
    finite = bool(np.isfinite(own[road][place]))
    finding = Finding(
        path=leaf.path,
        index=leaf.element(place),
        jax=float(own.get("jax.grad", claimed)[place]),
        hand=float(own["hand"][place]) if "hand" in own else None,
        numerical=float(claimed[place]),
        bar=0.0,
        road=road,
    )
    verdict = "nonfinite" if not finite else "wrong" if road == "hand" else "noisy"
    looks = f"right in float64, not in {leaf.dtype}: rounding"
    return report._replace(verdict=verdict, looks_like=looks, findings=(finding,))
