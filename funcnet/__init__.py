"""funcnet: neural networks as pure functions in JAX.

Every gradient can be seen, is checked, and runs as one compiled program.
"""

from funcnet import (
    activations,
    chain_rule,
    data,
    devices,
    gradcheck,
    graph,
    losses,
    metrics,
    models,
    render,
    training,
)
from funcnet.base import Examples, Linear, Model
from funcnet.gradcheck import GradientReport, assert_gradients, check_gradients
from funcnet.graph import Graph, trace

__all__ = [
    "Examples",
    "GradientReport",
    "Graph",
    "Linear",
    "Model",
    "activations",
    "assert_gradients",
    "chain_rule",
    "check_gradients",
    "data",
    "devices",
    "gradcheck",
    "graph",
    "losses",
    "metrics",
    "models",
    "render",
    "trace",
    "training",
]
