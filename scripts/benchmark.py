"""python scripts/benchmark.py --manual-dir FOLDER --out bench.json

funcnet and its peers on the same work in one run: MNIST, float32, plain SGD, shuffled every epoch,
the same first parameters and number of steps. Each contestant has a process of its own, and they
take their epochs in turn, so that the figures are ratios on one machine at one time; beside them
stands the floor that the machine's own limits set. `--out` leaves a picture too, `bench.png`.
"""

import dataclasses
import functools
import platform
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Annotated

import contestants
import goals
import limits
import measuring
import numpy as np
import reporting
import tyro
from peers import MODELS, Data, Task
from reporting import Report, Workload

import funcnet as fn
from funcnet._files import write_whole
from funcnet.runs._console import check_out, run_program, stoppable, watch_count

WORKLOADS = {
    goals.SOFTMAX: Task(sizes=(784, 10)),
    "softmax, batch 32": Task(sizes=(784, 10), batch_size=32),
    "softmax, batch 1024": Task(sizes=(784, 10), batch_size=1024),
    "logistic, batch 128": Task(sizes=(784, 1)),
    "mlp 784-128-10": Task(sizes=(784, 128, 10)),
    goals.LARGE: Task(sizes=(784, 512, 512, 10)),
}
QUICK = (goals.SOFTMAX, "mlp 784-128-10")
CONTESTANTS = {
    **measuring.FUNCNET,
    "PyTorch, in memory": "peers.pytorch_in_memory",
    "PyTorch, DataLoader": "peers.pytorch_dataloader",
    "PyTorch, torch.compile": "peers.pytorch_compile",
    "Flax (nnx)": "peers.flax_nnx",
    "Equinox": "peers.equinox_loop",
    "JAX, from scratch": "peers.jax_from_scratch",
    "NumPy by hand": "peers.numpy_by_hand",
    "scikit-learn, SGDClassifier": "peers.sklearn_sgd",
}
LIBRARIES = ("jax", "numpy", "torch", "flax", "equinox", "scikit-learn")


@dataclasses.dataclass(frozen=True)
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


def measure(config: BenchmarkConfig, folder: Path) -> Iterator[tuple[str, Report]]:
    """What there is to print after each part, and the report so far."""
    device = fn.devices.select_device(config.device)
    mnist = load(config)
    data = contestants.save(mnist, folder / "data.npz")
    report = Report(about=about(device), limits=limits.measure(device))
    yield reporting.headline(report), report
    for name in QUICK if config.quick else WORKLOADS:
        task = WORKLOADS[name]._replace(device=device.platform)
        report = report.with_limits(limits.measure(device))
        rounds = 3 if config.quick else config.rounds
        workload = Workload(
            task=task,
            examples=len(mnist.y_train),
            floor=limits.floor(task, len(mnist.y_train), report.limits),
            products_rate=limits.products_rate(task, device),
            contestants=race(name, task, data, rounds),
        )
        report = dataclasses.replace(report, workloads={**report.workloads, name: workload})
        yield reporting.race(name, workload, report.limits), report
    if config.quick:
        return
    for axis, grown in measuring.growth(device.platform, data, watch=watching("growth")):
        report = dataclasses.replace(report, growth={**report.growth, axis: grown})
        yield reporting.growth(axis, grown), report
    if config.manual_dir is None or device.platform != "cpu":
        yield "\nwhole processes: left out, as they need --manual-dir and --device cpu", report
        return
    commands = measuring.cold_commands(config.manual_dir, folder)
    cold = measuring.cold(commands, watch=watching("whole processes"))
    report = dataclasses.replace(report, cold=cold)
    yield reporting.cold(report.cold), report


def load(config: BenchmarkConfig) -> Data:
    """MNIST's four arrays."""
    train, test, *_ = fn.data.load("mnist", manual_dir=config.manual_dir, data_dir=config.data_dir)
    return Data(*map(np.asarray, (*train, *test)))


def race(name: str, task: Task, data: Path, rounds: int) -> dict[str, measuring.Record]:
    """All contestants; of a sweep of softmax models, the time that is one model's."""
    sweep = {goals.SWEEP: "peers.funcnet_sweep"} if name == goals.SOFTMAX else {}
    everyone = {**CONTESTANTS, **sweep}
    records = measuring.race(task, everyone, data, rounds=rounds, watch=watching(name))
    shares = {name: measuring.share(records[name], MODELS) for name in sweep}
    return {**records, **shares}


def watching(what: str) -> measuring.Watch:
    """Shows on a terminal how far a part is."""
    return functools.partial(watch_count, what=what)


def about(device: fn.devices.Device) -> str:
    """The date, the machine, and the versions of what is compared."""
    versions = [f"{name} {reporting.version_of(name) or 'not installed'}" for name in LIBRARIES]
    machine = fn.devices.describe_device(device)
    return f"{date.today()}, {machine}, Python {platform.python_version()}\n{', '.join(versions)}"


def main(config: BenchmarkConfig) -> None:
    """Measures, and prints each table as it is done."""
    if config.rounds < 5:
        raise ValueError(f"--rounds: expected at least 5; got {config.rounds}. Try --quick.")
    check_out(config.out, [".json"])
    report = None
    with stoppable(), tempfile.TemporaryDirectory() as folder:
        for text, report in measure(config, Path(folder)):
            print(text, flush=True)
            if config.out is not None:
                write_whole(config.out, reporting.as_json(report))
    assert report is not None
    tables = reporting.headline(report), reporting.summary(report), goals.table(report)
    print("", *tables, sep="\n\n")
    if config.out is not None:
        write_whole(config.out.with_suffix(".png"), reporting.picture(report))
    if failed := list(reporting.failures(report)):
        raise ChildProcessError("expected funcnet to train; it failed: " + "; ".join(failed))


if __name__ == "__main__":
    run_program(BenchmarkConfig, main)
