"""The computation graph of any JAX function: value, adjoint and local derivative at every step.

    b = w1 · a    c = w2 · a    d = w3 · b + w4 · c    L = 10 − d

Forward the values are computed, backward the adjoints, `∂L/∂w1 = ∂L/∂d · ∂d/∂b · ∂b/∂w1`. The
local derivatives are those of `derivatives`, written by hand, so the adjoints are a second road to
the gradient, beside `jax.grad`.

    graph = trace(function)(*args)
    graph["b"].value, graph["w1"].adjoint, graph.chain_rule("w1")
"""

import dataclasses
import difflib
import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from funcnet.base import one_of
from funcnet.graph import _names as naming
from funcnet.graph import _notation as notation
from funcnet.graph import _recording as recording
from funcnet.graph._backward import Backward, sweep
from funcnet.graph._chain import ChainRule, chain_rule
from funcnet.graph._names import Names
from funcnet.graph._nodes import Edge, Node
from funcnet.graph._nonfinite import NonFinite, first_born
from funcnet.graph._tape import Operation, Tape

MAX_JACOBIAN = 1_000_000
"""The largest Jacobian, in elements, that is computed."""


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Graph:
    """A computation that was carried out, forward and backward.

    Attributes:
      name: of the function.
      nodes: every value, in the order of the program.
      edges: every use of a value, in the order of the reverse sweep.
      outputs: the indices of the output's leaves.
      cotangents: of those, by index, the adjoints that the sweep began with.
      bodies: by index what computes the graph inside of a loop's result.
      aliases: indices by names that called functions have for what their callers call otherwise.
    """

    name: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    outputs: tuple[int, ...]
    cotangents: Mapping[int, Array]
    bodies: Mapping[int, Callable[[], "Graph"]]
    aliases: Mapping[str, int]

    @property
    def output(self) -> Node:
        """The output; the first leaf of one that has several."""
        return self.nodes[self.outputs[0]]

    @property
    def objective(self) -> str:
        """What the adjoints are the derivatives of: the output, or `ȳ · y` with its cotangent."""
        only_one = len(self.cotangents) == 1
        if only_one and all(y.shape == () and y == 1 for y in self.cotangents.values()):
            return self.nodes[next(iter(self.cotangents))].name
        return f"ȳ · {self.name}"

    @functools.cached_property
    def operands(self) -> Mapping[int, tuple[Edge, ...]]:
        """Of every node, by index, the edges down to what it was computed from."""
        return _grouped(self.edges, lambda edge: edge.parent)

    @functools.cached_property
    def uses(self) -> Mapping[int, tuple[Edge, ...]]:
        """Of every node, by index, the edges up to where it is used: they sum to its adjoint."""
        return _grouped(self.edges, lambda edge: edge.child)

    @functools.cached_property
    def _by_name(self) -> Mapping[str, Node]:
        aliases = {name: self.nodes[i] for name, i in self.aliases.items()}
        return aliases | {node.name: node for node in self.nodes}

    def __getitem__(self, name: str) -> Node:
        """The node of a name.

        A variable that is assigned again is `w`, `w#2`, `w#3` in the order of the program. What a
        function that is called names `h` and its caller `y` is shown as `y`, and found by both.

        Raises:
          KeyError: there is none; the nearest names are listed.
        """
        if name in self._by_name:
            return self._by_name[name]
        nearest = difflib.get_close_matches(str(name), self._by_name, n=3, cutoff=0.4)
        hint = f"Nearest: {', '.join(nearest)}." if nearest else "print(graph) lists them."
        raise KeyError(f"{self.name} has no variable {name!r}. {hint}")

    def chain_rule(self, name: str) -> ChainRule:
        """`∂output/∂name`, every path written out, with symbols and with numbers.

        >>> graph = trace(lambda w, x: jnp.square(w * x))(3.0, 2.0)
        >>> print(graph.chain_rule("w"))
        ∂output/∂w = ∂output/∂v1 · ∂v1/∂w = (12)(2) = 24

        Raises:
          KeyError: there is no such variable.
          ValueError: it is no floating point number, so it has no adjoint.
        """
        node = self[name]
        if node.adjoint is None:
            raise ValueError(
                f"{name}: expected a variable of floating point numbers; it is {node.value.dtype}, "
                "and has no adjoint."
            )
        return chain_rule(self.nodes, self.operands, self.objective, self.cotangents, node)

    def local_jacobian(self, edge: Edge) -> Shaped[Array, "..."]:
        """The local derivative of an edge in full, `∂parentᵢ/∂childⱼ`, `[*parent, *child]`.

        >>> graph = trace(lambda x: jnp.sum(2 * x))(jnp.array([1.0, 2.0]))
        >>> graph.local_jacobian(graph.edges[0])
        Array([1., 1.], dtype=float32)

        Raises:
          ValueError: it has more than `MAX_JACOBIAN` elements.
        """
        parent, child = self.nodes[edge.parent].value, self.nodes[edge.child].value
        if parent.size * child.size > MAX_JACOBIAN:
            raise ValueError(
                f"local_jacobian: expected at most {MAX_JACOBIAN:,} elements; "
                f"∂{list(parent.shape)}/∂{list(child.shape)} has {parent.size * child.size:,}. "
                "edge.formula names the map, edge.pull applies it."
            )
        basis = jnp.eye(parent.size, dtype=parent.dtype).reshape(parent.size, *parent.shape)
        return jax.vmap(edge.pull)(basis).reshape(*parent.shape, *child.shape)

    def open(self, name: str, *, turn: int | None = None) -> "Graph":
        """The inside of a `scan`, `while` or `cond`: all its turns, or one.

        Args:
          name: a result of the loop.
          turn: the turn of the loop, from 0; what it reads of the turn before is shown with it.

        >>> def powers(x):
        ...     last, all = jax.lax.scan(lambda c, _: (c * x, c), 1.0, length=3)
        ...     return last
        >>> trace(powers)(2.0).open("last", turn=1).output.value
        Array(4., dtype=float32)

        Raises:
          KeyError: there is no such variable.
          ValueError: it is no result of a loop, or the loop has no such turn.
        """
        node = self[name]
        if node.index not in self.bodies:
            loops = ", ".join(self.nodes[i].name for i in self.bodies) or "none here"
            raise ValueError(f"{name}: expected a result of a scan, while or cond: {loops}.")
        body = self.bodies[node.index]()
        return body if turn is None else _one_turn(body, turn)

    def first_nonfinite(self) -> NonFinite | None:
        """Where the first NaN or infinity was born; `None` if there is none.

        >>> print(trace(lambda x: jnp.log(x - 1))(1.0).first_nonfinite().node.expression)
        log(v1)
        """
        born = first_born(self.nodes, self.operands, self.uses, self.cotangents)
        if born and born.what in ("value", "derivative") and born.node.index in self.bodies:
            return self.open(born.node.name).first_nonfinite() or born
        return born

    def __str__(self) -> str:
        """A table: step, name, operation, value, adjoint."""
        from funcnet.graph import draw as render

        return render.text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """The page, in a notebook."""
        from funcnet.graph import draw as render

        return render.frame(self)


