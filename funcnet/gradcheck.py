"""Is this gradient right; if not, where; and what does it look like?

For any function of any pytrees, three roads to its gradient are compared: `jax.grad` (reverse and
forward mode), a gradient derived by hand, and numerical differentiation in float64 with an error
bar. Every element of a small leaf is looked at; of a large one a sample, and random directions, in
which a wrong element is found by bisection.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from funcnet import diagnosis, numerical, roads

ELEMENTWISE = 2048
"""A leaf of at most so many numbers is looked at element by element."""
SAMPLE = 64
"""So many elements of a larger leaf are."""
DIRECTIONS = 3
"""And so many random directions."""
FINDINGS = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """An element whose roads differ, or that could not be decided.

    Attributes:
      path: its leaf.
      index: its place in the leaf.
      jax: what `jax.grad` says.
      hand: what the gradient by hand says, or None.
      numerical: what numerical differentiation says.
      bar: how far that may be off.
      road: which road disagrees with the others.
    """

    path: str
    index: tuple[int, ...]
    jax: float
    hand: float | None
    numerical: float
    bar: float
    road: str


class LeafReport(NamedTuple):
    """What was found out about a leaf.

    Attributes:
      path: from the argument's name, for example `params.weight`.
      shape: its shape.
      dtype: its dtype.
      checked: how it was looked at.
      verdict: "match", "wrong", "kink", "noisy", "nonfinite" or "skipped".
      error: the largest difference between two roads, relative to the leaf's largest gradient.
      looks_like: what a wrong gradient does instead, or None.
      findings: the elements, at most ten.
    """

    path: str
    shape: tuple[int, ...]
    dtype: Any
    checked: str
    verdict: str
    error: float = 0.0
    looks_like: str | None = None
    findings: tuple[Finding, ...] = ()


class GradientReport(NamedTuple):
    """The verdict on a gradient, with a record a leaf; `str(report)` is a table.

    Attributes:
      verdict: "pass", "fail" or "undecided".
      leaves: the leaves, as `jax.tree.leaves` orders them.
      remarks: what else there is to say, a sentence each.
    """

    verdict: str
    leaves: tuple[LeafReport, ...]
    remarks: tuple[str, ...] = ()

    @property
    def worst(self) -> Finding | None:
        """The first finding, or None."""
        return next((finding for leaf in self.leaves for finding in leaf.findings), None)

    def __str__(self) -> str:
        """A row a leaf, and below it its findings."""
        rows = [f"gradient check: {self.verdict}"]
        for leaf in self.leaves:
            rows.append(
                f"  {leaf.path:<24} {leaf.dtype!s:>9}{list(leaf.shape)!s:<12} {leaf.verdict:<9} "
                f"error {leaf.error:.1e}  {leaf.checked}"
            )
            rows += [f"    looks like: {leaf.looks_like}"] * bool(leaf.looks_like)
            rows += [f"    {_sentence(finding)}" for finding in leaf.findings]
        return "\n".join([*rows, *(f"  {remark}" for remark in self.remarks)])


class _Problem(NamedTuple):
    """A function seen as `φ: ℝⁿ → ℝ` at a point, and what its values are worth."""

    at: roads.Point
    phi: Callable[[Any], Any]
    values: Callable[..., np.ndarray]
    middle: float
    noise: float
    epsilon: float
    rtol: float
    atol: float


def check_gradients(
    function: Callable,
    *args: Any,
    hand: Callable | None = None,
    argnums: int | tuple[int, ...] = 0,
    order: int = 1,
    seed: int = 0,
    rtol: float | None = None,
    atol: float | None = None,
) -> GradientReport:
    """Compares `jax.grad`, a gradient derived by hand, and numerical differentiation.

    Args:
      function: any JAX function; an output that is no real scalar is projected on random
        cotangents.
      *args: where to differentiate it: any pytrees.
      hand: a gradient with the signature of `jax.grad(function, argnums)`.
      argnums: which arguments to differentiate with respect to, as in `jax.grad`.
      order: 2 checks the gradient of the gradient as well.
      seed: of the samples, directions and cotangents.
      rtol: the relative difference that is none, beyond the error bar. By default the root of the
        coarsest precision that the function computes in.
      atol: the absolute difference that is none; by default 0.

    >>> report = check_gradients(lambda x: jnp.sum(x**2), jnp.arange(3.0), hand=lambda x: -2 * x)
    >>> report.verdict, report.leaves[0].looks_like
    ('fail', 'sign flipped')
    >>> report.worst.index, report.worst.road
    ((1,), 'hand')

    Raises:
      TypeError: the function or the gradient by hand is not callable.
      ValueError: an argnum out of range, an order other than 1 and 2, a negative tolerance, an
        output or arguments without floating point numbers, or a gradient by hand of another
        structure than the arguments.
    """
    numbers = _check_arguments(function, args, hand, argnums, order, rtol, atol)
    report = _first_order(function, args, hand, numbers, seed, rtol, atol)
    if order == 1 or report.verdict == "fail":
        return report
    rng = np.random.default_rng(seed)
    with roads.own_precision():
        onto = roads.cotangents(jax.grad(function, numbers, allow_int=False)(*args), rng)

    def slope(*args: Any) -> Any:
        return roads.project(jax.grad(function, numbers)(*args), onto)

    return _first_order(slope, args, None, numbers, seed, rtol, atol)


def assert_gradients(function: Callable, *args: Any, **options: Any) -> None:
    """Raises an `AssertionError`, the report its message, unless `check_gradients` passes.

    >>> assert_gradients(jnp.sin, 1.0, hand=jnp.cos)

    Raises:
      AssertionError: the verdict is not "pass".
    """
    report = check_gradients(function, *args, **options)
    if report.verdict != "pass":
        raise AssertionError(str(report))


def _check_arguments(
    function: Any, args: tuple, hand: Any, argnums: Any, order: Any, rtol: Any, atol: Any
) -> tuple[int, ...]:
    for name, value in {"function": function, "hand": hand or len}.items():
        if not callable(value):
            raise TypeError(f"{name}: expected a function; got {value!r}.")
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    if not numbers or not all(isinstance(n, int) and -len(args) <= n < len(args) for n in numbers):
        raise ValueError(
            f"argnums: expected positions among the {len(args)} arguments; got {argnums!r}."
        )
    if order not in (1, 2):
        raise ValueError(f"order: expected 1 or 2; got {order!r}.")
    for name, value in {"rtol": rtol, "atol": atol}.items():
        if value is not None and not value >= 0:
            raise ValueError(f"{name}: expected a number of at least 0; got {value!r}.")
    return tuple(n % len(args) for n in numbers)


def _first_order(
    function: Callable,
    args: tuple,
    hand: Callable | None,
    numbers: tuple[int, ...],
    seed: int,
    rtol: float | None,
    atol: float | None,
) -> GradientReport:
    at = roads.point(function, args, numbers)
    if not at.vector.size:
        return _without_numbers(at)
    rng = np.random.default_rng(seed)
    with roads.own_precision():
        outputs = function(*args)
        onto = roads.cotangents(outputs, rng)
    if hand is not None and not roads.is_real_scalar(outputs):
        raise ValueError("hand: expected a function with one real number as output to check it by.")
    with roads.double_precision():
        problem = _problem(function, at, onto, rtol, atol, rng)
        reverse = _reverse(problem)
        by_hand = None if hand is None else _by_hand(hand, problem)
        claimed = by_hand if reverse is None else reverse
        if claimed is None:
            raise ValueError(
                "function: expected one that jax.grad can differentiate, or hand= to be checked."
            )
        full = None if reverse is None else _visible_gradient(problem)
        looks = [_look(problem, leaf, claimed, full, rng) for leaf in at.leaves]
        reports = [_judge_leaf(problem, look, claimed, by_hand) for look in looks]
        if reverse is not None:
            reports = [
                _hold_forward(problem, r, leaf, claimed, rng)
                for r, leaf in zip(reports, at.leaves, strict=True)
            ]
    own = _own_gradients(function, hand, at, onto, reverse is not None)
    reports = [
        _hold_own_precision(problem, report, leaf, claimed, own)
        for report, leaf in zip(reports, at.leaves, strict=True)
    ]
    remarks = []
    if any(look.hidden.any() for look in looks):
        paths = ", ".join(look.leaf.path for look in looks if look.hidden.any())
        remarks.append(f"this function hides part of its derivative at {paths}: stop_gradient")
    if reverse is None:
        remarks.append("jax.grad cannot differentiate this function: by hand and numerical only")
    return GradientReport(verdict=_whole(reports), leaves=tuple(reports), remarks=tuple(remarks))


class _Look(NamedTuple):
    """A leaf, and the numerical slopes of those of its numbers that were looked at."""

    leaf: roads.Leaf
    places: np.ndarray
    slopes: numerical.Slopes
    hidden: np.ndarray
    checked: str


def _whole(reports: list[LeafReport]) -> str:
    verdicts = {report.verdict for report in reports}
    if verdicts & {"wrong", "nonfinite"}:
        return "fail"
    return "undecided" if "noisy" in verdicts else "pass"


def _without_numbers(at: roads.Point) -> GradientReport:
    if not at.leaves or any(leaf.skipped != "empty" for leaf in at.leaves):
        found = ", ".join(f"{leaf.path} ({leaf.skipped})" for leaf in at.leaves) or "no leaves"
        raise ValueError(
            f"args: expected a floating point number to differentiate with respect to; got {found}."
        )
    return GradientReport(verdict="pass", leaves=tuple(map(_skipped, at.leaves)))


def _skipped(leaf: roads.Leaf) -> LeafReport:
    return LeafReport(
        path=leaf.path,
        shape=leaf.shape,
        dtype=leaf.dtype,
        checked=f"not at all: {leaf.skipped}",
        verdict="skipped",
    )


def _problem(
    function: Callable,
    at: roads.Point,
    onto: list,
    rtol: float | None,
    atol: float | None,
    rng: np.random.Generator,
) -> _Problem:
    """The function in float64 if it can be; else in its own precision."""

    def phi_wide(x: Any) -> Any:
        return roads.project(function(*roads.arguments(at, x, wide=True)), onto)

    def phi_own(x: Any) -> Any:
        return roads.project(function(*roads.arguments(at, x, wide=False)), onto)

    x = jnp.asarray(at.vector)
    try:
        phi, middle = phi_wide, float(phi_wide(x))
    except TypeError:
        phi, middle = phi_own, float(phi_own(x))
    values = _values_along(phi, x)
    try:
        epsilon = roads.lowest_precision(jax.make_jaxpr(phi)(x).jaxpr)
    except jax.errors.ConcretizationTypeError:
        epsilon = float(np.finfo(np.float64).eps)
    v = at.vector * rng.choice([-1.0, 1.0], at.vector.shape)
    spacings = np.sqrt(epsilon) / np.array([[1.0], [64.0], [4096.0]])
    t = spacings * np.arange(-4, 5)
    noise = numerical.rounding_noise(values(v, 0, len(v), t.ravel()).reshape(t.shape))
    return _Problem(
        at=at,
        phi=phi,
        values=values,
        middle=middle,
        noise=4 * noise,
        epsilon=epsilon,
        rtol=max(np.sqrt(epsilon), 1e-7) if rtol is None else rtol,
        atol=0.0 if atol is None else atol,
    )


def _values_along(phi: Callable, x: Any) -> Callable[..., np.ndarray]:
    """`(v, low, high, t) -> φ(x + t v)`, v cut to `low ≤ place < high`: batched if it can be."""
    n = len(x)
    places = jnp.arange(n)

    def value(v: Any, low: Any, high: Any, t: Any) -> Any:
        moved = jnp.where((places >= low) & (places < high), t * v, 0)
        return phi(x + moved).astype(jnp.float64)

    size = int(np.clip(2**22 // n, 1, 512))
    ways = [
        (size, jax.jit(jax.vmap(value, in_axes=(None, 0, 0, 0)))),
        (1, jax.jit(lambda v, low, high, t: value(v, low[0], high[0], t[0])[None])),
        (1, lambda v, low, high, t: value(v, low[0], high[0], t[0])[None]),
    ]

    def run(way: tuple, v: Any, lines: np.ndarray) -> np.ndarray:
        chunk, batch = way
        chunk = min(chunk, 16) if len(lines) <= 16 else chunk
        rest = -len(lines) % chunk
        padded = np.concatenate([lines, np.repeat(lines[-1:], rest, axis=0)])
        low, high, t = padded.T
        parts = [slice(i, i + chunk) for i in range(0, len(padded), chunk)]
        done = [batch(v, low[p].astype(int), high[p].astype(int), t[p]) for p in parts]
        return np.concatenate([np.asarray(part) for part in done])[: len(lines)]

    def values(v: Any, low: Any, high: Any, t: Any) -> np.ndarray:
        lines = np.stack(np.broadcast_arrays(low, high, t), axis=-1).astype(np.float64)
        v = jnp.asarray(v)
        while True:
            try:
                return run(ways[0], v, lines)
            except Exception:
                if len(ways) == 1:
                    raise
                del ways[0]

    return values


def _slopes(
    problem: _Problem, v: np.ndarray, low: np.ndarray, high: np.ndarray, first: int, count: int
) -> numerical.Slopes:
    """The slopes along v, cut to `low ≤ place < high`."""
    t = numerical.steps(first, count)
    both = np.concatenate([t, -t])
    lines = np.broadcast_to(both, (len(low), 2 * count))
    flat = problem.values(
        v, np.repeat(low, 2 * count), np.repeat(high, 2 * count), lines.ravel()
    ).reshape(len(low), 2 * count)
    return numerical.extrapolate(
        flat[:, :count],
        flat[:, count:],
        problem.middle,
        t,
        noise=problem.noise,
        epsilon=problem.epsilon,
    )


def _scales(leaf: roads.Leaf, x: np.ndarray) -> np.ndarray:
    """The size of a step for each number: its own, unless it is small in its leaf."""
    own = abs(x[leaf.start : leaf.start + leaf.size])
    largest = own.max() or 1.0
    return np.where(own > 1e-3 * largest, own, np.where(own > 0, np.minimum(largest, 1.0), largest))


def _element_slopes(
    problem: _Problem, leaf: roads.Leaf, places: np.ndarray, claimed: np.ndarray
) -> numerical.Slopes:
    """The slopes with respect to single numbers: quick, and again with care where that is unsure.

    Care means more steps; then steps in the scale of the number itself; then larger ones.
    """
    x = problem.at.vector
    v = np.zeros_like(x)
    scales = _scales(leaf, x)
    own = abs(x[leaf.start : leaf.start + leaf.size])
    coarse = problem.epsilon > 1e-10
    quick = [(scales, 2 if coarse else 7, 3)]
    own_scale = np.where(own > 0, own, scales * 2.0**-40)
    careful = [(scales, 1 if coarse else 4, 8), (own_scale, 2, 8), (np.maximum(scales, 1.0), 2, 8)]
    best: list[np.ndarray] | None = None
    todo = np.ones(len(places), bool)
    for scale, first, count in quick + careful:
        v[leaf.start : leaf.start + leaf.size] = scale
        at = places[todo]
        unit = v[at]
        slopes = _slopes(problem, v, at, at + 1, first, count)
        fresh = [s if s.dtype == bool else s / unit for s in slopes]
        if best is None:
            best = [np.array(s) for s in fresh]
        else:
            old = [s[todo] for s in best]
            better = fresh[1] < old[1]
            apart = abs(fresh[0] - old[0])
            doubt = np.where(apart > fresh[1] + old[1], apart, 0)
            fresh[1], old[1] = fresh[1] + doubt, old[1] + doubt
            for s, a, b in zip(best, fresh, old, strict=True):
                s[todo] = np.where(better, a, b)
        value, bar, _, _, kink, steepest = best
        size = np.maximum(abs(value), np.maximum(steepest, 0.01 * np.max(abs(value), initial=0)))
        off = ~(abs(claimed[places] - value) <= bar + problem.rtol * size)
        todo = ~(bar <= 10 * problem.rtol * size) | kink | off
        if not todo.any():
            break
    assert best is not None
    return numerical.Slopes._make(best)


def _reverse(problem: _Problem) -> np.ndarray | None:
    """`jax.grad` of φ; in forward mode where reverse mode cannot (a while loop)."""
    x = jnp.asarray(problem.at.vector)
    tries = [jax.jit(jax.grad(problem.phi)), jax.grad(problem.phi)]
    if len(x) <= ELEMENTWISE:
        tries.append(jax.jacfwd(problem.phi))
    for gradient in tries:
        try:
            return np.asarray(gradient(x), np.float64)
        except (TypeError, ValueError, NotImplementedError, jax.errors.JAXTypeError):
            continue
    return None


def _by_hand(hand: Callable, problem: _Problem) -> np.ndarray:
    """The gradient by hand in float64, or in its own precision where it cannot."""
    at, numbers = problem.at, problem.at.argnums
    del numbers
    try:
        gradient = hand(*roads.arguments(at, jnp.asarray(at.vector), wide=True))
    except TypeError:
        gradient = hand(*roads.arguments(at, jnp.asarray(at.vector), wide=False))
    return _parts(at, gradient, "hand")


def _parts(at: roads.Point, gradient: Any, source: str) -> np.ndarray:
    if len(at.argnums) == 1 and isinstance(gradient, tuple) and len(gradient) == 1:
        structure = jax.tree.structure(at.args[at.argnums[0]])
        if jax.tree.structure(gradient) != structure:
            gradient = gradient[0]
    return roads.as_vector(at, gradient, source)


def _visible_gradient(problem: _Problem) -> np.ndarray | None:
    """The gradient with every `stop_gradient` taken out; None where there is none."""
    x = jnp.asarray(problem.at.vector)
    try:
        program = jax.make_jaxpr(problem.phi)(x)
        if not roads.hides_something(program.jaxpr):
            return None
        run = jex.jaxpr_as_fun(program.replace(jaxpr=roads.without_stop_gradient(program.jaxpr)))
        return np.asarray(jax.grad(lambda x: run(x)[0])(x))
    except (TypeError, ValueError, NotImplementedError, jax.errors.JAXTypeError):
        return None


def _look(
    problem: _Problem,
    leaf: roads.Leaf,
    claimed: np.ndarray,
    full: np.ndarray | None,
    rng: np.random.Generator,
) -> _Look:
    """The slopes of a leaf's elements: of all, or of a sample and what bisection suspects."""
    if leaf.size <= ELEMENTWISE:
        places = leaf.start + np.arange(leaf.size)
        checked = "every element"
    else:
        places = leaf.start + np.sort(rng.choice(leaf.size, SAMPLE, replace=False))
        suspects = _suspects(problem, leaf, claimed if full is None else full, rng)
        places = np.union1d(places, suspects)
        checked = f"{DIRECTIONS} directions, {len(places)} elements"
    if not leaf.size:
        nothing = np.zeros(0)
        slopes = numerical.Slopes(nothing, nothing, nothing, nothing, nothing.astype(bool), nothing)
        return _Look(leaf, places, slopes, nothing.astype(bool), checked)
    slopes = _element_slopes(problem, leaf, places, claimed)
    hidden = np.zeros(len(places), bool)
    if full is not None:
        codes = _judge(problem, claimed[places], slopes)
        hidden = (codes == "wrong") & (_judge(problem, full[places], slopes) != "wrong")
    return _Look(leaf=leaf, places=places, slopes=slopes, hidden=hidden, checked=checked)


