"""Where the first NaN or infinity of a computation was born."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array

from funcnet.graph import _notation as notation
from funcnet.graph._nodes import Edge, Node, is_differentiable


class NonFinite(NamedTuple):
    """Where a NaN or an infinity was born.

    Attributes:
      phase: `forward` if it is in a value, `backward` if all values are finite and it is in an
        adjoint.
      what: of the node is the first that is not finite: its `value`, its `derivative`, which it
        hands down; its `adjoint`, where only the sum over its uses is not finite; its `cotangent`.
      node: the operation, an argument, or a constant.
      inputs: its operands; of an adjoint its uses.
    """

    phase: str
    what: str
    node: Node
    inputs: tuple[Node, ...]

    def __str__(self) -> str:
        """What was found, its source line and its inputs, on a line each; or the argument."""
        name, kind = self.node.name, self.node.operation
        if self.what == "cotangent":
            return f"{self.phase}: the cotangent of {name} is not finite"
        if self.what == "adjoint":
            uses = "".join(f"\n  of {x.name} at {_line(x)}" for x in self.inputs)
            return f"{self.phase}: the adjoint of {name} is not finite, a sum of finite parts{uses}"
        if self.node.is_leaf:
            return f"{self.phase}: the {kind} {name} is not finite"
        operands = "".join(f"\n  {x.name} = {notation.summary(x.value)}" for x in self.inputs)
        found = f"the {self.what} of {name} = {self.node.expression} is not finite"
        return f"{self.phase}: {found}\n  at {_line(self.node)}{operands}"

    __repr__ = __str__


def _line(node: Node) -> str:
    return str(node.source or "an unknown line")


def first_born(
    nodes: Sequence[Node],
    operands: Mapping[int, Sequence[Edge]],
    uses: Mapping[int, Sequence[Edge]],
    cotangents: Mapping[int, Array],
) -> NonFinite | None:
    """The first value that is not finite, made of finite ones; else the first such adjoint.

    What the source itself says, a mask of −∞, is meant, unless an output is not finite and there is
    no other reason: then it is named where it enters.

    Args:
      nodes: of a graph, in the order of the program.
      operands: of every node the edges down to its operands.
      uses: of every node the edges up to where it is used.
      cotangents: of the outputs, by index, the adjoints that the sweep begins with.
    """
    if born := next(_born_forward(nodes), None):
        return born
    if any(_is_born(nodes[i].value, ()) for i in cotangents):
        return next(_entered(nodes), None)
    return next(_born_backward(nodes, operands, uses, cotangents), None)


def _born_forward(nodes: Sequence[Node]) -> Iterator[NonFinite]:
    for node in nodes:
        inputs = tuple(nodes[i] for i in node.inputs)
        said = [node.value] if node.operation == "constant" else node.literals
        if _is_born(node.value, [*said, *(x.value for x in inputs)]):
            yield NonFinite(phase="forward", what="value", node=node, inputs=inputs)


def _entered(nodes: Sequence[Node]) -> Iterator[NonFinite]:
    """Where a number or an array of the source that is not finite becomes a value."""
    for node in nodes:
        inputs = tuple(nodes[i] for i in node.inputs)
        if _is_born(node.value, [x.value for x in inputs]):
            yield NonFinite(phase="forward", what="value", node=node, inputs=inputs)


def _born_backward(
    nodes: Sequence[Node],
    operands: Mapping[int, Sequence[Edge]],
    uses: Mapping[int, Sequence[Edge]],
    cotangents: Mapping[int, Array],
) -> Iterator[NonFinite]:
    """In the order of the sweep: what a node begins with, what it receives, what it hands down."""
    for node in reversed(nodes):
        above = uses.get(node.index, ())
        begun = [cotangents[node.index]] if node.index in cotangents else []
        if any(_is_born(ȳ, ()) for ȳ in begun):
            yield NonFinite(phase="backward", what="cotangent", node=node, inputs=())
        elif _is_born(node.adjoint, [*begun, *(edge.contribution for edge in above)]):
            users = tuple(nodes[edge.parent] for edge in above[::-1])
            yield NonFinite(phase="backward", what="adjoint", node=node, inputs=users)
        for edge in operands.get(node.index, ()):
            if _is_born(edge.contribution, [node.adjoint]):
                inputs = tuple(nodes[i] for i in node.inputs)
                yield NonFinite(phase="backward", what="derivative", node=node, inputs=inputs)


def _is_born(value: Any, inputs: Iterable[Any]) -> bool:
    """Whether a NaN is new, or an infinity made of finite numbers."""
    if value is None or not is_differentiable(value) or np.isfinite(value).all():
        return False
    floats = [x for x in inputs if is_differentiable(x)]
    if np.isnan(value).any():
        return not any(np.isnan(x).any() for x in floats)
    return all(np.isfinite(x).all() for x in floats)
