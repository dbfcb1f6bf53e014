"""Pictures of digits in files, brought into the form of the images that a model was trained on.

`read` takes a picture of any size, coloured or transparent, dark on light or light on dark.
"""

import warnings
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from funcnet.base import PathLike, UsageError

GreyImage: TypeAlias = Float[np.ndarray, "height width"]  # intensities
Prepared: TypeAlias = Float[np.ndarray, "side side"]  # as a model takes it, before it is flattened

INK = 0.2  # the least intensity of a pixel that belongs to the digit, not to its blurred edge


def read(path: PathLike) -> GreyImage:
    """Return the picture in a file, in grey, with a light digit on a dark ground."""
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings(), Image.open(path) as picture:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            upright = ImageOps.exif_transpose(picture)
            if not upright.mode.startswith(("I", "F")):  # which have more bits than "RGBA"
                white = Image.new("RGBA", upright.size, "white")  # where it is transparent
                upright = Image.alpha_composite(white, upright.convert("RGBA")).convert("L")
            image = np.asarray(upright, np.float32)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: expected an image; there is no such file.") from error
    except Exception as error:  # Pillow's errors have no common class
        raise UsageError(f"{path}: expected an image of a digit; {error}") from error
    try:
        return light_on_dark(image)
    except UsageError as error:
        raise UsageError(f"{path}: expected an image of a digit; {error}") from error


def light_on_dark(image: GreyImage) -> GreyImage:
    """Return an image from 0, its ground, to 1, its digit. A lighter ground is inverted."""
    low, high = float(image.min()), float(image.max())
    if not 0 < high - low < np.inf:
        raise UsageError("expected a light and a dark colour; got one alone.")
    edge = np.concatenate([*image[[0, -1]], *image[:, [0, -1]].T])
    ground = float(np.median(edge))
    digit = low if ground - low > high - ground else high
    return np.maximum((image - ground) / (digit - ground), 0)


def as_mnist(image: GreyImage) -> Prepared:
    """Return a digit as MNIST has it: 20 x 20, its centre of mass in the middle of 28 x 28.

    The middle is pixel 14, counted from 0, as it is in the originals: LeCun, Cortes and Burges,
    *The MNIST database of handwritten digits* (1998).

    >>> image = np.zeros([300, 400])
    >>> image[100:200, 350:360] = 1
    >>> np.argwhere(as_mnist(image))[[0, -1]].tolist()
    [[4, 14], [23, 15]]
    """
    return _centred(image, side=28, box=20, middle=14)


def as_digits(image: GreyImage) -> Prepared:
    """Return a digit as scikit-learn's `digits` have it: it fills the 8 x 8."""
    return _centred(image, side=8, box=8, middle=3.5)


def _centred(image: GreyImage, *, side: int, box: int, middle: float | int) -> Prepared:
    """Scale the digit to fit a box, and move its centre of mass near `middle`."""
    from PIL import Image

    ink = Image.fromarray(image > INK).getbbox()
    digit = Image.fromarray(image.astype(np.float32)).crop(ink)
    width, height = (max(1, round(length * box / max(digit.size))) for length in digit.size)
    resized = digit.resize((width, height), Image.Resampling.LANCZOS)
    scaled = np.clip(np.asarray(resized), 0, 1)
    top, left = (
        np.clip(round(middle - mass @ np.arange(len(mass)) / mass.sum()), 0, side - len(mass))
        for mass in (scaled.sum(axis=1), scaled.sum(axis=0))
    )
    centred = np.zeros([side, side], np.float32)
    centred[top : top + height, left : left + width] = scaled
    return centred


PREPARATIONS: dict[str, Callable[[GreyImage], Prepared]] = {"mnist": as_mnist, "digits": as_digits}
"""The function that makes a picture an image of a data set, by the name of the data set."""
