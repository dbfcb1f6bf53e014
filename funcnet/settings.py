"""What distinguishes the models of a sweep: every combination of settings, whole or in parts."""

import itertools
import math
import numbers
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

Columns = TypeVar("Columns")
"""A pytree of arrays whose first axes are equally long."""


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


def combinations(
    learning_rates: Iterable[float | int],
    seeds: Iterable[int],
    l2s: Iterable[float | int] = (0.0,),
    scales: Iterable[float | int] = (1.0,),
) -> Settings:
    """Every combination; the seeds of one setting lie side by side.

    >>> settings = combinations(learning_rates=[0.1, 0.3], seeds=range(2))
    >>> settings.learning_rate, settings.seed
    (Array([0.1, 0.1, 0.3, 0.3], dtype=float32), Array([0, 1, 0, 1], dtype=uint32))

    Raises:
      ValueError: one of them is empty, or has the same value twice; a learning rate or a scale is
        not positive, an l2 is negative, a seed is not a whole number from 0 to 2³² − 1.
      TypeError: one of them is a number: a list of it is expected.
    """
    axes = {
        "learning_rates": _checked("learning_rates", learning_rates, "positive", lambda x: x > 0),
        "l2s": _checked("l2s", l2s, "not negative", lambda x: x >= 0),
        "scales": _checked("scales", scales, "positive", lambda x: x > 0),
        "seeds": _checked(
            "seeds", seeds, "whole, 0 to 2^32 - 1", lambda x: x == int(x) and 0 <= x < 2**32
        ),
    }
    rate, l2, scale, seed = zip(*itertools.product(*axes.values()), strict=True)
    return Settings(
        learning_rate=jnp.array(rate, float),
        seed=jnp.array(np.array(seed, np.uint32)),
        l2=jnp.array(l2, float),
        scale=jnp.array(scale, float),
    )


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


def _checked(
    name: str, values: Iterable[float | int], expected: str, is_right: Callable[[float | int], bool]
) -> list[float | int]:
    """The values, all of them different, finite and as expected; else an error."""
    if not isinstance(values, Iterable):
        raise TypeError(f"{name}: expected a list of numbers; got {values!r}. Try [{values!r}].")
    values = list(values)
    if not values:
        raise ValueError(f"{name}: expected one number or more; got none.")
    for value in values:
        if not (isinstance(value, numbers.Real) and math.isfinite(value) and is_right(value)):
            raise ValueError(f"{name}: expected numbers that are {expected}; got {value!r}.")
    (value, count), *_ = Counter(values).most_common(1)
    if count > 1:
        raise ValueError(f"{name}: expected each number once; got {value} {count} times.")
    return values
