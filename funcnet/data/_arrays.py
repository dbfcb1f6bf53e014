"""From arrays under Keras's names to a checked `Dataset`."""

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np

from funcnet.base import Examples, UsageError


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Examples to learn from, and examples to test with.

    Attributes:
      train: inputs `[examples, features]`, `float32` or `uint8`, and targets `[examples]`, `int32`
        classes from 0.
      test: the same, never learnt from.
      num_classes: how many classes there are.
      class_names: one name per class.
      image_shape: the shape of an image before it was flattened; `None` where inputs are vectors.
    """

    train: Examples
    test: Examples
    num_classes: int
    class_names: tuple[str, ...]
    image_shape: tuple[int, ...] | None


def split(examples: Examples, *, share: float, name: str = "examples") -> tuple[Examples, Examples]:
    """Return the examples without a share of each class, and that share: always the same ones.

    Args:
      examples: the examples, with integer classes from 0 as targets.
      share: the share, between 0 and 1, that the second part gets.
      name: what an error message calls the examples.

    >>> from funcnet.data import load
    >>> train, validation = split(load("digits").train, share=0.2)
    >>> len(train.targets), len(validation.targets)
    (1149, 288)

    Raises:
      UsageError: the share is not between 0 and 1, or a class has too few examples.
    """
    from sklearn.model_selection import train_test_split

    if not 0 < share < 1:
        raise UsageError(f"share: expected a number between 0 and 1; got {share}.")
    indices = np.arange(len(examples.targets))
    try:
        rest, part = train_test_split(
            indices, test_size=share, stratify=examples.targets, random_state=0
        )
    except ValueError as error:
        counts = np.bincount(examples.targets)
        raise UsageError(
            f"{name}: expected enough examples to put {share:.0%} of each class aside; "
            f"got {len(indices)} of {len(counts)} classes, the smallest of which has "
            f"{counts.min()}. Bring more."
        ) from error
    return jax.tree.map(lambda a: a[rest], examples), jax.tree.map(lambda a: a[part], examples)


def to_dataset(
    arrays: Mapping[str, np.ndarray], *, source: str, standardise: bool = False
) -> Dataset:
    """Return the checked data set of `x_train`, `y_train`, and maybe `x_test`, `y_test`.

    `class_names`, if they are there, are the names of the labels 0, 1, ... An error message begins
    with `source`, a name or a path.
    """
    train = _examples(arrays, "train", source)
    classes, targets = np.unique(train.targets, return_inverse=True)
    if len(classes) < 2:
        raise UsageError(
            f"{source}: expected two classes or more; got {', '.join(map(repr, classes.tolist()))}."
        )
    train = train._replace(targets=targets.astype(np.int32))
    if "x_test" in arrays:
        test = _examples(arrays, "test", source)
        if unknown := np.setdiff1d(test.targets, classes).tolist():
            raise UsageError(f"{source}: y_test has classes that y_train lacks: {unknown[:10]}.")
        test = test._replace(targets=np.searchsorted(classes, test.targets).astype(np.int32))
    else:
        train, test = split(train, share=0.2, name=source)
    train, test = _stored(train, test, source, standardise)
    names = classes
    if "class_names" in arrays:
        names = arrays["class_names"]
        if unknown := classes[(classes < 0) | (classes >= len(names))].tolist():
            raise UsageError(
                f"{source}: expected labels from 0 to {len(names) - 1}; got {unknown[:10]}."
            )
        names = names[classes]
    shape = arrays["x_train"].shape[1:]
    return Dataset(
        train=train,
        test=test,
        num_classes=len(classes),
        class_names=tuple(str(name) for name in names),
        image_shape=(shape[:2] if shape[2:] == (1,) else shape) if len(shape) > 1 else None,
    )


def _examples(arrays: Mapping[str, np.ndarray], part: str, source: str) -> Examples:
    """Return the checked inputs and labels of a part."""
    x, y = arrays[f"x_{part}"], _labels(arrays[f"y_{part}"], f"{source}: y_{part}")
    where = f"{source}: x_{part}"
    if x.dtype.kind not in "biuf":
        raise UsageError(f"{where}: expected numbers; got {x.dtype}.")
    if x.ndim < 2 or x.size == 0:
        raise UsageError(f"{where}: expected examples, [examples, features]; got shape {x.shape}.")
    if x.dtype.kind == "f" and (bad := np.argwhere(~np.isfinite(x))[:1].tolist()):
        raise UsageError(f"{where}: expected finite numbers; got {x[tuple(bad[0])]} at {bad[0]}.")
    if len(x) != len(y):
        raise UsageError(
            f"{source}: expected as many inputs as labels; "
            f"got {len(x)} in x_{part} and {len(y)} in y_{part}."
        )
    return Examples(inputs=x, targets=y)


def _labels(y: np.ndarray, where: str) -> np.ndarray:
    """Return the labels as `[examples]`, integers or words."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or y.size == 0:
        raise UsageError(f"{where}: expected one class per example; got shape {y.shape}.")
    if y.dtype.kind == "f":
        if bad := y[~((np.abs(y) < 2**53) & (y == np.floor(y)))][:1].tolist():
            raise UsageError(f"{where}: expected classes, whole numbers or words; got {bad[0]}.")
        y = y.astype(np.int64)
    if y.dtype.kind not in "biuU":
        raise UsageError(f"{where}: expected classes, whole numbers or words; got {y.dtype}.")
    return y


def _stored(
    train: Examples, test: Examples, source: str, standardise: bool
) -> tuple[Examples, Examples]:
    """Return both with inputs `[examples, features]`: images as `uint8`, else `float32`."""
    x_train, x_test = np.asarray(train.inputs), np.asarray(test.inputs)
    if x_train.shape[1:] != x_test.shape[1:]:
        raise UsageError(
            f"{source}: expected examples of one shape; got {x_train.shape[1:]} in x_train and "
            f"{x_test.shape[1:]} in x_test."
        )
    if standardise:
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import MaxAbsScaler, StandardScaler

        # Over the largest first: the square of 1e300 would overflow.
        scaler = make_pipeline(MaxAbsScaler(), StandardScaler()).fit(x_train)
        x_train, x_test = map(np.asarray, map(scaler.transform, (x_train, x_test)))
    parts = (x_train, x_test)
    if all(map(_is_intensities, parts)):
        dtype = np.uint8
    elif any(part.dtype == np.uint8 and _is_intensities(part) for part in parts):
        raise UsageError(
            f"{source}: expected x_train and x_test of one kind; got {x_train.dtype} and "
            f"{x_test.dtype}. uint8 images are scaled to [0, 1], and other numbers are not."
        )
    else:
        dtype = np.float32
        if max(np.abs(part, dtype=np.float64).max() for part in parts) > np.finfo(dtype).max:
            raise UsageError(f"{source}: expected inputs that float32 can hold; got larger ones.")
    x_train, x_test = (part.reshape(len(part), -1).astype(dtype) for part in parts)
    return train._replace(inputs=x_train), test._replace(inputs=x_test)


def _is_intensities(x: np.ndarray) -> bool:
    """Return whether these are images of integers from 0 to 255."""
    return x.ndim > 2 and x.dtype.kind in "iu" and bool(x.min() >= 0 and x.max() <= 255)
