"""The chain rule written out: every path from the output to a variable, and the sum over them.

The variables of a path are those that have a name; a value that is only a step of an assignment,
`w3 * b` in `d = w3 * b + w4 * c`, is part of the factor `∂d/∂b`.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from funcnet.graph._nodes import Computation, Node, is_number
from funcnet.graph._notation import derivative, factor, summary

MAX_PATHS = 8  # paths that are written; more are counted
MAX_FACTORS = 12  # factors of a product that are written; of more, the first and the last
MAX_WAYS = 4  # ways within one assignment that are written as a sum


@dataclasses.dataclass(frozen=True, kw_only=True)
class Factor:
    """One factor of a product along a path, `∂parent/∂child`.

    Attributes:
      symbol: `∂d/∂b`.
      formula: the derivative in symbols.
      value: the number, where parent and child are scalars.
      shapes: the shapes of parent and child: `[5, 3] → [4]`.
    """

    symbol: str
    formula: str
    value: Array | float | None
    shapes: str

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
        if len(self.paths) == 1 and _is_scalar(self.paths):
            return f"{self.symbol} = {' = '.join(self.steps)}"
        indent = "\n" + " " * len(self.symbol) + " = "
        return f"{self.symbol} = {indent.join(self.steps)}" + "".join(_legend(self.paths))

    __repr__ = __str__


def chain_rule(graph: Computation, variable: Node) -> ChainRule:
    """Write out `∂objective/∂variable`."""
    top = len(graph.nodes)  # the index of a sum `ȳ · y` over several outputs, above all nodes
    output = next((i for i in graph.cotangents if graph.nodes[i].name == graph.objective), top)
    later = graph.nodes[variable.index + 1 :]
    steps = {
        node.index: _steps(graph, node.index)
        for node in later
        if node.part_of is None or node.index in graph.cotangents
    }
    below = {i: _reads(graph, i, steps[i]) for i in steps} | {top: list(graph.cotangents)}
    counts = {variable.index: 1}  # how many paths lead from each node down to the variable
    for index, reads in below.items():
        counts[index] = sum(counts.get(child, 0) for child in reads)

    @functools.cache
    def factors(index: int) -> Mapping[int, Factor]:
        if index < top:
            return _factors(graph, steps[index], below[index])
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


def _steps(graph: Computation, parent: int) -> list[int]:
    """Return the steps of an assignment, last to first: the variable, and values without a name."""
    steps, begun = {parent}, [parent]
    while begun:
        for edge in graph.operands.get(begun.pop(), ()):
            if edge.child not in steps and graph.nodes[edge.child].part_of is not None:
                steps.add(edge.child)
                begun.append(edge.child)
    return sorted(steps, reverse=True)


def _reads(graph: Computation, parent: int, steps: Sequence[int]) -> list[int]:
    read = {edge.child for step in steps for edge in graph.operands.get(step, ())}
    return sorted(i for i in read if graph.nodes[i].part_of is None and i != parent)


def _factors(
    graph: Computation, steps: Sequence[int], reads: Sequence[int]
) -> Mapping[int, Factor]:
    """Return the factors from a variable to each that its assignment reads.

    A way is the formulas of its edges without those that change nothing; at most one more than are
    written is kept. The numbers are the backward pass through the steps, from 1 on. Where a rule
    on the way may not be linear there is none: `None`, as is every sum with it.
    """
    parent = graph.nodes[steps[0]]
    ways: dict[int, list[tuple[str, ...]]] = {parent.index: [()]}
    one = jnp.ones_like(parent.value) if is_number(parent.value) else None
    numbers: dict[int, Any] = {parent.index: one}
    for edge in itertools.chain(*(graph.operands.get(step, ()) for step in steps)):
        further = (edge.formula,) if edge.formula != "1" else ()
        longer = [(*way, *further) for way in ways[edge.parent][: MAX_WAYS + 1]]
        ways.setdefault(edge.child, []).extend(longer)
        pulled = numbers[edge.parent]
        if pulled is not None and edge.linear:
            pulled = edge.pull(pulled)
        elif pulled is not None:
            pulled = pulled * edge.local_derivative if edge.elementwise else None
        if edge.child in numbers and pulled is not None:
            known = numbers[edge.child]
            pulled = None if known is None else known + pulled
        numbers[edge.child] = pulled
    of, shape = parent.name, parent.value.shape
    return {i: _factor(of, shape, graph.nodes[i], _sum(ways[i]), numbers[i]) for i in reads}


def _sum(ways: Sequence[tuple[str, ...]]) -> str:
    if len(ways) > MAX_WAYS:
        return "a sum over the ways between"
    written = [(len(way) > 1, ", then ".join(way) or "1") for way in ways]
    several = len(ways) > 1
    return " + ".join(f"({way})" if is_long and several else way for is_long, way in written)


def _is_scalar(paths: Sequence[Sequence[Factor]]) -> bool:
    return all(factor.is_number for path in paths for factor in path)


def _numbers(paths: Sequence[Sequence[Factor]]) -> Iterator[str]:
    """Yield the numbers in place of the symbols and, for several products, the products."""
    if not _is_scalar(paths):
        return
    products = ["".join(_some([factor(f.value) for f in path], "(… {} more …)")) for path in paths]
    if len(paths) > 1 or len(paths[0]) > 1:
        yield " + ".join(products)
    if len(paths) > 1:
        values = (math.prod(float(f.value) for f in path if f.value is not None) for path in paths)
        yield " + ".join(map(factor, values))


def _legend(paths: Sequence[Sequence[Factor]]) -> Iterator[str]:
    """Yield a line for each factor that is no number: its map, and its shapes."""
    maps = (f for path in paths for f in path if not f.is_number)
    lines = dict.fromkeys(f"{f.symbol}: {f.formula}  {f.shapes}" for f in maps)
    yield from (f"\n  {line}" for line in _some(list(lines)))


def _some(written: Sequence[str], left_out: str = "… {} more …") -> list[str]:
    if len(written) <= MAX_FACTORS:
        return list(written)
    half = MAX_FACTORS // 2
    between = left_out.format(f"{len(written) - 2 * half:,}")
    return [*written[:half], between, *written[-half:]]
