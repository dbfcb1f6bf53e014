"""The vocabulary: types, three records, the error of a caller's mistake, and a few helpers.

A neural network here is a pair of pure functions, `Model(init, apply)`. Its parameters are a
pytree, most often of `Linear(weight, bias)`. It learns from `Examples(inputs, targets)`.

Axis names mean the same everywhere: `batch` (one entry per example; several axes, or none, are
allowed), `features`, `hidden`, `classes`, `outputs`, and `pieces` (of a maxout layer).
"""

import difflib
import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

Key: TypeAlias = PRNGKeyArray  # made by `jax.random.key(seed)`
Size: TypeAlias = int | np.integer  # a count; `labels.max() + 1` is a NumPy integer
Params: TypeAlias = Any  # a pytree of floating point arrays
PathLike: TypeAlias = str | os.PathLike[str]  # of a file or a folder
Inputs: TypeAlias = Float[ArrayLike, "*batch features"] | UInt8[ArrayLike, "*batch features"]
"""Floats, or `uint8` intensities from 0 to 255."""


class Model(NamedTuple):
    """A network: two pure functions.

    Attributes:
      init: `init(key) -> params`, the parameters before training.
      apply: `apply(params, inputs) -> logits`, with any leading batch axes.
    """

    init: Callable[[Key], Params]
    apply: Callable[[Params, ArrayLike], Array]


class Linear(NamedTuple):
    """The parameters of `f(x) = W x + b`.

    Attributes:
      weight: W, `[outputs, features]`; for a maxout layer `[pieces, outputs, features]`.
      bias: b, `[outputs]`; for a maxout layer `[pieces, outputs]`.
    """

    weight: Array
    bias: Array


class Examples(NamedTuple):
    """Inputs and their targets. The leading axis of both counts the examples.

    Attributes:
      inputs: `[batch, features]`, floats, or `uint8` intensities from 0 to 255.
      targets: `[batch]`, integer classes, or floats for regression.
    """

    inputs: Array | np.ndarray
    targets: Array | np.ndarray


class UsageError(ValueError):
    """A mistake that the caller can mend: an argument, an option, a file.

    The message begins with the name of the parameter. It says what was expected, what came, and
    what to try. The programs print it in one line and exit with code 2. Every other exception is a
    defect, or the world's fault, and keeps its class.

    >>> raise UsageError("epochs: expected a positive integer; got 0.")
    Traceback (most recent call last):
    ...
    funcnet.UsageError: epochs: expected a positive integer; got 0.
    """

    __module__ = "funcnet"  # the name that a traceback shows is the name to import


def named_leaves(tree: Any) -> dict[str, Any]:
    """Return the leaves of a pytree, each by its path.

    >>> named_leaves({"layers": (Linear(weight=1.0, bias=2.0),)})
    {'layers.0.weight': 1.0, 'layers.0.bias': 2.0}
    """
    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def num_params(params: Params) -> int:
    """Return how many numbers there are to learn. The leaves may be `jax.eval_shape`'s.

    >>> num_params(Linear(weight=jnp.zeros([10, 64]), bias=jnp.zeros(10)))
    650
    """
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def to_float(
    inputs: Float[ArrayLike, "*shape"] | UInt8[ArrayLike, "*shape"], dtype: Any = jnp.float32
) -> Float[Array, "*shape"]:
    """Return `uint8` intensities, 0 to 255, as numbers of `dtype` from 0 to 1; floats unchanged.

    Images stay `uint8` in memory and become floats where they are used: a quarter of the traffic.

    >>> to_float(np.array([0, 255], np.uint8))
    Array([0., 1.], dtype=float32)
    """
    x = jnp.asarray(inputs)
    return x.astype(dtype) / 255 if x.dtype == jnp.uint8 else x


def one_of(argument: str, value: str, expected: Iterable[str]) -> str:
    """Return `value` if it is an expected name; else raise a `UsageError` that says the nearest.

    The message begins with `argument`, the name of the caller's parameter.

    >>> one_of("activation", "rleu", ["relu", "elu"])
    Traceback (most recent call last):
    ...
    funcnet.UsageError: activation: expected one of relu, elu; got 'rleu'. Did you mean 'relu'?
    """
    names = list(expected)
    if value in names:
        return value
    hint = did_you_mean(value, names)
    raise UsageError(f"{argument}: expected one of {', '.join(names)}; got {value!r}.{hint}")


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the nearest name, if one is near.

    >>> did_you_mean("rleu", ["relu", "tanh"])
    " Did you mean 'relu'?"
    """
    nearest = difflib.get_close_matches(str(name).lower(), list(names), n=1)
    return f" Did you mean {nearest[0]!r}?" if nearest else ""
