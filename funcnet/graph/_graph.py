"""The computation graph of any JAX function: value, adjoint and local derivative at every step.

Forward the values are computed, backward the adjoints, `∂L/∂w1 = ∂L/∂d · ∂d/∂b · ∂b/∂w1`, by the
hand-written rules of `derivatives`: a second road to the gradient, beside `jax.grad`.
"""

import dataclasses
import difflib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Shaped

from funcnet.base import UsageError
from funcnet.graph import draw
from funcnet.graph._backward import Step, add_up, backward, input_adjoints
from funcnet.graph._chain import ChainRule, chain_rule
from funcnet.graph._names import Names, variable_names
from funcnet.graph._nodes import Computation, Edge, Node
from funcnet.graph._nonfinite import NonFinite, first_born
from funcnet.graph._notation import Operand
from funcnet.graph._tape import (
    Cotangents,
    Operation,
    Tape,
    check_floats,
    function_name,
    given_cotangent,
    on_tape,
    unit_cotangent,
)

MAX_JACOBIAN = 1_000_000  # elements of the largest Jacobian that is computed


def trace(
    function: Callable[..., Any], *, cotangent: Any = None, expand: str | Iterable[str] = ()
) -> Callable[..., "Graph"]:
    """Return a function of the same arguments whose result is the computation graph.

    Args:
      function: any JAX function of pytrees of arrays, with a scalar output.
      cotangent: for an output that is no scalar, the adjoint to begin with, a pytree like it.
      expand: names of operations to open, each of which is one node otherwise: functions with a
        derivative of their own (`sigmoid`), `scan`, `while`, `cond`.

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

    Every result is kept: this is for looking, not for training.

    Raises:
      UsageError: `function` is not one; or, from the call, an argument is not an array; the output
        is not a scalar of floats and there is no cotangent, or one that is not like it; the
        function has side effects; or `expand` names nothing that it does.
    """
    run = on_tape("trace", function, expand)
    hint = ", or pass cotangent=, the adjoint to begin with, arrays of these shapes"

    def traced(*args: Any, **kwargs: Any) -> Graph:
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((args, kwargs))):
            raise UsageError(
                "trace: expected arrays with values; inside jit, grad or vmap there are none. "
                "Call it outside: what is under jit inside of the function is opened."
            )
        tape, output, argument_names = run(args, kwargs)
        name = function_name(function)
        if cotangent is None:
            cotangents = unit_cotangent("trace", tape, output, hint)
        else:
            cotangents = given_cotangent(tape, output, cotangent)
        return _graph(name, variable_names(tape, name, argument_names), cotangents)

    return traced


