"""A training run, put together once: from a `TrainConfig` to a trained model and its files."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from funcnet import artifacts
from funcnet.base import Model, Params
from funcnet.config import FullConfig, TrainConfig, as_options
from funcnet.data import Dataset
from funcnet.devices import Device, describe_device
from funcnet.files import write_whole
from funcnet.fit import EpochInfo, fit
from funcnet.metrics import Evaluation
from funcnet.setup import Setup, build_optimizer, build_step, prepare
from funcnet.training import (
    Apply,
    Loss,
    StepInfo,
    TrainState,
    TrainStep,
    epoch_order,
    evaluate,
    init_state,
    make_train_epoch,
)


class Program(NamedTuple):
    """A run's compiled functions, over data that already lie on the device.

    Attributes:
      train_epoch: `(state, order) -> (state, info)`.
      evaluate: `params -> Evaluation`, of the test examples.
      compile_seconds: how long they took to compile.
    """

    train_epoch: Callable[[TrainState, np.ndarray], tuple[TrainState, StepInfo]]
    evaluate: Callable[[Params], Evaluation]
    compile_seconds: float


def compile_program(
    step: TrainStep, apply: Apply, loss: Loss, state: TrainState, data: Dataset, batch_size: int
) -> Program:
    """Compiles an epoch and an evaluation ahead of their first call, and times that apart."""
    train, test = jax.device_put((data.train, data.test))
    order = epoch_order(seed=0, epoch=0, num_examples=len(data.train.targets))
    start = time.perf_counter()
    train_epoch = make_train_epoch(step)
    epoch_program = train_epoch.lower(state, train, order, batch_size=batch_size).compile()
    evaluation = evaluate.lower(apply, loss, state.params, test).compile()
    return Program(
        train_epoch=lambda state, order: epoch_program(state, train, order),
        evaluate=lambda params: evaluation(params, test),
        compile_seconds=time.perf_counter() - start,
    )


class Result(NamedTuple):
    """How a run ended.

    Attributes:
      model: the model.
      params: its trained parameters.
      history: what there is to see of each epoch.
      summary: what `summary.json` holds.
    """

    model: Model
    params: Params
    history: Sequence[EpochInfo]
    summary: dict[str, Any]


Epochs: TypeAlias = Iterator[tuple[TrainState, EpochInfo]]


def run(
    config: TrainConfig,
    *,
    say: Callable[[str], None] = print,
    watch: Callable[[Epochs, int], Epochs] = lambda epochs, total: epochs,
) -> Result:
    """Trains as configured, and leaves the files of `artifacts` in `config.out`.

    Args:
      config: what to train, and how.
      say: takes the lines about the device, the data and the model.
      watch: wraps the epochs, to show them as they pass; called with their number.

    >>> result = run(TrainConfig(epochs=5), say=lambda line: None)
    >>> result.summary["test_accuracy"] > 0.9
    True

    Raises:
      ValueError: the configuration, or the data, can't be used.
      OSError: a file, or the network, can't be used.
      DivergenceError: the loss stopped being finite; `config.out` has the epochs before.
    """
    setup = prepare(config, say)
    with jax.default_device(setup.device):
        return _train(setup, watch)


def _train(setup: Setup, watch: Callable[[Epochs, int], Epochs]) -> Result:
    """Puts the parts together, and takes them apart again into files however it ends."""
    config, device, dataset, model, loss = setup
    params = jax.jit(model.init)(jax.random.key(config.seed))
    state = init_state(params, build_optimizer(config))
    program = compile_program(
        build_step(config, model.apply), model.apply, loss, state, dataset, config.batch_size
    )
    num_examples = len(dataset.train.targets)
    epochs = fit(
        state,
        train_epoch=program.train_epoch,
        evaluate=program.evaluate,
        order=lambda epoch: epoch_order(seed=config.seed, epoch=epoch, num_examples=num_examples),
        epochs=config.epochs,
        batch_size=config.batch_size,
    )
    history: list[EpochInfo] = []
    try:
        for state, info in watch(epochs, config.epochs):  # noqa: B007
            history.append(info)
    finally:
        summary = {}
        if history:
            summary = summarise(config, device, history, program.compile_seconds)
            if config.out is not None:
                save(config.out, config, state.params, history, summary)
    return Result(model=model, params=state.params, history=history, summary=summary)


def summarise(
    config: FullConfig, device: Device, history: Sequence[EpochInfo], compile_seconds: float
) -> dict[str, Any]:
    """How a run ended, and on what, for `summary.json`.

    The speed is that of the steady epochs: all but the first, where there are more.
    """
    last, steady = history[-1], history[1:] or history
    examples = sum(info.seconds * info.examples_per_second for info in steady)
    return {
        "test_accuracy": last.test_accuracy,
        "test_correct": last.test_correct,
        "test_examples": last.test_examples,
        "test_loss": last.test_loss,
        "train_loss": last.train_loss,
        "epochs": last.epoch,
        "compile_seconds": compile_seconds,
        "train_seconds": sum(info.seconds for info in history),
        "examples_per_second": examples / sum(info.seconds for info in steady),
        "device": describe_device(device),
        "dataset": config.dataset,
        "model": config.model,
        "seed": config.seed,
        "jax_version": jax.__version__,
    }


def save(
    folder: Path,
    config: FullConfig,
    params: Params,
    history: Sequence[EpochInfo],
    summary: dict[str, Any],
) -> None:
    """Writes the files that a run leaves behind, once all of them could be made."""
    title = f"{config.dataset}, {config.model}"
    lines = [artifacts.as_json(info._asdict()) for info in history]
    contents = {
        "config.json": artifacts.as_json(as_options(config), indent=2),
        "metrics.jsonl": b"".join(lines),
        "params.safetensors": artifacts.as_safetensors(params),
        "curves.png": artifacts.as_curves(history, title=title),
        "summary.json": artifacts.as_json(summary, indent=2),
    }
    for name, content in contents.items():
        write_whole(folder / name, content)
