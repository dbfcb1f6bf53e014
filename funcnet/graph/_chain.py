"""The chain rule written out: every path from the output to a variable, and the sum over them.

The variables of a path are those that have a name; a value that is only a step of an assignment,
`w3 * b` in `d = w3 * b + w4 * c`, is part of the factor `∂d/∂b`.
"""

import dataclasses
import functools
import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from funcnet.graph._nodes import Computation, Edge, Node, is_number
from funcnet.graph._notation import derivative, factor, summary

MAX_PATHS = 8  # paths that are written; more are counted
MAX_FACTORS = 12  # factors of a product that are written; of more, the first and the last
MAX_WAYS = 4  # ways within one assignment that are written as a sum


@dataclasses.dataclass(frozen=True, kw_only=True)
class Factor:
    """One factor of a product along a path, `∂parent/∂child`."""

    symbol: str  # `∂d/∂b`
    formula: str  # the derivative in symbols
    value: Array | float | None  # the number, where parent and child are scalars
    shapes: str  # of parent and child: `[5, 3] → [4]`

    @property
    def is_number(self) -> bool:
        """Whether parent and child are scalars."""
        return self.value is not None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChainRule:
    """`∂output/∂variable` as a sum over paths.

    Attributes:
      output: the name of the output.
      variable: the name of the variable.
      paths: the factors of every path, unless there are more than `MAX_PATHS`.
      num_paths: how many paths there are.
      total: the sum over them: the variable's adjoint.
    """

    output: str
    variable: str
    paths: tuple[tuple[Factor, ...], ...]
    num_paths: int
    total: Array | None

    @property
    def symbol(self) -> str:
        """`∂L/∂w1`; `dL/dx` where one of the terms is `∂L/∂x`, the way without a step between."""
        total = len(self.paths) > 1 and any(len(path) == 1 for path in self.paths)
        return derivative(self.output, self.variable, "d" if total else "∂")

    @property
    def symbols(self) -> str:
        """`∂L/∂d · ∂d/∂b · ∂b/∂w1`, a sum of such products."""
        return " + ".join(" · ".join(_some([f.symbol for f in path])) for path in self.paths)

    @property
    def steps(self) -> tuple[str, ...]:
        """Symbols, then numbers: each line equals the one before."""
        total = summary(self.total)
        if self.output == self.variable:
            return (total,)
        if not self.num_paths:
            return (f"0: {self.output} does not depend on {self.variable}",)
        if not self.paths:
            return (f"a sum over {self.num_paths:,} paths", total)
        if self.symbols == self.symbol:  # one factor: its formula, instead of the same again
            (only,) = self.paths[0]
            return tuple(dict.fromkeys((only.formula, total))) if only.is_number else (total,)
        return self.symbols, *_numbers(self.paths), total

    def __str__(self) -> str:
        """One line for one path; else a line for each step, and for arrays one for each factor."""
        maps = [f for f in itertools.chain(*self.paths) if not f.is_number]
        if len(self.paths) == 1 and not maps:
            return f"{self.symbol} = {' = '.join(self.steps)}"
        indent = "\n" + " " * len(self.symbol) + " = "
        legend = dict.fromkeys(f"\n  {f.symbol}: {f.formula}  {f.shapes}" for f in maps)
        written = "".join(_some(list(legend), "\n  … {} more …"))
        return f"{self.symbol} = {indent.join(self.steps)}{written}"

    __repr__ = __str__


def chain_rule(graph: Computation, variable: Node) -> ChainRule:
    """Write out `∂objective/∂variable`."""
    top = len(graph.nodes)  # the index of a sum `ȳ · y` over several outputs, above all nodes
    output = next((i for i in graph.cotangents if graph.nodes[i].name == graph.objective), top)
    later = graph.nodes[variable.index + 1 :]
    assignments = {
        node.index: _assignment(graph, node.index)
        for node in later
        if node.part_of is None or node.index in graph.cotangents
    }
    counts = {variable.index: 1}  # how many paths lead from each node down to the variable
    for index, (_, reads) in assignments.items():
        counts[index] = sum(counts.get(child, 0) for child in reads)
    counts[top] = sum(counts.get(child, 0) for child in graph.cotangents)

    @functools.cache
    def factors(index: int) -> Mapping[int, Factor]:
        if index < top:
            return _factors(graph, *assignments[index])
        return {  # ∂(ȳ · y)/∂y = ȳ
            i: _factor(graph.objective, (), graph.nodes[i], "its cotangent", ȳ)
            for i, ȳ in graph.cotangents.items()
        }

    count = counts.get(output, 0)
    few = 0 < count <= MAX_PATHS
    return ChainRule(
        output=graph.objective,
        variable=variable.name,
        paths=tuple(_paths(output, variable.index, counts, factors)) if few else (),
        num_paths=count,
        total=variable.adjoint,
    )


