"""What the benchmark is to show, and whether it does."""

import math
from collections.abc import Iterator
from typing import NamedTuple

from measuring import WholeProcess
from reporting import Report, Workload, is_trained, markdown

SOFTMAX, LARGE = "softmax, batch 128", "mlp 784-512-512-10"
SWEEP, MODELS = "funcnet, one of 64 models", 64

FASTER = (
    (SOFTMAX, "PyTorch, DataLoader", 12),
    (SOFTMAX, "PyTorch, in memory", 6),
    (SOFTMAX, "Equinox", 2.8),
    (SOFTMAX, "Flax (nnx)", 2.8),
    (SOFTMAX, "JAX, from scratch", 2.8),
    (SOFTMAX, "NumPy by hand", 2),
    (LARGE, "PyTorch, in memory", 1.7),
)
"""A workload, a peer, and how many times faster than it funcnet is to be."""


class Goal(NamedTuple):
    """A figure that was asked for.

    Attributes:
      what: was measured.
      against: what it is compared with.
      asked: the figure.
      most: whether it is the most that it may be, rather than the least.
      measured: the figure that it is; NaN where something is missing or void.
    """

    what: str
    against: str
    asked: float
    most: bool
    measured: float

    @property
    def verdict(self) -> str:
        """In a word."""
        if math.isnan(self.measured):
            return "not measured"
        reached = self.measured <= self.asked if self.most else self.measured >= self.asked
        return "reached" if reached else "missed"


def goals(report: Report) -> Iterator[Goal]:
    """Those that a report can say something about."""
    races = report.workloads
    for name, peer, asked in FASTER:
        if name in races:
            yield Goal(name, f"{peer}: times faster", asked, False, races[name].times(peer))
    if SOFTMAX in races:
        softmax = races[SOFTMAX]
        yield Goal(SOFTMAX, "the floor: times it", 4, True, softmax.floors("funcnet"))
        yield from _goals_of_sweep(softmax)
    if LARGE in races:
        rate = races[LARGE].rate(report.limits)
        yield Goal(LARGE, "the matrix rate: share of it", 0.75, False, rate)
    if "examples" in report.growth:
        exponent = report.growth["examples"].exponent
        yield Goal("growth in examples", "exponent", 1.05, True, exponent)
    if report.cold:
        yield from _goals_of_processes(report)


def _goals_of_sweep(softmax: Workload) -> Iterator[Goal]:
    one = softmax.times(SWEEP)
    faster = softmax.times("PyTorch, in memory") / one
    what = f"sweep of {MODELS} softmax models"
    yield Goal(what, "PyTorch, in memory, a model: times faster", 16, False, faster)
    yield Goal(what, "one model: times as long", 24, True, MODELS * one)


def _goals_of_processes(report: Report) -> Iterator[Goal]:
    ours = _seconds(report.cold["funcnet"])
    pytorch = _seconds(report.cold["PyTorch, in memory"])
    what = "cold process to 92 %"
    yield Goal(what, "PyTorch script, in memory: times faster", 2.5, False, pytorch / ours)
    yield Goal(what, "seconds", 3.5, True, ours)


def _seconds(process: WholeProcess) -> float:
    return process.median if is_trained(process) else math.nan


def table(report: Report) -> str:
    """In Markdown, a row a goal."""
    rows = [
        [g.what, g.against, f"{'≤' if g.most else '≥'} {g.asked:g}", f"{g.measured:.3g}", g.verdict]
        for g in goals(report)
    ]
    return markdown(["workload", "against", "asked", "measured", ""], *rows, words=5)
