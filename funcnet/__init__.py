"""funcnet: neural networks as pure functions in JAX.

Every gradient can be seen, is checked, and runs as one compiled program.
"""

from funcnet import activations, chain_rule, gradcheck, losses, models
from funcnet.base import Examples, Linear, Model
from funcnet.gradcheck import GradientReport, assert_gradients, check_gradients

__all__ = [
    "Examples",
    "GradientReport",
    "Linear",
    "Model",
    "activations",
    "assert_gradients",
    "chain_rule",
    "check_gradients",
    "gradcheck",
    "losses",
    "models",
]
