"""How numbers, arrays and operations are written: `−0.5`, `[32, 10]`, `w3 · b`, `∂L/∂w1`."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

EXPRESSIONS: Mapping[str, str] = MappingProxyType(
    {
        "add": "{} + {}",
        "add_any": "{} + {}",
        "sub": "{} − {}",
        "mul": "{} · {}",
        "div": "{} / {}",
        "neg": "−{}",
        "pow": "{} ^ {}",
        "square": "{}²",
        "sqrt": "√{}",
        "abs": "|{}|",
        "logistic": "σ({})",
        "dot_general": "{} @ {}",
        "reduce_sum": "Σ {}",
        "reduce_max": "max {}",
        "reduce_min": "min {}",
        "broadcast_in_dim": "broadcast {}",
        "reshape": "reshape {}",
        "squeeze": "squeeze {}",
        "transpose": "{}ᵀ",
        "lt": "{} < {}",
        "le": "{} ≤ {}",
        "gt": "{} > {}",
        "ge": "{} ≥ {}",
        "eq": "{} = {}",
        "ne": "{} ≠ {}",
    }
)
"""Operations that have a sign of their own; the others are written `name(operands)`."""


def number(x: Any) -> str:
    """A number as a slide has it: four digits, whole numbers below 10⁷ in full, a true minus.

    >>> number(-0.5), number(22500.0), number(1e-7), number(True), number(float("inf"))
    ('−0.5', '22500', '1e−07', 'True', '∞')
    """
    item = np.asarray(x).item()
    digits = 7 if isinstance(item, float) and item.is_integer() else 4
    text = f"{item:.{digits}g}" if isinstance(item, float) else str(item)
    return text.replace("-", "−").replace("inf", "∞")


def factor(x: Any) -> str:
    """A number as a factor of a product: `(−1)`."""
    return f"({number(x)})"


def operand(text: str) -> str:
    """What stands between signs: in brackets where it begins with one.

    >>> operand("x"), operand("−5")
    ('x', '(−5)')
    """
    return f"({text})" if text.startswith("−") else text


def shape(array: ArrayLike) -> str:
    """The shape of an array, `[32, 10]`; nothing for a scalar."""
    sizes = np.shape(array)
    return f"[{', '.join(map(str, sizes))}]" if sizes else ""


def summary(array: ArrayLike | None) -> str:
    """A scalar's number; of an array the shape and the range.

    >>> summary(np.array(-15.0)), summary(np.array([[1.0, 2.5]]))
    ('−15', '[1, 2] 1 … 2.5')
    """
    if isinstance(array, jax.Array) and jnp.issubdtype(array.dtype, jax.dtypes.extended):
        return f"{shape(array)} {array.dtype}".lstrip()  # a random key has no numbers
    values = np.asarray(array)
    if values.ndim == 0:
        return number(values)
    if values.size == 0:
        return f"{shape(values)} empty"
    return f"{shape(values)} {number(values.min())} … {number(values.max())}"


def derivative(of: str, by: str, d: str = "∂") -> str:
    """`∂L/∂w1`; a name that is no word stands in brackets.

    >>> derivative("L", "w1"), derivative("a + b", "w1"), derivative("L", "x", "d")
    ('∂L/∂w1', '∂(a + b)/∂w1', 'dL/dx')
    """
    return f"{d}{_bracketed(of)}/{d}{_bracketed(by)}"


def _bracketed(name: str) -> str:
    return f"({name})" if " " in name else name


def expression(operation: str, operands: Sequence[str], parameters: Mapping[str, Any]) -> str:
    """An operation as it is written in a formula.

    >>> expression("mul", ["w1", "a"], {}), expression("integer_pow", ["x"], {"y": -2})
    ('w1 · a', 'x⁻²')
    >>> expression("sub", ["x", "−3"], {}), expression("max", ["x", "−3"], {})
    ('x − (−3)', 'max(x, −3)')
    """
    if operation == "integer_pow":
        return f"{operand(operands[0])}{str(parameters['y']).translate(_SUPERSCRIPTS)}"
    if operation == "convert_element_type":
        return f"{parameters['new_dtype']}({operands[0]})"
    if operation == "index":
        return f"{operands[0]}[{parameters['at']}]"
    if operation == "select_n" and len(operands) == 3:
        return f"where({operands[0]}, {operands[2]}, {operands[1]})"
    template = EXPRESSIONS.get(operation)
    if template and template.count("{}") <= len(operands):
        return template.format(*(operands if template[-1] in ")|" else map(operand, operands)))
    return call(operation, operands)


def formula(template: str, **letters: str) -> str:
    """A local derivative with the names of its operands.

    >>> formula("1 / {b}", b="−3"), formula("{b}", b="−3")
    ('1 / (−3)', '−3')
    """
    alone = template[1:-1] in letters
    return template.format(**{k: v if alone else operand(v) for k, v in letters.items()})


def call(name: str, operands: Sequence[str]) -> str:
    """A function with its arguments; of many the first.

    >>> call("sigmoid", ["z"]), call("concatenate", list("abcdefg"))
    ('sigmoid(z)', 'concatenate(a, b, c, …)')
    """
    shown = [*operands[:3], "…"] if len(operands) > 4 else operands
    return f"{name}({', '.join(shown)})"
