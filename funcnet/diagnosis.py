"""What a wrong gradient looks like: sign flipped, a factor, transposed, one element off.

Each function is a hypothesis about a few wrong elements; `looks_like` gives the first that the
evidence bears out, and None where none does.
"""

from collections.abc import Iterator, Sequence

import numpy as np


def looks_like(
    claimed: np.ndarray,
    truth: np.ndarray,
    wrong: np.ndarray,
    *,
    x: np.ndarray,
    indices: np.ndarray,
    whole: np.ndarray,
    shape: tuple[int, ...],
    batch_sizes: Sequence[int] = (),
) -> str | None:
    """What the claimed gradient does instead of the true one.

    Args:
      claimed: the claimed gradient of the elements looked at.
      truth: their true gradient.
      wrong: which of them are wrong.
      x: their values.
      indices: their places in the leaf, flattened.
      whole: the claimed gradient of the whole leaf, flattened.
      shape: the shape of the leaf.
      batch_sizes: numbers of examples that a mean could have been taken over.

    >>> truth = np.array([1.0, 2.0, -3.0])
    >>> looks_like(
    ...     -truth, truth, truth != 0, x=truth, indices=np.arange(3), whole=-truth, shape=(3,)
    ... )
    'sign flipped'
    """
    with np.errstate(all="ignore"):
        hypotheses = [
            _nonfinite(claimed[wrong]),
            *_factors(
                claimed[wrong], truth[wrong], wrong.sum() / max(np.sum(truth != 0), 1), batch_sizes
            ),
            *_transposed(truth, wrong, indices, whole, shape),
            *_shifted(truth, wrong, indices, whole),
            *_constant(claimed, truth, wrong),
            *_places(wrong, indices, shape),
            *_sides(wrong, x),
        ]
    return next((hypothesis for hypothesis in hypotheses if hypothesis), None)


def close(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two gradients are the same but for a thousandth of the largest entry."""
    return bool(np.all(abs(a - b) <= 1e-3 * np.max(abs(b), initial=0)))


def _nonfinite(claimed: np.ndarray) -> str | None:
    if np.isnan(claimed).any():
        return f"NaN in {np.isnan(claimed).sum()} of the elements looked at"
    return "infinite" if np.isinf(claimed).any() else None


def _factors(
    claimed: np.ndarray, truth: np.ndarray, share: float, batch_sizes: Sequence[int]
) -> Iterator[str]:
    """Zero, or the same factor at all of the wrong elements."""
    where = "" if share > 0.9 else " at some elements"
    if not claimed.any():
        yield f"zero{where}"
        return
    factors = claimed / truth
    factor = float(np.median(factors))
    if (
        abs(factor - 1) < 1e-3
        or (len(factors) < 2 and share < 1)
        or not close(factors, np.full_like(factors, factor))
    ):
        return
    if abs(factor + 1) < 1e-3:
        yield f"sign flipped{where}"
    for m in batch_sizes:
        if m > 2 and abs(factor / m - 1) < 1e-3:
            yield f"{m} times too large{where}: the mean's 1/m is missing"
        if m > 2 and abs(factor * m - 1) < 1e-3:
            yield f"{m} times too small{where}: the mean's 1/m is taken twice"
    yield f"a constant factor, {factor:.4g}{where}"


def _transposed(
    truth: np.ndarray,
    wrong: np.ndarray,
    indices: np.ndarray,
    whole: np.ndarray,
    shape: tuple[int, ...],
) -> Iterator[str]:
    if len(shape) == 2 and shape[0] == shape[1] and wrong.sum() > 1:
        mirrored = whole.reshape(shape).T.ravel()[indices]
        if close(mirrored, truth):
            yield "transposed"


def _shifted(
    truth: np.ndarray, wrong: np.ndarray, indices: np.ndarray, whole: np.ndarray
) -> Iterator[str]:
    if wrong.sum() < 3:
        return
    for by in (1, -1):
        rolled = np.roll(whole, by)[indices]
        fits = abs(rolled - truth) <= 1e-3 * np.max(abs(truth))
        if fits.sum() >= len(truth) - 1:
            yield "shifted by one element"


def _constant(claimed: np.ndarray, truth: np.ndarray, wrong: np.ndarray) -> Iterator[str]:
    offsets = (claimed - truth)[wrong]
    if len(offsets) > 2 and close(offsets, np.full_like(offsets, np.median(offsets))):
        yield f"right up to a constant, {np.median(offsets):.4g}"


def _places(wrong: np.ndarray, indices: np.ndarray, shape: tuple[int, ...]) -> Iterator[str]:
    if wrong.sum() == 1 and len(wrong) > 1:
        yield "one element is off"
        return
    if wrong.all():
        return
    for axis, places in enumerate(np.unravel_index(indices[wrong], shape) if shape else []):
        if len(shape) > 1 and len(set(places)) == 1:
            name = ("row", "column")[axis] if len(shape) == 2 else f"slice of axis {axis}"
            yield f"one {name} is off, number {places[0]}"


def _sides(wrong: np.ndarray, x: np.ndarray) -> Iterator[str]:
    if wrong.all() or wrong.sum() < 2:
        return
    if x[wrong].max() < x[~wrong].min() and x[wrong].max() <= 0:
        yield "wrong where the argument is negative"
    if x[wrong].min() > x[~wrong].max() and x[wrong].min() >= 0:
        yield "wrong where the argument is positive"
    yield f"{wrong.sum()} of the {len(wrong)} elements looked at are off"
