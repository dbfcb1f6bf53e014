"""The tools for jaxprs of gradcheck and graph: calls, binding, one interpreter, argument names."""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax.extend.core as jex
from jax.extend.core import primitives

CALLS = {p.name for p in (primitives.jit_p, primitives.closed_call_p, primitives.remat_p)}
"""Primitives that only call the jaxpr inside them."""

CUSTOM = {p.name for p in (primitives.custom_jvp_call_p, primitives.custom_vjp_call_p)}
"""Primitives that call the jaxpr inside them, and have a derivative of their own."""


def bind(equation: jex.JaxprEqn, operands: Sequence[Any]) -> tuple[Any, ...]:
    """Carry out an equation under the settings that it was traced under."""
    parameters = equation.primitive.get_bind_params(equation.params)
    with equation.ctx.manager:
        results = equation.primitive.bind(*operands, **parameters)
    return tuple(results) if equation.primitive.multiple_results else (results,)


def called(parameters: Mapping[str, Any]) -> jex.ClosedJaxpr:
    """Return the jaxpr inside a call, or inside a function with a derivative of its own."""
    (inner,) = (p for p in parameters.values() if isinstance(p, jex.ClosedJaxpr | jex.Jaxpr))
    return inner if isinstance(inner, jex.ClosedJaxpr) else jex.ClosedJaxpr(inner, ())


def interpret(
    jaxpr: jex.ClosedJaxpr,
    inputs: Sequence[Any],
    perform: Callable[[jex.JaxprEqn, list[Any]], Sequence[Any]],
    constant: Callable[[Any], Any] = lambda value: value,
    opens: Collection[str] = (),
) -> list[Any]:
    """Run a jaxpr equation by equation: the one interpreter of funcnet.

    The caller decides what a value is: an array, the index of an array on a tape, an array with a
    mark. `constant` turns a constant or a literal, an array, into a value. `perform` turns the
    operands of an equation into its results. Calls of the primitives in `opens` are interpreted.
    """
    values = dict(zip(jaxpr.jaxpr.constvars, map(constant, jaxpr.consts), strict=True))
    values.update(zip(jaxpr.jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Any:
        return constant(atom.val) if isinstance(atom, jex.Literal) else values[atom]

    for equation in jaxpr.eqns:
        operands = [read(atom) for atom in equation.invars]
        if equation.primitive.name in opens:
            results = interpret(called(equation.params), operands, perform, constant, opens)
        else:
            results = perform(equation, operands)
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.jaxpr.outvars]


def positional_names(function: Callable[..., Any], count: int) -> list[str]:
    """Return the names of a function's first `count` positional arguments.

    >>> positional_names(lambda w, *xs: w, 3), positional_names(max, 1)
    (['w', 'xs[0]', 'xs[1]'], ['args[0]'])
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a builtin tells no signature
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = next((p.name for p in parameters if p.kind == p.VAR_POSITIONAL), "args")
    return [*names[:count], *(f"{rest}[{i}]" for i in range(count - len(names)))]
