"""From arrays under Keras's names to a checked `Dataset`."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from funcnet.base import Examples, UsageError


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Examples to learn from, and examples to test with.

    Attributes:
      train: `float32` or `uint8` inputs, `[examples, features]`, and `int32` classes from 0.
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
    x, y = examples
    try:
        parts = train_test_split(np.arange(len(y)), test_size=share, stratify=y, random_state=0)
    except ValueError as error:
        counts = np.bincount(y)
        raise UsageError(
            f"{name}: expected enough examples to put {share:.0%} of each class aside; got "
            f"{len(y)} of {len(counts)} classes, the smallest of which has {counts.min()}. "
            "Bring more."
        ) from error
    rest, part = (Examples(inputs=x[indices], targets=y[indices]) for indices in parts)
    return rest, part


def to_dataset(arrays: Mapping[str, Any], *, source: str, standardise: bool = False) -> Dataset:
    """Return the checked data set of `x_train`, `y_train`, and maybe `x_test`, `y_test`.

    `class_names`, if they are there, are the names of the labels 0, 1, ... An error message begins
    with `source`, a name or a path.
    """
    parts = [_examples(arrays, part, source) for part in ("train", "test") if f"x_{part}" in arrays]
    classes = np.unique(parts[0].targets)
    if len(classes) < 2:
        raise UsageError(f"{source}: expected two classes or more; got {classes.tolist()[0]!r}.")
    if unknown := np.setdiff1d(parts[-1].targets, classes).tolist():
        raise UsageError(f"{source}: y_test has classes that y_train lacks: {unknown[:10]}.")
    parts = [p._replace(targets=np.int32(np.searchsorted(classes, p.targets))) for p in parts]
    train, test = parts if len(parts) == 2 else split(parts[0], share=0.2, name=source)
    x_train, x_test = _stored([train.inputs, test.inputs], source, standardise)
    names = arrays.get("class_names")
    if names is not None and (unknown := np.setdiff1d(classes, range(len(names)))[:10].tolist()):
        raise UsageError(f"{source}: expected labels from 0 to {len(names) - 1}; got {unknown}.")
    shape = arrays["x_train"].shape[1:]
    return Dataset(
        train=train._replace(inputs=x_train),
        test=test._replace(inputs=x_test),
        num_classes=len(classes),
        class_names=tuple(map(str, classes if names is None else names[classes])),
        image_shape=(shape[:2] if shape[2:] == (1,) else shape) if len(shape) > 1 else None,
    )


def _examples(arrays: Mapping[str, Any], part: str, source: str) -> Examples:
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
    y = y[:, 0] if y.shape[1:] == (1,) else y
    if y.ndim != 1 or y.size == 0:
        raise UsageError(f"{where}: expected one class per example; got shape {y.shape}.")
    if y.dtype.kind == "f":
        if bad := y[~((np.abs(y) < 2**53) & (y == np.floor(y)))][:1].tolist():
            raise UsageError(f"{where}: expected classes, whole numbers or words; got {bad[0]}.")
        y = y.astype(np.int64)
    if y.dtype.kind not in "biuU":
        raise UsageError(f"{where}: expected classes, whole numbers or words; got {y.dtype}.")
    return y


def _stored(parts: list[Any], source: str, standardise: bool) -> list[np.ndarray]:
    """Return inputs as `[examples, features]`: images of intensities as `uint8`, else `float32`."""
    shape, test_shape = (x.shape[1:] for x in parts)
    if shape != test_shape:
        raise UsageError(
            f"{source}: expected examples of one shape; got {shape} in x_train and {test_shape} "
            "in x_test."
        )
    if standardise:
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import MaxAbsScaler, StandardScaler

        # Over the largest first: the square of 1e300 would overflow.
        scaler = make_pipeline(MaxAbsScaler(), StandardScaler()).fit(parts[0])
        parts = [np.asarray(scaler.transform(x)) for x in parts]
    train, test = parts = [x.reshape(len(x), -1) for x in parts]
    images = parts if len(shape) > 1 else []
    images = [x for x in images if x.dtype.kind in "iu" and x.min() >= 0 and x.max() <= 255]
    if len(images) == 2:
        return [x.astype(np.uint8) for x in images]
    if any(x.dtype == np.uint8 for x in images):
        raise UsageError(
            f"{source}: expected x_train and x_test of one kind; got {train.dtype} and "
            f"{test.dtype}. uint8 images are scaled to [0, 1], and other numbers are not."
        )
    if max(np.abs(x, dtype=np.float64).max() for x in parts) > np.finfo(np.float32).max:
        raise UsageError(f"{source}: expected inputs that float32 can hold; got larger ones.")
    return [x.astype(np.float32) for x in parts]
