"""The report in print: a table for each part as it is done, and a summary in Markdown."""

import contextlib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from benchmark.cold import WholeProcess
from benchmark.limits import Limits
from benchmark.races import Growth
from benchmark.report import COLD_ACCURACY, Report, Workload, why_void

LEARNED = 0.8
"""The least accuracy of a model that has learned MNIST; models of few steps do not agree."""


def headline(report: Report) -> str:
    """Return the date, the machine, the versions and the limits."""
    rate, bandwidth = report.limits.matrix_rate, report.limits.read_bandwidth
    return (
        f"{report.about}\nat most {rate / 1e9:.0f} GFLOP/s of a matrix product, "
        f"{bandwidth / 1e9:.1f} GB/s read"
    )


def race(name: str, workload: Workload, limits: Limits) -> str:
    """Return a row per contestant; `times` is its steady epoch over funcnet's."""
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
    """Return a row per size, under the fitted exponent."""
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
    """Return a row per whole program: its median, and the least accuracy of its runs."""
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


def summary(report: Report) -> str:
    """Return the races in Markdown: a row per contestant, a column per workload."""
    workloads = report.workloads
    names = list(dict.fromkeys(name for w in workloads.values() for name in w.contestants))
    floors = [f"{1000 * w.floor:.1f}" for w in workloads.values()]
    return markdown(
        ["ms an epoch (times funcnet's, times the floor)", *workloads],
        *[[name, *(_cell(w, name) for w in workloads.values())] for name in names],
        ["floor", *floors],
    )


def _cell(workload: Workload, name: str) -> str:
    record = workload.of(name)
    if record.left_out:
        return ""
    if workload.is_void(name):
        return "void"
    figures = 1000 * record.steady, workload.times(name), workload.floors(name)
    return "{} ({}, {})".format(*(f"{x:,.{0 if x >= 10 else 1}f}" for x in figures))


def markdown(head: list[str], *rows: list[str], words: int = 1) -> str:
    """Return a Markdown table; columns after the first `words` ones hold numbers."""
    rule = [*["---"] * words, *["---:"] * (len(head) - words)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def version_of(library: str) -> str | None:
    """Return the installed version, or None if the library is not installed."""
    with contextlib.suppress(PackageNotFoundError):
        return version(library)
    return None
