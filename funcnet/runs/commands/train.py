"""The command `train`: one model, or with `--sweep` many at once."""

import dataclasses

from funcnet.runs._console import run_program, stoppable, watch_epochs, watch_sweep
from funcnet.runs._folder import stored_config
from funcnet.runs._run import run, unseen
from funcnet.runs._sweep import tune
from funcnet.runs.config import TrainConfig


def command(options: type[TrainConfig] = TrainConfig) -> None:
    """Read the command line and train. With `--resume`, the options of that run are the default."""
    run_program(options, main, default=stored)


def main(config: TrainConfig) -> None:
    """Train one model, or one per setting of a sweep, and print the result last."""
    is_sweep = config.sweep is not None
    say, watch = print, watch_sweep if is_sweep else watch_epochs
    if config.quiet:
        say, watch = (lambda line: None), unseen
    with stoppable() as stop:
        if is_sweep:
            summary = tune(config, say=say, watch=watch, stop=stop)
        else:
            summary = run(config, say=say, watch=watch, stop=stop).summary
    correct, examples = summary["test_correct"], summary["test_examples"]
    print(f"test accuracy: {summary['test_accuracy']:.4f} ({correct} of {examples})")


def stored(given: TrainConfig) -> TrainConfig | None:
    """Return the options of the run to go on with, if there is one."""
    if given.resume is None:
        return None
    return dataclasses.replace(given, **vars(stored_config(given.resume)))
