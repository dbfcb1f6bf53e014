"""A function at a point, as `φ: ℝⁿ → ℝ` in float64, and its numerical slopes along lines.

A line moves the numbers of one block of leaves, so that whatever the block does not touch is
computed once for many lines. Lines are evaluated in compiled batches; a function that cannot be
batched, or compiled, one by one.
"""

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float64, Int, Shaped

from funcnet import _jaxpr as programs
from funcnet.gradcheck import _differences as numerical
from funcnet.gradcheck import _vector as roads

SMALL_LEAF = 2048
"""A leaf of at most so many numbers is looked at element by element."""
DIRECTIONS = 3
"""In so many random directions a larger one is."""
LINES = 64
"""At most so many lines are evaluated at once,"""
NUMBERS = 2**23
"""and fewer where an array of them would have more numbers than this."""

COARSE = 1e-10
"""A relative precision beyond this is not that of float64."""


class Precision(NamedTuple):
    """How a function is evaluated at numbers of float64.

    Attributes:
      context: the JAX configuration.
      wide: whether its arguments are float64; else they are rounded to their own dtypes.
    """

    context: Callable[[], AbstractContextManager]
    wide: bool


PRECISIONS = (
    Precision(roads.wide_arguments, wide=True),
    Precision(roads.double_precision, wide=True),
    Precision(roads.wide_arguments, wide=False),
)
"""From what changes least about the function to what it can always take."""


Elements: TypeAlias = Float64[np.ndarray, "places"]
"""A number for each of the places of the vector that are looked at."""

ValuesAlong: TypeAlias = Callable[
    [
        roads.Vector,
        Int[np.ndarray, "lines"],
        Int[np.ndarray, "lines"],
        Float64[np.ndarray, "lines"],
    ],
    Float64[np.ndarray, "lines"],
]
"""`(v, low, high, t) -> φ(x + t v)`, v cut to `low ≤ place < high`: a value a line."""


class Problem(NamedTuple):
    """A function seen as `φ: ℝⁿ → ℝ` at a point, and what its values are worth.

    Attributes:
      at: the point.
      phi: the function of the point's pieces, an array of float64 a leaf.
      pieces: where it is looked at.
      values: φ along lines.
      middle: `φ(x)`.
      noise: the noise of a value, measured.
      rounding: as much of it as rounding alone explains.
      epsilon: the relative precision that the function computes in.
      resolution: the one that the values along lines are computed in.
      rtol: the relative difference that counts as none.
      atol: the absolute one.
      held: the shapes of the arrays that the function holds, beside its arguments.
    """

    at: roads.Point
    phi: Callable[[roads.Pieces], Any]
    pieces: roads.Pieces
    values: ValuesAlong
    middle: float
    noise: float
    rounding: float
    epsilon: float
    resolution: float
    rtol: float
    atol: float
    held: set[tuple[int, ...]]


def precision_of(function: Callable, at: roads.Point, onto: roads.Cotangents) -> Precision:
    """The first precision that the function takes its arguments in.

    Before the others, one in which it can be differentiated, and computes finely.
    """
    taken = []
    for precision in PRECISIONS:
        with precision.context():
            try:
                phi, _ = compiled(_scalar(function, at, onto, precision), at.pieces())
            except roads.UNTRACEABLE:
                continue
            coarse = _read(phi, at).precision > COARSE
            taken.append((not _is_differentiable(phi, at), coarse, precision))
            if taken[-1][:2] == (False, False):
                break
    return min(taken, key=lambda rated: rated[:2], default=(0, 0, PRECISIONS[-1]))[-1]


def _is_differentiable(phi: Callable, at: roads.Point) -> bool:
    try:
        _ = jax.jit(jax.grad(phi)).lower(at.pieces())
    except roads.UNTRACEABLE:
        return False
    return True


