"""What is measured: races of contestants, the growth of funcnet's time, whole processes.

A race is a start, a first epoch, a number of steady epochs and a test of accuracy, of each
contestant in turn: one at a time has the cores.
"""

import contextlib
import dataclasses
import itertools
import math
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from contestants import LeftOut, contestant, how_it_ended, load, save
from peers import Task

FUNCNET = {"funcnet": "peers.funcnet_epoch"}

Watch: TypeAlias = Callable[[list[Any]], Iterable[Any]]
"""Passes the steps of a measurement on, and shows how far it is."""


@dataclasses.dataclass(frozen=True)
class Record:
    """What was measured of a contestant.

    Attributes:
      start: seconds from the process's start until it could train: imports and data.
      first_epoch: seconds of the first epoch, in which most compile.
      epochs: seconds of each steady epoch.
      accuracy: on the test examples, after all of them, 0 to 1.
      peak_bytes: the most memory that the process held.
      left_out: why the rest is missing, if it is.
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


@dataclasses.dataclass(frozen=True)
class Growth:
    """How funcnet's steady epoch grows with a size.

    Attributes:
      records: of each size.
      exponent: of the power of the size that fits the times best.
    """

    records: Mapping[int, Record]
    exponent: float


@dataclasses.dataclass(frozen=True)
class WholeProcess:
    """What was measured of a program, from its start to its end.

    Attributes:
      seconds: of each run.
      accuracies: that each printed last.
      left_out: why there are no more, or nothing.
    """

    seconds: Sequence[float] = ()
    accuracies: Sequence[float] = ()
    left_out: str = ""

    @property
    def median(self) -> float:
        """Of the seconds."""
        return statistics.median(self.seconds) if self.seconds else math.nan

    @property
    def least_accuracy(self) -> float:
        """Of all runs."""
        return min(self.accuracies, default=math.nan)


# --- races ---------------------------------------------------------------------------------------


def race(
    task: Task, contestants: Mapping[str, str], data: Path, *, rounds: int, watch: Watch = list
) -> dict[str, Record]:
    """Trains `1 + 2 rounds` epochs of each contestant: a first one, then two in every turn.

    The second of a turn is timed. The first finds cold what the others' turns have pushed out of
    the caches, which is no part of a training that goes on.

    Args:
      task: what they train.
      contestants: their names, and their modules.
      data: the file that `contestants.save` wrote.
      rounds: steady epochs of each.
      watch: wraps the steps, to show them as they pass.
    """
    asks: dict[str, Callable[[str], Mapping[str, Any]]] = {}

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
                records[name] = _or_left_out(measure, name, records[name])
    return records


def share(record: Record, models: int) -> Record:
    """What one of several models costs that train together."""
    epochs = [seconds / models for seconds in record.epochs]
    return dataclasses.replace(record, first_epoch=record.first_epoch / models, epochs=epochs)


def _or_left_out(measure: Callable[[str, Record], Record], name: str, record: Record) -> Record:
    """The record with a measurement more, or with the reason why there are no more."""
    try:
        return measure(name, record)
    except LeftOut as reason:
        return dataclasses.replace(record, left_out=str(reason))


# --- growth --------------------------------------------------------------------------------------


def growth(device: str, data: Path, *, watch: Watch = list) -> Iterator[tuple[str, Growth]]:
    """Of the number of examples, the batch size and the width."""
    softmax = Task(sizes=(784, 10), device=device)
    axes: dict[str, dict[int, tuple[Task, Path]]] = {
        "examples": {
            count: (softmax, _resized(data, count))
            for count in (15_000, 30_000, 60_000, 120_000, 240_000)
        },
        "batch size": {n: (softmax._replace(batch_size=n), data) for n in (32, 128, 512, 2048)},
        "width": {n: (softmax._replace(sizes=(784, n, 10)), data) for n in (64, 128, 256, 512)},
    }
    for axis, cases in axes.items():
        records = {
            size: race(task, FUNCNET, path, rounds=5)["funcnet"]
            for size, (task, path) in watch(list(cases.items()))
        }
        seconds = [record.steady for record in records.values()]
        yield axis, Growth(records=records, exponent=fitted_exponent(list(records), seconds))


def fitted_exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The p of the least squares fit `log seconds = p log size + c`."""
    x, y = np.log(sizes), np.log(seconds)
    x = x - x.mean()
    return float(x @ y / (x @ x))


def _resized(path: Path, count: int) -> Path:
    """The data with so many training examples, from the first on, and around again."""
    data = load(path)
    rows = np.arange(count) % len(data.y_train)
    resized = data._replace(x_train=data.x_train[rows], y_train=data.y_train[rows])
    return save(resized, path.with_name(f"{count}.npz"))


# --- whole processes -----------------------------------------------------------------------------


def cold_commands(manual_dir: Path, data_dir: Path) -> dict[str, list[str]]:
    """Ten epochs of softmax regression on MNIST, as funcnet and as PyTorch write it."""
    here = Path(__file__).parent
    options = ["--manual-dir", str(manual_dir), "--data-dir", str(data_dir), "--quiet"]
    pytorch = [sys.executable, str(here / "peers" / "pytorch_cold.py"), str(manual_dir)]
    return {
        "funcnet": [sys.executable, str(here / "train.py"), "--dataset", "mnist", *options],
        "PyTorch, DataLoader": pytorch,
        "PyTorch, in memory": [*pytorch, "--in-memory"],
    }


def cold(
    commands: Mapping[str, Sequence[str]], *, rounds: int = 5, watch: Watch = list
) -> dict[str, WholeProcess]:
    """Runs whole programs in turn, once more before: data are prepared, and programs compiled."""
    processes = dict.fromkeys(commands, WholeProcess())
    for counts, name in watch(list(itertools.product((False, *[True] * rounds), commands))):
        if not processes[name].left_out:
            after = _run(commands[name], processes[name])
            processes[name] = after if counts or after.left_out else processes[name]
    return processes


def _run(command: Sequence[str], process: WholeProcess) -> WholeProcess:
    """The process, run once more."""
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begun
    printed = re.findall(r"test accuracy: ([\d.]+)", done.stdout)
    if done.returncode or not printed:
        return dataclasses.replace(process, left_out=how_it_ended(done.returncode, done.stderr))
    return WholeProcess(
        seconds=(*process.seconds, seconds),
        accuracies=(*process.accuracies, float(printed[-1])),
    )
