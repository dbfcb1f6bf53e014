"""Contestants in processes of their own, one epoch each in turn; and the limits of the machine.

A contestant's process is this file, started with the name of a module in `peers`, a task and the
data. It says when it is ready, trains an epoch for each line that it reads, and says how long that
took; at the end of its input it says how right its model is, and how much memory it held.
"""

import dataclasses
import importlib
import itertools
import json
import math
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from peers import Data, Task, Weights, accuracy

SEED = 0


@dataclasses.dataclass(frozen=True)
class Record:
    """What was measured of a contestant.

    Attributes:
      start: seconds from the process's start until it could train: imports and data.
      first_epoch: seconds of the first epoch, in which most compile.
      epochs: seconds of each later epoch.
      accuracy: on the test examples, after all of them, 0 to 1.
      peak_bytes: the most memory that the process held.
      left_out: why there is nothing else, or nothing.
    """

    start: float = math.nan
    first_epoch: float = math.nan
    epochs: Sequence[float] = ()
    accuracy: float = math.nan
    peak_bytes: int = 0
    left_out: str = ""

    @property
    def steady(self) -> float:
        """The median of the later epochs, in seconds."""
        return statistics.median(self.epochs) if self.epochs else math.nan

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles of the later epochs, over their median."""
        if len(self.epochs) < 2:
            return math.nan
        low, _, high = statistics.quantiles(self.epochs, n=4, method="inclusive")
        return (high - low) / 2 / self.steady


def race(
    task: Task, contestants: Sequence[str], data: Path, *, rounds: int
) -> Iterator[tuple[str, Record]]:
    """Trains `1 + rounds` epochs of each contestant, an epoch each in turn."""
    processes = {name: _start(name, task, data) for name in contestants}
    records = {name: Record(left_out="no answer") for name in contestants}
    for name, process in processes.items():  # one after another: they share the cores
        begun = time.perf_counter()
        answer = _ask(process, "start")
        if "left_out" in answer:
            records[name] = Record(left_out=answer["left_out"])
            continue
        ready = time.perf_counter() - begun
        records[name] = Record(start=ready, first_epoch=_ask(process, "epoch")["seconds"])
    racing = [name for name, record in records.items() if not record.left_out]
    seconds: dict[str, list[float]] = {name: [] for name in racing}
    for _ in range(rounds):
        for name in racing:
            seconds[name].append(_ask(processes[name], "epoch")["seconds"])
    for name, process in processes.items():
        if name in racing:
            end = _ask(process, "end")
            records[name] = dataclasses.replace(records[name], epochs=seconds[name], **end)
        _ = process.communicate()
        yield name, records[name]


def first_weights(sizes: Sequence[int]) -> Weights:
    """He's initial weights, the same for all contestants; linear models begin at 0."""
    rng = np.random.default_rng(SEED)
    scale = [math.sqrt(2 / m) if len(sizes) > 2 else 0.0 for m in sizes[:-1]]
    return [
        ((s * rng.normal(size=(n, m))).astype(np.float32), np.zeros(n, np.float32))
        for s, (m, n) in zip(scale, itertools.pairwise(sizes), strict=True)
    ]


def operations(sizes: Sequence[int], examples: int) -> float:
    """Of an epoch's matrix products: forward, for the weights, and for all inputs but the first."""
    products = [2.0 * m * n for m, n in itertools.pairwise(sizes)]
    return examples * (3 * sum(products) - products[0])


def matrix_rate(device: str) -> float:
    """Operations a second of a matrix product, 2048 x 2048: the best of NumPy's and JAX's."""
    import jax

    a = np.random.default_rng(0).random((2048, 2048), np.float32)
    on_device = jax.device_put(a, jax.devices(None if device == "cpu" else device)[0])
    product = jax.jit(lambda a: a @ a)
    times = [_best(lambda: product(on_device).block_until_ready())]
    if device == "cpu":
        times.append(_best(lambda: a @ a))
    return 2 * 2048**3 / min(times)


def read_bandwidth(device: str) -> float:
    """Bytes a second of a sum over 256 MiB: the best of NumPy's and JAX's."""
    import jax

    a = np.ones(2**26, np.float32)
    on_device = jax.device_put(a, jax.devices(None if device == "cpu" else device)[0])
    total = jax.jit(lambda a: a.sum())
    times = [_best(lambda: total(on_device).block_until_ready())]
    if device == "cpu":
        times.append(_best(lambda: a.max()))
    return a.nbytes / min(times)


def limits(device: str) -> dict[str, float]:
    """The machine's own: operations, and bytes read, a second."""
    return {"matrix_rate": matrix_rate(device), "read_bandwidth": read_bandwidth(device)}


def floor(task: Task, examples: int, limits: Mapping[str, float]) -> float:
    """Seconds that an epoch takes at least: its products at the matrix rate, or one read of it."""
    computing = operations(task.sizes, examples) / limits["matrix_rate"]
    reading = examples * task.sizes[0] / limits["read_bandwidth"]  # a byte an intensity
    return max(computing, reading)


def share(record: Record, models: int) -> Record:
    """What one of several models costs that train together."""
    epochs = [seconds / models for seconds in record.epochs]
    return dataclasses.replace(record, first_epoch=record.first_epoch / models, epochs=epochs)


