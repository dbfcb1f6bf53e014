"""A training run: from a `TrainConfig` to a trained model and its files."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias, get_type_hints

import jax

from funcnet.base import Model, Params, UsageError
from funcnet.devices import describe_device
from funcnet.runs._artifacts import as_curves, write_results
from funcnet.runs._build import Say, Setup, build, prepare
from funcnet.runs._divergence import check_finite
from funcnet.runs._folder import RunFolder, run_folder
from funcnet.runs.config import TrainConfig
from funcnet.training import EpochInfo, Progress, Task, train_epochs

Show: TypeAlias = Callable[[Progress], None]  # takes the progress after each whole epoch
Watch: TypeAlias = Callable[[int], contextlib.AbstractContextManager[Show]]
"""`with watch(number of epochs) as show: ...`, which shows the epochs to a person."""
Stop: TypeAlias = Callable[[], bool]  # returns whether to stop

ROW = EpochInfo(*(zero() for zero in get_type_hints(EpochInfo).values()))  # the form of a row


class Stopped(Exception):
    """The training was asked to stop: at `progress`, which `folder` holds, if there is one."""

    def __init__(self, progress: Progress, folder: Path | None = None) -> None:
        saved = ", and saved" if folder else "; nothing is saved, as there is no --out"
        super().__init__(f"stopped in epoch {progress.epoch + 1}{saved}")
        self.progress, self.folder = progress, folder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """A run that ended: a row per epoch in `history`, and the content of `summary.json`."""

    model: Model
    params: Params
    history: Sequence[EpochInfo]
    summary: dict[str, Any]


def unseen(epochs: int) -> contextlib.AbstractContextManager[Show]:
    """Show nothing."""
    del epochs
    return contextlib.nullcontext(lambda progress: None)


def run(
    config: TrainConfig, *, say: Say = print, watch: Watch = unseen, stop: Stop = lambda: False
) -> Result:
    """Train as configured, and leave the result and the checkpoints in `config.out`.

    Args:
      config: the options. With those that `stored_config(folder)` returns, the run in that folder
        goes on, on a CPU to the bits of an undisturbed one.
      say: takes the lines about the device, the data and the model.
      watch: shows the epochs as they pass.
      stop: returns whether to stop; it is called every few seconds of computing.

    >>> result = run(TrainConfig(epochs=5), say=lambda line: None)
    >>> result.summary["test_accuracy"] > 0.9
    True

    Raises:
      UsageError: the configuration, the data or the folder cannot be used.
      OSError: a file, or the network, cannot be used.
      DivergenceError: the loss stopped being finite; `config.out` holds the epochs before.
      Stopped: `stop()` returned True; `config.out` holds the progress.
    """
    if config.sweep is not None:
        raise UsageError("sweep: expected None; funcnet.runs.tune trains the models of a sweep.")
    setup = prepare(config, say)
    with run_folder(setup.config, setup.dataset, say) as folder, jax.default_device(setup.device):
        task, begun, compile_seconds = build(setup)
        leave = functools.partial(_leave, setup, compile_seconds)
        progress = train(setup, task, folder.latest(begun, ROW), folder, watch, stop, leave)
    params, history = progress.state.params, progress.rows
    summary = _summary(setup, history, compile_seconds)
    return Result(model=setup.model, params=params, history=history, summary=summary)


def train(
    setup: Setup,
    task: Task,
    progress: Progress,
    folder: RunFolder,
    watch: Watch,
    stop: Stop,
    leave: Callable[[Progress], None] = lambda whole: None,
) -> Progress:
    """Train the epochs that are left; `leave(the whole epochs)`, however the training ends."""
    epochs, whole = setup.config.epochs, progress

    def stop_if_asked() -> None:
        if progress.epoch < epochs and stop():
            raise Stopped(progress, setup.config.out)

    try:
        with watch(epochs) as show:
            stop_if_asked()
            for after, info in train_epochs(task, progress, epochs=epochs):
                if setup.config.sweep is None:  # else the other models go on
                    check_finite(setup, progress, after, info)
                progress = after
                folder.save(progress)
                if progress.is_between_epochs:
                    whole = progress
                    show(progress)
                stop_if_asked()
    finally:
        try:
            folder.save(progress, now=True)
        finally:
            leave(whole)
    return progress


def _leave(setup: Setup, compile_seconds: float, whole: Progress) -> None:
    """Write the files of the whole epochs, if this process trained one."""
    config = setup.config
    if config.out is not None and whole.rows and whole.is_between_epochs:
        curves = as_curves(whole.rows, title=f"{config.dataset}, {config.model}")
        summary = _summary(setup, whole.rows, compile_seconds)
        write_results(config.out, whole.state.params, curves, summary)


def _summary(setup: Setup, history: Sequence[EpochInfo], compile_seconds: float) -> dict[str, Any]:
    """Return how a run ended. The speed is that of all epochs but the first, if there are more."""
    last, steady = history[-1], history[1:] or history
    examples = sum(info.seconds * info.examples_per_second for info in steady)
    results = ("test_accuracy", "test_correct", "test_examples", "test_loss", "train_loss")
    return {
        **{name: getattr(last, name) for name in results},
        "epochs": last.epoch,
        "compile_seconds": compile_seconds,
        "train_seconds": sum(info.seconds for info in history),
        "examples_per_second": examples / sum(info.seconds for info in steady),
        "device": describe_device(setup.device),
        **{name: getattr(setup.config, name) for name in ("dataset", "model", "seed")},
        "jax_version": jax.__version__,
    }
