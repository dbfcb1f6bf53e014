"""A function carried out one operation after another, with every value kept on a tape.

`jax.make_jaxpr` gives the jaxpr. Here its equations are carried out one by one, so that each value
can be looked at. Functions under `jit` and `checkpoint` are opened. `scan`, `while` and `cond` are
one operation with a tape of its own, which holds every turn.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from funcnet._jaxpr import CALLS, CUSTOM, bind, called, interpret, positional_names
from funcnet.base import UsageError, one_of
from funcnet.graph._nodes import is_differentiable
from funcnet.graph._source import Stack

Cotangents: TypeAlias = list[tuple[int, Any]]  # indices of outputs, each with its cotangent


@dataclasses.dataclass(frozen=True, kw_only=True)
class Operation:
    """One step of a computation; operands and results are indices on the tape."""

    name: str  # the primitive, or the function with a derivative of its own: `sigmoid`
    primitive: str  # for such a function `custom_jvp_call` or `custom_vjp_call`
    operands: tuple[int, ...]
    results: tuple[int, ...]
    bind: Callable[[list[Any]], Sequence[Any]]  # from the values of the operands to the results
    stack: Stack
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    body: "Tape | None" = None  # the inside of a `scan`, `while` or `cond`

    @property
    def is_linear(self) -> bool:
        """Whether the way back is known to be linear: it meets no rule of a `custom_vjp`."""
        if self.body:
            return all(operation.is_linear for operation in self.body.operations)
        return self.primitive != "custom_vjp_call"


@dataclasses.dataclass(kw_only=True)
class Tape:
    """All that was computed, in the order of the computation; values are known by their index."""

    expand: frozenset[str]  # the names of the operations to open
    openable: set[str] = dataclasses.field(default_factory=set)  # what could be, or was, opened
    values: list[Any] = dataclasses.field(default_factory=list)
    literals: set[int] = dataclasses.field(default_factory=set)  # numbers that stand in the source
    constants: set[int] = dataclasses.field(default_factory=set)  # what depends on no argument
    operations: list[Operation] = dataclasses.field(default_factory=list)
    inputs: list[int] = dataclasses.field(default_factory=list)
    outputs: list[int] = dataclasses.field(default_factory=list)

    def write(self, value: Any) -> int:
        self.values.append(value)
        return len(self.values) - 1

    def write_constant(self, value: Any) -> int:
        """Keep a constant of a jaxpr; one that is no `jax.Array` but a scalar is a literal."""
        is_literal = not isinstance(value, jax.Array) and np.ndim(value) == 0
        dtype = jnp.result_type(value) if is_literal else None  # no longer weakly typed
        index = self.write(jnp.asarray(value, dtype))
        self.constants.add(index)
        if is_literal:
            self.literals.add(index)
        return index

    def returns(self, outputs: list[int]) -> None:
        """Keep which values are the results; a number of the source is then a value."""
        self.outputs = outputs
        self.literals.difference_update(outputs)

    def carry_out(
        self,
        primitive: str,
        operands: Sequence[int],
        bind: Callable[[list[Any]], Sequence[Any]],
        stack: Stack,
        **options: Any,
    ) -> list[int]:
        """Carry out an operation, and keep it with its results; options are fields of it."""
        results = list(map(self.write, bind([self.values[i] for i in operands])))
        if self.constants.issuperset(operands):
            self.constants.update(results)
        fields: dict[str, Any] = {"name": primitive, **options}
        operation = Operation(
            primitive=primitive,
            operands=tuple(operands),
            results=tuple(results),
            bind=bind,
            stack=stack,
            **fields,
        )
        self.operations.append(operation)
        return results

    def wants(self, index: int) -> bool:
        """Whether a value has an adjoint: numbers of the source and integers have none."""
        return index not in self.literals and is_differentiable(self.values[index])


def on_tape(
    what: str, function: Any, expand: str | Iterable[str]
) -> Callable[[tuple, dict[str, Any]], tuple[Tape, Any, list[str]]]:
    """Return a function of `(args, kwargs)` that carries `function` out for `what`, its caller.

    Its results are the tape, the output as a pytree of shapes and dtypes, and the names of the
    arguments. Errors of the user's function come through, with a note of the arguments' shapes.
    """
    if not callable(function):
        raise UsageError(
            f"{what}: expected a function; got {type(function).__name__}. Pass the function "
            f"itself, and its arguments to the result: {what}(function)(*args)."
        )
    opened = frozenset((expand,) if isinstance(expand, str) else expand)

    def carried_out(args: tuple, kwargs: dict[str, Any]) -> tuple[Tape, Any, list[str]]:
        arguments = named_arguments(function, args, kwargs)
        for name, leaf in arguments.items():
            _check_array(name, leaf)
        try:
            jaxpr, output = jax.make_jaxpr(function, return_shape=True)(*args, **kwargs)
        except Exception as error:
            came = ", ".join(f"{name}: {_described(leaf)}" for name, leaf in arguments.items())
            error.add_note(f"{function_name(function)} was traced with {came or 'no arguments'}.")
            raise
        tape = Tape(expand=opened)
        tape.inputs = [tape.write(jnp.asarray(leaf)) for leaf in arguments.values()]
        tape.returns(_carry_out(tape, jaxpr, tape.inputs, Stack()))
        for name in opened:
            _ = one_of("expand", name, sorted(tape.openable) or ["(nothing here can be opened)"])
        return tape, output, list(arguments)

    return carried_out


def named_arguments(
    function: Callable[..., Any], args: tuple, kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arrays, by the function's names: `w1`, `params.weight`, `layers[0].bias`."""
    positional = zip(positional_names(function, len(args)), args, strict=True)
    return {
        name + jax.tree_util.keystr(path): leaf
        for name, argument in [*positional, *sorted(kwargs.items())]
        for path, leaf in jax.tree.leaves_with_path(argument)
    }


