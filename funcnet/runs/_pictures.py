"""Images of digits in files, brought into the form of the images that a model has learnt.

`read` takes a picture of any size, coloured or transparent, dark on light or light on dark;
`PREPARATIONS` say, by the data set, how the digit is then scaled and centred.
"""

import os
import warnings
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float

GreyImage: TypeAlias = Float[np.ndarray, "height width"]
"""Intensities; as the data sets have them, a light digit, up to 1, on a dark ground, 0."""

Prepared: TypeAlias = Float[np.ndarray, "side side"]
"""An image as a model takes it, before it is flattened."""

INK = 0.2
"""The intensity from which a pixel belongs to the digit, and not to its blurred edge."""


def read(path: str | os.PathLike[str]) -> GreyImage:
    """The picture in a file, in grey, its digit light on dark; what is transparent is white.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no image, a damaged one, or shows a single colour.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings(), Image.open(path) as picture:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return light_on_dark(_in_grey(picture))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: expected an image; there is no such file.") from error
    except Exception as error:  # Pillow's errors have no common class
        raise ValueError(f"{path}: expected an image of a digit; {error}") from error


def _in_grey(picture: Any) -> GreyImage:
    """The intensities of a Pillow image, in whatever range it has them."""
    from PIL import Image, ImageOps

    upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith(("I", "F")):  # more than 8 bits, which others would clip
        return np.asarray(upright, np.float32)
    upright = upright.convert("RGBA")
    white = Image.new("RGBA", upright.size, "white")
    return np.asarray(Image.alpha_composite(white, upright).convert("L"), np.float32)


def light_on_dark(image: GreyImage) -> GreyImage:
    """An image from 0, its ground, to 1, its digit; inverted if the ground is the lighter.

    The ground is the median of the image's edge.

    >>> light_on_dark(np.array([[9.0, 9.0, 9.0], [9.0, 4.0, 9.0], [9.0, 9.0, 9.0]])).tolist()
    [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]

    Raises:
      ValueError: it has a single colour, or numbers that are not finite.
    """
    low, high = float(image.min()), float(image.max())
    if not 0 < high - low < np.inf:
        raise ValueError("expected a light and a dark colour; got one alone.")
    edge = np.concatenate([*image[[0, -1]], *image[:, [0, -1]].T])
    ground = float(np.median(edge))
    digit = low if ground - low > high - ground else high
    return np.maximum((image - ground) / (digit - ground), 0)


def as_mnist(image: GreyImage) -> Prepared:
    """A digit as MNIST has it: in a box of 20 x 20, its centre of mass in the middle of 28 x 28.

    LeCun, Cortes and Burges, *The MNIST database of handwritten digits* (1998). The middle is
    pixel 14, counted from 0, as it is in the originals.

    >>> image = np.zeros([300, 400])
    >>> image[100:200, 350:360] = 1
    >>> np.argwhere(as_mnist(image))[[0, -1]].tolist()
    [[4, 14], [23, 15]]
    """
    return _centred(image, side=28, box=20, middle=14)


def as_digits(image: GreyImage) -> Prepared:
    """A digit as scikit-learn's `digits` have it: it fills the 8 x 8, its centre in the middle."""
    return _centred(image, side=8, box=8, middle=3.5)


def _centred(image: GreyImage, *, side: int, box: int, middle: float | int) -> Prepared:
    """The digit scaled to fit a box, its centre of mass near the middle of `[side, side]`."""
    from PIL import Image

    rows, columns = (np.flatnonzero((image > INK).any(axis)) for axis in (1, 0))
    digit = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32)
    scale = box / max(digit.shape)
    height, width = (max(1, round(length * scale)) for length in digit.shape)
    resized = Image.fromarray(digit).resize((width, height), Image.Resampling.LANCZOS)
    scaled = np.clip(np.asarray(resized), 0, 1)
    top, left = (
        np.clip(round(middle - mass @ np.arange(len(mass)) / mass.sum()), 0, side - len(mass))
        for mass in (scaled.sum(axis=1), scaled.sum(axis=0))
    )
    centred = np.zeros([side, side], np.float32)
    centred[top : top + height, left : left + width] = scaled
    return centred


PREPARATIONS: MappingProxyType[str, Callable[[GreyImage], Prepared]] = MappingProxyType(
    {"mnist": as_mnist, "digits": as_digits}
)
"""How a picture becomes an image of a data set, by the name of the data set."""
