"""See: the computation graph of any JAX function.

    graph = trace(function)(*args)
    graph["b"].value, graph["w1"].adjoint, graph.chain_rule("w1")

1. The jaxpr of the function is carried out, one operation after another, on a tape (`_tape`).
2. The backward pass goes up the tape with local derivatives derived by hand (`derivatives`,
   `_backward`), and leaves an adjoint for every value.
3. The values get the names that the user's source gives them (`_source`, `_names`).
4. Values become nodes, uses become edges (`_nodes`): the `Graph`.
5. A graph writes out the chain rule of a variable (`_chain`), says where a NaN was born
   (`_nonfinite`), and becomes a table, a drawing, or a page to walk through (`draw`).

Begin with `_graph`: `trace` is this list in code.
"""

from funcnet.graph import draw
from funcnet.graph._chain import ChainRule
from funcnet.graph._graph import Graph, gradient, trace
from funcnet.graph._nodes import Edge, Node
from funcnet.graph._nonfinite import NonFinite

__all__ = ["ChainRule", "Edge", "Graph", "Node", "NonFinite", "draw", "gradient", "trace"]