def function_name(function: Callable[..., Any]) -> str:
    """Return the name of a function; for one without a name that of its result, `output`."""
    name = getattr(function, "__name__", type(function).__name__)
    return "output" if name == "<lambda>" else name


def unit_cotangent(what: str, tape: Tape, output: Any, hint: str = "") -> Cotangents:
    """Return the start of a backward pass from a scalar, 1; refuse any other output."""
    leaves = jax.tree.leaves(output)
    if len(leaves) != 1 or leaves[0].shape != ():
        shapes = ", ".join(map(_described, leaves)) or "nothing"
        raise UsageError(
            f"{what}: expected a function with a scalar output; it returned {shapes}. Reduce it, "
            f"as with jnp.mean{hint}."
        )
    if not jnp.issubdtype(leaves[0].dtype, jnp.floating):
        raise UsageError(
            f"{what}: expected an output of floats; it is {leaves[0].dtype}, and has no gradient. "
            "Write 1.0 instead of 1, and of a complex number give a real part or a norm."
        )
    return [(tape.outputs[0], jnp.ones_like(tape.values[tape.outputs[0]]))]


def given_cotangent(tape: Tape, output: Any, cotangent: Any) -> Cotangents:
    """Return the start of a backward pass from any output; refuse a cotangent unlike it."""
    leaves, structure = jax.tree.flatten(output)
    given, given_structure = jax.tree.flatten(cotangent)
    for leaf in given:
        _check_array("cotangent", leaf)
    if given_structure != structure or not all(
        np.shape(ȳ) == y.shape and (not np.iscomplexobj(ȳ) or np.iscomplexobj(y))
        for ȳ, y in zip(given, leaves, strict=True)
    ):
        raise UsageError(
            f"cotangent: expected arrays like the output, {jax.tree.map(_described, output)}; "
            f"got {jax.tree.map(_described, cotangent)}."
        )
    return [
        (index, jnp.asarray(adjoint, tape.values[index].dtype))
        for index, adjoint in zip(tape.outputs, given, strict=True)
        if tape.wants(index)
    ]


def check_floats(args: tuple, argnums: int | Sequence[int]) -> None:
    for i in [argnums] if isinstance(argnums, int) else argnums:
        if not -len(args) <= i < len(args):
            raise UsageError(
                f"gradient: expected argnums below {len(args)}, the number of positional "
                f"arguments; got {i}."
            )
        for leaf in jax.tree.leaves(args[i]):
            if not is_differentiable(leaf):
                raise UsageError(
                    f"gradient: expected floats in argument {i}; got {_described(leaf)}. "
                    "Write 1.0 instead of 1, or choose other arguments with argnums."
                )


def _check_array(name: str, leaf: Any) -> None:
    is_array = isinstance(leaf, np.ndarray | np.generic)
    if isinstance(leaf, jax.Array | bool | int | float | complex) or (
        is_array and any(jnp.issubdtype(leaf.dtype, kind) for kind in (np.number, np.bool_))
    ):
        return
    came = f"an array of {leaf.dtype}" if is_array else type(leaf).__name__
    raise UsageError(
        f"{name}: expected an array or a number; got {came}. Close over what is not an array of "
        "numbers: trace(lambda x: function(x, option))."
    )


def _described(leaf: Any) -> str:
    return f"{jnp.result_type(leaf)}{list(np.shape(leaf))}"


def _carry_out(tape: Tape, jaxpr: ClosedJaxpr, inputs: Sequence[int], stack: Stack) -> list[int]:
    return interpret(jaxpr, inputs, partial(_perform, tape, stack), tape.write_constant)


