"""A trained model, loaded from the folder of its run."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet.base import Model, Params, PathLike, UsageError, named_leaves
from funcnet.runs._build import build_model
from funcnet.runs.config import TrainConfig, from_options

DECISIVE = ("dataset", "model", "hidden", "activation", "pieces", "target")
"""The options that decide which model the parameters belong to."""


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
