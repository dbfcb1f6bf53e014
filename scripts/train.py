"""python scripts/train.py --dataset mnist --model mlp --out runs/mlp

Trains a model and reports its test accuracy. Without arguments: softmax regression on 1,797 real
images of handwritten digits. `--sweep learning_rate=0.1,0.3 seed=0:8` trains many at once, and
keeps the best. `--help` explains every option.
"""

from typing import Any

from funcnet.config import TrainConfig
from funcnet.console import run_program, watch_count, watch_epochs
from funcnet.run import run
from funcnet.tuning import tune


def train_one(config: TrainConfig) -> dict[str, Any]:
    """Trains a model; how it ended."""
    if config.quiet:
        return run(config, say=lambda line: None).summary
    return run(config, watch=watch_epochs).summary


def train_many(config: TrainConfig) -> dict[str, Any]:
    """Trains every setting of a sweep; how the best of them ended."""
    if config.quiet:
        return tune(config, say=lambda line: None)
    return tune(config, watch=watch_count)


def main(config: TrainConfig) -> None:
    """Trains, and prints the result last."""
    summary = train_one(config) if config.sweep is None else train_many(config)
    correct, examples = summary["test_correct"], summary["test_examples"]
    print(f"test accuracy: {summary['test_accuracy']:.4f} ({correct} of {examples})")


if __name__ == "__main__":
    run_program(TrainConfig, main)
