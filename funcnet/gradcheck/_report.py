"""The text of a gradient check: the verdict on the gradient, a row per leaf, a line per finding."""

import dataclasses
from typing import Any

MOST_FINDINGS = 10  # elements of a leaf that are shown


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """An element whose gradients differ, or that could not be decided.

    Attributes:
      path: its leaf.
      index: its index in the leaf.
      part: ".real" or ".imag" of a complex element.
      jax: its gradient by `jax.grad`; NaN where JAX has none.
      hand: its gradient by hand, or None.
      numerical: its numerical slope.
      bar: the error bar of the numerical slope.
      disagrees: the gradient that disagrees with the others, "jax.grad", "hand" or "forward mode";
        "none" where that is not decided.
    """

    path: str
    index: tuple[int, ...]
    jax: float
    hand: float | None
    numerical: float
    bar: float
    disagrees: str
    part: str = ""

    def __str__(self) -> str:
        """Return the element, its three values, and the gradient that disagrees."""
        index = "".join(f"[{i}]" for i in self.index)
        hand = "" if self.hand is None else f", hand {self.hand:.6g}"
        disagrees = "" if self.disagrees == "none" else f"; {self.disagrees} disagrees"
        return (
            f"{self.path}{index}{self.part}: jax {self.jax:.6g}{hand}, "
            f"numerical {self.numerical:.6g} ± {self.bar:.1e}{disagrees}"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeafReport:
    """The verdict on a leaf.

    Attributes:
      path: from the argument's name, for example `params.weight`.
      shape: its shape.
      dtype: its dtype.
      checked: which of its elements were checked.
      verdict: "match", "wrong", "kink", "undecided", "nonfinite" or "skipped".
      error: the largest difference of two gradients, relative to the leaf's largest gradient.
      looks_like: what a wrong gradient does instead, or None.
      findings: the elements, at most ten.
    """

    path: str
    shape: tuple[int, ...]
    dtype: Any
    checked: str
    verdict: str
    error: float = 0.0
    looks_like: str | None = None
    findings: tuple[Finding, ...] = ()

    def _row(self) -> tuple[str, ...]:
        array, error = f"{self.dtype}{list(self.shape)}", f"error {self.error:.1e}"
        return self.path, array, self.verdict, error, self.checked


@dataclasses.dataclass(frozen=True, kw_only=True)
class GradientReport:
    """The verdict on a gradient, with one report per leaf; `str(report)` is a table.

    Attributes:
      verdict: "pass", "fail" or "undecided".
      leaves: the leaves, as `jax.tree.leaves` orders them.
      remarks: what else there is to say, a sentence each.
    """

    verdict: str
    leaves: tuple[LeafReport, ...]
    remarks: tuple[str, ...] = ()

    @property
    def worst(self) -> Finding | None:
        """The first finding, or None."""
        return next((finding for leaf in self.leaves for finding in leaf.findings), None)

    @property
    def error(self) -> float:
        """The largest error of a leaf."""
        return max((leaf.error for leaf in self.leaves), default=0.0)

    def __str__(self) -> str:
        """Return the verdict, the leaves and the remarks."""
        rows = [leaf._row() for leaf in self.leaves]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [f"gradient check: {self.verdict}"]
        for leaf, row in zip(self.leaves, rows, strict=True):
            lines.append("  ".join(map(str.ljust, row, widths)).rstrip())
            lines += [f"  looks like: {leaf.looks_like}"] if leaf.looks_like else []
            lines += [f"  {finding}" for finding in leaf.findings]
        return "\n  ".join([*lines, *self.remarks])
