"""python scripts/benchmark --manual-dir FOLDER --out bench.json

funcnet and its peers on the same work in one run: MNIST, float32, plain SGD, shuffled every epoch,
the same first parameters and number of steps. Each contestant has a process of its own, and they
take their epochs in turn: the figures are ratios on one machine at one time. Beside them stands
the floor that the machine's own limits set. `--out` leaves a picture too, `bench.png`.
"""

import dataclasses
import functools
import platform
import sys
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Annotated

if not __package__:  # the folder was started; its own modules are imported from the one above
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import tyro

import funcnet as fn
from benchmark import cold, limits, races, tables, workloads
from benchmark.contestants import CONTESTANTS, SWEEP, SWEEP_MODULE
from benchmark.picture import picture
from benchmark.private import check_out, run_program, stoppable, watch_count, write_whole
from benchmark.report import Report, Workload, as_json, failures
from benchmark.workloads import MODELS, QUICK, SOFTMAX, WORKLOADS, Data, Task

LIBRARIES = ("jax", "numpy", "torch", "flax", "equinox", "scikit-learn")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Measure funcnet beside its peers on MNIST."""

    manual_dir: Path | None = None
    """A folder with MNIST's original files, for a machine without a network. Whole processes are
    measured only where it is given: the PyTorch script reads them."""
    data_dir: Path | None = None
    """Where prepared data are kept."""
    device: str = "cpu"
    """cpu, gpu, or auto: a gpu where there is one."""
    rounds: int = 7
    """Steady epochs of each contestant, at least 5."""
    quick: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Two workloads, three rounds, nothing else: two minutes."""
    out: Path | None = None
    """Where to leave the figures, a .json file, after each workload, and at the end a picture
    beside it."""


def main(config: BenchmarkConfig) -> None:
    """Measure, and print each table as it is done."""
    if config.rounds < 5:
        raise fn.UsageError(f"--rounds: expected at least 5; got {config.rounds}. Try --quick.")
    check_out(config.out, [".json"])
    report = None
    with stoppable(), tempfile.TemporaryDirectory() as folder:
        for text, report in measure(config, Path(folder)):
            print(text, flush=True)
            if config.out is not None:
                write_whole(config.out, as_json(report))
    assert report is not None
    print("", tables.headline(report), tables.summary(report), sep="\n\n")
    if config.out is not None:
        write_whole(config.out.with_suffix(".png"), picture(report))
    if failed := list(failures(report)):
        raise ChildProcessError("expected funcnet to train; it failed: " + "; ".join(failed))


def measure(config: BenchmarkConfig, folder: Path) -> Iterator[tuple[str, Report]]:
    """Yield after each part a text to print, and the report so far."""
    device = fn.devices.select_device(config.device)
    mnist = load(config)
    data = workloads.save(mnist, folder / "data.npz")
    report = Report(about=about(device), limits=limits.measure(device))
    yield tables.headline(report), report
    for name in QUICK if config.quick else WORKLOADS:
        task = dataclasses.replace(WORKLOADS[name], device=device.platform)
        report = report.with_limits(limits.measure(device))
        workload = Workload(
            task=task,
            examples=len(mnist.y_train),
            floor=limits.floor(task, len(mnist.y_train), report.limits),
            products_rate=limits.products_rate(task, device),
            contestants=race(name, task, data, rounds=3 if config.quick else config.rounds),
        )
        report = dataclasses.replace(report, workloads={**report.workloads, name: workload})
        yield tables.race(name, workload, report.limits), report
    if config.quick:
        return
    for axis, grown in races.growth(device.platform, data, watch=watching("growth")):
        report = dataclasses.replace(report, growth={**report.growth, axis: grown})
        yield tables.growth(axis, grown), report
    if config.manual_dir is None or device.platform != "cpu":
        yield "\nwhole processes: left out, as they need --manual-dir and --device cpu", report
        return
    commands = cold.commands(config.manual_dir, folder)
    processes = cold.measure(commands, watch=watching("whole processes"))
    yield tables.cold(processes), dataclasses.replace(report, cold=processes)


def load(config: BenchmarkConfig) -> Data:
    """Return MNIST's four arrays."""
    mnist = fn.data.load("mnist", manual_dir=config.manual_dir, data_dir=config.data_dir)
    return Data(
        x_train=np.asarray(mnist.train.inputs),
        y_train=np.asarray(mnist.train.targets),
        x_test=np.asarray(mnist.test.inputs),
        y_test=np.asarray(mnist.test.targets),
    )


def race(name: str, task: Task, data: Path, *, rounds: int) -> dict[str, races.Record]:
    """Race all contestants; in one workload also a sweep, with the time per model."""
    sweep = {SWEEP: SWEEP_MODULE} if name == SOFTMAX else {}
    everyone = {**CONTESTANTS, **sweep}
    records = races.race(task, everyone, data, rounds=rounds, watch=watching(name))
    return {**records, **{name: races.share(records[name], MODELS) for name in sweep}}


def watching(what: str) -> races.Watch:
    """Return a `watch` that shows on a terminal how many steps are done."""
    return functools.partial(watch_count, what=what)


def about(device: fn.devices.Device) -> str:
    """Return the date, the machine, and the versions of the libraries that are compared."""
    versions = [f"{name} {tables.version_of(name) or 'not installed'}" for name in LIBRARIES]
    machine = fn.devices.describe_device(device)
    return f"{date.today()}, {machine}, Python {platform.python_version()}\n{', '.join(versions)}"


if __name__ == "__main__":
    run_program(BenchmarkConfig, main)
