"""The reverse sweep over a tape: local derivative times incoming adjoint, accumulated.

    w̄1 = b̄ · ∂b/∂w1

The local derivatives are those of `derivatives`, by hand; of a loop the sweep over its turns; and
where no rule is written `jax.vjp` of the operation.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr
from jaxtyping import Array, Shaped

from funcnet._jaxpr import CALLS, CUSTOM, called
from funcnet.graph import derivatives
from funcnet.graph._tape import Operation, Tape

COMPARISONS = frozenset({"lt", "le", "gt", "ge", "eq", "ne", "and", "or", "not", "is_finite"})
"""Elementwise operations without a derivative."""


class Local(NamedTuple):
    """The local derivatives of one result of an operation.

    Attributes:
      formulas: in symbols, one an operand.
      elementwise: whether it is an array, one an operand; of a function with a derivative of its
        own whether its values say so: its rule may be another.
      linear: whether `pull` is sure to be: the rule of a `custom_vjp` may be any function of `ȳ`.
      by_hand: whether the rule is of the table in `derivatives`.
      pull: from the adjoint of the result to what each operand receives; `None` for those that have
        no adjoint.
    """

    formulas: tuple[str, ...]
    elementwise: tuple[bool, ...]
    linear: bool
    by_hand: bool
    pull: Callable[[Any], tuple[Any, ...]]


class Backward(NamedTuple):
    """One step of the reverse sweep: what the operands received from one result.

    Attributes:
      operation: the operation.
      result: which of its results.
      adjoint: that the result has.
      local: the local derivatives.
      contributions: adjoint times local derivative; `None` for operands that receive nothing.
    """

    operation: Operation
    result: int
    adjoint: Any
    local: Local
    contributions: tuple[Any, ...]


def sweep(
    tape: Tape, cotangents: Iterable[tuple[int, Shaped[Array, "..."]]]
) -> tuple[dict[int, Any], list[Backward]]:
    """The chain rule from the outputs to the inputs.

    Args:
      tape: of a run.
      cotangents: places of outputs, with the adjoints that the sweep begins from.

    Returns:
      The adjoints of all values that an output depends on, by place, and the steps.
    """
    adjoints: dict[int, Any] = {}
    steps = []

    def receive(place: int, contribution: Any) -> None:
        known = adjoints.get(place)
        adjoints[place] = contribution if known is None else known + contribution

    for place, cotangent in cotangents:
        receive(place, cotangent)
    for operation in reversed(tape.operations):
        for result, place in enumerate(operation.results):
            if place in adjoints and tape.wants(place):
                local = _local_derivatives(tape, operation, result)
                contributions = local.pull(adjoints[place])
                steps.append(Backward(operation, result, adjoints[place], local, contributions))
                for operand, contribution in zip(operation.operands, contributions, strict=True):
                    if contribution is not None:
                        receive(operand, contribution)
    return adjoints, steps


def _local_derivatives(tape: Tape, operation: Operation, result: int) -> Local:
    """The local derivatives of a result: of the table, of the body, or of `jax.vjp`."""
    operands = tuple(tape.values[i] for i in operation.operands)
    wanted = tuple(map(tape.wants, operation.operands))
    if operation.body is not None:
        return _through_body(operation.name, operation.body, result, wanted)
    y = tape.values[operation.results[result]]
    rules = derivatives.rules(operation.primitive, operands, operation.parameters)
    if rules is None:
        return _through_vjp(operation, operands, y, result, _derived(tape, operation, wanted))
    return _by_hand(rules, operands, y, wanted)


def _derived(tape: Tape, operation: Operation, wanted: tuple[bool, ...]) -> tuple[bool, ...]:
    """Which operands the rule of an operation has a derivative for.

    The rule of a `custom_vjp` is one of its arguments. The arrays that it closes over are operands
    before those; JAX gives them nothing, and refuses such an array that depends on an argument.
    """
    closed_over = operation.parameters["num_consts"] if operation.primitive in CUSTOM else 0
    return tuple(
        want and not (k < closed_over and place in tape.constants)
        for k, (place, want) in enumerate(zip(operation.operands, wanted, strict=True))
    )


def _by_hand(
    rules: tuple[derivatives.Rule, ...], operands: tuple[Any, ...], y: Any, wanted: tuple[bool, ...]
) -> Local:
    """The rules of the table, applied; operands beyond them, the indices of a gather, have none."""

    def pull(ȳ: Any) -> tuple[Any, ...]:
        return tuple(
            derivatives.match_operand(rule.pull(ȳ, y, *operands), a) if want else None
            for rule, a, want in zip(rules, operands, wanted, strict=False)
        ) + (None,) * (len(operands) - len(rules))

    beyond = len(operands) - len(rules)
    return Local(
        formulas=tuple(rule.formula for rule in rules) + ("0",) * beyond,
        elementwise=tuple(
            rule.elementwise and a.shape == y.shape
            for rule, a in zip(rules, operands, strict=False)
        )
        + (False,) * beyond,
        linear=True,
        by_hand=True,
        pull=pull,
    )


def _through_body(name: str, body: Tape, result: int, wanted: tuple[bool, ...]) -> Local:
    """A loop's local derivative is the sweep over its turns."""

    def pull(ȳ: Any) -> tuple[Any, ...]:
        adjoints, _ = sweep(body, [(body.outputs[result], ȳ)])
        return tuple(
            adjoints.get(i, jnp.zeros_like(body.values[i])) if want else None
            for i, want in zip(body.inputs, wanted, strict=True)
        )

    return Local(
        formulas=(f"ȳ, back through {name}",) * len(wanted),
        elementwise=(False,) * len(wanted),
        linear=_is_linear(body),
        by_hand=True,
        pull=pull,
    )


