"""The contestants by name, and how each is started and asked from outside of its process."""

import contextlib
import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, TypeAlias

from benchmark.workloads import MODELS, Task

FUNCNET = {"funcnet": "benchmark.peers.funcnet_epoch"}
CONTESTANTS = {
    **FUNCNET,
    "PyTorch, in memory": "benchmark.peers.pytorch_in_memory",
    "PyTorch, DataLoader": "benchmark.peers.pytorch_dataloader",
    "PyTorch, torch.compile": "benchmark.peers.pytorch_compile",
    "Flax (nnx)": "benchmark.peers.flax_nnx",
    "Equinox": "benchmark.peers.equinox_loop",
    "JAX, from scratch": "benchmark.peers.jax_from_scratch",
    "NumPy by hand": "benchmark.peers.numpy_by_hand",
    "scikit-learn, SGDClassifier": "benchmark.peers.sklearn_sgd",
}
"""The module of each contestant, which `peers` describes."""

SWEEP = f"funcnet, one of {MODELS} models"
SWEEP_MODULE = "benchmark.peers.funcnet_sweep"

SCRIPTS = Path(__file__).resolve().parents[1]
"""The folder that this package is imported from."""

PATIENCE = 600.0  # seconds until a process that does not answer is given up

Answer: TypeAlias = Mapping[str, Any]


class LeftOut(Exception):
    """A contestant cannot take part, or no longer; the message says why."""


@contextlib.contextmanager
def contestant(module: str, task: Task, data: Path) -> Iterator[Callable[[str], Answer]]:
    """Start a contestant's process, and end it with the block: `ask(request) -> answer`.

    Args:
      module: the module that it trains with.
      task: what it trains.
      data: the file that `workloads.save` wrote.

    Raises:
      LeftOut: at the start, or by `ask`: the contestant cannot train, failed, died, or does not
        answer.
    """
    fields = json.dumps(dataclasses.asdict(task))
    command = [sys.executable, "-P", "-m", "benchmark.process", module, fields, str(data)]
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
            with contextlib.suppress(BrokenPipeError):  # the missing answer says why
                _ = requests.write(f"{request}\n".encode())
            return _answer_of(process, errors)

        try:
            _ = _answer_of(process, errors)
            yield ask
        finally:
            process.kill()


def how_it_ended(code: int, errors: str) -> str:
    """Describe a process's end in a line: exit code or signal, and the last line that it wrote."""
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
    """JAX would prefer a GPU, and multiply there with fewer digits than float32 has."""
    options = {
        "cpu": {"JAX_PLATFORMS": "cpu"},
        "gpu": {"JAX_DEFAULT_MATMUL_PRECISION": "float32"},
    }
    folders = [str(SCRIPTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, **options[task.device], "PYTHONPATH": os.pathsep.join(folders)}
