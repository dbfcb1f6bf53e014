"""Where the first NaN or infinity of a computation was born."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from funcnet.graph._nodes import Computation, Node, is_differentiable
from funcnet.graph._notation import summary


@dataclasses.dataclass(frozen=True, kw_only=True)
class NonFinite:
    """Where a NaN or an infinity was born.

    Attributes:
      phase: `forward` if it is in a value; `backward` if all values are finite and it is in an
        adjoint.
      what: the first thing of the node that is not finite: its `value`; its `derivative`, times the
        incoming adjoint; its `adjoint`, if only the sum over its uses is not; its `cotangent`.
      node: the operation, an argument, or a constant.
      inputs: its operands; for an adjoint its uses.
    """

    phase: str
    what: str
    node: Node
    inputs: tuple[Node, ...]

    def __str__(self) -> str:
        """The birth, its source line and its inputs, on a line each; or the argument."""
        name, kind = self.node.name, self.node.operation
        if self.what == "cotangent":
            return f"{self.phase}: the cotangent of {name} is not finite"
        if self.what == "adjoint":
            uses = "".join(f"\n  of {x.name} at {_line(x)}" for x in self.inputs)
            return f"{self.phase}: the adjoint of {name} is not finite, a sum of finite parts{uses}"
        if self.node.is_leaf:
            return f"{self.phase}: the {kind} {name} is not finite"
        operands = "".join(f"\n  {x.name} = {summary(x.value)}" for x in self.inputs)
        found = f"the {self.what} of {name} = {self.node.expression} is not finite"
        return f"{self.phase}: {found}\n  at {_line(self.node)}{operands}"

    __repr__ = __str__


def _line(node: Node) -> str:
    return str(node.source or "an unknown line")


def first_born(graph: Computation) -> NonFinite | None:
    """Return the first value that is not finite, made of finite ones; else the first such adjoint.

    An infinity that stands in the source, a mask of −∞, is meant. It is named where it becomes a
    value only if an output is not finite and there is no different reason.
    """
    if born := next(_born_forward(graph, with_meant=False), None):
        return born
    if any(_is_born(graph.nodes[i].value, ()) for i in graph.cotangents):
        return next(_born_forward(graph, with_meant=True), None)
    return next(_born_backward(graph), None)


def _born_forward(graph: Computation, *, with_meant: bool) -> Iterator[NonFinite]:
    for node in graph.nodes:
        inputs = tuple(graph.nodes[i] for i in node.inputs)
        meant = [node.value] if node.operation == "constant" else node.literals
        if _is_born(node.value, [*(() if with_meant else meant), *(x.value for x in inputs)]):
            yield NonFinite(phase="forward", what="value", node=node, inputs=inputs)


def _born_backward(graph: Computation) -> Iterator[NonFinite]:
    """Go down: to a node's cotangent, to the sum that it receives, to its contributions."""
    for node in reversed(graph.nodes):
        born = functools.partial(NonFinite, phase="backward", node=node)
        above = graph.uses.get(node.index, ())
        begun = [graph.cotangents[node.index]] if node.index in graph.cotangents else []
        if any(_is_born(ȳ, ()) for ȳ in begun):
            yield born(what="cotangent", inputs=())
        elif _is_born(node.adjoint, [*begun, *(edge.contribution for edge in above)]):
            yield born(what="adjoint", inputs=tuple(graph.nodes[e.parent] for e in above[::-1]))
        below = graph.operands.get(node.index, ())
        if any(_is_born(edge.contribution, [node.adjoint]) for edge in below):
            yield born(what="derivative", inputs=tuple(graph.nodes[i] for i in node.inputs))


def _is_born(value: Any, inputs: Iterable[Any]) -> bool:
    """Whether a NaN is new, or an infinity made of finite numbers."""
    if value is None or not is_differentiable(value) or np.isfinite(value).all():
        return False
    floats = [x for x in inputs if is_differentiable(x)]
    if np.isnan(value).any():
        return not any(np.isnan(x).any() for x in floats)
    return all(np.isfinite(x).all() for x in floats)
