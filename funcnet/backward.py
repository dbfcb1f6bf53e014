"""The reverse sweep over a tape: local derivative times incoming adjoint, accumulated.

    w̄1 = b̄ · ∂b/∂w1

The local derivatives are those of `derivatives`, by hand; of a loop the sweep over its turns; and
where no rule is written `jax.vjp` of the operation.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from funcnet import derivatives
from funcnet.tape import Operation, Tape


class Local(NamedTuple):
    """The local derivatives of one result of an operation.

    Attributes:
      formulas: in symbols, one an operand.
      elementwise: whether it is an array, one an operand.
      by_hand: whether the rule is of the table in `derivatives`.
      pull: from the adjoint of the result to what each operand receives; `None` for those that have
        no adjoint.
    """

    formulas: tuple[str, ...]
    elementwise: tuple[bool, ...]
    by_hand: bool
    pull: Callable[[Any], tuple[Any, ...]]


class Backward(NamedTuple):
    """One step of the reverse sweep: what the operands received from one result."""

    operation: Operation
    result: int
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
                steps.append(Backward(operation, result, local, contributions))
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
    rules = derivatives.rules(operation.name, operands, operation.parameters)
    if rules is None:
        return _through_vjp(operation, operands, result, wanted)
    y = tape.values[operation.results[result]]

    def pull(g: Any) -> tuple[Any, ...]:
        return tuple(
            derivatives.match_operand(rule.pull(g, y, *operands), a) if want else None
            for rule, a, want in zip(rules, operands, wanted, strict=False)
        ) + (None,) * (len(operands) - len(rules))

    beyond = len(operands) - len(rules)  # operands without a rule: the indices of a gather
    return Local(
        formulas=tuple(rule.formula for rule in rules) + ("0",) * beyond,
        elementwise=tuple(
            rule.elementwise and a.shape == y.shape
            for rule, a in zip(rules, operands, strict=False)
        )
        + (False,) * beyond,
        by_hand=True,
        pull=pull,
    )


def _through_body(name: str, body: Tape, result: int, wanted: tuple[bool, ...]) -> Local:
    """A loop's local derivative is the sweep over its turns."""

    def pull(g: Any) -> tuple[Any, ...]:
        adjoints, _ = sweep(body, [(body.outputs[result], g)])
        return tuple(
            adjoints.get(i, jnp.zeros_like(body.values[i])) if want else None
            for i, want in zip(body.inputs, wanted, strict=True)
        )

    return Local(
        formulas=(f"ȳ, back through {name}",) * len(wanted),
        elementwise=(False,) * len(wanted),
        by_hand=True,
        pull=pull,
    )


def _through_vjp(
    operation: Operation, operands: tuple[Any, ...], result: int, wanted: tuple[bool, ...]
) -> Local:
    """Where no rule is written: JAX's own, or the one that the user gave the function."""

    def pull(g: Any) -> tuple[Any, ...]:
        def function(*floats: Any) -> Any:
            given = iter(floats)
            return operation.bind(
                *(next(given) if want else a for a, want in zip(operands, wanted, strict=True))
            )[result]

        _, vjp = jax.vjp(function, *(a for a, w in zip(operands, wanted, strict=True) if w))
        received = iter(vjp(g))
        return tuple(next(received) if want else None for want in wanted)

    return Local(
        formulas=(("" if operation.elementwise else "ȳ, by the ") + f"vjp of {operation.name}",)
        * len(wanted),
        elementwise=(operation.elementwise,) * len(wanted),
        by_hand=False,
        pull=pull,
    )
