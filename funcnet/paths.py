"""The chain rule written out: every path from the output to a variable, and the sum over them.

The variables of a path are those that have a name; a value that is only a step of an assignment,
`w3 * b` in `d = w3 * b + w4 * c`, is part of the factor `∂d/∂b`.
"""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from jaxtyping import Array

from funcnet import notation
from funcnet.nodes import Edge, Node

MAX_PATHS = 8
"""More paths than these are counted, not written."""


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
        products = (" · ".join(factor.symbol for factor in path) for path in self.paths)
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
    def down(index: int) -> tuple[tuple[int, Factor], ...]:
        if index == len(nodes):
            return tuple((i, _first(objective, nodes[i], ȳ)) for i, ȳ in cotangents.items())
        return tuple(sorted(_factors(nodes, operands, index), key=lambda pair: pair[0]))

    counts = {variable.index: 1}
    named = (n.index for n in nodes if n.part_of is None or n.index in cotangents)
    for index in (*(i for i in named if i > variable.index), len(nodes)):
        counts[index] = sum(counts.get(child, 0) for child, _ in down(index))

    def paths() -> Iterator[tuple[Factor, ...]]:
        begun: list[tuple[int, tuple[Factor, ...]]] = [(output, ())]
        while begun:
            index, path = begun.pop()
            if index == variable.index:
                yield path
            elif counts.get(index):
                begun += [(child, (*path, factor)) for child, factor in reversed(down(index))]

    count = counts.get(output, 0)
    return ChainRule(
        output=objective,
        variable=variable.name,
        paths=tuple(paths()) if 0 < count <= MAX_PATHS else (),
        num_paths=count,
        total=variable.adjoint,
    )


def _first(objective: str, output: Node, cotangent: Array) -> Factor:
    """`∂(ȳ · y)/∂y = ȳ`."""
    return Factor(
        parent=objective,
        child=output.name,
        formula="its cotangent",
        value=cotangent if cotangent.shape == () else None,
        shapes=f"[] → {list(cotangent.shape)}",
    )


def _factors(
    nodes: Sequence[Node], operands: Mapping[int, Sequence[Edge]], parent: int
) -> Iterator[tuple[int, Factor]]:
    """From a node to the named ones it is computed from, through the steps of its assignment."""
    weights: dict[int, Any] = {parent: 1.0}
    formulas: dict[int, list[str]] = {parent: [""]}
    steps = [parent]
    while steps:
        steps.sort()
        step = steps.pop()
        weight, formula = weights.pop(step), formulas.pop(step)
        if step != parent and nodes[step].part_of is None:
            yield step, _factor(nodes[parent], nodes[step], formula, weight)
            continue
        for edge in operands.get(step, ()):
            if edge.child not in weights:
                steps.append(edge.child)
            weights[edge.child] = _add(weights.get(edge.child), _times(weight, edge))
            formulas.setdefault(edge.child, []).extend(_then(f, edge.formula) for f in formula[:2])


def _factor(parent: Node, child: Node, formulas: list[str], value: Any) -> Factor:
    return Factor(
        parent=parent.name,
        child=child.name,
        formula=formulas[0] if len(formulas) == 1 else "a sum over the ways between",
        value=value,
        shapes=f"{list(parent.value.shape)} → {list(child.value.shape)}",
    )


def _times(weight: Any, edge: Edge) -> Any:
    """The product of numbers; `None` where one of them is an array or a linear map."""
    local = edge.local_derivative
    if weight is None or isinstance(local, str) or local.shape != ():
        return None
    return weight * local


def _add(weight: Any, other: Any) -> Any:
    return other if weight is None else None if other is None else weight + other


def _then(first: str, second: str) -> str:
    return f"{first}, then {second}" if first not in ("", "1") else second


def _is_scalar(paths: Sequence[Sequence[Factor]]) -> bool:
    return all(factor.is_number for path in paths for factor in path)


def _numbers(paths: Sequence[Sequence[Factor]]) -> Iterator[str]:
    """The numbers in place of the symbols, and, where there are several products, those."""
    if not _is_scalar(paths):
        return
    products = ["".join(notation.factor(factor.value) for factor in path) for path in paths]
    if len(paths) > 1 or len(paths[0]) > 1:
        yield " + ".join(products)
    if len(paths) > 1:
        yield " + ".join(notation.factor(_product(path)) for path in paths)


def _product(path: Sequence[Factor]) -> Any:
    return math.prod(float(factor.value) for factor in path if factor.value is not None)


def _legend(paths: Sequence[Sequence[Factor]]) -> Iterator[str]:
    """Of the factors that are no numbers: what they do, and between which shapes."""
    factors = {factor.symbol: factor for path in paths for factor in path}
    for factor in factors.values():
        if not factor.is_number:
            yield f"\n  {factor.symbol}: {factor.formula}  {factor.shapes}"