def _suspects(
    problem: _Problem, leaf: roads.Leaf, claimed: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Places whose gradients do not add up to a directional slope, found by bisection."""
    v = np.zeros_like(claimed)
    cut = slice(leaf.start, leaf.start + leaf.size)
    for _ in range(DIRECTIONS):
        v[cut] = _scales(leaf, problem.at.vector) * rng.choice([-1.0, 1.0], leaf.size)
        terms = np.where(np.isfinite(claimed), claimed, 0) * v
        ranges = np.array([[leaf.start, leaf.start + leaf.size]])
        while len(ranges):
            slopes = _slopes(problem, v, ranges[:, 0], ranges[:, 1], 4, 8)
            sums = np.array([terms[a:b].sum() for a, b in ranges])
            sizes = np.array([np.sqrt(np.sum(terms[a:b] ** 2)) for a, b in ranges])
            off = abs(slopes.value - sums) > 3 * slopes.bar + 1e-2 * problem.rtol * sizes
            inside = (np.minimum(slopes.left, slopes.right) <= sums) & (
                sums <= np.maximum(slopes.left, slopes.right)
            )
            ranges = ranges[off & ~(slopes.kink & inside)][:4]
            if len(ranges) and (ranges[:, 1] - ranges[:, 0] == 1).all():
                return ranges[:, 0]
            middles = ranges.sum(axis=1) // 2
            halves = [
                *zip(ranges[:, 0], middles, strict=True),
                *zip(middles, ranges[:, 1], strict=True),
            ]
            ranges = np.array([(a, b) for a, b in halves if b > a]).reshape(-1, 2)
    return np.zeros(0, int)


def _judge(problem: _Problem, claimed: np.ndarray, slopes: numerical.Slopes) -> np.ndarray:
    """A verdict for each element: "wrong" only outside tolerance and bar, "noisy" in a wide bar."""
    value, bar, left, right, kink, steepest = slopes
    size = np.maximum(abs(value), abs(claimed))
    in_leaf = np.max(abs(value[np.isfinite(bar)]), initial=0)
    slack = problem.atol + problem.rtol * size + 2 * bar
    with np.errstate(all="ignore"):
        close = abs(claimed - value) <= slack
        room = problem.atol + problem.rtol * np.maximum(abs(left), abs(right)) + bar * kink
        between = (np.minimum(left, right) - room <= claimed) & (
            claimed <= np.maximum(left, right) + room
        )
    still = (claimed == 0) & (steepest == 0)
    enough = problem.atol + max(100 * problem.rtol, 1e-4) * np.maximum(
        size, np.maximum(steepest, 1e-2 * in_leaf)
    )
    decided = (
        bar
        <= np.minimum(enough, problem.atol + 0.05 * np.maximum(size, np.maximum(steepest, in_leaf)))
    ) | still
    rounding = 64 * problem.epsilon * max(abs(problem.middle), 1e-300)
    scale = np.max(abs(problem.at.vector)) or 1.0
    nothing = (size <= rounding / scale) & close
    return np.select(
        [~np.isfinite(claimed), kink & between, ~close & np.isfinite(bar), decided | nothing],
        ["nonfinite", "kink", "wrong", "match"],
        "noisy",
    )


def _judge_leaf(
    problem: _Problem, look: _Look, claimed: np.ndarray, by_hand: np.ndarray | None
) -> LeafReport:
    """The verdict on a leaf: of the elements looked at, and of hand against `jax.grad` on all."""
    leaf = look.leaf
    if leaf.skipped:
        return _skipped(leaf)
    places, slopes = look.places, look.slopes
    codes = _judge(problem, claimed[places], slopes)
    codes = np.where(look.hidden, "match", codes)
    road, shown = "jax.grad", claimed
    if by_hand is not None:
        cut = slice(leaf.start, leaf.start + leaf.size)
        gap = abs(by_hand[cut] - claimed[cut])
        largest = np.max(abs(claimed[cut]), initial=0)
        size = np.maximum(abs(claimed[cut]), 1e-6 * largest)
        off = ~(gap <= problem.atol + problem.rtol * size)
        hand_codes = _judge(problem, by_hand[places], slopes)
        hand_codes = np.where(look.hidden & ~off[places - leaf.start], "match", hand_codes)
        if off.any() and not (hand_codes == "wrong").any():
            extra = leaf.start + np.flatnonzero(off)[:FINDINGS]
            places = np.concatenate([places, extra])
            more = _element_slopes(problem, leaf, extra, by_hand)
            slopes = numerical.Slopes._make(map(np.concatenate, zip(slopes, more, strict=True)))
            hand_codes = np.concatenate([hand_codes, _judge(problem, by_hand[extra], more)])
            codes = np.concatenate([codes, _judge(problem, claimed[extra], more)])
        if not np.isin(codes, ["wrong", "nonfinite"]).any() and by_hand is not claimed:
            codes, road, shown = hand_codes, "hand", by_hand
    return _leaf_report(problem, look, places, slopes, codes, road, shown, claimed, by_hand)


def _leaf_report(
    problem: _Problem,
    look: _Look,
    places: np.ndarray,
    slopes: numerical.Slopes,
    codes: np.ndarray,
    road: str,
    shown: np.ndarray,
    claimed: np.ndarray,
    by_hand: np.ndarray | None,
) -> LeafReport:
    leaf = look.leaf
    order = ["nonfinite", "wrong", "noisy", "kink", "match"]
    verdict = next(code for code in order if (codes == code).any())
    bad = codes == verdict if verdict != "match" else np.zeros(len(codes), bool)
    gap = abs(shown[places] - slopes.value)
    gap = np.where(np.isfinite(gap) & np.isin(codes, ["match", "wrong"]), gap, 0)
    largest = np.max(abs(slopes.value[np.isfinite(slopes.bar)]), initial=0) or 1.0
    findings = tuple(
        Finding(
            path=leaf.path,
            index=_index(leaf, int(places[i])),
            jax=float(claimed[places[i]]),
            hand=None if by_hand is None else float(by_hand[places[i]]),
            numerical=float(slopes.value[i]),
            bar=float(slopes.bar[i]),
            road=road if verdict in ("wrong", "nonfinite") else "none",
        )
        for i in np.flatnonzero(bad)[:FINDINGS]
    )
    looks = None
    if verdict in ("wrong", "nonfinite"):
        cut = slice(leaf.start, leaf.start + leaf.size)
        looks = diagnosis.looks_like(
            shown[places],
            slopes.value,
            bad,
            x=problem.at.vector[places],
            indices=(places - leaf.start) // leaf.parts,
            whole=shown[cut],
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
        looks_like=looks,
        findings=findings,
    )


def _index(leaf: roads.Leaf, place: int) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index((place - leaf.start) // leaf.parts, leaf.shape))


def _batch_sizes(args: tuple) -> list[int]:
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(args) if hasattr(leaf, "shape")]
    return sorted({shape[0] for shape in shapes if shape} | {int(np.prod(s)) for s in shapes})


def _hold_forward(
    problem: _Problem,
    report: LeafReport,
    leaf: roads.Leaf,
    claimed: np.ndarray,
    rng: np.random.Generator,
) -> LeafReport:
    """Forward mode along a direction against reverse mode: `J v` and `g·v`."""
    if report.verdict not in ("match", "kink"):
        return report
    cut = slice(leaf.start, leaf.start + leaf.size)
    x = jnp.asarray(problem.at.vector)
    v = np.zeros_like(problem.at.vector)
    v[cut] = rng.uniform(0.5, 1.5, leaf.size) * rng.choice([-1.0, 1.0], leaf.size)

    scale = np.max(abs(problem.at.vector)) or 1.0
    rounding = 64 * problem.epsilon * abs(problem.middle) * np.sqrt(len(v)) / scale

    @jax.jit
    def forward(low: int, high: int) -> Any:
        inside = (jnp.arange(len(v)) >= low) & (jnp.arange(len(v)) < high)
        return jax.jvp(problem.phi, (x,), (jnp.where(inside, v, 0),))[1]

    def off(low: int, high: int) -> bool:
        terms = claimed[low:high] * v[low:high]
        return bool(
            abs(float(forward(low, high)) - terms.sum())
            > problem.atol + rounding + 10 * problem.rtol * np.sqrt(np.sum(terms**2))
        )

    low, high = leaf.start, leaf.start + leaf.size
    try:
        if not off(low, high):
            return report
    except (TypeError, ValueError, NotImplementedError, jax.errors.JAXTypeError):
        return report
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if off(low, middle) else (middle, high)
    slopes = _element_slopes(problem, leaf, np.array([low]), claimed)
    finding = Finding(
        path=leaf.path,
        index=_index(leaf, low),
        jax=float(forward(low, high)) / float(v[low]),
        hand=None,
        numerical=float(slopes.value[0]),
        bar=float(slopes.bar[0]),
        road="forward mode",
    )
    return report._replace(
        verdict="wrong",
        looks_like="forward mode differs from reverse mode",
        findings=(finding,),
    )


def _own_gradients(
    function: Callable, hand: Callable | None, at: roads.Point, onto: list, differentiable: bool
) -> dict[str, np.ndarray]:
    """The gradients as the caller gets them, in the dtypes of the arguments."""
    if all(leaf.dtype in (np.float64, np.complex128) for leaf in at.leaves if leaf.size):
        return {}
    own = {}
    args = jax.tree.map(lambda a: jnp.asarray(a) if isinstance(a, np.ndarray) else a, at.args)
    with roads.own_precision():
        if differentiable:
            try:
                gradient = jax.grad(
                    lambda *args: roads.project(function(*args), onto), at.argnums, allow_int=True
                )(*args)
                single = len(at.argnums) == 1
                gradient = gradient[0] if single else gradient
                own["jax.grad"] = roads.as_vector(at, gradient, "jax.grad")
            except (TypeError, ValueError, NotImplementedError, jax.errors.JAXTypeError):
                pass
        if hand is not None:
            own["hand"] = _parts(at, hand(*args), "hand")
    return own


def _hold_own_precision(
    problem: _Problem,
    report: LeafReport,
    leaf: roads.Leaf,
    claimed: np.ndarray,
    own: dict[str, np.ndarray],
) -> LeafReport:
    """A gradient in the leaf's own dtype against the one in float64, which was checked."""
    if report.verdict not in ("match", "kink"):
        return report
    cut = slice(leaf.start, leaf.start + leaf.size)
    largest = np.max(abs(claimed[cut]))
    epsilon = float(jnp.finfo(leaf.dtype).eps)
    scale = np.max(abs(problem.at.vector)) or 1.0
    rounding = 64 * epsilon * abs(problem.middle) / scale
    for road, gradient in own.items():
        gap = abs(gradient[cut] - claimed[cut])
        bad = ~(gap <= rounding + 4 * np.sqrt(epsilon) * largest)
        if not bad.any():
            continue
        place = leaf.start + int(np.flatnonzero(bad)[0])
        finite = bool(np.isfinite(gradient[place]))
        wrong = road == "hand" and finite
        finding = Finding(
            path=leaf.path,
            index=_index(leaf, place),
            jax=float(own.get("jax.grad", claimed)[place]),
            hand=float(own["hand"][place]) if "hand" in own else None,
            numerical=float(claimed[place]),
            bar=0.0,
            road=road,
        )
        return report._replace(
            verdict="wrong" if wrong else "noisy" if finite else "nonfinite",
            looks_like=f"right in float64, not in {leaf.dtype}: rounding",
            findings=(finding,),
        )
    return report


def _sentence(finding: Finding) -> str:
    hand = "" if finding.hand is None else f", hand {finding.hand:.6g}"
    off = "" if finding.road == "none" else f"; {finding.road} disagrees"
    place = "".join(f"[{i}]" for i in finding.index)
    return (
        f"{finding.path}{place}: jax {finding.jax:.6g}{hand}, "
        f"numerical {finding.numerical:.6g} ± {finding.bar:.1e}{off}"
    )