def _paths(
    begin: int, end: int, counts: Mapping[int, int], factors: Callable[[int], Mapping[int, Factor]]
) -> Iterator[tuple[Factor, ...]]:
    """Yield the paths, without recursion: one may have thousands of factors."""
    begun: list[tuple[int, tuple[Factor, ...]]] = [(begin, ())]
    while begun:
        index, path = begun.pop()
        if index == end:
            yield path
        elif counts.get(index):
            further = [(i, (*path, factor)) for i, factor in factors(index).items()]
            begun += reversed(further)


def _factor(of: str, shape: tuple[int, ...], child: Node, formula: str, value: Any) -> Factor:
    return Factor(
        symbol=derivative(of, child.name),
        formula=formula,
        value=value if is_number(child.value) else None,
        shapes=f"{list(shape)} → {list(child.value.shape)}",
    )


def _assignment(graph: Computation, variable: int) -> tuple[list[int], list[int]]:
    """Return the steps of an assignment, last to first, and the variables that they read."""
    steps, reads, begun = {variable}, set(), [variable]
    while begun:
        for edge in graph.operands.get(begun.pop(), ()):
            if graph.nodes[edge.child].part_of is None:
                reads.add(edge.child)
            elif edge.child not in steps:
                steps.add(edge.child)
                begun.append(edge.child)
    return sorted(steps, reverse=True), sorted(reads)


def _factors(graph: Computation, steps: Sequence[int], reads: Sequence[int]) -> dict[int, Factor]:
    """Return the factors from a variable to each that its assignment reads.

    A way is the formulas of its edges without those that change nothing; at most one more than are
    written is kept. The numbers are the backward pass through the steps, from 1 on.
    """
    parent = graph.nodes[steps[0]]
    one = jnp.ones_like(parent.value) if is_number(parent.value) else None
    ways: dict[int, list[tuple[str, ...]]] = defaultdict(list, {parent.index: [()]})
    shares: dict[int, list[Any]] = defaultdict(list, {parent.index: [one]})
    for step in steps:
        ȳ = _total(shares[step])
        for edge in graph.operands.get(step, ()):
            further = (edge.formula,) if edge.formula != "1" else ()
            ways[edge.child] += [(*way, *further) for way in ways[step][: MAX_WAYS + 1]]
            shares[edge.child].append(_pulled(edge, ȳ))
    of, shape = parent.name, parent.value.shape
    return {i: _factor(of, shape, graph.nodes[i], _sum(ways[i]), _total(shares[i])) for i in reads}


def _pulled(edge: Edge, ȳ: Any) -> Any:
    """Return what an edge makes of a number; `None` for a rule that may not be linear."""
    if ȳ is None or not (edge.linear or edge.elementwise):
        return None
    return edge.pull(ȳ) if edge.linear else ȳ * edge.local_derivative


def _total(shares: Sequence[Any]) -> Any:
    return None if any(x is None for x in shares) else sum(shares[1:], start=shares[0])


def _sum(ways: Sequence[tuple[str, ...]]) -> str:
    if len(ways) > MAX_WAYS:
        return "a sum over the ways between"
    written = [(len(way) > 1, ", then ".join(way) or "1") for way in ways]
    several = len(ways) > 1
    return " + ".join(f"({way})" if is_long and several else way for is_long, way in written)


def _numbers(paths: Sequence[Sequence[Factor]]) -> Iterator[str]:
    """Yield the numbers in place of the symbols and, for several products, the products."""
    values = [[f.value for f in path if f.value is not None] for path in paths]
    if list(map(len, values)) != list(map(len, paths)):
        return
    yield " + ".join("".join(_some(list(map(factor, path)), "(… {} more …)")) for path in values)
    if len(paths) > 1:
        yield " + ".join(factor(math.prod(map(float, path))) for path in values)


def _some(written: Sequence[str], left_out: str = "… {} more …") -> list[str]:
    if len(written) <= MAX_FACTORS:
        return list(written)
    half = MAX_FACTORS // 2
    between = left_out.format(f"{len(written) - 2 * half:,}")
    return [*written[:half], between, *written[-half:]]