def gradient(
    function: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    *,
    expand: str | Iterable[str] = (),
) -> Callable[..., Any]:
    """Return the gradient by the hand-derived local derivatives; called as `jax.grad`'s.

    An operation without a rule in the table of `derivatives` is differentiated by `jax.vjp`: such
    an edge of the graph is not `by_hand`. So is a function with a derivative of its own, by that
    derivative, right or wrong; opened, its operations are by hand as well.

    Args:
      function: as for `trace`.
      argnums: the arguments to derive by.
      expand: names of operations to open, as for `trace`.

    >>> gradient(lambda w: jnp.sum(w**2))(jnp.array([1.0, 2.0]))
    Array([2., 4.], dtype=float32)

    Raises:
      UsageError: `function` is not one; or, from the call, an argument to derive by is not of
        floats; the output is not a scalar of floats; or `expand` names nothing that it does.
    """
    run = on_tape("gradient", function, expand)

    def gradient_of(*args: Any, **kwargs: Any) -> Any:
        check_floats(args, argnums)
        tape, output, _ = run(args, kwargs)
        received = input_adjoints(tape, unit_cotangent("gradient", tape, output))
        by_argument, _ = jax.tree.unflatten(jax.tree.structure((args, kwargs)), received)
        if isinstance(argnums, int):
            return by_argument[argnums]
        return tuple(by_argument[i] for i in argnums)

    return gradient_of


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Graph(Computation):
    """The graph of a computation; see `trace`."""

    bodies: Mapping[int, Callable[[int | None], "Graph"]]  # a loop's inside, by index of a result
    aliases: Mapping[str, int]  # names inside called functions for nodes with a different name

    @functools.cached_property
    def _by_name(self) -> Mapping[str, Node]:
        aliases = {name: self.nodes[i] for name, i in self.aliases.items()}
        return aliases | {node.name: node for node in self.nodes}

    def __getitem__(self, name: str) -> Node:
        """Return the node of a name.

        A variable that is assigned again is `w`, `w#2`, `w#3` in their order. A value
        that is `h` in a called function and `y` in its caller is shown as `y`, and found by both.

        Raises:
          KeyError: there is none; the nearest names are listed.
        """
        if name in self._by_name:
            return self._by_name[name]
        nearest = difflib.get_close_matches(str(name), self._by_name, n=3, cutoff=0.4)
        hint = f"Nearest: {', '.join(nearest)}." if nearest else "print(graph) lists them."
        raise KeyError(f"{self.name} has no variable {name!r}. {hint}")

    def chain_rule(self, name: str) -> ChainRule:
        """Return `∂output/∂name`, every path written out, with symbols and with numbers.

        >>> graph = trace(lambda w, x: jnp.square(w * x))(3.0, 2.0)
        >>> print(graph.chain_rule("w"))
        ∂output/∂w = ∂output/∂v1 · ∂v1/∂w = (12)(2) = 24

        Raises:
          KeyError: there is no such variable.
          UsageError: it is no floating point number, so it has no adjoint.
        """
        node = self[name]
        if node.adjoint is None:
            raise UsageError(
                f"{name}: expected a variable of floating point numbers; it is {node.value.dtype}, "
                "and has no adjoint."
            )
        return chain_rule(self, node)

    def local_jacobian(self, edge: Edge) -> Shaped[Array, "..."]:
        """Return the local derivative of an edge in full, `∂parentᵢ/∂childⱼ`, `[*parent, *child]`.

        >>> graph = trace(lambda x: jnp.sum(2 * x))(jnp.array([1.0, 2.0]))
        >>> graph.local_jacobian(graph.edges[0])
        Array([1., 1.], dtype=float32)

        Raises:
          UsageError: it has more than `MAX_JACOBIAN` elements.
        """
        parent, child = self.nodes[edge.parent].value, self.nodes[edge.child].value
        if parent.size * child.size > MAX_JACOBIAN:
            raise UsageError(
                f"local_jacobian: expected at most {MAX_JACOBIAN:,} elements; "
                f"∂{list(parent.shape)}/∂{list(child.shape)} has {parent.size * child.size:,}. "
                "edge.formula names the map, edge.pull applies it."
            )
        basis = jnp.eye(parent.size, dtype=parent.dtype).reshape(parent.size, *parent.shape)
        return jax.vmap(edge.pull)(basis).reshape(*parent.shape, *child.shape)

    def open(self, name: str, *, turn: int | None = None) -> "Graph":
        """Return the inside of a `scan`, `while` or `cond`: all its turns, or one.

        Args:
          name: a result of the loop.
          turn: the turn of the loop, from 0; the values that it reads are shown as arguments.

        >>> def powers(x):
        ...     last, all = jax.lax.scan(lambda c, _: (c * x, c), 1.0, length=3)
        ...     return last
        >>> trace(powers)(2.0).open("last", turn=1).output.value
        Array(4., dtype=float32)

        Raises:
          KeyError: there is no such variable.
          UsageError: it is no result of a loop, or the loop has no such turn.
        """
        node = self[name]
        if node.index not in self.bodies:
            loops = ", ".join(self.nodes[i].name for i in self.bodies) or "none here"
            raise UsageError(f"{name}: expected a result of a scan, while or cond: {loops}.")
        return self.bodies[node.index](turn)

    def first_nonfinite(self) -> NonFinite | None:
        """Return where the first NaN or infinity was born; `None` if there is none.

        >>> print(trace(lambda x: jnp.log(x - 1))(1.0).first_nonfinite().node.expression)
        log(v1)
        """
        born = first_born(self)
        if born and born.what in ("value", "derivative") and born.node.index in self.bodies:
            return self.open(born.node.name).first_nonfinite() or born
        return born

    def __str__(self) -> str:
        """A table: step, name, operation, value, adjoint."""
        return draw.text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """The page, in a notebook."""
        return draw.frame(self)


def _graph(name: str, names: Names, cotangents: Cotangents) -> Graph:
    """Return the graph of a named tape; its nodes are the values but for numbers of the source."""
    tape = names.tape
    adjoints, steps = backward(tape, cotangents)
    made_by = {index: op for op in tape.operations for index in op.results}
    read = {index for op in tape.operations for index in op.operands}
    shown = sorted({*tape.inputs, *tape.outputs, *made_by, *read} - tape.literals)
    node_of = {index: i for i, index in enumerate(shown)}
    return Graph(
        name=name,
        nodes=tuple(_node(i, made_by.get(i), names, node_of, adjoints.get(i)) for i in shown),
        edges=tuple(edge for step in steps for edge in _edges(step, names, node_of)),
        outputs=tuple(node_of[index] for index in tape.outputs),
        cotangents=add_up({}, ((node_of[index], ȳ) for index, ȳ in cotangents)),
        bodies={
            node_of[index]: functools.partial(_inside, operation, operation.body, names, adjoints)
            for operation in tape.operations
            if operation.body is not None
            for index in operation.results
        },
        aliases={name: node_of[i] for name, i in names.aliases.items() if i in node_of},
    )


