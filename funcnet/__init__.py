"""funcnet: neural networks as pure functions in JAX.

Every gradient can be seen, is checked, and runs as one compiled program.
"""

from funcnet import activations, graph, losses, models, render
from funcnet.base import Examples, Linear, Model
from funcnet.graph import Graph, trace

__all__ = [
    "Examples",
    "Graph",
    "Linear",
    "Model",
    "activations",
    "graph",
    "losses",
    "models",
    "render",
    "trace",
]
