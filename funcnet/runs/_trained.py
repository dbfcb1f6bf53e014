"""What a run has learnt, from the folder that it left, for use."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from funcnet.activations import sigmoid, softmax
from funcnet.base import Model, Params, PathLike, named_leaves
from funcnet.runs import _artifacts as artifacts
from funcnet.runs._build import build_model
from funcnet.runs.config import TrainConfig, check

DECISIVE = ("dataset", "model", "hidden", "activation", "pieces", "target")
"""The options that say what the parameters belong to."""


def load_model(path: PathLike) -> tuple[Model, Params]:
    """The trained model in the folder that a run left, its `--out`: `(model, params)`.

    `model.apply(params, inputs)` are its logits, for inputs in the form that it was trained on.
    Only numbers and names are read: loading runs no code that a file holds.

    >>> import tempfile
    >>> from funcnet.runs._run import run
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = run(TrainConfig(epochs=1, out=Path(folder)), say=lambda line: None)
    ...     model, params = load_model(folder)
    >>> params.weight.shape, bool((params.weight == result.params.weight).all())
    ((10, 64), True)

    Raises:
      FileNotFoundError: the folder lacks config.json or params.safetensors.
      ValueError: one of them is damaged, or they don't belong together.
    """
    config, file = load_config(path), Path(path) / "params.safetensors"
    content = _read(file)
    try:
        arrays = artifacts.from_safetensors(content)
        model = build_model(config, *_sizes(config, arrays))
        return model, _params(model, arrays)
    except ValueError as error:
        raise ValueError(f"{file}: expected the parameters of a {config.model}; {error}") from error


def load_config(path: PathLike) -> TrainConfig:
    """What the run that left a folder trained: `DECISIVE` as it was, other options by default.

    Raises:
      FileNotFoundError: the folder lacks config.json.
      ValueError: it is damaged.
    """
    file = Path(path) / "config.json"
    content = _read(file)
    try:
        written = json.loads(content)
        options = {name: written[name] for name in DECISIVE}
        hidden = options["hidden"] and tuple(options["hidden"])
        config = TrainConfig(**{**options, "hidden": hidden})
        check(config)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{file}: expected the configuration of a run; got {error!r}.") from error
    return config


def class_probabilities(
    config: TrainConfig, logits: Float[Array, "batch *classes"]
) -> dict[str, Float[Array, "batch"]]:
    """The classes that a model of digits tells apart, each with its probabilities.

    >>> config = TrainConfig(model="logistic", target=3)
    >>> class_probabilities(config, jnp.array([0.0]))
    {'3': Array([0.5], dtype=float32), 'not 3': Array([0.5], dtype=float32)}
    """
    if config.model == "logistic":
        return {f"{config.target}": sigmoid(logits), f"not {config.target}": sigmoid(-logits)}
    return {str(digit): p for digit, p in enumerate(softmax(logits).T)}


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise FileNotFoundError(
            f"{file}: expected what a run leaves behind; got: {error.strerror}. "
            "Train with --out FOLDER, and name that folder."
        ) from error


def _sizes(config: TrainConfig, arrays: dict[str, np.ndarray]) -> tuple[int, int]:
    """How many features and classes the first and the last layer have."""
    depth = len(config.hidden or ())
    first, last = ("0.weight", f"{depth}.bias") if depth else ("weight", "bias")
    try:
        return arrays[first].shape[-1], arrays[last].shape[-1]
    except (KeyError, IndexError) as error:
        raise ValueError(f"{first} or {last} is not there.") from error


def _params(model: Model, arrays: dict[str, np.ndarray]) -> Params:
    """The arrays as a pytree of the form that the model has."""
    expected = jax.eval_shape(model.init, jax.random.key(0))
    leaves = named_leaves(expected)
    for name in leaves.keys() | arrays.keys():
        ours, theirs = (_describe(those.get(name)) for those in (leaves, arrays))
        if ours != theirs:
            raise ValueError(f"{name}: expected {ours}; got {theirs}.")
    in_order = [jnp.asarray(arrays[name]) for name in leaves]
    return jax.tree.unflatten(jax.tree.structure(expected), in_order)


def _describe(leaf: jax.ShapeDtypeStruct | np.ndarray | None) -> str:
    return "nothing" if leaf is None else f"{leaf.dtype}{list(leaf.shape)}"
