"""funcnet: neural networks as pure functions in JAX.

Every gradient can be seen, is checked, and runs as one compiled program.
"""

import importlib
from typing import TYPE_CHECKING, Any

from funcnet import (
    activations,
    chain_rule,
    data,
    devices,
    losses,
    metrics,
    models,
    sweep,
    training,
)
from funcnet.base import Examples, Linear, Model

if TYPE_CHECKING:
    from funcnet import checkpoint, gradcheck, graph, render
    from funcnet.gradcheck import GradientReport, assert_gradients, check_gradients
    from funcnet.graph import Graph, trace
    from funcnet.trained import load_model

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
    "checkpoint": "checkpoint",
    "gradcheck": "gradcheck",
    "GradientReport": "gradcheck",
    "assert_gradients": "gradcheck",
    "check_gradients": "gradcheck",
    "graph": "graph",
    "Graph": "graph",
    "trace": "graph",
    "load_model": "trained",
    "render": "render",
}
"""The modules of the names that are imported at their first use, a module's own among them."""


def __getattr__(name: str) -> Any:
    """Checking, drawing and runs are half of the import time: imported at their first use."""
    if name not in _LAZY:
        raise AttributeError(f"module 'funcnet' has no attribute {name!r}")
    module = importlib.import_module(f"funcnet.{_LAZY[name]}")
    return module if name == _LAZY[name] else getattr(module, name)


def __dir__() -> list[str]:
    """The names that are imported at their first use too."""
    return sorted({*globals(), *_LAZY})
