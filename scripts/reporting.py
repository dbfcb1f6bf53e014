"""What `benchmark.py` prints and draws."""

import io
import json
import math
import os
import platform
import statistics
from collections.abc import Mapping
from datetime import date
from typing import Any

import jax
import numpy as np
from measuring import Record, operations
from peers import Task

AGREEMENT = 0.005
"""How far the accuracies of the same work may lie apart."""


def headline(device: str, limits: Mapping[str, float]) -> str:
    """The machine, the date, and its limits."""
    processor = platform.processor() or platform.machine()
    name = (
        jax.devices()[0].device_kind if device == "gpu" else f"{processor}, {os.cpu_count()} cores"
    )
    return (
        f"{date.today()}, {name}, JAX {jax.__version__}, Python {platform.python_version()}\n"
        f"matrix product {limits['matrix_rate'] / 1e9:.0f} GFLOP/s, "
        f"read {limits['read_bandwidth'] / 1e9:.1f} GB/s"
    )


def table(
    name: str,
    records: Mapping[str, Record],
    floor: float,
    limits: Mapping[str, float],
    task: Task,
) -> str:
    """A row a contestant; `times` is its steady epoch over funcnet's."""
    ours = records["funcnet_epoch"]
    rows = [
        f"\n{name}: floor {1000 * floor:.1f} ms an epoch",
        f"{'':24}  epoch ms       ±  times  floors   first s  start s  accuracy  memory MB",
    ]
    for contestant, r in records.items():
        if r.left_out:
            rows.append(f"{contestant:24}  left out: {r.left_out}")
            continue
        void = "" if abs(r.accuracy - ours.accuracy) <= AGREEMENT else "  void: accuracy"
        rows.append(
            f"{contestant:24}  {1000 * r.steady:8.1f}  {r.spread:6.0%}  "
            f"{r.steady / ours.steady:5.1f}  {r.steady / floor:6.1f}  {r.first_epoch:8.2f}  "
            f"{r.start:7.2f}  {r.accuracy:8.4f}  {r.peak_bytes / 1e6:9.0f}{void}"
        )
    rate = operations(task.sizes, 60_000) / ours.steady / limits["matrix_rate"]
    return "\n".join([*rows, f"funcnet's products: {rate:.0%} of the matrix rate"])


def growth(name: str, points: Mapping[str, Any]) -> str:
    """Time against a size, with the fitted exponent."""
    pairs = zip(points["sizes"], points["seconds"], strict=True)
    times = ", ".join(f"{size:,}: {1000 * seconds:.0f} ms" for size, seconds in pairs)
    return f"\ngrowth in {name}: {times}; exponent {points['exponent']:.2f}"


def cold(processes: Mapping[str, Mapping[str, Any]]) -> str:
    """Whole processes, their median, and how the last of each ended."""
    ours = statistics.median(processes["funcnet"]["seconds"])
    rows = ["\nwhole process, ten epochs of softmax regression, data prepared"]
    for name, process in processes.items():
        seconds = statistics.median(process["seconds"])
        rows.append(f"{name:24}  {seconds:5.2f} s  {seconds / ours:4.1f}  {process['printed']}")
    return "\n".join(rows)


def as_json(report: Mapping[str, Any]) -> bytes:
    """The figures; what was not measured is null."""
    return (json.dumps(_without_nan(report), indent=1) + "\n").encode()


def picture(report: Mapping[str, Any]) -> bytes:
    """Bars of a steady epoch's time, a panel a workload; the floor is a line."""
    from matplotlib.figure import Figure

    panels = report["workloads"]
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(4.2 * columns, 2.9 * rows), layout="constrained")
    grid = np.ravel(figure.subplots(rows, columns, squeeze=False))
    for axes, (name, panel) in zip(grid, panels.items(), strict=False):
        bars = {
            k: statistics.median(c["epochs"])
            for k, c in panel["contestants"].items()
            if c["epochs"]
        }
        names = list(bars)[::-1]
        colours = ["C1" if name.startswith(("funcnet", "a model")) else "C0" for name in names]
        _ = axes.barh(names, [1000 * bars[name] for name in names], color=colours)
        _ = axes.axvline(1000 * panel["floor"], color="k", lw=1, ls="--", label="floor")
        _ = axes.set(xscale="log", xlabel="ms an epoch", title=name)
        _ = axes.legend(frameon=False, fontsize="small")
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=110)
    return png.getvalue()


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value