def _perform(tape: Tape, stack: Stack, equation: Any, operands: list[int]) -> list[int]:
    """Carry out one equation: opened, with a tape of its own, or as it is."""
    stack = stack.call(equation.source_info)
    primitive, parameters = equation.primitive.name, equation.params
    converts = primitive == "convert_element_type"
    if converts and equation.invars[0].aval.dtype == equation.outvars[0].aval.dtype:
        return operands  # JAX's mark that a number was Python's
    if primitive in CALLS:
        return _call(tape, parameters, operands, stack)
    if equation.effects or "callback" in primitive:
        raise UsageError(
            f"trace: expected a pure function; {primitive} has a side effect or "
            f"calls back to Python ({stack.source}). Take it out of the function: "
            "every value can be seen in the graph."
        )
    name = called(parameters).jaxpr.debug_info.func_name if primitive in CUSTOM else primitive
    if primitive in LOOPS or primitive in CUSTOM:
        tape.openable.update((name, primitive))
        if not tape.expand.isdisjoint((name, primitive)):
            return LOOPS.get(primitive, _call)(tape, parameters, operands, stack)
    if primitive not in LOOPS:
        run = partial(bind, equation)
        return tape.carry_out(primitive, operands, run, stack, name=name, parameters=parameters)
    body = _body(tape, primitive, parameters, operands)
    results = [body.values[i] for i in body.outputs]
    return tape.carry_out(
        primitive, operands, lambda _: results, stack, parameters=parameters, body=body
    )


def _body(tape: Tape, loop: str, parameters: Any, operands: list[int]) -> Tape:
    """Carry out the inside of a loop on a tape of its own."""
    body = Tape(expand=tape.expand, openable=tape.openable)
    body.inputs = [body.write(tape.values[i]) for i in operands]
    body.literals = {j for j, i in enumerate(operands) if i in tape.literals}
    body.constants = {j for j, i in enumerate(operands) if i in tape.constants}
    body.returns(LOOPS[loop](body, parameters, body.inputs, Stack()))
    return body


def _call(tape: Tape, parameters: Any, operands: list[int], stack: Stack) -> list[int]:
    return _carry_out(tape, called(parameters), operands, stack)


def _scan(tape: Tape, parameters: Any, operands: list[int], stack: Stack) -> list[int]:
    """Open a `scan`: each turn reads its part of `xs` and hands on the carry."""
    jaxpr = called(parameters)
    if "num_carry" in parameters:
        num_consts, num_carry = parameters["num_consts"], parameters["num_carry"]
    else:  # from JAX 0.11 on
        num_consts, num_carry, _ = (len(list(part)) for part in parameters["ft_in"].unpack())
    consts, carry = operands[:num_consts], operands[num_consts : num_consts + num_carry]
    xs = operands[num_consts + num_carry :]
    turns = range(parameters["length"])
    outputs: dict[int, list[int]] = {}
    for k in reversed(turns) if parameters["reverse"] else turns:
        here = stack.in_turn(k)
        at, part = {"at": k}, _part(k)
        parts = [i for x in xs for i in tape.carry_out("index", [x], part, here, parameters=at)]
        results = _carry_out(tape, jaxpr, [*consts, *carry, *parts], here)
        carry, outputs[k] = results[:num_carry], results[num_carry:]
    if not turns:  # only the shapes are known
        shapes = jaxpr.out_avals[num_carry:]
        empty = (jnp.zeros((0, *shape.shape), shape.dtype) for shape in shapes)
        return [*carry, *map(tape.write_constant, empty)]
    for column in zip(*(outputs[k] for k in turns), strict=True):
        carry += tape.carry_out("stack", column, lambda values: [jnp.stack(values)], stack)
    return carry


def _part(k: int) -> Callable[[list[Any]], list[Any]]:
    return lambda values: [lax.dynamic_index_in_dim(*values, k, keepdims=False)]


def _while(tape: Tape, parameters: Any, operands: list[int], stack: Stack) -> list[int]:
    """Open a `while`: a turn as often as its condition holds."""
    after_cond = parameters["cond_nconsts"]
    after_body = after_cond + parameters["body_nconsts"]
    cond_consts, body_consts = operands[:after_cond], operands[after_cond:after_body]
    carry, condition = operands[after_body:], jaxpr_as_fun(parameters["cond_jaxpr"])
    for k in itertools.count():
        (holds,) = condition(*(tape.values[i] for i in [*cond_consts, *carry]))
        if not _known("while", holds):
            break
        inputs = [*body_consts, *carry]
        carry = _carry_out(tape, parameters["body_jaxpr"], inputs, stack.in_turn(k))
    return carry


def _cond(tape: Tape, parameters: Any, operands: list[int], stack: Stack) -> list[int]:
    which, *rest = operands
    branches = parameters["branches"]
    taken = min(max(int(_known("cond", tape.values[which])), 0), len(branches) - 1)
    return _carry_out(tape, branches[taken], rest, stack)


def _known(loop: str, condition: Any) -> Any:
    if isinstance(condition, Tracer):
        raise UsageError(
            f"gradient: expected values where a {loop} decides by them; inside jit, grad or vmap "
            "there are none. Call it outside, without jit."
        )
    return condition


LOOPS: Mapping[str, Callable[[Tape, Any, list[int], Stack], list[int]]] = {
    "scan": _scan,
    "while": _while,
    "cond": _cond,
}
"""Control flow: one operation with a body, unless it is to be opened."""
