"""In which precision φ is evaluated, and what rounding costs.

φ takes float64 arrays. The function inside it takes float64 as well if it can; otherwise its
arguments are rounded to their own dtypes. φ is traced to a jaxpr if it can be. The jaxpr tells the
precision that φ computes in; its rounding error; and φ in float64 throughout.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
from jax.extend.core import primitives

from funcnet._jaxpr import CALLS, CUSTOM, bind, interpret
from funcnet.gradcheck._vector import Arrays, Cotangents, Point, arguments, as_wide, project

COARSE = 1e-10  # the relative precision above which a computation is coarser than float64
EPSILON = float(np.finfo(np.float64).eps)
SMALL_LEAF = 2048  # numbers: the most of a leaf whose every element is checked


class Refused(Exception):
    """The function fails on these arguments; `__cause__` is its own exception."""


NO_RULE = (TypeError, ValueError, NotImplementedError, Refused)
"""The errors of a function without a derivative, or a batched form: JAX has no type of its own.

A TypeError: forward mode through a `custom_vjp`, or a linear solve without a transpose. A
ValueError: reverse mode through a while loop, or a callback. A NotImplementedError: no rule.
"""


@contextmanager
def wide_arguments(double: bool) -> Iterator[None]:
    """Let float64 in, beside constants of float32.

    If `double`, float64 is JAX's default, for a function that wants its own arrays in its inputs'
    dtype. A constant out of float32's range, such as the lowest float64, becomes infinite.
    """
    x64 = jax.enable_x64(True) if double else nullcontext()
    before = jax.config.values["jax_explicit_x64_dtypes"]
    jax.config.update("jax_explicit_x64_dtypes", "allow")
    try:
        with x64, jax.numpy_dtype_promotion("standard"), np.errstate(over="ignore"):
            yield
    finally:
        jax.config.update("jax_explicit_x64_dtypes", before)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phi:
    """φ: ℝⁿ → ℝ in one precision."""

    double: bool  # whether it is evaluated with float64 as JAX's default
    wide: bool  # whether the arguments are float64; else they are rounded to their own dtypes
    function: Callable[[Arrays], Any]  # compiled if it could be traced
    value: float  # at the point
    jaxpr: jex.ClosedJaxpr | None  # None for a function that needs concrete values
    gradient: Callable[[Arrays], Any] | None  # `jax.grad` of φ; None where JAX has no derivative
    epsilon: float  # the coarsest relative precision that φ computes in


def phi_at(function: Callable, at: Point, onto: Cotangents) -> Phi:
    """Return φ in the first precision in which JAX differentiates it and it computes finely.

    If there is none: in the first that JAX differentiates, then in the first that it accepts.
    """
    accepted, refusal = [], None
    for double, wide in ((False, True), (True, True), (False, False)):
        try:
            with wide_arguments(double):
                accepted.append(phi := _evaluated(function, at, onto, double, wide))
            if phi.gradient is not None and phi.epsilon <= COARSE:
                return phi
        except Refused as refused:
            refusal = refused.__cause__
    if refusal and not accepted:
        raise refusal
    return min(accepted, key=lambda phi: (phi.gradient is None, phi.epsilon > COARSE))


def _evaluated(function: Callable, at: Point, onto: Cotangents, double: bool, wide: bool) -> Phi:
    def phi(arrays: Arrays) -> Any:
        args = arguments(at, arrays, wide=wide)
        try:
            outputs = function(*args)
        except Exception as error:  # the caller's function, whatever it raises
            raise Refused from error
        return project(outputs, onto).astype(jnp.float64)

    arrays = at.arrays()
    try:
        jaxpr = jax.make_jaxpr(phi)(arrays)
        traced = as_function(jaxpr)
    except Refused:  # while JAX traces it; perhaps it needs concrete values
        jaxpr, traced = None, phi
    try:
        value = float(traced(arrays))
    except NotImplementedError as error:  # the device lacks a primitive in float64
        raise Refused from error
    return Phi(
        double=double,
        wide=wide,
        function=traced,
        value=value,
        jaxpr=jaxpr,
        gradient=_gradient(traced, arrays),
        epsilon=lowest_precision(jaxpr.jaxpr) if jaxpr else EPSILON,
    )


def as_function(jaxpr: jex.ClosedJaxpr) -> Callable[[Arrays], Any]:
    """Return a jaxpr of one result as a compiled function of arrays."""
    return jax.jit(lambda arrays: jex.jaxpr_as_fun(jaxpr)(*arrays)[0])


def _gradient(phi: Callable, arrays: Arrays) -> Callable[[Arrays], Any] | None:
    """Return `jax.grad` of φ; in forward mode where only that can (a while loop)."""
    few = sum(map(len, arrays)) <= SMALL_LEAF
    for transformation in (jax.grad, jax.jacfwd)[: 1 + few]:
        if found := attempt(compiled, transformation(phi), arrays):
            return found[0]
    return None


def attempt(transformed: Callable, *args: Any) -> Any:
    """Return `transformed(*args)`; None where JAX has no derivative, or no batched form."""
    try:
        return transformed(*args)
    except NO_RULE:
        return None


def compiled(function: Callable, *args: Any) -> tuple[Callable, Any]:
    """Return a function, compiled if it can be, and its value."""
    quick = jax.jit(function)
    try:
        return quick, quick(*args)
    except Exception:  # raised again below, unless it was tracing that failed
        return function, function(*args)


def in_float64(phi: Phi, arrays: Arrays) -> tuple[Phi, float]:
    """Return φ widened to float64, if it can be and its value stays, and its rounding error."""
    if phi.jaxpr is None or (error := rounding(phi.jaxpr, arrays)) is None:
        return phi, phi.epsilon * abs(phi.value)
    if phi.epsilon < COARSE:
        return phi, error
    try:
        jaxpr = jax.make_jaxpr(widened(phi.jaxpr))(*arrays)
        value = float((function := as_function(jaxpr))(arrays))
    except NotImplementedError:  # on this device, or in one of its operations
        return phi, error
    fine = dataclasses.replace(phi, function=function, value=value, jaxpr=jaxpr, epsilon=EPSILON)
    same = abs(value - phi.value) <= 4 * error + 4 * phi.epsilon * abs(phi.value)
    fine_error = rounding(jaxpr, arrays)
    return (fine, fine_error) if same and fine_error is not None else (phi, error)


def lowest_precision(jaxpr: jex.Jaxpr) -> float:
    """Return the coarsest relative precision between inputs and outputs; constants do not count."""
    moved = {var for var in jaxpr.invars if epsilon_of(var.aval)}
    epsilons = [EPSILON]
    for equation in jaxpr.eqns:
        if any(isinstance(var, jex.Var) and var in moved for var in equation.invars):
            moved.update(equation.outvars)
            epsilons += [epsilon_of(var.aval) for var in equation.outvars]
            epsilons += map(lowest_precision, jex.jaxprs_in_params(equation.params))
    return max(epsilons)


def epsilon_of(value: Any) -> float:
    """Return the relative precision of a floating value; 0 for any other."""
    dtype = getattr(value, "dtype", np.dtype(np.int32))
    return float(jnp.finfo(dtype).eps) if jnp.issubdtype(dtype, jnp.inexact) else 0.0


def nested(jaxpr: jex.Jaxpr) -> Iterator[jex.Jaxpr]:
    """Yield a jaxpr and all within it: the bodies of loops, branches, compiled functions."""
    yield jaxpr
    for equation in jaxpr.eqns:
        for inner in jex.jaxprs_in_params(equation.params):
            yield from nested(inner)


def largest_array(jaxpr: jex.Jaxpr) -> int:
    """Return how many numbers the largest array of a jaxpr has."""
    results = [var for each in nested(jaxpr) for equation in each.eqns for var in equation.outvars]
    return max(math.prod(getattr(var.aval, "shape", ())) for var in [*jaxpr.invars, *results])


def constant_shapes(jaxpr: jex.Jaxpr) -> set[tuple[int, ...]]:
    """Return the shapes of the arrays that a jaxpr holds beside its inputs."""
    constants = (constant for each in nested(jaxpr) for constant in each.constvars)
    return {getattr(constant.aval, "shape", ()) for constant in constants}


def map_parameters(function: Callable[[Any], Any], equation: jex.JaxprEqn) -> jex.JaxprEqn:
    """Return an equation with `function(value)` for each parameter, and each within a tuple."""
    parameters = {
        key: jax.tree.map(function, value, is_leaf=lambda each: not isinstance(each, tuple))
        for key, value in equation.params.items()
    }
    return equation.replace(params=parameters)


def visible_gradient(phi: Phi, arrays: Arrays) -> Any:
    """Return `jax.grad` of φ without its `stop_gradient`s; None if there is none, or no rule."""
    if phi.jaxpr is None or phi.gradient is None:
        return None
    used = {equation.primitive for each in nested(phi.jaxpr.jaxpr) for equation in each.eqns}
    if primitives.stop_gradient_p not in used:
        return None
    return attempt(jax.grad(as_function(_visible(phi.jaxpr))), arrays)


def _visible(value: Any) -> Any:
    """Return a parameter of an equation with copies in place of `stop_gradient`s."""
    if isinstance(value, jex.Jaxpr):  # in some versions of JAX a closed jaxpr is one as well
        equations = [
            equation.replace(primitive=primitives.copy_p, params={})
            if equation.primitive is primitives.stop_gradient_p
            else map_parameters(_visible, equation)
            for equation in value.eqns
        ]
        return value.replace(eqns=equations)
    return value.map_jaxpr(_visible) if isinstance(value, jex.ClosedJaxpr) else value


def rounding(jaxpr: jex.ClosedJaxpr, inputs: Sequence[Any]) -> float | None:
    """Return the rounding error of a jaxpr's one result, to first order.

    Each number u that depends on the inputs is rounded by `ε u`, which moves the result by `ε u ū`
    with ū its adjoint: the root of the sum of their squares. Derivatives are those of the values,
    whatever rules a function brings; a loop counts as one step. None where JAX has no derivative.
    """

    def result(square: Any) -> Any:
        def perform(equation: jex.JaxprEqn, operands: Sequence[Any]) -> list[Any]:
            depends = any(mark for _, mark in operands)
            results = bind(equation, [value for value, _ in operands])
            return [
                (_rounded(u, square) if depends and _is_real(u) else u, depends) for u in results
            ]

        marked = [(value, True) for value in inputs]
        ((value, _),) = interpret(jaxpr, marked, perform, lambda c: (c, False), CALLS | CUSTOM)
        return value

    square = jnp.zeros((), jnp.float64)
    rounded = as_function(jax.make_jaxpr(result)(square))
    found = attempt(compiled, jax.grad(rounded), [square])
    return found and float(jnp.sqrt(found[1][0]))


@jax.custom_vjp
def _rounded(u: Any, square: Any) -> Any:
    """Return u; the adjoint of `square` gains `(ε u ū)²`, with ū the adjoint of u."""
    del square
    return u


def _rounded_backward(u: Any, adjoint: Any) -> tuple[Any, Any]:
    moves = epsilon_of(u) * (u * adjoint).astype(jnp.float64)
    return adjoint, jnp.sum(jnp.nan_to_num(moves, posinf=0, neginf=0) ** 2)


_ = _rounded.defvjp(lambda u, square: (u, u), _rounded_backward)


def widened(jaxpr: jex.ClosedJaxpr) -> Callable[..., list[Any]]:
    """Return a jaxpr as a function in float64; NotImplementedError for a dtype that is fixed."""
    opens = CALLS | CUSTOM
    return lambda *inputs: interpret(jaxpr, [*map(as_wide, inputs)], _widely, as_wide, opens)


def _widely(equation: jex.JaxprEqn, operands: Sequence[Any]) -> Sequence[Any]:
    name = equation.primitive.name
    if name == "reduce_precision":
        return operands
    if name == "bitcast_convert_type":  # the bits are those of the dtype that it had
        (operand,), (var,) = operands, equation.invars
        return [as_wide(u) for u in bind(equation, [operand.astype(jnp.result_type(var.aval))])]
    if "callback" in name or name == "ffi_call":
        raise NotImplementedError(name)
    try:
        return [as_wide(u) for u in bind(map_parameters(_wide_parameter, equation), operands)]
    except NO_RULE as error:
        if equation.primitive in vars(primitives).values():  # JAX's own take every dtype
            raise
        raise NotImplementedError(name) from error


def _wide_parameter(value: Any) -> Any:
    """Return a parameter of an equation with float64 for each floating dtype in it."""
    if isinstance(value, jex.ClosedJaxpr):
        shapes = [jax.ShapeDtypeStruct(u.shape, _wide_parameter(u.dtype)) for u in value.in_avals]
        return jax.make_jaxpr(widened(value))(*shapes)
    is_inexact = isinstance(value, np.dtype) and jnp.issubdtype(value, jnp.inexact)
    return np.promote_types(value, np.float64) if is_inexact else value


def _is_real(value: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(value), jnp.floating)
