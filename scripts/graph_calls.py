"""A call that is written on the command line: `package.module:name` and `'(1.0, [2.0, 3.0])'`."""

import ast
import importlib
import inspect
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcnet.base import did_you_mean


def load_function(path: str) -> Callable[..., Any]:
    """The function that `package.module:name` names; modules of the working directory are found.

    Raises:
      ValueError: there is no such module, it fails when it is imported, or has no such function.
    """
    module_name, _, name = path.partition(":")
    if not module_name or not name:
        raise ValueError(f"--function: expected package.module:name; got {path!r}.")
    sys.path.insert(0, "")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever the module does
        reason = f"{type(error).__name__}: {_first_line(error)}"
        raise ValueError(f"--function: cannot import {module_name}: {reason}.") from error
    if not callable(getattr(module, name, None)):
        hint = did_you_mean(name, [key for key, value in vars(module).items() if callable(value)])
        raise ValueError(f"--function: {module_name} has no function {name!r}.{hint}")
    return getattr(module, name)


def parse_arguments(text: str) -> tuple[Any, ...]:
    """Arguments written in Python or JSON: a tuple or list of them, or the only one.

    A list of numbers inside of them is an array: `([1.0, 2.0],)` is one, `[1.0, 2.0]` two numbers.

    Raises:
      ValueError: it is neither, or a list is no array.
    """
    for read in (ast.literal_eval, json.loads):
        try:
            value = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return tuple(map(_with_arrays, value if isinstance(value, tuple | list) else [value]))
    raise ValueError(f"--args: expected Python or JSON, as '(1.0, [2.0, 3.0])'; got {text!r}.")


def _with_arrays(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_arrays(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(map(_with_arrays, value))
    return _array(value) if isinstance(value, list) else value


def _array(numbers: list[Any]) -> np.ndarray:
    try:
        array = np.array(numbers)
    except ValueError as error:
        raise ValueError(f"--args: expected rows of one length; got {numbers}.") from error
    if array.dtype.kind not in "biufc":
        raise ValueError(f"--args: expected a list of numbers; got {numbers}.")
    return array


def run_call(call: Callable[..., Any], function: Callable[..., Any], args: Sequence[Any]) -> Any:
    """`call(*args)`, where an error of the user's function is told in one line.

    Args:
      call: what is done with the function: `fn.trace(function)`.
      function: the user's.
      args: its arguments.

    Raises:
      ValueError: the arguments don't fit the function's signature, or the function fails.
    """
    _check_signature(function, args)
    try:
        return call(*args)
    except Exception as error:
        notes = getattr(error, "__notes__", ())
        if not notes:  # not the user's function, but a message of funcnet's
            raise
        reason = f"{type(error).__name__}: {_first_line(error)}"
        raise ValueError(f"--function: {reason.rstrip('.')}. {notes[-1]}") from error


def _check_signature(function: Callable[..., Any], args: Sequence[Any]) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin tells none
        return
    try:
        _ = signature.bind(*args)
    except TypeError as error:
        raise ValueError(
            f"--args: expected arguments for {getattr(function, '__name__', 'it')}{signature}: "
            f"{error}; got {len(args)}.{_one_array(signature, args)}"
        ) from error


def _one_array(signature: inspect.Signature, args: Sequence[Any]) -> str:
    """What to write if the numbers of one array were taken for arguments."""
    try:
        _ = signature.bind(args)
    except TypeError:
        return ""
    array = [a.tolist() if isinstance(a, np.ndarray) else a for a in args]
    return f" For one array write '({array},)': the outermost brackets hold the arguments."


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "no message")