def _node(
    index: int, operation: Operation | None, names: Names, node_of: Mapping[int, int], adjoint: Any
) -> Node:
    """Return the node of a value; `operation` computed it, unless it is a leaf."""
    tape, value, owner = names.tape, names.tape.values[index], names.owners.get(index)
    operands = operation.operands if operation else ()
    if adjoint is None and tape.wants(index):  # no output depends on it
        adjoint = jnp.zeros_like(value)
    kind = "argument" if index in tape.inputs else "constant"
    return Node(
        index=node_of[index],
        name=names.of[index],
        operation=operation.name if operation else kind,
        inputs=tuple(node_of[i] for i in operands if i in node_of),
        literals=tuple(tape.values[i] for i in operands if i in tape.literals),
        value=value,
        adjoint=adjoint,
        source=operation.stack.source if operation else None,
        expression=names.expression(operation, names.text) if operation else kind,
        numbers=names.expression(operation, names.number) if operation else kind,
        part_of=None if owner is None else names.of[owner],
        turn=operation.stack.turn if operation else (),
    )


def _edges(step: Step, names: Names, node_of: Mapping[int, int]) -> Iterator[Edge]:
    """Yield the contributions of one step of the backward pass, but for numbers of the source."""
    operation, result, ȳ, local, contributions = step
    operands = operation.operands
    letters = zip("yabc", (result, *operands), strict=False)
    written = {letter: Operand(names.text(index)) for letter, index in letters}
    for k, (j, contribution) in enumerate(zip(local.operands, contributions, strict=True)):
        pull = functools.partial(lambda k, pull, ȳ: pull(ȳ)[k], k, local.pull)
        elementwise = local.elementwise[k] and (local.by_hand or _is_slope(pull, ȳ))
        is_map = not local.by_hand and not elementwise
        template = f"{{ȳ}}, by the {local.symbols[k]}" if is_map else local.symbols[k]
        yield Edge(
            parent=node_of[result],
            child=node_of[operands[j]],
            symbols=functools.partial(template.format, f=operation.name, **written),
            contribution=contribution,
            by_hand=local.by_hand,
            elementwise=elementwise,
            linear=operation.is_linear,
            pull=pull,
            parent_value=names.tape.values[result],
        )


def _is_slope(pull: Callable[[Any], Any], ȳ: Any) -> bool:
    """Whether a rule acts as an array, `pull(ȳ) = ȳ · pull(1)`: on ȳ, and on random numbers."""
    random = jnp.asarray(np.random.default_rng(0).normal(size=ȳ.shape), ȳ.dtype)
    slope, rtol = pull(jnp.ones_like(ȳ)), float(jnp.finfo(ȳ.dtype).eps) ** 0.5
    alike = functools.partial(jnp.allclose, rtol=rtol, atol=0, equal_nan=True)
    return all(alike(pull(v), v * slope) for v in (ȳ, random))


def _inside(
    operation: Operation, body: Tape, names: Names, adjoints: Mapping[int, Any], turn: int | None
) -> Graph:
    """Return the graph of a loop's body, or of one turn, from the adjoints of the results on."""
    pairs = zip(body.outputs, operation.results, strict=True)
    cotangents = [(inner, adjoints[outer]) for inner, outer in pairs if outer in adjoints]
    inputs = [names.text(i) for i in operation.operands]
    inner_names = variable_names(body, operation.name, inputs)
    if turn is None:
        return _graph(operation.name, inner_names, cotangents)
    part, begun = _one_turn(body, cotangents, turn)
    part_names = dataclasses.replace(inner_names, tape=part)
    return _graph(f"{operation.name}[{turn}]", part_names, begun)


def _one_turn(body: Tape, cotangents: Cotangents, turn: int) -> tuple[Tape, Cotangents]:
    """Return one turn as a tape with what it reads as inputs, and what the later turns hand it."""
    turns = [op.stack.turn[:1] for op in body.operations]
    if (turn,) not in turns:
        expected = f"0 … {max(turns)[0]}" if any(turns) else "none: what is inside runs once"
        raise UsageError(f"turn: expected {expected}; got {turn}.")
    begin, count = turns.index((turn,)), turns.count((turn,))
    here, later = body.operations[begin : begin + count], body.operations[begin + count :]
    results = {i for op in here for i in op.results}
    read = {i for op in here for i in op.operands} - results
    begun, _ = backward(dataclasses.replace(body, operations=later), cotangents)
    outputs = sorted(results & begun.keys()) or [max(results)]
    part = dataclasses.replace(body, operations=here, inputs=sorted(read), outputs=outputs)
    return part, [(i, begun[i]) for i in outputs if i in begun]