def problem_at(
    function: Callable,
    at: roads.Point,
    onto: roads.Cotangents,
    precision: Precision,
    rtol: float | None,
    atol: float | None,
    rng: np.random.Generator,
) -> Problem:
    """The problem, under the configuration of its precision."""
    pieces = at.pieces()
    phi, middle = compiled(_scalar(function, at, onto, precision), pieces)
    epsilon, width, held = _read(phi, at)
    fine, middle, rounding, resolution = _finely(phi, pieces, float(middle), epsilon)
    blocks = _blocks(at.leaves)
    values = _values_along(fine, at, pieces, blocks, int(np.clip(NUMBERS // width, 1, LINES)))
    measured = max(_noise(values, at, block, resolution, rng) for block in blocks)
    return Problem(
        at=at,
        phi=phi,
        pieces=pieces,
        values=values,
        middle=middle,
        noise=max(4 * measured, rounding),
        rounding=rounding,
        epsilon=epsilon,
        resolution=resolution,
        rtol=max(np.sqrt(epsilon), 1e-7) if rtol is None else rtol,
        atol=0.0 if atol is None else atol,
        held=held,
    )


def _scalar(
    function: Callable, at: roads.Point, onto: roads.Cotangents, precision: Precision
) -> Callable[[roads.Pieces], Any]:
    def phi(pieces: Sequence[Any]) -> Any:
        outputs = function(*roads.arguments(at, pieces, wide=precision.wide))
        return roads.project(outputs, onto).astype(jnp.float64)

    return phi


def compiled(function: Callable, *args: Any) -> tuple[Callable, Any]:
    """A function as it can be called, compiled if it can be, and what it returns.

    >>> _, value = compiled(lambda x: x if x > 0 else -x, -2.0)
    >>> value
    2.0
    """
    try:
        quick = jax.jit(function)
        return quick, quick(*args)
    except roads.UNTRACEABLE:
        return function, function(*args)


class Read(NamedTuple):
    """What φ's program says: its precision, the size of its largest array, what it holds."""

    precision: float
    width: int
    held: set[tuple[int, ...]]


def _read(phi: Callable, at: roads.Point) -> Read:
    try:
        program = jax.make_jaxpr(phi)(at.pieces()).jaxpr
    except roads.UNTRACEABLE:
        return Read(float(np.finfo(np.float64).eps), len(at.vector), set())
    return Read(
        precision=programs.lowest_precision(program),
        width=programs.widest(program),
        held=programs.held(program),
    )


def _finely(
    phi: Callable, pieces: roads.Pieces, middle: float, epsilon: float
) -> tuple[Callable, float, float, float]:
    """φ for values along lines, in float64 throughout; its value, its rounding and its precision.

    A function that rounds to less inside is rewritten, if it can be and has the same value.
    """
    try:
        program = jax.make_jaxpr(phi)(pieces)
        rounding = programs.rounding(program, pieces)
    except roads.UNTRACEABLE:
        return phi, middle, epsilon * abs(middle), epsilon
    if epsilon < COARSE:
        return phi, middle, rounding, epsilon
    try:
        wide = jax.jit(programs.widened(program))
        value = float(wide(*pieces)[0])
        if abs(value - middle) <= 4 * rounding + 4 * epsilon * abs(middle):
            rounding = programs.rounding(jax.make_jaxpr(wide)(*pieces), pieces)
            return lambda moved: wide(*moved)[0], value, rounding, float(jnp.finfo(float).eps)
    except roads.UNTRACEABLE:
        pass
    return phi, middle, rounding, epsilon


def _blocks(leaves: Sequence[roads.Leaf]) -> list[range]:
    """Runs of leaves, by number: the large ones alone, small neighbours together."""
    blocks: list[range] = []
    room = 0
    for number, leaf in enumerate(leaves):
        if not leaf.size:
            continue
        room -= leaf.size
        if room < 0:
            blocks.append(range(number, number))
            room = SMALL_LEAF - leaf.size
        blocks[-1] = range(blocks[-1].start, number + 1)
    return blocks


def _values_along(
    phi: Callable, at: roads.Point, pieces: roads.Pieces, blocks: Sequence[range], chunk: int
) -> ValuesAlong:
    """φ along lines: in compiled batches if it can be, else line by line."""
    value = functools.partial(_value_along, phi, at, pieces)

    def batch(block: range, v: Any, low: Any, high: Any, t: Any) -> Any:
        return jax.vmap(lambda *line: value(block, v, *line))(low, high, t)

    def single(block: range, v: Any, low: Any, high: Any, t: Any) -> Any:
        return value(block, v, low[0], high[0], t[0])[None]

    ways: list[tuple[int, Callable]] = [
        (chunk, jax.jit(batch, static_argnums=0)),
        (1, jax.jit(single, static_argnums=0)),
        (1, single),
    ]

    def values(
        v: roads.Vector,
        low: Int[np.ndarray, "lines"],
        high: Int[np.ndarray, "lines"],
        t: Float64[np.ndarray, "lines"],
    ) -> Float64[np.ndarray, "lines"]:
        (block,) = [b for b in blocks if at.leaves[b.start].start <= low.min() < _end(at, b)]
        direction = jnp.asarray(v, jnp.float64)
        while True:
            size, way = ways[0]
            try:
                return _in_chunks(size, functools.partial(way, block, direction), low, high, t)
            except roads.UNTRACEABLE:
                if len(ways) == 1:
                    raise
                del ways[0]

    return values


def _value_along(
    phi: Callable,
    at: roads.Point,
    pieces: roads.Pieces,
    block: range,
    v: Float64[Array, "n"],
    low: Any,
    high: Any,
    t: Any,
) -> Any:
    """`φ(x + t v)`, v cut to `low ≤ place < high`, which lie in the leaves of the block."""
    moved = list(pieces)
    for number in block:
        leaf = at.leaves[number]
        places = jnp.arange(leaf.start, leaf.start + leaf.size)
        inside = (low <= places) & (places < high)
        moved[number] = pieces[number] + jnp.where(inside, t * v[leaf.places], 0.0)
    return phi(moved)


def _in_chunks(size: int, function: Callable, *lines: Shaped[np.ndarray, "lines"]) -> np.ndarray:
    """The values of a function of arrays with an entry a line, called with so many lines at a time.

    The last line is repeated until the last chunk is full.
    """
    count = len(lines[0])
    rest = -count % size
    full = [np.concatenate([side, np.repeat(side[-1:], rest)]) for side in lines]
    done = [
        function(*(jnp.asarray(side[i : i + size]) for side in full))
        for i in range(0, count + rest, size)
    ]
    return np.concatenate([np.asarray(part) for part in done])[:count]


def _end(at: roads.Point, block: range) -> int:
    last = at.leaves[block[-1]]
    return last.start + last.size


def _noise(
    values: ValuesAlong, at: roads.Point, block: range, epsilon: float, rng: np.random.Generator
) -> float:
    """The rounding noise of φ along a random line of the block."""
    v = at.vector * rng.choice([-1.0, 1.0], at.vector.shape)
    spacings = np.sqrt(epsilon) / np.array([[1.0], [64.0], [4096.0]])
    t = spacings * np.arange(1, 10)  # beside the point, where a function may jump
    ends = np.full(t.size, at.leaves[block.start].start), np.full(t.size, _end(at, block))
    return numerical.rounding_noise(values(v, *ends, t.ravel()).reshape(t.shape))


def _slopes(
    problem: Problem,
    v: roads.Vector,
    low: Int[np.ndarray, "lines"],
    high: Int[np.ndarray, "lines"],
    t: Float64[np.ndarray, "steps"],
) -> numerical.Slopes:
    """The slopes along v, cut to `low ≤ place < high`, from these steps."""
    both = np.concatenate([t, -t])
    lines = np.repeat(low, len(both)), np.repeat(high, len(both))
    flat = problem.values(v, *lines, np.tile(both, len(low))).reshape(len(low), len(both))
    return numerical.extrapolate(
        flat[:, : len(t)],
        flat[:, len(t) :],
        problem.middle,
        t,
        noise=problem.noise,
        rounding=problem.rounding,
        epsilon=problem.resolution,
    )


def _scales(x: Float64[np.ndarray, "size"]) -> Float64[np.ndarray, "size"]:
    """The size of a step for each number of a leaf: its own, unless it is small there."""
    own = abs(x)
    largest = own.max() or 1.0
    return np.where(own > 1e-3 * largest, own, np.where(own > 0, np.minimum(largest, 1.0), largest))


def lost_slopes(problem: Problem, leaf: roads.Leaf) -> Float64[np.ndarray, "size"]:
    """What rounding may move the gradient by, for each number of a leaf."""
    return (
        64
        * problem.rounding
        * problem.epsilon
        / problem.resolution
        / _scales(problem.at.vector[leaf.places])
    )


class Steps(NamedTuple):
    """By what steps the numbers of a leaf are moved: `scale · t`.

    Attributes:
      scale: of each number of the leaf.
      t: the steps in that scale, each an eighth of the one before.
    """

    scale: Float64[np.ndarray, "size"]
    t: Float64[np.ndarray, "steps"]

    @property
    def smallest(self) -> Float64[np.ndarray, "size"]:
        """The smallest step of each number."""
        return self.scale * self.t[-1]


def element_slopes(
    problem: Problem, leaf: roads.Leaf, places: Int[np.ndarray, "places"], claimed: roads.Vector
) -> numerical.Slopes:
    """The slopes with respect to single numbers: quick, and again with care where that is unsure.

    Care means more steps; then steps in the scale of the number itself; then larger ones.
    """
    quick, *careful = _tries(problem, leaf)
    best = _along(problem, leaf, places, quick)
    closest = quick.smallest[places - leaf.start]
    for steps in careful:
        unsure = _unsure(problem, claimed[places], best)
        if not unsure.any():
            break
        again = _along(problem, leaf, places[unsure], steps)
        smallest = steps.smallest[places - leaf.start]
        best = _merged(best, unsure, again, (smallest < closest)[unsure])
        closest = np.where(unsure, np.minimum(closest, smallest), closest)
    return best


def _tries(problem: Problem, leaf: roads.Leaf) -> list[Steps]:
    """The steps to try one after another; larger ones where values are coarse."""
    x = problem.at.vector[leaf.places]
    scales = _scales(x)
    own = np.where(x != 0, abs(x), 2.0**-40 * scales)
    coarse = problem.resolution > COARSE
    return [
        Steps(scale=scales, t=numerical.steps(2 if coarse else 7, 3)),
        Steps(scale=scales, t=numerical.steps(1 if coarse else 4, 8)),
        Steps(scale=own, t=numerical.steps(2, 8)),
        Steps(scale=np.maximum(scales, 1.0), t=numerical.steps(2, 8)),
    ]


def _along(
    problem: Problem, leaf: roads.Leaf, places: Int[np.ndarray, "places"], steps: Steps
) -> numerical.Slopes:
    """The slopes with respect to single numbers, from these steps."""
    v = np.zeros_like(problem.at.vector)
    v[leaf.places] = steps.scale
    slopes = _slopes(problem, v, places, places + 1, steps.t)
    unit = v[places]
    return numerical.Slopes._make(s if s.dtype == bool else s / unit for s in slopes)


def _unsure(
    problem: Problem, claimed_here: Elements, slopes: numerical.Slopes
) -> Bool[np.ndarray, "places"]:
    """Which slopes are worth another look: kinks, wide bars, and what differs from the claim."""
    size = np.maximum(abs(slopes.value), slopes.steepest)
    size = np.maximum(size, 0.01 * np.max(abs(slopes.value), initial=0))
    agrees = abs(claimed_here - slopes.value) <= slopes.bar + problem.rtol * size
    return slopes.kink | ~agrees | ~(slopes.bar <= problem.rtol * size)


def _merged(
    best: numerical.Slopes,
    where: Bool[np.ndarray, "places"],
    again: numerical.Slopes,
    closer: Bool[np.ndarray, "again"],
) -> numerical.Slopes:
    """The slopes with the smaller bars; where two contradict each other, those of the closer look.

    A derivative is a limit: what smaller steps contradict has a kink within the larger ones.
    """
    old = numerical.Slopes._make(side[where] for side in best)
    contradict = abs(again.value - old.value) > again.bar + old.bar
    better = np.where(contradict, closer, again.bar < old.bar)
    merged = [side.copy() for side in best]
    for side, new, kept in zip(merged, again, old, strict=True):
        side[where] = np.where(better, new, kept)
    return numerical.Slopes._make(merged)


def suspects(
    problem: Problem, leaf: roads.Leaf, claimed: roads.Vector, rng: np.random.Generator
) -> Int[np.ndarray, "places"]:
    """Places whose gradients do not add up to a directional slope, found by bisection."""
    v = np.zeros_like(claimed)
    for _ in range(DIRECTIONS):
        v[leaf.places] = _scales(problem.at.vector[leaf.places]) * rng.choice([-1, 1], leaf.size)
        terms = np.where(np.isfinite(claimed), claimed, 0) * v
        ranges = np.array([[leaf.start, leaf.start + leaf.size]])
        while len(ranges):
            ranges = ranges[_off(problem, v, terms, ranges)][:4]
            if len(ranges) and (ranges[:, 1] - ranges[:, 0] == 1).all():
                return ranges[:, 0]
            ranges = _halves(ranges)
    return np.zeros(0, int)


def _off(
    problem: Problem, v: roads.Vector, terms: roads.Vector, ranges: Int[np.ndarray, "ranges 2"]
) -> Bool[np.ndarray, "ranges"]:
    """Over which ranges the slope along v is not the sum of the terms, by more than its bar."""
    slopes = _slopes(problem, v, ranges[:, 0], ranges[:, 1], numerical.steps(4, 8))
    sums = np.array([terms[a:b].sum() for a, b in ranges])
    sizes = np.array([np.sqrt(np.sum(terms[a:b] ** 2)) for a, b in ranges])
    off = abs(slopes.value - sums) > 3 * slopes.bar + 1e-2 * problem.rtol * sizes
    low, high = np.minimum(slopes.left, slopes.right), np.maximum(slopes.left, slopes.right)
    return off & ~(slopes.kink & (low <= sums) & (sums <= high))


def _halves(ranges: Int[np.ndarray, "ranges 2"]) -> Int[np.ndarray, "halves 2"]:
    """Both halves of each range, the empty ones left out."""
    middles = ranges.sum(axis=1) // 2
    halves = np.concatenate([np.c_[ranges[:, 0], middles], np.c_[middles, ranges[:, 1]]])
    return halves[halves[:, 0] < halves[:, 1]]
