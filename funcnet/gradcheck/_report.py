"""What a gradient check found: a verdict for the whole, a record a leaf, a finding an element."""

import dataclasses
from typing import Any, NamedTuple

MOST_FINDINGS = 10
"""So many elements of a leaf are shown."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """An element whose roads differ, or that could not be decided.

    Attributes:
      path: its leaf.
      index: its place in the leaf.
      part: ".real" or ".imag" of a complex one.
      jax: what `jax.grad` says.
      hand: what the gradient by hand says, or None.
      numerical: what numerical differentiation says.
      bar: how far that may be off.
      road: which road disagrees with the others; "none" where that is not decided.
    """

    path: str
    index: tuple[int, ...]
    jax: float
    hand: float | None
    numerical: float
    bar: float
    road: str
    part: str = ""

    def __str__(self) -> str:
        """The element, its three values, and the road that is off."""
        place = "".join(f"[{i}]" for i in self.index)
        hand = "" if self.hand is None else f", hand {self.hand:.6g}"
        road = "" if self.road == "none" else f"; {self.road} disagrees"
        return (
            f"{self.path}{place}{self.part}: jax {self.jax:.6g}{hand}, "
            f"numerical {self.numerical:.6g} ± {self.bar:.1e}{road}"
        )


class LeafReport(NamedTuple):
    """What was found out about a leaf.

    Attributes:
      path: from the argument's name, for example `params.weight`.
      shape: its shape.
      dtype: its dtype.
      checked: how it was looked at.
      verdict: "match", "wrong", "kink", "undecided", "nonfinite" or "skipped".
      error: the largest difference between two roads, relative to the leaf's largest gradient.
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

    @property
    def cells(self) -> tuple[str, ...]:
        """A row of the table: path, type, verdict, error, and how it was looked at."""
        kind = f"{self.dtype}{list(self.shape)}"
        return self.path, kind, self.verdict, f"error {self.error:.1e}", self.checked

    @property
    def details(self) -> list[str]:
        """The lines below the row: what a wrong gradient looks like, and its findings."""
        looks = [f"  looks like: {self.looks_like}"] * bool(self.looks_like)
        return [*looks, *(f"  {finding}" for finding in self.findings)]


class GradientReport(NamedTuple):
    """The verdict on a gradient, with a record a leaf; `str(report)` is a table.

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
        """The verdict, the leaves and the remarks."""
        rows = [leaf.cells for leaf in self.leaves]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [f"gradient check: {self.verdict}"]
        for leaf, cells in zip(self.leaves, rows, strict=True):
            lines.append("  ".join(map(str.ljust, cells, widths)).rstrip())
            lines += leaf.details
        return "\n  ".join([*lines, *self.remarks])


def whole(leaves: tuple[LeafReport, ...]) -> str:
    """The verdict on a gradient, from those on its leaves.

    >>> row = LeafReport(path="x", shape=(), dtype="float32", checked="all", verdict="undecided")
    >>> whole((row, row._replace(verdict="match"))), whole((row, row._replace(verdict="wrong")))
    ('undecided', 'fail')
    """
    verdicts = {leaf.verdict for leaf in leaves}
    if verdicts & {"wrong", "nonfinite"}:
        return "fail"
    return "undecided" if "undecided" in verdicts else "pass"
