"""The chain rule written out: every path from the output to a variable, and the sum over them.

The variables of a path are those that have a name; a value that is only a step of an assignment,
`w3 * b` in `d = w3 * b + w4 * c`, is part of the factor `∂d/∂b`.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from funcnet.graph import _notation as notation
from funcnet.graph._nodes import Edge, Node, is_number

MAX_PATHS = 8
"""More paths than these are counted, not written."""

MAX_FACTORS = 12
"""Of a longer product the first and the last are written, and how many are not."""

MAX_WAYS = 4
"""How many ways within one assignment are written out as a sum."""


class Factor(NamedTuple):
    """One factor of a product along a path, `∂parent/∂child`.

    Attributes:
      parent: the name above.
      child: the name below.
      formula: the derivative in symbols.
      value: the number, where parent and child are scalars.
      shapes: of parent and child: `[5, 3] → [4]`.
    """

    parent: str
    child: str
    formula: str
    value: Array | float | None
    shapes: str

    @property
    def symbol(self) -> str:
        """`∂d/∂b`."""
        return notation.derivative(self.parent, self.child)

    @property
    def is_number(self) -> bool:
        """Whether parent and child are scalars."""
        return self.value is not None


class Assignment(NamedTuple):
    """What computes one variable, `d = w3 * b + w4 * c`, by the indices of nodes.

    Attributes:
      steps: the variable, and the values without a name that it is computed through, last to first.
      reads: the variables that they are computed from, in the order of the program.
    """

    steps: tuple[int, ...]
    reads: tuple[int, ...]


class ChainRule(NamedTuple):
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
        """`∂L/∂w1`; `dL/dx` where `∂L/∂x` is one of the terms: the way without a step between."""
        total = len(self.paths) > 1 and any(len(path) == 1 for path in self.paths)
        return notation.derivative(self.output, self.variable, "d" if total else "∂")

    @property
    def symbols(self) -> str:
        """`∂L/∂d · ∂d/∂b · ∂b/∂w1`, a sum of such products."""
        products = (" · ".join(_some([f.symbol for f in path])) for path in self.paths)
        return " + ".join(products)

    @property
    def steps(self) -> tuple[str, ...]:
        """Symbols, then numbers: each line equals the one before."""
        if self.output == self.variable:
            return (notation.summary(self.total),)
        if not self.num_paths:
            return (f"0: {self.output} does not depend on {self.variable}",)
        if not self.paths:
            return (f"a sum over {self.num_paths:,} paths", notation.summary(self.total))
        total = notation.summary(self.total)
        if self.symbols == self.symbol:  # one factor: what it is, instead of the same again
            (factor,) = self.paths[0]
            return tuple(dict.fromkeys((factor.formula, total))) if factor.is_number else (total,)
        return self.symbols, *_numbers(self.paths), total

    def __str__(self) -> str:
        """One line for one path; else a line for each step, and for arrays one for each factor."""
        if len(self.paths) == 1 and _is_scalar(self.paths):
            return f"{self.symbol} = {' = '.join(self.steps)}"
        indent = "\n" + " " * len(self.symbol) + " = "
        return f"{self.symbol} = {indent.join(self.steps)}" + "".join(_legend(self.paths))

    __repr__ = __str__


def chain_rule(
    nodes: Sequence[Node],
    operands: Mapping[int, Sequence[Edge]],
    objective: str,
    cotangents: Mapping[int, Array],
    variable: Node,
) -> ChainRule:
    """Writes out `∂objective/∂variable`.

    Args:
      nodes: of the graph.
      operands: of every node the edges down to its operands.
      objective: where the paths begin: the name of the output, or of the sum `ȳ · y` over several.
      cotangents: of the outputs, by index, the adjoints that they begin with.
      variable: where the paths end.
    """
    output = next((i for i in cotangents if nodes[i].name == objective), len(nodes))

    @functools.cache
    def assignment(index: int) -> Assignment:
        return _assignment(nodes, operands, index)

    def below(index: int) -> Iterable[int]:
        return cotangents if index == len(nodes) else assignment(index).reads

    @functools.cache
    def factors(index: int) -> Mapping[int, Factor]:
        if index == len(nodes):
            return {i: _first(objective, nodes[i], ȳ) for i, ȳ in cotangents.items()}
        return _factors(nodes, operands, assignment(index))

    later = nodes[variable.index + 1 :]
    named = (node.index for node in later if node.part_of is None or node.index in cotangents)
    counts = _counts(variable.index, (*named, len(nodes)), below)
    count = counts.get(output, 0)
    few = 0 < count <= MAX_PATHS
    return ChainRule(
        output=objective,
        variable=variable.name,
        paths=tuple(_paths(output, variable.index, counts, factors)) if few else (),
        num_paths=count,
        total=variable.adjoint,
    )


def _counts(
    end: int, above: Iterable[int], below: Callable[[int], Iterable[int]]
) -> Mapping[int, int]:
    """How many paths lead to `end` from each of those above it, in the order of the program."""
    counts = {end: 1}
    for index in above:
        counts[index] = sum(counts.get(child, 0) for child in below(index))
    return counts


def _paths(
    begin: int, end: int, counts: Mapping[int, int], factors: Callable[[int], Mapping[int, Factor]]
) -> Iterator[tuple[Factor, ...]]:
    """The paths themselves, without recursion: one may have thousands of factors."""
    begun: list[tuple[int, tuple[Factor, ...]]] = [(begin, ())]
    while begun:
        index, path = begun.pop()
        if index == end:
            yield path
        elif counts.get(index):
            further = [(i, (*path, factor)) for i, factor in factors(index).items()]
            begun += reversed(further)


def _first(objective: str, output: Node, cotangent: Array) -> Factor:
    """`∂(ȳ · y)/∂y = ȳ`."""
    return Factor(
        parent=objective,
        child=output.name,
        formula="its cotangent",
        value=cotangent if is_number(cotangent) else None,
        shapes=f"[] → {list(cotangent.shape)}",
    )


def _assignment(
    nodes: Sequence[Node], operands: Mapping[int, Sequence[Edge]], parent: int
) -> Assignment:
    """The assignment of a variable, from its value down to what it reads."""
    reached, begun = {parent}, [parent]
    while begun:
        for edge in operands.get(begun.pop(), ()):
            if edge.child not in reached:
                reached.add(edge.child)
                begun += [edge.child] * (nodes[edge.child].part_of is not None)
    reads = {i for i in reached if nodes[i].part_of is None} - {parent}
    return Assignment(
        steps=tuple(sorted(reached - reads, reverse=True)), reads=tuple(sorted(reads))
    )


def _factors(
    nodes: Sequence[Node], operands: Mapping[int, Sequence[Edge]], assignment: Assignment
) -> dict[int, Factor]:
    """From a variable to each that its assignment reads."""
    parent = nodes[assignment.steps[0]]
    formulas = _formulas(operands, assignment)
    numbers = _derivatives(operands, assignment, parent.value) if is_number(parent.value) else {}
    return {
        i: Factor(
            parent=parent.name,
            child=nodes[i].name,
            formula=_sum(formulas[i]),
            value=numbers.get(i) if is_number(nodes[i].value) else None,
            shapes=f"{list(parent.value.shape)} → {list(nodes[i].value.shape)}",
        )
        for i in assignment.reads
    }


def _formulas(
    operands: Mapping[int, Sequence[Edge]], assignment: Assignment
) -> Mapping[int, Sequence[str]]:
    """What becomes of the adjoint on the ways down, `MAX_WAYS` and one where there are more."""
    formulas: dict[int, list[str]] = {assignment.steps[0]: [""]}
    for step in assignment.steps:
        for edge in operands.get(step, ()):
            ways = [_then(way, edge.formula) for way in formulas[step][: MAX_WAYS + 1]]
            formulas.setdefault(edge.child, []).extend(ways)
    return formulas


def _derivatives(
    operands: Mapping[int, Sequence[Edge]], assignment: Assignment, value: Array
) -> Mapping[int, Any]:
    """`∂value/∂i` for what the assignment reads: the reverse sweep through its steps, from 1 on.

    Where a rule on the way may be no linear map there is no such number: `None`, as is every sum
    with it.
    """
    adjoints: dict[int, Any] = {assignment.steps[0]: jnp.ones_like(value)}
    for step in assignment.steps:
        for edge in operands.get(step, ()):
            pulled = _pulled(edge, adjoints[step])
            first = edge.child not in adjoints
            adjoints[edge.child] = pulled if first else _plus(adjoints[edge.child], pulled)
    return adjoints


def _pulled(edge: Edge, adjoint: Any) -> Any:
    """What a child receives of an adjoint, where that is a product with a local derivative."""
    if adjoint is None or not (edge.linear or edge.elementwise):
        return None
    return edge.pull(adjoint) if edge.linear else adjoint * edge.local_derivative


def _plus(one: Any, other: Any) -> Any:
    return None if one is None or other is None else one + other


def _sum(ways: Sequence[str]) -> str:
    """The formulas of several ways as a sum; very many are not written out."""
    if len(ways) > MAX_WAYS:
        return "a sum over the ways between"
    return " + ".join(f"({way})" if ", then" in way and ways[1:] else way for way in ways)


def _then(first: str, second: str) -> str:
    """One after the other; what leaves everything as it is is not said."""
    if first in ("", "1"):
        return second
    return first if second == "1" else f"{first}, then {second}"


def _is_scalar(paths: Sequence[Sequence[Factor]]) -> bool:
    return all(factor.is_number for path in paths for factor in path)


def _numbers(paths: Sequence[Sequence[Factor]]) -> Iterator[str]:
    """The numbers in place of the symbols, and, where there are several products, those."""
    if not _is_scalar(paths):
        return
    factors = ([notation.factor(factor.value) for factor in path] for path in paths)
    products = ["".join(_some(path, "(… {} more …)")) for path in factors]
    if len(paths) > 1 or len(paths[0]) > 1:
        yield " + ".join(products)
    if len(paths) > 1:
        yield " + ".join(notation.factor(_product(path)) for path in paths)


def _product(path: Sequence[Factor]) -> Any:
    return math.prod(float(factor.value) for factor in path if factor.value is not None)


def _legend(paths: Sequence[Sequence[Factor]]) -> Iterator[str]:
    """Of the factors that are no numbers: what they do, and between which shapes."""
    factors = {factor.symbol: factor for path in paths for factor in path}
    lines = [
        f"{factor.symbol}: {factor.formula}  {factor.shapes}"
        for factor in factors.values()
        if not factor.is_number
    ]
    yield from (f"\n  {line}" for line in _some(lines))


def _some(written: Sequence[str], left_out: str = "… {} more …") -> list[str]:
    """The first and the last of many."""
    if len(written) <= MAX_FACTORS:
        return list(written)
    half = MAX_FACTORS // 2
    between = left_out.format(f"{len(written) - 2 * half:,}")
    return [*written[:half], between, *written[-half:]]
