"""The benchmark's report: what it holds, and how it is printed, written and drawn."""

import contextlib
import dataclasses
import io
import math
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from limits import Limits, floor, operations
from measuring import Growth, Record, WholeProcess
from peers import Task

from funcnet.runs import _artifacts as artifacts

AGREEMENT = 0.005
"""How far the accuracies of the same work may lie apart."""

LEARNED = 0.8
"""The least accuracy of a model of MNIST that has learned; those of few steps don't agree."""

COLD_ACCURACY = 0.92
"""What a whole process trains to."""


@dataclasses.dataclass(frozen=True)
class Workload:
    """A race and what it is measured by.

    Attributes:
      task: what was trained.
      examples: in an epoch.
      floor: seconds that an epoch takes at least.
      products_rate: operations a second of its products alone, without the rest of a step.
      contestants: what was measured of each.
    """

    task: Task
    examples: int
    floor: float
    products_rate: float
    contestants: Mapping[str, Record]

    @property
    def ours(self) -> Record:
        """What was measured of funcnet."""
        return self.of("funcnet")

    def of(self, name: str) -> Record:
        """What was measured of a contestant."""
        return self.contestants.get(name, Record(left_out="not in this race"))

    def times(self, name: str) -> float:
        """A contestant's steady epoch over funcnet's; NaN where one is missing or void."""
        return math.nan if self.is_void(name) else self.of(name).steady / self.ours.steady

    def floors(self, name: str) -> float:
        """A contestant's steady epoch over the floor."""
        return self.of(name).steady / self.floor

    def is_void(self, name: str) -> bool:
        """Whether a contestant was left out, or learned something else than funcnet."""
        record = self.of(name)
        return bool(record.left_out) or abs(record.accuracy - self.ours.accuracy) > AGREEMENT

    def rate(self, limits: Limits) -> float:
        """The share of the matrix rate that funcnet's products reach."""
        rate = operations(self.task.sizes, self.examples) / self.ours.steady
        return rate / limits.matrix_rate


@dataclasses.dataclass(frozen=True)
class Report:
    """All that was measured so far.

    Attributes:
      about: the date, the machine and the versions.
      limits: the machine's.
      workloads: the races, by name.
      growth: by the name of what grows.
      cold: whole processes, by name.
    """

    about: str
    limits: Limits
    workloads: Mapping[str, Workload] = dataclasses.field(default_factory=dict)
    growth: Mapping[str, Growth] = dataclasses.field(default_factory=dict)
    cold: Mapping[str, WholeProcess] = dataclasses.field(default_factory=dict)

    def with_limits(self, limits: Limits) -> "Report":
        """With the best of its limits and these, which were measured later; and floors by them."""
        best = self.limits.best(limits)
        workloads = {
            name: dataclasses.replace(w, floor=floor(w.task, w.examples, best))
            for name, w in self.workloads.items()
        }
        return dataclasses.replace(self, limits=best, workloads=workloads)


# --- printed -------------------------------------------------------------------------------------


def headline(report: Report) -> str:
    """What was measured on, and its limits."""
    rate, bandwidth = report.limits.matrix_rate, report.limits.read_bandwidth
    return (
        f"{report.about}\nat most {rate / 1e9:.0f} GFLOP/s of a matrix product, "
        f"{bandwidth / 1e9:.1f} GB/s read"
    )


def race(name: str, workload: Workload, limits: Limits) -> str:
    """A row a contestant; `times` is its steady epoch over funcnet's."""
    rows = [
        f"\n{name}: floor {1000 * workload.floor:.1f} ms an epoch",
        f"{'':34}  epoch ms       ±  times  floors  first s  start s  accuracy  memory MB",
    ]
    for contestant, r in workload.contestants.items():
        if r.left_out:
            rows.append(f"{contestant:34}  left out: {r.left_out}")
            continue
        void = "  void: accuracy" if workload.is_void(contestant) else ""
        rows.append(
            f"{contestant:34}  {1000 * r.steady:8.1f}  {r.spread:6.0%}  "
            f"{r.steady / workload.ours.steady:5.1f}  {workload.floors(contestant):6.1f}  "
            f"{r.first_epoch:7.2f}  {r.start:7.2f}  {r.accuracy:8.4f}  "
            f"{r.peak_bytes / 1e6:9.0f}{void}"
        )
    if workload.ours.left_out:
        return "\n".join([*rows, "funcnet failed: there is nothing to compare with"])
    share, alone = workload.rate(limits), workload.products_rate / limits.matrix_rate
    ending = f"funcnet's products: {share:.0%} of the matrix rate; the products alone: {alone:.0%}"
    return "\n".join([*rows, ending])


def growth(axis: str, grown: Growth) -> str:
    """Time against a size, with the fitted exponent."""
    rows = [f"\ngrowth in {axis}: exponent {grown.exponent:.2f}"]
    for size, r in grown.records.items():
        void = "" if r.accuracy >= LEARNED else f"  void: it learns less than {LEARNED:.0%}"
        rows.append(
            f"{size:9,}  left out: {r.left_out}"
            if r.left_out
            else f"{size:9,}  {1000 * r.steady:8.1f} ms  accuracy {r.accuracy:.4f}{void}"
        )
    return "\n".join(rows)


