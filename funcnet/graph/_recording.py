"""A function called once: its arguments checked, its program recorded on a tape.

Errors of the user's function come through as they are, with a note of the arguments' shapes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from funcnet.graph import _names as naming
from funcnet.graph._nodes import is_differentiable
from funcnet.graph._tape import Tape, evaluate


def record(
    function: Callable[..., Any], args: tuple, kwargs: Mapping[str, Any], expand: frozenset[str]
) -> tuple[Tape, Any, list[str]]:
    """Runs a function.

    Args:
      function: any function that JAX can trace.
      args: its arguments, pytrees of arrays.
      kwargs: the same, by name.
      expand: names of operations to open.

    Returns:
      The tape, the output as a pytree of shapes and dtypes, and the names of the arguments.

    Raises:
      TypeError: an argument is not an array.
    """
    names = naming.argument_names(function, args, kwargs)
    leaves = jax.tree.leaves((args, kwargs))
    for name, leaf in zip(names, leaves, strict=True):
        _check_array(name, leaf)
    try:
        jaxpr, output = jax.make_jaxpr(function, return_shape=True)(*args, **kwargs)
    except Exception as error:
        shapes = [f"{n}: {_described(leaf)}" for n, leaf in zip(names, leaves, strict=True)]
        came = ", ".join(shapes) or "no arguments"
        error.add_note(f"{naming.function_name(function)} was traced with {came}.")
        raise
    return evaluate(jaxpr, leaves, expand), output, names


def seeds(tape: Tape, output: Any, cotangent: Any) -> list[tuple[int, Any]]:
    """Where the reverse sweep begins, and with which adjoints.

    Args:
      tape: of a run.
      output: its output as a pytree of shapes and dtypes.
      cotangent: a pytree like it; or `None`, 1 for an output that is a scalar.

    Raises:
      TypeError: the output is not of floats, or the cotangent not of arrays.
      ValueError: the output is not a scalar and there is no cotangent, or one of another shape.
    """
    leaves, structure = jax.tree.flatten(output)
    if cotangent is None:
        hint = ", or pass cotangent=, the adjoint to begin with, arrays of these shapes"
        return seed("trace", tape, output, hint)
    given, given_structure = jax.tree.flatten(cotangent)
    for leaf in given:
        _check_array("cotangent", leaf)
    if given_structure != structure or not all(map(_is_like, given, leaves)):
        raise ValueError(
            f"cotangent: expected arrays like the output, {jax.tree.map(_described, output)}; "
            f"got {jax.tree.map(_described, cotangent)}."
        )
    return [
        (place, jnp.asarray(adjoint, tape.values[place].dtype))
        for place, adjoint in zip(tape.outputs, given, strict=True)
        if is_differentiable(tape.values[place])
    ]


def seed(what: str, tape: Tape, output: Any, hint: str = "") -> list[tuple[int, Any]]:
    """Where the sweep begins for an output that is a scalar: with 1.

    Args:
      what: who asks, for the error.
      tape: of a run.
      output: its output as a pytree of shapes and dtypes.
      hint: what else to do than to reduce an output that is none.

    Raises:
      TypeError: the output is not of floats.
      ValueError: the output is not a scalar.
    """
    _check_scalar(what, jax.tree.leaves(output), hint)
    return [(tape.outputs[0], jnp.ones_like(tape.values[tape.outputs[0]]))]


def _is_like(given: Any, leaf: Any) -> bool:
    """Whether a cotangent has a shape and numbers that an output's adjoint can have."""
    is_complex = jnp.issubdtype(jnp.result_type(given), jnp.complexfloating)
    return np.shape(given) == leaf.shape and (
        not is_complex or jnp.issubdtype(leaf.dtype, jnp.complexfloating)
    )


def _described(leaf: Any) -> str:
    return f"{jnp.result_type(leaf)}{list(np.shape(leaf))}"


def check_callable(what: str, function: Any) -> None:
    """Refuses what is no function: most often the result of one."""
    if not callable(function):
        raise TypeError(
            f"{what}: expected a function; got {type(function).__name__}. Pass the function "
            f"itself, and its arguments to the result: {what}(function)(*args)."
        )


def check_values(args: tuple, kwargs: Mapping[str, Any]) -> None:
    """Refuses arguments that stand for arrays while JAX transforms a function."""
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((args, kwargs))):
        raise TypeError(
            "trace: expected arrays with values; inside jit, grad or vmap there are none. "
            "Call it outside: what is under jit inside of the function is opened."
        )


def check_floats(args: tuple, argnums: int | Sequence[int]) -> None:
    """Refuses arguments that nothing can be derived by."""
    for i in [argnums] if isinstance(argnums, int) else argnums:
        if not -len(args) <= i < len(args):
            raise ValueError(
                f"gradient: expected argnums below {len(args)}, the number of positional "
                f"arguments; got {i}."
            )
        for leaf in jax.tree.leaves(args[i]):
            if not is_differentiable(leaf):
                raise TypeError(
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
    raise TypeError(
        f"{name}: expected an array or a number; got {came}. Close over what is not an array of "
        "numbers: trace(lambda x: function(x, option))."
    )


def _check_scalar(what: str, leaves: Sequence[Any], hint: str) -> None:
    if len(leaves) != 1 or leaves[0].shape != ():
        shapes = ", ".join(map(_described, leaves)) or "nothing"
        raise ValueError(
            f"{what}: expected a function with a scalar output; it returned {shapes}. Reduce it, "
            f"as with jnp.mean{hint}."
        )
    if not jnp.issubdtype(leaves[0].dtype, jnp.floating):
        raise TypeError(
            f"{what}: expected an output of floats; it is {leaves[0].dtype}, and has no gradient. "
            "Write 1.0 instead of 1, and of a complex number give a real part or a norm."
        )
