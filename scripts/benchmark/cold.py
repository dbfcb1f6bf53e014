"""Whole programs, timed from the start of their process to its end."""

import dataclasses
import itertools
import math
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmark.contestants import SCRIPTS, how_it_ended
from benchmark.races import Watch


@dataclasses.dataclass(frozen=True, kw_only=True)
class WholeProcess:
    """The measurements of one program.

    Attributes:
      seconds: the duration of each run.
      accuracies: the test accuracy that each run printed last, 0 to 1.
      left_out: why there are no more runs; empty if nothing is missing.
    """

    seconds: Sequence[float] = ()
    accuracies: Sequence[float] = ()
    left_out: str = ""

    @property
    def median(self) -> float:
        """The median duration, in seconds."""
        return statistics.median(self.seconds) if self.seconds else math.nan

    @property
    def least_accuracy(self) -> float:
        """The smallest accuracy of all runs."""
        return min(self.accuracies, default=math.nan)


def commands(manual_dir: Path, data_dir: Path) -> dict[str, list[str]]:
    """Return the commands of ten epochs of softmax regression on MNIST, in funcnet and PyTorch."""
    options = ["--manual-dir", str(manual_dir), "--data-dir", str(data_dir), "--quiet"]
    peer = SCRIPTS / "benchmark" / "peers" / "pytorch_cold.py"
    pytorch = [sys.executable, str(peer), str(manual_dir)]
    return {
        "funcnet": [sys.executable, str(SCRIPTS / "train.py"), "--dataset", "mnist", *options],
        "PyTorch, DataLoader": pytorch,
        "PyTorch, in memory": [*pytorch, "--in-memory"],
    }


def measure(
    commands: Mapping[str, Sequence[str]], *, rounds: int = 5, watch: Watch = list
) -> dict[str, WholeProcess]:
    """Run whole programs in turn.

    One more run of each comes first and does not count: it prepares data and compiles programs.
    """
    processes = dict.fromkeys(commands, WholeProcess())
    for counts, name in watch(list(itertools.product((False, *[True] * rounds), commands))):
        if not processes[name].left_out:
            after = _run(commands[name], processes[name])
            processes[name] = after if counts or after.left_out else processes[name]
    return processes


def _run(command: Sequence[str], process: WholeProcess) -> WholeProcess:
    """The measurements, with those of one more run."""
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
