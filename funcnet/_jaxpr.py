"""What a traced program says about a function: its precision, its size, and what it hides."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
from jax.extend.core import primitives

CALLS = frozenset(
    primitive.name for primitive in (primitives.jit_p, primitives.closed_call_p, primitives.remat_p)
)
"""Operations that do no more than what the program inside them does."""

CUSTOM = frozenset(
    primitive.name for primitive in (primitives.custom_jvp_call_p, primitives.custom_vjp_call_p)
)
"""Functions with a derivative of their own; their values are those of the program inside them."""


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


def held(jaxpr: jex.Jaxpr) -> set[tuple[int, ...]]:
    """The shapes of the arrays that a program holds, beside its inputs.

    >>> held(jax.make_jaxpr(lambda x: jnp.sum(x * np.ones([5, 1])))(1.0).jaxpr) - {()}
    {(5, 1)}
    """
    atoms = [atom for equation in jaxpr.eqns for atom in equation.invars]
    constants = [*jaxpr.constvars, *(atom for atom in atoms if isinstance(atom, jex.Literal))]
    inner = [held(inner) for equation in jaxpr.eqns for inner in _inner(equation)]
    return {constant.aval.shape for constant in constants}.union(*inner)


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
            case tuple():
                return _mapped(visible, value)
        return value

    def seen(equation: jex.JaxprEqn) -> jex.JaxprEqn:
        if equation.primitive is primitives.stop_gradient_p:
            return equation.replace(primitive=primitives.copy_p, params={})
        return equation.replace(params={k: visible(v) for k, v in equation.params.items()})

    return jaxpr.replace(eqns=[seen(equation) for equation in jaxpr.eqns])


def _inner(equation: jex.JaxprEqn) -> list[jex.Jaxpr]:
    """The programs inside an equation: a loop's body, a branch, a compiled function."""
    return list(jex.jaxprs_in_params(equation.params))


def rounding(program: jex.ClosedJaxpr, inputs: Sequence[Any]) -> float:
    """The rounding noise of a program's one result, to first order.

    Each number u that the inputs move is rounded by `ε u`, which moves the result by `ε u ū` with
    ū its adjoint: the root of the sum of their squares. Derivatives are those of the values,
    whatever rules a function brings; a loop counts as one step.

    >>> with jax.enable_x64(True):
    ...     offset = jax.make_jaxpr(lambda x: (x + 1e6) - 1e6)(1.0)
    ...     2e-10 < rounding(offset, [jnp.ones(())]) < 4e-10
    True
    """
    shapes: list[jax.ShapeDtypeStruct] = []

    def noted(equation: jex.JaxprEqn, operands: Sequence[Any], moved: bool) -> Sequence[Any]:
        results = bind(equation, operands)
        shapes.extend(
            jax.ShapeDtypeStruct(u.shape, u.dtype) for u in results if moved and _is_real(u)
        )
        return results

    def result(shifts: Sequence[Any]) -> Any:
        rest = iter(shifts)

        def shifted(equation: jex.JaxprEqn, operands: Sequence[Any], moved: bool) -> list[Any]:
            results = bind(equation, operands)
            return [u * (1 + next(rest)) if moved and _is_real(u) else u for u in results]

        return _run(program, inputs, shifted)[0]

    def noise() -> Any:
        products = jax.grad(result)([jnp.zeros(shape.shape, shape.dtype) for shape in shapes])
        finite = [jnp.nan_to_num(uu.astype(jnp.float64), posinf=0, neginf=0) for uu in products]
        squares = [
            jnp.sum((float(jnp.finfo(shape.dtype).eps) * uu) ** 2)
            for shape, uu in zip(shapes, finite, strict=True)
        ]
        return jnp.sqrt(sum(squares))

    _ = jax.eval_shape(lambda: _run(program, inputs, noted))
    return float(jax.jit(noise)()) if shapes else 0.0


def widened(program: jex.ClosedJaxpr) -> Callable[..., list[Any]]:
    """The same program with every floating number in float64, whatever it is rounded to inside.

    >>> with jax.enable_x64(True):
    ...     rounds = jax.make_jaxpr(lambda x: x.astype(jnp.bfloat16) * 3)(1.0)
    ...     widened(rounds)(0.1)[0].item()
    0.30000000000000004

    Raises:
      ValueError: the program calls back to Python, which knows what dtype it expects.
    """
    wide = program.replace(consts=list(map(_widened_value, program.consts)))
    return lambda *inputs: _run(wide, list(map(_widened_value, inputs)), _widely, _widened_value)


def _widely(equation: jex.JaxprEqn, operands: Sequence[Any], moved: bool) -> Sequence[Any]:
    """Carries out an equation on float64 numbers."""
    del moved
    name = equation.primitive.name
    if "callback" in name:
        raise ValueError(f"widened: expected a program without callbacks; got {name}.")
    if name == "reduce_precision":
        return operands
    if name != "bitcast_convert_type":
        wide = {key: _widened_parameter(value) for key, value in equation.params.items()}
        equation = equation.replace(params=wide)
    return list(map(_widened_value, bind(equation, operands)))


