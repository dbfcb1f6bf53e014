"""The command `train`: one model, or with `--sweep` many at once."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

from funcnet.runs._console import run_program, stoppable, watch_epochs, watch_sweep
from funcnet.runs._folder import stored_config
from funcnet.runs._run import run
from funcnet.runs._sweep import tune
from funcnet.runs.config import TrainConfig

Config = TypeVar("Config", bound=TrainConfig)


def command(options: type[TrainConfig] = TrainConfig) -> None:
    """Read the command line and train. With `--resume`, the options of that run are the default."""
    run_program(options, main, default=stored)


def main(config: TrainConfig) -> None:
    """Train, and print the result last."""
    train = train_one if config.sweep is None else train_many
    with stoppable() as stop:
        summary = train(config, stop)
    correct, examples = summary["test_correct"], summary["test_examples"]
    print(f"test accuracy: {summary['test_accuracy']:.4f} ({correct} of {examples})")


def train_one(config: TrainConfig, stop: Callable[[], bool]) -> dict[str, Any]:
    """Train one model, and return its summary."""
    if config.quiet:
        return run(config, say=lambda line: None, stop=stop).summary
    return run(config, watch=watch_epochs, stop=stop).summary


def train_many(config: TrainConfig, stop: Callable[[], bool]) -> dict[str, Any]:
    """Train a model per setting of a sweep, and return the summary of the best."""
    if config.quiet:
        return tune(config, say=lambda line: None, stop=stop)
    return tune(config, watch=watch_sweep, stop=stop)


def stored(given: Config) -> Config | None:
    """Return the options of the run to go on with, if there is one."""
    if given.resume is None:
        return None
    return dataclasses.replace(given, **vars(stored_config(given.resume)))
