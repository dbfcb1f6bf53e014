"""See: the graph of a computation."""

from funcnet.graph._chain import ChainRule
from funcnet.graph._graph import Graph, gradient, trace
from funcnet.graph._nodes import Edge, Node
from funcnet.graph._nonfinite import NonFinite

__all__ = ["ChainRule", "Edge", "Graph", "Node", "NonFinite", "gradient", "trace"]