def _widened_parameter(value: Any) -> Any:
    """A parameter of an equation: a dtype, or a program within it, made float64."""
    match value:
        case jex.ClosedJaxpr():
            avals = [var.aval for var in value.jaxpr.invars]
            shapes = [jax.ShapeDtypeStruct(aval.shape, _wide(aval.dtype)) for aval in avals]
            return jax.make_jaxpr(widened(value))(*shapes)
        case tuple():
            return _mapped(_widened_parameter, value)
        case np.dtype():
            return _wide(value)
    return value


def _widened_value(value: Any) -> Any:
    return jnp.asarray(value, jnp.float64) if _is_real(value) else value


def _mapped(function: Callable, values: tuple) -> tuple:
    """A tuple, or a named one, of the results."""
    results = map(function, values)
    return type(values)(*results) if hasattr(values, "_fields") else tuple(results)


def _wide(dtype: Any) -> Any:
    return np.dtype(np.float64) if jnp.issubdtype(dtype, jnp.floating) else dtype


def _is_real(value: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(value), jnp.floating)


def bind(equation: jex.JaxprEqn, operands: Sequence[Any]) -> tuple[Any, ...]:
    """Carries out an equation, under the settings that it was traced under."""
    parameters = equation.primitive.get_bind_params(equation.params)
    with equation.ctx.manager:
        results = equation.primitive.bind(*operands, **parameters)
    return tuple(results) if equation.primitive.multiple_results else (results,)


def called(parameters: Mapping[str, Any]) -> jex.ClosedJaxpr:
    """The program inside a call, or inside a function with a derivative of its own."""
    programs = (jex.ClosedJaxpr, jex.Jaxpr)
    (inner,) = [value for value in parameters.values() if isinstance(value, programs)]
    return inner if isinstance(inner, jex.ClosedJaxpr) else jex.ClosedJaxpr(inner, ())


def interpret(
    program: jex.ClosedJaxpr,
    inputs: Sequence[Any],
    perform: Callable[[jex.JaxprEqn, list[Any]], Sequence[Any]],
    constant: Callable[[Any], Any] = lambda value: value,
) -> list[Any]:
    """Run a jaxpr equation by equation: the one interpreter of funcnet.

    What a value is, the caller decides: an array, the place of an array on a tape, an array with a
    mark. `perform` turns the operands of an equation into its results, and may interpret the jaxpr
    within a call in turn.

    Args:
      program: as `jax.make_jaxpr` returns it.
      inputs: one value for each input of the jaxpr.
      perform: `(equation, operands) -> results`.
      constant: turns a constant or a literal, an array, into a value.

    Returns:
      One value for each output.

    >>> program = jax.make_jaxpr(lambda x: 2 * x + 1)(3.0)
    >>> interpret(program, [3.0], bind)
    [Array(7., dtype=float32, weak_type=True)]
    """
    jaxpr = program.jaxpr
    values = dict(zip(jaxpr.constvars, map(constant, program.consts), strict=True))
    values.update(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Any:
        return constant(atom.val) if isinstance(atom, jex.Literal) else values[atom]

    for equation in jaxpr.eqns:
        results = perform(equation, [read(atom) for atom in equation.invars])
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _run(
    program: jex.ClosedJaxpr,
    inputs: Sequence[Any],
    perform: Callable[[jex.JaxprEqn, Sequence[Any], bool], Sequence[Any]],
    literal: Callable[[Any], Any] = lambda value: value,
    moved: frozenset[int] | None = None,
) -> list[Any]:
    """Runs a program; calls within it are opened, and `perform` carries out all else.

    It is told of each equation whether it depends on the inputs that are moved: all, or these.
    """
    jaxpr = program.jaxpr
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*program.consts, *inputs], strict=True))
    moving = {var for i, var in enumerate(jaxpr.invars) if moved is None or i in moved}

    def read(atom: Any) -> Any:
        return literal(atom.val) if isinstance(atom, jex.Literal) else values[atom]

    for equation in jaxpr.eqns:
        operands = list(map(read, equation.invars))
        which = [i for i, a in enumerate(equation.invars) if isinstance(a, jex.Var) and a in moving]
        if which:
            moving.update(equation.outvars)
        if equation.primitive.name in CALLS | CUSTOM:
            results = _run(called(equation.params), operands, perform, literal, frozenset(which))
        else:
            results = perform(equation, operands, bool(which))
        values.update(zip(equation.outvars, results, strict=True))
    return list(map(read, jaxpr.outvars))


def positional_names(function: Callable[..., Any], count: int) -> list[str]:
    """What a function calls its positional arguments, so many of them.

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
