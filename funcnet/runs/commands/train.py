"""The command `train`: one model, or with `--sweep` many at once."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

from funcnet.runs._console import run_program, stoppable, watch_epochs, watch_sweep
from funcnet.runs._folder import stored_config
from funcnet.runs._run import run, unseen
from funcnet.runs._sweep import tune
from funcnet.runs.config import TrainConfig

Config = TypeVar("Config", bound=TrainConfig)


def command(options: type[TrainConfig] = TrainConfig) -> None:
    """Read the command line and train. With `--resume`, the options of that run are the default."""
    run_program(options, main, default=stored)


def main(config: TrainConfig) -> None:
    """Train, and print the result last."""
    with stoppable() as stop:
        summary = train(config, stop)
    correct, examples = summary["test_correct"], summary["test_examples"]
    print(f"test accuracy: {summary['test_accuracy']:.4f} ({correct} of {examples})")


def train(config: TrainConfig, stop: Callable[[], bool]) -> dict[str, Any]:
    """Train one model, or one per setting of a sweep; return the summary."""
    say = (lambda line: None) if config.quiet else print
    if config.sweep is None:
        watch = unseen if config.quiet else watch_epochs
        return run(config, say=say, watch=watch, stop=stop).summary
    return tune(config, say=say, watch=unseen if config.quiet else watch_sweep, stop=stop)


def stored(given: Config) -> Config | None:
    """Return the options of the run to go on with, if there is one."""
    if given.resume is None:
        return None
    return dataclasses.replace(given, **vars(stored_config(given.resume)))
