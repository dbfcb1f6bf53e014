"""What a wrong gradient looks like: sign flipped in one row, a factor, transposed, zero.

Each hypothesis about the wrong elements is a gradient of its own. The first that explains all but a
hundredth of the error is the answer. Then the region of the wrong elements is named.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int

WHOLE = ("transposed", "shifted by one element")
"""The hypotheses about a leaf as a whole, which may leave some elements right."""


class Evidence(NamedTuple):
    """The elements of a leaf that were checked; each part of a complex element by itself.

    Attributes:
      claimed: their claimed gradient.
      truth: their true gradient.
      wrong: whether each is wrong.
      x: their values.
      numbers: their indices in the flattened leaf.
      whole: the claimed gradient of the whole leaf, flattened.
      shape: the shape of the leaf.
      batch_sizes: the counts over which a mean could have been taken.
    """

    claimed: Float64[np.ndarray, "checked"]
    truth: Float64[np.ndarray, "checked"]
    wrong: Bool[np.ndarray, "checked"]
    x: Float64[np.ndarray, "checked"]
    numbers: Int[np.ndarray, "checked"]
    whole: Float64[np.ndarray, "size"]
    shape: tuple[int, ...]
    batch_sizes: Sequence[int] = ()

    @property
    def parts(self) -> int:
        """How many numbers make one element."""
        return self.whole.size // max(int(np.prod(self.shape)), 1)


def looks_like(found: Evidence) -> str:
    """Return what a wrong gradient does instead, and where; "wrong" if no hypothesis fits.

    >>> truth = np.array([1.0, 2.0, -3.0])
    >>> rest = {"x": truth, "numbers": np.arange(3), "shape": (3,)}
    >>> looks_like(Evidence(-truth, truth, truth != 0, whole=-truth, **rest))
    'sign flipped'
    >>> half = np.array([1.0, 2.0, -1.5])
    >>> looks_like(Evidence(half, truth, half != truth, whole=half, **rest))
    'wrong at one element'
    """
    with np.errstate(all="ignore"):
        what = next(_hypotheses(found), "wrong")
        where = _where(found)
    return what if what in WHOLE or not where else f"{what} {where}"


def explains(
    guess: Float64[np.ndarray, "checked"],
    claimed: Float64[np.ndarray, "checked"],
    truth: Float64[np.ndarray, "checked"],
) -> bool:
    """Whether a guess leaves no more than a hundredth of the error unexplained."""
    return bool(np.max(abs(claimed - guess)) <= 0.01 * np.max(abs(claimed - truth)))


def _hypotheses(found: Evidence) -> Iterator[str]:
    """Yield each hypothesis that the evidence supports."""
    claimed, truth = found.claimed[found.wrong], found.truth[found.wrong]
    if np.isnan(claimed).any():
        yield "NaN"
    if np.isinf(claimed).any():
        yield "infinite"
    if not claimed.any():
        yield "zero"
    several = len(truth) > 1 or len(found.truth) == 1
    factor = float(claimed @ truth / (truth @ truth)) if truth.any() else 0.0
    if several and explains(factor * truth, claimed, truth):
        yield _factor(factor, found.batch_sizes)
    shape = (*found.shape, found.parts)
    if len(found.shape) == 2 and found.shape[0] == found.shape[1] and len(truth) > 1:
        mirrored = found.whole.reshape(shape).swapaxes(0, 1).ravel()[found.numbers]
        if explains(mirrored, found.truth, found.claimed):
            yield "transposed"
    if len(truth) > 2:
        for by in (found.parts, -found.parts):
            rolled = np.roll(found.whole, by)[found.numbers]
            fits = abs(rolled - found.truth) <= 0.01 * np.max(abs(claimed - truth))
            if fits.sum() >= len(fits) - found.parts:
                yield "shifted by one element"
        offset = float(np.median(claimed - truth))
        if explains(truth + offset, claimed, truth):
            yield f"right up to a constant, {offset:.4g}"


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
    wrong, right = found.wrong, ~found.wrong & (found.truth != 0)
    if right.sum() <= 0.1 * wrong.sum():
        return ""
    elements = np.unravel_index(found.numbers[wrong] // found.parts, found.shape)
    if len({*zip(*elements, strict=True)}) == 1:
        return "at one element"
    part = found.numbers % 2
    if found.parts == 2 and len(set(part[wrong])) == 1:
        return f"in the {('real', 'imaginary')[part[wrong][0]]} parts"
    for axis, indices in enumerate(elements):
        if len(found.shape) > 1 and found.shape[axis] > 1 and len(set(indices)) == 1:
            names = (
                ("row ", "column ") if len(found.shape) == 2 else [f"axis {axis} at "] * (axis + 1)
            )
            return f"in {names[axis]}{indices[0]}"
    x = found.x
    if x[wrong].max() < x[right].min() and x[wrong].max() <= 0:
        return "where the argument is negative"
    if x[wrong].min() > x[right].max() and x[wrong].min() >= 0:
        return "where the argument is positive"
    return f"at {wrong.sum()} of the {len(wrong)} elements looked at"
