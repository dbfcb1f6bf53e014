"""What a traced program says about a function: its precision, its size, and what it hides."""

import math
from typing import Any

import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
from jax.extend.core import primitives


def lowest_precision(jaxpr: jex.Jaxpr) -> float:
    """The relative precision of the coarsest floating type between a program's inputs and outputs.

    Constants do not count: a function of float64 numbers may add float32 ones.

    >>> import jax
    >>> with jax.enable_x64(True):
    ...     rounds = jax.make_jaxpr(lambda x: x.astype(jnp.float32) * 2)(1.0)
    ...     adds = jax.make_jaxpr(lambda x: x + jnp.float32(1).astype(float))(1.0)
    >>> lowest_precision(rounds.jaxpr), lowest_precision(adds.jaxpr)
    (1.1920928955078125e-07, 2.220446049250313e-16)
    """
    moved = {var for var in jaxpr.invars if _epsilon(var)}
    epsilons = [float(np.finfo(np.float64).eps)]
    for equation in jaxpr.eqns:
        if any(isinstance(var, jex.Var) and var in moved for var in equation.invars):
            moved.update(equation.outvars)
            epsilons += map(_epsilon, equation.outvars)
            epsilons += [lowest_precision(inner) for inner in _inner(equation)]
    return max(epsilons)


def _epsilon(var: Any) -> float:
    """The relative precision of a floating value; 0 for any other."""
    dtype = getattr(var.aval, "dtype", np.dtype(np.int32))
    return float(jnp.finfo(dtype).eps) if jnp.issubdtype(dtype, jnp.inexact) else 0.0


def widest(jaxpr: jex.Jaxpr) -> int:
    """How many numbers the largest array of a program has.

    >>> import jax
    >>> widest(jax.make_jaxpr(lambda x: jnp.outer(x, x).sum())(jnp.ones(5)).jaxpr)
    25
    """
    variables = [*jaxpr.invars, *(var for equation in jaxpr.eqns for var in equation.outvars)]
    sizes = [math.prod(getattr(var.aval, "shape", ())) for var in variables]
    inner = [widest(inner) for equation in jaxpr.eqns for inner in _inner(equation)]
    return max(sizes + inner, default=1)


def hides_something(jaxpr: jex.Jaxpr) -> bool:
    """Whether there is a `stop_gradient` anywhere in a program."""
    return any(
        equation.primitive is primitives.stop_gradient_p
        or any(map(hides_something, _inner(equation)))
        for equation in jaxpr.eqns
    )


def without_stop_gradient(jaxpr: jex.Jaxpr) -> jex.Jaxpr:
    """The same program, its `stop_gradient`s replaced by copies, which let gradients through."""

    def visible(value: Any) -> Any:
        match value:
            case jex.ClosedJaxpr():
                return value.replace(jaxpr=without_stop_gradient(value.jaxpr))
            case jex.Jaxpr():
                return without_stop_gradient(value)
            case tuple() if hasattr(value, "_fields"):
                return type(value)(*map(visible, value))
            case tuple():
                return tuple(map(visible, value))
        return value

    def seen(equation: jex.JaxprEqn) -> jex.JaxprEqn:
        if equation.primitive is primitives.stop_gradient_p:
            return equation.replace(primitive=primitives.copy_p, params={})
        return equation.replace(params={k: visible(v) for k, v in equation.params.items()})

    return jaxpr.replace(eqns=[seen(equation) for equation in jaxpr.eqns])


def _inner(equation: jex.JaxprEqn) -> list[jex.Jaxpr]:
    """The programs inside an equation: a loop's body, a branch, a compiled function."""
    return list(jex.jaxprs_in_params(equation.params))
