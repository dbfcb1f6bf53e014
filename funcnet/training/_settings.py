"""What distinguishes the models of a sweep: every combination of settings, whole or in parts."""

import itertools
import numbers
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, UInt32

Columns = TypeVar("Columns")
"""A pytree of arrays whose first axes are equally long."""

Numbers: TypeAlias = Iterable[ArrayLike]
"""A list, a range or an array of numbers, Python's, NumPy's or JAX's."""


class Settings(NamedTuple):
    """What distinguishes the models of a sweep: an entry a model.

    Attributes:
      learning_rate: the step size.
      seed: of the first parameters.
      l2: λ, the weight of the penalty `λ/2 ‖params‖²`: PyTorch's `weight_decay`.
      scale: what the first parameters are multiplied by.
    """

    learning_rate: Float[Array, "*models"]
    seed: UInt32[Array, "*models"]
    l2: Float[Array, "*models"]
    scale: Float[Array, "*models"]


class Axis(NamedTuple):
    """What the numbers of a list of settings have to be.

    Attributes:
      expected: in words.
      kind: of number that they become.
      is_right: whether one that has become it is as expected.
    """

    expected: str
    kind: type
    is_right: Callable[[Any], bool] = lambda x: True


AXES = {
    "learning_rates": Axis("positive and finite", float, lambda x: x > 0),
    "l2s": Axis("not negative, and finite", float, lambda x: x >= 0),
    "scales": Axis("positive and finite", float, lambda x: x > 0),
    "seeds": Axis("whole, 0 to 2^32 - 1", np.uint32),
}
"""The lists of settings that are combined."""


def combinations(
    learning_rates: Numbers,
    seeds: Numbers,
    l2s: Numbers = (0.0,),
    scales: Numbers = (1.0,),
) -> Settings:
    """Every combination; the seeds of one setting lie side by side.

    >>> settings = combinations(learning_rates=[0.1, 0.3], seeds=range(2))
    >>> settings.learning_rate, settings.seed
    (Array([0.1, 0.1, 0.3, 0.3], dtype=float32), Array([0, 1, 0, 1], dtype=uint32))

    Raises:
      ValueError: one of them is empty, or has the same number twice; a learning rate or a scale is
        not positive, an l2 is negative, a seed is not a whole number from 0 to 2³² − 1. All this
        as float32: 1e-50 is not positive, and 0.3 and 0.30000000000000004 are the same.
      TypeError: one of them is a number, and a list of it is expected; or a list of something else.
    """
    given = {"learning_rates": learning_rates, "l2s": l2s, "scales": scales, "seeds": seeds}
    axes = itertools.starmap(check_numbers, given.items())
    rate, l2, scale, seed = (jnp.array(grid.ravel()) for grid in np.meshgrid(*axes, indexing="ij"))
    return Settings(learning_rate=rate, seed=seed, l2=l2, scale=scale)


def check_numbers(axis: str, values: Numbers, *, name: str | None = None) -> np.ndarray:
    """The values as the array that they become, if they are as expected there; else an error.

    Args:
      axis: a key of `AXES`.
      values: the numbers.
      name: what the caller calls them, for the message; by default as the axis is called.

    >>> check_numbers("seeds", range(3))
    array([0, 1, 2], dtype=uint32)
    >>> check_numbers("l2s", [-1], name="--sweep l2")
    Traceback (most recent call last):
    ...
    ValueError: --sweep l2: expected numbers that are not negative, and finite, as float32; got -1.

    Raises:
      ValueError: there are none, or the same twice, or one is not as expected.
      TypeError: they are no list of numbers.
    """
    expected, kind, is_right = AXES[axis]
    name, dtype = name or axis, np.dtype(jnp.result_type(kind))
    given = _as_numbers(name, values)
    for number in given:
        if not (_fits(number, dtype) and is_right(dtype.type(number))):
            raise ValueError(
                f"{name}: expected numbers that are {expected}, as {dtype}; got {number!r}."
            )
    if not given:
        raise ValueError(f"{name}: expected one number or more; got none.")
    column = np.array(given, dtype)
    (value, count), *_ = Counter(column).most_common(1)
    if count > 1:
        raise ValueError(
            f"{name}: expected each number once, as {dtype}; got {value!s} {count} times."
        )
    return column


def _as_numbers(name: str, values: Any) -> list[Any]:
    """The entries of a list or an array, as numbers of Python."""
    if not isinstance(values, Iterable) or getattr(values, "ndim", 1) == 0:
        raise TypeError(f"{name}: expected a list of numbers; got {values!r}. Try [{values!r}].")
    entries = [v.item() if getattr(v, "shape", None) == () else v for v in values]
    for entry in entries:
        if isinstance(entry, bool) or not isinstance(entry, numbers.Real):
            raise TypeError(f"{name}: expected real numbers; got {entry!r}.")
    return entries


def _fits(number: Any, dtype: np.dtype) -> bool:
    """Whether a number of Python is one of this type, but for rounding."""
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        return limits.min <= number <= limits.max and number == int(number)
    return abs(number) <= float(np.finfo(dtype).max)


def first(columns: Columns, count: int) -> Columns:
    """The first so many, of settings or other columns."""
    return jax.tree.map(lambda column: column[:count], columns)


def cut(settings: Settings, num_parts: int) -> list[Settings]:
    """The settings in so many parts, as equal as can be.

    >>> settings = combinations(learning_rates=[0.1], seeds=range(5))
    >>> [len(part.seed) for part in cut(settings, 2)]
    [3, 2]
    """
    columns = (jnp.array_split(column, num_parts) for column in settings)
    return list(itertools.starmap(Settings, zip(*columns, strict=True)))
