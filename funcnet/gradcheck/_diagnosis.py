"""The likely mistake in a wrong gradient: sign flipped in one row, a factor, transposed, zero.

Each hypothesis about the wrong elements is a gradient of its own. The first that explains all but a
hundredth of the error is the answer. Then the region of the wrong elements is named.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from funcnet.gradcheck._slopes import Indices, PerIndex
from funcnet.gradcheck._vector import Leaf

WHOLE = ("transposed", "shifted", "the gradient of")  # these may leave some elements right


class Evidence(NamedTuple):
    """The numbers of a leaf that were checked."""

    leaf: Leaf
    numbers: Indices  # their indices in the flattened leaf
    x: PerIndex  # their values
    whole: Float64[np.ndarray, "size"]  # the claimed gradient of the whole leaf, flattened
    truth: PerIndex
    wrong: Bool[np.ndarray, "checked"]
    batch_sizes: Sequence[int] = ()  # the counts over which a mean could have been taken
    others: Sequence[tuple[str, Indices, PerIndex]] = ()
    """The paths, checked numbers and true slopes of the other leaves of this shape."""


def looks_like(found: Evidence) -> str:
    """Return what a wrong gradient does instead, and where; "wrong" if no hypothesis fits."""
    with np.errstate(all="ignore"):
        what = next(_hypotheses(found), "wrong")
        where = _where(found)
    return what if what.startswith(WHOLE) or not where else f"{what} {where}"


def _explains(guess: PerIndex, claimed: PerIndex, truth: PerIndex) -> bool:
    """Whether a guess leaves no more than a hundredth of the error unexplained."""
    return bool(np.max(abs(claimed - guess)) <= 0.01 * np.max(abs(claimed - truth)))


def _hypotheses(found: Evidence) -> Iterator[str]:
    """Yield each hypothesis that the evidence supports."""
    shape, parts = found.leaf.shape, found.leaf.parts
    all_claimed = found.whole[found.numbers]
    claimed, truth = all_claimed[found.wrong], found.truth[found.wrong]
    if np.isnan(claimed).any():
        yield "NaN"
    if np.isinf(claimed).any():
        yield "infinite"
    if not claimed.any():
        yield "zero"
    several = len(truth) > 1 or len(found.truth) == 1
    factor = float(claimed @ truth / (truth @ truth)) if truth.any() else 0.0
    if several and _explains(factor * truth, claimed, truth):
        yield _factor(factor, found.batch_sizes)
    if len(shape) == 2 and shape[0] == shape[1] and len(truth) > 1:
        mirrored = found.whole.reshape(*shape, parts).swapaxes(0, 1).ravel()[found.numbers]
        if _explains(mirrored, found.truth, all_claimed):
            yield "transposed"
    if len(truth) > 2:
        for by in (parts, -parts):
            rolled = np.roll(found.whole, by)[found.numbers]
            fits = abs(rolled - found.truth) <= 0.01 * np.max(abs(claimed - truth))
            if fits.sum() >= len(fits) - parts:
                yield "shifted by one element"
        offset = float(np.median(claimed - truth))
        if _explains(truth + offset, claimed, truth):
            yield f"right up to a constant, {offset:.4g}"
    for path, numbers, slopes in found.others:
        gap = abs(found.whole[numbers] - slopes)
        if slopes.any() and np.max(gap) <= 1e-3 * np.max(abs(slopes)):
            yield f"the gradient of {path}"


def _factor(factor: float, batch_sizes: Sequence[int]) -> str:
    if abs(factor + 1) < 1e-3:
        return "sign flipped"
    for m in batch_sizes:
        if m > 1 and abs(factor / m - 1) < 1e-3:
            return f"{m} times too large: the mean's 1/m is missing"
        if m > 2 and abs(factor * m - 1) < 1e-3:
            return f"{m} times too small: the mean's 1/m is taken twice"
    return f"a constant factor, {factor:.4g}"


def _where(found: Evidence) -> str:
    """Return which elements are wrong; nothing if almost all that have a gradient are."""
    x, wrong, right = found.x, found.wrong, ~found.wrong & (found.truth != 0)
    if right.sum() <= 0.1 * wrong.sum():
        return ""
    shape, parts = found.leaf.shape, found.leaf.parts
    elements = np.unravel_index(found.numbers[wrong] // parts, shape)
    if len({*zip(*elements, strict=True)}) == 1:
        return "at one element"
    if parts == 2 and len(part := {*found.numbers[wrong] % 2}) == 1:
        return f"in the {('real', 'imaginary')[part.pop()]} parts"
    for axis, indices in enumerate(elements):
        if len(shape) > 1 and shape[axis] > 1 and len(set(indices)) == 1:
            name = ("row", "column")[axis] if len(shape) == 2 else f"axis {axis} at"
            return f"in {name} {indices[0]}"
    if x[wrong].max() < x[right].min() and x[wrong].max() <= 0:
        return "where the argument is negative"
    if x[wrong].min() > x[right].max() and x[wrong].min() >= 0:
        return "where the argument is positive"
    return f"at {wrong.sum()} of the {len(wrong)} elements looked at"
