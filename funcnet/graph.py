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
import numpy as np
from jaxtyping import Array, Shaped

from funcnet import naming, notation
from funcnet.backward import Backward, sweep
from funcnet.base import one_of
from funcnet.nodes import Edge, Node, is_differentiable, is_number
from funcnet.nonfinite import NonFinite, first_born
from funcnet.paths import ChainRule, chain_rule
from funcnet.tape import Operation, Tape, evaluate

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
    """

    name: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    outputs: tuple[int, ...]
    cotangents: Mapping[int, Array]
    bodies: Mapping[int, Callable[[], "Graph"]]

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
        return {node.name: node for node in self.nodes}

    def __getitem__(self, name: str) -> Node:
        """The node of a name.

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
        born = first_born(self.nodes, self.edges)
        if born is not None and born.node.index in self.bodies:
            return self.open(born.node.name).first_nonfinite() or born
        return born

    def __str__(self) -> str:
        """A table: step, name, operation, value, adjoint."""
        from funcnet import render  # it is built on graphs, so it cannot be imported above

        return render.text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """The page, in a notebook."""
        from funcnet import render  # as above

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
    _check_callable("trace", function)
    names = frozenset((expand,) if isinstance(expand, str) else expand)

    def traced(*args: Any, **kwargs: Any) -> Graph:
        tape, output, called = _record(function, args, kwargs, names)
        for name in names:
            _ = one_of("expand", name, sorted(tape.openable) or ["(nothing here can be opened)"])
        tape.literals.difference_update(tape.outputs)
        seeds = _seeds(tape, output, cotangent)
        return _build(tape, seeds, naming.function_name(function), called)

    return traced


def gradient(function: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """The gradient by the hand-derived local derivatives; called as `jax.grad(function, argnums)`.

    >>> gradient(lambda w: jnp.sum(w**2))(jnp.array([1.0, 2.0]))
    Array([2., 4.], dtype=float32)

    Raises:
      TypeError: `function` is not one; or, from the call, an argument that is to be derived by is
        not of floats.
      ValueError: from the call, the output is not a scalar.
    """
    _check_callable("gradient", function)

    def gradient_of(*args: Any, **kwargs: Any) -> Any:
        tape, output, _ = _record(function, args, kwargs, frozenset())
        adjoints, _ = sweep(tape, _seeds(tape, output, None))
        leaves, structure = jax.tree.flatten((args, kwargs))
        received = [
            adjoints.get(place, jnp.zeros_like(tape.values[place]))
            for place, _ in zip(tape.inputs, leaves, strict=True)
        ]
        by_argument = jax.tree.unflatten(structure, received)[0]
        _check_floats(args, argnums)
        if isinstance(argnums, int):
            return by_argument[argnums]
        return tuple(by_argument[i] for i in argnums)

    return gradient_of


def _record(
    function: Callable[..., Any], args: tuple, kwargs: Mapping[str, Any], expand: frozenset[str]
) -> tuple[Tape, Any, list[str]]:
    """Runs a function: the tape, the structure of the output, and the names of the arguments."""
    names = naming.argument_names(function, args, kwargs)
    leaves = jax.tree.leaves((args, kwargs))
    for name, leaf in zip(names, leaves, strict=True):
        _check_array(name, leaf)
    try:
        jaxpr, output = jax.make_jaxpr(function, return_shape=True)(*args, **kwargs)
    except Exception as error:
        shapes = [f"{n}: {_described(leaf)}" for n, leaf in zip(names, leaves, strict=True)]
        came = ", ".join(shapes) or "no arguments"
        error.add_note(f"{naming.function_name(function)} was traced with {came}.")
        raise
    return evaluate(jaxpr, leaves, expand), output, names


def _described(leaf: Any) -> str:
    return f"{jnp.result_type(leaf)}{list(np.shape(leaf))}"


def _seeds(tape: Tape, output: Any, cotangent: Any) -> list[tuple[int, Any]]:
    """Where the sweep begins, and with which adjoints."""
    leaves, structure = jax.tree.flatten(output)
    if cotangent is None:
        _check_scalar(leaves)
        return [(tape.outputs[0], jnp.ones_like(tape.values[tape.outputs[0]]))]
    given, given_structure = jax.tree.flatten(cotangent)
    for leaf in given:
        _check_array("cotangent", leaf)
    shapes = [np.shape(leaf) for leaf in given]
    if given_structure != structure or shapes != [leaf.shape for leaf in leaves]:
        raise ValueError(
            f"cotangent: expected arrays like the output, {jax.tree.map(_described, output)}; "
            f"got {jax.tree.map(_described, cotangent)}."
        )
    return [
        (place, jnp.asarray(adjoint, tape.values[place].dtype))
        for place, adjoint in zip(tape.outputs, given, strict=True)
        if is_differentiable(tape.values[place])
    ]


def _build(
    tape: Tape,
    seeds: Sequence[tuple[int, Any]],
    name: str,
    argument_names: Sequence[str],
) -> Graph:
    """The graph of a tape: nodes and edges with names, numbers of the source left out."""
    adjoints, steps = sweep(tape, seeds)
    shown = [place for place in range(len(tape.values)) if place not in tape.literals]
    index = {place: i for i, place in enumerate(shown)}
    names, owners = naming.variable_names(tape, name, argument_names)
    made_by = {place: op for op in tape.operations for place in op.results}

    def text(place: int) -> str:
        return notation.number(tape.values[place]) if place in tape.literals else names[place]

    def number(place: int) -> str:
        value = tape.values[place]
        return notation.operand(value) if is_number(value) else text(place)

    def node(place: int) -> Node:
        operation, value = made_by.get(place), tape.values[place]
        operands = operation.operands if operation else ()
        kind = "argument" if place in tape.inputs else "constant"
        adjoint = adjoints.get(place, jnp.zeros_like(value)) if tape.wants(place) else None
        return Node(
            index=index[place],
            name=names[place],
            operation=operation.name if operation else kind,
            inputs=tuple(index[i] for i in operands if i in index),
            literals=tuple(tape.values[i] for i in operands if i in tape.literals),
            value=value,
            adjoint=adjoint,
            source=operation.stack.source if operation else None,
            expression=_expression(operation, map(text, operands)) if operation else kind,
            numbers=_expression(operation, map(number, operands)) if operation else kind,
            part_of=names[owners[place]] if place in owners else None,
            turn=operation.turn if operation else (),
        )

    def inside(operation: Operation, body: Tape) -> Graph:
        pairs = zip(body.outputs, operation.results, strict=True)
        cotangents = [(inner, adjoints[outer]) for inner, outer in pairs if outer in adjoints]
        operand_names = [text(i) for i in operation.operands]
        return _build(body, cotangents, operation.name, operand_names)

    return Graph(
        name=name,
        nodes=tuple(map(node, shown)),
        edges=tuple(edge for step in steps for edge in _edges(tape, step, index, text)),
        outputs=tuple(index[place] for place in tape.outputs if place in index),
        cotangents=_summed((index[place], seed) for place, seed in seeds if place in index),
        bodies={
            index[place]: functools.partial(inside, operation, operation.body)
            for operation in tape.operations
            if operation.body is not None
            for place in operation.results
        },
    )


def _summed(seeds: Iterable[tuple[int, Any]]) -> dict[int, Any]:
    """The cotangents by index; an output that is returned twice begins with both."""
    total: dict[int, Any] = {}
    for index, seed in seeds:
        total[index] = total[index] + seed if index in total else seed
    return total


def _expression(operation: Operation, operands: Iterable[str]) -> str:
    return notation.expression(operation.name, list(operands), operation.parameters)


def _edges(
    tape: Tape, step: Backward, index: Mapping[int, int], text: Callable[[int], str]
) -> Iterator[Edge]:
    """What one step of the sweep handed down, but to numbers of the source."""
    result = step.operation.results[step.result]
    letters = dict(zip("abc", map(text, step.operation.operands), strict=False))
    for operand, (place, contribution) in enumerate(
        zip(step.operation.operands, step.contributions, strict=True)
    ):
        if contribution is not None:
            yield Edge(
                parent=index[result],
                child=index[place],
                operand=operand,
                formula=step.local.formulas[operand].format(y=text(result), **letters),
                contribution=contribution,
                by_hand=step.local.by_hand,
                elementwise=step.local.elementwise[operand],
                pull=functools.partial(_pull_to, step.local.pull, operand),
                parent_value=tape.values[result],
            )


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
        adjoint = None if node.adjoint is None else received.get(old, jnp.zeros_like(node.value))
        return dataclasses.replace(
            node, index=index[old], inputs=(), operation="argument", adjoint=adjoint
        )

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
    )


