"""The likely mistake in a wrong gradient: sign flipped in one row, a factor, transposed, zero.

Each hypothesis about the wrong elements is a gradient of its own. The first that explains all but a
hundredth of the error is the answer. Then the region of the wrong elements is named.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from funcnet.gradcheck._slopes import Flags, Measured, PerIndex, Sizes

WHOLE = ("transposed", "shifted", "the gradient of")  # these may leave some elements right


def looks_like(
    here: Measured, whole: Sizes, wrong: Flags, others: Sequence[Measured], batch_sizes: list[int]
) -> str:
    """Return what a wrong gradient does instead, and where; "wrong" if no hypothesis fits.

    `whole` is the claimed gradient of the whole leaf, `others` are the other leaves of its shape,
    and `batch_sizes` the counts over which a mean could have been taken.
    """
    with np.errstate(all="ignore"):
        what = next(_hypotheses(here, whole, wrong, others, batch_sizes), "wrong")
        where = _where(here, wrong)
    return what if what.startswith(WHOLE) or not where else f"{what} {where}"


def _explains(guess: PerIndex, claimed: PerIndex, truth: PerIndex) -> bool:
    """Whether a guess leaves no more than a hundredth of the error unexplained."""
    return bool(np.max(abs(claimed - guess)) <= 0.01 * np.max(abs(claimed - truth)))


def _hypotheses(
    here: Measured, whole: Sizes, wrong: Flags, others: Sequence[Measured], batch_sizes: list[int]
) -> Iterator[str]:
    """Yield each hypothesis that the evidence supports."""
    shape, parts = here.leaf.shape, here.leaf.parts
    all_claimed, all_truth = whole[here.numbers], here.slopes.value
    claimed, truth = all_claimed[wrong], all_truth[wrong]
    if np.isnan(claimed).any():
        yield "NaN"
    if np.isinf(claimed).any():
        yield "infinite"
    if not claimed.any():
        yield "zero"
    several = len(truth) > 1 or len(all_truth) == 1
    factor = float(claimed @ truth / (truth @ truth)) if truth.any() else 0.0
    if several and _explains(factor * truth, claimed, truth):
        yield _factor(factor, batch_sizes)
    if len(shape) == 2 and shape[0] == shape[1] and len(truth) > 1:
        mirrored = whole.reshape(*shape, parts).swapaxes(0, 1).ravel()[here.numbers]
        if _explains(mirrored, all_truth, all_claimed):
            yield "transposed"
    if len(truth) > 2:
        for by in (parts, -parts):
            rolled = np.roll(whole, by)[here.numbers]
            fits = abs(rolled - all_truth) <= 0.01 * np.max(abs(claimed - truth))
            if fits.sum() >= len(fits) - parts:
                yield "shifted by one element"
        offset = float(np.median(claimed - truth))
        if _explains(truth + offset, claimed, truth):
            yield f"right up to a constant, {offset:.4g}"
    for other in others:
        slopes = other.slopes.value
        gap = abs(whole[other.numbers] - slopes)
        if slopes.any() and np.max(gap) <= 1e-3 * np.max(abs(slopes)):
            yield f"the gradient of {other.leaf.path}"


def _factor(factor: float, batch_sizes: list[int]) -> str:
    if abs(factor + 1) < 1e-3:
        return "sign flipped"
    for m in batch_sizes:
        if m > 1 and abs(factor / m - 1) < 1e-3:
            return f"{m} times too large: the mean's 1/m is missing"
        if m > 2 and abs(factor * m - 1) < 1e-3:
            return f"{m} times too small: the mean's 1/m is taken twice"
    return f"a constant factor, {factor:.4g}"


def _where(here: Measured, wrong: Flags) -> str:
    """Return which elements are wrong; nothing if almost all that have a gradient are."""
    leaf, x, right = here.leaf, here.x, ~wrong & (here.slopes.value != 0)
    if right.sum() <= 0.1 * wrong.sum():
        return ""
    elements = np.unravel_index(here.numbers[wrong] // leaf.parts, leaf.shape)
    if len({*zip(*elements, strict=True)}) == 1:
        return "at one element"
    if leaf.parts == 2 and len(part := {*here.numbers[wrong] % 2}) == 1:
        return f"in the {('real', 'imaginary')[part.pop()]} parts"
    for axis, indices in enumerate(elements):
        if len(elements) > 1 and leaf.shape[axis] > 1 and len(set(indices)) == 1:
            name = ("row", "column")[axis] if len(elements) == 2 else f"axis {axis} at"
            return f"in {name} {indices[0]}"
    if x[wrong].max() < x[right].min() and x[wrong].max() <= 0:
        return "where the argument is negative"
    if x[wrong].min() > x[right].max() and x[wrong].min() >= 0:
        return "where the argument is positive"
    return f"at {wrong.sum()} of the {len(wrong)} elements looked at"