def _through_vjp(
    operation: Operation, operands: tuple[Any, ...], y: Any, result: int, derived: tuple[bool, ...]
) -> Local:
    """Where no rule is written: JAX's own, or the one that the user gave the function."""

    def pull(ȳ: Any) -> tuple[Any, ...]:
        def function(*floats: Any) -> Any:
            given = iter(floats)
            return operation.bind(
                *(next(given) if by else a for a, by in zip(operands, derived, strict=True))
            )[result]

        try:
            _, vjp = jax.vjp(function, *(a for a, by in zip(operands, derived, strict=True) if by))
        except jax.errors.UnexpectedTracerError as error:
            raise ValueError(
                f"{operation.name}: expected a rule that holds nothing computed around it; "
                "jax.grad of a jitted function does not take that, either. Pass it as an argument, "
                f"or let trace open the function: expand=[{operation.name!r}]."
            ) from error
        received = iter(vjp(ȳ))
        return tuple(next(received) if by else None for by in derived)

    on_elements = _is_elementwise(operation, y)
    return Local(
        formulas=(f"vjp of {operation.name}",) * len(operands),
        elementwise=tuple(on_elements and a.shape == y.shape for a in operands),
        linear=operation.primitive != "custom_vjp_call",
        by_hand=False,
        pull=pull,
    )


def _is_linear(body: Tape) -> bool:
    """Whether no rule of a `custom_vjp` is met on the way back through a loop."""
    return all(
        operation.primitive != "custom_vjp_call"
        and (operation.body is None or _is_linear(operation.body))
        for operation in body.operations
    )


def _is_elementwise(operation: Operation, y: Any) -> bool:
    """Whether a function with a derivative of its own works on each element alone."""
    if operation.primitive not in CUSTOM:
        return False
    return y.shape == () or _works_on_elements(called(operation.parameters))


def _works_on_elements(program: ClosedJaxpr) -> bool:
    return all(map(_is_elementwise_equation, program.eqns))


def _is_elementwise_equation(equation: Any) -> bool:
    """Whether it calls such a program, works on elements, or on numbers that no element is in."""
    name, parameters = equation.primitive.name, equation.params
    if name in CALLS | CUSTOM:
        return _works_on_elements(called(parameters))
    numbers = all(v.aval.shape == () for v in equation.invars)
    return numbers or name in derivatives.ELEMENTWISE | COMPARISONS
