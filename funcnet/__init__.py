"""funcnet: neural networks as pure functions in JAX.

Every gradient can be seen, is checked, and runs as one compiled program.
"""

from funcnet import activations, chain_rule, data, devices, losses, metrics, models, training
from funcnet.base import Examples, Linear, Model

__all__ = [
    "Examples",
    "Linear",
    "Model",
    "activations",
    "chain_rule",
    "data",
    "devices",
    "losses",
    "metrics",
    "models",
    "training",
]
