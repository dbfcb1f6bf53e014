"""The records of a traced graph: nodes with value and adjoint, edges with local derivative."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Shaped

from funcnet.graph import _notation as notation
from funcnet.graph._source import Source


class Statistics(NamedTuple):
    """What is said of an array that is too large to be written out.

    Attributes:
      shape: its shape.
      min: the smallest element, like the largest and the mean over the finite ones.
      max: the largest element.
      mean: the mean.
      norm: `√Σ xᵢ²`.
      nonfinite: how many elements are NaN or infinite.
    """

    shape: tuple[int, ...]
    min: float
    max: float
    mean: float
    norm: float
    nonfinite: int


def statistics(array: ArrayLike) -> Statistics | None:
    """The statistics of an array of real numbers; `None` if it has no such elements.

    >>> statistics(np.array([3.0, -4.0, np.nan]))
    Statistics(shape=(3,), min=-4.0, max=3.0, mean=-0.5, norm=5.0, nonfinite=1)
    """
    if not is_real(array):
        return None
    values = np.asarray(array).astype(np.float64)
    finite = values[np.isfinite(values)]
    if not finite.size:
        return None
    return Statistics(
        shape=values.shape,
        min=float(finite.min()),
        max=float(finite.max()),
        mean=float(finite.mean()),
        norm=float(np.linalg.norm(finite)),
        nonfinite=values.size - finite.size,
    )


def is_real(array: ArrayLike) -> bool:
    """Whether an array's elements are real numbers: floats, integers or booleans."""
    dtype = jnp.result_type(array)
    return any(jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_))


def is_number(array: ArrayLike) -> bool:
    """Whether an array is one real number."""
    return np.ndim(array) == 0 and is_real(array)


def is_differentiable(array: ArrayLike) -> bool:
    """Whether an array can have an adjoint: its elements are floating point or complex."""
    return jnp.issubdtype(jnp.result_type(array), jnp.inexact)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Node:
    """A value of the computation.

    Attributes:
      index: its place in the order of the program, from 0.
      name: the user's own name; `v1`, `v2`, ... where there is none.
      operation: what computed it: `mul`, `scan`; `argument` or `constant` if nothing did.
      inputs: the indices of its operands; numbers written in the source are not nodes.
      literals: the operands that are such numbers.
      value: its value.
      adjoint: the derivative of the output by it; `None` for integers and booleans.
      source: the line that computed it.
      expression: the operation with its operands: `w1 · a`.
      numbers: the same with the values of those that are numbers: `3 · 5`.
      part_of: for a value without a name, the variable whose assignment it is a step of.
      turn: inside of loops that are opened, which turn of each it belongs to.
    """

    index: int
    name: str
    operation: str
    inputs: tuple[int, ...]
    literals: tuple[Array, ...]
    value: Array
    adjoint: Array | None
    source: Source | None
    expression: str
    numbers: str
    part_of: str | None
    turn: tuple[int, ...]

    @property
    def statistics(self) -> Statistics | None:
        """The statistics of the value."""
        return statistics(self.value)

    @property
    def is_leaf(self) -> bool:
        """Whether nothing computed it: an argument, or a constant."""
        return self.operation in ("argument", "constant")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Edge:
    """A use of one node, the child, in the computation of another, the parent.

    Attributes:
      parent: the index of the node that was computed.
      child: the index of the operand.
      operand: its place among the operands: `x · x` has two edges.
      formula: the local derivative in symbols; of a linear map what becomes of the adjoint, `ȳ`.
      contribution: what the child receives: incoming adjoint times local derivative.
      by_hand: whether the rule is of the table in `derivatives`; if not, it is of `jax.vjp`.
      elementwise: whether the local derivative is an array.
      linear: whether `pull` is sure to be: the rule of a `custom_vjp` may be any function of `ȳ`.
      pull: the local derivative as a map: adjoint of the parent to contribution.
    """

    parent: int
    child: int
    operand: int
    formula: str
    contribution: Array
    by_hand: bool
    elementwise: bool
    linear: bool
    pull: Callable[[Shaped[Array, "..."]], Shaped[Array, "..."]] = dataclasses.field(repr=False)
    parent_value: Array = dataclasses.field(repr=False)

    @functools.cached_property
    def local_derivative(self) -> Array | str:
        """`∂parent/∂child`: for an elementwise operation an array, for the others the formula."""
        return self.pull(jnp.ones_like(self.parent_value)) if self.elementwise else self.formula

    def __str__(self) -> str:
        """`y² = 9`, or the formula and the shapes."""
        if isinstance(self.local_derivative, str):
            shapes = f"{notation.shape(self.parent_value)} → {notation.shape(self.contribution)}"
            return f"{self.formula}  {shapes}"
        value = notation.summary(self.local_derivative)
        return value if value == self.formula else f"{self.formula} = {value}"