def trace(
    function: Callable[..., Any], *, cotangent: Any = None, expand: str | Iterable[str] = ()
) -> Callable[..., Graph]:
    """The computation graph of a function, as a function of the same arguments.

    Args:
      function: any JAX function of pytrees of arrays, with a scalar output.
      cotangent: for an output that is no scalar, the adjoint to begin with, a pytree like it.
      expand: names of operations to open that are one node else: functions with a derivative of
        their own (`sigmoid`), `scan`, `while`, `cond`.

    >>> def lecture(w1, w2, w3, w4, a):
    ...     b = w1 * a
    ...     c = w2 * a
    ...     d = w3 * b + w4 * c
    ...     L = 10 - d
    ...     return L
    >>> graph = trace(lecture)(1.0, 2.0, 3.0, 4.0, 5.0)
    >>> graph["d"].value, graph["d"].adjoint
    (Array(55., dtype=float32, weak_type=True), Array(-1., dtype=float32))
    >>> print(graph.chain_rule("w1"))
    ∂L/∂w1 = ∂L/∂d · ∂d/∂b · ∂b/∂w1 = (−1)(3)(5) = −15

    Every operation runs by itself and its result is kept: this is for looking, not for training.

    Raises:
      TypeError: `function` is not one; or, from the call, an argument is not an array, or the
        output is an integer.
      ValueError: from the call, the output is not a scalar and there is no cotangent, or one of
        another shape; the function has side effects; or `expand` names nothing that it does.
    """
    recording.check_callable("trace", function)
    names = frozenset((expand,) if isinstance(expand, str) else expand)

    def traced(*args: Any, **kwargs: Any) -> Graph:
        recording.check_values(args, kwargs)
        tape, output, called = recording.record(function, args, kwargs, names)
        for name in names:
            _ = one_of("expand", name, sorted(tape.openable) or ["(nothing here can be opened)"])
        seeds = recording.seeds(tape, output, cotangent)
        return _build(tape, seeds, naming.function_name(function), called)

    return traced


