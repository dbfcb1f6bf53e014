"""The records of a computation: nodes with value and adjoint, edges with local derivative."""

import dataclasses
import functools
import itertools
import operator
import re
from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Shaped

from funcnet.graph._notation import shape, summary
from funcnet.graph._source import Source


@dataclasses.dataclass(frozen=True, kw_only=True)
class Statistics:
    """A large array in six numbers: those of its finite elements, and how many are not finite.

    The norm is `√Σ xᵢ²`.
    """

    shape: tuple[int, ...]
    min: float
    max: float
    mean: float
    norm: float
    nonfinite: int


def statistics(array: ArrayLike) -> Statistics | None:
    """Return the statistics of an array; `None` if no element is a finite real number."""
    values = np.asarray(array).astype(np.float64) if is_real(array) else np.empty(0)
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
    return np.ndim(array) == 0 and is_real(array)


def is_differentiable(array: ArrayLike) -> bool:
    """Whether an array can have an adjoint: its elements are floating point or complex."""
    return jnp.issubdtype(jnp.result_type(array), jnp.inexact)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Node:
    """A value of the computation.

    Attributes:
      index: its number in the order of the computation, from 0.
      name: the user's own name; `v1`, `v2`, ... where there is none.
      operation: `mul`, `scan`, ...; `argument` or `constant` if no operation computed it.
      inputs: the indices of its operands; numbers written in the source are not nodes.
      literals: the operands that are such numbers.
      value: its value.
      adjoint: the derivative of the output by it; `None` for integers and booleans.
      source: the line that computed it.
      expression: the operation with its operands: `w1 · a`.
      numbers: the same with the values of those that are numbers: `3 · 5`.
      part_of: for a step of an assignment, which has no name, the name of the assigned node.
      turn: inside opened loops, the number of the turn of each.
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
    def variable(self) -> str:
        """The variable whose assignment it belongs to, without a number: `w` for `w#2`."""
        return re.sub(r"#\d+$", "", self.part_of or self.name)

    @property
    def statistics(self) -> Statistics | None:
        """The statistics of the value."""
        return statistics(self.value)

    @property
    def is_leaf(self) -> bool:
        """Whether it is an argument or a constant."""
        return self.operation in ("argument", "constant")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Edge:
    """A use of one node, the child, in the computation of another, the parent.

    Attributes:
      parent: the index of the node that was computed.
      child: the index of the operand.
      symbols: the local derivative in symbols: `symbols(ȳ="ȳ")`, by the name of the adjoint.
      contribution: the child's share of its adjoint: incoming adjoint times local derivative.
      by_hand: whether the rule is in the table of `derivatives`; if not, `jax.vjp` made it.
      elementwise: whether the local derivative is an array.
      linear: whether `pull` is known to be linear; the rule of a `custom_vjp` may not be.
      pull: the local derivative as a map: adjoint of the parent to contribution.
      parent_value: the value of the parent.
    """

    parent: int
    child: int
    symbols: Callable[..., str] = dataclasses.field(repr=False)
    contribution: Array
    by_hand: bool
    elementwise: bool
    linear: bool
    pull: Callable[[Shaped[Array, "..."]], Shaped[Array, "..."]] = dataclasses.field(repr=False)
    parent_value: Array = dataclasses.field(repr=False)

    @property
    def formula(self) -> str:
        """The local derivative as text; for a linear map, what becomes of the adjoint `ȳ`."""
        return self.symbols(ȳ="ȳ")

    @functools.cached_property
    def local_derivative(self) -> Array | str:
        """`∂parent/∂child`: an array for an elementwise operation, the formula for the rest."""
        return self.pull(jnp.ones_like(self.parent_value)) if self.elementwise else self.formula

    @property
    def is_number(self) -> bool:
        """Whether the local derivative is one number."""
        return self.elementwise and self.parent_value.ndim == 0

    def __str__(self) -> str:
        """`y² = 9`, or the formula and the shapes."""
        if isinstance(self.local_derivative, str):
            return f"{self.formula}  {shape(self.parent_value)} → {shape(self.contribution)}"
        value = summary(self.local_derivative)
        return value if value == self.formula else f"{self.formula} = {value}"


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Computation:
    """A computation that was carried out, forward and backward: all that is written or drawn.

    Attributes:
      name: the name of the function.
      nodes: every value, in the order of the computation.
      edges: every use of a value, in the order of the backward pass.
      outputs: the indices of the output's leaves.
      cotangents: the adjoints that the backward pass began with, by the index of the output.
    """

    name: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    outputs: tuple[int, ...]
    cotangents: Mapping[int, Array]

    @property
    def output(self) -> Node:
        """The output; its first leaf if it has several."""
        return self.nodes[self.outputs[0]]

    @property
    def objective(self) -> str:
        """The quantity that is derived: the output, or `ȳ · y` with its cotangent."""
        only_one = len(self.cotangents) == 1
        if only_one and all(y.shape == () and y == 1 for y in self.cotangents.values()):
            return self.nodes[next(iter(self.cotangents))].name
        return f"ȳ · {self.name}"

    @functools.cached_property
    def operands(self) -> Mapping[int, tuple[Edge, ...]]:
        """The edges from every node, by its index, down to its operands."""
        return _grouped(self.edges, operator.attrgetter("parent"))

    @functools.cached_property
    def uses(self) -> Mapping[int, tuple[Edge, ...]]:
        """The edges from every node, by its index, up to its uses; they sum to its adjoint."""
        return _grouped(self.edges, operator.attrgetter("child"))


def _grouped(edges: Sequence[Edge], end: Callable[[Edge], int]) -> Mapping[int, tuple[Edge, ...]]:
    return {i: tuple(group) for i, group in itertools.groupby(sorted(edges, key=end), end)}
