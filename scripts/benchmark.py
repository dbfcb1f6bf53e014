"""python scripts/benchmark.py --manual-dir FOLDER --out bench.json

funcnet and its peers on the same work in one run: MNIST, float32, plain SGD, shuffled every epoch,
the same first parameters and number of steps. Each contestant has a process of its own, and they
take their epochs in turn, so that the figures are ratios on one machine at one time; beside them
stands the floor that the machine's own limits set. `--out` leaves a picture too, `bench.png`.
"""

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import measuring
import reporting
import tyro
from measuring import Record
from peers import Task

import funcnet as fn
from funcnet.console import run_program
from funcnet.files import write_whole

WORKLOADS = {
    "softmax, batch 128": Task(sizes=(784, 10)),
    "softmax, batch 32": Task(sizes=(784, 10), batch_size=32),
    "softmax, batch 1024": Task(sizes=(784, 10), batch_size=1024),
    "logistic, batch 128": Task(sizes=(784, 1)),
    "mlp 784-128-10": Task(sizes=(784, 128, 10)),
    "mlp 784-512-512-10": Task(sizes=(784, 512, 512, 10)),
}
QUICK = ("softmax, batch 128", "mlp 784-128-10")
CONTESTANTS = (
    "funcnet_epoch",
    "pytorch_in_memory",
    "pytorch_dataloader",
    "pytorch_compile",
    "flax_nnx",
    "equinox_loop",
    "jax_from_scratch",
    "numpy_by_hand",
    "sklearn_sgd",
)
SWEEP = "a model of a sweep of 64"


@dataclasses.dataclass(frozen=True)
class BenchmarkConfig:
    """Measure funcnet beside its peers on MNIST."""

    manual_dir: Path | None = None
    """A folder with MNIST's original files, for a machine without a network."""
    data_dir: Path | None = None
    """Where prepared data are kept."""
    device: str = "cpu"
    """cpu or gpu."""
    rounds: int = 7
    """Steady epochs of each contestant."""
    quick: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Two workloads, three rounds, nothing else: two minutes."""
    out: Path | None = None
    """Where to leave the figures, a .json file, and beside it the picture."""


def workloads(config: BenchmarkConfig, data: Path) -> Iterator[tuple[str, Task, dict[str, Record]]]:
    """Each workload's records; the sweep's time is that of one of its models."""
    rounds = 3 if config.quick else config.rounds
    for name, task in WORKLOADS.items():
        if config.quick and name not in QUICK:
            continue
        task = task._replace(device=config.device)
        sweep = ("funcnet_sweep",) if name == "softmax, batch 128" else ()
        records = dict(measuring.race(task, (*CONTESTANTS, *sweep), data, rounds=rounds))
        if sweep:
            records[SWEEP] = measuring.share(records.pop(sweep[0]), 64)
        yield name, task, records


def main(config: BenchmarkConfig) -> None:
    """Measures, and prints each table as it is done."""
    if config.out is not None and config.out.suffix != ".json":
        raise ValueError(f"--out: expected a .json file; got {config.out}.")
    dataset = fn.data.load("mnist", manual_dir=config.manual_dir, data_dir=config.data_dir)
    with tempfile.TemporaryDirectory() as folder:
        data = measuring.save(dataset, Path(folder))
        limits = measuring.limits(config.device)
        print(reporting.headline(config.device, limits))
        report: dict[str, Any] = {"limits": limits, "workloads": {}}
        for name, task, records in workloads(config, data):
            floor = measuring.floor(task, len(dataset.train.targets), limits)
            print(reporting.table(name, records, floor, limits, task))
            report["workloads"][name] = {
                "floor": floor,
                "contestants": {k: dataclasses.asdict(record) for k, record in records.items()},
            }
        if not config.quick:
            for name, points in measuring.growth(config.device, data):
                print(reporting.growth(name, points))
                report[f"growth in {name}"] = points
            if config.manual_dir is not None and config.device == "cpu":
                report["cold"] = measuring.cold(config.manual_dir, Path(folder))
                print(reporting.cold(report["cold"]))
    if config.out is not None:
        write_whole(config.out, reporting.as_json(report))
        write_whole(config.out.with_suffix(".png"), reporting.picture(report))


if __name__ == "__main__":
    run_program(BenchmarkConfig, main)
