"""A contestant: a process that trains an epoch whenever it is asked to.

The process is this file, started with the name of a module as `peers` describes it, a task and the
data. It speaks first, and then answers each line that it reads, in JSON:

               {}                                      ready: libraries imported, data in place
    epoch  ->  {"seconds": 0.03}                       trained an epoch
    end    ->  {"accuracy": 0.92, "peak_bytes": 5e8}   judged on the test examples

or, at any time, `{"left_out": "torch is not installed"}`.
"""

import contextlib
import importlib
import itertools
import json
import math
import os
import re
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from peers import Data, Task, Weights, accuracy

SEED = 0

PATIENCE = 600.0
"""Seconds after which a process that has not answered is given up."""

Answer: TypeAlias = Mapping[str, Any]


class LeftOut(Exception):
    """Why a contestant can't take part, or not any longer."""


# --- from outside --------------------------------------------------------------------------------


@contextlib.contextmanager
def contestant(module: str, task: Task, data: Path) -> Iterator[Callable[[str], Answer]]:
    """Starts a process, and ends it with the block: `ask(request) -> answer`.

    Args:
      module: what it trains with, as `peers` describes it.
      task: what it trains.
      data: the file that `save` wrote.

    Raises:
      LeftOut: by the first answer, or by `ask`: it can't, it failed, died, or does not answer.
    """
    command = [sys.executable, __file__, module, json.dumps(task._asdict()), str(data)]
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, bufsize=0, stdin=pipe, stdout=pipe, stderr=errors, env=_environment(task)
        ) as process,
    ):
        assert process.stdin is not None
        requests = process.stdin

        def ask(request: str) -> Answer:
            with contextlib.suppress(BrokenPipeError):  # then there is no answer, either
                _ = requests.write(f"{request}\n".encode())
            return _answer_of(process, errors)

        try:
            _ = _answer_of(process, errors)
            yield ask
        finally:
            process.kill()


def save(data: Data, path: Path) -> Path:
    """Writes the data where contestants read them."""
    np.savez(path, **data._asdict())
    return path


def load(path: Path) -> Data:
    """What `save` wrote."""
    with np.load(path) as arrays:
        return Data(**arrays)


def how_it_ended(code: int, errors: str) -> str:
    """A process's end in a line: exit code or signal, and the last line that it wrote."""
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    lines = errors.strip().splitlines()
    return f"{how}: {lines[-1]}" if lines else how


def _answer_of(process: subprocess.Popen[bytes], errors: IO[str]) -> Answer:
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], PATIENCE)[0]:
        raise LeftOut(f"no answer in {PATIENCE:g} s")
    line = process.stdout.readline()
    if not line:
        code = process.wait()
        _ = errors.seek(0)
        raise LeftOut(how_it_ended(code, errors.read()))
    answer = json.loads(line)
    if "left_out" in answer:
        raise LeftOut(answer["left_out"])
    return answer


def _environment(task: Task) -> dict[str, str]:
    """Left alone, JAX would prefer a GPU, and there multiply with fewer digits than float32 has."""
    options = {
        "cpu": {"JAX_PLATFORMS": "cpu"},
        "gpu": {"JAX_DEFAULT_MATMUL_PRECISION": "float32"},
    }
    return {**os.environ, **options[task.device]}


# --- from inside ---------------------------------------------------------------------------------


def first_weights(sizes: Sequence[int]) -> Weights:
    """He's initial weights, the same for all contestants; linear models begin at 0."""
    rng = np.random.default_rng(SEED)
    scale = [math.sqrt(2 / m) if len(sizes) > 2 else 0.0 for m in sizes[:-1]]
    return [
        ((s * rng.normal(size=(n, m))).astype(np.float32), np.zeros(n, np.float32))
        for s, (m, n) in zip(scale, itertools.pairwise(sizes), strict=True)
    ]


def examples_of(task: Task, data: Data) -> Data:
    """The data; for a single output, the labels say whether the class is 0."""
    if task.sizes[-1] > 1:
        return data
    y_train, y_test = ((y == 0).astype(np.int32) for y in (data.y_train, data.y_test))
    return data._replace(y_train=y_train, y_test=y_test)


def take_part(module: str, task: Task, path: Path, answer: Callable[..., None]) -> None:
    """Trains an epoch at each request, until the end of them."""
    data = examples_of(task, load(path))
    start = importlib.import_module(module).start
    train_epoch, learned = start(task, data, first_weights(task.sizes))
    answer()
    for request in sys.stdin:
        if request == "end\n":
            peak = _peak_bytes()
            answer(accuracy=accuracy(learned(), data.x_test, data.y_test), peak_bytes=peak)
        else:
            begun = time.perf_counter()
            train_epoch()
            answer(seconds=time.perf_counter() - begun)


def main(module: str, fields: str, path: str) -> None:
    """What the process does; whatever a library prints is no answer, and goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    _ = os.dup2(2, 1)

    def answer(**record: Any) -> None:
        print(json.dumps(record), file=answers, flush=True)

    task = Task(**json.loads(fields))
    try:
        take_part(module, task._replace(sizes=tuple(task.sizes)), Path(path), answer)
    except Exception as error:  # whatever the library raises
        answer(left_out=_reason(error))


def _reason(error: Exception) -> str:
    first_line = next(iter(str(error).splitlines()), "")
    match error:
        case ModuleNotFoundError():
            return f"{error.name} is not installed"
        case NotImplementedError():
            return first_line
    return f"{type(error).__name__}: {first_line}"


def _peak_bytes() -> int:
    """The most that this process held; Linux's `ru_maxrss` would count its parent's too."""
    status = Path("/proc/self/status")
    if status.exists():
        (peak,) = re.findall(r"VmHWM:\s*(\d+) kB", status.read_text())
        return 1024 * int(peak)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main(*sys.argv[1:])
