"""How numbers, arrays and operations are written: `−0.5`, `[32, 10]`, `w3 · b`, `∂L/∂w1`."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Operand(str):
    """The name of an operand, or its number: `x − (−5)`; `{a!s}` is without brackets: `|−5|`."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        return f"({self!s})" if self.startswith("−") else str(self)


_SIGNS = {"add": "+", "add_any": "+", "sub": "−", "mul": "·", "div": "/", "pow": "^"}
_SIGNS |= {"lt": "<", "le": "≤", "gt": ">", "ge": "≥", "eq": "=", "ne": "≠", "dot_general": "@"}

EXPRESSIONS = {name: f"{{}} {sign} {{}}" for name, sign in _SIGNS.items()} | {
    "neg": "−{}",
    "square": "{}²",
    "sqrt": "√{}",
    "abs": "|{!s}|",
    "logistic": "σ({!s})",
    "reduce_sum": "Σ {}",
    "reduce_max": "max {}",
    "reduce_min": "min {}",
    "broadcast_in_dim": "broadcast {}",
    "reshape": "reshape {}",
    "squeeze": "squeeze {}",
    "transpose": "{}ᵀ",
    "convert_element_type": "{new_dtype}({!s})",
    "index": "{!s}[{at}]",
}
"""Operations with a form of their own, from operands and parameters; the rest are calls."""


def expression(operation: str, names: Sequence[str], parameters: Mapping[str, Any]) -> str:
    """Return an operation as it is written in a formula."""
    operands = list(map(Operand, names))
    if operation == "integer_pow":
        return f"{operands[0]}{str(parameters['y']).translate(_SUPERSCRIPTS)}"
    if operation == "select_n" and len(operands) == 3:
        return "where({0!s}, {2!s}, {1!s})".format(*operands)
    written = EXPRESSIONS.get(operation)
    return written.format(*operands, **parameters) if written else call(operation, operands)


def call(name: str, operands: Sequence[str]) -> str:
    """Return a function with its arguments; of more than four, the first three."""
    shown = [*operands[:3], "…"] if len(operands) > 4 else operands
    return f"{name}({', '.join(shown)})"


def number(x: Any) -> str:
    """Return a number as a slide shows it: four digits, whole numbers below 10⁷ in full."""
    item = np.asarray(x).item()
    digits = 7 if isinstance(item, float) and item.is_integer() else 4
    text = f"{item:.{digits}g}" if isinstance(item, float) else str(item)
    return text.replace("-", "−").replace("inf", "∞")


def factor(x: Any) -> str:
    return f"({number(x)})"


def shape(array: ArrayLike) -> str:
    """Return the shape of an array, `[32, 10]`; nothing for a scalar."""
    sizes = np.shape(array)
    return f"[{', '.join(map(str, sizes))}]" if sizes else ""


def summary(array: ArrayLike | None) -> str:
    """Return the number of a scalar; for an array, its shape and its range."""
    if isinstance(array, jax.Array) and jnp.issubdtype(array.dtype, jax.dtypes.extended):
        return f"{shape(array)} {array.dtype}".lstrip()  # a random key has no numbers
    values = np.asarray(array)
    if values.ndim == 0:
        return number(values)
    if values.size == 0:
        return f"{shape(values)} empty"
    return f"{shape(values)} {number(values.min())} … {number(values.max())}"


def fraction(of: str, by: str, d: str = "∂") -> tuple[str, str]:
    """Return both sides of `∂L/∂w1`; a name of several words stands in brackets."""
    above, below = (f"({name})" if " " in name else name for name in (of, by))
    return f"{d}{above}", f"{d}{below}"


def derivative(of: str, by: str, d: str = "∂") -> str:
    """Return `∂L/∂w1`, or `dL/dw1`."""
    return "/".join(fraction(of, by, d))
