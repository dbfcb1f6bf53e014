"""The results of a run as files, and the trained model that is loaded from them again."""

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from funcnet._files import write_whole
from funcnet.base import Model, Params, PathLike, UsageError, named_leaves
from funcnet.runs._build import build_model
from funcnet.runs.config import TrainConfig, from_options

DECISIVE = ("dataset", "model", "hidden", "activation", "pieces", "target")  # they decide the model


def as_json(record: Mapping[str, Any], *, indent: int | None = None) -> bytes:
    r"""Return a record as a line of JSON; numbers that are not finite, which JSON lacks, are null.

    >>> as_json({"epoch": 1, "train_loss": 0.25, "test_loss": float("nan")})
    b'{"epoch": 1, "train_loss": 0.25, "test_loss": null}\n'
    """
    finite = json.loads(json.dumps(record), parse_constant=lambda name: None)
    return (json.dumps(finite, indent=indent) + "\n").encode()


def write_results(folder: Path, params: Params, curves: bytes, summary: Mapping[str, Any]) -> None:
    """Write the parameters, the curves and the summary of a run, each file whole or absent."""
    from safetensors.numpy import save

    arrays = {name: np.asarray(leaf) for name, leaf in named_leaves(params).items()}
    write_whole(folder / "params.safetensors", save(arrays))
    write_whole(folder / "curves.png", curves)
    write_whole(folder / "summary.json", as_json(summary, indent=2))


def load_model(path: PathLike) -> tuple[Model, Params]:
    """Return the trained model in the folder of a run, its `--out`: `(model, params)`.

    `model.apply(params, inputs)` are its logits, for inputs in the form that it was trained on.
    Loading runs no code: only numbers and names are read.

    >>> import tempfile
    >>> from funcnet.runs import run
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = run(TrainConfig(epochs=1, out=Path(folder)), say=lambda line: None)
    ...     model, params = load_model(folder)
    >>> params.weight.shape, bool((params.weight == result.params.weight).all())
    ((10, 64), True)

    Raises:
      FileNotFoundError: the folder lacks config.json or params.safetensors.
      UsageError: one of them is damaged, or they don't belong together.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    config, file = load_config(path), Path(path) / "params.safetensors"
    try:
        arrays = load(_read(file))
        model = build_model(config, _sizes(config, arrays))
        return model, _params(model, arrays)
    except (SafetensorError, UsageError) as error:
        reason = "" if isinstance(error, UsageError) else "this is no safetensors file: "
        raise UsageError(
            f"{file}: expected the parameters of a {config.model}; {reason}{error}."
        ) from error


def load_config(path: PathLike) -> TrainConfig:
    """Return the `DECISIVE` options of the run in a folder; every other option has its default."""
    file = Path(path) / "config.json"
    content = _read(file)
    try:  # a damaged file may hold any JSON, or none
        written = json.loads(content)
        return from_options({name: written[name] for name in DECISIVE})
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{file}: expected the configuration of a run; got {error!r}.") from error


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise FileNotFoundError(
            f"{file}: expected a file that a run leaves behind; got: {error.strerror}. "
            "Train with --out FOLDER, and name that folder."
        ) from error


def _sizes(config: TrainConfig, arrays: dict[str, np.ndarray]) -> list[int]:
    """Return the sizes of the layers; the parameters tell the first and the last."""
    hidden = config.hidden or ()
    first, last = ("0.weight", f"{len(hidden)}.bias") if hidden else ("weight", "bias")
    try:
        return [arrays[first].shape[-1], *hidden, arrays[last].shape[-1]]
    except (KeyError, IndexError) as error:
        raise UsageError(f"{first} or {last} is not there") from error


def _params(model: Model, arrays: dict[str, np.ndarray]) -> Params:
    """Return the arrays as a pytree of the form that the model has."""
    expected = jax.eval_shape(model.init, jax.random.key(0))
    leaves = named_leaves(expected)
    for name in leaves | arrays:
        form, got = _form(leaves.get(name)), _form(arrays.get(name))
        if form != got:
            raise UsageError(f"{name}: expected {form}; got {got}")
    in_order = [jnp.asarray(arrays[name]) for name in leaves]
    return jax.tree.unflatten(jax.tree.structure(expected), in_order)


def _form(leaf: Any) -> str:
    return "nothing" if leaf is None else f"{leaf.dtype}{list(leaf.shape)}"


def as_curves(history: Sequence[Any], *, title: str) -> bytes:
    """Return a picture, PNG: the losses and the test accuracy over the epochs of a run."""
    from matplotlib.figure import Figure

    epochs = [info.epoch for info in history]
    marker = "o" if len(epochs) < 30 else ""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    losses, accuracy = figure.subplots(1, 2)
    losses.plot(epochs, [i.train_loss for i in history], marker=marker, ms=3, label="training")
    losses.plot(epochs, [i.test_loss for i in history], marker=marker, ms=3, label="test")
    losses.set(ylabel="mean loss", title=title)
    losses.legend(frameon=False)
    accuracy.plot(epochs, [i.test_accuracy for i in history], marker=marker, ms=3, color="C1")
    accuracy.set(ylabel="test accuracy", title=f"{history[-1].test_accuracy:.2%}")
    return _as_png(figure)


def as_sweep_curves(
    accuracies: Mapping[str, Float[np.ndarray, "seeds epochs"]], *, title: str
) -> bytes:
    """Return a picture, PNG: the mean and spread of each setting's validation accuracies."""
    import matplotlib
    from matplotlib.figure import Figure

    figure, count = Figure(figsize=(8, 4.2), layout="constrained"), len(accuracies)
    ramp = matplotlib.colormaps["viridis"](np.linspace(0, 1, count))
    colors = [f"C{index}" for index in range(count)] if count <= 10 else ramp
    step = math.ceil(count / 12)  # the legend names each step-th setting
    axes = figure.subplots()
    for index, (label, accuracy) in enumerate(accuracies.items()):
        epochs, color = np.arange(1, accuracy.shape[1] + 1), colors[index]
        mean, deviation = accuracy.mean(axis=0), accuracy.std(axis=0)
        _ = axes.plot(epochs, mean, color=color, label=None if index % step else label)
        _ = axes.fill_between(epochs, mean - deviation, mean + deviation, alpha=0.2, fc=color)
    _ = axes.set(ylabel="validation accuracy", title=title)
    _ = figure.legend(frameon=False, loc="outside right upper", fontsize="small")
    return _as_png(figure)


def _as_png(figure: Any) -> bytes:
    """Return a figure as PNG; its axes count epochs, and the last shows an accuracy."""
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure.axes[-1].yaxis.set_major_formatter(PercentFormatter(1))
    for axes in figure.axes:
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    return picture.getvalue()