def _grouped(edges: Iterable[Edge], key: Callable[[Edge], int]) -> Mapping[int, tuple[Edge, ...]]:
    groups: dict[int, list[Edge]] = defaultdict(list)
    for edge in edges:
        groups[key(edge)].append(edge)
    return {index: tuple(group) for index, group in groups.items()}


def _check_callable(what: str, function: Any) -> None:
    if not callable(function):
        raise TypeError(
            f"{what}: expected a function; got {type(function).__name__}. Pass the function "
            f"itself, and its arguments to the result: {what}(function)(*args)."
        )


def _check_array(name: str, leaf: Any) -> None:
    is_array = isinstance(leaf, np.ndarray | np.generic)
    if isinstance(leaf, jax.Array | bool | int | float | complex) or (
        is_array and any(jnp.issubdtype(leaf.dtype, kind) for kind in (np.number, np.bool_))
    ):
        return
    came = f"an array of {leaf.dtype}" if is_array else type(leaf).__name__
    raise TypeError(
        f"{name}: expected an array or a number; got {came}. Close over what is not an array of "
        "numbers: trace(lambda x: function(x, option))."
    )


def _check_floats(args: tuple, argnums: int | Sequence[int]) -> None:
    for i in [argnums] if isinstance(argnums, int) else argnums:
        for leaf in jax.tree.leaves(args[i]):
            if not is_differentiable(leaf):
                raise TypeError(
                    f"gradient: expected floats in argument {i}; got {_described(leaf)}. "
                    "Choose others with argnums."
                )


def _check_scalar(leaves: Sequence[Any]) -> None:
    if len(leaves) != 1 or leaves[0].shape != ():
        shapes = ", ".join(map(_described, leaves)) or "nothing"
        raise ValueError(
            f"trace: expected a function with a scalar output; it returned {shapes}. Reduce it, as "
            "with jnp.mean, or pass cotangent=, the adjoint to begin with, arrays of these shapes."
        )
    if not jnp.issubdtype(leaves[0].dtype, jnp.floating):
        raise TypeError(
            f"trace: expected an output of floats; it is {leaves[0].dtype}, and has no gradient."
        )
