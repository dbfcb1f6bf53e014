"""Numerical slopes of φ: with respect to single numbers, and along directions with bisection.

A line is `φ(x + t v)`, v cut to a range of the vector. Lines are evaluated in compiled batches; a
φ that cannot be batched or compiled, one by one. The leaves are divided into blocks, and a line
moves the numbers of one block: what the block does not touch is computed once per batch.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float64, Int

from funcnet.gradcheck._claims import Claims
from funcnet.gradcheck._differences import PerLine, Slopes, Steps, extrapolate, noise_of, steps
from funcnet.gradcheck._precision import COARSE, SMALL_LEAF, Phi, attempt, in_float64, largest_array
from funcnet.gradcheck._report import MOST_FINDINGS
from funcnet.gradcheck._vector import Leaf, Point, Vector

DIRECTIONS = 3  # random directions in which the gradient of a large leaf is checked
SAMPLE = 64  # elements of a large leaf that are checked one by one
LINES = 64  # the most lines that are evaluated at once
NUMBERS = 2**23  # the most numbers of one array over all lines that are evaluated at once

Indices: TypeAlias = Int[np.ndarray, "checked"]  # in the vector, of the numbers that are checked
PerIndex: TypeAlias = Float64[np.ndarray, "checked"]
Flags: TypeAlias = Bool[np.ndarray, "checked"]
Sizes: TypeAlias = Float64[np.ndarray, "size"]
Ranges: TypeAlias = Int[np.ndarray, "_ 2"]  # rows of `low, high`

PhiAlong: TypeAlias = Callable[[Vector, Ranges, PerLine], PerLine]  # (v, ranges, t) ↦ φ(x + t v)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """φ at a point, with the accuracy of its values."""

    at: Point
    phi: Phi  # as the function computes it; its gradient is the one that is checked
    fine: Phi  # in float64 throughout, if it can be; its values give the slopes
    along: PhiAlong  # the values of `fine`
    noise: float  # of these values, measured
    rounding: float  # the part of the noise that rounding alone explains
    rtol: float
    atol: float
    claims: Claims

    def tolerance(self, size: Sizes) -> Sizes:
        """Return the difference that counts as none between numbers of this size."""
        return self.atol + self.rtol * size

    def lost(self, leaf: Leaf) -> Sizes:
        """Return the error of the gradient by rounding, for each number of a leaf."""
        rounding = 64 * self.rounding * self.phi.epsilon / self.fine.epsilon
        return rounding / _scales(self.at.vector[leaf.span])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """A leaf, and the numerical slopes of the numbers of it that are checked one by one."""

    leaf: Leaf
    indices: Indices
    x: PerIndex  # the numbers
    slopes: Slopes
    checked: str  # how the numbers were chosen, in words

    @property
    def numbers(self) -> Indices:
        """The indices in the flattened leaf."""
        return self.indices - self.leaf.start


def problem_at(
    at: Point, phi: Phi, claims: Claims, rtol: float | None, atol: float, rng: np.random.Generator
) -> Problem:
    """Measure how accurate the values of φ are."""
    fine, rounding = in_float64(phi, at.arrays())
    largest = len(at.vector) if phi.jaxpr is None else largest_array(phi.jaxpr.jaxpr)
    blocks = _blocks(at.leaves)
    along = _along_lines(fine, at, blocks, int(np.clip(NUMBERS // largest, 1, LINES)))
    v = at.vector * rng.choice([-1.0, 1.0], at.vector.shape)
    noise = max(_noise(along, v, block, fine.epsilon) for block in blocks)
    return Problem(
        at=at,
        phi=phi,
        fine=fine,
        along=along,
        noise=max(4 * noise, rounding),
        rounding=rounding,
        rtol=max(np.sqrt(phi.epsilon), 1e-7) if rtol is None else rtol,
        atol=atol,
        claims=claims,
    )


def _blocks(leaves: Sequence[Leaf]) -> list[range]:
    """Return ranges of the vector: large leaves alone, small neighbours together."""
    blocks: list[range] = []
    for leaf in leaves:
        if blocks and leaf.end - blocks[-1].start <= SMALL_LEAF:
            blocks[-1] = range(blocks[-1].start, leaf.end)
        elif leaf.size:
            blocks.append(range(leaf.start, leaf.end))
    return blocks


def _along_lines(phi: Phi, at: Point, blocks: Sequence[range], chunk: int) -> PhiAlong:
    """Return φ along lines: in compiled batches if it can be, else line by line."""

    def one(block: range, v: Any, ends: Any, t: Any) -> Any:
        return phi.function(at.along(block, v, ends, t))

    one_by_one = one if phi.jaxpr is None else jax.jit(one, static_argnums=0)
    batch = jax.jit(jax.vmap(one, in_axes=(None, None, 0, 0)), static_argnums=0)

    def along(v: Vector, ranges: Ranges, t: PerLine) -> PerLine:
        (block,) = [block for block in blocks if int(ranges.min()) in block]
        direction, lines = jnp.asarray(v, jnp.float64), (ranges, t)
        if phi.jaxpr is not None:
            values = attempt(_in_chunks, chunk, functools.partial(batch, block, direction), lines)
            if values is not None:
                return values
        each = zip(*map(jnp.asarray, lines), strict=True)
        return np.array([one_by_one(block, direction, *line) for line in each])

    return along


def _in_chunks(size: int, function: Callable, lines: Sequence[np.ndarray]) -> PerLine:
    """Call a function with `size` lines at a time; the last line fills the last chunk."""
    count = len(lines[0])
    chunks = np.minimum(np.arange(count + -count % size), count - 1).reshape(-1, size)
    values = [function(*(jnp.asarray(side[chunk]) for side in lines)) for chunk in chunks]
    return np.concatenate(values)[:count]


def _noise(along: PhiAlong, v: Vector, block: range, epsilon: float) -> float:
    """Return the rounding noise of φ along v, cut to a block."""
    spacings = np.sqrt(epsilon) / np.array([[1.0], [64.0], [4096.0]])
    t = spacings * np.arange(1, 10)  # beside the point, where a function may jump
    ranges = np.tile([block.start, block.stop], [t.size, 1])
    return noise_of(along(v, ranges, t.ravel()).reshape(t.shape))


def _slopes(problem: Problem, v: Vector, ranges: Ranges, t: Steps) -> Slopes:
    """Return the slopes along v, cut to each range, from these steps."""
    lines = np.repeat(ranges, 2 * len(t), axis=0), np.tile([*t, *-t], len(ranges))
    values, fine = problem.along(v, *lines).reshape(len(ranges), 2, len(t)), problem.fine
    return extrapolate(
        values, fine.value, t, noise=problem.noise, rounding=problem.rounding, epsilon=fine.epsilon
    )


def _scales(x: Sizes) -> Sizes:
    """Return the unit of a step for each number of a leaf: its size, unless it is small there."""
    own = abs(x)
    largest = own.max() or 1.0
    return np.where(own > 1e-3 * largest, own, np.where(own > 0, np.minimum(largest, 1.0), largest))


def element_slopes(problem: Problem, leaf: Leaf, indices: Indices) -> Slopes:
    """Return the slopes with respect to single numbers: quick, and with care where unsure.

    A derivative is a limit: where two slopes contradict, that from smaller steps wins; elsewhere
    that with the smaller bar.
    """
    claimed = problem.claims.gradients.values()
    (v, t), *careful = _tries(problem, leaf)
    best = _along_elements(problem, v, indices, t)
    closest = v[indices] * t[-1]
    for v, t in careful:
        unsure = np.flatnonzero(_unsure(problem, [g[indices] for g in claimed], best))
        if not unsure.size:
            break
        again = _along_elements(problem, v, indices[unsure], t)
        smallest = v[indices[unsure]] * t[-1]
        contradict = abs(again.value - best.value[unsure]) > again.bar + best.bar[unsure]
        better = np.where(contradict, smallest < closest[unsure], again.bar < best.bar[unsure])
        for side, new in zip(best, again, strict=True):
            side[unsure[better]] = new[better]
        closest[unsure[better]] = smallest[better]
    return best


def _tries(problem: Problem, leaf: Leaf) -> list[tuple[Vector, Steps]]:
    """Return the unit of each number, and steps: few; more; in its own scale; larger."""
    x = np.zeros_like(problem.at.vector)
    x[leaf.span] = problem.at.vector[leaf.span]
    scales = _scales(x)
    own = np.where(x != 0, abs(x), 2.0**-40 * scales)
    coarse = problem.fine.epsilon > COARSE
    return [
        (scales, steps(2 if coarse else 7, 3)),
        (scales, steps(1 if coarse else 4, 8)),
        (own, steps(2, 8)),
        (np.maximum(scales, 1.0), steps(2, 8)),
    ]


def _along_elements(problem: Problem, v: Vector, indices: Indices, t: Steps) -> Slopes:
    slopes = _slopes(problem, v, np.c_[indices, indices + 1], t)
    return Slopes._make(side if side.dtype == bool else side / v[indices] for side in slopes)


def _unsure(problem: Problem, claimed: Sequence[PerIndex], slopes: Slopes) -> Flags:
    """Whether to measure a slope again: a kink, a wide bar, or unlike a claimed gradient."""
    size = np.maximum(abs(slopes.value), slopes.steepest)
    size = np.maximum(size, 0.01 * np.max(abs(slopes.value), initial=0))
    gap = np.max([abs(gradient - slopes.value) for gradient in claimed], axis=0)
    agrees = gap <= slopes.bar + problem.rtol * size
    return slopes.kink | ~agrees | ~(slopes.bar <= problem.rtol * size)


def measured(problem: Problem, leaf: Leaf, rng: np.random.Generator) -> Measured:
    """Choose the numbers of a leaf to check one by one, and measure their slopes."""
    if leaf.size <= SMALL_LEAF:
        indices, checked = np.arange(leaf.start, leaf.end), "every element"
    else:
        sample = leaf.start + np.sort(rng.choice(leaf.size, SAMPLE, replace=False))
        suspects = _suspects(problem, leaf, problem.claims.visible, rng)
        *_, last = problem.claims.gradients
        differing = leaf.start + np.flatnonzero(differs(problem, leaf, last))[:MOST_FINDINGS]
        indices = np.unique(np.concatenate([sample, suspects, differing]))
        checked = f"{DIRECTIONS} directions, {len(indices)} elements"
    slopes = element_slopes(problem, leaf, indices)
    x = problem.at.vector[indices]
    return Measured(leaf=leaf, indices=indices, x=x, slopes=slopes, checked=checked)


def differs(problem: Problem, leaf: Leaf, name: str) -> Bool[np.ndarray, "size"]:
    """Whether a gradient differs from the first, for each number of a leaf."""
    size = abs(problem.claims.first[leaf.span])
    tolerance = problem.tolerance(np.maximum(size, 1e-6 * np.max(size)))
    return ~(problem.claims.apart(name, leaf) <= tolerance)


def _suspects(problem: Problem, leaf: Leaf, claimed: Vector, rng: np.random.Generator) -> Indices:
    """Return indices whose gradients do not add up to a slope along v, found by bisection."""
    v = np.zeros_like(claimed)
    for _ in range(DIRECTIONS):
        v[leaf.span] = _scales(problem.at.vector[leaf.span]) * rng.choice([-1, 1], leaf.size)
        terms = np.where(np.isfinite(claimed), claimed, 0) * v
        ranges = np.array([[leaf.start, leaf.end]])
        while len(ranges):
            ranges = ranges[_off(problem, v, terms, ranges)][:4]
            if len(ranges) and (ranges[:, 1] - ranges[:, 0] == 1).all():
                return ranges[:, 0]
            ranges = _halves(ranges)
    return np.zeros(0, int)


def _off(problem: Problem, v: Vector, terms: Vector, ranges: Ranges) -> Bool[np.ndarray, "ranges"]:
    """Return in which ranges the slope along v is not the sum of the terms, beyond its bar."""
    slopes = _slopes(problem, v, ranges, steps(4, 8))
    sums = np.array([terms[a:b].sum() for a, b in ranges])
    sizes = np.array([np.linalg.norm(terms[a:b]) for a, b in ranges])
    off = abs(slopes.value - sums) > 3 * slopes.bar + 1e-2 * problem.rtol * sizes
    low, high = np.minimum(slopes.left, slopes.right), np.maximum(slopes.left, slopes.right)
    return off & ~(slopes.kink & (low <= sums) & (sums <= high))


def _halves(ranges: Ranges) -> Ranges:
    """Return both halves of each range, without the empty ones."""
    low, high = ranges.T
    middle = (low + high) // 2
    halves = np.concatenate([np.c_[low, middle], np.c_[middle, high]])
    return halves[halves[:, 0] < halves[:, 1]]
