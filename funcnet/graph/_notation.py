"""How numbers, arrays and operations are written: `−0.5`, `[32, 10]`, `w3 · b`, `∂L/∂w1`."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Operand(str):
    """The name of an operand, or its number; beside a sign a negative number stands in brackets.

    >>> a = Operand("−5")
    >>> f"x − {a}", f"max(x, {a!s})"
    ('x − (−5)', 'max(x, −5)')
    """

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        """The operand beside a sign; `{a!s}` is the operand alone."""
        return f"({self!s})" if self.startswith("−") else str(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Formula:
    """A local derivative in symbols; for a linear map, what becomes of the adjoint `ȳ`.

    Attributes:
      before: the text before `ȳ`; the whole derivative where it is an array.
      after: the text after `ȳ`; `None` where the derivative is an array.
      encloses: whether a fraction in the place of `ȳ` needs brackets: `(∂L/∂y)ᵀ`.

    >>> str(Formula(before="2 x")), str(Formula(before="aᵀ ", after=""))
    ('2 x', 'aᵀ ȳ')
    """

    before: str
    after: str | None = None
    encloses: bool = False

    def __str__(self) -> str:
        """The formula as text."""
        return self.before if self.after is None else f"{self.before}ȳ{self.after}"


EXPRESSIONS: Mapping[str, Callable[..., str]] = MappingProxyType(
    {
        "add": lambda a, b: f"{a} + {b}",
        "add_any": lambda a, b: f"{a} + {b}",
        "sub": lambda a, b: f"{a} − {b}",
        "mul": lambda a, b: f"{a} · {b}",
        "div": lambda a, b: f"{a} / {b}",
        "neg": lambda a: f"−{a}",
        "pow": lambda a, b: f"{a} ^ {b}",
        "square": lambda a: f"{a}²",
        "sqrt": lambda a: f"√{a}",
        "abs": lambda a: f"|{a!s}|",
        "logistic": lambda a: f"σ({a!s})",
        "dot_general": lambda a, b: f"{a} @ {b}",
        "reduce_sum": lambda a: f"Σ {a}",
        "reduce_max": lambda a: f"max {a}",
        "reduce_min": lambda a: f"min {a}",
        "broadcast_in_dim": lambda a: f"broadcast {a}",
        "reshape": lambda a: f"reshape {a}",
        "squeeze": lambda a: f"squeeze {a}",
        "transpose": lambda a: f"{a}ᵀ",
        "lt": lambda a, b: f"{a} < {b}",
        "le": lambda a, b: f"{a} ≤ {b}",
        "gt": lambda a, b: f"{a} > {b}",
        "ge": lambda a, b: f"{a} ≥ {b}",
        "eq": lambda a, b: f"{a} = {b}",
        "ne": lambda a, b: f"{a} ≠ {b}",
    }
)
"""Operations with a sign of their own; the rest are written `name(operands)`."""


def expression(operation: str, names: Sequence[str], parameters: Mapping[str, Any]) -> str:
    """Return an operation as it is written in a formula.

    >>> expression("mul", ["w1", "a"], {}), expression("integer_pow", ["x"], {"y": -2})
    ('w1 · a', 'x⁻²')
    >>> expression("sub", ["x", "−3"], {}), expression("max", ["x", "−3"], {})
    ('x − (−3)', 'max(x, −3)')
    """
    operands = list(map(Operand, names))
    match operation, operands:
        case "integer_pow", [a]:
            return f"{a}{str(parameters['y']).translate(_SUPERSCRIPTS)}"
        case "convert_element_type", [a]:
            return f"{parameters['new_dtype']}({a!s})"
        case "index", [a]:
            return f"{a!s}[{parameters['at']}]"
        case "select_n", [which, no, yes]:
            return f"where({which!s}, {yes!s}, {no!s})"
    written = EXPRESSIONS.get(operation)
    return written(*operands) if written else call(operation, operands)


def call(name: str, operands: Sequence[str]) -> str:
    """Return a function with its arguments; of more than four, the first three.

    >>> call("sigmoid", ["z"]), call("concatenate", list("abcdefg"))
    ('sigmoid(z)', 'concatenate(a, b, c, …)')
    """
    shown = [*operands[:3], "…"] if len(operands) > 4 else operands
    return f"{name}({', '.join(shown)})"


def number(x: Any) -> str:
    """Return a number as a slide shows it: four digits, whole numbers below 10⁷ in full.

    >>> number(-0.5), number(22500.0), number(1e-7), number(True), number(float("inf"))
    ('−0.5', '22500', '1e−07', 'True', '∞')
    """
    item = np.asarray(x).item()
    digits = 7 if isinstance(item, float) and item.is_integer() else 4
    text = f"{item:.{digits}g}" if isinstance(item, float) else str(item)
    return text.replace("-", "−").replace("inf", "∞")


def factor(x: Any) -> str:
    """Return a number as a factor of a product: `(−1)`."""
    return f"({number(x)})"


def shape(array: ArrayLike) -> str:
    """Return the shape of an array, `[32, 10]`; nothing for a scalar."""
    sizes = np.shape(array)
    return f"[{', '.join(map(str, sizes))}]" if sizes else ""


def summary(array: ArrayLike | None) -> str:
    """Return the number of a scalar; for an array, its shape and its range.

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


def fraction(of: str, by: str, d: str = "∂") -> tuple[str, str]:
    """Return both sides of `∂L/∂w1`; a name of several words stands in brackets.

    >>> fraction("L", "w1"), fraction("a + b", "w1")
    (('∂L', '∂w1'), ('∂(a + b)', '∂w1'))
    """
    above, below = (f"({name})" if " " in name else name for name in (of, by))
    return f"{d}{above}", f"{d}{below}"


def derivative(of: str, by: str, d: str = "∂") -> str:
    """Return `∂L/∂w1`.

    >>> derivative("L", "w1"), derivative("L", "x", "d")
    ('∂L/∂w1', 'dL/dx')
    """
    return "/".join(fraction(of, by, d))
