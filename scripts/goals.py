"""What the benchmark is to show, and whether it does."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from measuring import WholeProcess
from peers import MODELS
from reporting import Report, Workload, markdown, why_void

SOFTMAX, LARGE = "softmax, batch 128", "mlp 784-512-512-10"
SWEEP = f"funcnet, one of {MODELS} models"
COLD = "cold process to 92 %"

IN_MEMORY = "PyTorch, in memory"
FASTER = {
    SOFTMAX: {
        "PyTorch, DataLoader": 12,
        IN_MEMORY: 6,
        "Equinox": 2.8,
        "Flax (nnx)": 2.8,
        "JAX, from scratch": 2.8,
        "NumPy by hand": 2,
    },
    LARGE: {IN_MEMORY: 1.7},
}
"""Of a workload, how many times faster than a peer funcnet is to be."""


class Goal(NamedTuple):
    """A figure that was asked for.

    Attributes:
      what: was measured.
      figure: in words.
      measured: the figure; NaN where something is missing or void.
      least: that it may be.
      most: that it may be.
    """

    what: str
    figure: str
    measured: float
    least: float = -math.inf
    most: float = math.inf

    @property
    def asked(self) -> str:
        """As a relation."""
        return f"≤ {self.most:g}" if math.isfinite(self.most) else f"≥ {self.least:g}"

    @property
    def verdict(self) -> str:
        """In a word or two."""
        if math.isnan(self.measured):
            return "not measured"
        return "reached" if self.least <= self.measured <= self.most else "missed"


def table(report: Report) -> str:
    """In Markdown, a row a goal."""
    rows = [[g.what, g.figure, g.asked, f"{g.measured:.3g}", g.verdict] for g in goals(report)]
    return markdown(["workload", "figure", "asked", "measured", ""], *rows, words=5)


def goals(report: Report) -> Iterator[Goal]:
    """Those that a report can say something about."""
    for name, workload in report.workloads.items():
        for peer, least in FASTER.get(name, {}).items():
            times = workload.times(peer)
            yield Goal(what=name, figure=f"times faster than {peer}", measured=times, least=least)
        if name == SOFTMAX:
            floors = workload.floors("funcnet")
            yield Goal(what=name, figure="times the floor", measured=floors, most=4)
            yield from _of_the_sweep(workload)
        if name == LARGE:
            share = workload.rate(report.limits)
            yield Goal(what=name, figure="of the matrix rate", measured=share, least=0.75)
    if "examples" in report.growth:
        exponent = report.growth["examples"].exponent
        yield Goal(what="growth in examples", figure="exponent", measured=exponent, most=1.05)
    if report.cold:
        ours, theirs = _seconds(report.cold, "funcnet"), _seconds(report.cold, IN_MEMORY)
        figure = f"times faster than {IN_MEMORY}"
        yield Goal(what=COLD, figure=figure, measured=theirs / ours, least=2.5)
        yield Goal(what=COLD, figure="seconds", measured=ours, most=3.5)


def _of_the_sweep(softmax: Workload) -> Iterator[Goal]:
    what, model = f"sweep of {MODELS} softmax models", softmax.times(SWEEP)
    figure = f"times faster, a model, than {IN_MEMORY}"
    yield Goal(what=what, figure=figure, measured=softmax.times(IN_MEMORY) / model, least=16)
    yield Goal(what=what, figure="times as long as one model", measured=MODELS * model, most=24)


def _seconds(processes: Mapping[str, WholeProcess], name: str) -> float:
    process = processes[name]
    return math.nan if why_void(process, processes["funcnet"]) else process.median