def cold(processes: Mapping[str, WholeProcess]) -> str:
    """Whole processes, their median, and the least accuracy that one of them reached."""
    ours = processes["funcnet"]
    rows = [
        f"\nwhole process, ten epochs of softmax regression to at least {COLD_ACCURACY:.0%}, "
        "data prepared",
        f"{'':34}  seconds  times  accuracy",
    ]
    for name, process in processes.items():
        if process.left_out:
            rows.append(f"{name:34}  left out: {process.left_out}")
            continue
        fault = why_void(process, ours)
        rows.append(
            f"{name:34}  {process.median:7.2f}  {process.median / ours.median:5.1f}  "
            f"{process.least_accuracy:8.4f}{fault and f'  void: {fault}'}"
        )
    return "\n".join(rows)


def why_void(process: WholeProcess, ours: WholeProcess) -> str:
    """Why a whole process is not comparable with funcnet's, or nothing."""
    if process.left_out:
        return "left out"
    if process.least_accuracy < COLD_ACCURACY:
        return f"less than {COLD_ACCURACY:.0%}"
    disagrees = abs(process.least_accuracy - ours.least_accuracy) > AGREEMENT
    return "accuracy" if disagrees else ""


def summary(report: Report) -> str:
    """The races in Markdown: a row a contestant, a column a workload."""
    workloads = report.workloads
    names = list(dict.fromkeys(name for w in workloads.values() for name in w.contestants))
    floors = [f"{1000 * w.floor:.1f}" for w in workloads.values()]
    return markdown(
        ["ms an epoch (times funcnet's, times the floor)", *workloads],
        *[[name, *(_cell(w, name) for w in workloads.values())] for name in names],
        ["floor", *floors],
    )


def markdown(head: list[str], *rows: list[str], words: int = 1) -> str:
    """A table whose columns are numbers, but for the first ones."""
    rule = [*["---"] * words, *["---:"] * (len(head) - words)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def version_of(library: str) -> str | None:
    """The installed version, if it is installed."""
    with contextlib.suppress(PackageNotFoundError):
        return version(library)
    return None


def _cell(workload: Workload, name: str) -> str:
    record = workload.of(name)
    if record.left_out:
        return ""
    if workload.is_void(name):
        return "void"
    figures = 1000 * record.steady, workload.times(name), workload.floors(name)
    return "{} ({}, {})".format(*(f"{x:,.{0 if x >= 10 else 1}f}" for x in figures))


def failures(report: Report) -> Iterator[str]:
    """Where funcnet itself failed."""
    records: dict[str, Record | WholeProcess] = {}
    for name, workload in report.workloads.items():
        records[name] = workload.ours
    for axis, grown in report.growth.items():
        records |= {f"{axis} {size:,}": record for size, record in grown.records.items()}
    if report.cold:
        records["whole process"] = report.cold["funcnet"]
    for name, record in records.items():
        if record.left_out:
            yield f"{name}: {record.left_out}"


# --- written -------------------------------------------------------------------------------------


def as_json(report: Report) -> bytes:
    """The figures; what was not measured is null."""
    return artifacts.as_json(_plain(report), indent=1)


def _plain(value: Any) -> Any:
    """The records as mappings."""
    if dataclasses.is_dataclass(value):
        return _plain(vars(value))
    if isinstance(value, Task):
        return _plain(value._asdict())
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return value


# --- drawn ---------------------------------------------------------------------------------------


def picture(report: Report) -> bytes:
    """Bars of a steady epoch's time, a panel a workload; the floor is a line."""
    from matplotlib.figure import Figure

    columns = min(3, len(report.workloads))
    rows = math.ceil(len(report.workloads) / columns)
    figure = Figure(figsize=(4.8 * columns, 2.9 * rows), layout="constrained")
    grid = np.ravel(figure.subplots(rows, columns, squeeze=False))
    for axes in grid:
        axes.set_axis_off()
    for axes, (name, workload) in zip(grid, report.workloads.items(), strict=False):
        axes.set_axis_on()
        _draw(axes, name, workload)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=110)
    return png.getvalue()


def _draw(axes: Any, title: str, workload: Workload) -> None:
    names = [name for name in workload.contestants if not workload.is_void(name)][::-1]
    times = [1000 * workload.contestants[name].steady for name in names]
    colours = ["C1" if name.startswith("funcnet") else "C0" for name in names]
    _ = axes.bar_label(axes.barh(names, times, color=colours), fmt=" {:,.0f}", fontsize="small")
    _ = axes.axvline(1000 * workload.floor, color="k", lw=1, ls="--", label="floor")
    _ = axes.set(xlabel="ms an epoch", title=title)
    axes.margins(x=0.15)
    _ = axes.legend(frameon=False, fontsize="small", loc="upper right")
    axes.spines[["top", "right"]].set_visible(False)
