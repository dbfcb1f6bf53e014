"""The command `predict`: the digits that pictures show."""

import dataclasses
from pathlib import Path

import numpy as np
import tyro

from funcnet.activations import sigmoid, softmax
from funcnet.base import UsageError
from funcnet.runs import _pictures as pictures
from funcnet.runs._artifacts import load_config, load_model
from funcnet.runs._console import run_program


@dataclasses.dataclass(frozen=True)
class Options:
    """Say which digits pictures show: every class with its probability, the likeliest first."""

    run: tyro.conf.Positional[Path]
    """The folder that a run on mnist or digits left, its --out."""
    pictures: tyro.conf.Positional[tuple[Path, ...]]
    """Files with one digit each: PNG, JPEG, or any other format that Pillow reads. The digit may
    have any size, and be dark on light or light on dark."""


def command() -> None:
    """Read the command line and predict."""
    run_program(Options, main)


def main(options: Options) -> None:
    """Load, prepare, predict, and print one line per picture."""
    config = load_config(options.run)
    if config.dataset not in pictures.PREPARATIONS:
        raise UsageError(
            f"{options.run}: expected a run on {' or '.join(pictures.PREPARATIONS)}, whose "
            f"pictures can be prepared; it is one on {config.dataset}. In Python, fn.load_model "
            "loads any."
        )
    if not options.pictures:
        raise UsageError("pictures: expected one file or more; got none.")
    prepare = pictures.PREPARATIONS[config.dataset]
    inputs = np.stack([prepare(pictures.read(path)).ravel() for path in options.pictures])
    model, params = load_model(options.run)
    logits = model.apply(params, inputs)
    names, rows = [str(digit) for digit in range(10)], softmax(logits)
    if config.model == "logistic":
        names = [str(config.target), f"not {config.target}"]
        rows = np.stack([sigmoid(logits), sigmoid(-logits)], axis=-1)
    for path, row in zip(options.pictures, np.asarray(rows), strict=True):
        ranked = sorted(zip(row, names, strict=True), reverse=True)
        print(f"{path}: {', '.join(f'{name} {p:.4f}' for p, name in ranked)}")
