"""A program of JAX, evaluated one operation after another with every value kept.

`jax.make_jaxpr` gives the program; here it runs by itself, so that each value can be looked at.
Functions under `jit` and `checkpoint` are opened. `scan`, `while` and `cond` are one operation with
a tape of its own, on which every turn is recorded.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.core import Tracer
from jax.extend.core import Literal

from funcnet import _jaxpr as programs
from funcnet.graph._nodes import is_differentiable
from funcnet.graph._source import Stack, stack_of


class Operation(NamedTuple):
    """One step of a program.

    Attributes:
      name: of the primitive, or of the function with a derivative of its own: `sigmoid`.
      primitive: what JAX calls it: of such a function `custom_jvp_call` or `custom_vjp_call`.
      operands: the places of its operands among the tape's values.
      results: the places of its results.
      parameters: of the primitive.
      bind: the operation itself, from operands to a tuple of results.
      stack: the calls that led to it.
      turn: of the loops around it, opened on this tape, which turn it belongs to.
      body: for `scan`, `while` and `cond` what happened inside.
    """

    name: str
    primitive: str
    operands: tuple[int, ...]
    results: tuple[int, ...]
    parameters: Mapping[str, Any]
    bind: Callable[..., tuple[Any, ...]]
    stack: Stack
    turn: tuple[int, ...]
    body: "Tape | None"


@dataclasses.dataclass
class Tape:
    """What a run leaves behind.

    Attributes:
      expand: the names of the operations to open.
      values: every value, in the order of the program.
      literals: the places of the numbers that stand in the source.
      constants: the places of what no argument has a part in.
      operations: every operation, in the order of the program.
      inputs: the places of the arguments.
      outputs: the places of the results.
      openable: the names of the operations that could be, or were, opened.
    """

    expand: frozenset[str]
    values: list[Any] = dataclasses.field(default_factory=list)
    literals: set[int] = dataclasses.field(default_factory=set)
    constants: set[int] = dataclasses.field(default_factory=set)
    operations: list[Operation] = dataclasses.field(default_factory=list)
    inputs: list[int] = dataclasses.field(default_factory=list)
    outputs: list[int] = dataclasses.field(default_factory=list)
    openable: set[str] = dataclasses.field(default_factory=set)

    def write(self, value: Any) -> int:
        """Keeps a value; returns its place."""
        self.values.append(value)
        return len(self.values) - 1

    def write_literal(self, value: Any) -> int:
        """Keeps a number of the source."""
        place = self.write_constant(value)
        self.literals.add(place)
        return place

    def write_constant(self, value: Any) -> int:
        """Keeps a value that no argument has a part in."""
        place = self.write(value)
        self.constants.add(place)
        return place

    def returns(self, outputs: list[int]) -> None:
        """Keeps which values are the results; a number of the source is a value then."""
        self.outputs = outputs
        self.literals.difference_update(outputs)

    def record(
        self,
        name: str,
        operands: Sequence[int],
        bind: Callable[..., tuple[Any, ...]],
        call: "Call",
        parameters: Mapping[str, Any] = MappingProxyType({}),
        body: "Tape | None" = None,
        primitive: str = "",
    ) -> list[int]:
        """Carries out an operation, unless its body has been, and keeps it with its results."""
        if body is None:
            results = bind(*(self.values[i] for i in operands))
        else:
            results = [body.values[i] for i in body.outputs]
        write = self.write_constant if self.constants.issuperset(operands) else self.write
        places = [write(value) for value in results]
        self.operations.append(
            Operation(
                name=name,
                primitive=primitive or name,
                operands=tuple(operands),
                results=tuple(places),
                parameters=parameters,
                bind=bind,
                stack=call.stack,
                turn=call.turn,
                body=body,
            )
        )
        return places

    def wants(self, place: int) -> bool:
        """Whether a value has an adjoint: numbers of the source and integers have none."""
        return place not in self.literals and is_differentiable(self.values[place])


class Call(NamedTuple):
    """Where a program runs: the calls that led to it, and the turns of the loops around it."""

    stack: Stack = Stack()
    turn: tuple[int, ...] = ()


def evaluate(jaxpr: Any, arguments: Sequence[Any], expand: Iterable[str]) -> Tape:
    """Runs a program and keeps every value.

    Args:
      jaxpr: as `jax.make_jaxpr` gives it.
      arguments: one array for each of its inputs.
      expand: names of operations to open.

    Raises:
      ValueError: the program has side effects, or calls back to Python.
    """
    tape = Tape(expand=frozenset(expand))
    tape.inputs = [tape.write(jnp.asarray(argument)) for argument in arguments]
    tape.returns(_run(tape, jaxpr, tape.inputs, Call()))
    return tape


def _run(tape: Tape, jaxpr: Any, inputs: Sequence[int], call: Call) -> list[int]:
    """Runs a program on a tape; returns the places of its results."""
    program, constants = getattr(jaxpr, "jaxpr", jaxpr), getattr(jaxpr, "consts", ())
    written = map(tape.write_constant, map(jnp.asarray, constants))
    places = dict(zip(program.constvars, written, strict=True))
    places.update(zip(program.invars, inputs, strict=True))

    def read(atom: Any) -> int:
        if isinstance(atom, Literal):
            return tape.write_literal(jnp.asarray(atom.val, jnp.result_type(atom.aval)))
        return places[atom]

    for equation in program.eqns:
        here = call._replace(stack=call.stack.call(stack_of(equation.source_info)))
        results = _perform(tape, equation, [read(atom) for atom in equation.invars], here)
        places.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in program.outvars]


def _perform(tape: Tape, equation: Any, operands: list[int], call: Call) -> list[int]:
    """Carries out one equation: opened, with a tape of its own, or as it is."""
    primitive, parameters = equation.primitive.name, equation.params
    if _is_identity(equation):
        return operands
    if primitive in programs.CALLS:
        return _call(tape, parameters, operands, call)
    _refuse_effects(equation, call)
    name = _name(equation)
    opener = OPENERS.get(primitive)
    if opener:
        tape.openable.update((name, primitive))
    if opener and not tape.expand.isdisjoint((name, primitive)):
        return opener(tape, parameters, operands, call)
    body = _body(tape, LOOPS[primitive], parameters, operands) if primitive in LOOPS else None
    return tape.record(
        name,
        operands,
        lambda *values: programs.bind(equation, values),
        call,
        parameters=parameters,
        body=body,
        primitive=primitive,
    )


def _is_identity(equation: Any) -> bool:
    """Whether it converts to the dtype that is there: JAX's mark that a number was Python's."""
    converts = equation.primitive.name == "convert_element_type"
    return converts and equation.invars[0].aval.dtype == equation.outvars[0].aval.dtype


def _body(tape: Tape, opener: "Opener", parameters: Any, operands: list[int]) -> Tape:
    """What happens inside a loop, on a tape of its own."""
    body = Tape(expand=tape.expand)
    body.inputs = [body.write(tape.values[i]) for i in operands]
    body.literals = {j for i, j in zip(operands, body.inputs, strict=True) if i in tape.literals}
    body.constants = {j for i, j in zip(operands, body.inputs, strict=True) if i in tape.constants}
    body.returns(opener(body, parameters, body.inputs, Call()))
    tape.openable |= body.openable
    return body


def _name(equation: Any) -> str:
    """`sigmoid` for a function with a derivative of its own, else the primitive's name."""
    if equation.primitive.name not in programs.CUSTOM:
        return equation.primitive.name
    return programs.called(equation.params).jaxpr.debug_info.func_name


