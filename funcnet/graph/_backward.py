"""The backward pass over a tape: incoming adjoint times local derivative, summed over the uses.

    w̄1 = b̄ · ∂b/∂w1

The local derivatives are those of `derivatives`, by hand; of a loop the backward pass over its
turns; and where no rule is written `jax.vjp` of the operation.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from funcnet._jaxpr import CUSTOM
from funcnet.base import UsageError
from funcnet.graph._tape import Cotangents, Operation, Tape
from funcnet.graph.derivatives import Rules, match_operand, rules


@dataclasses.dataclass(frozen=True, kw_only=True)
class Local:
    """The local derivatives of one result of an operation, one entry per operand that has one."""

    operands: tuple[int, ...]  # the places of these operands among those of the operation
    symbols: tuple[str, ...]  # as `derivatives.Rule.symbols`, with `{f}` for the operation's name
    elementwise: tuple[bool, ...]  # by `jax.vjp`: may be, from the shapes
    by_hand: bool = True  # as in an `Edge`
    pull: Callable[[Any], Sequence[Any]]  # adjoint to contributions


Step: TypeAlias = tuple[Operation, int, Any, Local, Sequence[Any]]
"""An operation, one of its results, the adjoint of that, its derivatives, the contributions."""


def backward(tape: Tape, cotangents: Cotangents) -> tuple[dict[int, Any], list[Step]]:
    """Return the adjoints of all values that an output depends on, by index, and the steps."""
    adjoints = add_up({}, cotangents)
    steps: list[Step] = []
    for operation in reversed(tape.operations):
        for k, result in enumerate(operation.results):
            if result not in adjoints or not tape.wants(result):
                continue
            local, ȳ = _local(tape, operation, k), adjoints[result]
            given = local.pull(ȳ)
            steps.append((operation, result, ȳ, local, given))
            indices = (operation.operands[j] for j in local.operands)
            _ = add_up(adjoints, zip(indices, given, strict=True))
    return adjoints, steps


def add_up(total: dict[int, Any], contributions: Iterable[tuple[int, Any]]) -> dict[int, Any]:
    """Add contributions to the sum per index, `total`, and return it."""
    for index, contribution in contributions:
        total[index] = total[index] + contribution if index in total else contribution
    return total


def input_adjoints(tape: Tape, cotangents: Cotangents) -> list[Any]:
    """Return the adjoint of each input, zeros where no output depends on it."""
    adjoints, _ = backward(tape, cotangents)
    return [adjoints.get(i, jnp.zeros_like(tape.values[i])) for i in tape.inputs]


def _local(tape: Tape, operation: Operation, k: int) -> Local:
    """Return the derivatives of the result `k`: by its body, the table, or `jax.vjp`."""
    operands = tuple(tape.values[i] for i in operation.operands)
    wanted = _wanted(tape, operation)
    y = tape.values[operation.results[k]]
    if operation.body is not None:
        return _through_body(operation.body, k, wanted)
    if by_hand := rules(operation.primitive, operands, operation.parameters):
        return _by_hand(by_hand, operands, y, wanted)
    return _through_vjp(operation, operands, k, y, wanted)


def _wanted(tape: Tape, operation: Operation) -> tuple[int, ...]:
    """Return which operands receive a contribution.

    The arrays that the rule of a `custom_vjp` closes over are operands before its arguments. JAX
    gives them no derivative, and refuses such an array if it depends on an argument.
    """
    closed_over = operation.parameters["num_consts"] if operation.primitive in CUSTOM else 0
    return tuple(
        j
        for j, index in enumerate(operation.operands)
        if tape.wants(index) and not (j < closed_over and index in tape.constants)
    )


def _by_hand(by_hand: Rules, operands: tuple[Any, ...], y: Any, wanted: tuple[int, ...]) -> Local:
    pairs = [(by_hand[j], operands[j]) for j in wanted]
    return Local(
        operands=wanted,
        symbols=tuple(rule.symbols for rule, _ in pairs),
        elementwise=tuple(rule.elementwise and a.shape == y.shape for rule, a in pairs),
        pull=lambda ȳ: [match_operand(rule.pull(ȳ, y, *operands), a) for rule, a in pairs],
    )


def _through_body(body: Tape, k: int, wanted: tuple[int, ...]) -> Local:
    """Go back through the turns of a loop."""

    def pull(ȳ: Any) -> list[Any]:
        received = input_adjoints(body, [(body.outputs[k], ȳ)])
        return [received[j] for j in wanted]

    return Local(
        operands=wanted,
        symbols=("{ȳ}, back through {f}",) * len(wanted),
        elementwise=(False,) * len(wanted),
        pull=pull,
    )


def _through_vjp(
    operation: Operation, operands: tuple[Any, ...], k: int, y: Any, wanted: tuple[int, ...]
) -> Local:
    """Derive by JAX, or by the rule that the user gave the function."""
    floats = [operands[j] for j in wanted]

    def function(*floats: Any) -> Any:
        values = dict(enumerate(operands)) | dict(zip(wanted, floats, strict=True))
        return operation.bind([*values.values()])[k]

    def pull(ȳ: Any) -> Sequence[Any]:
        try:
            return jax.vjp(function, *floats)[1](ȳ)
        except jax.errors.UnexpectedTracerError as error:
            raise UsageError(
                f"{operation.name}: expected a rule that holds nothing computed around it; "
                "jax.grad of a jitted function does not take that, either. Pass it as an argument, "
                f"or let trace open the function: expand=[{operation.name!r}]."
            ) from error

    return Local(
        operands=wanted,
        symbols=("vjp of {f}",) * len(wanted),
        elementwise=tuple(operation.primitive in CUSTOM and a.shape == y.shape for a in floats),
        by_hand=False,
        pull=pull,
    )
