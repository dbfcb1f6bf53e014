"""Races of contestants that take their epochs in turn, and how funcnet's time grows with a size.

A race is a start, a first epoch, a number of steady epochs and a test of accuracy, of each
contestant in turn: one at a time has the cores.
"""

import contextlib
import dataclasses
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from benchmark.contestants import FUNCNET, Answer, LeftOut, contestant
from benchmark.workloads import Task, load, save

Watch: TypeAlias = Callable[[list[Any]], Iterable[Any]]
"""Passes the steps of a measurement on, and shows how many are done."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """The measurements of one contestant.

    Attributes:
      start: seconds from the process's start until it can train: imports and data.
      first_epoch: seconds of the first epoch, in which most contestants compile.
      epochs: seconds of each steady epoch.
      accuracy: on the test examples, after all epochs, 0 to 1.
      peak_bytes: the most memory that the process held.
      left_out: why the rest is missing; empty if nothing is.
    """

    start: float = math.nan
    first_epoch: float = math.nan
    epochs: Sequence[float] = ()
    accuracy: float = math.nan
    peak_bytes: int = 0
    left_out: str = ""

    @property
    def steady(self) -> float:
        """The median of the steady epochs, in seconds."""
        return statistics.median(self.epochs) if self.epochs else math.nan

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles of the steady epochs, over their median."""
        if len(self.epochs) < 2:
            return math.nan
        low, _, high = statistics.quantiles(self.epochs, n=4, method="inclusive")
        return (high - low) / 2 / self.steady


@dataclasses.dataclass(frozen=True, kw_only=True)
class Growth:
    """How funcnet's steady epoch grows with a size.

    Attributes:
      records: the measurements at each size.
      exponent: the power of the size that fits the times best.
    """

    records: Mapping[int, Record]
    exponent: float


def race(
    task: Task, contestants: Mapping[str, str], data: Path, *, rounds: int, watch: Watch = list
) -> dict[str, Record]:
    """Train `1 + 2 rounds` epochs of each contestant: a first one, then two in every turn.

    The second epoch of a turn is timed. The first finds that the others' turns have emptied the
    caches, which does not happen in a training that goes on.

    Args:
      task: what they train.
      contestants: the module of each, by name.
      data: the file that `workloads.save` wrote.
      rounds: steady epochs of each.
      watch: wraps the steps, to show them as they pass.
    """
    asks: dict[str, Callable[[str], Answer]] = {}

    def start(name: str, record: Record) -> Record:
        begun = time.perf_counter()
        asks[name] = processes.enter_context(contestant(contestants[name], task, data))
        return dataclasses.replace(record, start=time.perf_counter() - begun)

    def first_epoch(name: str, record: Record) -> Record:
        return dataclasses.replace(record, first_epoch=asks[name]("epoch")["seconds"])

    def turn(name: str, record: Record) -> Record:
        _ = asks[name]("epoch")
        seconds = asks[name]("epoch")["seconds"]
        return dataclasses.replace(record, epochs=(*record.epochs, seconds))

    def end(name: str, record: Record) -> Record:
        return dataclasses.replace(record, **asks[name]("end"))

    records = dict.fromkeys(contestants, Record())
    with contextlib.ExitStack() as processes:
        steps = itertools.product((start, first_epoch, *[turn] * rounds, end), contestants)
        for measure, name in watch(list(steps)):
            if not records[name].left_out:
                try:
                    records[name] = measure(name, records[name])
                except LeftOut as reason:
                    records[name] = dataclasses.replace(records[name], left_out=str(reason))
    return records


def share(record: Record, models: int) -> Record:
    """Divide the epochs' seconds by the number of models that train together."""
    epochs = [seconds / models for seconds in record.epochs]
    return dataclasses.replace(record, first_epoch=record.first_epoch / models, epochs=epochs)


def growth(device: str, data: Path, *, watch: Watch = list) -> Iterator[tuple[str, Growth]]:
    """Yield the growth with the number of examples, the batch size and the hidden width."""
    softmax = Task(sizes=(784, 10), device=device)
    axes: dict[str, dict[int, tuple[Task, Path]]] = {
        "examples": {
            count: (softmax, _resized(data, count))
            for count in (15_000, 30_000, 60_000, 120_000, 240_000)
        },
        "batch size": {
            size: (dataclasses.replace(softmax, batch_size=size), data)
            for size in (32, 128, 512, 2048)
        },
        "width": {
            width: (dataclasses.replace(softmax, sizes=(784, width, 10)), data)
            for width in (64, 128, 256, 512)
        },
    }
    for axis, cases in axes.items():
        records = {
            size: race(task, FUNCNET, path, rounds=5)["funcnet"]
            for size, (task, path) in watch(list(cases.items()))
        }
        seconds = [record.steady for record in records.values()]
        yield axis, Growth(records=records, exponent=fitted_exponent(list(records), seconds))


def fitted_exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Return the p of the least squares fit `log seconds = p log size + c`."""
    x, y = np.log(sizes), np.log(seconds)
    x = x - x.mean()
    return float(x @ y / (x @ x))


def _resized(path: Path, count: int) -> Path:
    """Write the data with `count` training examples: from the first on, and around again."""
    data = load(path)
    rows = np.arange(count) % len(data.y_train)
    resized = dataclasses.replace(data, x_train=data.x_train[rows], y_train=data.y_train[rows])
    return save(resized, path.with_name(f"{count}.npz"))
