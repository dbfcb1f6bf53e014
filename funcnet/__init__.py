"""funcnet: neural networks as pure functions in JAX.

Every gradient can be seen, is checked, and runs as one compiled program.
"""

import importlib
from typing import TYPE_CHECKING, Any

from funcnet import activations, chain_rule, data, devices, losses, models, training
from funcnet.base import Examples, Linear, Model, UsageError

if TYPE_CHECKING:
    from funcnet import gradcheck, graph
    from funcnet.gradcheck import GradientReport, assert_gradients, check_gradients
    from funcnet.graph import Graph, trace
    from funcnet.graph import draw as render
    from funcnet.runs._trained import load_model
    from funcnet.training import _checkpoint as checkpoint
    from funcnet.training import _evaluation as metrics
    from funcnet.training import _sweep as sweep

__all__ = [
    "Examples",
    "GradientReport",
    "Graph",
    "Linear",
    "Model",
    "UsageError",
    "activations",
    "assert_gradients",
    "chain_rule",
    "check_gradients",
    "checkpoint",
    "data",
    "devices",
    "gradcheck",
    "graph",
    "load_model",
    "losses",
    "metrics",
    "models",
    "render",
    "sweep",
    "trace",
    "training",
]

_LAZY = {
    "checkpoint": ("training._checkpoint", None),
    "gradcheck": ("gradcheck", None),
    "GradientReport": ("gradcheck", "GradientReport"),
    "assert_gradients": ("gradcheck", "assert_gradients"),
    "check_gradients": ("gradcheck", "check_gradients"),
    "graph": ("graph", None),
    "Graph": ("graph", "Graph"),
    "trace": ("graph", "trace"),
    "load_model": ("runs._trained", "load_model"),
    "metrics": ("training._evaluation", None),
    "render": ("graph.draw", None),
    "sweep": ("training._sweep", None),
}
"""Names that are imported at their first use: their module, and their name in it."""


def __getattr__(name: str) -> Any:
    """Checking, drawing and runs are half of the import time: imported at their first use."""
    if name not in _LAZY:
        raise AttributeError(f"module 'funcnet' has no attribute {name!r}")
    module, attribute = _LAZY[name]
    found = importlib.import_module(f"funcnet.{module}")
    return getattr(found, attribute) if attribute else found


def __dir__() -> list[str]:
    """The names that are imported at their first use too."""
    return sorted({*globals(), *_LAZY})
