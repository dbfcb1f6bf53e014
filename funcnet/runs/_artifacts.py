"""The files that a run leaves behind, as bytes.

    config.json          every option, defaults filled in
    metrics.jsonl        one line per epoch
    params.safetensors   the trained parameters, named by their path in the pytree
    curves.png           loss and accuracy over the epochs
    summary.json         how the run ended, and on what

A sweep leaves the best model's parameters, and `sweep.json` in place of the metrics.
"""

import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from funcnet.base import Params, named_leaves


def as_json(record: Mapping[str, Any], *, indent: int | None = None) -> bytes:
    r"""Return a record as a line of JSON; numbers that are not finite, which JSON lacks, are null.

    >>> as_json({"epoch": 1, "train_loss": 0.25, "test_loss": float("nan")})
    b'{"epoch": 1, "train_loss": 0.25, "test_loss": null}\n'
    """
    finite = json.loads(json.dumps(record), parse_constant=lambda name: None)
    return (json.dumps(finite, indent=indent) + "\n").encode()


def as_lines(rows: Sequence[Any]) -> bytes:
    """Return one line of JSON per row; a row is a NamedTuple."""
    return b"".join(as_json(row._asdict()) for row in rows)


def as_safetensors(params: Params) -> bytes:
    """Return parameters in the safetensors format, each named by its path in the pytree."""
    from safetensors.numpy import save

    return save({name: np.asarray(leaf) for name, leaf in named_leaves(params).items()})


def as_curves(history: Sequence[Any], *, title: str) -> bytes:
    """Return a picture, PNG: the losses and the test accuracy over the epochs of a run."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    epochs = [info.epoch for info in history]
    marker = "o" if len(epochs) < 30 else ""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    losses, accuracy = figure.subplots(1, 2)
    losses.plot(epochs, [i.train_loss for i in history], marker=marker, ms=3, label="training")
    losses.plot(epochs, [i.test_loss for i in history], marker=marker, ms=3, label="test")
    losses.set(xlabel="epoch", ylabel="mean loss", title=title)
    losses.legend(frameon=False)
    accuracy.plot(epochs, [i.test_accuracy for i in history], marker=marker, ms=3, color="C1")
    accuracy.set(xlabel="epoch", ylabel="test accuracy", title=f"{history[-1].test_accuracy:.2%}")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1))
    return _as_png(figure)


def as_sweep_curves(
    accuracies: Mapping[str, Float[np.ndarray, "seeds epochs"]], *, title: str
) -> bytes:
    """Return a picture, PNG: the mean and spread of each setting's validation accuracies."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure, count = Figure(figsize=(8, 4.2), layout="constrained"), len(accuracies)
    ramp = matplotlib.colormaps["viridis"](np.linspace(0, 1, count))
    colors = [f"C{index}" for index in range(count)] if count <= 10 else ramp
    step = math.ceil(count / 12) if count > 10 else 1  # the legend names each step-th setting
    axes = figure.subplots()
    for index, (label, accuracy) in enumerate(accuracies.items()):
        epochs, color = np.arange(1, accuracy.shape[1] + 1), colors[index]
        mean, deviation = accuracy.mean(axis=0), accuracy.std(axis=0)
        _ = axes.plot(epochs, mean, color=color, label=None if index % step else label)
        _ = axes.fill_between(epochs, mean - deviation, mean + deviation, alpha=0.2, fc=color)
    _ = axes.set(xlabel="epoch", ylabel="validation accuracy", title=title)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    _ = figure.legend(frameon=False, loc="outside right upper", fontsize="small")
    return _as_png(figure)


def _as_png(figure: Any) -> bytes:
    """Return a figure as PNG; its horizontal axes count epochs."""
    from matplotlib.ticker import MaxNLocator

    for axes in figure.axes:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    return picture.getvalue()
