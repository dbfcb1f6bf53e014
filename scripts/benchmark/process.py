"""python -m benchmark.process MODULE TASK DATA

A contestant's process: it trains an epoch whenever it is asked to. It speaks first, and then
answers each line that it reads, in JSON:

               {}                                      ready: libraries imported, data in place
    epoch  ->  {"seconds": 0.03}                       trained an epoch
    end    ->  {"accuracy": 0.92, "peak_bytes": 5e8}   tested on the test examples

or, at any time, `{"left_out": "torch is not installed"}`.
"""

import importlib
import json
import os
import re
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmark.workloads import Task, accuracy, examples_of, first_weights, load


def main(module: str, fields: str, path: str) -> None:
    """Answer on stdout; anything that a library prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    _ = os.dup2(2, 1)

    def answer(**record: Any) -> None:
        print(json.dumps(record), file=answers, flush=True)

    values = json.loads(fields)
    try:
        take_part(module, Task(**{**values, "sizes": tuple(values["sizes"])}), Path(path), answer)
    except Exception as error:  # whatever the library raises
        answer(left_out=_reason(error))


def take_part(module: str, task: Task, path: Path, answer: Callable[..., None]) -> None:
    """Train an epoch at each request, until there are no more."""
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


def _reason(error: Exception) -> str:
    first_line = next(iter(str(error).splitlines()), "")
    match error:
        case ModuleNotFoundError():
            return f"{error.name} is not installed"
        case NotImplementedError():
            return first_line
    return f"{type(error).__name__}: {first_line}"


def _peak_bytes() -> int:
    """The most memory that this process held; Linux's `ru_maxrss` counts its parent's too."""
    status = Path("/proc/self/status")
    if status.exists():
        (peak,) = re.findall(r"VmHWM:\s*(\d+) kB", status.read_text())
        return 1024 * int(peak)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main(*sys.argv[1:])
