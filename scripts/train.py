"""python scripts/train.py --dataset mnist --model mlp --out runs/mlp

Trains a model and reports its test accuracy. Without arguments: softmax regression on 1,797 real
images of handwritten digits. `--sweep learning_rate=0.1,0.3 seed=0:8` trains many at once, and
keeps the best. `--resume runs/mlp` goes on with a run that was stopped. `--help` explains every
option.
"""

from collections.abc import Callable
from typing import Any

from funcnet.runs._console import run_program, stoppable, watch_epochs, watch_sweep
from funcnet.runs._folder import stored_config
from funcnet.runs._run import run
from funcnet.runs._sweep import tune
from funcnet.runs.config import TrainConfig


def train_one(config: TrainConfig, stop: Callable[[], bool]) -> dict[str, Any]:
    """Trains a model; how it ended."""
    if config.quiet:
        return run(config, say=lambda line: None, stop=stop).summary
    return run(config, watch=watch_epochs, stop=stop).summary


def train_many(config: TrainConfig, stop: Callable[[], bool]) -> dict[str, Any]:
    """Trains every setting of a sweep; how the best of them ended."""
    if config.quiet:
        return tune(config, say=lambda line: None, stop=stop)
    return tune(config, watch=watch_sweep, stop=stop)


def main(config: TrainConfig) -> None:
    """Trains, and prints the result last."""
    with stoppable() as stop:
        train = train_one if config.sweep is None else train_many
        summary = train(config, stop)
    correct, examples = summary["test_correct"], summary["test_examples"]
    print(f"test accuracy: {summary['test_accuracy']:.4f} ({correct} of {examples})")


def program() -> None:
    """Reads the command line; where it says `--resume`, other options are those of that run."""
    run_program(
        TrainConfig,
        main,
        default=lambda given: None if given.resume is None else stored_config(given.resume),
    )


if __name__ == "__main__":
    program()