def _refuse_effects(equation: Any, call: Call) -> None:
    if equation.effects or "callback" in equation.primitive.name:
        raise ValueError(
            f"trace: expected a pure function; {equation.primitive.name} has a side effect or "
            f"calls back to Python ({call.stack.source}). Take it out of the function: "
            "every value can be seen in the graph."
        )


def _call(tape: Tape, parameters: Any, operands: list[int], call: Call) -> list[int]:
    """A function called as it stands: under `jit`, `checkpoint`, or with its own derivative."""
    return _run(tape, programs.called(parameters), operands, call)


def _scan(tape: Tape, parameters: Any, operands: list[int], call: Call) -> list[int]:
    """`scan`, one turn after another: each reads its part of `xs` and hands on the carry."""
    num_consts, num_carry = _scan_sizes(parameters)
    consts, carry = operands[:num_consts], operands[num_consts : num_consts + num_carry]
    xs = operands[num_consts + num_carry :]
    turns = range(parameters["length"])
    outputs: dict[int, list[int]] = {}
    for k in reversed(turns) if parameters["reverse"] else turns:
        here = call._replace(turn=(*call.turn, k))
        parts = [place for x in xs for place in _index(tape, x, k, here)]
        results = _run(tape, parameters["jaxpr"], [*consts, *carry, *parts], here)
        carry, outputs[k] = results[:num_carry], results[num_carry:]
    columns = list(zip(*(outputs[k] for k in turns), strict=True))
    if not columns:  # no turns: only the shapes are known
        shapes = getattr(parameters["jaxpr"], "out_avals", ())[num_carry:]
        return [*carry, *(tape.write(jnp.zeros((0, *s.shape), s.dtype)) for s in shapes)]
    return [*carry, *(place for column in columns for place in _stack(tape, column, call))]


