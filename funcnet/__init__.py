"""funcnet: neural networks as pure functions in JAX.

Every gradient can be seen, is checked, and runs as one compiled program.
"""

from funcnet import (
    activations,
    chain_rule,
    data,
    devices,
    graph,
    losses,
    metrics,
    models,
    render,
    training,
)
from funcnet.base import Examples, Linear, Model
from funcnet.graph import Graph, trace

__all__ = [
    "Examples",
    "Graph",
    "Linear",
    "Model",
    "activations",
    "chain_rule",
    "data",
    "devices",
    "graph",
    "losses",
    "metrics",
    "models",
    "render",
    "trace",
    "training",
]
