"""funcnet: neural networks as pure functions in JAX.

Every gradient can be seen, is checked, and runs as one compiled program. Each name is imported at
its first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from funcnet import (
        activations,
        chain_rule,
        data,
        devices,
        gradcheck,
        graph,
        losses,
        models,
        runs,
        training,
    )
    from funcnet import training as metrics
    from funcnet.base import Examples, Linear, Model, UsageError
    from funcnet.gradcheck import GradientReport, assert_gradients, check_gradients
    from funcnet.graph import Graph, trace
    from funcnet.graph import draw as render
    from funcnet.runs import load_model
    from funcnet.training import checkpoint, sweep

__version__ = "0.1.0"

__all__ = [
    "Examples", "GradientReport", "Graph", "Linear", "Model", "UsageError", "activations",
    "assert_gradients", "chain_rule", "check_gradients", "checkpoint", "data", "devices",
    "gradcheck", "graph", "load_model", "losses", "metrics", "models", "render", "runs", "sweep",
    "trace", "training",
]  # fmt: skip

_HOMES = {
    "base": ("Examples", "Linear", "Model", "UsageError"),
    "gradcheck": ("GradientReport", "assert_gradients", "check_gradients"),
    "graph": ("Graph", "trace"),
    "runs": ("load_model",),
    "training": ("checkpoint", "sweep"),  # leave with the next version
}
"""The module that each name comes from; every other name is a module itself."""

_ALIASES = {"metrics": "training", "render": "graph.draw"}
"""Modules by the names that they had in version 0.1, which leave with the next version too."""


def __getattr__(name: str) -> Any:
    """Import a name at its first use."""
    if name not in __all__:
        raise AttributeError(f"module 'funcnet' has no attribute {name!r}")
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"funcnet.{home}"), name)
    return importlib.import_module(f"funcnet.{_ALIASES.get(name, name)}")


def __dir__() -> list[str]:
    """List the names that are imported at their first use too."""
    return sorted({*globals(), *__all__})