def gradient(
    function: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    *,
    expand: str | Iterable[str] = (),
) -> Callable[..., Any]:
    """The gradient by the hand-derived local derivatives; called as `jax.grad(function, argnums)`.

    What the table of `derivatives` has no rule for is differentiated by `jax.vjp`: such an edge of
    the graph is not `by_hand`. So is a function with a derivative of its own, by that derivative,
    right or wrong; opened, its operations are by hand as well.

    Args:
      function: as for `trace`.
      argnums: the arguments to derive by.
      expand: names of operations to open, as for `trace`.

    >>> gradient(lambda w: jnp.sum(w**2))(jnp.array([1.0, 2.0]))
    Array([2., 4.], dtype=float32)

    Raises:
      TypeError: `function` is not one; or, from the call, an argument that is to be derived by is
        not of floats.
      ValueError: from the call, the output is not a scalar; or `expand` names nothing that the
        function does.
    """
    recording.check_callable("gradient", function)
    opened = _names(expand)

    def gradient_of(*args: Any, **kwargs: Any) -> Any:
        recording.check_floats(args, argnums)
        tape, output, _ = recording.record(function, args, kwargs, opened)
        _check_opened(opened, tape)
        adjoints, _ = sweep(tape, recording.seed("gradient", tape, output))
        leaves, structure = jax.tree.flatten((args, kwargs))
        received = [
            adjoints.get(place, jnp.zeros_like(tape.values[place]))
            for place, _ in zip(tape.inputs, leaves, strict=True)
        ]
        by_argument = jax.tree.unflatten(structure, received)[0]
        if isinstance(argnums, int):
            return by_argument[argnums]
        return tuple(by_argument[i] for i in argnums)

    return gradient_of


def _names(expand: str | Iterable[str]) -> frozenset[str]:
    """The operations to open; a string is one of them."""
    return frozenset((expand,) if isinstance(expand, str) else expand)


def _check_opened(names: Iterable[str], tape: Tape) -> None:
    for name in names:
        _ = one_of("expand", name, sorted(tape.openable) or ["(nothing here can be opened)"])


def _build(
    tape: Tape,
    seeds: Sequence[tuple[int, Any]],
    name: str,
    argument_names: Sequence[str],
) -> Graph:
    """The graph of a tape: nodes and edges with names, numbers of the source left out."""
    adjoints, steps = sweep(tape, seeds)
    names = naming.variable_names(tape, name, argument_names)
    shown = [place for place in range(len(tape.values)) if place not in tape.literals]
    index = {place: i for i, place in enumerate(shown)}
    made_by = {place: op for op in tape.operations for place in op.results}
    return Graph(
        name=name,
        nodes=tuple(_node(place, made_by.get(place), names, index, adjoints) for place in shown),
        edges=tuple(edge for step in steps for edge in _edges(step, names, index)),
        outputs=tuple(index[place] for place in tape.outputs),
        cotangents=_summed((index[place], seed) for place, seed in seeds),
        bodies={
            index[place]: functools.partial(_inside, operation, operation.body, names, adjoints)
            for operation in tape.operations
            if operation.body is not None
            for place in operation.results
        },
        aliases={name: index[place] for name, place in names.aliases.items()},
    )


def _node(
    place: int,
    operation: Operation | None,
    names: Names,
    index: Mapping[int, int],
    adjoints: Mapping[int, Any],
) -> Node:
    """The node of a value; `operation` is what computed it, if anything did."""
    tape, value = names.tape, names.tape.values[place]
    operands = operation.operands if operation else ()
    kind = "argument" if place in tape.inputs else "constant"
    adjoint = adjoints.get(place, jnp.zeros_like(value)) if tape.wants(place) else None
    return Node(
        index=index[place],
        name=names.of[place],
        operation=operation.name if operation else kind,
        inputs=tuple(index[i] for i in operands if i in index),
        literals=tuple(tape.values[i] for i in operands if i in tape.literals),
        value=value,
        adjoint=adjoint,
        source=operation.stack.source if operation else None,
        expression=names.expression(operation, names.text) if operation else kind,
        numbers=names.expression(operation, names.number) if operation else kind,
        part_of=names.of[names.owners[place]] if place in names.owners else None,
        turn=operation.turn if operation else (),
    )


def _inside(operation: Operation, body: Tape, names: Names, adjoints: Mapping[int, Any]) -> Graph:
    """The graph of a loop's body; it begins with the adjoints of the loop's results."""
    pairs = zip(body.outputs, operation.results, strict=True)
    seeds = [(inner, adjoints[outer]) for inner, outer in pairs if outer in adjoints]
    return _build(body, seeds, operation.name, [names.text(i) for i in operation.operands])


