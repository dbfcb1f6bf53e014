"""Where the first NaN or infinity of a computation was born."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from funcnet import notation
from funcnet.nodes import Edge, Node, is_differentiable


class NonFinite(NamedTuple):
    """Where a NaN or an infinity was born.

    Attributes:
      phase: `forward` if it is in a value, `backward` if all values are finite and it is in an
        adjoint.
      node: the operation: in the forward phase its value, in the backward phase what it hands down,
        is the first that is not finite.
      inputs: its operands.
    """

    phase: str
    node: Node
    inputs: tuple[Node, ...]

    def __str__(self) -> str:
        """The operation, its source line and its inputs, on a line each; or the argument."""
        found = "value" if self.phase == "forward" else "derivative"
        operands = "".join(f"\n  {x.name} = {notation.summary(x.value)}" for x in self.inputs)
        if self.node.is_leaf:
            return f"{self.phase}: the {self.node.operation} {self.node.name} is not finite"
        return (
            f"{self.phase}: the {found} of {self.node.name} = {self.node.expression} is not finite"
            f"\n  at {self.node.source or 'an unknown line'}{operands}"
        )


def first_born(nodes: Sequence[Node], edges: Sequence[Edge]) -> NonFinite | None:
    """The first operation whose value is not finite; else the first that hands such a thing down.

    Args:
      nodes: of a graph, in the order of the program.
      edges: in the order of the reverse sweep.
    """
    return next(_born_forward(nodes), None) or next(_born_backward(nodes, edges), None)


def _born_forward(nodes: Sequence[Node]) -> Iterator[NonFinite]:
    for node in nodes:
        inputs = tuple(nodes[i] for i in node.inputs)
        if _is_born(node.value, [*node.literals, *(x.value for x in inputs)]):
            yield NonFinite(phase="forward", node=node, inputs=inputs)


def _born_backward(nodes: Sequence[Node], edges: Sequence[Edge]) -> Iterator[NonFinite]:
    for edge in edges:
        node = nodes[edge.parent]
        if node.adjoint is not None and _is_born(edge.contribution, [node.adjoint]):
            inputs = tuple(nodes[i] for i in node.inputs)
            yield NonFinite(phase="backward", node=node, inputs=inputs)


def _is_born(value: Any, inputs: Iterable[Any]) -> bool:
    """Whether a NaN is new, or an infinity made of finite numbers."""
    if not is_differentiable(value) or np.isfinite(value).all():
        return False
    floats = [x for x in inputs if is_differentiable(x)]
    if np.isnan(value).any():
        return not any(np.isnan(x).any() for x in floats)
    return all(np.isfinite(x).all() for x in floats)