def _index(tape: Tape, x: int, k: int, call: Call) -> list[int]:
    def bind(x: Any) -> tuple[Any, ...]:
        return (lax.dynamic_index_in_dim(x, k, keepdims=False),)

    return tape.record("index", [x], bind, call, parameters={"at": k})


def _stack(tape: Tape, column: Sequence[int], call: Call) -> list[int]:
    def bind(*values: Any) -> tuple[Any, ...]:
        return (jnp.stack(values),)

    return tape.record("stack", column, bind, call)


def _scan_sizes(parameters: Any) -> tuple[int, int]:
    """How many constants a scan has, and how many leaves its carry."""
    if "num_carry" in parameters:
        return parameters["num_consts"], parameters["num_carry"]
    consts, carry, _ = parameters["ft_in"].unpack()  # from JAX 0.11 on
    return len(list(consts)), len(list(carry))


def _while(tape: Tape, parameters: Any, operands: list[int], call: Call) -> list[int]:
    """`while`, as often as its condition holds."""
    after_cond = parameters["cond_nconsts"]
    after_body = after_cond + parameters["body_nconsts"]
    cond_consts, body_consts = operands[:after_cond], operands[after_cond:after_body]
    carry = operands[after_body:]
    k = 0
    while _holds(tape, parameters["cond_jaxpr"], [*cond_consts, *carry]):
        here = call._replace(turn=(*call.turn, k))
        carry = _run(tape, parameters["body_jaxpr"], [*body_consts, *carry], here)
        k += 1
    return carry


def _holds(tape: Tape, condition: Any, places: list[int]) -> bool:
    verdict = evaluate(condition, [tape.values[i] for i in places], expand=())
    return bool(_decided("while", verdict.values[verdict.outputs[0]]))


def _cond(tape: Tape, parameters: Any, operands: list[int], call: Call) -> list[int]:
    """`cond` and `switch`: the branch that was taken."""
    which, *rest = operands
    branches = parameters["branches"]
    taken = min(max(int(_decided("cond", tape.values[which])), 0), len(branches) - 1)
    return _run(tape, branches[taken], rest, call)


def _decided(loop: str, condition: Any) -> Any:
    """A condition with a value."""
    if isinstance(condition, Tracer):
        raise TypeError(
            f"gradient: expected values where a {loop} decides by them; inside jit, grad or vmap "
            "there are none. Call it outside, without jit."
        )
    return condition


Opener = Callable[[Tape, Any, list[int], Call], list[int]]

LOOPS: Mapping[str, Opener] = MappingProxyType({"scan": _scan, "while": _while, "cond": _cond})
"""Control flow: one operation with a body, unless it is to be opened."""

OPENERS: Mapping[str, Opener] = MappingProxyType({**LOOPS, **dict.fromkeys(programs.CUSTOM, _call)})
"""What is one operation unless it is to be opened; a function with a derivative of its own too."""