def _summed(seeds: Iterable[tuple[int, Any]]) -> dict[int, Any]:
    """The cotangents by index; an output that is returned twice begins with both."""
    total: dict[int, Any] = {}
    for index, seed in seeds:
        total[index] = total[index] + seed if index in total else seed
    return total


def _edges(step: Backward, names: Names, index: Mapping[int, int]) -> Iterator[Edge]:
    """What one step of the sweep handed down, but to numbers of the source."""
    operation, local = step.operation, step.local
    result = operation.results[step.result]
    operands = dict(zip("abc", map(names.text, operation.operands), strict=False))
    letters = operands | {"y": names.text(result)}
    received = zip(operation.operands, step.contributions, strict=True)
    for operand, (place, contribution) in enumerate(received):
        if contribution is not None:
            pull = functools.partial(_pull_to, local.pull, operand)
            elementwise = local.elementwise[operand] and (
                local.by_hand or _is_slope(pull, step.adjoint)
            )
            formula = notation.formula(local.formulas[operand], **letters)
            yield Edge(
                parent=index[result],
                child=index[place],
                operand=operand,
                formula=formula if local.by_hand or elementwise else f"ȳ, by the {formula}",
                contribution=contribution,
                by_hand=local.by_hand,
                elementwise=elementwise,
                linear=local.linear,
                pull=pull,
                parent_value=names.tape.values[result],
            )


def _is_slope(pull: Callable[[Any], Any], ȳ: Any) -> bool:
    """Whether a rule acts as an array: `pull(ȳ) = ȳ · pull(1)`. A user's own may not."""
    product, rtol = ȳ * pull(jnp.ones_like(ȳ)), float(jnp.finfo(ȳ.dtype).eps) ** 0.5
    return bool(jnp.allclose(pull(ȳ), product, rtol=rtol, atol=0, equal_nan=True))


def _pull_to(pull: Callable[[Any], tuple[Any, ...]], operand: int, adjoint: Any) -> Any:
    return pull(adjoint)[operand]


def _one_turn(graph: Graph, turn: int) -> Graph:
    """The part of a loop's graph that belongs to one turn, with what it reads from outside."""
    own = [node.index for node in graph.nodes if node.turn[:1] == (turn,)]
    if not own:
        turns = {node.turn[0] for node in graph.nodes if node.turn}
        expected = f"0 … {max(turns)}" if turns else "none: what is inside runs once"
        raise ValueError(f"turn: expected {expected}; got {turn}.")
    inside = set(own)
    kept = sorted({*own, *(i for j in own for i in graph.nodes[j].inputs)})
    index = {old: new for new, old in enumerate(kept)}
    edges = [edge for edge in graph.edges if edge.parent in inside]
    received = _summed((edge.child, edge.contribution) for edge in edges)
    later = [edge for edge in graph.edges if edge.parent not in inside and edge.child in inside]
    ends = [(i, ȳ) for i, ȳ in graph.cotangents.items() if i in inside]
    cotangents = _summed([*((edge.child, edge.contribution) for edge in later), *ends])

    def moved(old: int) -> Node:
        node = graph.nodes[old]
        if old in inside:
            inputs = tuple(index[i] for i in node.inputs)
            return dataclasses.replace(node, index=index[old], inputs=inputs)
        return _as_argument(node, index[old], received.get(old, jnp.zeros_like(node.value)))

    return Graph(
        name=f"{graph.name}[{turn}]",
        nodes=tuple(map(moved, kept)),
        edges=tuple(
            dataclasses.replace(edge, parent=index[edge.parent], child=index[edge.child])
            for edge in edges
        ),
        outputs=tuple(index[i] for i in sorted(cotangents)) or (index[own[-1]],),
        cotangents={index[i]: ȳ for i, ȳ in sorted(cotangents.items())},
        bodies={index[i]: body for i, body in graph.bodies.items() if i in inside},
        aliases={name: index[i] for name, i in graph.aliases.items() if i in index},
    )


def _as_argument(node: Node, index: int, adjoint: Any) -> Node:
    """A node as one that is read from outside."""
    return dataclasses.replace(
        node,
        index=index,
        inputs=(),
        operation="argument",
        expression="argument",
        numbers="argument",
        adjoint=None if node.adjoint is None else adjoint,
    )


def _grouped(edges: Iterable[Edge], key: Callable[[Edge], int]) -> Mapping[int, tuple[Edge, ...]]:
    groups: dict[int, list[Edge]] = defaultdict(list)
    for edge in edges:
        groups[key(edge)].append(edge)
    return {index: tuple(group) for index, group in groups.items()}
