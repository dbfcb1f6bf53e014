"""A call on the command line: `package.module:name` and `'(1.0, [2.0, 3.0])'`."""

import ast
import contextlib
import importlib
import inspect
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from funcnet.base import UsageError, did_you_mean


def load_function(path: str) -> Callable[..., Any]:
    """Return the function `package.module:name`. The working directory is searched first."""
    module_name, _, name = path.partition(":")
    if not module_name or not name:
        raise UsageError(f"function: expected package.module:name; got {path!r}.")
    sys.path.insert(0, "")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a user's module may raise anything
        raise UsageError(f"function: cannot import {module_name}: {_reason(error)}.") from error
    if not callable(getattr(module, name, None)):
        hint = did_you_mean(name, [key for key, value in vars(module).items() if callable(value)])
        raise UsageError(f"function: {module_name} has no function {name!r}.{hint}")
    return getattr(module, name)


def parse_arguments(text: str) -> tuple[Any, ...]:
    """Return arguments that are written in Python or JSON: a tuple or list of them, or one alone.

    A list of numbers inside of them is an array.

    >>> parse_arguments("([1.0, 2.0],)"), parse_arguments("[1.0, 2.0]")
    ((array([1., 2.]),), (1.0, 2.0))
    """
    for read in (ast.literal_eval, json.loads):
        try:
            value = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        args = tuple(value) if isinstance(value, tuple | list) else (value,)
        return jax.tree.map(_array, args, is_leaf=lambda x: isinstance(x, list))
    raise UsageError(f"args: expected Python or JSON, as '(1.0, [2.0, 3.0])'; got {text!r}.")


def _array(value: Any) -> Any:
    """Return an array for a list of numbers; anything else as it is."""
    if not isinstance(value, list):
        return value
    try:
        array = np.array(value)
    except ValueError as error:
        raise UsageError(f"args: expected rows of one length; got {value}.") from error
    if array.dtype.kind not in "biufc":
        raise UsageError(f"args: expected a list of numbers; got {value}.")
    return array


def call(
    transform: Callable[..., Callable[..., Any]], function: Callable[..., Any], args: Sequence[Any]
) -> Any:
    """Return `transform(function)(*args)`, and tell an error of the function in one line."""
    _check_signature(function, args)
    try:
        return transform(function)(*args)
    except Exception as error:
        notes = getattr(error, "__notes__", ())
        if not notes:  # the error does not come from the user's function
            raise
        raise UsageError(f"function: {_reason(error).rstrip('.')}. {notes[-1]}") from error


def _check_signature(function: Callable[..., Any], args: Sequence[Any]) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin tells none
        return
    try:
        _ = signature.bind(*args)
    except TypeError as error:
        hint = ""
        with contextlib.suppress(TypeError):
            _ = signature.bind(args)  # the numbers of one array were taken for arguments
            array = [a.tolist() if isinstance(a, np.ndarray) else a for a in args]
            hint = f" For one array write '({array},)': the outermost brackets hold the arguments."
        raise UsageError(
            f"args: expected arguments for {getattr(function, '__name__', 'it')}{signature}: "
            f"{error}; got {len(args)}.{hint}"
        ) from error


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), 'no message')}"
