"""The report as a picture: bars of a steady epoch's time."""

import io
import math
from typing import Any

import numpy as np

from benchmark.report import Report, Workload


def picture(report: Report) -> bytes:
    """Return a PNG with a panel per workload, in which the floor is a line."""
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
