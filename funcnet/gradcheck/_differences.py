"""Numerical differentiation with an error bar: central differences, extrapolated, in float64.

A slope is measured at several steps, each an eighth of the one before. Richardson's extrapolation
takes out the terms in t² and t⁴ of its error. The error bar is the difference of two neighbouring
estimates, and the rounding noise of the values divided by the step. The estimate with the smallest
bar wins. So a kink within the larger steps, or noise within the smaller, only costs accuracy.

Ridders, *Accurate computation of F'(x) and F'(x)F''(x)* (1982); Moré and Wild, *Estimating
computational noise* (2011).
"""

import math
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float64

RATIO = 8.0  # of a step and the next

Steps: TypeAlias = Float64[np.ndarray, "steps"]
PerLine: TypeAlias = Float64[np.ndarray, "lines"]
PerStep: TypeAlias = Float64[np.ndarray, "lines steps"]
BothSides: TypeAlias = Float64[np.ndarray, "lines 2 steps"]  # at t, and at −t
Finer: TypeAlias = Float64[np.ndarray, "lines left"]


class Slopes(NamedTuple):
    """Numerical derivatives along lines, one entry per line."""

    value: PerLine  # at a kink the mean of both sides
    bar: PerLine  # the error bar
    left: PerLine  # the slope towards smaller arguments, at the smallest useful step
    right: PerLine
    kink: Bool[np.ndarray, "lines"]  # left and right differ by more than noise and curvature
    steepest: PerLine  # the largest slope at any step
    floor: PerLine  # the noise over the largest step: a slope below it cannot be seen


def steps(exponent: int, count: int) -> Steps:
    """Return `count` steps, the first of them `2⁻ᵉˣᵖᵒⁿᵉⁿᵗ`."""
    return 2.0**-exponent / RATIO ** np.arange(count)


def extrapolate(
    values: BothSides, middle: float, t: Steps, *, noise: float, rounding: float, epsilon: float
) -> Slopes:
    """Return the slopes at 0 from the values at t and at −t, with their error bars.

    The tableau is `Aₘ(t) = (64ᵐ Aₘ₋₁(t) − Aₘ₋₁(8t)) / (64ᵐ − 1)`,
    with `A₀(t) = (f(t) − f(−t)) / 2t`. `rounding` is the part of the noise of a value that rounding
    alone explains; `epsilon` is the relative precision of arguments and values.
    """
    plus, minus = values[:, 0], values[:, 1]
    with np.errstate(all="ignore"):
        central = (plus - minus) / (2 * t)
        last_digits = epsilon * (np.maximum(abs(plus), abs(minus)) + abs(central))
        noise_of_slope = (noise + last_digits) / t
        right, left = (plus - middle) / t, (middle - minus) / t
        value, bar = _smallest_bar(central, noise_of_slope)
        sizes = np.where(np.isfinite(left) & np.isfinite(right), np.fmax(abs(left), abs(right)), 0)
        left, right, kink = _sides(left, right, noise_of_slope)
        steepest, floor = sizes.max(axis=1), np.fmin.reduce((rounding + last_digits) / t, axis=1)
    return Slopes(
        value=value, bar=bar, left=left, right=right, kink=kink, steepest=steepest, floor=floor
    )


def _sides(
    left: PerStep, right: PerStep, noise_of_slope: PerStep
) -> tuple[PerLine, PerLine, Bool[np.ndarray, "lines"]]:
    """Return the slopes of both sides, and whether they differ, at the smallest clear step.

    As the step shrinks by 8, `right − left` shrinks with it over a curve, stays over a kink, and
    grows by 8 over a jump. At a jump both are the slope of the side without it, or NaN.
    """
    clear = np.isfinite(right - left) & (abs(right - left) > 20 * noise_of_slope)
    last = clear.shape[1] - 1
    level = np.where(clear.any(axis=1), last - np.argmax(clear[:, ::-1], axis=1), last)
    lines = np.arange(len(level))
    slopes = np.stack([left, right, right - left])
    at, before = abs(slopes[:, lines, level]), abs(slopes[:, lines, np.maximum(level - 1, 0)])
    kink = clear.any(axis=1) & (level > 0) & (at[2] > 0.5 * before[2])
    jumps = ((level > 0) & (at > 4 * before) & (before > 0))[:2]
    sides = slopes[:2, lines, level]
    left, right = np.where(jumps, np.where(jumps, np.nan, sides)[::-1], sides)
    return left, right, kink


def _smallest_bar(column: PerStep, noise_of_slope: PerStep) -> tuple[PerLine, PerLine]:
    """Return the entry with the smallest error bar, of the tableau that begins with this column.

    The bar of an entry that smaller steps contradict, which has a kink within its own step, is the
    contradiction.
    """
    plain, plain_bar = column, _plain_bar(column, noise_of_slope)
    values, bars = [], []
    for order in range(1, min(4, column.shape[1])):
        weight = RATIO ** (2 * order)
        finer = (weight * column[:, 1:] - column[:, :-1]) / (weight - 1)
        spreads = abs(np.diff(column, axis=1)), _spread(finer, column)
        for value, spread, times in zip((column[:, 1:], finer), spreads, (1, 2), strict=True):
            bar = spread + times * noise_of_slope[:, order:]
            values.append(value)
            bars.append(np.maximum(bar, _contradiction(value, plain, plain_bar, order)))
        column = finer
    values, bars = np.concatenate(values, axis=1), np.concatenate(bars, axis=1)
    bars = np.where(np.isfinite(values) & np.isfinite(bars), bars, np.inf)
    best = np.argmin(bars, axis=1)
    lines = np.arange(len(best))
    return values[lines, best], bars[lines, best]


def _plain_bar(plain: PerStep, noise_of_slope: PerStep) -> PerStep:
    """Return a central difference's distance from the closer of its neighbours, and the noise."""
    before = abs(np.diff(plain, axis=1, prepend=np.inf)) + noise_of_slope
    after = abs(np.diff(plain, axis=1, append=np.inf)) + noise_of_slope
    after[:, :-1] += noise_of_slope[:, 1:]
    return np.fmin(before, after)


def _contradiction(value: Finer, plain: PerStep, plain_bar: PerStep, order: int) -> Finer:
    """Return the distance of a value from the differences of smaller steps, beyond their bars."""
    excess = abs(value[:, :, None] - plain[:, None]) - plain_bar[:, None]
    smaller = np.arange(plain.shape[1]) > order + np.arange(value.shape[1])[:, None]
    return np.fmax.reduce(np.where(smaller, excess, 0.0), axis=2, initial=0.0)


def _spread(finer: Finer, column: PerStep) -> Finer:
    """Return the distance of an extrapolated value from its ingredients and from its neighbour."""
    step = abs(finer - column[:, 1:])
    step[:, 1:] = np.maximum(step[:, 1:], abs(np.diff(finer, axis=1)))
    step[:, 0] = np.maximum(step[:, 0], abs(column[:, 1] - column[:, 0]))  # without a neighbour
    return step


def noise_of(values: Float64[np.ndarray, "spacings points"]) -> float:
    """Return the noise of values at equally spaced points, from their fourth differences.

    A smooth function's k-th difference vanishes with the spacing; noise of deviation σ leaves
    `σ √(2k choose k)`. The median over several spacings passes by a plateau and a kink.
    """
    with np.errstate(all="ignore"):
        rest = np.diff(values, n=4, axis=-1)
        deviations = np.sqrt(np.mean(rest**2, axis=-1) / math.comb(8, 4))
    finite = deviations[np.isfinite(deviations)]
    return float(np.median(finite)) if finite.size else 0.0