def save(dataset: Any, folder: Path) -> Path:
    """The arrays of a `Dataset`, for the contestants' processes."""
    (x_train, y_train), (x_test, y_test) = dataset.train, dataset.test
    path = folder / "data.npz"
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return path


def growth(device: str, data: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """How long funcnet's steady epoch takes as one size grows, and the fitted exponent."""
    softmax = Task(sizes=(784, 10), device=device)
    with np.load(data) as arrays:
        dataset = Data(**arrays)

    def examples(count: int) -> Path:
        rows = np.arange(count) % len(dataset.y_train)
        path = data.with_name(f"{count}.npz")
        part = dataset._replace(x_train=dataset.x_train[rows], y_train=dataset.y_train[rows])
        np.savez(path, **part._asdict())
        return path

    axes: dict[str, dict[int, tuple[Task, Path]]] = {
        "examples": {n: (softmax, examples(n)) for n in (15_000, 30_000, 60_000, 120_000, 240_000)},
        "batch size": {n: (softmax._replace(batch_size=n), data) for n in (32, 128, 512, 2048)},
        "width": {n: (softmax._replace(sizes=(784, n, 10)), data) for n in (64, 128, 256, 512)},
    }
    for name, sizes in axes.items():
        seconds = [
            dict(race(task, ["funcnet_epoch"], path, rounds=5))["funcnet_epoch"].steady
            for task, path in sizes.values()
        ]
        slope, _ = np.polyfit(np.log(list(sizes)), np.log(seconds), 1)
        yield name, {"sizes": list(sizes), "seconds": seconds, "exponent": float(slope)}


def cold(manual_dir: Path, folder: Path, *, rounds: int = 5) -> dict[str, dict[str, Any]]:
    """Whole processes to 92 % on MNIST, in turn; the data, and funcnet's programs, are prepared."""
    here = Path(__file__).parent
    options = ["--manual-dir", str(manual_dir), "--data-dir", str(folder), "--quiet"]
    pytorch = [sys.executable, str(here / "peers" / "pytorch_cold.py"), str(manual_dir)]
    commands = {
        "funcnet": [sys.executable, str(here / "train.py"), "--dataset", "mnist", *options],
        "pytorch, DataLoader": pytorch,
        "pytorch, in memory": [*pytorch, "--in-memory"],
    }
    times: dict[str, list[tuple[float, str]]] = {name: [] for name in commands}
    _ = _seconds_of(commands["funcnet"])  # prepares the data, and compiles
    for _ in range(rounds):
        for name, command in commands.items():
            times[name].append(_seconds_of(command))
    return {
        name: {"seconds": [s for s, _ in results], "printed": results[-1][1]}
        for name, results in times.items()
    }


def _seconds_of(command: Sequence[str]) -> tuple[float, str]:
    """How long a whole process takes, and the last line that it prints."""
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    line = (done.stdout or done.stderr).splitlines()[-1]
    return time.perf_counter() - begun if done.returncode == 0 else math.nan, line


def _best(measured: Callable[[], Any], repeats: int = 10) -> float:
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        _ = measured()
        times.append(time.perf_counter() - begun)
    return min(times)


# --- a contestant's process ----------------------------------------------------------------------


def _start(name: str, task: Task, data: Path) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, name, json.dumps(task._asdict()), str(data)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)


def _ask(process: subprocess.Popen[str], request: str) -> Mapping[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        _ = process.stdin.write(request + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())
    except (BrokenPipeError, json.JSONDecodeError):
        return {"left_out": f"its process ended with code {process.wait()}"}


def _contestant(name: str, task: Task, data: Path) -> None:
    """What a contestant's process does."""
    _ = sys.stdin.readline()
    try:
        with np.load(data) as arrays:
            loaded = Data(**arrays)
        if task.sizes[-1] == 1:
            one = {k: (getattr(loaded, k) == 0).astype(np.int32) for k in ("y_train", "y_test")}
            loaded = loaded._replace(**one)
        module = importlib.import_module(f"peers.{name}")
        train_epoch, learned = module.start(task, loaded, first_weights(task.sizes))
    except ModuleNotFoundError as error:
        return _say(left_out=f"{error.name} is not installed")
    except NotImplementedError as error:
        return _say(left_out=str(error))
    _say()
    for request in sys.stdin:
        if request == "end\n":
            break
        begun = time.perf_counter()
        train_epoch()
        _say(seconds=time.perf_counter() - begun)
    right = accuracy(learned(), loaded.x_test, loaded.y_test)
    return _say(accuracy=right, peak_bytes=_peak_bytes())


def _peak_bytes() -> int:
    """The most that this process held; Linux's `ru_maxrss` would count its parent's too."""
    status = Path("/proc/self/status")
    if status.exists():
        (peak,) = re.findall(r"VmHWM:\s*(\d+) kB", status.read_text())
        return 1024 * int(peak)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _say(**answer: Any) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    name, task, data = sys.argv[1:]
    fields = json.loads(task)
    _contestant(name, Task(**{**fields, "sizes": tuple(fields["sizes"])}), Path(data))
