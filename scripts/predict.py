"""python scripts/predict.py runs/a image.png ...

Says which digits pictures show, with the model that a run on `mnist` or `digits` left in `--out`.
The pictures may have any size, dark on light or light on dark: each is scaled and centred as the
model's data were.
"""

import dataclasses
from pathlib import Path

import numpy as np
import tyro

import funcnet as fn
from funcnet.runs import _pictures as images
from funcnet.runs import _trained as trained
from funcnet.runs._console import run_program


@dataclasses.dataclass(frozen=True)
class Options:
    """Say which digits pictures show: all classes, the likeliest first, with probabilities."""

    run: tyro.conf.Positional[Path]
    """The folder that a run left, its --out."""
    pictures: tyro.conf.Positional[tuple[Path, ...]]
    """Files with a digit each: PNG, JPEG and whatever else Pillow reads."""


def main(options: Options) -> None:
    """Loads, prepares, predicts, and prints a line a picture."""
    config = trained.load_config(options.run)
    if config.dataset not in images.PREPARATIONS:
        raise ValueError(
            f"{options.run}: expected a run on {' or '.join(images.PREPARATIONS)}, whose pictures "
            f"can be prepared; it is one on {config.dataset}. In Python, fn.load_model loads any."
        )
    if not options.pictures:
        raise ValueError("pictures: expected one file or more; got none.")
    prepare = images.PREPARATIONS[config.dataset]
    inputs = np.stack([prepare(images.read(picture)).ravel() for picture in options.pictures])
    model, params = fn.load_model(options.run)
    classes = trained.class_probabilities(config, model.apply(params, inputs))
    rows = np.stack(list(classes.values()), axis=-1)
    for picture, row in zip(options.pictures, rows, strict=True):
        ranked = sorted(zip(row, classes, strict=True), reverse=True)
        print(f"{picture}: {', '.join(f'{name} {p:.4f}' for p, name in ranked)}")


if __name__ == "__main__":
    run_program(Options, main)
